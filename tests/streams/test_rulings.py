"""Where two readers would fold differently: one test for each ruling about sessions, stages and ledgers.

Those about a single score stand with the scoring tests.
"""

import pytest
from stream_stories import DAY, HOUR, MINUTE, SHIPPED, Publish, Story, Time, given, happened

from schemas import statements as say
from schemas.envelope import Campaign, Context
from scoring.features.features import encode_features

SESSIONS = (say.SessionScored, say.SessionRetracted)


def page(event_id, when, **fields):
    return happened("page_viewed", event_id, when, **({"visitor_id": "v"} | fields))


def crm(kind, event_id, when, **fields):
    return happened(kind, event_id, when, **({"lead_id": "L", "source": "crm"} | fields))


def model(*rules, head=""):
    """A model of one's own, of the name `m`."""
    return [("m", f'model = "m"\n{head}\n[groups.g]\nrules = [{", ".join(rules)}]')]


def each(signal, points=1):
    return f'{{ name = "{signal}", each = "{signal}", points = {points} }}'


# -- scope


@pytest.mark.parametrize("source", ["chatbot", "telegram", "qr", "email", "crm"])
def test_only_what_happened_on_the_web_makes_a_session(source):
    kinds = ("session_started", "message_received", "qr_scanned", "email_opened", "page_viewed")
    story = given(*(happened(kind, kind, 0, visitor_id="v", source=source) for kind in kinds))
    story.when(Time(HOUR)).then(kinds=SESSIONS)
    assert not story.lead("anon:v").features.sessions


@pytest.mark.parametrize("source", ["chatbot", "telegram", "email", "crm"])
def test_nothing_from_elsewhere_lengthens_a_session(source):
    story = given(page("a", 0), happened("message_received", "b", 20 * MINUTE, visitor_id="v", source=source))
    story.when(Time(30 * MINUTE)).then("anon:v: session a scores 10, ended", kinds=SESSIONS)


def test_only_a_visitors_own_acts_make_a_session():
    given(
        page("a", 0, visitor_id=None, lead_id="L"),
        *(
            happened(kind, kind, 0, visitor_id="v", **fields)
            for kind, fields in {
                "email_sent": {},
                "profile_updated": {"fields": {}},
                "consent_changed": {"email": True},
                "note_added": {"text": "called"},
                "lead_assigned": {"assigned_to": "maria"},
            }.items()
        ),
        Time(HOUR),
    ).then(kinds=SESSIONS)


# -- session ids


def test_a_change_of_the_producers_session_id_splits_and_both_ids_are_said():
    story = given(page("a", 0, session_id="s1"), page("b", MINUTE), page("c", 2 * MINUTE, session_id="s2"))
    story.when(page("d", 3 * MINUTE, session_id="s2"))
    said = [
        (s.session_id, s.producer_id, s.ended)
        for _, s in story.pipeline.said
        if isinstance(s, say.SessionScored)
    ]
    assert said == [
        ("a", "s1", False),
        ("a", "s1", False),
        ("a", "s1", True),
        ("c", "s2", False),
        ("c", "s2", False),
    ]


# -- who is a lead


def test_anonymous_visitors_are_scored_and_said_to_be_unidentified():
    story = given(page("a", 0), page("b", 0, visitor_id=None, lead_id="0042"))
    assert story.scores("anon:v")["temperature"] == 20
    assert not story.card("anon:v").identified
    assert story.card("0042").identified
    assert story.card("0042").lead_id == "0042"


# -- stage and score


def test_a_stage_and_the_score_that_reads_it_are_said_at_once():
    """An e-mail makes a new lead contacted: composite is base 7.5 and 20 x 0.25, never 10 x 0.25 first."""
    story = given(crm("email_sent", "e", 0))
    assert story.said(say.StageEntered) == ["L: new -> contacted: e-mail, SMS or call to the lead"]
    assert story.said(say.ScoreChanged, model="composite") == ["L: composite 0 -> 12.5: Base +7.5, Stage +5"]


def test_the_lifecycle_runs_to_its_fixpoint_within_one_event():
    """Known, contacted and clicked before: the form alone makes it qualified, and says so once."""
    fields = {"email": "d@a.example", "company": "A", "phone": "1", "industry": "SaaS", "title": "Director"}
    story = given(crm("email_opened", "o", 0)).when(crm("form_submitted", "f", HOUR, fields=fields))
    story.then("L: new -> qualified: rules reached mql", kinds=(say.StageEntered,))


@pytest.mark.parametrize("stage", ["recycled", "disqualified", "churned", "lost"])
def test_a_stage_off_the_way_takes_its_points_away(stage):
    story = given(crm("email_sent", "e", 0)).when(crm("stage_changed", "s", 0, stage=stage))
    story.then("L: composite 12.5 -> 7.5: Stage -5", kinds=(say.ScoreChanged,))


def test_an_act_that_would_take_a_lead_back_changes_no_stage():
    story = given(crm("purchase_made", "p", 0, value=1, currency="EUR"))
    assert story.stage("L") == "customer"
    for number, kind in enumerate(("email_sent", "call_made", "form_submitted", "meeting_scheduled")):
        story.when(crm(kind, f"e{number}", HOUR + number)).then(kinds=(say.StageEntered,))


# -- late events and sessions


@pytest.mark.parametrize(("gap", "sessions"), [(30 * MINUTE - 1, 1), (30 * MINUTE, 2)])
def test_a_gap_of_thirty_minutes_splits(gap, sessions):
    story = given(page("a", 0), page("b", gap))
    assert len(story.lead("anon:v").features.sessions) == sessions


def test_an_empty_campaign_never_splits_and_another_one_does():
    def link(event_id, minute, name):
        campaign = None if name is None else Campaign(source=name)
        return page(event_id, minute * MINUTE, context=Context(campaign=campaign))

    story = given(link("a", 0, "mail"), link("b", 1, None), link("c", 2, "mail"), link("d", 3, "ads"))
    sessions = story.lead("anon:v").features.sessions
    assert {name: session.pages for name, session in sessions.items()} == {"a": 3, "d": 1}


def test_a_session_is_named_after_the_event_that_opens_it_in_the_last_cut():
    """600 seconds 40, two pages 10."""
    story = given(page("b", 10 * MINUTE)).when(page("a", 0, recorded=11 * MINUTE))
    story.then("anon:v: session a scores 50, open", "anon:v: session b never was", kinds=SESSIONS)


@pytest.mark.parametrize(("late", "cuts"), [(DAY, True), (DAY + 1, False)])
def test_an_act_later_than_a_day_counts_and_cuts_nothing(late, cuts):
    story = given(page("a", 2 * DAY)).when(page("b", 2 * DAY - late, recorded=2 * DAY))
    assert story.card("anon:v").counts["page_viewed"] == 2
    assert ("b" in story.lead("anon:v").features.sessions) is cuts
    deltas = [
        activity for activity in story.pipeline.activities() if getattr(activity, "late", None) is not None
    ]
    assert [delta.late for delta in deltas] == [not cuts]


def test_what_is_older_than_a_day_crosses_silently():
    story = given(crm("page_viewed", "a", 3 * DAY))
    fields = {"phone": "1", "budget": 1, "transaction_type": "buy", "property_type": "flat"}
    story.when(crm("profile_updated", "b", DAY, recorded=3 * DAY, fields=fields))
    assert story.said(say.BandChanged, model="temperature") == [
        "L: temperature is hot, was cold, fires warm and hot silently"
    ]


def test_what_a_producer_dates_into_the_future_happened_five_minutes_ahead_at_most():
    story = given(page("a", 400 * DAY, recorded=0))
    assert (
        story.lead("anon:v").features.signals["page_viewed"].last
        == story.lead("anon:v").head.clock + 5 * MINUTE
    )


# -- decay, rounding and the ledger


def test_time_alone_is_logged_only_when_the_rounded_total_changes():
    """50.2 shows 50 until it is below 49.5: after eight days, not after one."""
    fading = model('{ name = "b", base = 50.2 }', head="decay = { points = 0.1 }")
    story = given(crm("page_viewed", "a", 0), models=fading)
    story.when(Time(8 * DAY - 1)).then()
    story.when(Time(8 * DAY)).then("L: m 50.2 -> 49.4: decay -0.8")


def test_what_time_took_unsaid_appears_with_the_next_change():
    fading = model('{ name = "b", base = 50.2 }', each("qr_scanned", 3), head="decay = { points = 0.1 }")
    story = given(crm("page_viewed", "a", 0), Time(3 * DAY), models=fading)
    story.when(crm("profile_updated", "b", 3 * DAY, fields={})).then()
    story.when(crm("qr_scanned", "c", 3 * DAY + 1)).then("L: m 50.2 -> 53.2: qr_scanned +3")


def test_the_previous_score_is_that_of_the_last_change_in_the_history():
    story = given(*(crm("qr_scanned", f"e{number}", 0) for number in range(4)))
    changes = [
        s for _, s in story.pipeline.said if isinstance(s, say.ScoreChanged) and s.model == "temperature"
    ]
    assert [(s.previous, s.total, s.change) for s in changes] == [
        (0, 23, 23),
        (23, 26, 3),
        (26, 29, 3),
        (29, 32, 3),
    ]


def test_a_clamp_has_a_line_of_its_own_in_the_ledger():
    story = given(crm("qr_scanned", "a", 0), models=model(each("qr_scanned", 7), head="min = 0\nmax = 10"))
    story.when(crm("qr_scanned", "b", 0)).then("L: m 7 -> 10: qr_scanned +7, limit -4")
    story.when(crm("qr_scanned", "c", 0)).then()


def test_a_band_that_changes_without_the_total_is_a_change_of_score():
    """The points were there; the company was missing."""
    head = """bands = { stage = { mql = 1, none = 0 } }
        needs.mql = { fields = ["company"] }"""
    story = given(crm("qr_scanned", "a", 0), models=model(each("qr_scanned"), head=head))
    story.when(crm("profile_updated", "b", 0, fields={"company": "Acme"}))
    story.then("L: m 1 -> 1: ", "L: m is mql, was none")


# -- crossings

WARM = "bands = { heat = { hot = 20, warm = 10, cold = 0 } }"


def test_a_threshold_fires_once_and_again_only_after_a_drop():
    """Three points for a scan of today; the scans of yesterday are worth nothing."""
    story = given(
        *(crm("qr_scanned", f"a{number}", 0) for number in range(4)),
        models=model(each("qr_scanned in 1 day", 3), head=WARM),
    )
    fired = [s.crossed for _, s in story.pipeline.said if isinstance(s, say.BandChanged)]
    assert fired == [[], ["warm"]]
    story.when(Time(12 * HOUR))
    assert story.said(say.BandChanged) == ["L: m is cold, was warm"]
    story.when(*(crm("qr_scanned", f"b{number}", 13 * HOUR) for number in range(4)))
    assert story.said(say.BandChanged) == ["L: m is warm, was cold, fires warm"]


def test_a_merge_and_a_split_alone_fire_nothing_twice():
    scans = [crm("qr_scanned", f"{lead}{number}", 0, lead_id=lead) for lead in "AB" for number in range(2)]
    story = given(*scans, models=model(each("qr_scanned", 3), head=WARM))
    story.when(crm("leads_merged", "m1", 0, lead_id="A", into="B"))
    assert [s.crossed for s in story.statements(say.BandChanged, lead="B")] == [["warm"]]
    story.when(crm("merge_undone", "u1", 1, lead_id="A"), crm("leads_merged", "m2", 2, lead_id="A", into="B"))
    assert [(s.band, s.crossed) for s in story.statements(say.BandChanged, lead="B")] == [
        ("cold", []),
        ("warm", []),
    ]


def test_a_silent_crossing_disarms_too():
    story = given(
        *(crm("qr_scanned", f"a{number}", 0, imported=True) for number in range(4)),
        models=model(each("qr_scanned", 3), head=WARM),
    )
    assert [(s.crossed, s.silent) for _, s in story.pipeline.said if isinstance(s, say.BandChanged)] == [
        ([], True),
        (["warm"], True),
    ]
    dearer = model(each("qr_scanned", 4), head=WARM)[0][1]
    story.when(Publish("m", dearer, 2, 0, fire=True)).then("L: m 12 -> 16: qr_scanned +4")


# -- facts


def test_an_answer_fills_the_field_that_its_question_names():
    answer = {"question_id": "1", "text": "Retail", "profile_field": "industry", "source": "chatbot"}
    story = given(happened("question_answered", "a", 0, visitor_id="chat", **answer))
    assert story.card("anon:chat").fields == {"industry": "Retail"}


def test_the_value_of_a_conversion_is_no_revenue():
    bought = crm("purchase_made", "p", 0, value=100, currency="EUR")
    goal = crm("conversion_recorded", "g", 0, conversion_type="order", value=100, currency="EUR")
    story = given(bought, goal, goal, models=model(each("sum of purchase:EUR")))
    assert story.scores("L") == {"m": 100}


def test_fields_of_the_leads_own_home_stand_before_those_that_were_merged_in():
    story = given(
        crm("profile_updated", "b", 0, lead_id="B", fields={"assigned_to": "maria"}),
        crm("profile_updated", "a", HOUR, lead_id="A", fields={"assigned_to": "peter", "phone": "1"}),
        crm("leads_merged", "m", 2 * HOUR, lead_id="A", into="B"),
    )
    assert story.card("B").fields == {"assigned_to": "maria", "phone": "1"}


def test_a_lead_that_was_merged_away_scores_nothing_and_comes_back_as_it_was():
    story = given(crm("qr_scanned", "a", 0, lead_id="A"), crm("qr_scanned", "b", 0, lead_id="B"))
    before = encode_features(story.lead("A").features)
    story.when(crm("leads_merged", "m", 0, lead_id="A", into="B"))
    assert set(story.scores("A").values()) == {0}
    story.when(crm("merge_undone", "u", 0, lead_id="A"))
    after = story.lead("A").features
    for merging in ("leads_merged", "merge_undone"):
        after.signals.pop(merging)
    assert encode_features(after) == before


def test_the_stage_of_a_merged_lead_is_the_later_one():
    """A person made it qualified, the meeting an opportunity."""
    story = given(
        crm("stage_changed", "a1", 0, lead_id="A", stage="qualified"),
        crm("meeting_scheduled", "a2", HOUR, lead_id="A"),
        crm("email_sent", "b", 0, lead_id="B"),
        crm("leads_merged", "m", 2 * HOUR, lead_id="A", into="B"),
    )
    assert story.stage("B") == "opportunity"


def test_of_a_thousand_sessions_the_two_hundred_latest_make_the_mean():
    """One page each, at once left: 10 points; of the first thirty, each had four pages: 25."""
    visits = [
        happened(kind, f"{number}{kind}{turn}", number * HOUR, visitor_id="v")
        for number in range(230)
        for turn in range(4 if number < 30 else 1)
        for kind in ("page_viewed",)
    ]
    story = given(*visits[: 4 * 30 + 100], models=[("web_session", dict(SHIPPED)["web_session"])])
    assert story.scores("anon:v")["web_session"] == 13  # (30 x 25 + 99 x 10) / 129 = 13.49
    story.when(*visits[4 * 30 + 100 :], Time(400 * HOUR))
    assert story.scores("anon:v")["web_session"] == 10


def test_the_open_session_is_told_apart_from_the_mean():
    story = Story().when(page("a", 0))
    assert story.said(say.SessionScored) == ["anon:v: session a scores 10, open"]
    assert story.scores("anon:v")["web_session"] == 0

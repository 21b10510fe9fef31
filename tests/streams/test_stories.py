"""What the two folds say of people, told as stories: given events, when something happens, then this."""

import pytest
from stream_stories import DAY, HOUR, MINUTE, SHIPPED, Publish, Settings, Story, Time, given, happened

from schemas import statements as say
from schemas.envelope import Context
from scoring.models.model import built_in_models, optional_models

SECOND = MINUTE // 60
TELEGRAM = {"visitor_id": "tg", "source": "telegram"}
EVERYTHING = {
    "phone": "+971501234567",
    "budget": 2_000_000,
    "transaction_type": "buy",
    "property_type": "2BR",
    "location": "Dubai Marina",
    "payment_method": "cash",
}
"""All that the temperature model asks to know: 10 + 10 + 4 x 5 points."""


def scan(event_id, when, **fields):
    return happened("qr_scanned", event_id, when, **(TELEGRAM | fields))


def page(event_id, when, visitor="v", **fields):
    return happened("page_viewed", event_id, when, visitor_id=visitor, **fields)


def crm(kind, event_id, when, lead_id="L", **fields):
    return happened(kind, event_id, when, lead_id=lead_id, source="crm", **fields)


def log_in(event_id, when, visitor, lead_id, **fields):
    return happened("lead_identified", event_id, when, visitor_id=visitor, lead_id=lead_id, **fields)


# -- temperature


def test_the_expo_visitor_warms_up_and_cools_down_by_time_alone():
    def knows(event_id, minute, **fields):
        return happened("profile_updated", event_id, minute * MINUTE, fields=fields, **TELEGRAM)

    story = given(scan("e1", 0)).then(
        "anon:tg: temperature 0 -> 23: QR scans +3, Last interaction +20",
        "anon:tg: temperature is cold, was None",
        about="temperature",
        kinds=(say.ScoreChanged, say.BandChanged),
    )
    for happening, *sentences in (
        (
            happened("catalog_viewed", "e2", 5 * MINUTE, **TELEGRAM),
            "temperature 23 -> 25: Catalog views +2",
            "temperature is warm, was cold, fires warm",
        ),
        (happened("message_received", "e3", 10 * MINUTE, **TELEGRAM), "temperature 25 -> 26: Messages +1"),
        (knows("e4", 11, phone="+971501234567"), "temperature 26 -> 36: Phone +10"),
        (knows("e5", 15, budget_max=2_000_000), "temperature 36 -> 46: Budget +10"),
        (
            knows("e6", 20, property_type="2BR", location="Dubai Marina", transaction_type="buy"),
            "temperature 46 -> 61: Transaction +5, Property type +5, Location +5",
            "temperature is hot, was warm, fires hot",
        ),
        (
            happened("message_received", "e7", 25 * MINUTE, kind="voice", **TELEGRAM),
            "temperature 61 -> 67: Messages +1, Voice message +5",
        ),
        (Time(25 * MINUTE + HOUR - 1),),
        (Time(25 * MINUTE + HOUR), "temperature 67 -> 62: Last interaction -5"),
        (Time(25 * MINUTE + 24 * HOUR), "temperature 62 -> 57: Last interaction -5",
         "temperature 57 -> 52: Last interaction -5"),
        (Time(25 * MINUTE + 72 * HOUR - 1),),
        (Time(25 * MINUTE + 72 * HOUR), "temperature 52 -> 47: Last interaction -5",
         "temperature is warm, was hot"),
    ):  # fmt: skip
        story.when(happening).then(
            *(f"anon:tg: {sentence}" for sentence in sentences),
            about="temperature",
            kinds=(say.ScoreChanged, say.BandChanged),
        )


def test_what_time_changes_is_dated_to_the_moment_it_changed_however_late_the_timer_comes():
    story = given(scan("e1", 0)).when(Time(90 * DAY))
    changes = story.statements(say.ScoreChanged, model="temperature")
    assert [(s.at - story.pipeline.said[0][1].at).total_seconds() / 3600 for s in changes] == [1, 6, 24, 72]
    assert all(s.caused_by.startswith("due:") for s in changes)


def test_a_scan_that_a_cap_swallows_appears_with_the_next_change():
    story = given(*(scan(f"e{number}", 0) for number in range(5)))
    story.when(scan("e5", 0)).then(about="temperature")
    story.when(happened("message_received", "e6", 0, **TELEGRAM)).then(
        "anon:tg: temperature 35 -> 36: QR scans +3, QR scans (rule cap) -3, Messages +1", about="temperature"
    )


# -- sessions


def test_a_session_ends_by_itself_half_an_hour_after_its_last_act():
    """120 seconds 15, two pages 10, a click 2."""
    story = given(
        page("a", 0),
        page("b", MINUTE),
        happened("element_clicked", "c", 2 * MINUTE, visitor_id="v", text="Read more"),
    )
    assert story.said(say.SessionScored)[-1] == "anon:v: session a scores 27, open"
    story.when(Time(32 * MINUTE - 1)).then()
    story.when(Time(32 * MINUTE)).then(
        "anon:v: web_session 0 -> 27: Time on site +15, Pages viewed +10, Clicks +2",
        "anon:v: session a scores 27, ended",
    )
    story.when(Time(40 * MINUTE)).then()


def test_a_session_ends_when_the_visitor_leaves():
    story = given(page("a", 0), page("b", 2 * MINUTE))
    story.when(happened("session_ended", "c", 3 * MINUTE, visitor_id="v")).then(
        "anon:v: web_session 0 -> 35: Time on site +25, Pages viewed +10",
        "anon:v: session a scores 35, ended",
        about="web_session",
    )
    story.when(Time(50 * MINUTE)).then(about="web_session")


def test_a_late_event_joins_two_sessions_and_the_score_is_corrected():
    """At 0 and at 40 are two; one at 20, told at 41, makes them one: 2,400 s 40, three pages 15."""
    story = given(page("a", 0))
    story.when(page("b", 40 * MINUTE)).then(
        "anon:v: web_session 0 -> 10: Time on site +5, Pages viewed +5",
        "anon:v: session a scores 10, ended",
        "anon:v: session b scores 10, open",
        about="web_session",
    )
    story.when(page("c", 20 * MINUTE, recorded=41 * MINUTE)).then(
        "anon:v: web_session 10 -> 0: Time on site -5, Pages viewed -5",
        "anon:v: session a scores 55, open",
        "anon:v: session b never was",
        about="web_session",
    )
    story.when(Time(70 * MINUTE)).then(
        "anon:v: web_session 0 -> 55: Time on site +40, Pages viewed +15",
        "anon:v: session a scores 55, ended",
        about="web_session",
    )


# -- repetitions and bots


def test_an_event_that_comes_twice_counts_once():
    story = given(page("a", 0), page("b", MINUTE))
    story.when(page("a", 0, recorded=2 * MINUTE)).then()
    story.when(page("a", 0, recorded=3 * MINUTE, reply=True)).then("a: duplicate")
    assert story.card("anon:v").counts == {"interaction": 2, "page_viewed": 2}


def test_a_retry_after_log_in_is_a_repetition_too_and_still_tells_who_it_was():
    story = given(page("a", 0)).when(page("a", 0, recorded=MINUTE, lead_id="L", reply=True))
    assert story.said(say.EventApplied) == ["a: duplicate"]
    assert story.card("L").counts == {"interaction": 1, "page_viewed": 1}
    assert story.card("anon:v") is None


def test_a_bot_is_only_answered():
    story = Story().when(page("a", 0, bot="Googlebot")).then()
    story.when(page("b", 0, bot="Googlebot", reply=True)).then("b: bot")
    assert story.pipeline.leads() == {}
    story = given(page("a", 0)).when(page("b", MINUTE, bot="Googlebot", reply=True)).then("b: bot")
    assert story.card("anon:v").counts == {"interaction": 1, "page_viewed": 1}


GMAIL_PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101 Thunderbird/102.4.2"


def opened(event_id, when, agent=GMAIL_PROXY, **fields):
    context = Context(user_agent=agent)
    return happened("email_opened", event_id, when, lead_id="L", source="email", context=context, **fields)


def sent(event_id, when, **fields):
    return happened("email_sent", event_id, when, lead_id="L", source="email", **fields)


def opens(*events):
    signal = given(*events).lead("L").features.signals.get("email_opened")
    return signal.count if signal else 0


def test_a_proxys_fetch_within_ten_seconds_of_the_sending_opens_no_mail():
    assert opens(sent("s", 0), opened("o", 10 * SECOND)) == 0
    assert opens(sent("s", 0), opened("o", 10 * SECOND + 1)) == 1
    assert opens(sent("s", 0), opened("o", 0)) == 0


def test_a_mail_with_a_message_id_has_prefetches_too():
    assert opens(sent("s", 0, message_id="m1"), opened("o", 3 * SECOND, message_id="m1")) == 0
    assert opens(sent("s", 0, message_id="m1"), opened("o", 11 * SECOND, message_id="m1")) == 1
    assert opens(sent("s", 0), sent("t", HOUR, message_id="m1"), opened("o", HOUR + SECOND)) == 0


def test_a_prefetch_takes_nothing_from_the_opening_that_follows():
    assert opens(sent("s", 0), opened("p", 2 * SECOND), opened("o", 90 * MINUTE)) == 1


def test_the_last_mail_counts_and_one_of_another_time_does_not():
    assert opens(sent("s", 0), sent("t", HOUR), opened("o", HOUR + SECOND)) == 0
    assert opens(opened("o", HOUR + SECOND)) == 1
    assert opens(sent("t", HOUR), opened("o", HOUR - SECOND)) == 1


def test_a_mail_program_opens_a_mail_within_seconds():
    assert opens(sent("s", 0), opened("o", SECOND, THUNDERBIRD)) == 1


def test_a_prefetch_that_is_delivered_again_is_a_repetition_and_not_an_opening():
    assert opens(sent("s", 0), opened("p", SECOND), sent("t", HOUR), opened("p", SECOND)) == 0


def test_a_caller_that_waits_for_a_prefetch_gets_the_answer_of_a_bots_event():
    story = given(sent("s", 0)).when(opened("p", SECOND, reply=True)).then("p: bot")
    story.when(opened("p", SECOND, reply=True)).then("p: duplicate")


def test_whoever_waits_is_answered_once_with_the_scores():
    story = given(scan("a", 0, reply=True))
    (answer,) = story.statements(say.EventApplied)
    assert (answer.event_id, answer.outcome, answer.lead_id) == ("a", "applied", "anon:tg")
    assert answer.scores["temperature"] == 23
    story.when(crm("note_added", "n", 0, text="hello", reply=True))
    assert story.said(say.EventApplied) == ["n: applied"]


def test_an_answer_names_the_key_within_which_its_event_id_is_unique():
    """Whether the event made the identity, changed it, came again, was a bot's, or the visitor is claimed."""
    story = given(
        page("7", 0, reply=True),
        page("8", MINUTE, reply=True),
        page("7", 2 * MINUTE, reply=True),
        page("b", 3 * MINUTE, bot="Googlebot", reply=True),
        page("9", 4 * MINUTE, lead_id="L", reply=True),
        crm("note_added", "7", 5 * MINUTE, text="hello", reply=True),
        sent("s", 6 * MINUTE),
        opened("o", 6 * MINUTE, reply=True),
    )
    answers = [(each.event_id, each.outcome, each.key) for each in story.statements(say.EventApplied)]
    assert answers == [
        ("7", "applied", "default/v/v"),
        ("8", "applied", "default/v/v"),
        ("7", "duplicate", "default/v/v"),
        ("b", "bot", "default/v/v"),
        ("9", "applied", "default/v/v"),
        ("7", "applied", "default/l/L"),
        ("o", "bot", "default/l/L"),
    ]


# -- identity


def test_a_claim_moves_the_visitors_past_to_the_lead_and_the_anonymous_shell_vanishes():
    story = given(scan("a", 0), happened("message_received", "b", 0, **TELEGRAM))
    story.when(log_in("c", MINUTE, "tg", "L", source="telegram"))
    story.then(
        "L: temperature 0 -> 24: QR scans +3, Messages +1, Last interaction +20",
        "L: temperature is cold, was None",
        about="temperature",
        lead="L",
    )
    story.then(
        "anon:tg: temperature 24 -> 0: QR scans -3, Messages -1, Last interaction -20",
        "anon:tg: temperature is None, was cold",
        about="temperature",
        lead="anon:tg",
    )
    assert story.card("anon:tg") is None
    assert story.card("L").identified
    assert story.card("L").counts == {"interaction": 2, "message_received": 1, "qr_scanned": 1}
    assert set(story.pipeline.leads()) == {"default/l/L"}


def test_an_open_session_goes_along_with_a_claim_and_ends_at_the_lead():
    story = given(page("a", 0), log_in("b", MINUTE, "v", "L"), page("c", 2 * MINUTE))
    story.when(Time(32 * MINUTE)).then(
        "L: web_session 0 -> 25: Time on site +15, Pages viewed +10",
        "L: session a scores 25, ended",
        about="web_session",
    )


def test_a_shared_device_keeps_two_people_apart():
    story = given(
        page("a1", 0),
        log_in("a2", MINUTE, "v", "ANNA"),
        log_in("b1", HOUR, "v", "BEN"),
        page("b2", HOUR + MINUTE),
        page("b3", HOUR + 2 * MINUTE),
        page("a3", 2 * HOUR, lead_id="ANNA"),
        page("a4", 2 * HOUR + MINUTE),
    )
    assert story.card("ANNA").counts == {"interaction": 3, "page_viewed": 3}
    assert story.card("BEN").counts == {"interaction": 2, "page_viewed": 2}
    assert story.card("ANNA").identities == story.card("BEN").identities == 1


def test_an_older_claim_that_comes_late_does_not_take_the_device_back():
    story = given(
        log_in("a", 0, "v", "ANNA"),
        log_in("b", HOUR, "v", "BEN"),
        log_in("late", MINUTE, "v", "ANNA", recorded=2 * HOUR),
        page("next", 2 * HOUR),
    )
    assert story.card("BEN").counts == {"interaction": 1, "page_viewed": 1}
    assert "page_viewed" not in story.card("ANNA").counts


@pytest.fixture
def two_leads():
    """A scanned once, B twice, at the same moment: 23 and 26 points."""
    scans = [("a", "A"), ("b", "B"), ("c", "B")]
    return given(*(scan(event_id, 0, visitor_id=f"tg{lead}", lead_id=lead) for event_id, lead in scans))


def temperatures(story, *leads):
    return [story.scores(lead)["temperature"] for lead in leads]


def test_a_merge_adds_up_and_a_split_takes_apart(two_leads):
    assert temperatures(two_leads, "A", "B") == [23, 26]
    two_leads.when(crm("leads_merged", "m", MINUTE, "A", into="B"))
    assert temperatures(two_leads, "A", "B") == [0, 29]
    assert two_leads.card("A").redirect == "B"
    assert (two_leads.card("A").identities, two_leads.card("B").identities) == (0, 3)
    two_leads.when(crm("merge_undone", "u", 2 * MINUTE, "A"))
    assert temperatures(two_leads, "A", "B") == [23, 26]
    assert two_leads.card("A").redirect is None


def test_who_comes_to_a_merged_lead_later_is_merged_too_and_split_with_it(two_leads):
    two_leads.when(crm("leads_merged", "m", MINUTE, "A", into="B"))
    two_leads.when(scan("d", MINUTE, visitor_id="new", lead_id="A"))
    assert temperatures(two_leads, "A", "B") == [0, 32]
    two_leads.when(crm("merge_undone", "u", 2 * MINUTE, "A"))
    assert temperatures(two_leads, "A", "B") == [26, 26]


def test_leads_merged_in_a_circle_settle_on_the_smallest_id(two_leads):
    two_leads.when(
        crm("leads_merged", "m1", MINUTE, "A", into="B"), crm("leads_merged", "m2", MINUTE, "B", into="A")
    )
    assert temperatures(two_leads, "A", "B") == [29, 0]
    two_leads.when(
        crm("merge_undone", "u1", 2 * MINUTE, "A"),
        crm("merge_undone", "u2", 2 * MINUTE, "B"),
    )
    assert temperatures(two_leads, "A", "B") == [23, 26]


def test_tenants_never_mix():
    story = given(scan("a", 0, lead_id="L"), scan("a", 0, lead_id="L", tenant="north"))
    story.when(scan("b", 0, lead_id="L", tenant="north"))
    assert {s.tenant for s in story.statements()} == {"north"}
    assert story.scores("L")["temperature"] == 23
    assert story.scores("L", "north")["temperature"] == 26
    other = dict(SHIPPED)["temperature"].replace("points = 3, max = 15", "points = 5, max = 15")
    story.when(Publish("temperature", other, 99, 2 * HOUR, tenant="north"))
    assert {s.tenant for s in story.statements()} == {"north"}
    assert (story.scores("L")["temperature"], story.scores("L", "north")["temperature"]) == (23, 25)


# -- crossings


def test_a_jump_fires_every_threshold_in_between():
    given(happened("form_submitted", "f", 0, lead_id="L", fields=EVERYTHING)).then(
        "L: temperature 0 -> 60: Phone +10, Budget +10, Transaction +5, Property type +5, Location +5, "
        "Payment +5, Last interaction +20",
        "L: temperature is hot, was None, fires warm and hot",
        about="temperature",
    )


def test_what_was_imported_crosses_silently():
    story = given(happened("form_submitted", "f", 0, lead_id="L", fields=EVERYTHING, imported=True))
    assert story.said(say.BandChanged, model="temperature") == [
        "L: temperature is hot, was None, fires warm and hot silently"
    ]
    story.when(happened("message_received", "m", 0, lead_id="L")).then(
        "L: temperature 60 -> 61: Messages +1", about="temperature"
    )


# -- what is published


CHEAPER_SCANS = dict(SHIPPED)["temperature"].replace("points = 3, max = 15", "points = 5, max = 15")


def test_a_publication_changes_every_lead_once_and_its_lines_say_by_what():
    story = given(
        *(scan(f"e{who}{number}", 0, lead_id=f"L{who}") for who in range(4) for number in range(who))
    )
    story.when(Publish("temperature", CHEAPER_SCANS, 99, 0))
    for lead in range(1, 4):
        scans = f"L{lead}: temperature {20 + 3 * lead} -> {20 + min(5 * lead, 15)}: QR scans +{2 * lead}"
        assert scans in story.said(say.ScoreChanged)
    assert len(story.statements(say.ScoreChanged)) == 3
    for statement in story.statements(say.ScoreChanged):
        assert statement.caused_by == "model:*:temperature:99"
        assert sum(line.points for line in statement.lines) == statement.change
    story.when(Publish("temperature", dict(SHIPPED)["temperature"], 98, MINUTE)).then()
    assert [s.version for s in story.card("L3").scores.values() if s.version == 99] == [99]


def test_a_model_that_is_retired_takes_its_points_and_bands_away_line_by_line():
    story = given(
        happened("qr_scanned", "e1", 0, lead_id="L", source="telegram"),
        happened("qr_scanned", "e2", MINUTE, lead_id="L", source="telegram"),
    )
    story.when(Publish("temperature", "", 12, 2 * MINUTE)).then(
        "L: temperature 26 -> 0: QR scans -6, Last interaction -20",
        "L: temperature is None, was warm silently",
    )
    assert "temperature" not in story.scores("L")
    story.when(happened("qr_scanned", "e3", 3 * MINUTE, lead_id="L", source="telegram"))
    assert story.said(model="temperature") == []
    story.when(Publish("temperature", built_in_models()["temperature"], 13, 4 * MINUTE)).then(
        "L: temperature 0 -> 29: QR scans +9, Last interaction +20",
        "L: temperature is warm, was None, fires warm silently",
        about="temperature",
    )


def test_a_set_of_bands_that_a_publication_drops_is_left():
    """The lines stay as they are; only the words for them change."""
    rest = '[groups.g]\nrules = [{ name = "Scan", each = "qr_scanned", points = 25 }]\n'
    heat, level = (
        f'model = "own"\nbands = {{ {scale} = {{ warm = 20, cold = 0 }} }}\n{rest}'
        for scale in ("heat", "level")
    )
    story = given(happened("qr_scanned", "e1", 0, lead_id="L"), models=[("own", heat)])
    story.when(Publish("own", level, 2, MINUTE)).then(
        "L: own 25 -> 25: ", "L: own is warm, was None silently", "L: own is None, was warm silently"
    )
    left = [(s.scale, s.band) for s in story.statements(say.BandChanged)]
    assert left == [("level", "warm"), ("heat", None)]
    assert story.card("L").scores["own"].bands == {"level": "warm"}


def test_a_tenant_may_retire_a_model_that_others_keep():
    story = given(
        happened("qr_scanned", "e1", 0, lead_id="L"),
        happened("qr_scanned", "e2", 0, lead_id="L", tenant="acme"),
        Publish("temperature", "", 12, MINUTE, tenant="acme"),
    )
    assert "temperature" in story.scores("L")
    assert "temperature" not in story.scores("L", tenant="acme")


def test_a_model_retired_for_everybody_stays_with_who_has_its_own():
    mine = built_in_models()["temperature"].replace("points = 3, max = 15", "points = 4")
    story = given(
        happened("qr_scanned", "e1", 0, lead_id="L"),
        happened("qr_scanned", "e2", 0, lead_id="L", tenant="acme"),
        Publish("temperature", mine, 12, MINUTE, tenant="acme"),
        Publish("temperature", "", 13, MINUTE),
    )
    assert "temperature" not in story.scores("L")
    assert story.scores("L", tenant="acme")["temperature"] == 4 + 20


@pytest.mark.parametrize(("fire", "silently"), [(True, ""), (False, " silently")])
def test_a_publication_acts_only_if_it_says_so(fire, silently):
    story = given(scan("e1", 0, lead_id="L"))
    story.when(Publish("temperature", CHEAPER_SCANS, 99, 0, fire=fire))
    story.then(
        "L: temperature 23 -> 25: QR scans +2",
        f"L: temperature is warm, was cold, fires warm{silently}",
        about="temperature",
    )


def test_a_change_of_points_counts_for_the_whole_past_and_a_changed_signal_from_zero():
    voice = happened("message_received", "v", 0, kind="voice", lead_id="L")
    changed = dict(SHIPPED)["temperature"].replace('equals = "voice"', 'in_list = ["voice", "call"]')
    story = given(voice).when(Publish("temperature", changed, 99, 0))
    story.then(
        "L: temperature 26 -> 21: Voice message -5",
        "L: temperature is cold, was warm silently",
        about="temperature",
    )


def test_an_idle_time_that_was_published_cuts_sessions():
    """Just under 600 seconds 35, two pages 10."""
    story = given(Settings(1, 0, idle_minutes=10), page("a", 0), page("b", 10 * MINUTE - 1))
    story.when(page("c", 20 * MINUTE))
    assert story.said(say.SessionScored) == [
        "anon:v: session a scores 45, ended",
        "anon:v: session c scores 10, open",
    ]
    story.when(Time(30 * MINUTE))
    assert story.said(say.SessionScored) == ["anon:v: session c scores 10, ended"]


TODAY = """
model = "today"
[groups.g]
rules = [{ name = "Pages today", each = "page_viewed in 1 day", points = 1 }]
"""


@pytest.mark.parametrize(("zone", "midnight"), [("UTC", 12), ("Asia/Tokyo", 3), ("America/New_York", 16)])
def test_a_time_zone_that_was_published_says_when_a_day_is_over(zone, midnight):
    """The stories begin at noon UTC on a day of October: 21:00 in Tokyo, 08:00 in New York."""
    story = given(Settings(1, 0, time_zone=zone), page("a", 0), models=[("today", TODAY)])
    story.when(Time(midnight * HOUR - 1)).then(about="today")
    story.when(Time(midnight * HOUR)).then("anon:v: today 1 -> 0: Pages today -1", about="today")


def test_a_settings_record_that_is_not_newer_changes_nothing():
    story = given(Settings(2, 0, idle_minutes=10), Settings(1, 0, idle_minutes=60), page("a", 0))
    story.when(Time(10 * MINUTE))
    assert story.said(say.SessionScored) == ["anon:v: session a scores 10, ended"]


# -- lifecycle


def test_a_lead_goes_from_new_to_customer_and_churns_by_time_alone():
    fields = {"email": "d@acme.example", "company": "Acme", "phone": "+49301234", "industry": "SaaS"}
    story = Story()
    for happening, *sentences in (
        (crm("email_sent", "e1", 0), "L: new -> contacted: e-mail, SMS or call to the lead"),
        (crm("email_opened", "e2", HOUR),),
        (
            crm("form_submitted", "e3", 2 * HOUR, fields=fields | {"title": "Sales Director"}),
            "L: contacted -> qualified: rules reached mql",
        ),
        (crm("email_replied", "e4", DAY), "L: qualified -> engaged: reply or form after qualifying"),
        (
            crm("demo_requested", "e5", 2 * DAY),
            "L: engaged -> opportunity: meeting or demo after qualifying",
        ),
        (crm("purchase_made", "e6", 3 * DAY, value=1, currency="EUR"), "L: opportunity -> customer: purchase"),
        (crm("email_sent", "e7", 100 * DAY),),
        (Time(183 * DAY - 1),),
        (Time(183 * DAY), "L: customer -> churned: no interaction for 180 days"),
        (crm("page_viewed", "e8", 184 * DAY),),
        (
            crm("purchase_made", "e9", 185 * DAY, value=1, currency="EUR"),
            "L: churned -> customer: purchase",
        ),
    ):  # fmt: skip
        story.when(happening).then(*sentences, kinds=(say.StageEntered,))


def test_a_reply_before_qualifying_engages_nobody():
    story = given(crm("email_replied", "e1", 0), crm("stage_changed", "e2", HOUR, stage="qualified"))
    assert story.stage("L") == "qualified"
    story.when(crm("sms_replied", "e3", 2 * HOUR))
    assert story.stage("L") == "engaged"


def test_a_persons_move_wins_and_a_later_act_advances_from_it():
    story = given(crm("email_sent", "e1", 0)).when(crm("stage_changed", "e2", HOUR, stage="opportunity"))
    story.then("L: contacted -> opportunity: moved by a person", kinds=(say.StageEntered,))
    for number, kind in enumerate(("email_sent", "email_replied", "demo_requested", "form_submitted")):
        story.when(crm(kind, f"f{number}", (2 + number) * HOUR)).then(kinds=(say.StageEntered,))
    story.when(crm("purchase_made", "p", 9 * HOUR, value=1, currency="EUR"))
    story.then("L: opportunity -> customer: purchase", kinds=(say.StageEntered,))


@pytest.mark.parametrize("stage", ["recycled", "disqualified", "lost"])
def test_a_lead_that_a_person_put_aside_stays_there(stage):
    story = given(crm("email_sent", "e1", 0)).when(crm("stage_changed", "e2", HOUR, stage=stage))
    story.then(f"L: contacted -> {stage}: moved by a person", kinds=(say.StageEntered,))
    for number, kind in enumerate(("email_sent", "email_replied", "demo_requested", "form_submitted")):
        story.when(crm(kind, f"f{number}", (2 + number) * HOUR)).then(kinds=(say.StageEntered,))


def test_the_later_of_two_persons_moves_stands_in_whatever_order_they_come():
    story = given(
        crm("stage_changed", "e2", HOUR, stage="opportunity", recorded=HOUR),
        crm("stage_changed", "e1", 0, stage="contacted", recorded=2 * HOUR),
    )
    assert story.stage("L") == "opportunity"


def test_a_band_of_a_matrix_that_a_lead_enters_is_said():
    story = given(Publish("fit_engagement", optional_models()["fit_engagement"], 12, 0))
    story.when(happened("form_submitted", "e1", MINUTE, lead_id="L"))
    (entered,) = [s for s in story.statements(say.BandChanged) if s.scale == "priority"]
    assert (entered.model, entered.previous, entered.crossed) == ("fit_engagement", None, [])
    assert entered.band == "C3"  # fit 0, engagement 20

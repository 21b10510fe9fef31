"""Rulings about stages: every default transition, forward only, and what a person's move outranks.

Also those about means and crossings that need both folds and stand nowhere else.
"""

import pytest
from stream_stories import DAY, HOUR, MINUTE, Time, given, happened

from schemas import statements as say

FUNNEL = ("new", "contacted", "qualified", "engaged", "opportunity", "customer")
ASIDE = ("recycled", "disqualified", "churned", "lost")


def crm(kind, event_id, when=0, **fields):
    bought = {"value": 1, "currency": "EUR"} if kind == "purchase_made" else {}
    asked = {"text": "?"} if kind == "note_added" else {}
    return happened(kind, event_id, when, lead_id="L", source="crm", **(bought | asked | fields))


def moved_to(stage):
    """A lead that a person put there; whoever is put at qualified or later counts as qualified."""
    return given(crm("stage_changed", "moved", 0, stage=stage))


DEFAULT_TRANSITIONS = [
    # an e-mail, SMS or call to the lead
    ("new", "email_sent", {}, "contacted"),
    ("new", "sms_sent", {}, "contacted"),
    ("new", "call_made", {}, "contacted"),
    ("new", "call_made", {"answered": True}, "contacted"),
    # a reply or form after qualified
    ("qualified", "email_replied", {}, "engaged"),
    ("qualified", "sms_replied", {}, "engaged"),
    ("qualified", "message_received", {}, "engaged"),
    ("qualified", "form_submitted", {}, "engaged"),
    # a meeting or demo after qualified
    ("qualified", "meeting_scheduled", {}, "opportunity"),
    ("qualified", "demo_requested", {}, "opportunity"),
    ("engaged", "meeting_scheduled", {}, "opportunity"),
    ("engaged", "demo_requested", {}, "opportunity"),
    # a purchase, from everywhere
    *((stage, "purchase_made", {}, "customer") for stage in (*FUNNEL[:-1], *ASIDE)),
]


@pytest.mark.parametrize(
    ("stage", "kind", "fields", "to"),
    DEFAULT_TRANSITIONS,
    ids=[f"{stage}, {kind}{' answered' * bool(fields)}" for stage, kind, fields, _ in DEFAULT_TRANSITIONS],
)
def test_the_default_transitions(stage, kind, fields, to):
    story = given(crm("page_viewed", "known")) if stage == "new" else moved_to(stage)
    assert story.stage("L") == stage
    assert story.when(crm(kind, "e", DAY, **fields)).stage("L") == to


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        *((stage, "email_sent") for stage in FUNNEL[1:]),
        *((stage, kind) for stage in ("new", "contacted") for kind in ("email_replied", "form_submitted")),
        *((stage, "meeting_scheduled") for stage in ("new", "contacted", "opportunity", "customer")),
        *((stage, kind) for stage in ("engaged", "opportunity", "customer") for kind in ("sms_replied",)),
        *((stage, kind) for stage in ASIDE for kind in ("email_sent", "email_replied", "demo_requested")),
        *((stage, kind) for stage in FUNNEL for kind in ("page_viewed", "email_opened", "note_added")),
    ],
)
def test_an_act_that_no_transition_names_or_that_leads_back_moves_nobody(stage, kind):
    story = given(crm("page_viewed", "known")) if stage == "new" else moved_to(stage)
    assert story.when(crm(kind, "e", DAY)).said(say.StageEntered) == []


def test_a_lead_qualifies_when_the_rules_say_mql_and_not_before():
    """Industry 20, title 15, new 10 are 45; the form is the last thing that an mql needs."""
    fields = {"email": "d@a.example", "company": "A", "phone": "1", "industry": "SaaS", "title": "Director"}
    story = given(crm("profile_updated", "p", 0, fields=fields), crm("email_opened", "o", 0))
    assert story.stage("L") == "new"
    assert story.when(crm("form_submitted", "f", HOUR)).stage("L") == "qualified"


@pytest.mark.parametrize(("idle", "stage"), [(180 * DAY - 1, "customer"), (180 * DAY, "churned")])
def test_a_customer_churns_after_180_days_without_an_act(idle, stage):
    story = given(crm("page_viewed", "p"), crm("stage_changed", "c", HOUR, stage="customer"))
    assert story.when(Time(idle)).stage("L") == stage


@pytest.mark.parametrize("stage", [stage for stage in FUNNEL if stage != "customer"])
def test_nobody_but_a_customer_churns(stage):
    assert moved_to(stage).when(Time(900 * DAY)).stage("L") == stage


def test_what_we_do_does_not_keep_a_customer():
    story = given(
        crm("purchase_made", "p"), crm("email_sent", "e", 100 * DAY), crm("call_made", "c", 150 * DAY)
    )
    assert story.when(Time(180 * DAY)).stage("L") == "churned"


def test_an_act_keeps_a_customer():
    story = given(crm("purchase_made", "p"), crm("email_opened", "e", 100 * DAY))
    assert story.when(Time(280 * DAY - 1)).stage("L") == "customer"
    assert story.when(Time(280 * DAY)).stage("L") == "churned"


@pytest.mark.parametrize("to", [*FUNNEL, *ASIDE])
@pytest.mark.parametrize("stage", ["opportunity", "customer", "lost"])
def test_a_person_may_move_a_lead_anywhere(stage, to):
    assert moved_to(stage).when(crm("stage_changed", "again", DAY, stage=to)).stage("L") == to


def test_a_late_act_from_before_a_persons_move_does_not_undo_it():
    """Told a day later: the purchase was made before the lead was put back."""
    story = moved_to("opportunity").when(crm("stage_changed", "back", 2 * DAY, stage="contacted"))
    assert story.when(crm("purchase_made", "p", DAY, recorded=3 * DAY)).stage("L") == "contacted"
    assert story.when(crm("purchase_made", "q", 4 * DAY)).stage("L") == "customer"


@pytest.mark.parametrize("stage", [*FUNNEL[1:], *ASIDE])
def test_who_a_person_moved_while_unknown_stays_there_when_they_say_who_they_are(stage):
    story = given(
        page("p", 0), happened("stage_changed", "s", HOUR, visitor_id="v", source="crm", stage=stage)
    )
    story.when(happened("lead_identified", "i", DAY, visitor_id="v", lead_id="L"))
    assert story.stage("L") == stage


def test_who_a_person_moved_stays_there_when_merged_into_a_lead_that_nobody_was():
    story = moved_to("lost").when(happened("leads_merged", "m", DAY, lead_id="L", source="crm", into="N"))
    assert story.stage("N") == "lost"


def test_a_merged_lead_that_was_put_aside_does_not_put_aside_who_is_known_otherwise():
    story = moved_to("lost").when(happened("email_sent", "e", DAY, lead_id="N", source="crm"))
    story.when(happened("leads_merged", "m", 2 * DAY, lead_id="L", source="crm", into="N"))
    assert story.stage("N") == "contacted"


@pytest.mark.parametrize(("goes", "stays"), [("silent", "active"), ("active", "silent")])
@pytest.mark.parametrize(("last_act", "stage"), [(100, "customer"), (1, "churned")])
def test_two_leads_of_one_customer_are_a_customer_unless_both_were_silent(goes, stays, last_act, stage):
    """The silent one churned at day 180, and is merged a day later."""
    bought = {"source": "crm", "value": 1, "currency": "EUR"}
    story = given(
        happened("purchase_made", "s", 0, lead_id="silent", **bought),
        happened("purchase_made", "a", 0, lead_id="active", **bought),
        happened("email_opened", "o", last_act * DAY, lead_id="active", source="crm"),
        Time(180 * DAY),
    )
    assert (story.stage("silent"), story.stage("active")) == ("churned", "customer")
    story.when(happened("leads_merged", "m", 182 * DAY, lead_id=goes, source="crm", into=stays))
    assert story.stage(stays) == stage


def page(event_id, when, **fields):
    return happened("page_viewed", event_id, when, visitor_id="v", **fields)


def test_a_session_that_a_late_event_joins_to_another_leaves_the_mean():
    """Sessions of 10, 30 (four pages 20) and 30 points: mean 23.33; joined, the first two are 40 + 25."""
    first = [page("a", 0)]
    second = [page(f"b{number}", 40 * MINUTE) for number in range(5)]
    third = [page(f"c{number}", 200 * MINUTE) for number in range(5)]
    story = given(*first, *second, *third, Time(300 * MINUTE))
    assert story.scores("anon:v")["web_session"] == 23  # (10 + 30 + 30) / 3
    story.when(page("late", 20 * MINUTE, recorded=301 * MINUTE))
    assert story.said(say.SessionRetracted) == ["anon:v: session b0 never was"]
    assert story.scores("anon:v")["web_session"] == 50  # 40 + 30 and 30: 100 / 2


def test_a_replay_of_an_import_fires_nothing_and_a_later_act_fires_what_it_crosses_itself():
    scans = [happened("qr_scanned", f"s{n}", 0, visitor_id="v", imported=True) for n in range(5)]
    story = given(*scans)
    assert [(s.crossed, s.silent) for s in story.statements(say.BandChanged, model="temperature")] == [
        ([], True),
        (["warm"], True),
    ]
    known = {"phone": "1", "budget": 1}
    told = happened("profile_updated", "p", MINUTE, visitor_id="v", fields=known)
    [hot] = story.when(told).statements(say.BandChanged, model="temperature")
    assert (hot.crossed, hot.silent) == (["hot"], False)

"""A lead explained: what each kind of line, cause and number reads like to a person."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.explained_lead import ExplainedLead
from gateway.api.lead_as_of import LeadAsOf
from leadstream.operations.explanations import (
    BreakdownLine,
    ExplainedCause,
    ExplainedScore,
    ExplanationClock,
    breakdown_lines,
    cause_in_words,
    evidence_to_show,
    history_lines,
    hundredths,
    label_of_line,
    lead_summary,
    points_text,
    shortened_about,
    shown_lines,
    signed_points_text,
    with_time_merged,
)

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
CLOCK = ExplanationClock(NOW, ZoneInfo("Europe/Berlin"))
ENTRY = {
    "model": "temperature",
    "at": NOW,
    "total": Decimal(67),
    "bands": {"temperature": "hot"},
    "removed": False,
}


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=59, seconds=59), "59 minutes ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(hours=23, minutes=59), "23 hours ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=400), "400 days ago"),
    ],
)
def test_how_long_ago_it_was(ago, words):
    assert CLOCK.ago(NOW - ago) == words


def test_dates_are_of_the_tenants_zone_also_over_midnight():
    assert CLOCK.date(datetime(2026, 6, 30, 22, 30, tzinfo=UTC)) == "1 Jul 2026, 00:30"


LEAD = {
    "lead_id": "ahmad",
    "identified": True,
    "name": "Ahmad Rezaei",
    "phone": "+971501234567",
    "email": None,
    "company": "Acme",
    "assigned_to": "maria",
    "stage": "contacted",
    "created_at": NOW - timedelta(days=3),
    "last_interaction_at": NOW - timedelta(hours=2),
    "redirect": None,
    "fields": {},
}
STAGES = [{"stage": "contacted", "at": NOW - timedelta(days=1), "reason": "e-mail, SMS or call to the lead"}]


def explained(lead=LEAD, stages=STAGES, identities=(), **other):
    """As of NOW, without any score."""
    state = {
        "override": None,
        "history": "complete",
        **{k: v for k, v in other.items() if k in LeadAsOf._fields},
    }
    shown = LeadAsOf(NOW, lead, None, None, {}, identities, (), stages, **state)
    rest = {name: other.get(name) for name in ("next_stage", "speed_to_lead")}
    return ExplainedLead(shown, {}, **rest)


def test_who_it_is():
    identities = [{"identity": "default/v/tg-1#0"}, {"identity": "default/l/ahmad#0"}]
    assert list(lead_summary(explained(identities=identities), CLOCK)) == [
        "Ahmad Rezaei (ahmad)",
        "  +971501234567, Acme",
        "  Stage: contacted since 13 Mar 2026, 13:00 (e-mail, SMS or call to the lead)",
        "  Assigned to maria",
        "  First seen 11 Mar 2026, 13:00 (3 days ago)",
        "  Last active 14 Mar 2026, 11:00 (2 hours ago)",
        "  Known as visitor tg-1, lead ahmad",
    ]


def test_who_nobody_knows_yet():
    unknown = LEAD | dict.fromkeys(("name", "phone", "company", "assigned_to", "last_interaction_at"))
    unknown |= {"lead_id": "anon:w", "identified": False, "stage": "new"}
    assert list(lead_summary(explained(unknown, []), CLOCK)) == [
        "an anonymous visitor (anon:w)",
        "  Stage: new",
        "  First seen 11 Mar 2026, 13:00 (3 days ago)",
        "  Never active",
    ]


def test_all_days_are_counted_up_to_the_moment_of_the_answer():
    then = ExplanationClock(NOW, CLOCK.zone, is_now=False)
    told = list(lead_summary(explained(), then))
    assert told[1] == "  As it was 14 Mar 2026, 13:00"
    assert "  First seen 11 Mar 2026, 13:00 (3 days before)" in told
    assert "  As it will be, if nothing happens, 14 Mar 2026, 13:00" in list(
        lead_summary(explained(), then, in_future=True)
    )


def test_a_stage_of_the_future_was_entered_by_nobody_yet():
    assert "  Stage: churned" in list(lead_summary(explained(LEAD | {"stage": "churned"}), CLOCK))


def test_what_the_next_stage_lacks():
    following = {
        "stage": "qualified",
        "missing": [{"text": "8 more points by rules for mql"}, {"text": "e-mail"}],
    }
    assert "  Next stage: qualified, which needs 8 more points by rules for mql; e-mail" in list(
        lead_summary(explained(next_stage=following), CLOCK)
    )


@pytest.mark.parametrize(
    ("minutes", "limit", "breached", "words"),
    [
        (4, 5, False, "first contacted after 4 minutes"),
        (90, 5, True, "first contacted after 1 hour, later than the limit"),
        (None, 5, True, "not contacted yet; the limit was 13 Mar 2026, 13:05"),
        (None, 5, False, "not contacted yet; the limit is 13 Mar 2026, 13:05"),
        (None, None, False, "not contacted yet"),
    ],
)
def test_how_soon_somebody_contacted_it(minutes, limit, breached, words):
    since = NOW - timedelta(days=1)
    times = {
        "qualified_at": since,
        "first_contacted_at": None if minutes is None else since + timedelta(minutes=minutes),
        "limit_at": None if limit is None else since + timedelta(minutes=limit),
        "breached": breached,
    }
    assert f"  Qualified 13 Mar 2026, 13:00, {words}" in list(
        lead_summary(explained(speed_to_lead=times), CLOCK)
    )


def test_who_does_not_wish_to_be_scored():
    refusing = LEAD | {"fields": {"profiling_consent": False}}
    told = list(lead_summary(explained(refusing), CLOCK))
    assert told[-1] == "  Does not wish to be scored: no model and no workflow looks at this lead"
    then = list(lead_summary(explained(objects_today=True), CLOCK))
    assert "the scores are what was recorded then" in then[-1]


def test_a_score_that_was_taken_back_is_no_0():
    entry = ENTRY | {
        "previous": Decimal(67),
        "total": Decimal(0),
        "lines": [["", "Phone", "points", -67]],
        "removed": True,
    }
    told = list(history_lines([ExplainedCause(NOW, "Because", [entry], (), [])], CLOCK))
    assert told[1] == "  temperature 67 -> not scored: Phone -67"


def test_a_breakdown_is_aligned_and_by_group():
    lines = [
        BreakdownLine("engagement", "QR scans", "points", Decimal(21), "7 x 3 points, capped at 15"),
        BreakdownLine("engagement", "QR scans", "rule cap", Decimal(-6), "at most 15 points for QR scans"),
        BreakdownLine("recency", "Last interaction", "points", Decimal("2.5"), ""),
        BreakdownLine("", "", "decay", Decimal("-0.1"), "1 full day without an interaction"),
    ]
    score = ExplainedScore("temperature", Decimal("17.4"), {"temperature": "cold"}, lines)
    assert list(breakdown_lines(score)) == [
        "temperature: 17.4, cold",
        "  engagement",
        "    QR scans                +15  7 x 3 points, capped at 15",
        "  recency",
        "    Last interaction       +2.5",
        "  days without activity    -0.1  1 full day without an interaction",
    ]


def test_a_group_says_how_much_of_its_points_counts():
    lines = [BreakdownLine("needs_met", "Phone", "points", Decimal(3), "has phone, 15 points")]
    score = ExplainedScore("two_words", Decimal(3), {}, lines, weights={"needs_met": Decimal("0.2")})
    assert list(breakdown_lines(score)) == [
        "two words: 3",
        "  needs met (20% of its points count)",
        "    Phone  +3  has phone, 15 points",
    ]


def test_what_a_division_leaves_is_one_line_of_rounding_or_none():
    thirds = [BreakdownLine("g", name, "points", Decimal("33.333333")) for name in "abc"]
    left = BreakdownLine("", "", "mean", Decimal("0.000001"), "what the division leaves")
    shown = shown_lines([*thirds, left], Decimal(100))
    assert [(line.rule or line.kind, line.points) for line in shown] == [
        *((name, Decimal("33.33")) for name in "abc"),
        ("rounding", Decimal("0.01")),
    ]
    assert shown_lines([thirds[0], left], Decimal("33.333334")) == [
        thirds[0]._replace(points=Decimal("33.33"))
    ]


hundredths_of = st.integers(-(10**9), 10**9).map(lambda micro: Decimal(micro) / 10**6)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("gh"),
            st.sampled_from("abc"),
            st.sampled_from(["points", "rule cap", "group cap", "limit", "decay", "mean", "rounding"]),
            hundredths_of,
        ),
        max_size=12,
    )
)
def test_shown_lines_add_up_to_the_shown_total_and_none_of_them_is_0(drawn):
    lines = [BreakdownLine(*each) for each in drawn]
    total = sum((line.points for line in lines), Decimal(0))
    shown = shown_lines(lines, total)
    assert sum(line.points for line in shown) == hundredths(total)
    assert all(line.points and line.points == hundredths(line.points) for line in shown)


def test_a_model_that_knows_nothing_of_the_lead_says_so_in_a_line():
    score = ExplainedScore("chatbot", Decimal(0), {"category": "Unqualified"}, [])
    assert list(breakdown_lines(score)) == ["chatbot: 0, Unqualified", "  nothing counts yet"]
    waits = score._replace(of_ended_visits=True)
    assert list(breakdown_lines(waits))[1] == "  nothing counts yet; a visit counts when it has ended"


def test_several_sets_of_bands_name_themselves():
    bands = {"grade": "B+", "temperature": "hot", "priority": None}
    score = ExplainedScore("composite", Decimal("77.45"), bands, [])
    assert next(breakdown_lines(score)) == "composite: 77.45, grade B+, temperature hot"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (BreakdownLine("g", "QR scans", "points", Decimal(1)), "QR scans"),
        (BreakdownLine("g", "QR scans", "rule cap", Decimal(1)), "limit of QR scans"),
        (BreakdownLine("g", "", "group cap", Decimal(1)), "limit of g"),
        (BreakdownLine("", "", "limit", Decimal(1)), "limit of the score"),
        (BreakdownLine("", "", "decay", Decimal(1)), "days without activity"),
        (BreakdownLine("", "", "mean", Decimal(1)), "rounding"),
        (BreakdownLine("", "", "rounding", Decimal(1)), "rounding"),
    ],
)
def test_a_line_has_a_name(line, words):
    assert label_of_line(line) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Demo: 15 points", ""),
        ("Demo: 0.25 points", ""),
        ("Demo: 1 point", ""),
        ("Demo: 3 x 5 points", "3 x 5 points"),
        ("Demo: 15 points, weighted 0.5", "15 points"),
        ("Demo: has demo", ""),
        ("Demo: has budget max, 10 points, weighted 0.2", "has budget max, 10 points"),
        ("other: words", "other: words"),
    ],
)
def test_evidence_repeats_nothing_that_stands_beside_it(text, words):
    assert evidence_to_show(text, "Demo") == words


def event(kind="message_received", source="telegram", at=NOW, **told):
    return {"type": kind, "source": source, "occurred_at": at, "title": None, "url": None} | {
        "details": None,
        **told,
    }


@pytest.mark.parametrize(
    ("cause", "happened", "words"),
    [
        ("event:e", event(details={"text": "Hello\n there"}), "Message received (telegram): Hello there"),
        ("event:e", event("qr_scanned", "qr"), "QR scanned"),
        (
            "event:e",
            event("page_viewed", "web", title="Prices", url="https://x"),
            "Page viewed (web): Prices",
        ),
        ("event:e", event("page_viewed", None, url="https://x/y?utm_source=ads"), "Page viewed: https://x/y"),
        (
            "event:e",
            event("email_opened", "email", details={"message_id": "1", "subject": "Spring"}),
            "E-mail opened: Spring",
        ),
        (
            "event:e",
            event(
                "profile_updated", "crm", details={"fields": {"phone": "+1", "tags": ["a", "b"], "x": None}}
            ),
            "Profile updated (CRM): phone +1, tags a, b",
        ),
        (
            "event:e",
            event("form_submitted", "web", details={"fields": {"phone": "N/A", "x": [""], "city": "Bonn"}}),
            "Form submitted (web): city Bonn",
        ),
        (
            "event:e",
            event(at=NOW - timedelta(hours=3)),
            "Message received (telegram), happened 14 Mar 2026, 10:00",
        ),
        ("event:e", None, "An event (e)"),
        ("due:1773489600000", None, "Time passed"),
        ("model:*:temperature:3", None, "Model temperature, version 3, was published"),
        ("model:acme:other:4", None, "Model other, version 4, was published for acme"),
        ("settings:*:2", None, "Settings, version 2, were published"),
        ("attached:default/v/w#0:2", None, "The events of visitor w were added to this lead"),
        ("detached:default/l/L#0:3", None, "The events of lead L were removed from this lead"),
        ("redirect:m1", event("leads_merged", "crm"), "Leads merged (CRM)"),
        ("redirect:m1", None, "A merge was made or undone (m1)"),
        ("event:***", None, "An event of a person who was erased later"),
        ("attached:***", None, "Events of a person who was erased later were added to this lead"),
        ("something:new", None, "something:new"),
    ],
)
def test_a_cause_in_words(cause, happened, words):
    assert cause_in_words(cause, happened, ENTRY, CLOCK) == words


def test_a_model_that_ends_was_retired():
    gone = ENTRY | {"total": Decimal(0), "bands": {}}
    assert (
        cause_in_words("model:*:temperature:9", None, gone, CLOCK)
        == "Model temperature, version 9, was retired"
    )


def test_a_change_says_which_lines_bands_and_stages_it_brought():
    entry = ENTRY | {
        "previous": Decimal("61.5"),
        "lines": [["engagement", "Messages", "points", 1], ["engagement", "Voice", "points", 4.5]],
    }
    rise = {"model": "temperature", "scale": "temperature", "band": "hot", "previous": "warm"}
    elsewhere = {"model": "composite", "scale": "grade", "band": "B", "previous": "C"}
    stage = {"previous": "new", "stage": "contacted", "reason": "e-mail, SMS or call to the lead"}
    assert list(
        history_lines([ExplainedCause(NOW, "Because", [entry], [stage], [rise, elsewhere])], CLOCK)
    ) == [
        "14 Mar 2026, 13:00  Because",
        "  temperature 61.5 -> 67: Messages +1, Voice +4.5, now hot",
        "  stage new -> contacted: e-mail, SMS or call to the lead",
    ]


def test_a_change_of_bands_alone_says_so():
    entry = ENTRY | {"previous": Decimal(67), "lines": []}
    gone = {"model": "temperature", "scale": "temperature", "band": None, "previous": "hot"}
    told = list(history_lines([ExplainedCause(NOW, "Because", [entry], (), [gone])], CLOCK))
    assert told[1] == "  temperature 67: no longer hot"


def test_a_model_that_sees_a_lead_for_the_first_time_and_knows_nothing_is_not_told():
    entry = ENTRY | {"previous": Decimal(0), "total": Decimal(0), "lines": []}
    first = {"model": "temperature", "scale": "temperature", "band": "cold", "previous": None}
    assert list(history_lines([ExplainedCause(NOW, "Because", [entry], (), [first])], CLOCK)) == [
        "14 Mar 2026, 13:00  Because"
    ]


def passed(hours, previous, total, *lines, band=None):
    at = NOW + timedelta(hours=hours)
    entry = ENTRY | {"previous": Decimal(previous), "total": Decimal(total), "lines": lines}
    bands = [{"model": "temperature", "scale": "temperature", **band}] if band else []
    return ExplainedCause(at, "Time passed", [entry], (), bands, by_time=True)


def test_what_a_group_at_its_limit_gains_is_no_change():
    lines = [["g", "Purchases", "points", 12.5], ["g", "", "group cap", -12.5], ["h", "Replies", "points", 2]]
    entry = ENTRY | {"previous": Decimal(65), "lines": lines}
    told = list(history_lines([ExplainedCause(NOW, "Because", [entry])], CLOCK))
    assert told[1] == "  temperature 65 -> 67: g stays at its limit, Replies +2"


def test_what_time_did_between_two_acts_is_told_at_once():
    recency, swings = ("recency", "Last", "points"), ("g", "Days", "points")
    causes = [
        passed(3, 57, 52, [*recency, -5], [*swings, 1.5], band={"band": "hot", "previous": "warm"}),
        passed(2, 62, 57, [*recency, -5], [*swings, -1.5], band={"band": "warm", "previous": "hot"}),
        passed(1, 67, 62, [*recency, -5]),
        ExplainedCause(NOW, "Because", [ENTRY | {"previous": Decimal(47), "lines": [[*recency, 20]]}]),
        passed(-1, 1, 0, [*recency, -1], band={"band": None, "previous": "cold"}),
    ]
    assert list(history_lines(with_time_merged(causes, CLOCK), CLOCK)) == [
        "14 Mar 2026, 16:00  Time passed, 3 changes since 14 Mar 2026, 14:00",
        "  temperature 67 -> 52: Last -15",
        "14 Mar 2026, 13:00  Because",
        "  temperature 47 -> 67: Last +20",
        "14 Mar 2026, 12:00  Time passed",
        "  temperature 1 -> 0: Last -1, no longer cold",
    ]


@pytest.mark.parametrize(
    ("points", "plain", "with_sign"),
    [("67.000000", "67", "+67"), ("0", "0", "0"), ("-0.250", "-0.25", "-0.25"), ("100", "100", "+100")],
)
def test_numbers_have_no_needless_decimals(points, plain, with_sign):
    assert (points_text(Decimal(points)), signed_points_text(Decimal(points))) == (plain, with_sign)


def test_a_long_text_is_shortened_to_a_line():
    assert shortened_about("a " * 300) == ("a " * 49).rstrip() + "..."
    assert shortened_about("x" * 100) == "x" * 100

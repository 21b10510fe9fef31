"""A lead explained: what each kind of line, cause and number reads like to a person."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from leadstream.operations.explanations import (
    BreakdownLine,
    ExplainedCause,
    ExplainedScore,
    ExplanationClock,
    breakdown_lines,
    cause_in_words,
    evidence_to_show,
    history_lines,
    label_of_line,
    lead_summary,
    points_text,
    shortened_about,
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
    "created_at": NOW - timedelta(days=3),
    "last_interaction_at": NOW - timedelta(hours=2),
    "fields": {},
}
STAGES = [{"stage": "contacted", "at": NOW - timedelta(days=1), "reason": "e-mail, SMS or call to the lead"}]


def test_who_it_is():
    identities = [{"identity": "default/v/tg-1#0"}, {"identity": "default/l/ahmad#0"}]
    assert list(lead_summary(LEAD, STAGES, identities, CLOCK, past=False)) == [
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
    told = list(lead_summary(unknown | {"lead_id": "anon:w", "identified": False}, [], [], CLOCK, past=False))
    assert told == [
        "an anonymous visitor (anon:w)",
        "  Stage: new",
        "  First seen 11 Mar 2026, 13:00 (3 days ago)",
        "  Never active",
    ]


def test_who_does_not_wish_to_be_scored():
    refusing = LEAD | {"fields": {"profiling_consent": False}}
    told = list(lead_summary(refusing, STAGES, [], CLOCK, past=False))
    assert (
        "  Does not wish to be scored (profiling_consent is false): no model and no workflow looks at this lead"
        in told
    )


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
        BreakdownLine("engagement", "QR scans", "points", Decimal(21), "7 x 3 points"),
        BreakdownLine("engagement", "QR scans", "rule cap", Decimal(-6), "QR scans is capped"),
        BreakdownLine("recency", "Last interaction", "points", Decimal("2.5"), ""),
        BreakdownLine("", "", "decay", Decimal("-0.1"), "1 inactive day"),
    ]
    score = ExplainedScore(
        "temperature", Decimal("17.4"), {"temperature": "cold"}, lines, ["Phone", "Budget"]
    )
    assert list(breakdown_lines(score, CLOCK)) == [
        "temperature: 17.4, cold",
        "  engagement",
        "    QR scans                +21  7 x 3 points",
        "    QR scans, limit          -6  QR scans is capped",
        "  recency",
        "    Last interaction       +2.5",
        "  days without activity    -0.1  1 inactive day",
        "  no points for: Phone, Budget",
    ]


def test_a_model_that_knows_nothing_of_the_lead_says_so_in_a_line():
    score = ExplainedScore("chatbot", Decimal(0), {"category": "Unqualified"}, [], ["Opened the chat"])
    assert list(breakdown_lines(score, CLOCK)) == ["chatbot: 0, Unqualified", "  nothing counts yet"]
    waits = score._replace(of_ended_visits=True)
    assert list(breakdown_lines(waits, CLOCK))[1] == "  nothing counts yet; a visit counts when it has ended"


def test_several_sets_of_bands_name_themselves_and_evidence_of_another_moment_is_dated():
    bands = {"grade": "B+", "temperature": "hot", "priority": None}
    score = ExplainedScore("composite", Decimal("77.45"), bands, [], as_of=NOW)
    assert next(breakdown_lines(score, CLOCK)) == (
        "composite: 77.45, grade B+, temperature hot (as of 14 Mar 2026, 13:00)"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (BreakdownLine("g", "QR scans", "points", Decimal(1)), "QR scans"),
        (BreakdownLine("g", "QR scans", "rule cap", Decimal(1)), "QR scans, limit"),
        (BreakdownLine("g", "", "group cap", Decimal(1)), "g, limit"),
        (BreakdownLine("", "", "limit", Decimal(1)), "limit"),
        (BreakdownLine("", "", "decay", Decimal(1)), "days without activity"),
        (BreakdownLine("", "", "mean", Decimal(1)), "rest of the mean"),
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
        ("Demo: 15 points, weighted 0.5", "15 points, weighted 0.5"),
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
        ("event:e", event("qr_scanned", "qr"), "Qr scanned (qr)"),
        (
            "event:e",
            event("page_viewed", "web", title="Prices", url="https://x"),
            "Page viewed (web): Prices",
        ),
        ("event:e", event("page_viewed", None, url="https://x/y"), "Page viewed: https://x/y"),
        (
            "event:e",
            event("email_opened", "email", details={"message_id": "1", "subject": "Spring"}),
            "Email opened (email): Spring",
        ),
        (
            "event:e",
            event(
                "profile_updated", "crm", details={"fields": {"phone": "+1", "tags": ["a", "b"], "x": None}}
            ),
            "Profile updated (crm): phone +1, tags a, b",
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
        ("redirect:m1", event("leads_merged", "crm"), "Leads merged (crm)"),
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
    rise = {"model": "temperature", "band": "hot", "previous": "warm"}
    elsewhere = {"model": "composite", "band": "B", "previous": "C"}
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
    gone = {"model": "temperature", "band": None, "previous": "hot"}
    told = list(history_lines([ExplainedCause(NOW, "Because", [entry], (), [gone])], CLOCK))
    assert told[1] == "  temperature 67 -> 67: no longer hot"


def test_a_model_that_sees_a_lead_for_the_first_time_and_knows_nothing_is_not_told():
    entry = ENTRY | {"previous": Decimal(0), "total": Decimal(0), "lines": []}
    first = {"model": "temperature", "band": "cold", "previous": None}
    assert list(history_lines([ExplainedCause(NOW, "Because", [entry], (), [first])], CLOCK)) == [
        "14 Mar 2026, 13:00  Because"
    ]


def passed(hours, previous, total, *lines, band=None):
    at = NOW + timedelta(hours=hours)
    entry = ENTRY | {"previous": Decimal(previous), "total": Decimal(total), "lines": lines}
    bands = [{"model": "temperature", "scale": "temperature", **band}] if band else []
    return ExplainedCause(at, "Time passed", [entry], (), bands, by_time=True)


def test_what_time_did_between_two_acts_is_told_at_once():
    recency, swings = ("recency", "Last", "points"), ("g", "Days", "points")
    causes = [
        passed(3, 57, 52, [*recency, -5], [*swings, 1.5], band={"band": "hot", "previous": "warm"}),
        passed(2, 62, 57, [*recency, -5], [*swings, -1.5], band={"band": "warm", "previous": "hot"}),
        passed(1, 67, 62, [*recency, -5]),
        ExplainedCause(NOW, "Because", [ENTRY | {"previous": Decimal(0), "lines": [[*recency, 20]]}]),
        passed(-1, 1, 0, [*recency, -1], band={"band": None, "previous": "cold"}),
    ]
    assert list(history_lines(with_time_merged(causes, CLOCK), CLOCK)) == [
        "14 Mar 2026, 16:00  Time passed, 3 times since 14 Mar 2026, 14:00",
        "  temperature 67 -> 52: Last -15",
        "14 Mar 2026, 13:00  Because",
        "  temperature 0 -> 67: Last +20",
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

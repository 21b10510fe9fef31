"""Lead temperature, row by row: engagement 40, qualification 40, recency 20, and the four bands."""

import pytest
from leads_given import DAY_MS, HOUR_MS, IDLE, MINUTE, T0, UTC, features_of, happened, lines, scored, shipped

from scoring.models.model import (
    NEVER,
    ONE_POINT,
    Subject,
    built_in_models,
    compile_model,
    next_visible_time_change,
    score_lead,
)

TEMPERATURE = shipped("temperature")
LONG_AGO = T0 - 100 * DAY_MS
"""Acts of then give no points for recency."""


def points(events, as_of=T0):
    """By rule, without caps, in whole points; and the total."""
    score = scored(TEMPERATURE, events, as_of)
    return {
        rule: each // ONE_POINT for rule, each in lines(TEMPERATURE, score).items()
    }, score.total // ONE_POINT


def total_of(events, as_of=T0):
    return points(events, as_of)[1]


def test_its_three_parts_are_worth_forty_forty_and_twenty_at_most():
    caps = {group.name: group.cap // 1000 for group in TEMPERATURE.groups}
    assert caps == {"engagement": 40, "qualification": 40, "recency": 20}


ENGAGEMENT = {
    # 3 points each, 15 at most; 2 each, 10 at most; 1 each, 10 at most
    "QR scans": ("qr_scanned", [0, 3, 6, 9, 12, 15, 15, 15]),
    "catalog views": ("catalog_viewed", [0, 2, 4, 6, 8, 10, 10, 10]),
    "messages": ("message_received", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]),
}


@pytest.mark.parametrize(
    ("kind", "times", "expected"),
    [
        pytest.param(kind, times, expected, id=f"{times} {row}")
        for row, (kind, column) in ENGAGEMENT.items()
        for times, expected in enumerate(column)
    ],
)
def test_a_row_of_engagement(kind, times, expected):
    assert total_of([happened(kind, LONG_AGO) for _ in range(times)]) == expected


@pytest.mark.parametrize("voices", [1, 2, 5])
def test_any_voice_message_gives_five_points_beside_what_each_counts_as_a_message(voices):
    told = [happened("message_received", LONG_AGO, kind="voice") for _ in range(voices)]
    assert total_of(told) == voices + 5


def test_engagement_is_forty_at_most():
    """15 + 10 + 10 + 5: the rows' own limits come to the group's."""
    kinds = ("qr_scanned", "catalog_viewed", "message_received")
    told = [happened(kind, LONG_AGO) for kind in kinds for _ in range(50)]
    assert total_of([*told, happened("message_received", LONG_AGO, kind="voice")]) == 40


QUALIFICATION = {
    "phone": 10,
    "budget": 10,
    "budget_min": 10,
    "budget_max": 10,
    "transaction_type": 5,
    "property_type": 5,
    "location": 5,
    "payment_method": 5,
}


@pytest.mark.parametrize(("field", "expected"), QUALIFICATION.items())
def test_a_row_of_qualification(field, expected):
    told = happened("profile_updated", fields={field: "given"})
    assert total_of([told]) == expected
    assert total_of([told, told]) == expected
    assert total_of([happened("profile_updated", fields={field: " "})]) == 0
    assert total_of([told, happened("profile_updated", T0 + 1, fields={field: None})], T0 + 1) == 0


def test_a_budget_counts_once_however_it_is_given():
    fields = {"budget": 1, "budget_min": 1, "budget_max": 2}
    assert total_of([happened("profile_updated", fields=fields)]) == 10


def test_qualification_is_forty_at_most():
    told = happened("profile_updated", fields=dict.fromkeys(QUALIFICATION, "given"))
    assert total_of([told]) == 40


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        # under an hour
        (0, 20),
        (HOUR_MS - 1, 20),
        # under 6 hours
        (HOUR_MS, 15),
        (HOUR_MS + 1, 15),
        (6 * HOUR_MS - 1, 15),
        # under 24 hours
        (6 * HOUR_MS, 10),
        (6 * HOUR_MS + 1, 10),
        (24 * HOUR_MS - 1, 10),
        # under 72 hours
        (24 * HOUR_MS, 5),
        (24 * HOUR_MS + 1, 5),
        (72 * HOUR_MS - 1, 5),
        # longer ago
        (72 * HOUR_MS, 0),
        (72 * HOUR_MS + 1, 0),
        (90 * DAY_MS, 0),
    ],
)
def test_a_row_of_recency(ago, expected):
    """Of the last thing the person did: a product click counts for nothing else here."""
    told = [happened("product_clicked", LONG_AGO), happened("product_clicked", T0 - ago)]
    assert points(told)[0] == ({"Last interaction": expected} if expected else {})


def test_who_never_did_anything_was_never_heard_of():
    assert total_of([happened("profile_updated", fields={}), happened("email_sent")]) == 0


def test_each_step_of_recency_is_due_at_its_very_moment():
    subject = Subject(features_of([happened("product_clicked")], [TEMPERATURE]))
    dues, at = [], T0
    while (at := next_visible_time_change(TEMPERATURE, subject, at, UTC, IDLE)) < NEVER:
        dues.append(
            ((at - T0) // HOUR_MS, score_lead(TEMPERATURE, subject, at, UTC, IDLE).total // ONE_POINT)
        )
    assert dues == [(1, 15), (6, 10), (24, 5), (72, 0)]


def test_a_perfect_lead_has_a_hundred():
    kinds = ("qr_scanned", "catalog_viewed", "message_received")
    told = [happened(kind) for kind in kinds for _ in range(50)]
    told += [happened("message_received", kind="voice")]
    told += [happened("profile_updated", fields=dict.fromkeys(QUALIFICATION, "given"))]
    assert total_of(told) == 100
    assert scored(TEMPERATURE, told).bands["temperature"] == "burning"


@pytest.mark.parametrize(
    ("total", "band"),
    [
        (0, "cold"),
        (24, "cold"),
        (24.499, "cold"),
        (25, "warm"),
        (26, "warm"),
        (49, "warm"),
        (49.499, "warm"),
        (50, "hot"),
        (51, "hot"),
        (69, "hot"),
        (69.499, "hot"),
        (70, "burning"),
        (71, "burning"),
        (100, "burning"),
    ],
)
def test_the_bands(total, band):
    head = built_in_models()["temperature"].partition("[signals]")[0]
    given = compile_model(head + f'[groups.g]\nrules = [{{ name = "given", base = {total} }}]')
    assert scored(given, []).bands["temperature"] == band


def test_the_first_message_scores_by_the_formula_and_not_by_the_old_log_line():
    """The guide's log line says 11; a message 1 and an hour's recency 20 are 21."""
    assert total_of([happened("message_received", text="Hello")]) == 21


def test_the_checklists_lead_scores_by_the_formula_and_not_by_its_comment():
    """Five messages 5, two scans 6, phone 10, budget 10 are 31; the comment says 35. Heard from now: 51."""
    told = [happened("message_received") for _ in range(5)] + [happened("qr_scanned") for _ in range(2)]
    told += [happened("profile_updated", fields={"phone": "+971501234567", "budget_max": 2_000_000})]
    assert total_of(told) == 51
    assert total_of(told, T0 + 72 * HOUR_MS) == 31
    assert scored(TEMPERATURE, told, T0 + 72 * HOUR_MS).bands["temperature"] == "warm"


EXPO = [
    # the guide's engagement and qualification points, and 20 of recency at every step
    (0, happened("qr_scanned", T0), 3),
    (5, happened("catalog_viewed", T0 + 5 * MINUTE), 5),
    (10, happened("message_received", T0 + 10 * MINUTE, text="I'm interested in 2BR"), 6),
    (10, happened("contact_shared", T0 + 10 * MINUTE, phone="+971501234567"), 16),
    (15, happened("profile_updated", T0 + 15 * MINUTE, fields={"budget_max": 2_000_000}), 26),
    (
        20,
        happened(
            "profile_updated",
            T0 + 20 * MINUTE,
            fields={"property_type": "2BR", "location": "Dubai Marina", "transaction_type": "buy"},
        ),
        41,
    ),
    (25, happened("message_received", T0 + 25 * MINUTE, kind="voice"), 47),
]


def test_the_expo_visitors_points_without_recency_are_the_guides():
    for step, (minute, _, expected) in enumerate(EXPO, 1):
        told = [event for _, event, _ in EXPO[:step]]
        given, total = points(told, T0 + minute * MINUTE)
        assert total - given["Last interaction"] == expected
        assert given["Last interaction"] == 20

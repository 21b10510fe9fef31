"""The five components of the composite score, row by row, and its grades and temperatures.

A component's line carries its points times the component's weight; the tables give the points.
"""

from decimal import Decimal

import pytest
from leads_given import DAY_MS, T0, UTC, happened, scored, shipped

from scoring.models.model import ONE_POINT, built_in_models, compile_model, rounded_points

COMPOSITE = shipped("composite")
WEIGHTS = {
    "demographic": Decimal("0.20"),
    "behavioral": Decimal("0.25"),
    "firmographic": Decimal("0.15"),
    "engagement": Decimal("0.25"),
    "intent": Decimal("0.15"),
}
START_OF_TODAY = UTC.start_of(UTC.day_of(T0))


def components(events, as_of=T0, stage="lost"):
    """Points by component, before its weight; `lost` gives no stage points."""
    given = dict.fromkeys(WEIGHTS, Decimal(0))
    for slot, points in zip(
        COMPOSITE.line_labels, scored(COMPOSITE, events, as_of, stage).vector, strict=True
    ):
        if slot.group:
            given[slot.group] += Decimal(points) / ONE_POINT / WEIGHTS[slot.group]
    return given


def points_of(rule, events, as_of=T0, stage="lost"):
    """What a rule gives after its own cap and before its component's cap and weight."""
    vector = scored(COMPOSITE, events, as_of, stage).vector
    mine = [
        (slot, points)
        for slot, points in zip(COMPOSITE.line_labels, vector, strict=True)
        if slot.rule == rule
    ]
    return sum(Decimal(points) / ONE_POINT / WEIGHTS[slot.group] for slot, points in mine)


def profile(at=T0, /, **fields):
    return happened("profile_updated", at, fields=fields)


def bought(at=T0):
    return happened("purchase_made", at, value=Decimal(1), currency="EUR")


def some(kind, times=1, at=T0):
    return [bought(at) if kind == "purchase_made" else happened(kind, at) for _ in range(times)]


def test_the_components_weigh_twenty_twentyfive_fifteen_twentyfive_and_fifteen_hundredths():
    assert {group.name: Decimal(group.weight) / 1000 for group in COMPOSITE.groups} == WEIGHTS
    assert all(group.cap == 100_000 for group in COMPOSITE.groups)


DEMOGRAPHIC = {
    "email": 15,
    "first_name": 10,
    "last_name": 10,
    "phone": 15,
    "location": 10,
    "customer_type": 20,
    "sport_type": 10,
    "interests": 10,
}


@pytest.mark.parametrize(("field", "expected"), DEMOGRAPHIC.items())
def test_a_row_of_demographic(field, expected):
    assert components([profile(**{field: "given"})])["demographic"] == expected
    assert components([profile(**{field: ""})])["demographic"] == 0


def test_a_full_profile_is_worth_a_hundred():
    assert components([profile(**dict.fromkeys(DEMOGRAPHIC, "given"))])["demographic"] == 100


BEHAVIORAL = {
    "email_opened": ("Emails opened", 2),
    "email_clicked": ("Emails clicked", 5),
    "email_replied": ("Emails replied", 10),
    "form_submitted": ("Forms submitted", 15),
    "page_viewed": ("Pages viewed", 1),
    "content_downloaded": ("Downloads", 8),
    "meeting_scheduled": ("Meetings scheduled", 20),
    "purchase_made": ("Purchases", 50),
}


@pytest.mark.parametrize("times", [0, 1, 2, 7])
@pytest.mark.parametrize(("kind", "row"), BEHAVIORAL.items())
def test_a_row_of_behavioral_counts_each_time(kind, row, times):
    rule, each = row
    assert points_of(rule, some(kind, times)) == each * times


@pytest.mark.parametrize(("days", "expected"), [(0, 0), (1, 1), (2, 2), (9, 9), (10, 10), (11, 10), (30, 10)])
def test_the_frequency_bonus_is_a_point_for_each_active_day_and_ten_at_most(days, expected):
    told = [happened("product_clicked", T0 - day * DAY_MS) for day in range(days) for _ in range(3)]
    assert points_of("Active days", told) == expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [(START_OF_TODAY - 29 * DAY_MS, 1), (START_OF_TODAY - 29 * DAY_MS - 1, 0), (START_OF_TODAY, 1), (T0, 1)],
)
def test_active_days_are_those_of_the_last_thirty_today_included(at, expected):
    assert points_of("Active days", [happened("product_clicked", at)]) == expected


@pytest.mark.parametrize(("pages", "expected"), [(98, 99), (99, 100), (100, 100), (300, 100)])
def test_behavioral_is_a_hundred_at_most(pages, expected):
    """Each page a point, and one for the day."""
    assert components(some("page_viewed", pages))["behavioral"] == expected


FIRMOGRAPHIC = [
    ({}, 50),
    ({"location": "Berlin"}, 70),
    ({"location": " dubai "}, 70),
    ({"location": "Paris"}, 50),
    ({"customer_type": "coach"}, 65),
    ({"customer_type": "team"}, 65),
    ({"customer_type": "bike_fitter"}, 60),
    ({"customer_type": "athlete"}, 55),
    ({"customer_type": "somebody else"}, 50),
    ({"source": "referral"}, 65),
    ({"source": "partner"}, 65),
    ({"source": "ads"}, 60),
    ({"source": "form"}, 60),
    ({"source": "elsewhere"}, 50),
    ({"location": "Dubai", "customer_type": "team", "source": "referral"}, 100),
]


@pytest.mark.parametrize(("fields", "expected"), FIRMOGRAPHIC, ids=str)
def test_a_row_of_firmographic(fields, expected):
    assert components([profile(**fields)])["firmographic"] == expected


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        # under 7 days
        (0, 40),
        (7 * DAY_MS - 1, 40),
        # under 30 days
        (7 * DAY_MS, 30),
        (7 * DAY_MS + 1, 30),
        (30 * DAY_MS - 1, 30),
        # under 90 days
        (30 * DAY_MS, 20),
        (30 * DAY_MS + 1, 20),
        (90 * DAY_MS - 1, 20),
        # 90 days and more
        (90 * DAY_MS, 10),
        (90 * DAY_MS + 1, 10),
        (3_000 * DAY_MS, 10),
    ],
)
def test_a_row_of_contact_recency(ago, expected):
    assert components([happened("product_clicked", T0 - ago)])["engagement"] == expected


def test_who_was_never_in_contact_has_no_recency():
    assert components([happened("email_sent"), happened("call_made")])["engagement"] == 0


@pytest.mark.parametrize(
    ("email", "sms", "expected"),
    [
        (None, None, 0),
        (True, None, 30),
        (None, True, 15),
        (True, True, 45),
        (False, False, 0),
        (False, True, 15),
    ],
)
def test_consent(email, sms, expected):
    assert components([happened("consent_changed", email=email, sms=sms)])["engagement"] == expected


def test_consent_that_was_taken_back_counts_no_more():
    told = [happened("consent_changed", T0 - 1, email=True), happened("consent_changed", T0, email=False)]
    assert components(told)["engagement"] == 0


STAGES = {
    # engagement, intent
    "new": (10, 0),
    "contacted": (20, 0),
    "qualified": (40, 20),
    "engaged": (60, 30),
    "opportunity": (80, 40),
    "customer": (100, 0),
    "recycled": (0, 0),
    "disqualified": (0, 0),
    "churned": (0, 0),
    "lost": (0, 0),
}


@pytest.mark.parametrize(("stage", "expected"), STAGES.items())
def test_a_stage_gives_points_for_engagement_and_for_intent(stage, expected):
    given = components([], stage=stage)
    assert (given["engagement"], given["intent"]) == expected


def test_engagement_is_a_hundred_at_most():
    """Recency 40, consent 45, and a customer's 100."""
    told = [happened("product_clicked"), happened("consent_changed", email=True, sms=True)]
    assert components(told, stage="new")["engagement"] == 95
    assert components(told, stage="contacted")["engagement"] == 100
    assert components(told, stage="customer")["engagement"] == 100


HIGH_INTENT = ["demo_requested", "meeting_scheduled", "form_submitted", "purchase_made", "cta_clicked"]


@pytest.mark.parametrize("kind", HIGH_INTENT)
@pytest.mark.parametrize(("times", "expected"), [(0, 0), (1, 15), (2, 30), (3, 45), (4, 50), (5, 50)])
def test_a_high_intent_act_gives_fifteen_points_and_fifty_at_most(kind, times, expected):
    assert components(some(kind, times))["intent"] == expected


def test_high_intent_acts_of_different_kinds_add_up():
    assert (
        components([*some("demo_requested"), *some("cta_clicked"), *some("form_submitted")])["intent"] == 45
    )


@pytest.mark.parametrize(
    ("at", "expected"),
    [(START_OF_TODAY - 29 * DAY_MS, 15), (START_OF_TODAY - 29 * DAY_MS - 1, 0), (START_OF_TODAY, 15)],
)
def test_high_intent_is_of_the_last_thirty_days(at, expected):
    assert components(some("cta_clicked", at=at))["intent"] == expected


@pytest.mark.parametrize(
    ("emails", "messages", "expected"),
    [(1, 0, 10), (0, 1, 10), (1, 1, 20), (2, 1, 30), (3, 0, 30), (0, 4, 30), (9, 9, 30)],
)
def test_a_recent_reply_gives_ten_points_and_thirty_at_most(emails, messages, expected):
    assert components(some("email_replied", emails) + some("sms_replied", messages))["intent"] == expected


@pytest.mark.parametrize("kind", ["email_replied", "sms_replied"])
@pytest.mark.parametrize(
    ("at", "expected"),
    [(START_OF_TODAY - 13 * DAY_MS, 10), (START_OF_TODAY - 13 * DAY_MS - 1, 0), (START_OF_TODAY, 10)],
)
def test_replies_are_of_the_last_fourteen_days(kind, at, expected):
    assert components(some(kind, at=at))["intent"] == expected


def test_intent_is_a_hundred_at_most():
    """50 and 30, and by stage 20, 30 or 40."""
    told = some("cta_clicked", 4) + some("email_replied", 3)
    by_stage = {stage: components(told, stage=stage)["intent"] for stage in STAGES}
    assert by_stage["new"] == 80
    assert [by_stage[stage] for stage in ("qualified", "engaged", "opportunity")] == [100, 100, 100]


HEAD = built_in_models()["composite"].partition("[groups.")[0]


def given_total(total):
    """The shipped bands and decay, and a total that is given."""
    return compile_model(f'{HEAD}[groups.g]\nrules = [{{ name = "given", base = {total} }}]')


GRADES = {90: ("A", "A+"), 80: ("B+", "A"), 70: ("B", "B+"), 60: ("C+", "B"), 50: ("C", "C+"), 40: ("D", "C")}
TEMPERATURES = {75: ("warm", "hot"), 50: ("cold", "warm")}


@pytest.mark.parametrize(
    ("scale", "threshold", "below", "from_there"),
    [
        pytest.param(scale, threshold, *bands, id=f"{scale} {threshold}")
        for scale, table in (("grade", GRADES), ("temperature", TEMPERATURES))
        for threshold, bands in table.items()
    ],
)
def test_a_grade_and_a_temperature_begin_at_their_threshold(scale, threshold, below, from_there):
    """Of the rounded total: half a point below is there, a thousandth less is not."""
    for total, expected in {
        threshold - 1: below,
        threshold - Decimal("0.501"): below,
        threshold - Decimal("0.5"): from_there,
        threshold: from_there,
        threshold + 1: from_there,
    }.items():
        assert scored(given_total(total), []).bands[scale] == expected


@pytest.mark.parametrize("total", [0, 100])
def test_the_ends_of_the_scale_have_a_grade_and_a_temperature(total):
    bands = {0: {"grade": "D", "temperature": "cold"}, 100: {"grade": "A+", "temperature": "hot"}}
    assert scored(given_total(total), []).bands == bands[total]


@pytest.mark.parametrize(
    ("days", "total"),
    [(0, "77.45"), (1, "77.35"), (9, "76.55"), (10, "76.45"), (100, "67.45"), (774, "0.05"), (775, "0")],
)
def test_each_inactive_day_takes_a_tenth_of_a_point_down_to_nothing(days, total):
    model = given_total("77.45")
    told = [happened("product_clicked")]
    assert scored(model, told, T0 + days * DAY_MS).total == int(Decimal(total) * ONE_POINT)
    assert scored(model, told, T0 + (days + 1) * DAY_MS - 1).total == int(Decimal(total) * ONE_POINT)


EXAMPLE = {"demographic": 85, "behavioral": 72, "firmographic": 65, "engagement": 90, "intent": 68}


def test_the_example_components_weigh_77_45_and_the_board_says_77():
    """17 + 18 + 9.75 + 22.5 + 10.2; the example prints 78."""
    groups = "\n".join(
        f'[groups.{name}]\nweight = {weight}\nmax = 100\nrules = [{{ name = "given", base = {EXAMPLE[name]} }}]'
        for name, weight in WEIGHTS.items()
    )
    model = compile_model(HEAD + groups)
    score = scored(model, [])
    weighed = [p for slot, p in zip(model.line_labels, score.vector, strict=True) if slot.rule]
    assert weighed == [17 * ONE_POINT, 18 * ONE_POINT, 9_750_000, 22_500_000, 10_200_000]
    assert (score.total, rounded_points(score.total)) == (77_450_000, 77)
    assert score.bands == {"grade": "B+", "temperature": "hot"}

"""The five shipped models against the numbers of their requirements, worked by hand."""

from decimal import Decimal

import pytest
from leads_given import (
    DAY_MS,
    HOUR_MS,
    IDLE,
    MINUTE,
    T0,
    UTC,
    features_of,
    happened,
    lines,
    scored,
    shipped,
    visit,
    visits,
)

from scoring.features.features import Features
from scoring.models.model import (
    NEVER,
    ONE_POINT,
    Subject,
    built_in_models,
    compile_model,
    next_visible_time_change,
    rounded_points,
    score_lead,
    score_session,
)


def mean_of(*sessions):
    return score_lead(shipped("web_session"), Subject(visits(*sessions)), T0 + DAY_MS, UTC, IDLE)


def test_five_models_are_shipped():
    assert sorted(built_in_models()) == ["chatbot", "composite", "rules", "temperature", "web_session"]


@pytest.mark.parametrize(
    ("session", "duration", "pages", "clicks", "total"),
    [
        (visit(480, 4, 3, 1), 35, 20, 11, 66),
        (visit(720, 6, 5, 2), 40, 30, 20, 90),
        (visit(45, 1, 1, 0), 5, 5, 2, 12),
    ],
    ids=["high engagement", "very high engagement", "low engagement"],
)
def test_web_session_example_scenarios(session, duration, pages, clicks, total):
    model = shipped("web_session")
    score = score_session(model, session)
    by_group = dict.fromkeys(("duration", "pages", "clicks"), 0)
    for slot, points in zip(model.line_labels, score.vector, strict=True):
        if slot.group:
            by_group[slot.group] += points
    assert by_group == {
        "duration": duration * ONE_POINT,
        "pages": pages * ONE_POINT,
        "clicks": clicks * ONE_POINT,
    }
    assert score.total == total * ONE_POINT == sum(score.vector)


@pytest.mark.parametrize(
    ("seconds", "points"),
    [
        (0, 5),
        (59, 5),
        (60, 15),
        (179, 15),
        (180, 25),
        (299, 25),
        (300, 35),
        (599, 35),
        (600, 40),
        (86_400, 40),
    ],
)
def test_time_on_site_is_worth_more_in_steps(seconds, points):
    assert score_session(shipped("web_session"), visit(seconds, 0, 0, 0)).total == points * ONE_POINT


def test_pages_and_clicks_are_capped_at_thirty_each():
    assert score_session(shipped("web_session"), visit(0, 7, 0, 0)).total == 35 * ONE_POINT
    assert score_session(shipped("web_session"), visit(0, 0, 14, 1)).total == 35 * ONE_POINT


def test_a_lead_has_the_mean_of_its_sessions():
    score = mean_of(visit(480, 4, 3, 1), visit(720, 6, 5, 2), visit(45, 1, 1, 0))
    assert score.total == 56 * ONE_POINT == sum(score.vector)


def test_a_mean_is_rounded_half_up():
    """(66 + 12 + 12 + 12) / 4 = 25.5; (66 + 12 + 12) / 3 = 30; (90 + 12 + 12 + 12 + 12) / 5 = 27.6."""
    high, higher, low = visit(480, 4, 3, 1), visit(720, 6, 5, 2), visit(45, 1, 1, 0)
    assert mean_of(high, low, low, low).total == 26 * ONE_POINT
    assert mean_of(high, low, low).total == 30 * ONE_POINT
    assert mean_of(higher, low, low, low, low).total == 28 * ONE_POINT
    assert mean_of(high, higher, low, low, low, low, low).total == 31 * ONE_POINT  # 216 / 7 = 30.86
    assert mean_of(high, high, low, low, low, low, low).total == 27 * ONE_POINT  # 192 / 7 = 27.43


def test_a_chat_of_eighty_points_is_an_sql():
    """Opened 5, five questions 25, completed 10, contact 10, demo 15, three quick replies 15."""
    answers = ["Retail", "Mumbai", "1-5", "Yes", "Next month"]
    took = [20, 60, 119, 120, 600]
    chat = [
        happened("session_started", source="chatbot"),
        *(
            happened(
                "question_answered", source="chatbot", question_id=str(i), text=text, time_taken_s=seconds
            )
            for i, (text, seconds) in enumerate(zip(answers, took, strict=True))
        ),
        happened("questions_completed", source="chatbot"),
        happened("contact_shared", source="chatbot", email="a@example.com"),
        happened("demo_requested", source="chatbot"),
    ]
    model = shipped("chatbot")
    score = scored(model, chat)
    assert score.bands == {"category": "SQL"}
    assert score.total == 80 * ONE_POINT
    assert lines(model, score) == {
        "Opened the chat": 5 * ONE_POINT,
        "Questions answered": 25 * ONE_POINT,
        "All questions answered": 10 * ONE_POINT,
        "Shared contact": 10 * ONE_POINT,
        "Asked for a demo": 15 * ONE_POINT,
        "Quick replies": 15 * ONE_POINT,
    }


@pytest.mark.parametrize(
    ("events", "total", "band"),
    [
        (["demo_requested", "contact_shared", "session_started"], 30, "MQL"),
        (["demo_requested", "contact_shared"], 25, "Unqualified"),
        (
            ["demo_requested", "cta_clicked", "questions_completed", "contact_shared", "session_started"],
            55,
            "MQL",
        ),
        (
            [
                "demo_requested",
                "cta_clicked",
                "questions_completed",
                "contact_shared",
                "session_started",
                "greeting_replied",
            ],
            60,
            "SQL",
        ),
    ],
)
def test_chat_categories_begin_at_thirty_and_sixty(events, total, band):
    score = scored(shipped("chatbot"), [happened(event, source="chatbot") for event in events])
    assert (score.total, score.bands) == (total * ONE_POINT, {"category": band})


TIMELINE = [
    (0, "qr_scanned", {}, 23),
    (5, "catalog_viewed", {}, 25),
    (10, "message_received", {}, 26),
    (11, "profile_updated", {"fields": {"phone": "+971501234567"}}, 36),
    (15, "profile_updated", {"fields": {"budget_max": 2_000_000}}, 46),
    (
        20,
        "profile_updated",
        {"fields": {"property_type": "2BR", "location": "Dubai Marina", "transaction_type": "buy"}},
        61,
    ),
    (25, "message_received", {"kind": "voice"}, 67),
]
LAST = T0 + 25 * MINUTE


def test_the_expo_visitor_warms_up_step_by_step():
    model, events, seen = shipped("temperature"), [], []
    for minute, kind, fields, _ in TIMELINE:
        events.append(happened(kind, T0 + minute * MINUTE, **fields))
        seen.append(scored(model, events, T0 + minute * MINUTE).total)
    assert seen == [expected * ONE_POINT for *_, expected in TIMELINE]
    assert scored(model, events, LAST).bands["temperature"] == "hot"


def test_the_expo_visitor_cools_down_at_1_6_24_and_72_hours():
    model = shipped("temperature")
    events = [happened(kind, T0 + minute * MINUTE, **fields) for minute, kind, fields, _ in TIMELINE]
    subject = Subject(features_of(events, [model]))
    dues, at = [], LAST
    while (at := next_visible_time_change(model, subject, at, UTC, IDLE)) < NEVER:
        dues.append(at - LAST)
    assert dues == [HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS, 72 * HOUR_MS]
    totals = [score_lead(model, subject, LAST + after, UTC, IDLE).total // ONE_POINT for after in dues]
    assert totals == [62, 57, 52, 47]
    assert score_lead(model, subject, LAST + 72 * HOUR_MS, UTC, IDLE).bands["temperature"] == "warm"
    assert score_lead(model, subject, LAST + 72 * HOUR_MS - 1, UTC, IDLE).bands["temperature"] == "hot"


@pytest.mark.parametrize(
    ("event", "times", "points"),
    [("qr_scanned", 5, 15), ("qr_scanned", 6, 15), ("catalog_viewed", 6, 10), ("message_received", 11, 10)],
)
def test_engagement_counts_are_capped(event, times, points):
    score = scored(shipped("temperature"), [happened(event) for _ in range(times)], T0 + 100 * HOUR_MS)
    assert score.total == points * ONE_POINT


@pytest.mark.parametrize(
    ("total", "band"),
    [(70, "burning"), (69, "hot"), (50, "hot"), (49, "warm"), (25, "warm"), (24, "cold"), (0, "cold")],
)
def test_temperature_bands_begin_at_their_thresholds(total, band):
    text = built_in_models()["temperature"]
    rest = text[: text.index("[signals]")]
    given = compile_model(rest + f'[groups.g]\nrules = [{{ name = "given", base = {total} }}]')
    assert scored(given, []).bands["temperature"] == band


COMPONENTS = {"demographic": 85, "behavioral": 72, "firmographic": 65, "engagement": 90, "intent": 68}


def weighed(components):
    """The composite model with its weights, its components given as they are."""
    shipped_text = built_in_models()["composite"]
    head = shipped_text[: shipped_text.index("[groups.")]
    model = shipped("composite")
    groups = [
        f"[groups.{group.name}]\nweight = {group.weight / 1000}\nmax = 100\n"
        f'rules = [{{ name = "given", base = {components[group.name]} }}]'
        for group in model.groups
    ]
    return compile_model(head + "\n".join(groups))


def test_five_components_weigh_77_45():
    """85 x .20 + 72 x .25 + 65 x .15 + 90 x .25 + 68 x .15"""
    score = scored(weighed(COMPONENTS), [happened("page_viewed")])
    assert score.total == 77_450_000 == sum(score.vector)
    assert rounded_points(score.total) == 77
    assert score.bands == {"grade": "B+", "temperature": "hot"}


def test_an_inactive_lead_loses_a_tenth_a_day_and_says_so_when_the_rounded_total_changes():
    """77.45 rounds to 76 from the tenth day (76.45), to 74 and warm from the thirtieth (74.45)."""
    model = weighed(COMPONENTS)
    subject = Subject(features_of([happened("page_viewed")]))
    assert next_visible_time_change(model, subject, T0, UTC, IDLE) == T0 + 10 * DAY_MS
    assert score_lead(model, subject, T0 + 25 * DAY_MS, UTC, IDLE).total == 74_950_000
    assert score_lead(model, subject, T0 + 29 * DAY_MS, UTC, IDLE).bands["temperature"] == "hot"
    assert score_lead(model, subject, T0 + 30 * DAY_MS, UTC, IDLE).bands["temperature"] == "warm"
    assert next_visible_time_change(model, subject, T0 + 20 * DAY_MS, UTC, IDLE) == T0 + 30 * DAY_MS


def test_composite_components_from_what_a_lead_did():
    """Demographic 10+10+15+10+20+10+10; behavioral 50+15+5+1 and one active day; engagement 40+30 and stage 20."""
    profile = {
        "first_name": "A",
        "last_name": "B",
        "phone": "1",
        "location": "Dubai",
        "customer_type": "athlete",
        "sport_type": "run",
        "interests": ["bikes"],
    }
    events = [
        happened("profile_updated", fields=profile),
        happened("consent_changed", email=True, sms=False),
        *(happened(kind) for kind in ("form_submitted", "email_clicked", "page_viewed")),
        happened("purchase_made", value=Decimal(10), currency="EUR"),
    ]
    model = shipped("composite")
    score = scored(model, events, stage="contacted")
    by_group = dict.fromkeys(COMPONENTS, 0)
    for slot, points in zip(model.line_labels, score.vector, strict=True):
        if slot.group:
            by_group[slot.group] += points
    assert by_group == {
        "demographic": 85 * 200_000,
        "behavioral": 72 * 250_000,
        "firmographic": (50 + 20 + 5 + 10) * 150_000,
        "engagement": 90 * 250_000,
        "intent": 30 * 150_000,
    }


def test_each_composite_component_is_capped_at_a_hundred():
    model = shipped("composite")
    events = [happened("email_replied") for _ in range(30)]
    score = scored(model, events, stage="customer")
    assert lines(model, score)["behavioral"] == (100 - 301) * 250_000
    assert lines(model, score)["engagement"] == (100 - 140) * 250_000


@pytest.mark.parametrize(
    ("total", "grade", "temperature"),
    [
        (90, "A+", "hot"),
        (89.499, "A", "hot"),
        (89.5, "A+", "hot"),
        (79, "B+", "hot"),
        (75, "B+", "hot"),
        (74.499, "B+", "warm"),
        (69, "B", "warm"),
        (59, "C+", "warm"),
        (50, "C+", "warm"),
        (49, "C", "cold"),
        (39, "D", "cold"),
        (0, "D", "cold"),
    ],
)
def test_grade_and_temperature_follow_the_rounded_total(total, grade, temperature):
    score = scored(weighed(dict.fromkeys(COMPONENTS, total)), [])
    assert score.total == round(total * 1000) * 1000
    assert score.bands == {"grade": grade, "temperature": temperature}


QUALIFIED = {
    "email": "a@gmail.com",
    "company": "Acme",
    "phone": "1",
    "title": "Managing Director",
    "company_size": "51-200",
    "industry": "saas",
}


def test_rules_add_up_positive_and_negative():
    """20 + 15 + 10 (opens) + 10 (new) + 15 (director) - 5 (free mailbox) = 65; SQL lacks its actions."""
    events = [
        happened("profile_updated", fields=QUALIFIED),
        *(happened("email_opened", T0 + i) for i in range(4)),
        happened("form_submitted"),
    ]
    model = shipped("rules")
    score = scored(model, events, T0 + 4)
    assert score.total == 65 * ONE_POINT
    assert score.bands == {"stage": "mql"}
    subject = Subject(features_of(events, [model]))
    assert next_visible_time_change(model, subject, T0 + 4, UTC, IDLE) == T0 + 30 * DAY_MS


def test_an_sql_has_the_points_the_fields_and_the_actions():
    events = [
        happened("profile_updated", fields=QUALIFIED),
        *(happened("email_opened") for _ in range(4)),
        happened("email_clicked"),
        happened("demo_requested"),
    ]
    model = shipped("rules")
    score = scored(model, events)
    assert score.total == (65 + 25) * ONE_POINT
    assert score.bands == {"stage": "hot"}
    without_industry = [happened("profile_updated", fields=QUALIFIED | {"industry": "mining"}), *events[1:]]
    score = scored(model, without_industry)
    assert (score.total, score.bands) == (70 * ONE_POINT, {"stage": "sql"})


def test_rules_are_clamped_to_0_and_100_and_the_clamp_is_a_line():
    model = shipped("rules")
    quiet = [happened("profile_updated", T0 - 90 * DAY_MS, fields={"email": "a@yahoo.com"})]
    quiet += [happened("page_viewed", T0 - 90 * DAY_MS)]
    score = scored(model, quiet)
    assert lines(model, score) == {
        "Free mailbox": -5 * ONE_POINT,
        "Gone quiet": -15 * ONE_POINT,
        "limit": 20 * ONE_POINT,
    }
    assert score.total == 0


def test_a_lead_that_did_nothing_scores_what_a_model_gives_everybody():
    """Composite: the firmographic base, and the points of a new lead's stage: 50 x .15 + 10 x .25."""
    subject = Subject(Features())
    totals = {
        name: score_lead(shipped(name), subject, T0, UTC, IDLE).total / ONE_POINT
        for name in built_in_models()
    }
    assert totals == {"chatbot": 0, "composite": 10, "rules": 0, "temperature": 0, "web_session": 0}

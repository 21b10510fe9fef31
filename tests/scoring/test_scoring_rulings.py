"""Where two readers would compute different numbers: one test for each ruling about scores."""

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

from schemas.envelope import Campaign, Context, TrafficOrigin
from scoring.features.calendar import calendar
from scoring.features.features import put_session
from scoring.features.signals import EFFECT_BY_EVENT_TYPE
from scoring.models.model import (
    NEVER,
    ONE_POINT,
    Subject,
    compile_model,
    next_visible_time_change,
    rounded_points,
    score_lead,
    score_session,
)
from scoring.models.phrases import trend_of


def model_of(*rules, head="", groups="g"):
    return compile_model(f'model = "m"\n{head}\n[groups.{groups}]\nrules = [{", ".join(rules)}]')


def counting(phrase):
    return model_of(f'{{ name = "n", each = "{phrase}", points = 1 }}')


def points_of(model, events, as_of=T0, stage="new", zone=UTC):
    return Decimal(scored(model, events, as_of, stage, zone).total) / ONE_POINT


def test_chatbot_counts_only_what_came_through_the_chatbot():
    kinds = ["session_started", "greeting_replied", "demo_requested", "cta_clicked", "product_clicked"]
    kinds += ["contact_shared", "questions_completed"]
    elsewhere = [happened(kind, source=source) for kind in kinds for source in ("web", "telegram", "crm")]
    elsewhere += [
        happened("question_answered", source="web", question_id="1", text="a long answer", time_taken_s=1.0)
    ]
    assert points_of(shipped("chatbot"), elsewhere) == 0
    assert points_of(shipped("chatbot"), [happened(kind, source="chatbot") for kind in kinds]) == 65


def test_an_answer_counts_once_per_question():
    answers = [
        happened("question_answered", source="chatbot", question_id="1", text="Retail") for _ in range(3)
    ]
    assert points_of(shipped("chatbot"), answers) == 5


def test_quick_and_detailed_count_once_per_question_if_any_of_its_answers_qualifies():
    def answer(question, text, seconds):
        return happened(
            "question_answered", source="chatbot", question_id=question, text=text, time_taken_s=seconds
        )

    slow_then_quick = [answer("1", "x", 500.0), answer("1", "x", 10.0), answer("1", "x", 20.0)]
    assert points_of(shipped("chatbot"), slow_then_quick) == 5 + 5
    short_then_detailed = [
        answer("1", "x", 500.0),
        answer("1", "eleven char", 500.0),
        answer("1", "y", 900.0),
    ]
    assert points_of(shipped("chatbot"), short_then_detailed) == 5 + 5
    assert points_of(shipped("chatbot"), slow_then_quick[::-1]) == 5 + 5


def test_no_time_taken_is_not_quick():
    assert (
        points_of(shipped("chatbot"), [happened("question_answered", source="chatbot", question_id="1")]) == 5
    )


@pytest.mark.parametrize(("seconds", "quick"), [(119.999, True), (120.0, False), (0.0, True)])
def test_quick_is_under_two_minutes(seconds, quick):
    event = happened("question_answered", source="chatbot", question_id="1", time_taken_s=seconds)
    assert points_of(shipped("chatbot"), [event]) == (10 if quick else 5)


@pytest.mark.parametrize(("text", "detailed"), [("x" * 10, False), ("x" * 11, True)])
def test_detailed_is_more_than_ten_characters(text, detailed):
    event = happened("question_answered", source="chatbot", question_id="1", text=text)
    assert points_of(shipped("chatbot"), [event]) == (10 if detailed else 5)


def test_telegram_text_and_voice_are_messages_and_nothing_else_is():
    told = [happened("message_received", kind="text"), happened("message_received", kind="voice")]
    told += [happened("contact_shared"), happened("element_clicked"), happened("qr_scanned")]
    features = features_of(told)
    assert features.signals["message_received"].count == 2
    assert features.signals["interaction"].count == 5


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        (happened("email_sent"), False),
        (happened("sms_sent"), False),
        (happened("call_made"), False),
        (happened("call_made", answered=True), True),
        (happened("email_opened"), True),
        (happened("email_replied"), True),
        (happened("profile_updated", fields={}), False),
        (happened("consent_changed", email=True), False),
        (happened("lead_identified"), False),
        (happened("stage_changed", stage="lost"), False),
        (happened("lead_assigned"), False),
        (happened("session_heartbeat"), False),
        (happened("session_ended"), False),
        (happened("session_started"), True),
        (happened("page_viewed"), True),
        (happened("custom", name="x"), True),
    ],
    ids=lambda value: value if isinstance(value, bool) else type(value).__name__,
)
def test_an_interaction_is_what_the_person_did(event, counts):
    assert EFFECT_BY_EVENT_TYPE[type(event)].is_interaction(event) is counts


def test_what_we_did_does_not_keep_a_lead_warm():
    events = [
        happened("message_received"),
        happened("email_sent", T0 + 10 * HOUR_MS),
        happened("call_made", T0 + 10 * HOUR_MS),
    ]
    assert lines(shipped("temperature"), scored(shipped("temperature"), events, T0 + 10 * HOUR_MS)) == {
        "Messages": 1 * ONE_POINT,
        "Last interaction": 10 * ONE_POINT,
    }


def test_profile_source_is_the_explicit_field_else_the_first_touch():
    model = model_of(
        '{ name = "s", choose = "profile.source", points = { ads = 1, form = 2, crm = 4, web = 8 } }'
    )
    ad = happened("page_viewed", T0, context=Context(campaign=Campaign(source="crm", medium="cpc")))
    form = happened("form_submitted", T0 - HOUR_MS)
    assert points_of(model, [ad]) == 1
    assert points_of(model, [ad, form]) == 2
    assert points_of(model, [ad, form, happened("profile_updated", fields={"source": "CRM"})]) == 4
    assert points_of(model, [happened("page_viewed", source="web")]) == 0


@pytest.mark.parametrize(
    ("event", "points"),
    [
        (happened("page_viewed", traffic_origin=TrafficOrigin(channel="referral", edition="e")), 15),
        (happened("page_viewed", traffic_origin=TrafficOrigin(channel="affiliate", edition="e")), 15),
        (happened("page_viewed", traffic_origin=TrafficOrigin(channel="paid", edition="e")), 10),
        (happened("page_viewed", traffic_origin=TrafficOrigin(channel="display", edition="e")), 10),
        (happened("form_submitted", traffic_origin=TrafficOrigin(channel="direct", edition="e")), 10),
        (happened("form_submitted"), 10),
        (happened("page_viewed", traffic_origin=TrafficOrigin(channel="search", edition="e")), 0),
        (happened("page_viewed", traffic_origin=TrafficOrigin(channel="ai_assistant", edition="e")), 0),
        (happened("page_viewed", traffic_origin=TrafficOrigin(channel="internal", edition="e")), 0),
        (happened("page_viewed", traffic_origin=TrafficOrigin(channel="of a later version", edition="e")), 0),
    ],
    ids=lambda each: str(each) if isinstance(each, int) else type(each).__name__,
)
def test_channels_give_the_source_quality_of_requirement_5(event, points):
    firmographic = lines(shipped("composite"), scored(shipped("composite"), [event]))
    assert firmographic.get("Source quality", 0) == points * ONE_POINT * 15 // 100


def test_a_stored_channel_wins_over_what_the_fold_would_read():
    """And an event without one keeps the classification of its time: Gmail was organic, a lookalike, too."""
    model = model_of('{ name = "s", choose = "profile.source", points = { organic = 1, email = 2 } }')
    context = Context(url="https://acme.example/", referrer="https://mail.google.com/")
    stored = TrafficOrigin(channel="email", edition="e")
    assert points_of(model, [happened("page_viewed", context=context, traffic_origin=stored)]) == 2
    assert points_of(model, [happened("page_viewed", context=context)]) == 1


def test_high_intent_is_five_kinds_of_event():
    kinds = ["demo_requested", "meeting_scheduled", "form_submitted", "cta_clicked"]
    events = [happened(kind) for kind in kinds]
    events += [happened("purchase_made", value=Decimal(1), currency="EUR")]
    others = [
        happened(kind) for kind in ("page_viewed", "product_clicked", "contact_shared", "email_replied")
    ]
    assert points_of(counting("high_intent"), events + others) == 5


def test_a_window_counts_local_calendar_days_today_included():
    """Two days are yesterday and today, in the tenant's zone, not 48 hours."""
    model, tokyo = counting("page_viewed in 2 days"), calendar("Asia/Tokyo")
    midnight = tokyo.start_of(tokyo.day_of(T0))
    for at, counts in ((midnight - DAY_MS, 1), (midnight - DAY_MS - 1, 0), (midnight, 1)):
        assert points_of(model, [happened("page_viewed", at)], T0, zone=tokyo) == counts
    event = [happened("page_viewed", midnight - DAY_MS)]
    assert (
        next_visible_time_change(model, Subject(features_of(event, zone=tokyo)), T0, tokyo, IDLE)
        == midnight + DAY_MS
    )


@pytest.mark.parametrize(
    ("zone", "morning_after", "hours"),
    [
        ("Europe/Berlin", (2025, 3, 30), 23),
        ("Europe/Berlin", (2025, 10, 26), 25),
        ("UTC", (2025, 10, 26), 24),
    ],
)
def test_a_window_ends_with_the_local_day_however_long_it_is(zone, morning_after, hours):
    from datetime import date

    days = calendar(zone)
    day = (date(*morning_after) - date(1970, 1, 1)).days
    start = days.start_of(day)
    model = counting("page_viewed in 1 day")
    subject = Subject(features_of([happened("page_viewed", start)], zone=days))
    assert next_visible_time_change(model, subject, start, days, IDLE) == start + hours * HOUR_MS


def test_criteria_count_days_of_24_hours_back_from_the_last_time():
    model = compile_model("""
        model = "m"
        bands = { stage = { mql = 0 } }
        needs.mql = { actions = ["email_opened"], within_days = 1 }
        [groups.g]
        rules = []
    """)
    subject = Subject(features_of([happened("email_opened", T0 - HOUR_MS), happened("email_opened")]))
    assert score_lead(model, subject, T0 + DAY_MS - 1, UTC, IDLE).bands == {"stage": "mql"}
    assert score_lead(model, subject, T0 + DAY_MS, UTC, IDLE).bands == {"stage": None}
    assert next_visible_time_change(model, subject, T0, UTC, IDLE) == T0 + DAY_MS


def test_any_one_of_several_criteria_is_enough():
    model = compile_model("""
        model = "m"
        bands = { stage = { mql = 10, none = 0 } }
        [[needs.mql]]
        fields = ["email", "phone"]
        [[needs.mql]]
        actions = ["demo_requested"]
        minimum = 15
        [groups.g]
        rules = [{ name = "e", each = "email_opened", points = 1 }]
    """)

    def stage(opens, *others):
        return scored(model, [happened("email_opened") for _ in range(opens)] + list(others)).bands["stage"]

    both = happened("profile_updated", fields={"email": "a", "phone": "1"})
    assert [stage(10), stage(9, both), stage(10, both)] == ["none", "none", "mql"]
    demo = happened("demo_requested")
    assert [stage(14, demo), stage(15, demo)] == ["none", "mql"]


def test_a_blank_field_is_not_given():
    model = model_of('{ name = "e", has = ["email", "phone"], points = 1 }')
    for value, points in ((" ", 0), ("", 0), (None, 0), ([], 0), ("a", 1), (0, 0), (False, 0)):
        assert points_of(model, [happened("profile_updated", fields={"email": value})]) == points
    typed = model_of('{ name = "e", has = ["budget", "email_consent"], points = 1 }')
    for field, value in (("budget", 0), ("email_consent", False)):
        assert points_of(typed, [happened("profile_updated", fields={field: value})]) == 1


def test_a_total_keeps_its_decimals_and_only_the_rounded_one_is_logged_in_time():
    """50.2, minus 0.1 a day, shows 50 until it falls below 49.5: after eight days."""
    model = model_of('{ name = "b", base = 50.2 }', head="decay = { points = 0.1 }")
    subject = Subject(features_of([happened("page_viewed")]))
    assert next_visible_time_change(model, subject, T0, UTC, IDLE) == T0 + 8 * DAY_MS
    assert score_lead(model, subject, T0 + 7 * DAY_MS, UTC, IDLE).total == 49_500_000
    assert rounded_points(49_500_000) == 50


def test_decay_stops_at_the_lowest_total_and_is_never_due_again():
    model = model_of('{ name = "b", base = 10 }', head="min = 9\ndecay = { points = 0.75 }")
    subject = Subject(features_of([happened("page_viewed")]))
    assert score_lead(model, subject, T0 + 100 * DAY_MS, UTC, IDLE).total == 9 * ONE_POINT
    assert next_visible_time_change(model, subject, T0, UTC, IDLE) == T0 + DAY_MS
    assert next_visible_time_change(model, subject, T0 + DAY_MS, UTC, IDLE) == NEVER


def test_decay_counts_full_days_of_24_hours_since_the_last_interaction():
    model = model_of('{ name = "b", base = 10 }', head="decay = { points = 1 }")
    events = [happened("page_viewed"), happened("email_sent", T0 + 2 * DAY_MS)]
    after = [points_of(model, events, T0 + at) for at in (DAY_MS - 1, DAY_MS, 2 * DAY_MS - 1, 2 * DAY_MS)]
    assert after == [10, 9, 9, 8]


def test_a_half_life_halves():
    model = model_of('{ name = "b", base = 64 }', head="decay = { half_life_days = 10 }")
    totals = [scored(model, [happened("page_viewed")], T0 + days * DAY_MS).total for days in (0, 10, 20, 60)]
    assert [
        abs(total - points * ONE_POINT) <= 1 for total, points in zip(totals, (64, 32, 16, 1), strict=True)
    ] == [True] * 4


def test_decay_is_due_on_the_very_last_day_that_takes_something():
    """1.5 less 0.5 a day: 1 is seen after one day and 0.5 rounds to 1; only the third day, to 0, is seen."""
    model = model_of('{ name = "b", base = 1.5 }', head="decay = { points = 0.5 }")
    subject = Subject(features_of([happened("page_viewed")]))
    assert next_visible_time_change(model, subject, T0, UTC, IDLE) == T0 + DAY_MS
    assert next_visible_time_change(model, subject, T0 + DAY_MS, UTC, IDLE) == T0 + 3 * DAY_MS
    assert next_visible_time_change(model, subject, T0 + 3 * DAY_MS, UTC, IDLE) == NEVER
    at_once = model_of('{ name = "b", base = 1 }', head="decay = { points = 5 }")
    assert next_visible_time_change(at_once, subject, T0, UTC, IDLE) == T0 + DAY_MS


def test_what_a_producer_dated_tomorrow_counts_tomorrow():
    model, tomorrow = counting("page_viewed in 2 days"), T0 + 20 * HOUR_MS
    subject = Subject(features_of([happened("page_viewed", tomorrow)]))
    assert score_lead(model, subject, T0, UTC, IDLE).total == 0
    assert next_visible_time_change(model, subject, T0, UTC, IDLE) == T0 - 10 * HOUR_MS + DAY_MS
    assert score_lead(model, subject, T0 - 10 * HOUR_MS + DAY_MS, UTC, IDLE).total == ONE_POINT


def test_a_decay_of_a_hundredth_is_found_without_a_due_per_day():
    """From 90: 89.49 rounds to 89 after 51 days; the exact due is found by bisection, not day by day."""
    model = model_of('{ name = "b", base = 90 }', head="decay = { points = 0.01 }")
    subject = Subject(features_of([happened("page_viewed")]))
    assert next_visible_time_change(model, subject, T0, UTC, IDLE) == T0 + 51 * DAY_MS


def test_a_clamp_is_its_own_line():
    model = model_of('{ name = "b", base = 130 }', '{ name = "c", base = -10 }', head="min = 0\nmax = 100")
    assert lines(model, scored(model, [])) == {
        "b": 130 * ONE_POINT,
        "c": -10 * ONE_POINT,
        "limit": -20 * ONE_POINT,
    }


def test_a_cap_swallows_what_is_above_it_and_says_so():
    model = shipped("temperature")
    score = scored(model, [happened("qr_scanned") for _ in range(7)], T0 + 100 * HOUR_MS)
    slots = {
        (slot.rule, slot.kind): points
        for slot, points in zip(model.line_labels, score.vector, strict=True)
        if points
    }
    assert slots == {("QR scans", "points"): 21 * ONE_POINT, ("QR scans", "rule cap"): -6 * ONE_POINT}


@pytest.mark.parametrize("stage", ["recycled", "disqualified", "churned", "lost"])
def test_some_stages_give_no_points(stage):
    model = shipped("composite")
    assert "Stage" not in lines(model, scored(model, [], stage=stage))


@pytest.mark.parametrize(
    ("stage", "points"),
    [
        ("customer", 100),
        ("opportunity", 80),
        ("engaged", 60),
        ("qualified", 40),
        ("contacted", 20),
        ("new", 10),
    ],
)
def test_a_stage_gives_its_points(stage, points):
    model = shipped("composite")
    assert lines(model, scored(model, [], stage=stage))["Stage"] == points * 250_000


def test_profile_stage_is_the_lifecycles_and_not_a_field():
    model = model_of('{ name = "s", choose = "profile.stage", points = { customer = 1, new = 2 } }')
    assert points_of(model, [happened("profile_updated", fields={"stage": "customer"})]) == 2


@pytest.mark.parametrize(
    ("recent", "before", "said"),
    [
        (0, 0, "stable"),
        (1, 0, "increasing"),
        (0, 1, "declining"),
        (12, 10, "stable"),
        (13, 10, "increasing"),
        (8, 10, "stable"),
        (7, 10, "declining"),
    ],
)
def test_a_trend_within_a_fifth_is_stable(recent, before, said):
    assert trend_of(recent, before) == said


def test_a_trend_compares_14_days_with_the_14_before():
    model = model_of(
        '{ name = "t", value = "trend of interaction over 14 days", equals = "increasing", points = 1 }'
    )
    at = [T0, T0 - 13 * DAY_MS, T0 - 14 * DAY_MS, T0 - 27 * DAY_MS, T0 - 28 * DAY_MS]
    assert points_of(model, [happened("page_viewed", each) for each in at]) == 0
    assert points_of(model, [happened("page_viewed", each) for each in at[:3]]) == 1


def test_a_lead_that_was_never_active_gets_no_points_for_recency():
    assert lines(shipped("composite"), scored(shipped("composite"), [happened("email_sent")])) == {
        "Base": 7_500_000,
        "Stage": 2_500_000,
    }


def test_active_days_give_at_most_ten_points():
    model = shipped("composite")
    events = [happened("page_viewed", T0 - days * DAY_MS) for days in range(31)]
    assert lines(model, scored(model, events[:4]))["Active days"] == 4 * 250_000
    score = scored(model, events)
    points = [
        p for slot, p in zip(model.line_labels, score.vector, strict=True) if slot.rule == "Active days"
    ]
    assert points == [30 * 250_000, -20 * 250_000]


def test_an_open_session_counts_when_it_has_been_idle_for_long_enough():
    model, features = shipped("web_session"), visits(visit(480, 4, 3, 1, closed=False))
    subject, last = Subject(features), T0 + 480_000
    assert score_lead(model, subject, last + IDLE - 1, UTC, IDLE).total == 0
    assert next_visible_time_change(model, subject, last, UTC, IDLE) == last + IDLE
    assert score_lead(model, subject, last + IDLE, UTC, IDLE).total == 66 * ONE_POINT
    assert score_lead(model, subject, last + IDLE, UTC, 2 * IDLE).total == 0
    assert next_visible_time_change(model, subject, last + IDLE, UTC, IDLE) == NEVER


def test_the_score_of_an_open_session_is_told_apart():
    assert score_session(shipped("web_session"), visit(480, 4, 3, 1, closed=False)).total == 66 * ONE_POINT


def test_the_mean_is_over_the_latest_200_ended_sessions():
    features = visits(*(visit(480, 4, 3, 1, T0 - number * HOUR_MS) for number in range(200)))
    model = shipped("web_session")
    put_session(features, "older", visit(45, 1, 1, 0, T0 - 300 * HOUR_MS))
    assert score_lead(model, Subject(features), T0 + DAY_MS, UTC, IDLE).total == 66 * ONE_POINT
    put_session(features, "newer", visit(45, 1, 1, 0, T0 + HOUR_MS))
    total = score_lead(model, Subject(features), T0 + DAY_MS, UTC, IDLE).total
    assert total == 66 * ONE_POINT  # (199 x 66 + 12) / 200 = 65.73
    assert (
        lines(model, score_lead(model, Subject(features), T0 + DAY_MS, UTC, IDLE))["Pages viewed"]
        == 19_925_000
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("email_opens_count", "email_opened"),
        ("email_clicks_count", "email_clicked"),
        ("activities_count", "interaction"),
    ],
)
def test_computed_fields_are_phrases(name, meant):
    events = [
        happened("email_opened"),
        happened("email_opened"),
        happened("email_clicked"),
        happened("qr_scanned"),
    ]
    assert points_of(counting(name), events) == points_of(counting(meant), events) > 0


def test_days_since_creation_and_last_activity_are_phrases():
    model = model_of(
        '{ name = "new", value = "days_since_creation", less_than = 30, points = 1 }',
        '{ name = "quiet", value = "last_activity_days_ago", greater_than = 60, points = 2 }',
    )
    events = [
        happened("profile_updated", T0 - 30 * DAY_MS, fields={}),
        happened("page_viewed", T0 - 20 * DAY_MS),
    ]
    assert points_of(model, events, T0 - MINUTE) == 1
    assert points_of(model, events) == 0
    assert points_of(model, events, T0 + 41 * DAY_MS) == 2
    subject = Subject(features_of(events))
    assert next_visible_time_change(model, subject, T0, UTC, IDLE) == T0 + 41 * DAY_MS


def test_a_sum_of_purchases_counts_whole_units_of_its_currency():
    events = [happened("purchase_made", value=Decimal("60.60"), currency="EUR") for _ in range(2)]
    events += [happened("purchase_made", value=Decimal(500), currency="JPY")]
    assert points_of(counting("sum of purchase:EUR"), events) == 121
    assert points_of(counting("sum of purchase:JPY"), events) == 500

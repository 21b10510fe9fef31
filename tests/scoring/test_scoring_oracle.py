"""Random models over random leads: against an independent oracle, and in time."""

from fractions import Fraction

import pytest
from example_counts import scaled
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from leads_given import DAY_MS, HOUR_MS, IDLE, MINUTE, T0, features_of, shipped, visits
from random_scoring import histories, model_texts, repeating_models, some_sessions
from score_oracle import Oracle

from scoring.features.calendar import calendar
from scoring.features.features import put_session
from scoring.models.model import (
    NEVER,
    ONE_POINT,
    Subject,
    all_models,
    built_in_models,
    changed_lines,
    compile_model,
    earliest_time_change,
    explain_score,
    next_visible_time_change,
    rounded_points,
    score_lead,
)

STAGES = st.sampled_from(["new", "qualified", "customer"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kolkata"])
OFFSETS = st.one_of(
    st.integers(0, 40 * DAY_MS), st.sampled_from([0, 1, DAY_MS - 1, DAY_MS, 14 * HOUR_MS, 30 * DAY_MS])
)
WHENEVER = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
few = settings(max_examples=scaled(60), deadline=None, suppress_health_check=WHENEVER)


def lead_of(events, sessions, model, zone):
    features = features_of(events, [model], calendar(zone))
    for session_id, session in sessions.items():
        put_session(features, session_id, session)
    return features


def assert_as_the_oracle_says(text, events, sessions, stage, as_of, zone):
    model = compile_model(text)
    subject = Subject(lead_of(events, sessions, model, zone), stage)
    concluded = score_lead(model, subject, as_of, calendar(zone), IDLE)
    oracle = Oracle(text, events, sessions, stage, as_of, zone, IDLE)
    total, expected = oracle.score()
    lines = {
        (slot.group, slot.rule, slot.kind): points
        for slot, points in zip(model.line_labels, concluded.vector, strict=True)
        if points
    }
    assert sum(concluded.vector) == concluded.total
    if model.mean is None and not (model.decay and model.decay.shares):
        assert {key: Fraction(points, ONE_POINT) for key, points in lines.items()} == expected
        assert Fraction(concluded.total, ONE_POINT) == total
    else:
        inexact = bool(model.decay or (model.mean and model.mean.shares))
        near_a_half = model.rounding and abs((2 * sum_without(expected)) % 2 - 1) < Fraction(1, 10**5)
        assume(not (inexact and near_a_half))
        for key in lines.keys() | expected.keys():
            if key[2] not in {"mean", "rounding"}:
                assert abs(Fraction(lines.get(key, 0), ONE_POINT) - expected.get(key, 0)) < Fraction(
                    2, ONE_POINT
                )
        assert abs(Fraction(concluded.total, ONE_POINT) - total) < Fraction(2, ONE_POINT)
        assert not model.rounding or Fraction(concluded.total, ONE_POINT) == total
        assume(
            all(
                abs(total - Fraction(t, ONE_POINT)) > Fraction(2, ONE_POINT)
                for scale in model.scales.values()
                for t, _ in scale
            )
        )
    assert concluded.bands == oracle.bands()


def sum_without(expected):
    return sum(points for key, points in expected.items() if key[2] != "rounding")


@settings(few, max_examples=scaled(100))
@given(model_texts(), histories(), some_sessions(), STAGES, OFFSETS, ZONES)
def test_breakdown_total_and_bands_equal_an_independent_oracle(text, events, sessions, stage, after, zone):
    assert_as_the_oracle_says(text, events, sessions, stage, T0 + after, zone)


LIVELY = histories(60, 10, ("page_viewed", "email_opened", "message_received", "custom", "form_submitted"))


@few
@given(repeating_models(), LIVELY, OFFSETS, ZONES)
def test_repeat_limits_and_fading_equal_an_independent_oracle(text, events, after, zone):
    assert_as_the_oracle_says(text, events, {}, "new", T0 + after, zone)


@settings(few, max_examples=scaled(20))
@given(st.sampled_from(sorted(all_models())), histories(), some_sessions(), STAGES, OFFSETS, ZONES)
def test_shipped_models_equal_an_independent_oracle(name, events, sessions, stage, after, zone):
    assume(name != "composite" or not any(e.context for e in events))
    text = all_models()[name]
    for phrase, means in {
        '"email_opens_count"': '"email_opened"',
        '"days_since_creation"': '"days since created"',
        '"last_activity_days_ago"': '"days since interaction"',
    }.items():
        text = text.replace(phrase, means)
    text = text.replace('choose = "profile.source"', 'choose = "profile.sorce"')
    assert_as_the_oracle_says(text, events, sessions, stage, T0 + after, zone)


@few
@given(model_texts(), histories(), some_sessions(), STAGES, ZONES)
def test_ledger_differences_sum_to_the_score(text, events, sessions, stage, zone):
    """Event by event, in any order of occurrence, then through time."""
    model, days = compile_model(text), calendar(zone)
    features, vector, ledger = features_of([]), [0] * len(model.line_labels), 0
    steps = [([event], {}) for event in events] + [([], {key: session}) for key, session in sessions.items()]
    steps += [([], {})] * 3
    for number, (new, cut) in enumerate(steps):
        features_of(new, [model], days, into=features)
        for session_id, session in cut.items():
            put_session(features, session_id, session)
        as_of = T0 if number < len(steps) - 3 else T0 + number * 9 * DAY_MS
        score = score_lead(model, Subject(features, stage), as_of, days, IDLE)
        ledger += sum(line[3] for line in changed_lines(model, vector, model, score.vector))
        vector = score.vector
        assert ledger == score.total == sum(vector)


@few
@given(model_texts(session=False), model_texts(session=False), histories())
def test_the_ledger_goes_on_over_a_change_of_model(first, second, events):
    old, new, days = compile_model(first), compile_model(second), calendar("UTC")
    was = score_lead(old, Subject(features_of(events, [old])), T0, days, IDLE)
    now = score_lead(new, Subject(features_of(events, [new])), T0, days, IDLE)
    assert was.total + sum(line[3] for line in changed_lines(old, was.vector, new, now.vector)) == now.total
    assert sum(line[3] for line in changed_lines(None, [], new, now.vector)) == now.total
    assert changed_lines(new, now.vector, compile_model(second), now.vector) == []


def seen(model, subject, at, days):
    score = score_lead(model, subject, at, days, IDLE)
    return rounded_points(score.total), score.bands


@few
@given(
    model_texts() | repeating_models() | st.sampled_from(sorted(all_models().values())),
    histories(15),
    some_sessions(5),
    STAGES,
    st.one_of(st.integers(-2 * DAY_MS, 60 * DAY_MS), st.sampled_from([0, 1, DAY_MS, -1])),
    ZONES,
    st.randoms(use_true_random=False),
)
def test_nothing_changes_before_next_due_and_something_does_at_it(
    text, events, sessions, stage, after, zone, rnd
):
    model, days, as_of = compile_model(text), calendar(zone), T0 + after
    subject = Subject(lead_of(events, sessions, model, zone), stage)
    now, due = seen(model, subject, as_of, days), next_visible_time_change(model, subject, as_of, days, IDLE)
    edge = earliest_time_change(model, subject, as_of, days, IDLE)
    assert as_of < edge <= due
    until = min(due, as_of + 200 * DAY_MS)
    turns = {as_of + 1, until - 1} | {rnd.randrange(as_of, until) for _ in range(10)}
    turns |= {
        days.start_of(day) - late
        for day in range(days.day_of(as_of), days.day_of(until) + 1)
        for late in (0, 1)
    }
    for signal in subject.features.signals.values():
        turns |= {signal.last + hours * HOUR_MS for hours in (1, 3, 6, 24, 72)}
        turns |= {signal.last + rnd.randrange(95) * DAY_MS for _ in range(10)}
    turns |= {session.last_at + 30 * MINUTE for session in sessions.values()}
    probes = sorted(at for at in turns if as_of <= at < until)
    for at in rnd.sample(probes, min(len(probes), 60)):
        assert seen(model, subject, at, days) == now
    before_edge = [at for at in probes if at < edge]
    exact = score_lead(model, subject, as_of, days, IDLE)
    for at in rnd.sample(before_edge, min(len(before_edge), 10)):
        assert score_lead(model, subject, at, days, IDLE) == exact
    if due < NEVER:
        assert seen(model, subject, due, days) != now


@few
@given(model_texts() | st.sampled_from(sorted(all_models().values())), histories(), some_sessions(), STAGES)
def test_an_explanation_has_the_lines_of_the_score_and_words_for_each(text, events, sessions, stage):
    model, days = compile_model(text), calendar("UTC")
    subject = Subject(lead_of(events, sessions, model, "UTC"), stage)
    lines = explain_score(model, subject, T0, days, IDLE)
    assert sum(line.points for line in lines) == score_lead(model, subject, T0, days, IDLE).total
    assert all(line.text and line.text == line.text.strip() for line in lines)


@pytest.mark.parametrize("days_between", [1, 45, 90])
def test_an_older_session_counts_less_by_its_half_life(days_between):
    """66 and 12 points, `days_between` apart, half-life 45 days: (66 + 12 x 2^-n) / (1 + 2^-n)."""
    text = built_in_models()["web_session"].replace("latest = 200", "latest = 200, half_life_days = 45")
    model = compile_model(text)
    old = shipped("web_session")
    from leads_given import visit

    sessions = visits(visit(480, 4, 3, 1, T0), visit(45, 1, 1, 0, T0 - days_between * DAY_MS))
    left = 2 ** (-days_between / 45)
    expected = int((66 + 12 * left) / (1 + left) + 0.5)
    now = score_lead(model, Subject(sessions), T0 + DAY_MS, calendar("UTC"), IDLE).total
    assert now == expected * ONE_POINT
    assert score_lead(old, Subject(sessions), T0 + DAY_MS, calendar("UTC"), IDLE).total == 39 * ONE_POINT

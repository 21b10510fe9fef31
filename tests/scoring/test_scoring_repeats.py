"""Repeat limits, floors and fading, worked by hand: how often acts count, and how much with their age."""

from datetime import UTC as Z
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from leads_given import DAY_MS, HOUR_MS, IDLE, T0, UTC, features_of, happened, lines, scored, visit
from score_oracle import halved

from scoring.features.calendar import calendar
from scoring.models.decay import WHOLE_SHARE, half_life_shares
from scoring.models.model import (
    NEVER,
    ONE_POINT,
    Subject,
    compile_model,
    earliest_time_change,
    explain_score,
    next_visible_time_change,
    score_lead,
    score_session,
)

MIDNIGHT = T0 - 10 * HOUR_MS


def model_of(*rules, head="", group=""):
    listed = ",\n".join(f'{{ name = "R{number}", {rule} }}' for number, rule in enumerate(rules))
    return compile_model(f'model = "m"\n{head}\n[groups.g]\n{group}\nrules = [\n{listed}\n]')


def acts(*ages, kind="qr_scanned"):
    """One act for each age in days, at ten in the morning."""
    return [happened(kind, T0 - age * DAY_MS) for age in ages]


def points_of(rule, *events, zone=UTC, as_of=T0):
    """What the only rule gives, in points."""
    return Fraction(scored(model_of(rule), events, as_of, zone=zone).total, ONE_POINT)


def said(model, events, as_of=T0):
    subject = Subject(features_of(events, [model]))
    return [line.text for line in explain_score(model, subject, as_of, UTC, IDLE)]


def dues(model, events):
    """The days after today at whose beginning something changes, until nothing does any more."""
    subject, found, at = Subject(features_of(events, [model])), [], T0
    while (at := next_visible_time_change(model, subject, at, UTC, IDLE)) < NEVER:
        days, rest = divmod(at - MIDNIGHT, DAY_MS)
        assert rest == 0
        found.append(days)
    return found


# how often


@pytest.mark.parametrize(("scans", "points"), [(0, 0), (1, 5), (2, 10), (3, 15), (4, 15), (300, 15)])
def test_a_rule_counts_so_many_times_in_all(scans, points):
    assert points_of('each = "qr_scanned", points = 5, times = 3', *acts(*[0] * scans)) == points


def test_times_limits_the_count_and_max_the_points():
    """Three of four scans are 12 points, of which the cap leaves 10."""
    model = model_of('each = "qr_scanned", points = 4, times = 3, max = 10')
    score = scored(model, acts(0, 1, 2, 3))
    assert [points // ONE_POINT for points in score.vector] == [12, -2]


def test_negative_points_are_repeated_no_more_often():
    assert points_of('each = "qr_scanned", points = -5, times = 2', *acts(0, 1, 2)) == -10


def test_several_sources_are_limited_together():
    rule = 'each = ["qr_scanned", "catalog_viewed"], points = 1, times = 3'
    assert points_of(rule, *acts(0, 0), *acts(0, 0, kind="catalog_viewed")) == 3


def test_what_a_session_counts_is_limited_too():
    model = model_of('each = "session.pages", points = 5, times = 3', head='reads = "session"')
    totals = [score_session(model, visit(60, pages, 0, 0)).total // ONE_POINT for pages in (2, 3, 4)]
    assert totals == [10, 15, 15]


@pytest.mark.parametrize(("a_day", "points"), [(1, 3), (2, 5), (4, 7), (5, 8), (255, 8)])
def test_each_day_counts_so_many_times(a_day, points):
    """Five today, two yesterday, one six days ago; the one seven days ago is out of the window."""
    rule = f'each = "qr_scanned in 7 days", points = 1, times_a_day = {a_day}'
    assert points_of(rule, *acts(0, 0, 0, 0, 0, 1, 1, 6, 7)) == points


@pytest.mark.parametrize(("zone", "points"), [("UTC", 1), ("Europe/Berlin", 2)])
def test_a_day_is_one_of_the_tenants_zone(zone, points):
    """In summer 21:59 and 22:00 UTC are two days in Berlin."""
    evening = int(datetime(2025, 7, 8, 22, tzinfo=Z).timestamp() * 1000)
    events = [happened("qr_scanned", at) for at in (evening - 60_000, evening)]
    rule = 'each = "qr_scanned in 3 days", points = 1, times_a_day = 1'
    assert points_of(rule, *events, zone=calendar(zone), as_of=evening) == points


def test_a_day_counts_so_many_times_over_all_sources_of_the_rule():
    rule = 'each = ["qr_scanned in 7 days", "catalog_viewed in 2 days"], points = 1, times_a_day = 2'
    assert points_of(rule, *acts(0, 1, 3), *acts(0, 0, 1, 3, kind="catalog_viewed")) == 2 + 2 + 1


def test_an_active_day_counts_once_whatever_happened_on_it():
    rule = 'each = ["active days in 7 days", "qr_scanned in 7 days"], points = 1, times_a_day = 5'
    assert points_of(rule, *acts(0, 0, 0, 6)) == (1 + 3) + (1 + 1)


def test_days_that_leave_the_window_are_no_longer_limited():
    rule = 'each = "qr_scanned in 3 days", points = 1, times_a_day = 2'
    assert dues(model_of(rule), acts(0, 0, 0, 1)) == [2, 3]


# floors


@pytest.mark.parametrize(
    ("scans", "points"), [(0, [0, 0]), (3, [-15, 0]), (4, [-20, 0]), (5, [-25, 5]), (9, [-45, 25])]
)
def test_a_floor_limits_what_a_rule_takes(scans, points):
    score = scored(model_of('each = "qr_scanned", points = -5, min = -20'), acts(*[0] * scans))
    assert [each // ONE_POINT for each in score.vector] == points


def test_a_floor_leaves_positive_points_alone():
    assert points_of('each = "qr_scanned", points = 5, min = 0, max = 7', *acts(0)) == 5
    assert points_of('each = "qr_scanned", points = 5, min = 0, max = 7', *acts(0, 0)) == 7
    assert points_of('each = "qr_scanned", points = -5, min = 0, max = 7', *acts(0)) == 0


@pytest.mark.parametrize(
    ("first", "second", "capped", "total"),
    [(-12, -7, 0, -19), (-12, -8, 0, -20), (-12, -9, 1, -20), (40, -30, 0, 10), (40, 20, -10, 50)],
)
def test_a_group_takes_at_most_what_its_floor_says(first, second, capped, total):
    model = model_of(f"base = {first}", f"base = {second}", group="min = -20\nmax = 50")
    score = scored(model, [])
    assert [points // ONE_POINT for points in score.vector] == [first, second, capped]
    assert score.total == total * ONE_POINT


def test_a_rule_is_held_before_its_group_and_both_before_the_weight():
    """-25 is held at -20, -20 and -15 at -30; half of that counts."""
    rules = ('each = "qr_scanned", points = -5, min = -20', "base = -15")
    model = model_of(*rules, group="min = -30\nweight = 0.5")
    score = scored(model, acts(0, 0, 0, 0, 0))
    assert [points / ONE_POINT for points in score.vector] == [-12.5, 2.5, -7.5, 2.5]


# fading


@pytest.mark.parametrize(
    ("age", "points"),
    [(0, "10"), (7, "7.071"), (14, "5"), (28, "2.5"), (42, "1.25"), (89, "0.121"), (90, "0")],
)
def test_an_act_counts_half_after_its_half_life(age, points):
    """10 x 2^-(7/14) = 7.07106..., 10 x 2^-(89/14) = 0.12198...: cut, not rounded."""
    rule = 'each = "qr_scanned in 90 days", points = 10, half_life_days = 14'
    assert points_of(rule, *acts(age)) == Fraction(points)


def test_points_are_cut_once_for_the_rule_and_towards_zero():
    """15 x 7.0710678 = 106.06601..., and not 15 x 7.071 = 106.065."""
    rule = 'each = "qr_scanned in 90 days", points = {}, half_life_days = 14'
    assert points_of(rule.format(10), *acts(*[7] * 15)) == Fraction("106.066")
    assert points_of(rule.format(-10), *acts(*[7] * 15)) == Fraction("-106.066")
    assert points_of(rule.format(10), *acts(0, 14, 28)) == Fraction("17.5")


@pytest.mark.parametrize(("age", "points"), [(0, 8), (1, 6), (2, 4), (3, 2), (4, 0)])
def test_an_act_fades_in_a_straight_line_over_the_window(age, points):
    rule = 'each = "qr_scanned in 4 days", points = 8, fades = "linear"'
    assert points_of(rule, *acts(age)) == points


def test_what_is_not_limited_counts_however_much_it_is():
    rule = 'each = ["qr_scanned in 4 days", "catalog_viewed in 4 days"], points = 1, fades = "linear"'
    assert points_of(rule, *acts(*[0] * 200), *acts(*[0] * 200, kind="catalog_viewed")) == 400


def test_a_third_of_a_day_is_cut_to_thousandths():
    rule = 'each = "qr_scanned in 3 days", points = {}, fades = "linear"'
    assert points_of(rule.format(1), *acts(1)) == Fraction("0.666")
    assert points_of(rule.format(-1), *acts(1)) == Fraction("-0.666")
    assert points_of(rule.format(1), *acts(1, 2)) == 1


def test_the_latest_acts_are_those_that_count():
    rule = 'each = "qr_scanned in 4 days", points = 8, fades = "linear", times = {}'
    assert [points_of(rule.format(times), *acts(3, 1, 0, 1)) for times in (1, 2, 3, 4)] == [8, 14, 20, 22]


def test_a_day_is_limited_before_the_latest_are_taken():
    rule = 'each = "qr_scanned in 4 days", points = 8, fades = "linear", times_a_day = 1, times = 2'
    assert points_of(rule, *acts(0, 0, 0, 3, 2)) == 8 + 4


def test_the_age_is_counted_in_local_days():
    """Acted at 23:59: a day old a minute later."""
    model = model_of('each = "qr_scanned in 4 days", points = 8, fades = "linear"')
    late = [happened("qr_scanned", MIDNIGHT - 60_000)]
    assert scored(model, late, MIDNIGHT - 1).total == 8 * ONE_POINT
    assert scored(model, late, MIDNIGHT).total == 6 * ONE_POINT


def test_an_act_ahead_of_its_clock_counts_once_its_day_has_come():
    model = model_of('each = "qr_scanned in 4 days", points = 8, fades = "linear"')
    assert dues(model, acts(-2)) == [2, 3, 4, 5, 6]


def test_a_fading_rule_is_due_at_each_midnight_that_shows():
    """8, 6, 4, 2, 0; and 10, 5, 2.5, 1.25, 0.625, 0.312: as whole points 10, 5, 3, 1, 1, 0."""
    linear = model_of('each = "qr_scanned in 4 days", points = 8, fades = "linear"')
    assert dues(linear, acts(0)) == [1, 2, 3, 4]
    halving = model_of('each = "qr_scanned in 30 days", points = 10, half_life_days = 1')
    assert dues(halving, acts(0)) == [1, 2, 3, 5]


@pytest.mark.parametrize(
    ("age", "day"), [(0, 1), (4, 1), (5, 1), (29, 1), (30, 60 - 30), (59, 60 - 59), (60, NEVER)]
)
def test_every_midnight_is_looked_at_while_anything_fades_and_else_only_what_leaves_a_window(age, day):
    """The same scans fade over 5 and over 30 days, and count for 60."""
    model = model_of(
        'each = "qr_scanned in 5 days", points = 1, fades = "linear"',
        'each = "qr_scanned in 60 days", points = 1',
        'each = "qr_scanned in 30 days", points = 1, half_life_days = 30',
    )
    subject = Subject(features_of(acts(age), [model]))
    edge = NEVER if day == NEVER else MIDNIGHT + day * DAY_MS
    assert earliest_time_change(model, subject, T0, UTC, IDLE) == edge


def test_fading_and_the_decay_of_the_model_go_together():
    """After two days: 8 x 2/4 = 4 points, less two inactive days."""
    head = "min = 0\ndecay = { points = 1.5 }"
    model = model_of('each = "qr_scanned in 4 days", points = 8, fades = "linear"', head=head)
    score = scored(model, acts(0), T0 + 2 * DAY_MS)
    assert lines(model, score) == {"R0": 4 * ONE_POINT, "decay": -3 * ONE_POINT}


@pytest.mark.parametrize("days", ["0.1", "0.5", "1", "2", "3", "7.25", "14", "30", "365"])
def test_shares_of_a_half_life_are_exact_to_twelve_decimals(days):
    shares = half_life_shares(Decimal(days))
    assert [Fraction(share, WHOLE_SHARE) for share in shares[:91]] == [
        halved(age, Fraction(days)) for age in range(91)
    ]


@pytest.mark.parametrize("days", [1, 3, 14, 30])
def test_whole_half_lives_leave_exactly_a_half_a_quarter_and_an_eighth(days):
    shares = half_life_shares(Decimal(days))
    assert [shares[times * days] for times in (1, 2, 3)] == [
        WHOLE_SHARE // 2,
        WHOLE_SHARE // 4,
        WHOLE_SHARE // 8,
    ]


# words


def test_an_explanation_says_how_often_acts_counted_and_how_they_fade():
    model = model_of(
        'each = "qr_scanned", points = 5, times = 3',
        'each = "qr_scanned in 7 days", points = 2, times_a_day = 1, half_life_days = 14',
        'each = "qr_scanned in 7 days", points = 1, fades = "linear"',
        'each = "catalog_viewed in 7 days", points = 1, fades = "linear"',
        'each = "qr_scanned", points = 5, times = 9',
        'each = "qr_scanned", points = -5, times = 3, min = -10',
        group="min = -2\nmax = 20",
    )
    assert said(model, acts(0, 0, 0, 0, 0, 1, 1)) == [
        "R0: 7 x, counted 3 x 5 points",
        "R1: 7 x, counted 2 x 2 points, halved every 14 days",
        "R2: 7 x 1 point, fading over 7 days",
        "R3: 0 x 1 point",
        "R4: 7 x 5 points",
        "R5: 7 x, counted 3 x -5 points, never below -10",
        "never below -10 points for R5",
        "at most 20 points for g",
    ]


def test_an_explanation_says_that_a_group_is_held():
    model = model_of("base = -30", group="min = -20\nmax = 9")
    assert said(model, []) == ["R0: always", "never below -20 points for g"]


def test_half_a_day_and_a_thousand_days_are_said_as_they_were_written():
    for written, words in (("0.5", "0.5"), ("1e3", "1000"), ("14", "14")):
        rule = f'each = "qr_scanned in 7 days", points = 1, half_life_days = {written}'
        assert said(model_of(rule), acts(0)) == [f"R0: 1 x 1 point, halved every {words} days"]


def test_a_limit_that_is_not_reached_changes_nothing():
    plain = model_of('each = "qr_scanned in 30 days", points = 1.5')
    for limit in ("times = 6", "times_a_day = 2", "times = 6, times_a_day = 2, min = -1, max = 20"):
        limited = model_of(f'each = "qr_scanned in 30 days", points = 1.5, {limit}')
        for as_of in (T0, T0 + 5 * DAY_MS, T0 + 29 * DAY_MS, T0 + 60 * DAY_MS):
            subject = Subject(features_of(acts(0, 1, 1, 8, 29, 29)))
            total = score_lead(plain, subject, as_of, UTC, IDLE).total
            assert score_lead(limited, subject, as_of, UTC, IDLE).total == total

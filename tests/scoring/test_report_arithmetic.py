"""Periods, shares, percentiles and the funnel of reports, by hand and against the definitions."""

from datetime import UTC, date, datetime, timedelta
from statistics import quantiles
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.moment import millis
from scoring.analytics.deciles import deciles
from scoring.analytics.funnel import conversions, funnel_steps
from scoring.analytics.periods import period_name, periods_of
from scoring.analytics.shares import percentile_of_counts, share, trend_direction
from scoring.evaluation.ranking import TiedLeads
from scoring.features.calendar import calendar
from scoring.lifecycle.lifecycle import LifecycleError, compile_lifecycle
from scoring.lifecycle.transitions import BUILT_IN_TARGETS, ConversionTarget

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]


@given(
    zone=st.sampled_from(ZONES),
    period_type=st.sampled_from(["daily", "weekly", "monthly"]),
    seconds=st.integers(600_000_000, 2_800_000_000),
    hours=st.integers(0, 24 * 200),
)
def test_periods_cover_the_window_and_have_the_names_of_their_local_days(zone, period_type, seconds, hours):
    begin = datetime.fromtimestamp(seconds, UTC)
    end = begin + timedelta(hours=hours)
    periods = list(periods_of(calendar(zone), period_type, millis(begin), millis(end)))
    ends = [millis(begin), *(period.end for period in periods)]
    assert [period.begin for period in periods] == ends[: len(periods)]
    assert not periods or ends[-1] == millis(end)
    assert bool(periods) == (hours > 0)
    for period in periods:
        assert period.begin < period.end
        for at in (period.begin, period.end - 1):
            day = datetime.fromtimestamp(at / 1000, ZoneInfo(zone))
            week = "{}-W{:02}".format(*day.isocalendar()[:2])
            assert (
                period.name
                == {"daily": f"{day:%Y-%m-%d}", "weekly": week, "monthly": f"{day:%Y-%m}"}[period_type]
            )
    assert len({period.name for period in periods}) == len(periods)


def test_a_day_on_which_clocks_change_is_one_period():
    """Berlin, 2030-03-31: 23 hours."""
    begin = datetime(2030, 3, 30, 23, tzinfo=UTC)
    (period,) = periods_of(
        calendar("Europe/Berlin"), "daily", millis(begin), millis(begin + timedelta(hours=23))
    )
    assert period.name == "2030-03-31"


def test_a_week_belongs_to_the_year_of_its_thursday():
    assert period_name("weekly", (date(2027, 1, 1) - date(1970, 1, 1)).days) == "2026-W53"


@given(st.lists(st.integers(0, 12), min_size=2, max_size=40), st.integers(1, 99))
def test_a_percentile_of_counts_is_that_of_the_values(values, percent):
    counts = {value: values.count(value) for value in values}
    expected = quantiles(values, n=100, method="inclusive")[percent - 1]
    assert percentile_of_counts(counts, percent) == pytest.approx(expected, abs=1e-4)


def test_there_is_no_share_and_no_percentile_of_nothing():
    assert share(0, 0) is None
    assert percentile_of_counts({}, 50) is None
    assert percentile_of_counts({7: 1}, 90) == 7


@pytest.mark.parametrize(
    ("now", "before", "direction"),
    [
        (0, 0, "stable"),
        (1, 0, "increasing"),
        (12, 10, "stable"),
        (13, 10, "increasing"),
        (8, 10, "stable"),
        (7, 10, "declining"),
        (0, 1, "declining"),
    ],
)
def test_a_change_within_a_fifth_is_stable(now, before, direction):
    assert trend_direction(now, before) == direction


def test_a_step_counts_the_leads_that_went_further():
    """Of ten leads four stay new, three are contacted, two engaged (past qualified), one is a customer."""
    steps = funnel_steps({0: 4, 1: 3, 3: 2, 5: 1})
    assert [each.reached for each in steps] == [10, 6, 3, 3, 1, 1]
    assert [each.drop_off for each in steps] == [4, 3, 0, 2, 0, None]
    assert [each.conversion_rate for each in steps] == [0.6, 0.5, 1, 0.3333, 1, None]
    assert [(each.converted, each.leads, each.meets_target) for each in conversions({0: 4, 1: 3, 3: 2, 5: 1}, BUILT_IN_TARGETS)] == [
        (6, 10, False),
        (3, 6, True),
        (1, 3, True),
        (1, 1, True),
    ]  # fmt: skip


def test_leads_of_equal_scores_share_their_conversions_between_deciles():
    """Twenty leads, all with 50 points, four of them customers: 0.4 in every decile."""
    shown = deciles({50: TiedLeads(20, 4)})
    assert [(each.leads, each.customers, each.lift) for each in shown] == [(2, 0.4, 1.0)] * 10


TEXT = 'lifecycle = "ours"\ntransitions = []\n'


def test_a_lifecycle_has_the_four_targets_unless_it_names_its_own():
    assert compile_lifecycle(TEXT).targets == BUILT_IN_TARGETS
    assert compile_lifecycle(TEXT + "targets = []").targets == ()
    own = '[[targets]]\nfrom = "new"\nto = "customer"\nrate = 0.02'
    assert compile_lifecycle(TEXT + own).targets == (ConversionTarget("new", "customer", 0.02),)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ('from = "new"\nto = "customer"', "line 3, targets: wants [[targets]]"),
        ('from = "new"\nto = "lost"\nrate = 0.1', "'lost' is no stage of the funnel"),
        ('from = "engaged"\nto = "new"\nrate = 0.1', "'new' does not come after 'engaged'"),
        ('from = "new"\nto = "customer"\nrate = 70', "a share from 0 to 1, not 70"),
        ('from = "new"\nto = "customer"\nrate = true', "a share from 0 to 1, not True"),
        ('from = "new"\nto = "customer"\nrate = 1\n[[targets]]\nfrom = "new"\nto = "customer"\nrate = 1', "there are two"),
    ],
)  # fmt: skip
def test_a_wrong_target_is_refused_with_line_and_reason(target, reason):
    with pytest.raises(LifecycleError) as refusal:
        compile_lifecycle(f"{TEXT}[[targets]]\n{target}")
    assert reason in str(refusal.value)

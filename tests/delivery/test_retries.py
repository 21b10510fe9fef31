"""When a failed attempt is repeated, and when a channel rests."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.outcomes import MOST_RETRY_AFTER_SECONDS, retry_after_of
from delivery.retries import CircuitBreaker, backoff_seconds

NOW = datetime(2026, 11, 6, 8, 49, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 10), (2, 20), (3, 40), (10, 5_120), (12, 20_480), (13, 21_600)]
)
def test_the_wait_doubles_up_to_the_longest(attempt, seconds):
    assert backoff_seconds(attempt, 10, 21_600, 0.0) == seconds


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_chance_takes_off_at_most_a_half(attempt, chance):
    whole = backoff_seconds(attempt, 10, 21_600, 0.0)
    assert whole / 2 <= backoff_seconds(attempt, 10, 21_600, chance) <= whole


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("Fri, 06 Nov 2026 08:49:37 GMT", 37),
        ("Fri, 06 Nov 2026 08:00:00 GMT", 0),
        ("99999999999999999999", MOST_RETRY_AFTER_SECONDS),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("Fri, 99 Nov 2026 08:49:37 GMT", None),
    ],
)
def test_a_receiver_asks_for_a_pause_in_seconds_or_by_a_date(value, seconds):
    assert retry_after_of({"retry-after": value}, NOW) == seconds


def test_a_channel_rests_after_failures_in_a_row_then_one_attempt_decides():
    breaker = CircuitBreaker(failures=3, rest_seconds=60)
    breaker.failed(0, None)
    breaker.failed(1, None)
    assert not breaker.is_open(1)
    assert not breaker.is_on_trial
    breaker.failed(2, None)
    assert breaker.is_open(61.9)
    assert not breaker.is_open(62)
    assert breaker.is_on_trial
    breaker.failed(62, None)
    assert breaker.is_open(62 + 119), "it rests twice as long"
    breaker.succeeded()
    assert not breaker.is_on_trial


def test_a_success_between_failures_keeps_the_channel_open():
    breaker = CircuitBreaker(failures=2, rest_seconds=60)
    for second in range(10):
        breaker.failed(second, None)
        breaker.succeeded()
    assert not breaker.is_open(10)


def test_retry_after_rests_the_whole_channel_at_once():
    breaker = CircuitBreaker(failures=5, rest_seconds=60)
    breaker.failed(0, 300)
    assert breaker.is_open(299)
    assert not breaker.is_open(300)


@given(st.lists(st.booleans(), max_size=60))
def test_the_rest_is_bounded(outcomes):
    breaker, now = CircuitBreaker(failures=2, rest_seconds=1), 0.0
    for succeeded in outcomes:
        now += 1
        if succeeded:
            breaker.succeeded()
        else:
            breaker.failed(now, None)
        assert breaker.open_until <= now + 4


def test_the_sample_moment_is_a_friday():
    assert NOW.weekday() == 4
    assert NOW + timedelta(seconds=37) == datetime(2026, 11, 6, 8, 49, 37, tzinfo=UTC)

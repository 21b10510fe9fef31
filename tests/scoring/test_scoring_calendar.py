"""Local days: daylight saving, midnights that do not exist, dates that were skipped, the ends of time."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leads_given import DAY_MS, HOUR_MS

from schemas.moment import EARLIEST_MS, LATEST_MS
from scoring.features.calendar import calendar

ODD_ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns",
    "America/Havana", "America/Sao_Paulo", "Asia/Beirut", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Kwajalein",
]  # fmt: skip


def day(year, month, of_month):
    return (date(year, month, of_month) - date(1970, 1, 1)).days


def utc(*moment):
    return round(datetime(*moment, tzinfo=ZoneInfo("UTC")).timestamp() * 1000)


def test_a_day_of_utc_is_a_day_since_the_epoch():
    days = calendar("UTC")
    assert [days.day_of(at) for at in (-1, 0, DAY_MS - 1, DAY_MS)] == [-1, 0, 0, 1]
    assert days.start_of(20_000) == 20_000 * DAY_MS


@pytest.mark.parametrize(
    ("zone", "of", "starts", "hours"),
    [
        ("Europe/Berlin", (2025, 3, 30), (2025, 3, 29, 23), 23),
        ("Europe/Berlin", (2025, 10, 26), (2025, 10, 25, 22), 25),
        ("America/New_York", (2025, 7, 4), (2025, 7, 4, 4), 24),
        ("Asia/Kolkata", (2025, 7, 4), (2025, 7, 3, 18, 30), 24),
        # Lebanon's clocks went from 24:00 to 01:00: the day begins without a midnight
        ("Asia/Beirut", (2024, 3, 31), (2024, 3, 30, 22), 23),
        # Cuba's went from 01:00 back to 00:00: two midnights, the first begins the day
        ("America/Havana", (2024, 11, 3), (2024, 11, 3, 4), 25),
        # Newfoundland's went from 00:01 back to 23:01: one minute of the new day, then the old one again
        ("America/St_Johns", (2010, 11, 7), (2010, 11, 7, 2, 30), 25),
        # Samoa skipped 30 December 2011
        ("Pacific/Apia", (2011, 12, 30), (2011, 12, 30, 10), 0),
        ("Pacific/Apia", (2011, 12, 31), (2011, 12, 30, 10), 24),
    ],
)
def test_a_day_starts_when_its_zone_says(zone, of, starts, hours):
    days = calendar(zone)
    assert days.start_of(day(*of)) == utc(*starts)
    assert days.start_of(day(*of) + 1) - days.start_of(day(*of)) == hours * HOUR_MS


@given(st.sampled_from(ODD_ZONES), st.integers(day(1985, 1, 1), day(2037, 12, 31)))
def test_days_follow_each_other_without_gap_or_overlap(zone, number):
    days = calendar(zone)
    start, end = days.start_of(number), days.start_of(number + 1)
    assert start <= end
    assert days.day_of(start - 1) < number
    if start < end:
        assert days.day_of(start) == days.day_of(end - 1) == number


@given(st.sampled_from(ODD_ZONES), st.integers(utc(1985, 1, 1), utc(2037, 12, 31)))
def test_the_day_is_the_local_date_unless_clocks_were_turned_back_over_midnight(zone, at):
    local = (datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC")) + timedelta(milliseconds=at)).astimezone(
        ZoneInfo(zone)
    )
    difference = calendar(zone).day_of(at) - (local.date() - date(1970, 1, 1)).days
    assert difference == 0 or (difference == 1 and local.hour == 23)


@pytest.mark.parametrize("zone", ODD_ZONES)
@pytest.mark.parametrize("at", [EARLIEST_MS, LATEST_MS, -(10**18), 10**18])
def test_the_ends_of_time_have_a_day(zone, at):
    assert abs(calendar(zone).day_of(at) - min(max(at, EARLIEST_MS), LATEST_MS) // DAY_MS) <= 1


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe/berlin ", "\0"])
def test_an_unknown_zone_is_refused_by_name(name):
    with pytest.raises(ValueError, match=r"time_zone: .* is no time zone; use an IANA name") as refused:
        calendar(name)
    assert repr(name) in str(refused.value)

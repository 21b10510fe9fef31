"""Quiet hours, working hours and local days, in the tenant's zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.hours import end_of_hours, start_of_day
from scoring.workflows.working_hours import read_hours

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-01-14 20:30", "2026-01-15 07:00"),  # 21:30 in Berlin
        ("2026-01-15 05:00", "2026-01-15 07:00"),  # 06:00
        ("2026-01-15 06:59", "2026-01-15 07:00"),
        ("2026-01-15 07:00", None),  # 08:00
        ("2026-01-15 19:59", None),  # 20:59
        ("2026-07-15 19:30", "2026-07-16 06:00"),  # summer time: 21:30, until 08:00
    ],
)
def test_quiet_hours_over_midnight(moment, end):
    found = end_of_hours(utc(moment), [read_hours("21:00-08:00")], BERLIN)
    assert found == (utc(end) if end else None)


def test_they_end_by_the_wall_clock_when_clocks_are_changed():
    """In the night to 29 March 2026, 02:00 became 03:00 in Berlin; 08:00 was 06:00 UTC."""
    assert end_of_hours(utc("2026-03-28 22:00"), [read_hours("21:00-08:00")], BERLIN) == utc(
        "2026-03-29 06:00"
    )


@pytest.mark.parametrize(
    ("text", "moment", "inside"),
    [
        ("mon-fri 09:00-17:30", "2026-01-16 14:00", True),  # a Friday in New York, 09:00
        ("mon-fri 09:00-17:30", "2026-01-16 13:59", False),
        ("mon-fri 09:00-17:30", "2026-01-16 22:30", False),  # 17:30
        ("mon-fri 09:00-17:30", "2026-01-17 15:00", False),  # Saturday
        ("sat-mon 09:00-17:30", "2026-01-19 15:00", True),  # over the end of the week
        ("sat 22:00-06:00", "2026-01-18 09:00", True),  # Sunday 04:00
        ("sun 00:00-24:00", "2026-01-18 23:00", True),
        ("fri 09:00-10:00", "2026-01-16 14:30", True),
    ],
)
def test_working_hours_of_some_days(text, moment, inside):
    assert (end_of_hours(utc(moment), [read_hours(text)], NEW_YORK) is not None) is inside


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9-17",
        "25:00-26:00",
        "10:00-10:00",
        "xyz 09:00-17:00",
        "mon-fri",
        "mon- 09:00-17:00",
        "09:60-10:00",
    ],
)
def test_nonsense_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        read_hours(text)


@given(st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)))  # noqa: DTZ001 - made UTC below
def test_the_end_is_after_the_moment_and_outside(moment):
    moment = moment.replace(tzinfo=UTC)
    hours = [read_hours("21:00-08:00")]
    end = end_of_hours(moment, hours, BERLIN)
    if end is not None:
        assert moment < end <= moment + timedelta(hours=12)
        assert end_of_hours(end, hours, BERLIN) is None


def test_a_local_day_begins_at_its_midnight():
    assert start_of_day(utc("2026-01-15 23:30"), BERLIN) == utc("2026-01-15 23:00")
    assert start_of_day(utc("2026-01-15 03:30"), NEW_YORK) == utc("2026-01-14 05:00")

"""Days, ISO weeks and months of a time zone, as periods of a window.

A period begins at the first moment of its first local day, so it is right where clocks change. Pure.
"""

from collections.abc import Iterator
from datetime import date
from typing import Literal, NamedTuple

from scoring.features.calendar import Calendar, date_of_day, day_of_date

PeriodType = Literal["daily", "weekly", "monthly"]

_LAST_DAY = day_of_date(date.max)


class Period(NamedTuple):
    """Half-open, in ms. The first and the last period of a window are cut at its ends."""

    name: str
    """2030-01-31, 2030-W05 or 2030-01."""
    begin: int
    end: int


def periods_of(zone: Calendar, period_type: PeriodType, begin: int, end: int) -> Iterator[Period]:
    """The periods that [begin, end) touches, in order. An empty window has none."""
    first = first_day_of_period(period_type, zone.day_of(begin))
    start = begin
    while start < end:
        following = next_period(period_type, first)
        stop = end if following > _LAST_DAY else min(zone.start_of(following), end)
        if stop > start:
            yield Period(period_name(period_type, first), start, stop)
            start = stop
        first = following


def first_day_of_period(period_type: PeriodType, day: int) -> int:
    """The first day of the period that the day is in. Days are numbered as in `Calendar`."""
    match period_type:
        case "daily":
            return day
        case "weekly":
            return day - (day + 3) % 7  # 1970-01-01 was a Thursday
        case "monthly":
            return day - date_of_day(day).day + 1


def next_period(period_type: PeriodType, first_day: int) -> int:
    """The first day of the period after the one that begins on `first_day`."""
    match period_type:
        case "daily":
            return first_day + 1
        case "weekly":
            return first_day + 7
        case "monthly":
            return first_day_of_period("monthly", first_day + 31)


def previous_period(period_type: PeriodType, first_day: int) -> int:
    """The first day of the period before the one that begins on `first_day`."""
    return first_day_of_period(period_type, first_day - 1)


def period_name(period_type: PeriodType, day: int) -> str:
    """The name of the period that the day is in."""
    on = date_of_day(day)
    match period_type:
        case "daily":
            return on.isoformat()
        case "weekly":
            year, week, _ = on.isocalendar()
            return f"{year}-W{week:02}"
        case "monthly":
            return f"{on.year:04}-{on.month:02}"

"""Quiet hours, working hours and local days. Pure: the moment and the time zone come in as arguments."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN: Final = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? )?"
    r"(?P<begin>[0-2]\d:[0-5]\d)-(?P<end>[0-2]\d:[0-5]\d)"
)
_DAY_MINUTES: Final = 24 * 60


class Hours(NamedTuple):
    """Local hours of some days of the week (0 is Monday), in minutes after midnight. `end` may be on the next day."""

    days: frozenset[int]
    begin: int
    end: int


def read_hours(text: str) -> Hours:
    """`21:00-08:00` of every day, or `mon-fri 09:00-17:30`. Raises ValueError."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text[:40]!r} is not HH:MM-HH:MM, or mon-fri HH:MM-HH:MM")
    first, last = match["first"], match["last"]
    for day in (first, last):
        if day is not None and day not in DAYS:
            raise ValueError(f"{day!r} is not a day: {', '.join(DAYS)}")
    if first is None:
        days = frozenset(range(7))
    else:
        begin_day, end_day = DAYS.index(first), DAYS.index(last or first)
        days = frozenset((begin_day + n) % 7 for n in range((end_day - begin_day) % 7 + 1))
    begin, end = _minutes(match["begin"]), _minutes(match["end"])
    if begin == end:
        raise ValueError(f"{text[:40]!r} begins and ends at the same time")
    return Hours(days, begin, end if end > begin else end + _DAY_MINUTES)


def end_of_hours(moment: datetime, hours: Iterable[Hours], zone: ZoneInfo) -> datetime | None:
    """When the hours end in which the moment is; None: it is in none of them."""
    ends = [end for begin, end in _spans(moment, hours, zone) if begin <= moment < end]
    return max(ends, default=None)


def start_of_day(moment: datetime, zone: ZoneInfo) -> datetime:
    """The midnight with which the local day of the moment began."""
    local = moment.astimezone(zone)
    return datetime.combine(local.date(), time(), zone).astimezone(UTC)


def _spans(moment: datetime, hours: Iterable[Hours], zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """The hours of the days around the moment, in UTC."""
    today = moment.astimezone(zone).date()
    return [
        (
            _at(datetime.combine(day, time()), span.begin, zone),
            _at(datetime.combine(day, time()), span.end, zone),
        )
        for span in hours
        for day in (today + timedelta(days=n) for n in range(-1, 2))
        if day.weekday() in span.days
    ]


def _at(midnight: datetime, minutes: int, zone: ZoneInfo) -> datetime:
    """The local wall clock at so many minutes after midnight, in UTC."""
    return (midnight + timedelta(minutes=minutes)).replace(tzinfo=zone).astimezone(UTC)


def _minutes(text: str) -> int:
    hour, minute = text.split(":")
    if int(hour) > 24 or (int(hour) == 24 and int(minute)):
        raise ValueError(f"{text!r} is not a time of day")
    return int(hour) * 60 + int(minute)

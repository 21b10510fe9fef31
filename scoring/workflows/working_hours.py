"""Working hours: local hours of some days of the week, and the moment at which so many minutes of them have passed."""

import re
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from scoring.features.calendar import Calendar, date_of_day
from scoring.models.points import NEVER

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTE_MS: Final = 60_000
MOST_DAYS: Final = 3_660
"""Hours are looked for so many days ahead."""
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

    @property
    def minutes_of_week(self) -> int:
        return len(self.days) * (self.end - self.begin)


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


def _minutes(text: str) -> int:
    hour, minute = text.split(":")
    if int(hour) > 24 or (int(hour) == 24 and int(minute)):
        raise ValueError(f"{text!r} is not a time of day")
    return int(hour) * 60 + int(minute)


@lru_cache(maxsize=4096)
def after_working_minutes(since: int, minutes: int, hours: tuple[Hours, ...], zone: Calendar) -> int:
    """The moment (ms) at which so many minutes of the hours have passed since `since`; without hours, of all time. NEVER: not
    within MOST_DAYS.
    """
    left, at = minutes * MINUTE_MS, since
    if not hours:
        return at + left
    today = zone.day_of(since)
    for day in range(today - 1, today + MOST_DAYS):
        date = date_of_day(day)
        midnight = datetime.combine(date, time())
        for span in sorted(
            (each for each in hours if date.weekday() in each.days), key=lambda each: each.begin
        ):
            begin = max(zone.at_local_time(midnight + timedelta(minutes=span.begin)), at)
            end = zone.at_local_time(midnight + timedelta(minutes=span.end))
            if end - begin >= left:
                return begin + left
            if end > begin:
                left, at = left - (end - begin), end
    return NEVER

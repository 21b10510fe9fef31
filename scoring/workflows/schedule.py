"""The schedule of a workflow: five fields as cron has them, in a tenant's zone. Pure.

A moment is a local date and time. If clocks skip it, it comes when they have gone forward; if they go back over it, it
comes the first time. So each comes exactly once. Days of the month and of the week are joined as in cron: if both are
limited, either is enough.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from scoring.features.calendar import Calendar, date_of_day

LONGEST_SCHEDULE = 100
DAYS_SEARCHED = 9 * 366
"""February 29 comes within eight years, also around 2100."""


_NO_NAMES: Mapping[str, int] = MappingProxyType({})
_MONTHS = {name: at for at, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}  # noqa: SIM905 - as cron writes them
_WEEKDAYS = {name: at for at, name in enumerate("sun mon tue wed thu fri sat".split())}  # noqa: SIM905 - as cron writes them
_PART = re.compile(r"(\*|[a-z0-9]{1,4})(?:-([a-z0-9]{1,4}))?(?:/(\d{1,2}))?", re.ASCII)


class _Field(NamedTuple):
    name: str
    lowest: int
    highest: int
    names: Mapping[str, int] = _NO_NAMES


_FIELDS = (
    _Field("the minute", 0, 59),
    _Field("the hour", 0, 23),
    _Field("the day of the month", 1, 31),
    _Field("the month", 1, 12, _MONTHS),
    _Field("the day of the week", 0, 7, _WEEKDAYS),
)


class ScheduleError(ValueError):
    """The schedule is wrong; the message gives the reason."""


class Schedule(NamedTuple):
    """Whole hours at most: every moment visits all leads."""

    text: str
    minute: int
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """From Sunday, 0, to Saturday, 6."""
    any_day: bool
    any_weekday: bool


def parse_schedule(text: object) -> Schedule:
    """Read five fields; ScheduleError gives the reason if they are wrong."""
    if not isinstance(text, str) or len(text) > LONGEST_SCHEDULE or len(fields := text.lower().split()) != 5:
        raise ScheduleError(
            'wants five fields, minute, hour, day of the month, month and day of the week: "0 9 * * 1" is Mondays at 9:00'
        )
    minutes, hours, days, months, weekdays = (
        _values(field, written) for field, written in zip(_FIELDS, fields, strict=True)
    )
    if len(minutes) > 1:
        raise ScheduleError(
            f"{fields[0]!r} is several minutes, and a workflow visits every lead, so at most once an hour: give one minute, "
            "such as 0"
        )
    schedule = Schedule(
        " ".join(fields),
        min(minutes),
        tuple(sorted(hours)),
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        any_day=fields[2].startswith("*"),
        any_weekday=fields[4].startswith("*"),
    )
    if not any(
        _has_date(schedule, date(2024, month, 1) + timedelta(day)) for month in months for day in range(31)
    ):
        raise ScheduleError(f"{text!r} never comes: no such month has that day")
    return schedule


def latest_moment(schedule: Schedule, zone: Calendar, after: int, until: int) -> int | None:
    """The latest moment of the schedule with after < moment <= until (ms); None: there is none."""
    last = zone.day_of(until)
    for day in range(last, max(zone.day_of(after), last - DAYS_SEARCHED) - 1, -1):
        if (moments := [at for at in _moments_of_day(schedule, zone, day) if after < at <= until]) != []:
            return max(moments)
    return None


def next_moment(schedule: Schedule, zone: Calendar, after: int) -> int | None:
    """The first moment of the schedule after `after` (ms); None: not within nine years."""
    first = zone.day_of(after)
    for day in range(first, first + DAYS_SEARCHED):
        if (moments := [at for at in _moments_of_day(schedule, zone, day) if at > after]) != []:
            return min(moments)
    return None


def _moments_of_day(schedule: Schedule, zone: Calendar, day: int) -> list[int]:
    on = date_of_day(day)
    if not _has_date(schedule, on):
        return []
    return [
        zone.at_local_time(datetime(on.year, on.month, on.day, hour, schedule.minute))  # noqa: DTZ001 - local
        for hour in schedule.hours
    ]


def _has_date(schedule: Schedule, on: date) -> bool:
    if on.month not in schedule.months:
        return False
    by_day, by_weekday = on.day in schedule.days, on.isoweekday() % 7 in schedule.weekdays
    if schedule.any_day or schedule.any_weekday:
        return by_day and by_weekday
    return by_day or by_weekday


def _values(field: _Field, written: str) -> frozenset[int]:
    values: set[int] = set()
    for part in written.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ScheduleError(f"{field.name} {written!r} cannot be read; write 5, 1-5, 1,3 or */2")
        first, last, step = match.groups()
        if first == "*":
            if last is not None:
                raise ScheduleError(f"{field.name} {written!r} cannot be read; write 5, 1-5, 1,3 or */2")
            low, high = field.lowest, field.highest
        else:
            low = _number(field, first)
            high = _number(field, last) if last is not None else field.highest if step else low
        if high == 0 < low and field.highest == 7:  # fri-sun
            high = 7
        if low > high:
            raise ScheduleError(f"{field.name} {part!r} runs backwards")
        if step is not None and int(step) == 0:
            raise ScheduleError(f"{field.name} {part!r} steps by 0")
        values.update(range(low, high + 1, int(step or 1)))
    return frozenset(values)


def _number(field: _Field, text: str) -> int:
    value = field.names.get(text, int(text) if text.isdigit() else -1)
    if not field.lowest <= value <= field.highest:
        names = f", or {', '.join(field.names)}" if field.names else ""
        raise ScheduleError(f"{field.name} is {field.lowest} to {field.highest}{names}, not {text!r}")
    return value

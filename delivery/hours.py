"""When quiet or working hours end, and local days. Pure: the moment and the time zone come in as arguments."""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from scoring.workflows.working_hours import Hours


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

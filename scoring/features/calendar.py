"""Local calendar days of a time zone: which day a moment falls on, and when a day starts.

Windows ("in 30 days") count local days. Days are numbered from 1970-01-01 and never run backwards: a day starts
at the first moment whose local date has reached it, even where clocks go back over midnight or skip a date.
Total for every moment of the years 1 to 9999; other moments are clamped.
"""

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from schemas.moment import EARLIEST_MS, LATEST_MS

DAY_MS = 86_400_000
DAY_SECONDS = 86_400
HOUR_MS = 3_600_000

_EPOCH_LOCAL = datetime(1970, 1, 1)  # noqa: DTZ001 - of any zone's clocks
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MILLISECOND = timedelta(milliseconds=1)
_RANGE_MARGIN_MS = 2 * DAY_MS
_LARGEST_OFFSET_MS = 18 * HOUR_MS  # more than the offset of any zone from UTC, ever


class Calendar:
    """The days of one time zone; get it from `calendar`."""

    __slots__ = ("_epoch", "_zone", "time_zone")

    def __init__(self, time_zone: str, zone: ZoneInfo | None) -> None:
        self.time_zone = time_zone
        self._zone = zone
        self._epoch = datetime(1970, 1, 1, tzinfo=zone)

    def __repr__(self) -> str:
        return f"calendar({self.time_zone!r})"

    def day_of(self, at_ms: int) -> int:
        """The local day that the moment falls on."""
        at = min(max(at_ms, EARLIEST_MS), LATEST_MS)
        if self._zone is None:
            return at // DAY_MS
        day = (at + self._offset(at)) // DAY_MS
        return day + 1 if _start_of_day(self, day + 1) <= at else day

    def start_of(self, day: int) -> int:
        """The first moment of the local day."""
        return day * DAY_MS if self._zone is None else _start_of_day(self, day)

    def at_local_time(self, local: datetime) -> int:
        """The moment at which the zone's clocks first show this date and time; if they skip it, when they go forward over
        it.
        """
        shown = (local - _EPOCH_LOCAL) // _MILLISECOND
        if self._zone is None:
            return shown
        old = self._offset(shown - _LARGEST_OFFSET_MS)
        new = self._offset(shown + _LARGEST_OFFSET_MS)
        if self._offset(shown - old) == old:
            return shown - old
        if self._offset(shown - new) == new:
            return shown - new
        before, after = shown - new, shown - old
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == old:
                before = middle
            else:
                after = middle
        return after

    def _offset(self, at_ms: int) -> int:
        """How far local time is ahead of UTC then."""
        if self._zone is None:
            return 0
        inside = min(max(at_ms, EARLIEST_MS + _RANGE_MARGIN_MS), LATEST_MS - _RANGE_MARGIN_MS)
        utc = self._epoch + timedelta(milliseconds=inside)
        ahead = self._zone.fromutc(utc).utcoffset()
        return 0 if ahead is None else ahead // _MILLISECOND


@lru_cache(maxsize=16_384)
def _start_of_day(days: Calendar, day: int) -> int:
    """Around one midnight a zone changes its offset at most once."""
    midnight = day * DAY_MS
    before, after = midnight - _LARGEST_OFFSET_MS, midnight + _LARGEST_OFFSET_MS
    old, new = days._offset(before), days._offset(after)  # noqa: SLF001 - the cached half of Calendar
    if old == new:
        return midnight - old
    while after - before > 1:
        middle = (before + after) // 2
        if days._offset(middle) == old:  # noqa: SLF001 - as above
            before = middle
        else:
            after = middle
    started = midnight - old
    return started if started < after else max(after, midnight - new)


@lru_cache(maxsize=1024)
def calendar(time_zone: str) -> Calendar:
    """The calendar of an IANA time zone; ValueError names an unknown one."""
    if time_zone in {"UTC", "Etc/UTC"}:
        return Calendar(time_zone, None)
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as unknown:
        raise ValueError(
            f"time_zone: {time_zone!r} is no time zone; use an IANA name such as Europe/Berlin"
        ) from unknown
    return Calendar(time_zone, zone)


def date_of_day(day: int) -> date:
    """The date of a local day, clamped to the years 1 to 9999."""
    return date.fromordinal(min(max(day + _EPOCH_ORDINAL, 1), date.max.toordinal()))


def day_of_date(on: date) -> int:
    return on.toordinal() - _EPOCH_ORDINAL

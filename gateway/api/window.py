"""The window of a report: `days`, or `from` and `to`, half-open, in the tenant's zone.

A date is the start of that local day. A moment without an offset is local time. `days` counts local calendar days, today
included. Without any of them, a report has a window of its own.
"""

from datetime import date, datetime
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import Query

from gateway.answers import RequestProblem
from gateway.api.services import ApiServices
from schemas.moment import millis, moment
from scoring.analytics.periods import Period, PeriodType, periods_of
from scoring.features.calendar import Calendar, day_of_date

DEFAULT_DAYS = 90
LONGEST_WINDOW_DAYS = 3_660
MOST_PERIODS = 400

Days = Annotated[
    int | None, Query(ge=1, le=LONGEST_WINDOW_DAYS, description="So many local days, today included.")
]
From = Annotated[
    str | None,
    Query(alias="from", max_length=40, description="A date or moment; local time unless it has an offset."),
]
To = Annotated[
    str | None, Query(alias="to", max_length=40, description="A date or moment; it is not included.")
]
Anonymous = Annotated[bool, Query(description="Count visitors without a known identity, too.")]
"""The parameter `include_anonymous` of reports over many leads."""
Interval = Annotated[PeriodType, Query(description="The length of the periods.")]


class Window(NamedTuple):
    """Half-open. `as_of` is the moment of the answer."""

    begin: datetime
    end: datetime
    zone: Calendar
    as_of: datetime

    def shown(self) -> dict[str, Any]:
        """What every report names of its window."""
        return {
            "as_of": self.as_of,
            "from": self.begin,
            "to": self.end,
            "time_zone": self.zone.time_zone,
        }

    def periods(self, period_type: PeriodType) -> list[Period]:
        """Raises RequestProblem, if there are more than a report may have."""
        periods = list[Period]()
        for each in periods_of(self.zone, period_type, millis(self.begin), millis(self.end)):
            if len(periods) == MOST_PERIODS:
                raise RequestProblem(
                    422, f"more than {MOST_PERIODS} periods: shorten the window, or take longer periods"
                )
            periods.append(each)
        return periods


def report_window(
    services: ApiServices,
    zone: Calendar,
    days: int | None,
    begin: str | None,
    end: str | None,
    default_days: int | None = DEFAULT_DAYS,
) -> Window:
    """The window of a report that is made now. Raises RequestProblem."""
    return read_window(zone, services.ports.now(), days, begin, end, default_days=default_days)


def read_window(
    zone: Calendar,
    now: datetime,
    days: int | None,
    begin: str | None,
    end: str | None,
    *,
    default_days: int | None,
) -> Window:
    """The window that a request names. `default_days` None: it begins in 1970. Raises RequestProblem."""
    if days is not None and (begin is not None or end is not None):
        raise RequestProblem(422, "send days, or from and to, not both", field="days")
    tomorrow = zone.day_of(millis(now)) + 1
    until = zone.start_of(tomorrow) if end is None else _read_moment(zone, end, "to")
    if begin is not None:
        since = _read_moment(zone, begin, "from")
    else:
        last = tomorrow if end is None else zone.day_of(until - 1) + 1
        counted = days or default_days
        since = zone.start_of(min(last, 0) if counted is None else last - counted)
    if end is None:
        until = max(since, until)
    if since > until:
        raise RequestProblem(422, "from is after to", field="from")
    return Window(moment(since), moment(until), zone, now)


def read_moment_of(zone: Calendar, text: str | None, field: str) -> datetime | None:
    """The moment that a parameter like `from` names; None: it is not there. Raises RequestProblem."""
    return None if text is None else moment(_read_moment(zone, text, field))


def _read_moment(zone: Calendar, text: str, field: str) -> int:
    try:
        if len(text) == len("2030-01-31"):
            return zone.start_of(day_of_date(date.fromisoformat(text)))
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a query's plus sign is a space
        return millis(at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone.time_zone)))
    except (ValueError, OverflowError):
        raise RequestProblem(
            422, "must be a date (2030-01-31) or a moment (2030-01-31T09:00:00+04:00)", field=field
        ) from None

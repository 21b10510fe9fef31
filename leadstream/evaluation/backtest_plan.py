"""The plan of a backtest that fits its archive: what counts as a conversion, how far apart the cutoffs are, how many
leads are chosen. What the user names is kept.

An archive that cannot answer is refused in plain words, with what to do, before anything is replayed.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from leadstream.console import Failure
from leadstream.evaluation.backtest import BacktestPlan
from leadstream.evaluation.backtest_report import ENOUGH_CONVERSIONS
from leadstream.evaluation.conversions import read_conversion
from projections.connection import Connection
from schemas.moment import millis

USUAL_CONVERSIONS = (
    "purchase_made",
    "meeting_scheduled",
    "demo_requested",
    "form_submitted",
    "contact_shared",
)
"""What counts if the user names nothing: the first of these that enough leads did."""
CUTOFFS_TO_FIT = 5
"""The cutoffs for which an archive should have room, and their horizons."""
LARGEST_DEFAULT_CAPACITY = 50
DEMO_STORE_HINT = "Its store is .leadstream/demo: pass that as --data-dir."
_HOUR = timedelta(hours=1)
_CUTOFF_DISTANCES = tuple(hours * _HOUR for hours in (1, 3, 6, 12, 24, 48, 72, 7 * 24, 14 * 24, 30 * 24))
"""Times between two cutoffs, from the shortest to the longest."""


class LeadsOfEvent(NamedTuple):
    """How many leads did an event."""

    leads: int
    first: datetime
    last: datetime
    """When the first and the last of these events were recorded."""


class ArchiveSurvey(NamedTuple):
    """The archive of those who are ranked: all identified leads of a tenant, or with the visitors, too."""

    leads: int
    left_out: int
    """Anonymous visitors that are not ranked."""
    doers: Mapping[str, LeadsOfEvent]
    """By the type of an event."""

    @property
    def begin(self) -> datetime:
        return min(each.first for each in self.doers.values())

    @property
    def span(self) -> timedelta:
        return max(each.last for each in self.doers.values()) - self.begin


class RequestedPlan(NamedTuple):
    """What the user names. None: it is chosen."""

    conversion: str | None = None
    every: timedelta | None = None
    horizon: timedelta | None = None
    capacity: int | None = None
    anonymous: bool = False


def survey_archive(connection: Connection, tenant: str, *, anonymous: bool) -> ArchiveSurvey:
    """One pass over the events that counted."""
    rows = connection.execute(
        """select h.type, count(distinct i.lead_key), min(h.recorded_at), max(h.recorded_at)
           from engagement_history h join identities i using (identity_key) join leads l using (lead_key)
           where h.tenant = %s and (l.identified or %s) group by h.type""",
        (tenant, anonymous),
    ).fetchall()
    counts = connection.execute(
        """select count(*) filter (where identified or %s), count(*) filter (where not (identified or %s))
           from leads where tenant = %s and identities > 0""",
        (anonymous, anonymous, tenant),
    ).fetchone()
    leads, left_out = counts or (0, 0)
    return ArchiveSurvey(leads, left_out, {kind: LeadsOfEvent(*of_kind) for kind, *of_kind in rows})


def plan_of(archive: ArchiveSurvey, wishes: RequestedPlan) -> BacktestPlan:
    """Raises Failure if the archive cannot answer, or the conversion is none."""
    conversion = None if wishes.conversion is None else read_conversion(wishes.conversion)
    if not archive.leads or not archive.doers:
        raise Failure(_no_leads_reason(archive, wishes))
    if conversion is None:
        conversion = read_conversion(_conversion_in(archive))
    elif not (conversion.is_stage or conversion.name or conversion.kind in archive.doers):
        raise Failure(
            f"No lead has converted: none of {archive.leads:,} leads has the event {wishes.conversion}. {_conversions_hint(archive)}"
        )
    length = wishes.every or wishes.horizon or _cutoff_distance_for(archive.span)
    return BacktestPlan(
        conversion,
        _milliseconds(wishes.every or length),
        _milliseconds(wishes.horizon or length),
        wishes.capacity or max(1, min(LARGEST_DEFAULT_CAPACITY, archive.leads // 10)),
        wishes.anonymous,
        millis(archive.begin),
    )


def options_of(plan: BacktestPlan) -> str:
    """The plan as options of the command."""
    return (
        f"--conversion {plan.conversion} --every {_duration_option(plan.every)} --horizon {_duration_option(plan.horizon)} "
        f"--capacity {plan.capacity}"
    )


def _duration_option(ms: int) -> str:
    hours = timedelta(milliseconds=ms) // _HOUR
    return f"{hours}h" if hours % 24 else f"{hours // 24}d"


def _conversion_in(archive: ArchiveSurvey) -> str:
    present = [kind for kind in USUAL_CONVERSIONS if kind in archive.doers]
    if not present:
        raise Failure(
            f"No lead has converted: none of {archive.leads:,} leads has {', '.join(USUAL_CONVERSIONS[:-1])} or {USUAL_CONVERSIONS[-1]}. "
            f"{_conversions_hint(archive)}"
        )
    enough = [kind for kind in present if archive.doers[kind].leads >= ENOUGH_CONVERSIONS]
    return enough[0] if enough else max(present, key=lambda kind: archive.doers[kind].leads)


def _cutoff_distance_for(span: timedelta) -> timedelta:
    fitting = [length for length in _CUTOFF_DISTANCES if length * CUTOFFS_TO_FIT <= span]
    if not fitting:
        raise Failure(
            f"The archive is too short for a backtest: its events were recorded within {_span_text(span)}. A model needs time to "
            "rank leads, and leads need time to convert. Import older events (`leadstream import events`), let time pass, "
            f"or look at data that are there already: `leadstream demo` simulates 90 days. {DEMO_STORE_HINT}"
        )
    return fitting[-1]


def _no_leads_reason(archive: ArchiveSurvey, wishes: RequestedPlan) -> str:
    if wishes.anonymous or not archive.left_out:
        return f"The archive has no leads to rank. `leadstream demo` simulates a company with 90 days of events. {DEMO_STORE_HINT}"
    return (
        f"Nobody is identified in this archive, so no lead can be ranked: it has {archive.left_out:,} anonymous visitors. "
        "--anonymous ranks them, too, if they convert (name what counts with --conversion). Else identify visitors "
        '(docs/producing.md, "Who it was"), or look at data that are there already: `leadstream demo` simulates 90 days. '
        f"{DEMO_STORE_HINT}"
    )


def _conversions_hint(archive: ArchiveSurvey) -> str:
    kinds = sorted(archive.doers, key=lambda kind: -archive.doers[kind].leads)[:5]
    present = ", ".join(f"{kind} ({archive.doers[kind].leads:,})" for kind in kinds)
    return (
        f"Events of these leads: {present}. Name with --conversion what counts for you: one of them, custom:NAME, "
        "conversion:TYPE or stage:STAGE."
    )


def _span_text(span: timedelta) -> str:
    if span.days > 1:
        return f"{span.days} days"
    hours = span / _HOUR
    return f"{hours:.0f} hours" if hours >= 2 else f"{max(1, round(hours * 60))} min"


def _milliseconds(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)

"""One lead's journey and days as the analytics worker stored them, for leads whose events are too many to compute them at
a request. No I/O.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Select, select

from projections.analytics_tables import lead_days, lead_journeys
from schemas.moment import millis
from scoring.journeys.day_summary import DaySummary
from scoring.journeys.journey import LeadJourney
from scoring.lifecycle.transitions import FUNNEL_STAGES

_MOMENTS: Final = (
    "first_outreach_at",
    "first_contact_at",
    "first_interaction_at",
    "last_interaction_at",
)
_OTHERS: Final = tuple(name for name in LeadJourney._fields if name not in {*_MOMENTS, "entered", "reached"})


def stored_journey(lead_key: int) -> Select[Any]:
    """No row: the worker has not come to the lead yet."""
    return select(lead_journeys).where(lead_journeys.c.lead_key == lead_key)


def stored_days(lead_key: int, first: date, until: date, *, limit: int) -> Select[Any]:
    """The latest days of [first, until), the newest first."""
    day = lead_days.c
    return (
        select(lead_days)
        .where(day.lead_key == lead_key, day.day >= first, day.day < until)
        .order_by(day.day.desc())
        .limit(limit)
    )


def journey_of_row(row: Mapping[str, Any]) -> LeadJourney:
    """As `projections.lead_tables.journey_rows` stored it."""
    values: dict[str, Any] = {name: row[name] for name in _OTHERS}
    values |= {name: _millis_or_none(row[name]) for name in _MOMENTS}
    entered = {stage: millis(datetime.fromisoformat(at)) for stage, at in row["entered"].items()}
    first, *later = FUNNEL_STAGES
    reached: dict[str, int] = {first: min(entered.values())}
    reached |= {stage: millis(at) for stage in later if (at := row[f"{stage}_at"]) is not None}
    return LeadJourney(
        entered=dict(sorted(entered.items(), key=lambda entry: entry[1])), reached=reached, **values
    )


def day_of_row(row: Mapping[str, Any]) -> DaySummary:
    """As `projections.lead_tables.day_rows` stored it."""
    return DaySummary(
        **{name: row[name] for name in DaySummary._fields if name != "last_interaction_at"},
        last_interaction_at=_millis_or_none(row["last_interaction_at"]),
    )


def _millis_or_none(at: datetime | None) -> int | None:
    return None if at is None else millis(at)

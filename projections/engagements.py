"""A statement that lists a lead's engagements page by page. No I/O."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ARRAY, Select, Text, any_, literal, select, true, tuple_

from projections.tables import engagement_history, identities, lead_row_key


class EventCursor(NamedTuple):
    """The last event of a page; the next one goes on behind it."""

    occurred_at: datetime
    partition: int
    position: int


class EngagementFilters(NamedTuple):
    """Each filter that is set narrows the list."""

    types: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    source_type: str | None = None
    source_id: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    """Not included."""
    with_revenue: bool = False


NO_FILTERS: Final = EngagementFilters()


def select_engagements(
    tenant: str,
    lead_id: str,
    filters: EngagementFilters = NO_FILTERS,
    *,
    limit: int,
    before: EventCursor | None = None,
) -> Select[Any]:
    """The events of the lead's identities, the latest first. Each identity's are read in the order of its key, so a
    page costs the same however far back it is.
    """
    event = engagement_history.c
    order = event.occurred_at, event.partition, event.position
    conditions = [event.identity_key == identities.c.identity_key]
    if filters.types:
        conditions.append(event.type == any_(literal(list(filters.types), ARRAY(Text()))))
    if filters.channels:
        conditions.append(event.channel == any_(literal(list(filters.channels), ARRAY(Text()))))
    if filters.source_type is not None:
        conditions.append(event.source_type == filters.source_type)
    if filters.source_id is not None:
        conditions.append(event.source_id == filters.source_id)
    if filters.begin is not None:
        conditions.append(event.occurred_at >= filters.begin)
    if filters.end is not None:
        conditions.append(event.occurred_at < filters.end)
    if filters.with_revenue:
        conditions.append(event.revenue_minor.is_not(None))
    if before is not None:
        conditions += [
            event.occurred_at <= before.occurred_at,
            tuple_(*order) < tuple_(*map(literal, before)),
        ]
    latest = (
        select(engagement_history)
        .where(*conditions)
        .order_by(*(column.desc() for column in order))
        .limit(limit)
        .lateral("latest")
    )
    return (
        select(latest)
        .select_from(identities.join(latest, true()))
        .where(identities.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(latest.c.occurred_at.desc(), latest.c.partition.desc(), latest.c.position.desc())
        .limit(limit)
    )

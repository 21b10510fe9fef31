"""Statements that list a lead's engagements page by page, and sum up what engagements earned. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Select,
    Text,
    and_,
    any_,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)

from projections.lifecycle import TOUCHPOINT_TYPES
from projections.row_keys import lead_row_key
from projections.tables import engagement_history, identities, leads
from scoring.analytics.orders import ORDER_TYPES

CUSTOM_TYPE: Final = "custom"


class EventCursor(NamedTuple):
    """The last event of a page; the next one goes on behind it."""

    occurred_at: datetime
    partition: int
    position: int


class PastEvents(NamedTuple):
    """The events that a lead had at a moment: of these identities, recorded by then, or happened by then as is known today."""

    identity_keys: Sequence[int]
    until: datetime
    known_today: bool


class EngagementFilters(NamedTuple):
    """Each filter that is set narrows the list."""

    types: tuple[str, ...] = ()
    custom_names: tuple[str, ...] = ()
    """Beside `types`: custom events of these names."""
    channels: tuple[str, ...] = ()
    source_type: str | None = None
    source_id: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    """Not included."""
    with_revenue: bool = False
    then: PastEvents | None = None
    """As of a moment, else as of now."""


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
    if filters.types or filters.custom_names:
        of_type = event.type == any_(literal(list(filters.types), ARRAY(Text())))
        named = event.details["name"].astext == any_(literal(list(filters.custom_names), ARRAY(Text())))
        conditions.append(or_(of_type, and_(event.type == CUSTOM_TYPE, named)))
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
    then = filters.then
    if then is not None:
        conditions.append((event.occurred_at if then.known_today else event.recorded_at) <= then.until)
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
        .where(
            identities.c.lead_key == lead_row_key(tenant, lead_id)
            if then is None
            else identities.c.identity_key == any_(literal(list(then.identity_keys), ARRAY(BigInteger())))
        )
        .order_by(latest.c.occurred_at.desc(), latest.c.partition.desc(), latest.c.position.desc())
        .limit(limit)
    )


def revenue_of_engagements(
    tenant: str, starts: Sequence[datetime], end: datetime, *, anonymous: bool
) -> Select[Any]:
    """(type, channel, period, currency, minor): what the engagements of all leads earned that are no orders. A row
    names its period by its number, from 1.
    """
    event = engagement_history.c
    period = func.width_bucket(event.occurred_at, literal(list(starts), ARRAY(DateTime(timezone=True))))
    named = event.type, event.channel, period.label("period"), event.currency
    return (
        select(*named, func.sum(event.revenue_minor).label("minor"))
        .join(identities, identities.c.identity_key == event.identity_key)
        .join(leads, leads.c.lead_key == identities.c.lead_key)
        .where(
            event.tenant == tenant,
            event.occurred_at >= (starts[0] if starts else end),
            event.occurred_at < end,
            event.revenue_minor.is_not(None),
            event.type == any_(literal(sorted(set(TOUCHPOINT_TYPES) - ORDER_TYPES), ARRAY(Text()))),
            leads.c.identities > 0,
            or_(literal(anonymous), leads.c.identified),
        )
        .group_by(*named)
    )

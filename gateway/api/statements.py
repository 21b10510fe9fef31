"""The API's SQL statements beyond `projections.queries`. No I/O."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Text, any_, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from gateway.ports import EventKey
from projections.tables import (
    applied_events,
    engagement_history,
    event_row_key,
    identities,
    key_of,
    lead_row_key,
    lead_scores,
    sessions,
)
from schemas.topics import lead_key, visitor_key
from scoring.features.identity import MOST_SEGMENTS, identity_id

MOST_CHOICES = 100
"""Events of one id that are listed."""


def scores_of(lead_keys: Sequence[int]) -> Select[Any]:
    """The current scores of several leads, by every model."""
    return select(lead_scores).where(_among(lead_scores.c.lead_key, lead_keys)).order_by(lead_scores.c.model)


def sessions_counted(lead_keys: Sequence[int]) -> Select[Any]:
    """How many web sessions each of several leads has."""
    return (
        select(identities.c.lead_key, func.count().label("sessions"))
        .select_from(sessions.join(identities, identities.c.identity_key == sessions.c.identity_key))
        .where(_among(identities.c.lead_key, lead_keys), ~sessions.c.retracted)
        .group_by(identities.c.lead_key)
    )


def events_named(tenant: str, lead_id: str, event_ids: Sequence[str]) -> Select[Any]:
    """The lead's events with these ids: what caused its changes."""
    engagement = engagement_history.c
    return (
        select(
            engagement.event_id,
            engagement.type,
            engagement.occurred_at,
            engagement.source,
            engagement.title,
            engagement.url,
            engagement.details,
        )
        .select_from(
            engagement_history.join(identities, identities.c.identity_key == engagement.identity_key)
        )
        .where(identities.c.lead_key == lead_row_key(tenant, lead_id), _among(engagement.event_id, event_ids))
    )


def _among(column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
    """As an array, so that the statement's text is the same for any number of values."""
    kind = Text() if isinstance(column.type, Text) else BigInteger()
    return column == any_(literal(list(values), ARRAY(kind)))


def applied(events: Sequence[EventKey]) -> Select[Any]:
    """What became of several events. The keys and ids are those of the events, in any combination."""
    row_keys = sorted({event_row_key(event.tenant, event.event_id) for event in events})
    return (
        select(applied_events)
        .where(
            _among(applied_events.c.event_key, row_keys),
            _among(applied_events.c.key, sorted({event.key for event in events})),
        )
        .order_by(applied_events.c.at, applied_events.c.lead_id)
    )


def applied_under(tenant: str, event_id: str, *, key: str | None, lead_id: str | None) -> Select[Any]:
    """What became of the events with this id: of one visitor (`key`), of a lead, or of everybody."""
    table = applied_events.c
    mine = select(applied_events).where(table.event_key == event_row_key(tenant, event_id))
    if key is not None:
        mine = mine.where(table.key == key)
    if lead_id is not None:
        mine = mine.where(or_(table.key == lead_key(tenant, lead_id), table.lead_id == lead_id))
    return mine.order_by(table.at, table.lead_id).limit(MOST_CHOICES)


def lead_of_visitor(tenant: str, visitor_id: str) -> Select[Any]:
    """The lead that the visitor came to be last."""
    key = visitor_key(tenant, visitor_id)
    mine = [key_of(identity_id(key, segment)) for segment in range(MOST_SEGMENTS)]
    return (
        select(identities.c.lead_id)
        .where(_among(identities.c.identity_key, mine))
        .order_by(identities.c.attached_at.desc())
        .limit(1)
    )

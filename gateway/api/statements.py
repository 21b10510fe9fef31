"""The API's SQL statements beyond `projections.queries`. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Text, any_, func, literal, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from gateway.ports import EventKey
from projections.past_lists import owned_then
from projections.row_keys import event_row_key, hashed_key, lead_row_key
from projections.tables import applied_events, engagement_history, identities, lead_scores, sessions
from schemas.envelope import tag_of
from schemas.events import MessageReceived
from schemas.topics import lead_key, visitor_key
from scoring.features.identity import MOST_SEGMENTS, identity_id

MOST_OUTCOMES_LISTED = 100
"""Events of one id that are listed."""
VOICES_AMONG = 200
"""Events of an identity among which a voice message is looked for."""


def select_scores_of(lead_keys: Sequence[int]) -> Select[Any]:
    """The current scores of several leads, by every model."""
    return (
        select(lead_scores).where(_is_any_of(lead_scores.c.lead_key, lead_keys)).order_by(lead_scores.c.model)
    )


def select_session_counts(lead_keys: Sequence[int]) -> Select[Any]:
    """How many web sessions each of several leads has."""
    return (
        select(identities.c.lead_key, func.count().label("sessions"))
        .select_from(sessions.join(identities, identities.c.identity_key == sessions.c.identity_key))
        .where(_is_any_of(identities.c.lead_key, lead_keys), ~sessions.c.retracted)
        .group_by(identities.c.lead_key)
    )


def select_events_named(
    tenant: str, lead_id: str, event_ids: Sequence[str], identity_keys: Sequence[int] | None = None
) -> Select[Any]:
    """The lead's events with these ids, of all its visitors: what caused its changes. `identity_keys`: those that it had at another
    moment.
    """
    engagement = engagement_history.c
    return (
        select(
            engagement.event_id,
            engagement.type,
            engagement.occurred_at,
            engagement.recorded_at,
            engagement.source,
            engagement.title,
            engagement.url,
            engagement.details,
        )
        .select_from(
            engagement_history.join(identities, identities.c.identity_key == engagement.identity_key)
        )
        .where(
            identities.c.lead_key == lead_row_key(tenant, lead_id)
            if identity_keys is None
            else _is_any_of(identities.c.identity_key, identity_keys),
            _is_any_of(engagement.event_id, event_ids),
        )
    )


def _is_any_of(column: ColumnElement[Any], values: Sequence[int] | Sequence[str]) -> ColumnElement[bool]:
    """As an array, so that the statement's text is the same for any number of values."""
    kind = Text() if isinstance(column.type, Text) else BigInteger()
    return column == any_(literal(list(values), ARRAY(kind)))


def select_outcomes(events: Sequence[EventKey]) -> Select[Any]:
    """What became of several events. The keys and ids are those of the events, in any combination."""
    row_keys = sorted({event_row_key(event.tenant, event.event_id) for event in events})
    return (
        select(applied_events)
        .where(
            _is_any_of(applied_events.c.event_key, row_keys),
            _is_any_of(applied_events.c.key, sorted({event.key for event in events})),
        )
        .order_by(applied_events.c.at, applied_events.c.lead_id)
    )


def select_outcomes_under(tenant: str, event_id: str, *, key: str | None, lead_id: str | None) -> Select[Any]:
    """What became of the events with this id: of one visitor (`key`), of a lead, or of everybody."""
    table = applied_events.c
    mine = select(applied_events).where(table.event_key == event_row_key(tenant, event_id))
    if key is not None:
        mine = mine.where(table.key == key)
    if lead_id is not None:
        mine = mine.where(or_(table.key == lead_key(tenant, lead_id), table.lead_id == lead_id))
    return mine.order_by(table.at, table.lead_id).limit(MOST_OUTCOMES_LISTED)


def select_lead_of_visitor(tenant: str, visitor_id: str) -> Select[Any]:
    """The lead that the visitor came to be last."""
    key = visitor_key(tenant, visitor_id)
    mine = [hashed_key(identity_id(key, segment)) for segment in range(MOST_SEGMENTS)]
    return (
        select(identities.c.lead_id)
        .where(_is_any_of(identities.c.identity_key, mine))
        .order_by(identities.c.attached_at.desc())
        .limit(1)
    )


def latest_voices(lead_keys: Sequence[int], until: datetime | None = None) -> Select[Any]:
    """The latest voice message of several leads: duration, file, transcript and sender. It looks at the latest events of
    each identity only, VOICES_AMONG, so that a lead with very many costs no more than others. `until`: as it was recorded by then.
    """
    event = engagement_history.c
    owned: Any = identities if until is None else owned_then(lead_keys, until)
    latest = (
        select(
            event.occurred_at, event.position, event.type, event.source_type, event.source_id, event.details
        )
        .where(
            event.identity_key == owned.c.identity_key,
            true() if until is None else event.recorded_at <= until,
        )
        .order_by(event.occurred_at.desc(), event.partition.desc(), event.position.desc())
        .limit(VOICES_AMONG)
        .lateral("latest")
    )
    details = latest.c.details
    return (
        select(
            owned.c.lead_key,
            latest.c.source_type,
            latest.c.source_id,
            details["file_id"].astext.label("file_id"),
            details["text"].astext.label("text"),
            details["duration_s"].astext.label("duration_s"),
        )
        .ext(distinct_on(owned.c.lead_key))
        .select_from(owned.join(latest, true()))
        .where(
            _is_any_of(owned.c.lead_key, lead_keys),
            latest.c.type == tag_of(MessageReceived),
            details["kind"].astext == "voice",
        )
        .order_by(owned.c.lead_key, latest.c.occurred_at.desc(), latest.c.position.desc())
    )

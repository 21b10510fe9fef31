"""Statements about why identities belong to a lead: the events that were recorded when they came to it. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Select,
    Text,
    any_,
    column,
    func,
    literal,
    select,
    text,
    true,
)

from projections.tables import IS_KEPT_APART_CONDITION, engagement_history
from schemas.moment import ALLOWED_CLOCK_LEAD

MOST_EVENTS: Final = 500
"""Of an identity, before it came to the lead, that are looked through for the one that was recorded at that moment."""

MOST_KEPT_APART: Final = 50
"""Of all identities of a lead."""


def select_joining_events(joins: Sequence[tuple[int, datetime]]) -> Select[Any]:
    """Of each (identity key, when it came to its lead): the event that was recorded at that moment, if there is one."""
    requested = func.unnest(
        literal([key for key, _ in joins], ARRAY(BigInteger())),
        literal([at for _, at in joins], ARRAY(DateTime(timezone=True))),
    )
    join = requested.table_valued(
        column("identity_key", BigInteger()), column("at", DateTime(timezone=True)), name="join_"
    ).render_derived()
    event = engagement_history.c
    before = (
        select(event.event_id, event.type, event.occurred_at, event.recorded_at, event.details)
        .where(event.identity_key == join.c.identity_key, event.occurred_at <= join.c.at + ALLOWED_CLOCK_LEAD)
        .order_by(event.occurred_at.desc(), event.partition.desc(), event.position.desc())
        .limit(MOST_EVENTS)
        .lateral("before")
    )
    return (
        select(join.c.identity_key, before)
        .select_from(join.join(before, true()))
        .where(before.c.recorded_at == join.c.at)
        .order_by(join.c.identity_key, before.c.occurred_at.desc())
    )


def select_merges(identity_keys: Sequence[int], into: str) -> Select[Any]:
    """(identity_key, event_id, type, occurred_at, recorded_at, details) of the merges of these identities' leads, the latest first."""
    event = engagement_history.c
    return (
        select(
            event.identity_key,
            event.event_id,
            event.type,
            event.occurred_at,
            event.recorded_at,
            event.details,
        )
        .where(
            event.identity_key == any_(literal(list(identity_keys), ARRAY(BigInteger()))),
            event.type == "leads_merged",
            event.details["into"].astext == literal(into, Text()),
        )
        .order_by(event.occurred_at.desc())
    )


def select_kept_apart(identity_keys: Sequence[int]) -> Select[Any]:
    """(identity_key, event_id, type, recorded_at, lead_id, field) of the events of these identities that have an address of another
    lead, which has another value of a unique field; the latest first.
    """
    event = engagement_history.c
    return (
        select(
            event.identity_key,
            event.event_id,
            event.type,
            event.recorded_at,
            event.details["extra"]["kept_apart_from"].astext.label("lead_id"),
            event.details["extra"]["kept_apart_by"].astext.label("field"),
        )
        .where(
            event.identity_key == any_(literal(list(identity_keys), ARRAY(BigInteger()))),
            text(IS_KEPT_APART_CONDITION),
        )
        .order_by(event.recorded_at.desc(), event.position.desc())
        .limit(MOST_KEPT_APART)
    )

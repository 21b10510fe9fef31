"""Statements that read what changed in some leads since a moment, for readers who watch; nothing here does I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, DateTime, Select, Table, Text, any_, column, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from projections.public_tables import notifications
from projections.tables import band_changes, leads, score_history, stage_history

MOST_CHANGES: Final = 5_000
"""Of one kind, in one answer."""


def touched_leads(tenants: Sequence[str], lead_keys: Sequence[int]) -> Select[Any]:
    """(tenant, lead_id) of those of the leads that belong to one of the tenants."""
    return select(leads.c.tenant, leads.c.lead_id).where(
        leads.c.lead_key == any_(literal(list(lead_keys), ARRAY(BigInteger()))), _is_of(tenants)
    )


def score_changes_since(tenants: Sequence[str], since: Mapping[int, datetime]) -> Select[Any]:
    return _changes_since(score_history, tenants, since)


def band_changes_since(tenants: Sequence[str], since: Mapping[int, datetime]) -> Select[Any]:
    return _changes_since(band_changes, tenants, since)


def stage_changes_since(tenants: Sequence[str], since: Mapping[int, datetime]) -> Select[Any]:
    return _changes_since(stage_history, tenants, since)


def _changes_since(history: Table, tenants: Sequence[str], since: Mapping[int, datetime]) -> Select[Any]:
    """The rows of a history of leads, each lead's from its own moment on, in the order in which they were made."""
    changed = (
        func.unnest(
            literal(list(since), ARRAY(BigInteger())),
            literal(list(since.values()), ARRAY(DateTime(timezone=True))),
        )
        .table_valued(
            column("lead_key", BigInteger()), column("since", DateTime(timezone=True)), name="changed"
        )
        .render_derived()
    )
    return (
        select(leads.c.tenant, leads.c.lead_id, history)
        .select_from(
            changed.join(
                history,
                (history.c.lead_key == changed.c.lead_key) & (history.c.at >= changed.c.since),
            ).join(leads, leads.c.lead_key == changed.c.lead_key)
        )
        .where(_is_of(tenants))
        .order_by(history.c.at, history.c.position)
        .limit(MOST_CHANGES)
    )


def new_notifications(tenants: Sequence[str], execution_ids: Sequence[int]) -> Select[Any]:
    """Messages of workflows with these ids, of these tenants."""
    return select(notifications).where(
        notifications.c.tenant == any_(literal(list(tenants), ARRAY(Text()))),
        notifications.c.execution_id == any_(literal(list(execution_ids), ARRAY(BigInteger()))),
    )


def _is_of(tenants: Sequence[str]) -> Any:
    return leads.c.tenant == any_(literal(list(tenants), ARRAY(Text())))

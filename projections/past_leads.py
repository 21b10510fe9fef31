"""Statements about leads as of moments that are over. No I/O.

Histories say what a lead was: changes of scores, stages, attachments of identities, and the records of its own state.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Select, any_, literal, or_, select, true
from sqlalchemy.dialects.postgresql import distinct_on

from projections.lead_records import MOST_RECORDS
from projections.rows import WORKFLOWS
from projections.tables import (
    engagement_history,
    identities,
    lead_records,
    publications,
    sessions,
)
from schemas.control import EVERY_TENANT


def select_known_records(identity_keys: Sequence[int]) -> Select[Any]:
    """(record) of these identities at every lead that had them, in recorded order."""
    return (
        select(lead_records.c.record)
        .where(_among(lead_records.c.identity_key, identity_keys))
        .order_by(lead_records.c.at, lead_records.c.position)
        .limit(MOST_RECORDS + 1)
    )


def select_past_engagements(
    identity_keys: Sequence[int], until: datetime, *, known_today: bool, limit: int
) -> Select[Any]:
    """The events of these identities that were recorded by then, or happened by then as is known today; the latest first."""
    event = engagement_history.c
    latest = (
        select(engagement_history)
        .where(
            event.identity_key == identities.c.identity_key,
            event.occurred_at <= until if known_today else event.recorded_at <= until,
        )
        .order_by(event.occurred_at.desc(), event.partition.desc(), event.position.desc())
        .limit(limit)
        .lateral("latest")
    )
    return (
        select(identities.c.identity, latest)
        .select_from(identities.join(latest, true()))
        .where(_among(identities.c.identity_key, identity_keys))
        .order_by(latest.c.occurred_at.desc(), latest.c.partition.desc(), latest.c.position.desc())
        .limit(limit)
    )


def select_publications_until(tenant: str, until: datetime) -> Select[Any]:
    """The newest publication of each model by then, the tenant's own and everybody's; without a text it was retired."""
    row = publications.c
    return (
        select(row.tenant, row.model, row.version, row.text, row.folding, row.recorded_at)
        .ext(distinct_on(row.tenant, row.model))
        .where(
            or_(row.tenant == tenant, row.tenant == EVERY_TENANT),
            row.model != WORKFLOWS,
            row.recorded_at <= until,
        )
        .order_by(row.tenant, row.model, row.version.desc())
    )


def select_producer_ids(session_keys: Sequence[int]) -> Select[Any]:
    """(session_key, producer_id)."""
    row = sessions.c
    return select(row.session_key, row.producer_id).where(_among(row.session_key, session_keys))


def _among(column: Any, keys: Sequence[int]) -> Any:
    return column == any_(literal(list(keys), ARRAY(BigInteger())))

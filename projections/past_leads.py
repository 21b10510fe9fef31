"""Statements about leads as of moments that are over. No I/O.

Histories say what a lead was: changes of scores, stages, attachments of identities, and the records of its own state.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Select, Text, any_, case, literal, or_, select, true
from sqlalchemy.dialects.postgresql import distinct_on

from projections.lead_records import MOST_RECORDS
from projections.row_keys import lead_row_key
from projections.tables import (
    engagement_history,
    identities,
    identity_history,
    lead_records,
    publications,
    sessions,
    settings_history,
)
from schemas.control import EVERY_TENANT
from schemas.publications import WORKFLOWS
from scoring.features.features import CUSTOM_PREFIX


def select_known_records(identity_keys: Sequence[int]) -> Select[Any]:
    """(record) of these identities at every lead that had them, in recorded order."""
    return (
        select(lead_records.c.record)
        .where(_among(lead_records.c.identity_key, identity_keys))
        .order_by(lead_records.c.at, lead_records.c.position)
        .limit(MOST_RECORDS + 1)
    )


def select_had_identities(tenant: str, lead_id: str, until: datetime) -> Select[Any]:
    """One row, if the lead had an identity at that moment or before."""
    had = identity_history.c
    return (
        select(had.epoch)
        .where(had.lead_key == lead_row_key(tenant, lead_id), had.attached_at <= until)
        .limit(1)
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
            ~row.model.startswith("#"),  # of models only
            row.recorded_at <= until,
        )
        .order_by(row.tenant, row.model, row.version.desc())
    )


def select_settings_until(tenant: str, until: datetime) -> Select[Any]:
    """The newest publication of settings by then, the tenant's own and everybody's."""
    row = settings_history.c
    return (
        select(settings_history)
        .ext(distinct_on(row.tenant))
        .where(or_(row.tenant == tenant, row.tenant == EVERY_TENANT), row.recorded_at <= until)
        .order_by(row.tenant, row.version.desc())
    )


def select_workflows_until(tenant: str, until: datetime) -> Select[Any]:
    """(text) of the tenant's workflows by then; no row: there were none."""
    row = publications.c
    return (
        select(row.text)
        .where(row.tenant == tenant, row.model == WORKFLOWS, row.recorded_at <= until)
        .order_by(row.version.desc())
        .limit(1)
    )


def select_first_contact(
    identity_keys: Sequence[int], types: Sequence[str], since: datetime, until: datetime
) -> Select[Any]:
    """(occurred_at) of the first event of these types, as they are counted, that happened and was recorded in that time."""
    event = engagement_history.c
    counted = case((event.type == "custom", CUSTOM_PREFIX + event.details["name"].astext), else_=event.type)
    return (
        select(event.occurred_at)
        .where(
            _among(event.identity_key, identity_keys),
            event.occurred_at >= since,
            event.occurred_at <= until,
            event.recorded_at <= until,
            counted == any_(literal(list(types), ARRAY(Text()))),
        )
        .order_by(event.occurred_at)
        .limit(1)
    )


def select_silent_events(identity_keys: Sequence[int], event_ids: Sequence[str]) -> Select[Any]:
    """(event_id) of those that were imported or came late: they set nothing off."""
    event = engagement_history.c
    return select(event.event_id).where(
        _among(event.identity_key, identity_keys),
        event.event_id == any_(literal(list(event_ids), ARRAY(Text()))),
        or_(event.imported, event.late),
    )


def select_producer_ids(session_keys: Sequence[int]) -> Select[Any]:
    """(session_key, producer_id)."""
    row = sessions.c
    return select(row.session_key, row.producer_id).where(_among(row.session_key, session_keys))


def _among(column: Any, keys: Sequence[int]) -> Any:
    return column == any_(literal(list(keys), ARRAY(BigInteger())))

"""Statements about the merges of a lead: of it into another lead, and of others into it. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Select, Text, any_, literal, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY

from projections.row_keys import hashed_key
from projections.tables import IS_MERGE_CONDITION, engagement_history, identities
from schemas.topics import lead_key
from scoring.features.identity import identity_id

MOST_MERGED_LEADS: Final = 50
"""Leads that were merged into one, the latest ones."""
MERGE_TYPES: Final = ("leads_merged", "merge_undone")


def select_leads_merged_into(tenant: str, into: str) -> Select[Any]:
    """(identity_key) of the leads that were ever merged into this one, as far as they are its own records."""
    event = engagement_history.c
    return (
        select(event.identity_key)
        .where(
            event.tenant == tenant,
            text(IS_MERGE_CONDITION),
            event.details["into"].astext == literal(into, Text()),
        )
        .order_by(event.recorded_at.desc())
        .limit(MOST_MERGED_LEADS)
    )


def key_of_own_record(tenant: str, lead_id: str) -> int:
    """Of the identity whose events are merges of this lead."""
    return hashed_key(identity_id(lead_key(tenant, lead_id), 0))


def select_merge_events(identity_keys: Sequence[int], until: datetime | None) -> Select[Any]:
    """(identity, type, event_id, recorded_at, into) of the merges of these leads and of what undid them, in order."""
    event = engagement_history.c
    return (
        select(
            identities.c.identity,
            event.type,
            event.event_id,
            event.recorded_at,
            event.details["into"].astext.label("into"),
        )
        .select_from(engagement_history.join(identities, event.identity_key == identities.c.identity_key))
        .where(
            event.identity_key == any_(literal(list(identity_keys), ARRAY(BigInteger()))),
            event.type == any_(literal(list(MERGE_TYPES), ARRAY(Text()))),
            true() if until is None else event.recorded_at <= until,
        )
        .order_by(event.identity_key, event.recorded_at, event.occurred_at, event.event_id)
    )

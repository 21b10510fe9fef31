"""Leads as the models see them, from their stored features: for evidence, and for scores of future moments.

Reads the state of stage 2 and never writes it. Where that state is unavailable (another process has it),
there is no subject, and callers answer from the history alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import DecodeError, ValidationError
from sqlalchemy import Select

from gateway.store import ReadStore, Row, TableMissing
from projections.lead_scores import features_of
from scoring.features.features import NewerCodec
from scoring.features.lead_identity import LeadIdentity, decode_lead_identity, features_of_lead
from scoring.models.model import Subject

ReadRows = Callable[[Select[Any]], Awaitable[Sequence[Row]]]


async def subject_of(store: ReadStore, tenant: str, lead_id: str, stage: str) -> Subject | None:
    """None too when a newer version of Leadstream keeps the lead."""
    return (await subjects_of(store.rows, tenant, [{"lead_id": lead_id, "stage": stage}])).get(lead_id)


async def subjects_of(read: ReadRows, tenant: str, leads: Sequence[Row]) -> dict[str, Subject]:
    """By lead id. Leads whose features are not there, or not readable, are left out."""
    try:
        parts = await read(features_of(tenant, [row["lead_id"] for row in leads])) if leads else ()
    except TableMissing:
        return {}
    identities: dict[str, dict[str, LeadIdentity]] = {}
    unreadable = set[str]()
    for part in parts:
        try:
            decoded = decode_lead_identity(bytes(part["encoded"]))
        except (NewerCodec, DecodeError, ValidationError):
            unreadable.add(part["lead_id"])
            continue
        identities.setdefault(part["lead_id"], {})[part["identity"]] = decoded
    return {
        row["lead_id"]: Subject(features_of_lead(row["lead_id"], identities[row["lead_id"]]), row["stage"])
        for row in leads
        if row["lead_id"] in identities and row["lead_id"] not in unreadable
    }

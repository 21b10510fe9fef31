"""A lead as the models see it, from its stored features: for evidence, and for scores of future moments.

Reads the state of stage 2 and never writes it. Where that state is unavailable (another process has it),
there is no subject, and callers answer from the history alone.
"""

from msgspec import DecodeError, ValidationError

from gateway.store import ReadStore, TableMissing
from projections import queries
from scoring.features.features import NewerCodec
from scoring.features.lead_identity import decode_lead_identity, features_of_lead
from scoring.models.model import Subject


async def subject_of(store: ReadStore, tenant: str, lead_id: str, stage: str) -> Subject | None:
    """None too when a newer version of Leadstream keeps the lead."""
    try:
        parts = await store.rows(queries.feature_parts(tenant, lead_id))
        identities = {part["identity"]: decode_lead_identity(bytes(part["encoded"])) for part in parts}
    except (TableMissing, NewerCodec, DecodeError, ValidationError):
        return None
    return Subject(features_of_lead(lead_id, identities), stage) if identities else None

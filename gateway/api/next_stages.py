"""What leads lack for their next stage, as answers show it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from msgspec import DecodeError, ValidationError

from authoring.active_models import ActiveRules
from gateway.api.overrides import override_in_row
from gateway.store import Row, StoreSnapshot, TableMissing
from projections.lead_scores import features_of
from projections.queries import refuses_profiling
from schemas.moment import millis
from scoring.features.features import NewerCodec
from scoring.features.lead_identity import decode_lead_identity, features_of_lead
from scoring.features.qualification_override import QualificationOverride
from scoring.lifecycle.lifecycle import compile_lifecycle
from scoring.lifecycle.next_stage import MissingRequirement, NextStage, StageContext, next_stage
from scoring.models.model import ONE_POINT, Subject


async def subjects_of(ask: StoreSnapshot, tenant: str, leads: Sequence[Row]) -> dict[str, Subject]:
    """By lead id, from the state of the folds; those that it does not have are left out."""
    identities: dict[str, dict[str, Any]] = {}
    try:
        for part in await ask(features_of(tenant, [row["lead_id"] for row in leads])) if leads else ():
            decoded = decode_lead_identity(bytes(part["encoded"]))
            identities.setdefault(part["lead_id"], {})[part["identity"]] = decoded
    except (TableMissing, NewerCodec, DecodeError, ValidationError):
        return {}
    return {
        row["lead_id"]: Subject(features_of_lead(row["lead_id"], identities[row["lead_id"]]), row["stage"])
        for row in leads
        if row["lead_id"] in identities
    }


def next_stage_of_row(
    active: ActiveRules, row: Row, subject: Subject | None, at: datetime
) -> dict[str, Any] | None:
    """Of a lead's row. None: nothing leads it further by itself, or its features are not there."""
    return next_stage_json(active, row, subject, override_in_row(row, at), at)


def next_stage_json(
    active: ActiveRules,
    row: Row,
    subject: Subject | None,
    override: Mapping[str, Any] | None,
    at: datetime,
) -> dict[str, Any] | None:
    if subject is None or refuses_profiling(row):
        return None
    by_hand = None if override is None else QualificationOverride(override["band"], 0)
    context = StageContext(compiled_lifecycle(active.lifecycle), active.models, active.zone, active.idle_ms)
    following = next_stage(context, subject, millis(at), by_hand)
    return None if following is None else _shown(following)


compiled_lifecycle = lru_cache(maxsize=64)(compile_lifecycle)


def _shown(following: NextStage) -> dict[str, Any]:
    return {"stage": following.stage, "missing": [_shown_requirement(each) for each in following.missing]}


def _shown_requirement(missing: MissingRequirement) -> dict[str, Any]:
    points = None if missing.points is None else float(Decimal(missing.points) / ONE_POINT)
    return {**missing._asdict(), "any_of": list(missing.any_of), "points": points}

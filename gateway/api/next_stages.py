"""What leads lack for their next stage, as answers show it."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from authoring.active_models import ActiveRules
from gateway.api.overrides import override_in_row
from gateway.api.points import points
from gateway.store import Row
from projections.queries import refuses_profiling
from schemas.moment import millis
from scoring.features.qualification_override import QualificationOverride
from scoring.lifecycle.lifecycle import compile_lifecycle
from scoring.lifecycle.next_stage import MissingRequirement, NextStage, StageContext, next_stage
from scoring.models.model import Subject


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
    return {
        **missing._asdict(),
        "any_of": list(missing.any_of),
        "points": None if missing.points is None else points(missing.points),
    }

"""One lead explained as of a moment: the one state of which `GET /api/leads/{id}` and `leadstream explain` show the same numbers.

1. The lead as of the moment (`gateway.api.lead_as_of`).
2. Its scores are computed of that state, with the evidence of each line. Where that must not or cannot be, they are what the
   ledger says, whose lines have no evidence.
3. What it lacks for its next stage, and how long it waited for a contact, are of the same state.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from authoring.active_models import ActiveRules
from gateway.api.contact_times import contact_times_in_row
from gateway.api.lead_as_of import LeadAsOf, computed_scores
from gateway.api.lead_moment import LeadRequest, lead_at
from gateway.api.next_stages import next_stage_json
from gateway.api.score_shapes import add_recorded_lines, current_score_json, past_score_json
from gateway.ports import PastLeads
from gateway.store import Row, StoreSnapshot
from projections import queries


class ExplainedLead(NamedTuple):
    shown: LeadAsOf
    scores: Mapping[str, dict[str, Any]]
    """By model."""
    next_stage: dict[str, Any] | None
    speed_to_lead: dict[str, Any] | None


async def explain_lead(
    ask: StoreSnapshot, ports: PastLeads | None, active: ActiveRules, lead: Row, request: LeadRequest
) -> ExplainedLead:
    """`lead` is its row of today. Raises RequestProblem for the future without features."""
    tenant, lead_id, until = lead["tenant"], lead["lead_id"], request.until
    recorded, lines = await ask.all(
        queries.scores(tenant, lead_id) if until is None else queries.last_changes(tenant, lead_id, until),
        queries.breakdowns(tenant, lead_id, until),
    )
    shown = await lead_at(ask, ports, active, lead, request, recorded if until is None else None)
    scores = computed_scores(shown)
    if not shown.is_computed and not queries.refuses_profiling(shown.row):
        shape = past_score_json if request.is_past else current_score_json
        scores = {each["model"]: shape(each, active.models.get(each["model"])) for each in recorded}
        add_recorded_lines(scores, lines)
    return ExplainedLead(
        shown,
        scores,
        next_stage_json(shown.active, shown.row, shown.subject, shown.override, request.at),
        contact_times_in_row(shown.row, request.at),
    )

"""Does a lead's stored state say what a recalculation of it gives? Pure; for the nightly check.

Scores are kept up event by event, and moment by moment. This computes every model again from the lead's merged features,
and the stage, and compares. Nothing is expected to differ.
"""

from typing import NamedTuple

from msgspec import msgpack

from scoring.lifecycle.lifecycle import StagePosition
from scoring.models.model import Subject, changed_lines, rounded_points, score_lead
from scoring.models.points import MicroPoints
from streams.replay import lead_as_of
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_stage import NO_CONCLUSIONS, run_lifecycle
from streams.score_leads.lead_state import LeadState

STAGE = "stage"
"""What differs, where no model does."""
MOST_LINES = 12


class LeadDifference(NamedTuple):
    lead_id: str
    what: str
    """The model, or `stage`."""
    stored: str
    """As it is stored, brought to the moment by time alone: 45, stage none."""
    recalculated: str
    lines: list[tuple[str, str, str, MicroPoints]]
    """Of a model, the lines that differ, the largest first."""


def differences_of_lead(lead: LeadState, rules: LeadRules, at: int) -> list[LeadDifference]:
    """At a moment (ms). Changes the state that it is given, and nothing that is stored."""
    if not lead.exists or not lead.identities:
        return []
    lead, rules = lead_as_of(lead, rules, at), rules.for_lead(lead)
    return [*_of_models(lead, rules), *_of_stage(lead, rules)]


def _of_models(lead: LeadState, rules: LeadRules) -> list[LeadDifference]:
    head, differences = lead.head, []
    subject = Subject(lead.features, head.position.stage)
    for name, model in rules.models.items():
        emitted = head.emitted.get(name)
        if emitted is None:
            continue  # the lead has had no event since the model was first published
        new = score_lead(model, subject, head.clock, rules.zone, rules.idle_ms)
        stored = rounded_points(emitted.total), emitted.bands
        recalculated = rounded_points(new.total), new.bands
        if stored != recalculated:
            lines = changed_lines(model, emitted.vector, model, new.vector)
            lines.sort(key=lambda line: -abs(line[3]))
            differences.append(
                LeadDifference(
                    lead.lead_id, name, _in_words(*stored), _in_words(*recalculated), lines[:MOST_LINES]
                )
            )
    return differences


def _of_stage(lead: LeadState, rules: LeadRules) -> list[LeadDifference]:
    head = lead.head
    stored = head.position.stage
    head.position = msgpack.decode(msgpack.encode(head.position), type=StagePosition)
    run_lifecycle(rules, lead, NO_CONCLUSIONS)
    if head.position.stage == stored:
        return []
    return [LeadDifference(lead.lead_id, STAGE, stored, head.position.stage, [])]


def _in_words(total: int, bands: dict[str, str | None]) -> str:
    return ", ".join([str(total), *(f"{scale} {band or '-'}" for scale, band in bands.items())])

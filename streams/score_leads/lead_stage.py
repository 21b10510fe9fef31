"""A lead's stage: the active lifecycle applied to the lead's state.

Says nothing itself and stores nothing: it moves the position in the lead's head, and tells what is to be
emitted of that.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from schemas.control import Carried
from schemas.decode import Refusal, decode_source
from schemas.events import StageChanged
from scoring.features.qualification_override import bands_that_count
from scoring.lifecycle import lifecycle
from scoring.models.model import Conclusion
from streams.score_leads.lead_rules import LeadRules
from streams.score_leads.lead_state import LeadHead, LeadState

NO_CONCLUSIONS: Mapping[str, Conclusion] = MappingProxyType({})


class StageReason(NamedTuple):
    """Why a lead is in another stage, as `StageEntered` says it."""

    reason: str
    by: str | None = None
    note: str | None = None


def run_lifecycle(
    rules: LeadRules,
    state: LeadState,
    concluded: Mapping[str, Conclusion],
    *,
    merged: bool = False,
    carried: Carried | None = None,
    identified: Carried | None = None,
) -> lifecycle.StageMove | None:
    """Move the lead to the stage where nothing moves it further; the last step, if there was one."""
    head = state.head
    return lifecycle.run_transitions(
        rules.lifecycle,
        head.position,
        state.features,
        holds=_qualifications_met(rules, head, concluded),
        as_of=head.clock,
        merged=merged,
        carried=carried,
        identified=None if state.refuses_profiling else identified,
    )


def next_stage_change_at(rules: LeadRules, state: LeadState) -> int:
    """The next moment at which time alone moves the lead to another stage; exact."""
    head = state.head
    return lifecycle.next_transition_by_time(
        rules.lifecycle,
        head.position,
        state.features,
        holds=_qualifications_met(rules, head),
        after=head.clock,
    )


def stage_after_conclusions(rules: LeadRules, state: LeadState, concluded: Mapping[str, Conclusion]) -> str:
    """The stage that the lead's lifecycle comes to if models conclude so. Changes the state, says nothing."""
    if state.identities:
        run_lifecycle(rules, state, concluded)
    return state.head.position.stage


def stage_reason(
    position: lifecycle.StagePosition, last: lifecycle.StageMove, event: bytes | None
) -> StageReason:
    """In words; with the person's own, if `event` is the move that the lead has just obeyed."""
    move = _manual_move_in(position, event) if last.by_person else None
    if move is None:
        return StageReason(last.reason)
    by, note = move.by or None, move.reason or None
    reason = last.reason if by is None else f"moved by {by}"
    return StageReason(reason if note is None else f"{reason}: {note}", by, note)


def _manual_move_in(position: lifecycle.StagePosition, event: bytes | None) -> StageChanged | None:
    """None for a move that came along with a merge: its words stand in the event, where it happened."""
    try:
        source = None if event is None else decode_source(event)
    except Refusal:
        return None
    return (
        source
        if isinstance(source, StageChanged) and source.event_id == position.last_manual_move[1]
        else None
    )


def _qualifications_met(
    rules: LeadRules, head: LeadHead, concluded: Mapping[str, Conclusion] = NO_CONCLUSIONS
) -> frozenset[lifecycle.Qualification]:
    """The lifecycle's qualifications that hold: by these conclusions, else by what was emitted last."""
    return frozenset(
        qualification
        for qualification in rules.lifecycle.qualifications
        if (latest := concluded.get(qualification.model) or head.emitted.get(qualification.model)) is not None
        and bands_that_count(qualification.model, latest.bands, head.override).get(qualification.scale)
        in qualification.bands
    )

"""A lead's stage: the lifecycle in force applied to what the lead's state says.

Says nothing itself and stores nothing: it moves the position in the lead's head, and tells what is to be
said of that.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from schemas.control import Carried
from schemas.decode import Refusal, decode_source
from schemas.events import StageChanged
from scoring.lifecycle import lifecycle
from scoring.models.model import Conclusion
from streams.score_leads.lead_rules import Rules
from streams.score_leads.lead_state import Head, LeadState

NOTHING_NEW: Mapping[str, Conclusion] = MappingProxyType({})


class StageReason(NamedTuple):
    """Why a lead is in another stage, as `StageEntered` says it."""

    reason: str
    by: str | None = None
    note: str | None = None


def run_lifecycle(
    rules: Rules,
    state: LeadState,
    concluded: Mapping[str, Conclusion],
    *,
    merged: bool = False,
    carried: Carried | None = None,
) -> lifecycle.StageMove | None:
    """Move the lead to the stage where nothing moves it further; the last step, if there was one."""
    head = state.head
    return lifecycle.run(
        rules.lifecycle,
        head.position,
        state.features,
        holds=_holding(rules, head, concluded),
        as_of=head.clock,
        merged=merged,
        carried=carried,
    )


def next_stage(rules: Rules, state: LeadState) -> int:
    """The next moment at which time alone moves the lead to another stage; exact."""
    head = state.head
    return lifecycle.next_moment(
        rules.lifecycle, head.position, state.features, holds=_holding(rules, head), after=head.clock
    )


def stage_if(rules: Rules, state: LeadState, concluded: Mapping[str, Conclusion]) -> str:
    """The stage that the lead's lifecycle comes to if models conclude so. Changes the state, says nothing."""
    if state.identities:
        run_lifecycle(rules, state, concluded)
    return state.head.position.stage


def why(position: lifecycle.Position, last: lifecycle.StageMove, event: bytes | None) -> StageReason:
    """In words; with the person's own, if `event` is the move that the lead has just obeyed."""
    moved = _move_of(position, event) if last.by_person else None
    if moved is None:
        return StageReason(last.reason)
    by, note = moved.by or None, moved.reason or None
    reason = last.reason if by is None else f"moved by {by}"
    return StageReason(reason if note is None else f"{reason}: {note}", by, note)


def _move_of(position: lifecycle.Position, event: bytes | None) -> StageChanged | None:
    """None for a move that came along with a merge: its words stand in the event, where it happened."""
    try:
        told = None if event is None else decode_source(event)
    except Refusal:
        return None
    return told if isinstance(told, StageChanged) and told.event_id == position.obeyed[1] else None


def _holding(
    rules: Rules, head: Head, concluded: Mapping[str, Conclusion] = NOTHING_NEW
) -> frozenset[lifecycle.Qualification]:
    """The lifecycle's qualifications that hold: by these conclusions, else by what was said last."""
    return frozenset(
        wanted
        for wanted in rules.lifecycle.qualifications
        if (latest := concluded.get(wanted.model) or head.emitted.get(wanted.model)) is not None
        and latest.bands.get(wanted.scale) in wanted.bands
    )

"""The lifecycle: which stage a lead is in, and what moves it on.

Automatic moves only go forward in the funnel. A person's move wins; later events may advance the lead from it, but
never reverse it. Pure: its input is a compiled lifecycle, features, the qualifications that are met, and a moment.
A person's move is entered at its own time, so that what happened later counts; every other stage when it is found.
Every run ends: a move by a person counts once, and an event known when another stage was entered never leads out of it.
"""

from importlib.resources import files
from typing import NamedTuple

from msgspec import Struct

from schemas.control import Carried
from schemas.events import Stage
from schemas.moment import LATEST_MS
from scoring.features.features import Features
from scoring.features.profile_fields import MANUAL_STAGE_FIELD
from scoring.features.signals import INTERACTION_SIGNAL
from scoring.features.view import created_at
from scoring.lifecycle.lifecycle_text import LifecycleError, compile_lifecycle
from scoring.lifecycle.transitions import (
    FUNNEL_STAGES,
    SIDE_STAGES,
    STAGE_RANK,
    STAGES,
    Lifecycle,
    Qualification,
    Since,
    Transition,
)
from scoring.models.points import NEVER

__all__ = [
    "FUNNEL_STAGES",
    "MOVED_BY_PERSON_REASON",
    "SIDE_STAGES",
    "STAGES",
    "STAGE_RANK",
    "Lifecycle",
    "LifecycleError",
    "Qualification",
    "StageMove",
    "StagePosition",
    "Transition",
    "built_in_lifecycle",
    "compile_lifecycle",
    "further_stage",
    "next_transition_by_time",
    "run_transitions",
]

MOVED_BY_PERSON_REASON = "moved by a person"
MOVED_BY_MERGE_REASON = "came with a merged lead"
REACHED_UNKNOWN_REASON = "reached before the visitor was known"
MOST_STEPS = 2 * len(STAGES)
"""More than any run takes: each stage at most once, after a carried stage, a person's move and one new event."""


class StagePosition(Struct, array_like=True, gc=False):
    """A lead's stage, since when, when it qualified, and the last move by a person that was applied (occurred_at,
    event_id).
    """

    stage: Stage = "new"
    entered_at: int = 0
    """Events known by then do not count as later ones. 0: the lead began here."""
    qualified_at: int = -1
    last_manual_move: tuple[int, str] = (-1, "")
    armed: bool = True
    """True: every band may qualify the lead. False: some bands that it had at a person's move do not count yet."""
    missed: list[str] = []
    """While not armed: the qualifications that it has since failed once, and that count again."""


class StageMove(NamedTuple):
    """The last step of a run."""

    reason: str
    by_person: bool = False


StageStep = tuple[Stage, StageMove]


def built_in_lifecycle() -> str:
    """The text of the lifecycle that comes with Leadstream."""
    return (files("scoring") / "lifecycle" / "default.toml").read_text(encoding="utf-8")


def run_transitions(
    lifecycle: Lifecycle,
    position: StagePosition,
    features: Features,
    *,
    holds: frozenset[Qualification],
    as_of: int,
    merged: bool = False,
    carried: Carried | None = None,
    identified: Carried | None = None,
) -> StageMove | None:
    """Move the lead until nothing moves it further. Returns the last step, or None without one.

    `holds`: the qualifications that are met now. `merged`: an identity was attached or detached; `carried` is the
    stage that came with it from a merged lead. `identified`: the stage that a visitor had reached before anybody knew who it
    was. A person's later move wins over that.
    """
    last = None
    if carried is not None and further_stage(position.stage, carried.stage) != position.stage:
        last = StageMove(MOVED_BY_MERGE_REASON)
        _enter_stage(position, carried.stage, carried.entered_at, carried.entered_at)
    if (
        identified is not None
        and identified.entered_at > _last_manual_move_at(position, features)
        and further_stage(position.stage, identified.stage) != position.stage
    ):
        last = StageMove(REACHED_UNKNOWN_REASON)
        _enter_stage(position, identified.stage, identified.entered_at, identified.entered_at)
    for _ in range(MOST_STEPS):
        step = _apply_manual_move(position, features, merged=merged) or _next_automatic_step(
            lifecycle, position, features, holds=holds, as_of=as_of
        )
        if step is None:
            break
        stage, last = step
        if last.by_person:
            moved_at = position.last_manual_move[0]
            _enter_stage(position, stage, moved_at, moved_at)
        else:
            _enter_stage(position, stage, as_of, max([as_of, *(s.last for s in features.signals.values())]))
    return last


def _last_manual_move_at(position: StagePosition, features: Features) -> int:
    move = features.fields.get(MANUAL_STAGE_FIELD)
    return max(position.last_manual_move[0], -1 if move is None else move[0])


def next_transition_by_time(
    lifecycle: Lifecycle,
    position: StagePosition,
    features: Features,
    *,
    holds: frozenset[Qualification],
    after: int,
) -> int:
    """When time alone moves the lead on, if its bands do not change; INF: never."""
    earliest = NEVER
    for transition in lifecycle.onward[position.stage]:
        if transition.inactive is not None and _applies(transition, position, features, holds):
            ripe = _inactive_long_enough_at(transition, transition.inactive, position, features)
            if after < ripe < earliest and ripe <= LATEST_MS:
                earliest = ripe
    return earliest


def further_stage(a: Stage, b: Stage) -> Stage:
    """The stage further along; the first one if they are level."""
    return b if STAGE_RANK[b] > STAGE_RANK[a] else a


def _enter_stage(position: StagePosition, stage: Stage, at: int, latest_event: int) -> None:
    """The lead enters `stage` at `at`. From `qualified` on it has qualified. `latest_event`: the latest event known
    by then, which may be dated ahead of the clock.
    """
    position.stage, position.entered_at = stage, latest_event
    if position.qualified_at < 0 and STAGE_RANK[stage] >= STAGE_RANK["qualified"]:
        position.qualified_at = at


def _apply_manual_move(position: StagePosition, features: Features, *, merged: bool) -> StageStep | None:
    """Apply a later move by a person. On a merge it counts only if its stage is further along."""
    move = features.fields.get(MANUAL_STAGE_FIELD)
    if move is None or (move[0], move[1]) <= tuple(position.last_manual_move) or move[2] not in STAGE_RANK:
        return None
    position.last_manual_move = (move[0], move[1])
    position.armed, position.missed = False, []
    stage = move[2]
    if merged:
        stage = further_stage(position.stage, stage)
    return None if stage == position.stage else (stage, StageMove(MOVED_BY_PERSON_REASON, by_person=True))


def _next_automatic_step(
    lifecycle: Lifecycle,
    position: StagePosition,
    features: Features,
    *,
    holds: frozenset[Qualification],
    as_of: int,
) -> StageStep | None:
    """The next automatic step; None if there is none."""
    _rearm_left_bands(lifecycle, position, holds)
    for transition in lifecycle.onward[position.stage]:
        if not _applies(transition, position, features, holds):
            continue
        if transition.inactive is None or as_of >= _inactive_long_enough_at(
            transition, transition.inactive, position, features
        ):
            return transition.to, StageMove(transition.reason)
    return None


def _rearm_left_bands(lifecycle: Lifecycle, position: StagePosition, holds: frozenset[Qualification]) -> None:
    """A band that the lead had at a person's move counts again once the lead has left it."""
    if position.armed:
        return
    position.missed = [
        each.key for each in lifecycle.qualifications if each not in holds or each.key in position.missed
    ]
    if 0 < len(position.missed) == len(lifecycle.qualifications):
        position.armed, position.missed = True, []


def _applies(
    transition: Transition, position: StagePosition, features: Features, holds: frozenset[Qualification]
) -> bool:
    """Are all conditions met that time alone does not change?

    An event before a person's move does not undo the move: only later events count.
    """
    if transition.since == "qualifying" and position.qualified_at < 0:
        return False
    qualification = transition.qualified_by
    if qualification is not None and not (
        qualification in holds and (position.armed or qualification.key in position.missed)
    ):
        return False
    if not transition.signals:
        return True
    after = max(position.last_manual_move[0], _start_of_wait(transition.since, position))
    signals = features.signals
    return any(name in signals and signals[name].last > after for name in transition.signals)


def _start_of_wait(since: Since | None, position: StagePosition) -> int:
    match since:
        case "qualifying":
            return position.qualified_at
        case "entering":
            return position.entered_at
        case "move" | None:
            return position.last_manual_move[0]


def _inactive_long_enough_at(
    transition: Transition, inactive: int, position: StagePosition, features: Features
) -> int:
    """When the lead has been inactive for long enough. If it already was when a person moved it, the wait begins again
    at that move.
    """
    signals = features.signals
    if INTERACTION_SIGNAL in signals:
        idle_from = signals[INTERACTION_SIGNAL].last
    else:
        idle_from = position.entered_at or created_at(signals) or 0
    if transition.since is not None:
        idle_from = max(idle_from, _start_of_wait(transition.since, position))
    moved_at, move_id = position.last_manual_move
    if move_id and idle_from + inactive <= moved_at:
        idle_from = moved_at
    return idle_from + inactive

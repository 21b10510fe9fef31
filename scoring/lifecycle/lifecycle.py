"""The lifecycle: which stage a lead is in, and what moves it on.

Automatic moves go forward only; a person's move wins, and later acts may advance from it, never
reverse it. Pure: given a compiled lifecycle, features, the bands that hold and a moment. A run ends:
whatever was known when a stage was entered does not lead out of it again in a circle.
"""

from importlib.resources import files
from typing import NamedTuple

from msgspec import Struct

from schemas.control import Carried
from schemas.events import Stage
from schemas.moment import LATEST
from scoring.features.features import Features
from scoring.features.signals import INTERACTION, MANUAL_STAGE
from scoring.features.view import created_at
from scoring.lifecycle.lifecycle_text import LifecycleError, compile_lifecycle
from scoring.lifecycle.transitions import (
    FUNNEL,
    RANK,
    SIDE_STAGES,
    STAGES,
    Lifecycle,
    Qualification,
    Since,
    Transition,
)
from scoring.models.points import INF

__all__ = [
    "FUNNEL",
    "RANK",
    "SIDE_STAGES",
    "STAGES",
    "STAGE_MOVED",
    "Lifecycle",
    "LifecycleError",
    "Position",
    "Qualification",
    "StageMove",
    "Transition",
    "built_in_lifecycle",
    "compile_lifecycle",
    "further_stage",
    "next_moment",
    "run",
]

STAGE_MOVED = "moved by a person"
CAME_WITH = "came with a merged lead"
MOST_STEPS = 2 * len(STAGES)
"""More than any run takes: each stage at most once, after what was carried, a person and one new act."""


class Position(Struct, array_like=True, gc=False):
    """Where a lead stands: its stage, since when, when it qualified, and the last move by a person
    that was obeyed (occurred_at, event_id).
    """

    stage: Stage = "new"
    entered_at: int = 0
    """Nothing that was known by then counts as having happened since. 0: it began here."""
    qualified_at: int = -1
    obeyed: tuple[int, str] = (-1, "")
    armed: bool = True
    """Every band may qualify it: none holds any more that held at a person's move."""
    missed: list[str] = []
    """Qualifications that have once not held since, while it is not armed."""


class StageMove(NamedTuple):
    """The last step of a run."""

    reason: str
    by_person: bool = False


Step = tuple[Stage, StageMove]


def built_in_lifecycle() -> str:
    """The text of the lifecycle that comes with Leadstream."""
    return (files("scoring") / "lifecycle" / "default.toml").read_text(encoding="utf-8")


def run(
    lifecycle: Lifecycle,
    position: Position,
    features: Features,
    *,
    holds: frozenset[Qualification],
    as_of: int,
    merged: bool = False,
    carried: Carried | None = None,
) -> StageMove | None:
    """Move the lead to the stage where nothing moves it further; the last step, if there was one.

    `holds`: the qualifications that hold now. `merged`: an identity came or went, and `carried` is the
    stage that it brought along.
    """
    last = None
    if carried is not None and further_stage(position.stage, carried.stage) != position.stage:
        last = StageMove(CAME_WITH)
        _enter(position, carried.stage, carried.entered_at, carried.entered_at)
    for _ in range(MOST_STEPS):
        step = _obey(position, features, merged=merged) or _advance(
            lifecycle, position, features, holds=holds, as_of=as_of
        )
        if step is None:
            break
        stage, last = step
        _enter(position, stage, as_of, max([as_of, *(s.last for s in features.signals.values())]))
    return last


def next_moment(
    lifecycle: Lifecycle,
    position: Position,
    features: Features,
    *,
    holds: frozenset[Qualification],
    after: int,
) -> int:
    """When time alone moves the lead on, if the bands stay as they are; INF if it does not."""
    found = INF
    for transition in lifecycle.onward[position.stage]:
        if transition.inactive is not None and _applies(transition, position, features, holds):
            ripe = _ripe(transition, transition.inactive, position, features)
            if after < ripe < found and ripe <= LATEST:
                found = ripe
    return found


def further_stage(a: Stage, b: Stage) -> Stage:
    """The stage further along; the first one when they are level."""
    return b if RANK.get(b, 0) > RANK.get(a, 0) else a


def _enter(position: Position, stage: Stage, at: int, known: int) -> None:
    """The lead is in `stage` since `at`; whoever is that far has qualified. `known`: the latest act
    known by then, which may be dated ahead of the clock.
    """
    position.stage, position.entered_at = stage, known
    if position.qualified_at < 0 and RANK[stage] >= RANK["qualified"]:
        position.qualified_at = at


def _obey(position: Position, features: Features, *, merged: bool) -> Step | None:
    """A person moved the lead since; on a merge it counts only if that is further along."""
    move = features.fields.get(MANUAL_STAGE)
    if move is None or (move[0], move[1]) <= tuple(position.obeyed) or move[2] not in RANK:
        return None
    position.obeyed = (move[0], move[1])
    position.armed, position.missed = False, []
    stage = move[2]
    if merged:
        stage = further_stage(position.stage, stage)
    return None if stage == position.stage else (stage, StageMove(STAGE_MOVED, by_person=True))


def _advance(
    lifecycle: Lifecycle,
    position: Position,
    features: Features,
    *,
    holds: frozenset[Qualification],
    as_of: int,
) -> Step | None:
    """The next automatic step, or None at the fixpoint."""
    _arm(lifecycle, position, holds)
    for transition in lifecycle.onward[position.stage]:
        if not _applies(transition, position, features, holds):
            continue
        if transition.inactive is None or as_of >= _ripe(transition, transition.inactive, position, features):
            return transition.to, StageMove(transition.reason)
    return None


def _arm(lifecycle: Lifecycle, position: Position, holds: frozenset[Qualification]) -> None:
    """What qualified already when a person moved the lead has to be missing once before it counts anew."""
    if position.armed:
        return
    position.missed = [
        each.key for each in lifecycle.qualifications if each not in holds or each.key in position.missed
    ]
    if 0 < len(position.missed) == len(lifecycle.qualifications):
        position.armed, position.missed = True, []


def _applies(
    transition: Transition, position: Position, features: Features, holds: frozenset[Qualification]
) -> bool:
    """Does everything hold that time alone does not change?

    What a person's move had seen already is no reason to undo it: only later acts count.
    """
    if transition.since == "qualifying" and position.qualified_at < 0:
        return False
    wanted = transition.qualified_by
    if wanted is not None and not (wanted in holds and (position.armed or wanted.key in position.missed)):
        return False
    if not transition.signals:
        return True
    after = max(position.obeyed[0], _since(transition.since, position))
    signals = features.signals
    return any(name in signals and signals[name].last > after for name in transition.signals)


def _since(since: Since | None, position: Position) -> int:
    match since:
        case "qualifying":
            return position.qualified_at
        case "entering":
            return position.entered_at
        case _:
            return position.obeyed[0]


def _ripe(transition: Transition, inactive: int, position: Position, features: Features) -> int:
    """When the lead has been inactive for long enough. If it had been so already when a person moved it,
    it has that long once more.
    """
    signals = features.signals
    if INTERACTION in signals:
        idle_from = signals[INTERACTION].last
    else:
        idle_from = position.entered_at or created_at(signals) or 0
    if transition.since is not None:
        idle_from = max(idle_from, _since(transition.since, position))
    moved_at, moved = position.obeyed
    if moved and idle_from + inactive <= moved_at:
        idle_from = moved_at
    return idle_from + inactive

"""A compiled model: data, ready to be applied to any lead at any moment; made by `model_text`.

A score is a vector with one slot per line of the breakdown, fixed by the model. What the slots hold
always sums to the total, so a ledger entry is the difference between two vectors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scoring.features.features import CUSTOM, FeatureDelta
from scoring.features.signals import SignalDefinition
from scoring.features.view import View
from scoring.models.decay import DECAYED_AFTER, SHARES
from scoring.models.phrases import Reads
from scoring.models.points import ONE_POINT, Micro, Milli
from scoring.models.rules import Rule

UNBOUNDED: Milli = 1 << 200
"""More than any points."""

GroupPlan = tuple[tuple[tuple[Callable[[View], Milli], Milli | None, Milli], ...], Milli | None, Milli, Milli]
"""A group: ((award, cap, floor) ...), cap, floor, weight."""


class VectorEntry(NamedTuple):
    """What one element of a score's vector stands for."""

    group: str
    rule: str
    kind: str
    """points, rule cap, group cap, limit, decay, mean or rounding."""


class RuleGroup(NamedTuple):
    name: str
    rules: tuple[Rule, ...]
    cap: Milli | None
    weight: Milli
    floor: Milli | None = None


class Need(NamedTuple):
    """What a band asks for beside points."""

    fields: tuple[str, ...]
    actions: tuple[str, ...]
    within: int | None
    """Milliseconds; None: ever."""
    minimum: Micro


class Axis(NamedTuple):
    """One side of a matrix: bands of what a group adds, after caps and floors, before its weight."""

    group: str
    thresholds: list[tuple[Micro, str]]
    """The highest first."""
    lines: slice
    """The group's, in a vector."""
    weight: Milli


class Matrix(NamedTuple):
    """A set of bands, each made of a row's and a column's."""

    rows: Axis
    columns: Axis


class Decay(NamedTuple):
    """What each inactive day takes: the same points, or a share."""

    points: Micro
    shares: tuple[int, ...]
    """What is left after so many days, of SHARES; empty if the decay is linear."""


class Mean(NamedTuple):
    """How the scores of sessions become a lead's."""

    latest: int
    shares: tuple[int, ...]
    """How much a session counts that is so many days older than the newest; empty: all the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    name: str
    groups: tuple[RuleGroup, ...]
    slots: tuple[VectorEntry, ...]
    scales: dict[str, list[tuple[Micro, str]]]
    """Per set of bands of the total: (threshold, band), the highest first."""
    matrices: dict[str, Matrix]
    """The sets of bands that two groups make together."""
    band_sets: Mapping[str, tuple[str, ...]]
    """All sets of bands, of both sorts: what a conclusion names, and which bands each has."""
    band_on_rounded: bool
    needs: dict[str, tuple[Need, ...]]
    """Per band: any one of them is enough."""
    lowest: Micro | None
    highest: Micro | None
    decay: Decay | None
    mean: Mean | None
    rounding: bool
    signals: tuple[SignalDefinition, ...]
    reads: Reads
    windows: tuple[tuple[str, tuple[int, ...], int], ...]
    """(signal, lengths in days, fading): when days enter or leave them, the score may change; while one
    is among the latest `fading`, every day."""
    moments: tuple[tuple[str, tuple[int, ...]], ...]
    """(signal, milliseconds after it, rising): then, too."""
    lines: tuple[GroupPlan, ...]
    """The groups once more, as the innermost loop wants them."""

    @property
    def reads_sessions(self) -> bool:
        """Its rules see one session at a time, and a lead gets their mean."""
        return self.mean is not None


def vector_entries(
    groups: tuple[RuleGroup, ...], *, limited: bool, decays: bool, mean: bool, rounding: bool
) -> tuple[VectorEntry, ...]:
    """The lines that a breakdown has, in order."""
    slots: list[VectorEntry] = []
    for group in groups:
        for rule in group.rules:
            slots.append(VectorEntry(group.name, rule.name, "points"))
            if is_limited(rule):
                slots.append(VectorEntry(group.name, rule.name, "rule cap"))
        if is_limited(group):
            slots.append(VectorEntry(group.name, "", "group cap"))
    last = (("limit", limited), ("decay", decays), ("mean", mean), ("rounding", rounding))
    return (*slots, *(VectorEntry("", "", kind) for kind, present in last if present))


def group_plans(groups: tuple[RuleGroup, ...]) -> tuple[GroupPlan, ...]:
    return tuple(
        (tuple((rule.body.points, *_limits(rule)) for rule in group.rules), *_limits(group), group.weight)
        for group in groups
    )


def is_limited(held: Rule | RuleGroup) -> bool:
    """Has it a cap or a floor, and so a line for what that changes?"""
    return held.cap is not None or held.floor is not None


def _limits(held: Rule | RuleGroup) -> tuple[Milli | None, Milli]:
    """As the innermost loop wants them: (cap, floor), the cap being None only if there is neither."""
    if not is_limited(held):
        return None, 0
    return UNBOUNDED if held.cap is None else held.cap, -UNBOUNDED if held.floor is None else held.floor


def may_change_score(
    model: Model,
    lift: FeatureDelta | None,
    sessions_changed: bool,  # noqa: FBT001 - each caller has exactly these three in hand, in this order
    stage_changed: bool,  # noqa: FBT001 - as above
) -> bool:
    """May this change the model's score? If not, only time can."""
    reads = model.reads
    if (sessions_changed and reads.sessions) or (stage_changed and reads.stage):
        return True
    if lift is None:
        return False
    return bool(
        reads.created
        or (reads.fields and lift.fields)
        or (reads.sums and lift.sums)
        or (reads.first_touch and lift.touch is not None)
        or any(name in reads.signals for name in lift.signals)
        or any(name in reads.sets for name, _ in lift.items)
        or (_reads_custom(reads) and any(name.startswith(CUSTOM) for name in lift.signals))
    )


def _reads_custom(reads: Reads) -> bool:
    """A new custom signal may displace another: caps are shared."""
    return any(name.startswith(CUSTOM) for name in reads.signals)


def decayed(decay: Decay, above: Micro, inactive_days: int) -> Micro:
    """How much of the points above the lowest is gone after so many inactive days, not above 0."""
    if above <= 0 or inactive_days <= 0:
        return 0
    if decay.shares:
        return above * decay.shares[min(inactive_days, DECAYED_AFTER)] // SHARES - above
    return -min(decay.points * inactive_days, above)


def days_until_decayed(decay: Decay, above: Micro) -> int:
    """After how many inactive days nothing more goes."""
    if above <= 0:
        return 0
    return DECAYED_AFTER if decay.shares else -(-above // decay.points)


def whole_points(total: Micro) -> Micro:
    """Rounded half up to a whole point."""
    return (2 * total + ONE_POINT) // (2 * ONE_POINT) * ONE_POINT

"""A compiled model: plain data that can be applied to any lead at any moment; `model_text` compiles it.

A score is a vector with one entry for each line of the breakdown; the model fixes the entries. They always sum to
the total, so ledger lines are the difference between two vectors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scoring.chat.flow import ChatFlow
from scoring.features.comparison import ValueComparison
from scoring.features.features import CUSTOM, FeatureDelta
from scoring.features.signals import SignalDefinition
from scoring.features.view import View
from scoring.models.decay import DECAYED_AFTER, SHARES
from scoring.models.phrases import Reads
from scoring.models.points import ONE_POINT, Micro, Milli
from scoring.models.rules import Rule

UNBOUNDED: Milli = 1 << 200
"""More than any number of points."""

GroupPlan = tuple[tuple[tuple[Callable[[View], Milli], Milli | None, Milli], ...], Milli | None, Milli, Milli]
"""A group: ((award, cap, floor) ...), cap, floor, weight."""


class VectorEntry(NamedTuple):
    """The meaning of one entry of a score's vector."""

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
    """The requirements of a band, beside points."""

    fields: tuple[str, ...]
    actions: tuple[str, ...]
    within: int | None
    """Milliseconds; None: ever."""
    minimum: Micro


class Axis(NamedTuple):
    """One side of a matrix: the bands of one group. They apply to the group's points after caps and floors, but before
    the weight.
    """

    group: str
    thresholds: list[tuple[Micro, str]]
    """The highest first."""
    lines: slice
    """The group's entries in a vector."""
    weight: Milli


class Matrix(NamedTuple):
    """A set of bands, each combined from a row's and a column's."""

    rows: Axis
    columns: Axis


class Decay(NamedTuple):
    """What each inactive day takes: a number of points, or a share."""

    points: Micro
    shares: tuple[int, ...]
    """shares[n] / SHARES is the part that is left after n inactive days. Empty: the decay is linear, `points` a day."""


class Mean(NamedTuple):
    """How the scores of sessions make a lead's score."""

    latest: int
    shares: tuple[int, ...]
    """The weight of a session that is n days older than the newest is shares[n]. Empty: all weigh the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    name: str
    groups: tuple[RuleGroup, ...]
    slots: tuple[VectorEntry, ...]
    scales: dict[str, list[tuple[Micro, str]]]
    """Per set of bands of the total: (threshold, band), the highest first."""
    matrices: dict[str, Matrix]
    """The sets of bands that combine two groups."""
    band_sets: Mapping[str, tuple[str, ...]]
    """All sets of bands, matrices included, with their bands, the best first."""
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
    """(signal, window lengths in days, number of decaying days). The score may change when a day with the signal enters
    or leaves a window, and every day as long as the last such day is at most the decaying days ago."""
    moments: tuple[tuple[str, tuple[int, ...]], ...]
    """(signal, delays in milliseconds, in ascending order). The score may also change that long after the signal."""
    lines: tuple[GroupPlan, ...]
    """The groups in the form that the innermost loop reads."""
    comparison: ValueComparison
    """How its rules and signals compare values."""
    flow: ChatFlow | None = None
    """What the chat asks, whose answers its rules count; it gives no points itself."""

    @property
    def reads_sessions(self) -> bool:
        """Its rules see one session at a time, and a lead gets their mean."""
        return self.mean is not None


def vector_entries(
    groups: tuple[RuleGroup, ...], *, limited: bool, decays: bool, mean: bool, rounding: bool
) -> tuple[VectorEntry, ...]:
    """The entries of the vector, in the order of the breakdown."""
    entries: list[VectorEntry] = []
    for group in groups:
        for rule in group.rules:
            entries.append(VectorEntry(group.name, rule.name, "points"))
            if is_limited(rule):
                entries.append(VectorEntry(group.name, rule.name, "rule cap"))
        if is_limited(group):
            entries.append(VectorEntry(group.name, "", "group cap"))
    last = (("limit", limited), ("decay", decays), ("mean", mean), ("rounding", rounding))
    return (*entries, *(VectorEntry("", "", kind) for kind, present in last if present))


def group_plans(groups: tuple[RuleGroup, ...]) -> tuple[GroupPlan, ...]:
    return tuple(
        (tuple((rule.body.points, *_limits(rule)) for rule in group.rules), *_limits(group), group.weight)
        for group in groups
    )


def is_limited(bounded: Rule | RuleGroup) -> bool:
    """Does it have a cap or a floor, and so an entry for their effect?"""
    return bounded.cap is not None or bounded.floor is not None


def _limits(bounded: Rule | RuleGroup) -> tuple[Milli | None, Milli]:
    """(cap, floor) for the innermost loop. Without both: (None, 0). If one is missing, it is UNBOUNDED or -UNBOUNDED."""
    if not is_limited(bounded):
        return None, 0
    return (
        UNBOUNDED if bounded.cap is None else bounded.cap,
        -UNBOUNDED if bounded.floor is None else bounded.floor,
    )


def may_change_score(
    model: Model,
    delta: FeatureDelta | None,
    sessions_changed: bool,  # noqa: FBT001 - each caller has exactly these three in hand, in this order
    stage_changed: bool,  # noqa: FBT001 - as above
) -> bool:
    """May this event or change alter the model's score? If not, only time can."""
    reads = model.reads
    if (sessions_changed and reads.sessions) or (stage_changed and reads.stage):
        return True
    if delta is None:
        return False
    return bool(
        reads.created
        or (reads.fields and delta.fields)
        or (reads.sums and (delta.sums or delta.refund is not None))
        or (delta.key is not None and (reads.signals or reads.sums))  # it may replace what counted before
        or (reads.first_touch and delta.touchpoint is not None)
        or any(name in reads.signals for name in delta.signals)
        or any(name in reads.sets for name, _ in delta.items)
        or (_reads_custom(reads) and any(name.startswith(CUSTOM) for name in delta.signals))
    )


def _reads_custom(reads: Reads) -> bool:
    """A new custom signal may displace another, since they share a cap."""
    return any(name.startswith(CUSTOM) for name in reads.signals)


def decayed(decay: Decay, above: Micro, inactive_days: int) -> Micro:
    """The change (0 or below) of the points above the lowest total after a number of inactive days."""
    if above <= 0 or inactive_days <= 0:
        return 0
    if decay.shares:
        return above * decay.shares[min(inactive_days, DECAYED_AFTER)] // SHARES - above
    return -min(decay.points * inactive_days, above)


def days_until_decayed(decay: Decay, above: Micro) -> int:
    """The number of inactive days after which nothing more decays."""
    if above <= 0:
        return 0
    return DECAYED_AFTER if decay.shares else -(-above // decay.points)


def whole_points(total: Micro) -> Micro:
    """Rounded half up to a whole point."""
    return (2 * total + ONE_POINT) // (2 * ONE_POINT) * ONE_POINT

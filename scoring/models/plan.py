"""A compiled model: plain data that can be applied to any lead at any moment; `model_text` compiles it.

A score is a vector with one entry for each line of the breakdown; the model fixes the entries. They always sum to
the total, so ledger lines are the difference between two vectors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scoring.chat.flow import ChatFlow
from scoring.features.comparison import ValueComparison
from scoring.features.features import CUSTOM_PREFIX, FeatureDelta
from scoring.features.signals import SignalDefinition
from scoring.features.view import View
from scoring.models.decay import DECAYED_AFTER_DAYS, WHOLE_SHARE
from scoring.models.flags import Flag
from scoring.models.phrases import Reads
from scoring.models.points import ONE_POINT, MicroPoints, MilliPoints
from scoring.models.rules import Rule

UNBOUNDED: MilliPoints = 1 << 200
"""More than any number of points."""

GroupPlan = tuple[
    tuple[tuple[MilliPoints | None, MilliPoints], ...],
    MilliPoints | None,
    MilliPoints,
    MilliPoints,
]
"""A group: ((cap, floor) of each rule ...), cap, floor, weight."""


class LineLabel(NamedTuple):
    """The meaning of one entry of a score's vector."""

    group: str
    rule: str
    kind: str
    """points, rule cap, group cap, limit, decay, mean or rounding."""


class RuleGroup(NamedTuple):
    name: str
    rules: tuple[Rule, ...]
    cap: MilliPoints | None
    weight: MilliPoints
    floor: MilliPoints | None = None


class BandRequirement(NamedTuple):
    """The requirements of a band, beside points."""

    fields: tuple[str, ...]
    actions: tuple[str, ...]
    within: int | None
    """Milliseconds; None: ever."""
    minimum: MicroPoints


class MatrixAxis(NamedTuple):
    """One side of a matrix: the bands of one group. They apply to the group's points after caps and floors, but before
    the weight.
    """

    group: str
    thresholds: list[tuple[MicroPoints, str]]
    """The highest first."""
    lines: slice
    """The group's entries in a vector."""
    weight: MilliPoints


class Matrix(NamedTuple):
    """A set of bands, each combined from a row's and a column's."""

    rows: MatrixAxis
    columns: MatrixAxis


class InactivityDecay(NamedTuple):
    """What each inactive day takes: a number of points, or a share."""

    points: MicroPoints
    shares: tuple[int, ...]
    """shares[n] / WHOLE_SHARE is the part that is left after n inactive days. Empty: the decay is linear, `points` a day."""


class SessionMean(NamedTuple):
    """How the scores of sessions make a lead's score."""

    latest: int
    shares: tuple[int, ...]
    """The weight of a session that is n days older than the newest is shares[n]. Empty: all weigh the same."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    name: str
    groups: tuple[RuleGroup, ...]
    line_labels: tuple[LineLabel, ...]
    scales: dict[str, list[tuple[MicroPoints, str]]]
    """Per set of bands of the total: (threshold, band), the highest first."""
    matrices: dict[str, Matrix]
    """The sets of bands that combine two groups."""
    band_sets: Mapping[str, tuple[str, ...]]
    """All sets of bands, matrices included, with their bands, the best first."""
    band_on_rounded: bool
    needs: dict[str, tuple[BandRequirement, ...]]
    """Per band: any one of them is enough."""
    lowest: MicroPoints | None
    highest: MicroPoints | None
    decay: InactivityDecay | None
    mean: SessionMean | None
    rounding: bool
    signals: tuple[SignalDefinition, ...]
    reads: Reads
    windows: tuple[tuple[str, tuple[int, ...], int], ...]
    """(signal, window lengths in days, number of decaying days). The score may change when a day with the signal enters
    or leaves a window, and every day as long as the last such day is at most the decaying days ago."""
    moments: tuple[tuple[str, tuple[int, ...]], ...]
    """(signal, delays in milliseconds, in ascending order). The score may also change that long after the signal."""
    group_plans: tuple[GroupPlan, ...]
    """The groups in the form that the innermost loop reads."""
    awards: tuple[Callable[[View], MilliPoints], ...]
    """What each rule of all groups gives, in their order."""
    timed: tuple[int, ...]
    """The rules, by their numbers in `awards`, whose points time alone may change."""
    comparison: ValueComparison
    """How its rules and signals compare values."""
    flags: tuple[Flag, ...] = ()
    """What is shown of a lead beside its score; they give no points."""
    flow: ChatFlow | None = None
    """What the chat asks, whose answers its rules count; it gives no points itself."""

    @property
    def scores_sessions(self) -> bool:
        """Its rules see one session at a time, and a lead gets their mean."""
        return self.mean is not None


def line_labels_of(
    groups: tuple[RuleGroup, ...], *, limited: bool, decays: bool, mean: bool, rounding: bool
) -> tuple[LineLabel, ...]:
    """The entries of the vector, in the order of the breakdown."""
    entries: list[LineLabel] = []
    for group in groups:
        for rule in group.rules:
            entries.append(LineLabel(group.name, rule.name, "points"))
            if is_limited(rule):
                entries.append(LineLabel(group.name, rule.name, "rule cap"))
        if is_limited(group):
            entries.append(LineLabel(group.name, "", "group cap"))
    last = (("limit", limited), ("decay", decays), ("mean", mean), ("rounding", rounding))
    return (*entries, *(LineLabel("", "", kind) for kind, present in last if present))


def group_plans(groups: tuple[RuleGroup, ...]) -> tuple[GroupPlan, ...]:
    return tuple(
        (
            tuple(_cap_and_floor(rule) for rule in group.rules),
            *_cap_and_floor(group),
            group.weight,
        )
        for group in groups
    )


def rules_of(groups: tuple[RuleGroup, ...]) -> tuple[Rule, ...]:
    """The rules in the order of `Model.awards`."""
    return tuple(rule for group in groups for rule in group.rules)


def timed_rules(groups: tuple[RuleGroup, ...]) -> tuple[int, ...]:
    return tuple(
        number for number, rule in enumerate(rules_of(groups)) if rule.body.windows or rule.body.moments
    )


def is_limited(bounded: Rule | RuleGroup) -> bool:
    """Does it have a cap or a floor, and so an entry for their effect?"""
    return bounded.cap is not None or bounded.floor is not None


def _cap_and_floor(bounded: Rule | RuleGroup) -> tuple[MilliPoints | None, MilliPoints]:
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
        or any(name in reads.signals for name in delta.sequences)
        or any(name in reads.sets for name, _ in delta.items)
        or (_reads_custom(reads) and any(name.startswith(CUSTOM_PREFIX) for name in delta.signals))
    )


def _reads_custom(reads: Reads) -> bool:
    """A new custom signal may displace another, since they share a cap."""
    return any(name.startswith(CUSTOM_PREFIX) for name in reads.signals)


def points_decayed(decay: InactivityDecay, above: MicroPoints, inactive_days: int) -> MicroPoints:
    """The change (0 or below) of the points above the lowest total after a number of inactive days."""
    if above <= 0 or inactive_days <= 0:
        return 0
    if decay.shares:
        return above * decay.shares[min(inactive_days, DECAYED_AFTER_DAYS)] // WHOLE_SHARE - above
    return -min(decay.points * inactive_days, above)


def days_until_fully_decayed(decay: InactivityDecay, above: MicroPoints) -> int:
    """The number of inactive days after which nothing more decays."""
    if above <= 0:
        return 0
    return DECAYED_AFTER_DAYS if decay.shares else -(-above // decay.points)


def round_to_whole_points(total: MicroPoints) -> MicroPoints:
    """Rounded half up to a whole point."""
    return (2 * total + ONE_POINT) // (2 * ONE_POINT) * ONE_POINT

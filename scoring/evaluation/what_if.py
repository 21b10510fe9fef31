"""What a draft of a model would change if it were published now: for each lead, and in sum.

It compares as the sweep of a publication does: both models on the same features at the same moment, with armed
thresholds and rounded totals. Sums merge, and their size does not grow with the number of leads. Pure; publishes
nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappush, heappushpop
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec import Struct, field

from scoring.features.calendar import Calendar
from scoring.features.signals import IMPORTANT_CLICK_SIGNAL
from scoring.features.view import Subject
from scoring.models.crossings import cross_thresholds, named_thresholds
from scoring.models.flags import split_flags
from scoring.models.plan import Model
from scoring.models.points import ONE_POINT, MicroPoints, rounded_points
from scoring.models.score import Conclusion, changed_lines, score_lead

MOST_MOVERS = 20
"""Leads that are listed by name: those that change most."""
MOST_LINES_OF_MOVER = 12
"""Lines that are listed for one of them."""
SCORE_RANGES = (0, 20, 40, 60, 80, 100)
"""[0, 20) ... [80, 100]: the ranges of a distribution in reports."""
BIN_POINTS = 5
"""Points in one bin of a histogram."""
BIN_BELOW_RANGE, BIN_ABOVE_RANGE = -1, 100 // BIN_POINTS
"""The bins of totals below 0 and above 100."""


class EvaluationTime(NamedTuple):
    """The moment of a comparison, with the tenant's calendar and idle time."""

    at: int
    zone: Calendar
    idle_ms: int


class CurrentScore(NamedTuple):
    """A lead's last score by the active model, with all changes by time until now."""

    total: MicroPoints
    disarmed: Sequence[str]
    """Thresholds (SCALE:BAND) that have fired and are not armed again."""


NO_CURRENT_SCORE = CurrentScore(0, ())


class LeadComparison(NamedTuple):
    """One lead, before and after."""

    before: Conclusion
    after: Conclusion
    fires: list[str]
    """SCALE:BAND of each threshold that the publication would fire."""
    stages: tuple[str, str]
    """Before and after: a draft of the model that qualifies leads may change stages."""


StageOfConclusion = Callable[[Conclusion], str]
"""The lead's stage for a conclusion of the draft."""


def compare_lead(
    active: Model | None,
    draft: Model,
    subject: Subject,
    when: EvaluationTime,
    current: CurrentScore = NO_CURRENT_SCORE,
    restage: StageOfConclusion | None = None,
) -> LeadComparison:
    """`active` None: the draft is a new model. `restage` None: the draft changes no stages."""
    before = conclusion_or_empty(active, subject, when)
    after = score_lead(draft, subject, *when)
    stage = subject.stage
    if restage is not None:
        stage = restage(after)
        if stage != subject.stage:
            after = score_lead(draft, subject._replace(stage=stage), *when)
    return LeadComparison(before, after, fired_thresholds(draft, current, after), (subject.stage, stage))


def conclusion_or_empty(model: Model | None, subject: Subject, when: EvaluationTime) -> Conclusion:
    """The model's conclusion about the lead; empty without a model."""
    return Conclusion(0, [], {}) if model is None else score_lead(model, subject, *when)


def fired_thresholds(draft: Model, current: CurrentScore, after: Conclusion) -> list[str]:
    """SCALE:BAND of each threshold between the current score and the one after."""
    begin, end = rounded_points(current.total), rounded_points(after.total)
    if end <= begin:
        return []
    marks = [mark for scale, bands in draft.scales.items() for mark in named_thresholds(scale, bands)]
    return cross_thresholds(marks, begin, end, current.disarmed, moved=False).names


# Over all leads


class Mover(NamedTuple):
    """A lead that changes. Sorts by rank: a change of band, then the size of the change."""

    rank: tuple[bool, MicroPoints]
    lead: tuple[str, str]
    """(tenant, lead_id)"""
    before: MicroPoints
    after: MicroPoints
    bands: dict[str, tuple[str | None, str | None]]
    """Of each set of bands that changes; flags are none."""
    lines: list[tuple[str, str, str, MicroPoints]]
    """The lines that differ, the largest first."""


class MoveCounts(Struct):
    """Leads compared so far, added up."""

    leads: int = 0
    up: int = 0
    down: int = 0
    between_bands: int = 0
    """Leads that change a band of any set."""
    firing: int = 0
    """Leads for which a threshold would fire."""
    flows: Counter[tuple[str, str | None, str | None]] = field(default_factory=Counter)
    """(set of bands, from, to)"""
    fires: Counter[str] = field(default_factory=Counter)
    """By SCALE:BAND."""
    stages: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(from, to) of leads whose stage would change."""
    before: Counter[int] = field(default_factory=Counter)
    after: Counter[int] = field(default_factory=Counter)
    """Leads by bin of BIN points."""
    movers: list[Mover] = []
    """A heap."""


def add_comparison(
    counts: MoveCounts, lead: tuple[str, str], compared: LeadComparison, active: Model | None, draft: Model
) -> None:
    before, after, fired, stages = compared
    counts.leads += 1
    counts.before[_bin_of(before.total)] += 1
    counts.after[_bin_of(after.total)] += 1
    counts.up += after.total > before.total
    counts.down += after.total < before.total
    for scale in after.bands.keys() | before.bands.keys():
        counts.flows[scale, before.bands.get(scale), after.bands.get(scale)] += 1
    bands = changed_bands(split_flags(before.bands)[0], split_flags(after.bands)[0])
    counts.between_bands += bool(bands)
    if fired:
        counts.firing += 1
        counts.fires.update(fired)
    if stages[0] != stages[1]:
        counts.stages[stages] += 1
    if bands or before.total != after.total:
        rank = (bool(bands), abs(after.total - before.total))
        if len(counts.movers) < MOST_MOVERS or (rank, lead) > (counts.movers[0].rank, counts.movers[0].lead):
            lines = changed_lines(active, before.vector, draft, after.vector)
            lines.sort(key=lambda line: -abs(line[3]))
            _keep_mover(
                counts, Mover(rank, lead, before.total, after.total, bands, lines[:MOST_LINES_OF_MOVER])
            )


def sum_of_counts(several: Iterable[MoveCounts]) -> MoveCounts:
    """The sum of several counts."""
    whole = MoveCounts()
    for counts in several:
        whole.leads += counts.leads
        whole.up += counts.up
        whole.down += counts.down
        whole.between_bands += counts.between_bands
        whole.firing += counts.firing
        whole.flows.update(counts.flows)
        whole.fires.update(counts.fires)
        whole.stages.update(counts.stages)
        whole.before.update(counts.before)
        whole.after.update(counts.after)
        for mover in counts.movers:
            _keep_mover(whole, mover)
    return whole


def listed_movers(counts: MoveCounts) -> list[Mover]:
    """The listed leads: those that change a band first, then by the size of the change."""
    return sorted(counts.movers, key=lambda mover: (mover.rank, mover.lead), reverse=True)


def changed_bands(
    before: Mapping[str, str | None], after: Mapping[str, str | None]
) -> dict[str, tuple[str | None, str | None]]:
    """Per set of bands that differs: (from, to)."""
    return {
        scale: (before.get(scale), after.get(scale))
        for scale in sorted(before.keys() | after.keys())
        if before.get(scale) != after.get(scale)
    }


def _keep_mover(counts: MoveCounts, mover: Mover) -> None:
    # Leads are distinct, so the heap never compares fields that have no order.
    (heappush if len(counts.movers) < MOST_MOVERS else heappushpop)(counts.movers, mover)


def _bin_of(total: MicroPoints) -> int:
    if total < 0:
        return BIN_BELOW_RANGE
    return (
        BIN_ABOVE_RANGE
        if total > 100 * ONE_POINT
        else min(total // (BIN_POINTS * ONE_POINT), BIN_ABOVE_RANGE - 1)
    )


def leads_by_range(bins: Mapping[int, int]) -> dict[str, int]:
    """Leads by RANGES of points, and outside of them if there are any."""
    per_range = (SCORE_RANGES[1] - SCORE_RANGES[0]) // BIN_POINTS
    ranges = {
        f"{low}-{high}": sum(bins.get(n, 0) for n in range(i * per_range, (i + 1) * per_range))
        for i, (low, high) in enumerate(pairwise(SCORE_RANGES))
    }
    return (
        ({"below 0": bins[BIN_BELOW_RANGE]} if bins.get(BIN_BELOW_RANGE) else {})
        | ranges
        | ({"above 100": bins[BIN_ABOVE_RANGE]} if bins.get(BIN_ABOVE_RANGE) else {})
    )


def leads_by_bin(bins: Mapping[int, int]) -> list[tuple[int, int]]:
    """(lowest points, leads) of each bin; -BIN: below 0, 100: above 100."""
    return [(n * BIN_POINTS, bins.get(n, 0)) for n in range(BIN_BELOW_RANGE, BIN_ABOVE_RANGE + 1)]


# Signals


def uncounted_signals(draft: Model, active: Iterable[Model]) -> tuple[str, ...]:
    """Names of the draft's signals that no active model counts. They have no history yet, so only a replay shows
    their effect.
    """
    counted = {signal.stored for model in active for signal in model.signals}
    return tuple(signal.name for signal in draft.signals if signal.stored not in counted)


def changes_important_clicks(names: Iterable[str]) -> bool:
    """Is `important_click` among the names? Sessions classify a click when it happens and never again, so a new
    definition does not change past sessions.
    """
    return IMPORTANT_CLICK_SIGNAL in names


# Output


def counts_json(counts: MoveCounts) -> dict[str, Any]:
    """The counts for people and JSON."""
    return {
        "leads": counts.leads,
        "up": counts.up,
        "down": counts.down,
        "same": counts.leads - counts.up - counts.down,
        "change_band": counts.between_bands,
        "bands": [
            {"scale": scale, "from": begin, "to": end, "leads": leads}
            for (scale, begin, end), leads in sorted(counts.flows.items(), key=_flow_order)
        ],
        "fires": [
            {"scale": mark.partition(":")[0], "band": mark.partition(":")[2], "leads": leads}
            for mark, leads in sorted(counts.fires.items())
        ],
        "leads_firing": counts.firing,
        "stages": [
            {"from": begin, "to": end, "leads": leads}
            for (begin, end), leads in sorted(counts.stages.items())
        ],
        "distribution": {"before": leads_by_range(counts.before), "after": leads_by_range(counts.after)},
        "histogram": [
            {"from": points, "before": before, "after": after}
            for (points, before), (_, after) in zip(
                leads_by_bin(counts.before), leads_by_bin(counts.after), strict=True
            )
        ],
        "movers": [_mover_json(mover) for mover in listed_movers(counts)],
    }


def _mover_json(mover: Mover) -> dict[str, Any]:
    tenant, lead_id = mover.lead
    return {
        "tenant": tenant,
        "lead_id": lead_id,
        "before": mover.before / ONE_POINT,
        "after": mover.after / ONE_POINT,
        "change": (mover.after - mover.before) / ONE_POINT,
        "bands": [{"scale": scale, "from": a, "to": b} for scale, (a, b) in mover.bands.items()],
        "lines": [
            {"group": group, "rule": rule, "kind": kind, "points": points / ONE_POINT}
            for group, rule, kind, points in mover.lines
        ],
    }


def _flow_order(flow: tuple[tuple[str, str | None, str | None], int]) -> tuple[str, str, str]:
    scale, begin, end = flow[0]
    return scale, begin or "", end or ""

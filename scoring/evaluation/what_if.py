"""What would a draft of a model change, were it published now: per lead, and added up over all.

Compares as the sweep of a publication concludes: both models on the same features at the same moment,
thresholds crossed on rounded totals while armed. Sums merge, and are of bounded size however many leads
there are. Pure; publishes nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappush, heappushpop
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec import Struct, field

from scoring.features.calendar import Calendar
from scoring.features.signals import IMPORTANT_CLICK
from scoring.features.view import Subject
from scoring.models.crossings import cross, marks_of
from scoring.models.plan import Model
from scoring.models.points import ONE_POINT, Micro, rounded
from scoring.models.score import Conclusion, conclude, difference

MOVERS = 20
"""The leads that move most, which are told by name."""
LINES = 12
"""Of what differs for one of them, so many lines are told."""
RANGES = (0, 20, 40, 60, 80, 100)
"""[0, 20) ... [80, 100]: a distribution as reports show it."""
BIN = 5
"""Points; what is finer than RANGES."""
BELOW, ABOVE = -1, 100 // BIN
"""The bins of totals below 0 and above 100."""


class EvaluationTime(NamedTuple):
    """A moment, and what a tenant's settings make of it."""

    at: int
    zone: Calendar
    idle_ms: int


class CurrentScore(NamedTuple):
    """What was last said of a lead by the model in force, all that time alone changes until now included."""

    total: Micro
    disarmed: Sequence[str]
    """The marks that have fired and not been armed again."""


NO_CURRENT_SCORE = CurrentScore(0, ())


class LeadComparison(NamedTuple):
    """One lead, before and after."""

    before: Conclusion
    after: Conclusion
    fires: list[str]
    """SCALE:BAND of each threshold that the publication would cross."""
    stages: tuple[str, str]
    """Before and after: a draft of the model that qualifies leads may move some on."""


Restage = Callable[[Conclusion], str]
"""The stage to which the lead's lifecycle comes if the draft concludes so."""


def compare(
    in_force: Model | None,
    draft: Model,
    subject: Subject,
    when: EvaluationTime,
    said: CurrentScore = NO_CURRENT_SCORE,
    restage: Restage | None = None,
) -> LeadComparison:
    """`in_force` None: the draft is of a new model. `restage` None: the draft moves nobody's stage."""
    before = conclusion(in_force, subject, when)
    after = conclude(draft, subject, *when)
    stage = subject.stage
    if restage is not None:
        stage = restage(after)
        if stage != subject.stage:
            after = conclude(draft, subject._replace(stage=stage), *when)
    return LeadComparison(before, after, fires(draft, said, after), (subject.stage, stage))


def conclusion(model: Model | None, subject: Subject, when: EvaluationTime) -> Conclusion:
    """What the model makes of the lead; none: nothing."""
    return Conclusion(0, [], {}) if model is None else conclude(model, subject, *when)


def fires(draft: Model, said: CurrentScore, after: Conclusion) -> list[str]:
    """SCALE:BAND of each threshold that is crossed from what was said last."""
    begin, end = rounded(said.total), rounded(after.total)
    if end <= begin:
        return []
    marks = [mark for scale, bands in draft.scales.items() for mark in marks_of(scale, bands)]
    return cross(marks, begin, end, said.disarmed, moved=False).names


# Over all leads


class Mover(NamedTuple):
    """Sorts by how much it moves: those that change a band last."""

    rank: tuple[bool, Micro]
    lead: tuple[str, str]
    """(tenant, lead_id)"""
    before: Micro
    after: Micro
    bands: dict[str, tuple[str | None, str | None]]
    """Of each set of bands that changes."""
    lines: list[tuple[str, str, str, Micro]]
    """What differs, the largest first."""


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
    """(from, to), of those that would move."""
    before: Counter[int] = field(default_factory=Counter)
    after: Counter[int] = field(default_factory=Counter)
    """Leads by bin of BIN points."""
    movers: list[Mover] = []
    """A heap."""


def add(
    tally: MoveCounts, lead: tuple[str, str], compared: LeadComparison, in_force: Model | None, draft: Model
) -> None:
    before, after, fired, stages = compared
    tally.leads += 1
    tally.before[_bin(before.total)] += 1
    tally.after[_bin(after.total)] += 1
    tally.up += after.total > before.total
    tally.down += after.total < before.total
    for scale in after.bands.keys() | before.bands.keys():
        tally.flows[scale, before.bands.get(scale), after.bands.get(scale)] += 1
    bands = changed_bands(before.bands, after.bands)
    tally.between_bands += bool(bands)
    if fired:
        tally.firing += 1
        tally.fires.update(fired)
    if stages[0] != stages[1]:
        tally.stages[stages] += 1
    if bands or before.total != after.total:
        rank = (bool(bands), abs(after.total - before.total))
        if len(tally.movers) < MOVERS or (rank, lead) > (tally.movers[0].rank, tally.movers[0].lead):
            lines = difference(in_force, before.vector, draft, after.vector)
            lines.sort(key=lambda line: -abs(line[3]))
            _keep(tally, Mover(rank, lead, before.total, after.total, bands, lines[:LINES]))


def merged(tallies: Iterable[MoveCounts]) -> MoveCounts:
    """All of them together: the same as if one had counted everything."""
    whole = MoveCounts()
    for tally in tallies:
        whole.leads += tally.leads
        whole.up += tally.up
        whole.down += tally.down
        whole.between_bands += tally.between_bands
        whole.firing += tally.firing
        whole.flows.update(tally.flows)
        whole.fires.update(tally.fires)
        whole.stages.update(tally.stages)
        whole.before.update(tally.before)
        whole.after.update(tally.after)
        for mover in tally.movers:
            _keep(whole, mover)
    return whole


def movers(tally: MoveCounts) -> list[Mover]:
    """Those that change a band first, and among them whoever moves most."""
    return sorted(tally.movers, key=lambda mover: (mover.rank, mover.lead), reverse=True)


def changed_bands(
    before: Mapping[str, str | None], after: Mapping[str, str | None]
) -> dict[str, tuple[str | None, str | None]]:
    """Per set of bands that differs: (from, to)."""
    return {
        scale: (before.get(scale), after.get(scale))
        for scale in sorted(before.keys() | after.keys())
        if before.get(scale) != after.get(scale)
    }


def _keep(tally: MoveCounts, mover: Mover) -> None:
    # No two leads are one, so the heap never comes to compare what cannot be ordered.
    (heappush if len(tally.movers) < MOVERS else heappushpop)(tally.movers, mover)


def _bin(total: Micro) -> int:
    if total < 0:
        return BELOW
    return ABOVE if total > 100 * ONE_POINT else min(total // (BIN * ONE_POINT), ABOVE - 1)


def distribution(bins: Mapping[int, int]) -> dict[str, int]:
    """Leads by RANGES of points; totals outside of them only if there are any."""
    per_range = (RANGES[1] - RANGES[0]) // BIN
    told = {
        f"{low}-{high}": sum(bins.get(n, 0) for n in range(i * per_range, (i + 1) * per_range))
        for i, (low, high) in enumerate(pairwise(RANGES))
    }
    return (
        ({"below 0": bins[BELOW]} if bins.get(BELOW) else {})
        | told
        | ({"above 100": bins[ABOVE]} if bins.get(ABOVE) else {})
    )


def histogram(bins: Mapping[int, int]) -> list[tuple[int, int]]:
    """(from how many points on, leads) per BIN; -BIN: below 0, 100: above 100."""
    return [(n * BIN, bins.get(n, 0)) for n in range(BELOW, ABOVE + 1)]


# Signals


def uncounted(draft: Model, in_force: Iterable[Model]) -> tuple[str, ...]:
    """The draft's signals that no model in force counts, by name: of them there is no history yet, so
    only a replay can say what the draft makes of it.
    """
    counted = {signal.stored for model in in_force for signal in model.signals}
    return tuple(signal.name for signal in draft.signals if signal.stored not in counted)


def changes_important_clicks(names: Iterable[str]) -> bool:
    """Is the signal among them by which web sessions tell important clicks from others? They were told
    apart when they happened, and stay so.
    """
    return IMPORTANT_CLICK in names


# In plain values


def report(tally: MoveCounts) -> dict[str, Any]:
    """The tally for people and JSON."""
    return {
        "leads": tally.leads,
        "up": tally.up,
        "down": tally.down,
        "same": tally.leads - tally.up - tally.down,
        "change_band": tally.between_bands,
        "bands": [
            {"scale": scale, "from": begin, "to": end, "leads": leads}
            for (scale, begin, end), leads in sorted(tally.flows.items(), key=_flow)
        ],
        "fires": [
            {"scale": mark.partition(":")[0], "band": mark.partition(":")[2], "leads": leads}
            for mark, leads in sorted(tally.fires.items())
        ],
        "leads_firing": tally.firing,
        "stages": [
            {"from": begin, "to": end, "leads": leads} for (begin, end), leads in sorted(tally.stages.items())
        ],
        "distribution": {"before": distribution(tally.before), "after": distribution(tally.after)},
        "histogram": [
            {"from": points, "before": before, "after": after}
            for (points, before), (_, after) in zip(
                histogram(tally.before), histogram(tally.after), strict=True
            )
        ],
        "movers": [_told(mover) for mover in movers(tally)],
    }


def _told(mover: Mover) -> dict[str, Any]:
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


def _flow(flow: tuple[tuple[str, str | None, str | None], int]) -> tuple[str, str, str]:
    scale, begin, end = flow[0]
    return scale, begin or "", end or ""

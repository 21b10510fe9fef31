"""What an experiment has shown: facts about leads in, rates with their uncertainty out. Pure.

A lead counts once: for the variant of its first exposure, whatever it saw later, and once for each goal
that it reached from then on within the window. Leads that saw several variants are told beside it: merged
when they convert, they convert more often than others, and a rate without them would be too low. The order
in which facts are handed in changes nothing.
"""

from collections import Counter
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from scoring.experiments import proportions
from scoring.experiments.assignment import Experiment, Goal
from scoring.experiments.proportions import Count, Interval

MISMATCHED = 0.001
"""Shares that would be this far off less often than once in a thousand are no chance: something is broken."""
DEFAULT_LIFT = 0.1
"""Of which size a lift is to be found, if nobody says: a tenth of the control's rate."""

EARLY = timedelta(minutes=5)
"""How long before its first exposure a lead's conversion counts: the one has the server's clock, the other may
have a browser's that is slow.
"""

Lead = Hashable


class Exposure(NamedTuple):
    lead: Lead
    variant: str
    at: datetime
    event_id: str


class GoalConversion(NamedTuple):
    lead: Lead
    event: str
    named: str | None
    """As in `experiments.Sign`."""
    at: datetime


@dataclass(frozen=True)
class Comparison:
    """A variant beside the control."""

    difference: float
    """Of the rates: 0.02 is two of a hundred leads more."""
    interval: Interval
    lift: float | None
    """The difference as a share of the control's rate; None: that is 0."""
    p: float


@dataclass(frozen=True)
class GoalResult:
    """A goal, in one variant."""

    converted: int
    saw_several: int
    """Of these, leads that saw more than one variant."""
    rate: float | None
    interval: Interval | None
    pure_rate: float | None
    """Of the leads that saw one variant."""
    against_control: Comparison | None
    """None for the control itself, and while one of the two has no leads."""


@dataclass(frozen=True)
class VariantResult:
    """A variant and its leads."""

    variant: str
    weight: float
    exposed: int
    saw_several: int
    """Of these, leads that saw another variant later."""
    goals: Mapping[str, GoalResult]


@dataclass(frozen=True)
class Balance:
    """Whether the leads are spread over the variants as the weights say."""

    chi_square: float
    p: float
    verdict: str
    """ok, mismatch (look for what loses leads of one variant before you believe any rate), or no leads."""


@dataclass(frozen=True)
class SampleSize:
    """How many leads of each variant would show such a lift of the control's rate, and how many are still to
    come, over all variants and shared out by the weights, until each has as many. None: the control has no
    rate to go by.
    """

    lift: float
    each: int | None
    more: int | None


@dataclass(frozen=True)
class Results:
    exposed: int
    saw_several: int
    """Of these, leads that saw more than one variant: each counts for the first."""
    unknown: int
    """Leads that first saw a variant which the experiment no longer has."""
    since: datetime | None
    until: datetime | None
    """The first and the last of the first exposures that count."""
    variants: tuple[VariantResult, ...]
    balance: Balance
    needed: Mapping[str, SampleSize]
    """By goal."""


def results(
    experiment: Experiment,
    exposures: Iterable[Exposure],
    conversions: Iterable[GoalConversion],
    *,
    lift: float = DEFAULT_LIFT,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Results:
    """Of the leads first exposed from `since` to before `until`."""
    first, several = _first_exposures(exposures, since, until)
    known = {variant.name for variant in experiment.variants}
    counted = {lead: exposure for lead, exposure in first.items() if exposure.variant in known}
    tally = _tally(experiment, counted, several, conversions)
    exposed = tally.exposed
    sizes = [exposed[variant.name] for variant in experiment.variants]
    moments = [exposure.at for exposure in counted.values()]
    return Results(
        exposed=sum(sizes),
        saw_several=sum(tally.saw_several.values()),
        unknown=len(first) - len(counted),
        since=min(moments, default=None),
        until=max(moments, default=None),
        variants=tuple(
            VariantResult(
                variant.name,
                variant.weight,
                exposed[variant.name],
                tally.saw_several[variant.name],
                {goal.name: _goal(experiment, goal, variant.name, tally) for goal in experiment.goals},
            )
            for variant in experiment.variants
        ),
        balance=_balance(sizes, [variant.weight for variant in experiment.variants]),
        needed={
            goal.name: _needed(
                experiment, (tally.reached[experiment.control.name, goal.name], sizes[0]), sizes, lift
            )
            for goal in experiment.goals
        },
    )


class _Tally(NamedTuple):
    """Leads, by the variant of their first exposure, and by the goals that they reached in time."""

    exposed: Counter[str]
    saw_several: Counter[str]
    reached: Counter[tuple[str, str]]
    reached_having_seen_several: Counter[tuple[str, str]]


def _first_exposures(
    exposures: Iterable[Exposure], since: datetime | None, until: datetime | None
) -> tuple[dict[Lead, Exposure], set[Lead]]:
    """Of each lead its first exposure, and which leads saw several variants."""
    first: dict[Lead, Exposure] = {}
    seen: dict[Lead, set[str]] = {}
    for exposure in exposures:
        seen.setdefault(exposure.lead, set()).add(exposure.variant)
        known = first.get(exposure.lead)
        if known is None or _order(exposure) < _order(known):
            first[exposure.lead] = exposure
    within = {
        lead: exposure
        for lead, exposure in first.items()
        if (since is None or since <= exposure.at) and (until is None or exposure.at < until)
    }
    return within, {lead for lead, variants in seen.items() if len(variants) > 1}


def _order(exposure: Exposure) -> tuple[datetime, str, str]:
    """Two visitors of one lead may have events of one id at one moment."""
    return exposure.at, exposure.event_id, exposure.variant


def _tally(
    experiment: Experiment,
    counted: Mapping[Lead, Exposure],
    several: Container[Lead],
    conversions: Iterable[GoalConversion],
) -> _Tally:
    window = timedelta(days=experiment.window_days)
    found: set[tuple[Lead, str]] = set()
    for conversion in conversions:
        exposure = counted.get(conversion.lead)
        if exposure is not None and exposure.at - EARLY <= conversion.at <= exposure.at + window:
            found.update(
                (conversion.lead, goal.name)
                for goal in experiment.goals
                if goal.counts(conversion.event, conversion.named)
            )
    return _Tally(
        Counter(exposure.variant for exposure in counted.values()),
        Counter(exposure.variant for lead, exposure in counted.items() if lead in several),
        Counter((counted[lead].variant, goal) for lead, goal in found),
        Counter((counted[lead].variant, goal) for lead, goal in found if lead in several),
    )


def _goal(experiment: Experiment, goal: Goal, variant: str, tally: _Tally) -> GoalResult:
    mine, control = (
        (tally.reached[name, goal.name], tally.exposed[name]) for name in (variant, experiment.control.name)
    )
    several = tally.reached_having_seen_several[variant, goal.name]
    pure = mine[0] - several, mine[1] - tally.saw_several[variant]
    comparable = variant != experiment.control.name and mine[1] and control[1]
    return GoalResult(
        mine[0],
        several,
        proportions.rate(mine) if mine[1] else None,
        proportions.wilson(mine) if mine[1] else None,
        proportions.rate(pure) if pure[1] else None,
        _against(control, mine) if comparable else None,
    )


def _against(control: Count, mine: Count) -> Comparison:
    base, rate = proportions.rate(control), proportions.rate(mine)
    return Comparison(
        rate - base,
        proportions.newcombe(control, mine),
        rate / base - 1 if base else None,
        proportions.p_value(control, mine),
    )


def _balance(sizes: list[int], weights: list[float]) -> Balance:
    statistic = proportions.chi_square(sizes, weights)
    p = proportions.chi_square_tail(statistic, len(sizes) - 1)
    verdict = "no leads" if not any(sizes) else "mismatch" if p < MISMATCHED else "ok"
    return Balance(statistic, p, verdict)


def _needed(experiment: Experiment, control: Count, sizes: list[int], lift: float) -> SampleSize:
    each = proportions.leads_needed(proportions.rate(control), lift) if control[1] else None
    if each is None:
        return SampleSize(lift, None, None)
    shares = zip(sizes, experiment.variants, strict=True)
    return SampleSize(lift, each, max(ceil(max(0, each - size) / variant.weight) for size, variant in shares))

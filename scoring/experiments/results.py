"""The results of an experiment: rates and their uncertainty, from exposures and conversions. Pure.

A lead counts once for the variant of its first exposure, whatever it saw later, and once for each goal that it
reached after that within the window. Leads that saw several variants are also counted apart: leads are often
merged when they convert, so these convert more often, and a rate without them would be too low. The order of the
input changes nothing.
"""

from collections import Counter
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from scoring.experiments import proportions
from scoring.experiments.assignment import Experiment, Goal
from scoring.experiments.proportions import ConvertedOfExposed, Interval

MISMATCH_P_VALUE = 0.001
"""A mismatch of shares that is less likely than this is no chance: something is broken."""
DEFAULT_LIFT = 0.1
"""The lift to detect, unless the caller gives one: a tenth of the control's rate."""

EARLY_CONVERSION_ALLOWANCE = timedelta(minutes=5)
"""A conversion counts up to this long before the lead's first exposure: one has the server's clock, the other may
have the slow clock of a browser.
"""

LeadKey = Hashable


class Exposure(NamedTuple):
    lead: LeadKey
    variant: str
    at: datetime
    event_id: str


class GoalConversion(NamedTuple):
    lead: LeadKey
    event: str
    named: str | None
    """As in `GoalEvent`."""
    at: datetime


@dataclass(frozen=True)
class ControlComparison:
    """A variant beside the control."""

    difference: float
    """Between the rates: 0.02 means two more of a hundred leads."""
    interval: Interval
    lift: float | None
    """The difference as a share of the control's rate; None if that rate is 0."""
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
    """The rate of leads that saw one variant only."""
    against_control: ControlComparison | None
    """None for the control itself, and if one of the two has no leads."""


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
class VariantBalance:
    """Whether the leads are divided between the variants as the weights require."""

    chi_square: float
    p: float
    verdict: str
    """ok, no leads, or mismatch: one variant loses leads; find the cause before you trust any rate."""


@dataclass(frozen=True)
class SampleSize:
    """How many leads each variant needs to show this lift of the control's rate, and how many more leads the
    experiment needs in all until each variant has them. None: the control has no rate yet.
    """

    lift: float
    each: int | None
    more: int | None


@dataclass(frozen=True)
class ExperimentResults:
    exposed: int
    saw_several: int
    """Of these, leads that saw more than one variant; each counts for its first."""
    unknown: int
    """Leads that first saw a variant which the experiment no longer has."""
    since: datetime | None
    until: datetime | None
    """The first and the last of the first exposures that count."""
    variants: tuple[VariantResult, ...]
    balance: VariantBalance
    needed: Mapping[str, SampleSize]
    """By goal."""


def experiment_results(
    experiment: Experiment,
    exposures: Iterable[Exposure],
    conversions: Iterable[GoalConversion],
    *,
    lift: float = DEFAULT_LIFT,
    since: datetime | None = None,
    until: datetime | None = None,
) -> ExperimentResults:
    """The results of leads first exposed from `since` up to, but not including, `until`."""
    first, several = _first_exposures(exposures, since, until)
    variant_names = {variant.name for variant in experiment.variants}
    counted = {lead: exposure for lead, exposure in first.items() if exposure.variant in variant_names}
    counts = _count_leads(experiment, counted, several, conversions)
    exposed = counts.exposed
    sizes = [exposed[variant.name] for variant in experiment.variants]
    moments = [exposure.at for exposure in counted.values()]
    return ExperimentResults(
        exposed=sum(sizes),
        saw_several=sum(counts.saw_several.values()),
        unknown=len(first) - len(counted),
        since=min(moments, default=None),
        until=max(moments, default=None),
        variants=tuple(
            VariantResult(
                variant.name,
                variant.weight,
                exposed[variant.name],
                counts.saw_several[variant.name],
                {
                    goal.name: _goal_result(experiment, goal, variant.name, counts)
                    for goal in experiment.goals
                },
            )
            for variant in experiment.variants
        ),
        balance=_variant_balance(sizes, [variant.weight for variant in experiment.variants]),
        needed={
            goal.name: _sample_size_needed(
                experiment, (counts.reached[experiment.control.name, goal.name], sizes[0]), sizes, lift
            )
            for goal in experiment.goals
        },
    )


class _LeadCounts(NamedTuple):
    """Leads, by the variant of their first exposure, and by the goals that they reached in time."""

    exposed: Counter[str]
    saw_several: Counter[str]
    reached: Counter[tuple[str, str]]
    reached_having_seen_several: Counter[tuple[str, str]]


def _first_exposures(
    exposures: Iterable[Exposure], since: datetime | None, until: datetime | None
) -> tuple[dict[LeadKey, Exposure], set[LeadKey]]:
    """Each lead's first exposure, and the leads that saw several variants."""
    first: dict[LeadKey, Exposure] = {}
    seen: dict[LeadKey, set[str]] = {}
    for exposure in exposures:
        seen.setdefault(exposure.lead, set()).add(exposure.variant)
        earliest = first.get(exposure.lead)
        if earliest is None or _exposure_order(exposure) < _exposure_order(earliest):
            first[exposure.lead] = exposure
    within = {
        lead: exposure
        for lead, exposure in first.items()
        if (since is None or since <= exposure.at) and (until is None or exposure.at < until)
    }
    return within, {lead for lead, variants in seen.items() if len(variants) > 1}


def _exposure_order(exposure: Exposure) -> tuple[datetime, str, str]:
    """Sorts exposures. Two visitors of one lead may have events with the same id at the same moment."""
    return exposure.at, exposure.event_id, exposure.variant


def _count_leads(
    experiment: Experiment,
    counted: Mapping[LeadKey, Exposure],
    several: Container[LeadKey],
    conversions: Iterable[GoalConversion],
) -> _LeadCounts:
    window = timedelta(days=experiment.window_days)
    reached: set[tuple[LeadKey, str]] = set()
    for conversion in conversions:
        exposure = counted.get(conversion.lead)
        if (
            exposure is not None
            and exposure.at - EARLY_CONVERSION_ALLOWANCE <= conversion.at <= exposure.at + window
        ):
            reached.update(
                (conversion.lead, goal.name)
                for goal in experiment.goals
                if goal.counts(conversion.event, conversion.named)
            )
    return _LeadCounts(
        Counter(exposure.variant for exposure in counted.values()),
        Counter(exposure.variant for lead, exposure in counted.items() if lead in several),
        Counter((counted[lead].variant, goal) for lead, goal in reached),
        Counter((counted[lead].variant, goal) for lead, goal in reached if lead in several),
    )


def _goal_result(experiment: Experiment, goal: Goal, variant: str, counts: _LeadCounts) -> GoalResult:
    own, control = (
        (counts.reached[name, goal.name], counts.exposed[name]) for name in (variant, experiment.control.name)
    )
    several = counts.reached_having_seen_several[variant, goal.name]
    pure = own[0] - several, own[1] - counts.saw_several[variant]
    comparable = variant != experiment.control.name and own[1] and control[1]
    return GoalResult(
        own[0],
        several,
        proportions.conversion_rate(own) if own[1] else None,
        proportions.wilson_interval(own) if own[1] else None,
        proportions.conversion_rate(pure) if pure[1] else None,
        _compared_with_control(control, own) if comparable else None,
    )


def _compared_with_control(control: ConvertedOfExposed, own: ConvertedOfExposed) -> ControlComparison:
    base, rate = proportions.conversion_rate(control), proportions.conversion_rate(own)
    return ControlComparison(
        rate - base,
        proportions.newcombe_interval(control, own),
        rate / base - 1 if base else None,
        proportions.p_value(control, own),
    )


def _variant_balance(sizes: list[int], weights: list[float]) -> VariantBalance:
    statistic = proportions.chi_square(sizes, weights)
    p = proportions.chi_square_tail(statistic, len(sizes) - 1)
    verdict = "no leads" if not any(sizes) else "mismatch" if p < MISMATCH_P_VALUE else "ok"
    return VariantBalance(statistic, p, verdict)


def _sample_size_needed(
    experiment: Experiment, control: ConvertedOfExposed, sizes: list[int], lift: float
) -> SampleSize:
    each = proportions.leads_needed(proportions.conversion_rate(control), lift) if control[1] else None
    if each is None:
        return SampleSize(lift, None, None)
    shares = zip(sizes, experiment.variants, strict=True)
    return SampleSize(lift, each, max(ceil(max(0, each - size) / variant.weight) for size, variant in shares))

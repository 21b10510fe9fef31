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
from typing import Literal, NamedTuple

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

SIGNIFICANT_P_VALUE = 0.05

ComparisonVerdict = Literal["too_early", "higher", "lower", "no_difference", "unreliable"]
"""What may be concluded of a variant beside the control.

higher, lower: Newcombe's interval of the difference is above or below 0, and the test agrees (p < 0.05). too_early: it does
not yet, and a variant still needs leads to show the lift. no_difference: it does not, though both have enough.
unreliable: the leads are not spread as the weights require, so no rate means anything.
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
    verdict: ComparisonVerdict


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
    counted = _counted_exposures(experiment, first)
    counts = _count_leads(experiment, counted, several, conversions)
    exposed = counts.exposed
    sizes = [exposed[variant.name] for variant in experiment.variants]
    balance = _variant_balance(sizes, [variant.weight for variant in experiment.variants])
    needed = {
        goal.name: _sample_size_needed(
            experiment, (counts.reached[experiment.control.name, goal.name], sizes[0]), sizes, lift
        )
        for goal in experiment.goals
    }
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
                    goal.name: _goal_result(
                        experiment, goal, variant.name, counts, needed[goal.name].each, balance
                    )
                    for goal in experiment.goals
                },
            )
            for variant in experiment.variants
        ),
        balance=balance,
        needed=needed,
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


def _counted_exposures(experiment: Experiment, first: Mapping[LeadKey, Exposure]) -> dict[LeadKey, Exposure]:
    """Without those to a variant that the experiment no longer has."""
    names = {variant.name for variant in experiment.variants}
    return {lead: exposure for lead, exposure in first.items() if exposure.variant in names}


def _goals_reached(
    experiment: Experiment, counted: Mapping[LeadKey, Exposure], conversions: Iterable[GoalConversion]
) -> set[tuple[LeadKey, str]]:
    """(lead, goal), each once."""
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
    return reached


def _count_leads(
    experiment: Experiment,
    counted: Mapping[LeadKey, Exposure],
    several: Container[LeadKey],
    conversions: Iterable[GoalConversion],
) -> _LeadCounts:
    reached = _goals_reached(experiment, counted, conversions)
    return _LeadCounts(
        Counter(exposure.variant for exposure in counted.values()),
        Counter(exposure.variant for lead, exposure in counted.items() if lead in several),
        Counter((counted[lead].variant, goal) for lead, goal in reached),
        Counter((counted[lead].variant, goal) for lead, goal in reached if lead in several),
    )


def _goal_result(
    experiment: Experiment,
    goal: Goal,
    variant: str,
    counts: _LeadCounts,
    leads_needed: int | None,
    balance: VariantBalance,
) -> GoalResult:
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
        _compared_with_control(control, own, leads_needed, balance) if comparable else None,
    )


def _compared_with_control(
    control: ConvertedOfExposed, own: ConvertedOfExposed, leads_needed: int | None, balance: VariantBalance
) -> ControlComparison:
    base, rate = proportions.conversion_rate(control), proportions.conversion_rate(own)
    interval, p = proportions.newcombe_interval(control, own), proportions.p_value(control, own)
    has_enough = leads_needed is not None and min(control[1], own[1]) >= leads_needed
    return ControlComparison(
        rate - base,
        interval,
        rate / base - 1 if base else None,
        p,
        "unreliable" if balance.verdict == "mismatch" else _verdict(interval, p, has_enough=has_enough),
    )


def _verdict(interval: Interval, p: float, *, has_enough: bool) -> ComparisonVerdict:
    low, high = interval
    if p < SIGNIFICANT_P_VALUE and low > 0:
        return "higher"
    if p < SIGNIFICANT_P_VALUE and high < 0:
        return "lower"
    return "no_difference" if has_enough else "too_early"


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


class ExposedLead(NamedTuple):
    """A lead that counts in the results."""

    lead: LeadKey
    variant: str
    at: datetime
    goals: frozenset[str]
    """Those that it reached in time."""
    saw_several: bool


def exposed_leads(
    experiment: Experiment,
    exposures: Iterable[Exposure],
    conversions: Iterable[GoalConversion],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[ExposedLead]:
    """The leads behind `experiment_results`, those last exposed first."""
    first, several = _first_exposures(exposures, since, until)
    counted = _counted_exposures(experiment, first)
    goals: dict[LeadKey, set[str]] = {}
    for lead, goal in _goals_reached(experiment, counted, conversions):
        goals.setdefault(lead, set()).add(goal)
    latest_first = sorted(
        counted.items(), key=lambda each: (_exposure_order(each[1]), str(each[0])), reverse=True
    )
    return [
        ExposedLead(lead, exposure.variant, exposure.at, frozenset(goals.get(lead, ())), lead in several)
        for lead, exposure in latest_first
    ]

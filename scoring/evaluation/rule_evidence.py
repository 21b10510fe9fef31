"""Does a rule earn its points? How often leads that had its points converted, against those that had none.

Counts of several moments add up. Pure. A rule is looked at by itself: it may only stand beside the true reason.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from scoring.experiments.proportions import wilson_interval

LEAST_LEADS = 20
"""Leads with a rule's points, and without; with fewer, chance decides."""
PRIOR_LEADS = 10
"""So many leads of the average rate are added on each side, so that a few leads cannot suggest many points."""
MOST_SUGGESTED_POINTS = 25
"""Requirement 4: no single rule should be worth more. The rule that tells most gets them."""


class RuleCounts(NamedTuple):
    """Leads that had points by the rule, and all leads, over some cutoffs."""

    group: str
    rule: str
    leads: int = 0
    converted: int = 0


class RuleOutcomes(NamedTuple):
    rules: tuple[RuleCounts, ...]
    leads: int = 0
    """All that were ranked."""
    converted: int = 0


def count_outcomes(names: Sequence[tuple[str, str]], leads: Iterable[tuple[int, bool]]) -> RuleOutcomes:
    """`names`: (group, rule). `leads`: for each lead the set of the rules that gave it points, as bits in the order of
    `names`; and whether it converted.
    """
    with_points, converted_with = [0] * len(names), [0] * len(names)
    every = converted_in_all = 0
    for awarded, converted in leads:
        every += 1
        converted_in_all += converted
        for index in range(awarded.bit_length()):
            if awarded >> index & 1:
                with_points[index] += 1
                converted_with[index] += converted
    rules = tuple(
        RuleCounts(group, rule, with_points[n], converted_with[n]) for n, (group, rule) in enumerate(names)
    )
    return RuleOutcomes(rules, every, converted_in_all)


def pooled_outcomes(several: Sequence[RuleOutcomes]) -> RuleOutcomes:
    """The sum over cutoffs of one model; empty without any."""
    if not several:
        return RuleOutcomes(())
    return RuleOutcomes(
        tuple(
            RuleCounts(first.group, first.rule, sum(n.leads for n in same), sum(n.converted for n in same))
            for same in zip(*(each.rules for each in several), strict=True)
            for first in same[:1]
        ),
        sum(each.leads for each in several),
        sum(each.converted for each in several),
    )


def evidence_figures(outcomes: RuleOutcomes) -> list[dict[str, Any]]:
    """For each rule both rates with Wilson's intervals (95%), how many times as often leads with its points converted,
    a verdict (earns, costs, no_difference, too_few), and points that the outcomes suggest; null without a clear difference.
    """
    weights = [_weight_of_evidence(outcomes, rule) for rule in outcomes.rules]
    strongest = max((abs(each) for each in weights if each is not None), default=0.0)
    return [
        {
            "group": rule.group,
            "rule": rule.rule,
            "leads": rule.leads,
            "converted": rule.converted,
            "rate": rule.converted / rule.leads if rule.leads else None,
            "interval": wilson_interval((rule.converted, rule.leads)) if rule.leads else None,
            "other_leads": outcomes.leads - rule.leads,
            "other_converted": outcomes.converted - rule.converted,
            "other_rate": _rate_of_others(outcomes, rule),
            "times": _times(outcomes, rule),
            "verdict": _verdict(outcomes, rule),
            "suggested_points": None
            if weight is None or not strongest
            else round(MOST_SUGGESTED_POINTS * weight / strongest),
        }
        for rule, weight in zip(outcomes.rules, weights, strict=True)
    ]


def _rate_of_others(outcomes: RuleOutcomes, rule: RuleCounts) -> float | None:
    others = outcomes.leads - rule.leads
    return (outcomes.converted - rule.converted) / others if others else None


def _times(outcomes: RuleOutcomes, rule: RuleCounts) -> float | None:
    without = _rate_of_others(outcomes, rule)
    return rule.converted / rule.leads / without if rule.leads and without else None


def _is_enough(outcomes: RuleOutcomes, rule: RuleCounts) -> bool:
    return min(rule.leads, outcomes.leads - rule.leads) >= LEAST_LEADS and outcomes.converted > 0


def _verdict(outcomes: RuleOutcomes, rule: RuleCounts) -> str:
    """By intervals that do not overlap: stricter than a test of the difference."""
    if not _is_enough(outcomes, rule):
        return "too_few"
    low, high = wilson_interval((rule.converted, rule.leads))
    others = (outcomes.converted - rule.converted, outcomes.leads - rule.leads)
    low_of_others, high_of_others = wilson_interval(others)
    if low > high_of_others:
        return "earns"
    return "costs" if high < low_of_others else "no_difference"


def _weight_of_evidence(outcomes: RuleOutcomes, rule: RuleCounts) -> float | None:
    """The log of the odds of converting with the rule's points against those without, as credit scorecards weigh
    characteristics (I. J. Good, Probability and the Weighing of Evidence, 1950). None: no clear difference.
    """
    if _verdict(outcomes, rule) not in {"earns", "costs"}:
        return None
    average = outcomes.converted / outcomes.leads
    others, converted_of_others = outcomes.leads - rule.leads, outcomes.converted - rule.converted
    with_rule = (rule.converted + PRIOR_LEADS * average) / (rule.leads + PRIOR_LEADS)
    without = (converted_of_others + PRIOR_LEADS * average) / (others + PRIOR_LEADS)
    return math.log(with_rule / (1 - with_rule)) - math.log(without / (1 - without))

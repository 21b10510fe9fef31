"""Whether a rule earns its points: counts, verdicts and suggestions, by hand calculation."""

from math import log

import pytest

from scoring.evaluation.rule_evidence import (
    RuleCounts,
    RuleOutcomes,
    count_outcomes,
    evidence_figures,
    pooled_outcomes,
)

NAMES = [("fit", "Industry"), ("fit", "Title")]


def test_leads_are_counted_under_each_rule_that_gave_them_points():
    outcomes = count_outcomes(NAMES, [(0b01, True), (0b11, False), (0b10, True), (0b00, False)])
    assert outcomes == RuleOutcomes(
        (RuleCounts("fit", "Industry", 2, 1), RuleCounts("fit", "Title", 2, 1)), 4, 2
    )


def test_cutoffs_add_up():
    once = count_outcomes(NAMES, [(0b01, True), (0b10, False)])
    assert pooled_outcomes([once, once]) == count_outcomes(NAMES, [(0b01, True), (0b10, False)] * 2)
    assert pooled_outcomes([]) == RuleOutcomes(())


def test_rates_verdicts_and_suggestions():
    # 100 of 1,000 leads convert. Earns: 60 of 200 against 40 of 800. Costs: 2 of 400 against 98 of 600.
    rules = (
        RuleCounts("a", "Earns", 200, 60),
        RuleCounts("a", "Costs", 400, 2),
        RuleCounts("a", "Same", 500, 50),
        RuleCounts("a", "Few", 19, 9),
        RuleCounts("a", "All", 1_000, 100),
    )
    figures = {each["rule"]: each for each in evidence_figures(RuleOutcomes(rules, 1_000, 100))}
    assert {name: each["verdict"] for name, each in figures.items()} == {
        "Earns": "earns",
        "Costs": "costs",
        "Same": "no_difference",
        "Few": "too_few",
        "All": "too_few",
    }
    assert (figures["Earns"]["rate"], figures["Earns"]["other_rate"]) == (0.3, 0.05)
    assert figures["Earns"]["times"] == pytest.approx(6)
    assert (figures["All"]["other_rate"], figures["All"]["times"]) == (None, None)

    def log_odds(converted, leads):
        rate = (converted + 1) / (leads + 10)  # ten leads of the average rate, 0.1, beside
        return log(rate / (1 - rate))

    earns = log_odds(60, 200) - log_odds(40, 800)
    costs = log_odds(2, 400) - log_odds(98, 600)
    assert abs(costs) > abs(earns)
    assert figures["Costs"]["suggested_points"] == -25
    assert figures["Earns"]["suggested_points"] == round(25 * earns / abs(costs))
    assert all(figures[name]["suggested_points"] is None for name in ("Same", "Few", "All"))


def test_where_nobody_converts_nothing_is_said():
    [figure] = evidence_figures(RuleOutcomes((RuleCounts("a", "A", 50, 0),), 100, 0))
    assert (figure["verdict"], figure["suggested_points"], figure["times"]) == ("too_few", None, None)
    assert evidence_figures(RuleOutcomes((RuleCounts("a", "A"),), 0, 0))[0]["rate"] is None

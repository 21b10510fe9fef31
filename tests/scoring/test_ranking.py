"""Lift, gains, precision and AUC against what their definitions say, counted out by brute force."""

from fractions import Fraction
from itertools import permutations
from statistics import NormalDist

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.evaluation.ranking import (
    area_under_curve,
    conversion_rate,
    cumulative_gains,
    lift_of_tenth,
    pooled_ranking,
    precision,
    rank_leads,
    ranking_figures,
    recall,
)

few = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6)
many = st.lists(st.tuples(st.integers(-40, 40), st.booleans()), min_size=1, max_size=200)


def orders(pairs):
    """Every order of the leads that agrees with their scores."""
    found = [order for order in permutations(pairs) if list(order) == sorted(order, key=lambda p: -p[0])]
    # Equal pairs are different leads, so each order counts as often as it occurs.
    assert found
    return found


def mean(values):
    values = list(values)
    return Fraction(sum(values), len(values))


@settings(max_examples=scaled(60))
@given(few, st.integers(0, 8))
def test_precision_is_the_mean_over_all_orders_of_the_ties(pairs, capacity):
    ranking = rank_leads(pairs, capacity)
    hits = mean(sum(converted for _, converted in order[:capacity]) for order in orders(pairs))
    assert ranking.hits == hits
    chosen = min(capacity, len(pairs))
    assert precision(ranking) == (hits / chosen if chosen else None)
    total = sum(converted for _, converted in pairs)
    assert recall(ranking) == (hits / total if total else None)
    blind = mean(sum(converted for _, converted in order[:chosen]) for order in permutations(pairs))
    assert ranking.by_chance == blind


@settings(max_examples=scaled(60))
@given(few)
def test_tenths_are_the_mean_over_all_orders_of_the_ties(pairs):
    ranking = rank_leads(pairs, 1)
    n = len(pairs)
    for tenth in range(10):
        begin, end = n * tenth // 10, n * (tenth + 1) // 10
        converted = mean(sum(c for _, c in order[begin:end]) for order in orders(pairs))
        assert ranking.tenths[tenth] == (end - begin, converted)


@settings(max_examples=scaled(100))
@given(many)
def test_auc_is_the_share_of_pairs_in_the_right_order(pairs):
    converting = [score for score, converted in pairs if converted]
    others = [score for score, converted in pairs if not converted]
    wins = [
        Fraction(1) if a > b else Fraction(1, 2) if a == b else Fraction(0)
        for a in converting
        for b in others
    ]
    expected = sum(wins) / len(wins) if wins else None
    assert area_under_curve(rank_leads(pairs, 5)) == expected


@settings(max_examples=scaled(60))
@given(many)
def test_lift_times_the_rate_is_the_rate_of_the_tenth_and_gains_end_with_everybody(pairs):
    ranking = rank_leads(pairs, 5)
    rate = conversion_rate(ranking)
    gained = cumulative_gains(ranking)
    assert gained[-1] == (1 if ranking.converted else None)
    for tenth, (leads, converted) in enumerate(ranking.tenths):
        if leads and ranking.converted:
            assert lift_of_tenth(ranking, tenth) * rate == converted / leads
    if ranking.converted:
        assert gained == sorted(gained)


@settings(max_examples=scaled(60))
@given(st.lists(st.tuples(many, st.integers(0, 30)), max_size=4))
def test_pooling_adds_and_never_compares_leads_of_two_moments(moments):
    rankings = [rank_leads(pairs, capacity) for pairs, capacity in moments]
    whole = pooled_ranking(rankings)
    assert whole.hits == sum((r.hits for r in rankings), Fraction(0))
    assert whole.chosen == sum(min(capacity, len(pairs)) for pairs, capacity in moments)
    # Shifting all scores of one moment changes no order within it, and so nothing.
    shifted = [rank_leads([(s + 1_000 * i, c) for s, c in pairs], k) for i, (pairs, k) in enumerate(moments)]
    assert pooled_ranking(shifted) == whole


def test_a_ranking_by_hand():
    """Twenty leads, four convert: the two highest, one of the four that are tied third, and the last."""
    scores = [90, 80, 50, 50, 50, 50, *range(40, 26, -1)]
    converted = {0, 1, 2, 19}
    told = ranking_figures(rank_leads([(score, i in converted) for i, score in enumerate(scores)], 4))
    assert told["conversion_rate"] == 0.2
    # Two for sure, and two of the four that are tied, of whom one converts.
    assert told["capacity"]["converted"] == 2.5
    assert told["capacity"]["precision"] == 0.625
    assert told["capacity"]["recall"] == 0.625
    assert told["capacity"]["converted_by_chance"] == 0.8
    assert told["capacity"]["times_chance"] == 3.125
    first, second, third, *_, last = told["deciles"]
    assert (first["leads"], first["converted"], first["lift"], first["gain"]) == (2, 2, 5, 0.5)
    assert (second["converted"], second["lift"], second["gain"]) == (0.5, 1.25, 0.625)
    assert (third["converted"], third["gain"]) == (0.5, 0.75)
    assert (last["converted"], last["lift"], last["gain"]) == (1, 2.5, 1)
    # Of 16 who do not convert, both of the highest are ahead of all, the tied one is ahead of 13 and level
    # with three, and the last is ahead of none.
    assert told["auc"] == (16 + 16 + 13 + 3 / 2 + 0) / (4 * 16)


def test_the_interval_is_wilsons():
    """The bounds are the rates that are just about 1.96 standard errors from what was seen."""
    told = ranking_figures(rank_leads([(1, i < 8) for i in range(40)], 40))
    z = NormalDist().inv_cdf(0.975)
    for bound in told["capacity"]["interval"]:
        assert abs(0.2 - bound) == pytest.approx(z * (bound * (1 - bound) / 40) ** 0.5)


def test_of_nobody_there_is_nothing_to_say():
    told = ranking_figures(rank_leads([], 5))
    assert (told["auc"], told["conversion_rate"], told["capacity"]["precision"]) == (None, None, None)
    assert ranking_figures(pooled_ranking([])) == ranking_figures(rank_leads([], 0))

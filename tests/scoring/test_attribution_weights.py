"""Weights and money of a conversion's touchpoints, from the definitions in the requirement and its rulings."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.attribution.credits import main_touchpoints
from scoring.attribution.rules import TOUCH_MODELS
from scoring.attribution.weights import WEIGHT_UNITS, divide, touch_parts

DAY = 86_400_000
WEEK = 7 * DAY


def weights(model, ages, opportunity=None, half_life=WEEK):
    parts = touch_parts(model, ages, half_life, opportunity)
    return [Fraction(part, sum(parts)) for part in parts]


def percent(*shares):
    return [Fraction(Decimal(str(share))) / 100 for share in shares]


def naive_weights(model, ages, opportunity, half_life):
    """Each weight by its definition, as a fraction; floats only where the definition is not rational."""
    count = len(ages)
    first, last = 0, count - 1
    if model == "w_shaped" and (opportunity is None or opportunity in {first, last}):
        model = "u_shaped"
    if model == "first_touch":
        return [Fraction(index == first) for index in range(count)]
    if model == "last_touch":
        return [Fraction(index == last) for index in range(count)]
    if model == "linear":
        return [Fraction(1, count)] * count
    if model == "time_decay":
        raw = [Fraction(2 ** (-age / half_life)) for age in ages]
        return [each / sum(raw) for each in raw]
    heavy = [first, last] if model == "u_shaped" else [first, opportunity, last]
    heavy = sorted(set(heavy))
    share, rest = (
        (Fraction(2, 5), Fraction(1, 5)) if model == "u_shaped" else (Fraction(3, 10), Fraction(1, 10))
    )
    others = [index for index in range(count) if index not in heavy]
    if not others:
        return [Fraction(1, count)] * count
    return [share if index in heavy else rest / len(others) for index in range(count)]


def test_the_example_of_the_requirement_has_eight_touchpoints_by_u():
    assert weights("u_shaped", [0] * 8) == [Fraction(2, 5), *[Fraction(1, 5) / 6] * 6, Fraction(2, 5)]


@pytest.mark.parametrize("model", TOUCH_MODELS)
def test_a_single_touchpoint_gets_everything_and_no_touchpoint_nothing(model):
    assert weights(model, [3 * DAY]) == [1]
    assert touch_parts(model, [], WEEK) == []


def test_two_touchpoints_share_equally_by_u_w_and_linear():
    for model in ("u_shaped", "w_shaped", "linear"):
        assert weights(model, [DAY, 0], 0) == percent(50, 50)


def test_w_gives_the_opportunity_touch_thirty_percent_and_the_others_ten_together():
    assert weights("w_shaped", [0] * 5, 2) == percent(30, 5, 30, 5, 30)
    assert weights("w_shaped", [0] * 4, 1) == percent(30, 30, 10, 30)


def test_w_without_others_spreads_their_ten_percent_equally():
    assert weights("w_shaped", [0] * 3, 1) == [Fraction(1, 3)] * 3


@pytest.mark.parametrize("opportunity", [None, 0, 4])
def test_w_falls_back_to_u_without_an_opportunity_touch_of_its_own(opportunity):
    assert weights("w_shaped", [0] * 5, opportunity) == weights("u_shaped", [0] * 5)


def test_time_decay_halves_with_each_half_life_in_exact_seconds():
    assert weights("time_decay", [14 * DAY, 7 * DAY, 0]) == [Fraction(1, 7), Fraction(2, 7), Fraction(4, 7)]
    half_a_day = weights("time_decay", [DAY // 2, 0], half_life=DAY // 2)
    assert half_a_day == [Fraction(1, 3), Fraction(2, 3)]


def test_time_decay_keeps_its_proportions_however_old_all_touchpoints_are():
    old = 3_000 * DAY
    assert weights("time_decay", [old + WEEK, old], half_life=DAY) == weights(
        "time_decay", [WEEK, 0], half_life=DAY
    )


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="first_touch, last_touch, linear, time_decay, u_shaped, w_shaped"):
        touch_parts("z_shaped", [0], WEEK)


@given(
    st.sampled_from(TOUCH_MODELS),
    st.lists(st.integers(0, 90 * DAY), min_size=1, max_size=30).map(lambda ages: sorted(ages, reverse=True)),
    st.data(),
)
def test_weights_are_those_of_the_definition_and_sum_to_one(model, ages, data):
    opportunity = data.draw(st.none() | st.integers(0, len(ages) - 1))
    exact = weights(model, ages, opportunity)
    units = divide(WEIGHT_UNITS, touch_parts(model, ages, WEEK, opportunity))
    assert sum(exact) == 1
    assert sum(units) == WEIGHT_UNITS
    for mine, unit, right in zip(exact, units, naive_weights(model, ages, opportunity, WEEK), strict=True):
        assert abs(mine - right) < Fraction(1, 10**12)
        assert abs(Fraction(unit, WEIGHT_UNITS) - right) <= Fraction(1, 10**9)


def test_money_is_divided_to_the_cent_and_the_earlier_of_equal_remainders_gets_the_odd_one():
    assert divide(100, [1, 1, 1]) == [34, 33, 33]
    assert divide(1, [1, 1]) == [1, 0]
    assert divide(10_00, [2, 1, 1, 2]) == [333, 167, 167, 333]  # 333.3 166.7 166.7 333.3: two odd cents
    assert divide(500_000, [2] + [0] * 3) == [500_000, 0, 0, 0]
    assert divide(5, [0, 0]) == [0, 0]


@given(st.integers(0, 2**60), st.lists(st.integers(0, 2**70), min_size=1, max_size=40))
def test_shares_sum_to_the_whole_and_are_within_one_unit_of_the_exact_share(whole, parts):
    shares = divide(whole, parts)
    if not sum(parts):
        assert not any(shares)
        return
    assert sum(shares) == whole
    for share, part in zip(shares, parts, strict=True):
        assert abs(share - Fraction(whole * part, sum(parts))) < 1
        assert part or not share


def test_the_primary_touchpoint_has_the_highest_weight_and_the_earlier_of_equals_wins():
    assert main_touchpoints([4, 1, 4]) == (0, 2)
    assert main_touchpoints([1, 2, 4]) == (2, 1)
    assert main_touchpoints([0, 0, 9]) == (2, None)
    assert main_touchpoints([]) == (None, None)

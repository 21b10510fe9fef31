"""Markov and Shapley attribution against brute force from the definitions, and against published worked examples."""

from fractions import Fraction
from itertools import combinations, pairwise
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.attribution.bootstrap import draws, interval_of
from scoring.attribution.intervals import (
    GroupPath,
    credit_intervals,
    markov_intervals,
    shapley_intervals,
)
from scoring.attribution.markov import (
    MOST_CHANNELS_BY_ORDER,
    OTHER_CHANNELS,
    PathCount,
    bounded_paths,
    channel_chain,
    effects_of_counts,
    removal_effects,
    removal_parts,
    step_counts,
)
from scoring.attribution.shapley import shapley_parts, shapley_values
from tests.example_counts import scaled

PUBLISHED_PATHS = [
    PathCount(("google ads",), 2, 1),
    PathCount(("mailing",), 1),
    PathCount(("google ads", "mailing"), 1),
]
"""Puzyrov, "Markov chain attribution: simple explanation of removal effect" (2019). By hand: start to google ads 4/5, to
mailing 1/5; google ads to a conversion 2/4, to mailing 1/4, lost 1/4; mailing to a conversion 1. So P = 4/5 (1/2 + 1/4) +
1/5 = 4/5. Without google ads 1/5, so the removal effect is 3/4; without mailing 4/5 x 1/2 = 2/5, so it is 1/2.
"""


# Markov


def inverse(matrix):
    """Of a square matrix of fractions, by Gauss-Jordan elimination with a search for the pivot."""
    size = len(matrix)
    rows = [list(row) + [Fraction(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [each / rows[column][column] for each in rows[column]]
        for i in range(size):
            if i != column and rows[i][column]:
                factor = rows[i][column]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column], strict=True)]
    return [row[size:] for row in rows]


def brute_force_effects(paths, order):
    """By the definition: the chain of all paths; without a channel, each step to a state that contains it is lost."""
    steps = []
    for path, converted, lost in paths:
        states = [path[max(0, end - order) : end] for end in range(len(path) + 1)]
        for state, following in pairwise(states):
            steps += [(state, following)] * (converted + lost)
        steps += [(states[-1], "WON")] * converted + [(states[-1], "LOST")] * lost

    def probability(without=None):
        states = sorted({state for state, _ in steps})
        rows = {state: [following for before, following in steps if before == state] for state in states}

        def p(state, following):
            return Fraction(rows[state].count(following), len(rows[state]))

        fundamental = inverse(
            [[Fraction(i == j) - (0 if without in j else p(i, j)) for j in states] for i in states]
        )
        start = fundamental[states.index(())]
        return sum(visits * p(state, "WON") for visits, state in zip(start, states, strict=True))

    channels = sorted({channel for path, *_ in paths for channel in path})
    whole = probability()
    return {channel: 1 - probability(channel) / whole for channel in channels} if whole else {}


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_published_example_of_removal_effects(order):
    assert removal_effects(PUBLISHED_PATHS, order) == pytest.approx({"google ads": 0.75, "mailing": 0.5})
    assert brute_force_effects(PUBLISHED_PATHS, order) == {
        "google ads": Fraction(3, 4),
        "mailing": Fraction(1, 2),
    }


def test_the_published_example_credits_two_point_four_and_one_point_six_of_four_conversions():
    parts = removal_parts(removal_effects(PUBLISHED_PATHS))
    credited = {channel: 4 * part / sum(parts.values()) for channel, part in parts.items()}
    assert credited == pytest.approx({"google ads": 2.4, "mailing": 1.6})


CHANNELS = "ABCDEF"


def path_lists(channels=CHANNELS):
    path = st.lists(st.sampled_from(channels), min_size=1, max_size=6).map(tuple)
    return st.lists(st.builds(PathCount, path, st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@settings(max_examples=scaled(40))
@given(path_lists(), st.sampled_from([1, 2, 3]))
def test_removal_effects_are_those_of_the_definition(paths, order):
    paths = [each for each in paths if each.converted + each.abandoned]
    if not paths:
        return
    right = {channel: float(effect) for channel, effect in brute_force_effects(paths, order).items()}
    assert removal_effects(paths, order) == pytest.approx(right, abs=1e-9)


def test_without_a_conversion_or_a_channel_there_are_no_effects():
    assert removal_effects([PathCount(("A",), 0, 3)]) == {}
    assert removal_effects([PathCount((), 5)]) == {}
    assert removal_effects([]) == {}


def test_repeated_channels_change_nothing_in_order_one():
    once = [PathCount(("A", "B"), 3, 1), PathCount(("B",), 1, 4)]
    often = [PathCount(("A", "A", "B", "B"), 3, 1), PathCount(("B", "B", "B"), 1, 4)]
    assert removal_effects(often) == pytest.approx(removal_effects(once))


def test_the_rarest_channels_beyond_the_bound_are_one():
    many = [PathCount((f"c{number:02}", "common"), 100 - number) for number in range(40)]
    bounded = bounded_paths(many, MOST_CHANNELS_BY_ORDER[1])
    channels = {channel for path, *_ in bounded for channel in path}
    assert len(channels) == 32
    assert {"common", OTHER_CHANNELS, "c00", "c29"} <= channels
    assert "c30" not in channels
    assert sum(each.converted for each in bounded) == sum(each.converted for each in many)


def test_several_samples_at_once_give_what_each_gives_alone():
    paths = [PathCount(("A", "B"), 3, 1), PathCount(("B", "C"), 2, 4), PathCount(("C",), 1, 9)]
    taken = step_counts(paths, 1)
    chain = channel_chain(taken)
    counts = np.array([[taken[step] * factor for step in chain.steps] for factor in (1, 7)], dtype=float)
    for effects in effects_of_counts(chain, counts).values():
        assert effects[0] == pytest.approx(effects[1])
    assert {name: each[0] for name, each in effects_of_counts(chain, counts).items()} == pytest.approx(
        removal_effects(paths)
    )


# Shapley


def brute_force_shapley(paths, channels):
    """By the definition: the weighted sum over all coalitions without the channel of what it adds."""

    def worth(coalition):
        return sum(value for path, value in paths if set(path) <= set(coalition))

    values = {}
    count = len(channels)
    for channel in channels:
        others = [each for each in channels if each != channel]
        values[channel] = sum(
            Fraction(factorial(size) * factorial(count - size - 1), factorial(count))
            * (worth([*coalition, channel]) - worth(coalition))
            for size in range(count)
            for coalition in combinations(others, size)
        )
    return values


def test_the_published_example_of_shapley_values():
    """The example of "Data-driven marketing attribution" (Towards Data Science): Facebook, organic and LinkedIn, per mille of conversions by the set
    of channels. By hand: F = 20 + 17/2 + 30/2 + 6/3 = 45.5, O = 10 + 17/2 + 6/3 = 20.5, L = 17 + 30/2 + 6/3 = 34.
    """
    paths = [
        (("F",), 20),
        (("O",), 10),
        (("L",), 17),
        (("F", "O"), 17),
        (("L", "F"), 30),
        (("F", "O", "L"), 6),
    ]
    right = {"F": Fraction(91, 2), "O": Fraction(41, 2), "L": Fraction(34)}
    assert shapley_values(paths) == right
    assert brute_force_shapley(paths, ["F", "O", "L"]) == right


@settings(max_examples=scaled(40))
@given(path_lists("ABCDEFG"))
def test_shapley_values_are_those_of_the_definition_over_all_subsets(paths):
    worths = [(each.path, each.converted) for each in paths]
    values = shapley_values(worths)
    channels = sorted({channel for path, _ in worths for channel in path})
    assert values == brute_force_shapley(worths, channels)
    assert sum(values.values()) == sum(worth for _, worth in worths)
    parts = shapley_parts(values)
    if total := sum(parts.values()):
        whole = sum(values.values())
        assert all(Fraction(part, total) == values[channel] / whole for channel, part in parts.items())


# Bootstrap


def test_equal_seeds_draw_equally_and_other_seeds_do_not():
    assert (draws("default/2030-01/markov", 50, 20) == draws("default/2030-01/markov", 50, 20)).all()
    assert (draws("default/2030-01/markov", 50, 20) != draws("default/2030-02/markov", 50, 20)).any()


def test_each_resample_draws_as_many_groups_as_there_are_and_each_equally_often():
    drawn = draws("seed", 10, 5_000)
    assert (drawn.sum(axis=1) == 10).all()
    assert drawn.mean(axis=0) == pytest.approx([1.0] * 10, abs=0.08)  # the deviation of a mean is 0.013


def test_the_interval_covers_the_middle_ninety_five_percent():
    assert interval_of(np.arange(1_000.0)) == (25.0, 974.0)


def test_the_interval_of_a_sum_agrees_with_the_normal_approximation():
    """A sum of 100 independent values of variance v has the deviation sqrt(100 v); 95 % lie within 1.96 of it."""
    values = np.array([(7 * number) % 10 for number in range(100)], dtype=float)
    low, high = interval_of(draws("seed", 100) @ values)
    half = 1.96 * (100 * values.var()) ** 0.5
    assert low == pytest.approx(values.sum() - half, abs=0.15 * half)
    assert high == pytest.approx(values.sum() + half, abs=0.15 * half)


def group_paths():
    """Forty leads in forty groups: each third converts by A, and B by every fifth way."""
    return [
        GroupPath(number, ("A", "B") if number % 5 else ("A",), int(number % 3 == 0), int(number % 3 != 0))
        for number in range(40)
    ]


def test_intervals_contain_what_all_leads_together_give():
    paths, groups = group_paths(), list(range(40))
    together = [PathCount(each.path, each.converted, each.abandoned) for each in paths]
    converted = sum(each.converted for each in paths)
    parts = removal_parts(removal_effects(together))
    by_markov = markov_intervals(paths, groups, 1, "seed")
    by_shapley = shapley_intervals(paths, groups, "seed")
    for channel, value in shapley_values((each.path, each.converted) for each in paths).items():
        assert by_shapley[channel].low < value < by_shapley[channel].high
        credited = converted * parts[channel] / sum(parts.values())
        assert by_markov[channel].low < credited < by_markov[channel].high


def test_intervals_follow_from_the_seed_alone():
    paths, groups = group_paths(), list(range(40))
    assert markov_intervals(paths, groups, 2, "a") == markov_intervals(paths[::-1], groups, 2, "a")
    assert shapley_intervals(paths, groups, "a") != shapley_intervals(paths, groups, "b")


def test_without_leads_or_with_too_many_states_there_are_no_intervals():
    assert markov_intervals([], [], 1, "seed") == {}
    assert credit_intervals([], [], "seed") == {}
    many = [GroupPath(0, (f"a{number}", f"b{number}"), 1) for number in range(100)]
    assert markov_intervals(many, [0], 3, "seed") is not None  # eight channels at most
    channels = [f"c{number}" for number in range(16)]
    wide = [GroupPath(0, (a, b), 1) for a in channels for b in channels if a != b]
    assert markov_intervals(wide, [0], 2, "seed") is None

"""Statistics of rates against published tables and examples."""

import time
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.experiments.proportions import (
    chi_square,
    chi_square_tail,
    fisher_p_value,
    leads_needed,
    newcombe_interval,
    p_value,
    pooled_z,
    sample_size,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [
        ((81, 263), 0.2553, 0.3662),
        ((15, 148), 0.0624, 0.1605),
        ((0, 20), 0.0000, 0.1611),
        ((1, 29), 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_those_of_newcombe_1998(count, low, high):
    """R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17
    (1998) 857-872, Table I, method 3.
    """
    assert wilson_interval(count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("other", "control", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_intervals_of_differences_are_those_of_newcombe_1998(other, control, low, high):
    """R. G. Newcombe, Interval estimation for the difference between independent proportions, Statistics in
    Medicine 17 (1998) 873-890, Table II, method 10.
    """
    assert newcombe_interval(control, other) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("degrees", "five", "one", "tenth"),
    [
        (1, 3.841, 6.635, 10.828),
        (2, 5.991, 9.210, 13.816),
        (3, 7.815, 11.345, 16.266),
        (4, 9.488, 13.277, 18.467),
        (5, 11.070, 15.086, 20.515),
        (10, 18.307, 23.209, 29.588),
        (19, 30.144, 36.191, 43.820),
    ],
)
def test_tails_of_chi_square_are_those_of_the_tables(degrees, five, one, tenth):
    """Critical values for 5%, 1% and 0.1%, as every table of the distribution has them (NIST/SEMATECH
    e-Handbook of Statistical Methods, 1.3.6.7.4).
    """
    assert chi_square_tail(five, degrees) == pytest.approx(0.05, rel=1e-3)
    assert chi_square_tail(one, degrees) == pytest.approx(0.01, rel=1e-3)
    assert chi_square_tail(tenth, degrees) == pytest.approx(0.001, rel=1e-3)


def test_the_tail_agrees_with_scipy_where_that_is_installed():
    stats = pytest.importorskip("scipy.stats")
    for degrees in range(1, 20):
        for value in (0, 0.01, 1, 10, 100, 700):
            assert chi_square_tail(value, degrees) == pytest.approx(stats.chi2.sf(value, degrees), rel=1e-10)


def test_chi_square_of_counts_by_hand():
    """60 and 40 where 50 and 50 are due: 100/50 + 100/50; 30, 30, 40 for weights 1, 1, 2: 25, 25, 50 are due."""
    assert chi_square([60, 40], [0.5, 0.5]) == 4
    assert chi_square([30, 30, 40], [1, 1, 2]) == pytest.approx(1 + 1 + 2)
    assert chi_square([0, 0], [0.5, 0.5]) == 0


def test_fisher_is_that_of_the_lady_tasting_tea():
    """R. A. Fisher, The Design of Experiments (1935): 3 of 4 cups each way; two-sided (16+16+1+1)/70."""
    assert fisher_p_value((1, 4), (3, 4)) == 34 / 70


COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, COUNTS)
def test_fisher_counts_out_every_table_of_the_same_margins(control, other):
    converted, everybody = control[0] + other[0], control[1] + other[1]

    def chance(of_control):
        return Fraction(
            comb(converted, of_control) * comb(everybody - converted, control[1] - of_control),
            comb(everybody, control[1]),
        )

    tables = [chance(n) for n in range(control[1] + 1) if 0 <= converted - n <= other[1]]
    expected = sum(each for each in tables if each <= chance(control[0]))
    assert sum(tables) == 1
    assert fisher_p_value(control, other) == pytest.approx(float(expected), rel=1e-12)


def test_a_few_leads_beside_very_many_are_counted_out_at_once():
    """Three of three beside half of a million: close to one half to the power of three, and as much for none of
    three. Read the other way, a binomial of a million would take seconds.
    """
    begun = time.process_time()
    assert fisher_p_value((3, 3), (500_000, 1_000_000)) == pytest.approx(0.25, abs=1e-5)
    assert fisher_p_value((500_000, 1_000_000), (3, 3)) == pytest.approx(0.25, abs=1e-5)
    assert time.process_time() - begun < 1


def test_the_pooled_z_test_by_hand():
    """48/80 and 56/70: its square is the chi-square of the table without correction, 150 (48 * 14 - 32 * 56)^2 /
    (80 * 70 * 104 * 46) = 7.02341, so that z = 2.65017; tables give 0.0080 for that.
    """
    z_squared = 150 * (48 * 14 - 32 * 56) ** 2 / (80 * 70 * 104 * 46)
    assert pooled_z((48, 80), (56, 70)) == pytest.approx(0.0080, abs=1e-4)
    assert pooled_z((48, 80), (56, 70)) == pytest.approx(chi_square_tail(z_squared, 1), rel=1e-12)
    assert pooled_z((5, 10), (5, 10)) == 1
    assert pooled_z((10, 10), (20, 20)) == 1


def test_small_tables_are_counted_out_and_large_ones_approximated():
    assert p_value((1, 4), (3, 4)) == 34 / 70
    assert p_value((48, 80), (56, 70)) == pooled_z((48, 80), (56, 70))
    assert p_value((0, 1_000_000), (3, 1_000_000)) == pytest.approx(0.25, rel=1e-5)


@given(COUNTS, COUNTS)
def test_a_variant_beside_itself_and_sides_swapped(control, other):
    assert 0 < p_value(control, other) <= 1
    assert p_value(control, other) == pytest.approx(p_value(other, control))
    low, high = newcombe_interval(control, other)
    assert newcombe_interval(other, control) == pytest.approx((-high, -low), abs=1e-12)
    assert newcombe_interval(control, control)[0] <= 0 <= newcombe_interval(control, control)[1]


def test_sample_sizes_are_those_of_r():
    """R, help of power.prop.test: p1 = .50, p2 = .75, power = .90 gives n = 76.7."""
    assert sample_size(0.50, 0.75, 0.90) == pytest.approx(76.7, abs=0.05)


def test_the_leads_that_a_lift_needs_are_whole_and_none_where_there_is_no_rate():
    """With z = 1.9600 and 0.8416: from 0.2 to 0.25, (1.96 sqrt(2 * 0.225 * 0.775) + 0.8416 sqrt(0.16 + 0.1875))^2
    / 0.0025 = 1093.7.
    """
    assert leads_needed(0.2, 0.25) == 1094
    assert leads_needed(0, 0.25) is None
    assert leads_needed(0.9, 0.25) is None

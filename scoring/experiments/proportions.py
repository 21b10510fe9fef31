"""The statistics of rates: intervals, differences, and how surprising they are. Pure, no tables.

Where counts are small, probabilities are computed exactly; elsewhere the normal approximation is close. Nothing
here decides anything; the functions quantify uncertainty.
"""

from collections.abc import Sequence
from math import ceil, comb, erfc, exp, lgamma, log, sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
POWER = 0.8
COCHRAN_LEAST_EXPECTED = 5
"""With fewer leads expected in a cell of the table, the normal approximation is poor."""

Interval = tuple[float, float]
ConvertedOfExposed = tuple[int, int]
"""(converted, all leads)"""

_Z_OF_CONFIDENCE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def conversion_rate(count: ConvertedOfExposed) -> float:
    converted, everybody = count
    return converted / everybody


def wilson_interval(count: tuple[float, int]) -> Interval:
    """Wilson's 95% score interval of a rate (Wilson 1927; formula 3 of Newcombe, Statistics in Medicine 17, 1998, 857-872);
    `converted` may be an expected value, and so a fraction.
    """
    converted, everybody = count
    middle = converted + _Z_OF_CONFIDENCE**2 / 2
    half = _Z_OF_CONFIDENCE * sqrt(converted * (everybody - converted) / everybody + _Z_OF_CONFIDENCE**2 / 4)
    low, high = ((middle + side) / (everybody + _Z_OF_CONFIDENCE**2) for side in (-half, half))
    return (0.0 if converted == 0 else low, 1.0 if converted == everybody else high)


def newcombe_interval(control: ConvertedOfExposed, other: ConvertedOfExposed) -> Interval:
    """Newcombe's 95% interval of how much higher the other rate is, of two Wilson intervals (method 10 of Newcombe, Statistics in
    Medicine 17, 1998, 873-890).
    """
    before, after = conversion_rate(control), conversion_rate(other)
    (low_before, high_before), (low_after, high_after) = wilson_interval(control), wilson_interval(other)
    difference = after - before
    return (
        difference - sqrt((after - low_after) ** 2 + (high_before - before) ** 2),
        difference + sqrt((high_after - after) ** 2 + (before - low_before) ** 2),
    )


def p_value(control: ConvertedOfExposed, other: ConvertedOfExposed) -> float:
    """How likely rates at least this different are if both samples have the same rate (two-sided). Fisher's exact
    test if fewer than five leads are expected in a cell, else the pooled z test.
    """
    everybody, converted = control[1] + other[1], control[0] + other[0]
    least = min(control[1], other[1]) * min(converted, everybody - converted) / everybody
    return fisher_p_value(control, other) if least < COCHRAN_LEAST_EXPECTED else pooled_z(control, other)


def pooled_z(control: ConvertedOfExposed, other: ConvertedOfExposed) -> float:
    everybody, converted = control[1] + other[1], control[0] + other[0]
    pooled = converted / everybody
    spread = sqrt(pooled * (1 - pooled) * (1 / control[1] + 1 / other[1]))
    return erfc(abs(conversion_rate(other) - conversion_rate(control)) / spread / sqrt(2)) if spread else 1.0


def fisher_p_value(control: ConvertedOfExposed, other: ConvertedOfExposed) -> float:
    """The probability of all tables with these margins that are no likelier than this one; computed in integers."""
    everybody, converted = control[1] + other[1], control[0] + other[0]
    if min(control[1], other[1]) < min(converted, everybody - converted):
        # Transposed, the same table has smaller binomials.
        control, other = (control[0], converted), (control[1] - control[0], everybody - converted)
        converted = control[0] + other[0]
    first, last = max(0, converted - other[1]), min(control[1], converted)
    ways = [comb(control[1], first) * comb(other[1], converted - first)]
    for n in range(first, last):  # each from the one before: a binomial of thousands is slow to make
        ways.append(
            ways[-1] * (control[1] - n) * (converted - n) // ((n + 1) * (other[1] - converted + n + 1))
        )
    seen = ways[control[0] - first]
    return sum(way for way in ways if way <= seen) / sum(ways)


def chi_square(observed: Sequence[int], weights: Sequence[float]) -> float:
    """Pearson's chi-square (1900): how far the counts are from shares in proportion to the weights, which are above 0."""
    total, whole = sum(observed), sum(weights)
    expected = [total * weight / whole for weight in weights]
    return (
        sum(
            (seen - expected_count) ** 2 / expected_count
            for seen, expected_count in zip(observed, expected, strict=True)
        )
        if total
        else 0.0
    )


def chi_square_tail(value: float, degrees: int) -> float:
    """The probability of a chi-square of at least this value: the regularised upper incomplete gamma
    function at half of both, which for whole degrees of freedom is a finite sum.
    """
    half = value / 2
    if half <= 0:
        return 1.0
    step, tail = (0.5, erfc(sqrt(half))) if degrees % 2 else (1.0, exp(-half))
    while step < degrees / 2:
        tail += exp(step * log(half) - half - lgamma(step + 1))
        step += 1
    return min(tail, 1.0)


def leads_needed(base: float, lift: float) -> int | None:
    """Leads that each of two equal variants needs to detect a rate that is `lift` higher (0.1: a tenth of the base),
    with a power of 80% at a two-sided 5%. None if there is no such rate.
    """
    raised = base * (1 + lift)
    if not (0 < base < 1 and 0 < raised < 1 and raised != base):
        return None
    return ceil(sample_size(base, raised))


def sample_size(base: float, raised: float, power: float = POWER) -> float:
    """The size of each of two samples for a two-sided test at 5% that detects the difference with this power."""
    middle = (base + raised) / 2
    confidence_term = _Z_OF_CONFIDENCE * sqrt(2 * middle * (1 - middle))
    power_term = NormalDist().inv_cdf(power) * sqrt(base * (1 - base) + raised * (1 - raised))
    return ((confidence_term + power_term) / (raised - base)) ** 2

"""Attribution by the Shapley value: the mean of what each channel adds, over all orders in which channels could join.

The worth of a set of channels is the worth of the conversions whose paths use only channels of the set. For this game
the Shapley value has a closed form: each conversion is divided equally among the different channels of its path (Zhao,
Mahboobi, Bagheri: Shapley value methods for attribution modeling in online advertising, 2018, theorem 1). So it is
exact for any number of channels and linear in the paths. Paths without a conversion change nothing. Pure.
"""

from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from math import lcm


def shapley_values(paths: Iterable[tuple[tuple[str, ...], int]]) -> dict[str, Fraction]:
    """The exact value of each channel, of (path, worth of its conversions)."""
    by_size: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for path, worth in paths:
        channels = set(path)
        for channel in channels:
            by_size[channel][len(channels)] += worth
    return {
        channel: sum((Fraction(worth, size) for size, worth in sizes.items()), Fraction(0))
        for channel, sizes in sorted(by_size.items())
    }


def shapley_parts(values: dict[str, Fraction]) -> dict[str, int]:
    """Whole numbers in proportion to the values."""
    common = lcm(*(value.denominator for value in values.values()))
    return {channel: int(value * common) for channel, value in values.items()}

"""What the summary of attribution must show, counted from what its text says, with none of the program's arithmetic."""

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import permutations


def shares_by_orders(paths, channels):
    """The Shapley value of each channel, over all orders in which channels could join."""
    values = defaultdict(Fraction)
    orders = list(permutations(channels))
    for order in orders:
        present, before = set(), 0
        for channel in order:
            present.add(channel)
            now = sum(worth for path, worth in paths if set(path) <= present)
            values[channel] += Fraction(now - before, len(orders))
            before = now
    return dict(values)


def touch_weights(channels, model):
    """Of a path without an opportunity touch, all touchpoints at one moment."""
    count = len(channels)
    if model == "first_touch":
        weights = [1] + [0] * (count - 1)
    elif model == "last_touch":
        weights = [0] * (count - 1) + [1]
    elif model in {"linear", "time_decay"} or count <= 2:
        weights = [1] * count
    else:
        weights = [Fraction(2, 5), *[Fraction(1, 5 * (count - 2))] * (count - 2), Fraction(2, 5)]
    by_channel = Counter()
    for channel, weight in zip(channels, weights, strict=True):
        by_channel[channel] += Fraction(weight) / sum(weights)
    return by_channel

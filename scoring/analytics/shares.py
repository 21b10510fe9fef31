"""Shares and percentiles of counts, as reports show them. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

TrendDirection = Literal["increasing", "stable", "declining"]

STABLE_WITHIN_PERCENT = 20


def share(part: float | Decimal, whole: float | Decimal) -> float | None:
    """The share from 0 to 1, to four decimals; None of nothing."""
    return round(float(part) / float(whole), 4) if whole else None


def mean(total: float | Decimal, count: int) -> float | None:
    """To two decimals; None of nothing."""
    return round(float(total) / count, 2) if count else None


def trend_direction(now: int, before: int) -> TrendDirection:
    """A change of at most 20 % is stable; from none to some is increasing."""
    if abs(now - before) * 100 <= STABLE_WITHIN_PERCENT * before:
        return "stable"
    return "increasing" if now > before else "declining"


def percentile_of_counts(counts: Mapping[int, int], percent: int) -> float | None:
    """The percentile, between the two nearest values in proportion (as SQL's percentile_cont). `counts`: how often
    each value occurs.
    """
    total = sum(counts.values())
    if not total:
        return None
    whole, rest = divmod((total - 1) * percent, 100)
    low = _nth_smallest(counts, whole)
    high = _nth_smallest(counts, min(whole + 1, total - 1))
    return round(low + (high - low) * rest / 100, 4)


def _nth_smallest(counts: Mapping[int, int], number: int) -> int:
    """Counted from 0."""
    for value in sorted(counts):
        number -= counts[value]
        if number < 0:
            return value
    raise ValueError("there are not so many values")

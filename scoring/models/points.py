"""Points, exactly: models say thousandths, scores count millionths, nothing is ever a float.

A rule's points times its group's weight, both in thousandths, are millionths without a remainder.
"""

from decimal import Decimal
from typing import Any

Micro = int
"""Millionths of a point."""

Milli = int
"""Thousandths: of a point, or of a weight."""

ONE_POINT: Micro = 1_000_000
"""One point."""

INF = 1 << 62
"""Never, as a moment."""

LARGEST = 1_000_000
MOST_DECIMALS = 20
"""Also of zeros."""


class PointsError(ValueError):
    """Not a number that points can be."""


def milli(value: Any) -> Milli:
    """A number of a model file in thousandths."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise PointsError(f"{value!r} is not a number")
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise PointsError(f"{value} is not a number")
    if abs(exact) > LARGEST:
        raise PointsError(f"{value} is beyond {LARGEST:,}")
    # With so many decimals the product is exact, and nobody writes more of them to say a thousandth.
    thousandths, exponent = exact * 1000, exact.as_tuple().exponent
    endless = not isinstance(exponent, int) or exponent < -MOST_DECIMALS
    if endless or thousandths != int(thousandths):
        raise PointsError(f"{value} has more than three decimals")
    return int(thousandths)


def rounded(total: Micro) -> int:
    """Whole points, half up."""
    return (2 * total + ONE_POINT) // (2 * ONE_POINT)


def points_text(points: Micro) -> str:
    """The points as a person writes them: 3, 0.25, -15."""
    whole, rest = divmod(abs(points), ONE_POINT)
    sign = "-" if points < 0 else ""
    return f"{sign}{whole}" + (f".{rest:06}".rstrip("0") if rest else "")

"""Exact points: models use thousandths, scores use millionths, and nothing is a float.

A rule's points times its group's weight, both in thousandths, are millionths without a remainder.
"""

from decimal import Decimal
from typing import Any

MicroPoints = int
"""Millionths of a point."""

MilliPoints = int
"""Thousandths: of a point, or of a weight."""

ONE_POINT: MicroPoints = 1_000_000
"""One point."""

ONE_WEIGHT: MilliPoints = 1_000
"""The weight that leaves points as they are."""

NEVER = 1 << 62
"""The moment that means never."""

LARGEST_POINTS = 1_000_000
MOST_DECIMALS = 20
"""Zeros included."""


class PointsError(ValueError):
    """The value is no number of points."""


def read_milli_points(value: Any) -> MilliPoints:
    """A number of a model file in thousandths."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise PointsError(f"{value!r} is not a number")
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise PointsError(f"{value} is not a number")
    if abs(exact) > LARGEST_POINTS:
        raise PointsError(f"{value} is beyond {LARGEST_POINTS:,}")
    # With at most this many decimals the product is exact, and a thousandth needs no more.
    thousandths, exponent = exact * 1000, exact.as_tuple().exponent
    endless = not isinstance(exponent, int) or exponent < -MOST_DECIMALS
    if endless or thousandths != int(thousandths):
        raise PointsError(f"{value} has more than three decimals")
    return int(thousandths)


def rounded_points(total: MicroPoints) -> int:
    """Whole points, half up."""
    return (2 * total + ONE_POINT) // (2 * ONE_POINT)


def points_text(points: MicroPoints) -> str:
    """The points as people write them: 3, 0.25, -15."""
    whole, rest = divmod(abs(points), ONE_POINT)
    sign = "-" if points < 0 else ""
    return f"{sign}{whole}" + (f".{rest:06}".rstrip("0") if rest else "")

"""Points and other exact numbers as JSON has them."""

from decimal import Decimal

from scoring.models.points import ONE_POINT, MicroPoints


def plain(number: Decimal) -> int | float:
    """A JSON number without needless decimals."""
    return int(number) if number == number.to_integral_value() else float(number)


def points(micro: MicroPoints) -> int | float:
    return plain(Decimal(micro) / ONE_POINT)

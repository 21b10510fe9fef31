"""How points fade with days: shares of a half-life, exact decimals, the same on every machine.

A share is what is left after so many whole days, cut after twelve decimals; at whole half-lives it is
exactly a half, a quarter ... No float takes part.
"""

from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any

from scoring.features.operators import number
from scoring.models.text_refusals import shorten_value

DECAYED_AFTER = 3_650
"""Days after which a half-life takes no more."""

SHARES = 10**12

_BEYOND_DOUBT = Decimal("1e-30")
"""Less than any real share lacks, more than sixty digits get wrong."""


class HalfLifeError(ValueError):
    """Not a number of days in which points can halve."""


def half_life_days(value: Any) -> Decimal:
    days = None if isinstance(value, str) else number(value)
    if days is None or not Decimal("0.1") <= days <= 36_500:
        raise HalfLifeError(f"half_life_days is 0.1 to 36500, not {shorten_value(value)}")
    return Decimal(days)


@lru_cache(maxsize=64)
def half_life(days: Decimal) -> tuple[int, ...]:
    """What is left after 0, 1, 2 ... days, of SHARES."""
    with localcontext() as exact:
        exact.prec = 60
        daily, left, shares = Decimal(2) ** (-1 / days), Decimal(SHARES), []
        for _ in range(DECAYED_AFTER + 1):
            shares.append(int(left + _BEYOND_DOUBT))
            left *= daily
    return tuple(shares)

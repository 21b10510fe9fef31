"""How points decay with days: exact shares of a half-life, the same on every machine.

A share is what is left after a number of whole days, cut after twelve decimals. At whole half-lives it is exactly
a half, a quarter ... No float is used.
"""

from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any

from scoring.features.comparison import NEWEST_COMPARISON
from scoring.models.text_refusals import shorten_value

DECAYED_AFTER_DAYS = 3_650
"""Days after which a half-life takes nothing more."""

WHOLE_SHARE = 10**12

_BEYOND_DOUBT = Decimal("1e-30")
"""Added before a share is cut: more than the error of sixty digits, less than changes a real share."""


class HalfLifeError(ValueError):
    """The value is no half-life in days."""


def read_half_life_days(value: Any) -> Decimal:
    days = None if isinstance(value, str) else NEWEST_COMPARISON.number(value)
    if days is None or not Decimal("0.1") <= days <= 36_500:
        raise HalfLifeError(f"half_life_days is 0.1 to 36500, not {shorten_value(value)}")
    return Decimal(days)


@lru_cache(maxsize=64)
def half_life_shares(days: Decimal) -> tuple[int, ...]:
    """What is left of SHARES after 0, 1, 2 ... days."""
    with localcontext() as exact:
        exact.prec = 60
        daily, left, shares = Decimal(2) ** (-1 / days), Decimal(WHOLE_SHARE), []
        for _ in range(DECAYED_AFTER_DAYS + 1):
            shares.append(int(left + _BEYOND_DOUBT))
            left *= daily
    return tuple(shares)

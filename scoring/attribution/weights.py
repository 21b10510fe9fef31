"""The weights of a conversion's touchpoints by each model, and the exact division of a whole by weights. Pure.

A model gives *parts*: whole numbers in proportion to the weights. `divide` shares a whole number (a billion for weights,
the minor units of a value for money) by parts, so that the shares always sum to the whole.
"""

from collections.abc import Sequence
from typing import Final

from scoring.attribution.rules import TOUCH_MODELS

WEIGHT_UNITS: Final = 10**9
"""A weight is a whole number of billionths; the weights of a conversion sum to exactly this."""
_DECAY_SCALE: Final = 1 << 62
"""The part of the youngest touchpoint by time decay: fine enough that rounding stays far below a weight's unit."""


def touch_parts(
    model: str, ages: Sequence[int], half_life_ms: int, opportunity: int | None = None
) -> list[int]:
    """The parts of touchpoints in their order. `ages`: milliseconds from each to the conversion; `opportunity`: the
    index of the last touchpoint at or before entering the stage opportunity. ValueError for an unknown model.
    """
    count = len(ages)
    if not count:
        return []
    match model:
        case "first_touch":
            return [1] + [0] * (count - 1)
        case "last_touch":
            return [0] * (count - 1) + [1]
        case "linear":
            return [1] * count
        case "time_decay":
            return _decay_parts(ages, half_life_ms)
        case "u_shaped":
            return _u_parts(count)
        case "w_shaped":
            return _w_parts(count, opportunity)
        case _:
            raise ValueError(f"{model!r} is no model; those are {', '.join(TOUCH_MODELS)}")


def divide(whole: int, parts: Sequence[int]) -> list[int]:
    """Shares in proportion to the parts, which sum to `whole`, by the largest remainder. Of equal remainders the
    earlier one gets the unit. Without a positive part there are no shares but zeros. `whole` is not negative.
    """
    total = sum(parts)
    if total <= 0:
        return [0] * len(parts)
    divided = [divmod(whole * part, total) for part in parts]
    shares = [share for share, _ in divided]
    by_remainder = sorted(range(len(parts)), key=lambda index: (-divided[index][1], index))
    for index in by_remainder[: whole - sum(shares)]:
        shares[index] += 1
    return shares


def _decay_parts(ages: Sequence[int], half_life_ms: int) -> list[int]:
    """2^(-age / half-life). Only differences of ages matter, so the youngest weighs one."""
    youngest = min(ages)
    return [round(_DECAY_SCALE * 2.0 ** (-(age - youngest) / half_life_ms)) for age in ages]


def _u_parts(count: int) -> list[int]:
    """40 % first, 40 % last, 20 % between; two share equally."""
    if count <= 2:
        return [1] * count
    return [2 * (count - 2)] + [1] * (count - 2) + [2 * (count - 2)]


def _w_parts(count: int, opportunity: int | None) -> list[int]:
    """30 % first, 30 % opportunity, 30 % last, 10 % others; without others the three share equally. Without an
    opportunity of its own it is U.
    """
    if opportunity is None or not 0 < opportunity < count - 1:
        return _u_parts(count)
    others = count - 3
    if not others:
        return [1, 1, 1]
    return [3 * others if index in {0, opportunity, count - 1} else 1 for index in range(count)]

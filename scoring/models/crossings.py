"""Crossings: a score rises through a threshold, and the threshold fires once.

Rounded totals are compared. A threshold that is armed fires on a rise and is then disarmed, also if the crossing
was silent. Only a drop that no attached or detached identity caused arms it again, so that merges and splits
alone never fire it twice.
"""

from collections.abc import Sequence
from typing import NamedTuple

from scoring.models.points import MicroPoints, rounded_points


class FiredThresholds(NamedTuple):
    names: list[str]
    disarmed: list[str]


def named_thresholds(scale: str, thresholds: Sequence[tuple[MicroPoints, str]]) -> list[tuple[int, str]]:
    """The thresholds of a set of bands: (whole points, SCALE:BAND), without those at or below 0."""
    return [(rounded_points(at), f"{scale}:{band}") for at, band in thresholds if at > 0]


def cross_thresholds(
    thresholds: Sequence[tuple[int, str]], before: int, after: int, disarmed: Sequence[str], *, moved: bool
) -> FiredThresholds:
    """Which of `thresholds` (points, name) a total that goes from `before` to `after` fires.

    `disarmed` are the names that have fired; the result has the new ones. `moved`: an attached or detached identity
    or a redirect caused the change. A jump fires every threshold in between, the lowest first.
    """
    if before == after:
        return FiredThresholds([], list(disarmed))
    off = dict.fromkeys(disarmed)
    fired = []
    for points, name in sorted(thresholds):
        if before < points <= after:
            if name not in off:
                off[name] = None
                fired.append(name)
        elif after < points <= before and not moved:
            off.pop(name, None)
    return FiredThresholds(fired, list(off))

"""Crossings: a score rises through a threshold, once.

Compared on rounded totals. A threshold fires on rising while armed and is disarmed by that, also
when it was silent; it is armed again only by a drop that no move of an identity caused, so that
merges and splits alone never fire twice.
"""

from collections.abc import Sequence
from typing import NamedTuple

from scoring.models.points import Micro, rounded


class Crossings(NamedTuple):
    names: list[str]
    disarmed: list[str]


def marks_of(scale: str, thresholds: Sequence[tuple[Micro, str]]) -> list[tuple[int, str]]:
    """What of a set of bands can be crossed: (whole points, SCALE:BAND). Everybody is above 0."""
    return [(rounded(at), f"{scale}:{band}") for at, band in thresholds if at > 0]


def cross(
    thresholds: Sequence[tuple[int, str]], before: int, after: int, disarmed: Sequence[str], *, moved: bool
) -> Crossings:
    """Which of `thresholds` (points, name) a total that goes from `before` to `after` fires.

    `disarmed` are the names that have fired; returned as it is afterwards. `moved`: an attach, a
    detach or a redirect caused the change. A jump fires every threshold in between, lowest first.
    """
    if before == after:
        return Crossings([], list(disarmed))
    off = dict.fromkeys(disarmed)
    fired = []
    for points, name in sorted(thresholds):
        if before < points <= after:
            if name not in off:
                off[name] = None
                fired.append(name)
        elif after < points <= before and not moved:
            off.pop(name, None)
    return Crossings(fired, list(off))

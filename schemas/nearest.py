"""The known name that somebody probably meant: by the pairs of letters that both have in common.

A stranger decides how many names are compared, so a comparison costs microseconds and no more for a long
name than for a short one.
"""

import itertools
from collections.abc import Iterable, Mapping

LONGEST = 64
"""No known name is longer; more of a name is not compared."""
ALIKE = 0.55
"""The share of common pairs from which on a name may be what was meant."""

Pairs = frozenset[str]


def pairs_of(name: str) -> Pairs:
    """The letters that stand beside each other, without regard to case."""
    lower = name[:LONGEST].lower()
    return frozenset(map("".join, itertools.pairwise(lower)))


def pairs_by_name(names: Iterable[str]) -> dict[str, Pairs]:
    """The names, ready to be compared with."""
    return {name: pairs_of(name) for name in names}


def nearest(name: str, known: Mapping[str, Pairs]) -> str | None:
    """The known name that is most like this one; None, if none is."""
    mine = pairs_of(name)
    most, found = ALIKE, None
    for each, pairs in known.items():
        alike = 2 * len(mine & pairs) / ((len(mine) + len(pairs)) or 1)
        if alike > most:
            most, found = alike, each
    return found

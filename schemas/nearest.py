"""Suggests the name that a misspelt one probably means, by the pairs of letters that both contain.

A producer decides how many names are compared, so a comparison takes microseconds, and a long name takes no
longer than a short one.
"""

import itertools
from collections.abc import Iterable, Mapping

LONGEST = 64
"""Letters of a name that are compared; no candidate is longer."""
ALIKE = 0.55
"""A candidate that shares more of its pairs than this may be meant."""

Pairs = frozenset[str]


def pairs_of(name: str) -> Pairs:
    """The pairs of neighbouring letters, without regard to case."""
    lower = name[:LONGEST].lower()
    return frozenset(map("".join, itertools.pairwise(lower)))


def pairs_by_name(names: Iterable[str]) -> dict[str, Pairs]:
    """Each name with its pairs of letters."""
    return {name: pairs_of(name) for name in names}


def nearest(name: str, candidates: Mapping[str, Pairs]) -> str | None:
    """The candidate most like this name; None if none is like it."""
    own_pairs = pairs_of(name)
    best_share, best = ALIKE, None
    for candidate, pairs in candidates.items():
        share = 2 * len(own_pairs & pairs) / ((len(own_pairs) + len(pairs)) or 1)
        if share > best_share:
            best_share, best = share, candidate
    return best

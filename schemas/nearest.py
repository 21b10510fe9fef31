"""Suggests the name that a misspelt one probably means, by the pairs of letters that both contain.

A producer decides how many names are compared, so a comparison takes microseconds, and a long name takes no
longer than a short one.
"""

import itertools
from collections.abc import Iterable, Mapping

MOST_LETTERS_COMPARED = 64
"""Letters of a name that are compared; no candidate is longer."""
LEAST_SHARED_PAIRS = 0.55
"""A candidate that shares more of its pairs than this may be meant."""

LetterPairs = frozenset[str]


def letter_pairs(name: str) -> LetterPairs:
    """The pairs of neighbouring letters, without regard to case."""
    lower = name[:MOST_LETTERS_COMPARED].lower()
    return frozenset(map("".join, itertools.pairwise(lower)))


def letter_pairs_by_name(names: Iterable[str]) -> dict[str, LetterPairs]:
    """Each name with its pairs of letters."""
    return {name: letter_pairs(name) for name in names}


def nearest_name(name: str, candidates: Mapping[str, LetterPairs]) -> str | None:
    """The candidate most like this name; None if none is like it."""
    own_pairs = letter_pairs(name)
    best_share, best = LEAST_SHARED_PAIRS, None
    for candidate, pairs in candidates.items():
        share = 2 * len(own_pairs & pairs) / ((len(own_pairs) + len(pairs)) or 1)
        if share > best_share:
            best_share, best = share, candidate
    return best

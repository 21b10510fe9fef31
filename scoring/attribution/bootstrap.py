"""Intervals of sums over leads by the bootstrap: how much a channel's credit would differ with other leads like these.

Leads are drawn with replacement, RESAMPLES times; the interval is the middle 95 % of the results (percentile bootstrap:
Efron, Tibshirani: An introduction to the bootstrap, 1993). So that the cost is bounded, leads are drawn in groups,
LEAD_GROUPS at most, into which a hash of the lead puts them. The draws follow from the seed alone. Pure.
"""

from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1_000
LEAD_GROUPS: Final = 100
CONFIDENCE: Final = 0.95


class BootstrapInterval(NamedTuple):
    low: float
    high: float


def draws(seed: str, groups: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """How often each group is drawn in each resample, of shape (resamples, groups). Each resample draws as many groups
    as there are. Equal seeds give equal draws: numpy keeps the raw numbers of PCG64 the same in all versions.
    """
    key = int.from_bytes(blake2b(seed.encode(), digest_size=16).digest(), "big")
    numbers = np.random.PCG64(key).random_raw(resamples * groups)
    chosen = ((numbers >> np.uint64(32)) * np.uint64(groups)) >> np.uint64(32)
    rows = np.repeat(np.arange(resamples), groups)
    drawn = np.zeros((resamples, groups))
    np.add.at(drawn, (rows, chosen.astype(np.intp)), 1.0)
    return drawn


def interval_of(results: NDArray[np.float64]) -> BootstrapInterval:
    """The percentiles that leave (1 - CONFIDENCE) / 2 of the results on each side."""
    ordered = np.sort(results)
    outside = int(len(ordered) * (1 - CONFIDENCE) / 2 + 1e-9)
    return BootstrapInterval(float(ordered[outside]), float(ordered[-1 - outside]))

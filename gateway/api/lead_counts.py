"""How many leads are in each band and stage: counted in indexes, and kept for a while.

Every open page asks after each change. Counting takes time in proportion to the leads, so a result serves everybody until ten
times what it cost has passed: at most a tenth of the time, whoever asks.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from gateway.store import ReadStore, Row
from projections.call_list_queries import leads_by_band, leads_by_stage
from projections.lead_lists import snoozed_leads

KEPT_FOR: Final = 10.0
"""Times what counting has cost."""
MOST_KEPT: Final = 256
"""Results, each of a tenant and a model: the ones that nobody has asked for go first."""


class LeadCounts(NamedTuple):
    band_keys: Counter[str]
    """As `lead_scores.band_keys`: of all scales of the model."""
    stages: Counter[str]


class AllCounts(NamedTuple):
    """Without the leads that are put off, which `snoozed` counts. Nobody who was merged is counted."""

    identified: LeadCounts
    anonymous: LeadCounts
    snoozed: int
    as_of: datetime


class _Kept(NamedTuple):
    counts: AllCounts
    until: float


class KeptCounts:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._counting: dict[tuple[str, str], asyncio.Lock] = {}

    async def of(self, tenant: str, model: str, store: ReadStore, now: datetime) -> AllCounts:
        key = tenant, model
        async with self._counting.setdefault(key, asyncio.Lock()):
            began = self._clock()
            kept = self._kept.get(key)
            if kept is None or kept.until <= began:
                counts = await _counted(tenant, model, store, now)
                ended = self._clock()
                kept = self._kept[key] = _Kept(counts, ended + KEPT_FOR * (ended - began))
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                oldest, _ = self._kept.popitem(last=False)
                self._counting.pop(oldest, None)
        return kept.counts


async def _counted(tenant: str, model: str, store: ReadStore, now: datetime) -> AllCounts:
    async with store.snapshot() as ask:
        bands, stages, snoozed = await ask.all(
            leads_by_band(tenant, model), leads_by_stage(tenant), snoozed_leads(tenant, model, now)
        )

    def of_leads(identified: bool) -> LeadCounts:  # noqa: FBT001 - a column's value
        return LeadCounts(
            _awake(bands, snoozed, "band_keys", identified), _awake(stages, snoozed, "stage", identified)
        )

    return AllCounts(of_leads(True), of_leads(False), len(snoozed), now)


def _awake(counted: Iterable[Row], snoozed: Iterable[Row], column: str, identified: bool) -> Counter[str]:  # noqa: FBT001 - as above
    awake = Counter({row[column]: row["leads"] for row in counted if row["identified"] is identified})
    awake.subtract(
        row[column] for row in snoozed if row["identified"] is identified and row[column] is not None
    )
    return awake

"""Every metric that a projection exposes at /metrics, with a help text that an operator understands.

Labels have few, fixed values: topics, and reasons to pause.
"""

import collections
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from projections.retention import ROW_KINDS
from schemas.record import Chunk, LogPartition

PauseReason = Literal["starting", "database", "kafka", "record"]
PAUSE_REASONS: Final[tuple[PauseReason, ...]] = ("starting", "database", "kafka", "record")

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # process_start_time_seconds tells restarts
_gauge = partial(Gauge, registry=REGISTRY)

LAG_RECORDS = _gauge(
    "leadstream_projection_lag_records",
    "Records in Kafka that this projection has not yet written into the read models, by topic (counted in positions).",
    ["topic"],
)
LAG_SECONDS = _gauge(
    "leadstream_projection_lag_seconds",
    "For how long the oldest record that this projection has yet to write has been in Kafka, about; 0 when none waits.",
)
BATCH_SECONDS = Histogram(
    "leadstream_projection_batch_seconds",
    "Time to write one batch into PostgreSQL, commit included.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
WRITTEN_RECORDS = Counter(
    "leadstream_projection_records",
    "Records written into the read models by this projection.",
    registry=REGISTRY,
)
UNREADABLE_FOREIGN_RECORDS = Counter(
    "leadstream_projection_foreign_records",
    "Records in Leadstream's own topics that somebody else wrote and nobody can read: each is a dead letter "
    "(`leadstream dead-letters list`). Who else may write there?",
    registry=REGISTRY,
)
PAUSED = _gauge(
    "leadstream_projection_paused",
    "1 while this projection does not go on, by what it waits for: starting (it has not begun to follow), database, kafka, "
    "record (one partition waits until somebody skips what cannot be read; the others go on). "
    "Its /ready says more.",
    ["reason"],
)

ANALYTICS_REGISTRY = CollectorRegistry()
"""Of the analytics worker and of retention, which run beside the projection: in a process of its own, or in that of the gateway."""
ANALYTICS_LAG_SECONDS = Gauge(
    "leadstream_analytics_lag_seconds",
    "How old the oldest change of a lead was whose analytics were computed last (journeys, summaries, attribution); 0 when "
    "none waits, NaN in a process that computes none.",
    registry=ANALYTICS_REGISTRY,
)
ANALYTICS_LAG_SECONDS.set(math.nan)
FAILED_ANALYTICS = Counter(
    "leadstream_analytics_failed_leads",
    "How often the analytics of a lead could not be computed; it keeps what it had. This is a bug: the log of the process "
    "names the lead's key and the error.",
    registry=ANALYTICS_REGISTRY,
)
REMOVED = Counter(
    "leadstream_retention_removed",
    "What this process has removed by age: records of the log or of the archive, and rows by their kind in "
    "LEADSTREAM_ROW_RETENTION (contents: rows that lost them).",
    ["kind"],
    registry=ANALYTICS_REGISTRY,
)
for _kind in ("records", *ROW_KINDS):
    REMOVED.labels(_kind)


def set_paused(reason: PauseReason | None) -> None:
    """None: the projection is not paused."""
    for each in PAUSE_REASONS:
        PAUSED.labels(each).set(each == reason)


class UnprojectedRecords:
    """Counts the records that this projection has yet to write, and since when they wait."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._since: dict[LogPartition, float] = {}

    def set_remaining(self, left: Mapping[LogPartition, int]) -> None:
        """Sets the number of unwritten records by partition, for every partition that the projection owns."""
        now = self._now()
        self._since = {
            partition: self._since.get(partition, now) for partition, count in left.items() if count
        }
        topics = collections.Counter({topic: 0 for topic, _ in left})
        for (topic, _), count in left.items():
            topics[topic] += count
        LAG_RECORDS.clear()
        for topic, count in topics.items():
            LAG_RECORDS.labels(topic).set(count)

    def begin_writing(self, chunks: Sequence[Chunk]) -> None:
        """The projection is about to write these chunks."""
        for chunk in chunks:
            if chunk.records and (at := chunk.records[0].appended_at) is not None:
                self._since[chunk.topic, chunk.partition] = at / 1_000

    def end_writing(self, chunks: Iterable[Chunk], seconds: float) -> None:
        BATCH_SECONDS.observe(seconds)
        for chunk in chunks:
            WRITTEN_RECORDS.inc(len(chunk.records))
            self._since.pop((chunk.topic, chunk.partition), None)

    def oldest_age_seconds(self) -> float:
        return max((self._now() - since for since in [*self._since.values()]), default=0.0)


def exposition(age: float = math.nan) -> bytes:
    """The text that Prometheus scrapes."""
    LAG_SECONDS.set(age)
    return generate_latest(REGISTRY) + analytics_exposition()


def analytics_exposition() -> bytes:
    """The part that the gateway exposes too: it may be the process that computes analytics."""
    return generate_latest(ANALYTICS_REGISTRY)


set_paused("starting")

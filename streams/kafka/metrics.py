"""Every metric that a worker gives at /metrics, with a help text that an operator understands.

Labels take few, fixed values: topics, partitions and stages, never a key or anything a producer sent.
Nothing is counted per record: totals are read from the engine's status when somebody looks.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.record import LogPartition
from streams.engine.task import TaskCounts
from streams.engine.worker import ShardStatus

_COMMIT_SECONDS_STEPS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

ShardStatuses = Callable[[], Sequence[ShardStatus]]
EndPositions = Callable[[], Mapping[LogPartition, int]]
CountsByStage = Callable[[], Mapping[str, TaskCounts]]


class WorkerMetrics:
    """The metrics of one worker. `stages` show zeros while the worker owns none of their shards."""

    def __init__(
        self, stages: Iterable[str], status: ShardStatuses, ends: EndPositions, tallies: CountsByStage
    ) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # process_start_time_seconds shows restarts
        about = "Time to fold what waited and to commit it, in one transaction."
        self._commits = Histogram(
            "leadstream_worker_round_seconds", about, buckets=_COMMIT_SECONDS_STEPS, registry=self._registry
        )
        self._shards = _ShardCollector(tuple(stages), status, ends, tallies)
        self._registry.register(self._shards)

    def observe_commit(self, _records: int, seconds: float) -> None:
        """The `observe` of the engine's worker."""
        self._commits.observe(seconds)

    def exposition(self) -> bytes:
        """What Prometheus scrapes."""
        return generate_latest(self._registry)


class _ShardCollector(Collector):
    def __init__(
        self, stages: Sequence[str], status: ShardStatuses, ends: EndPositions, tallies: CountsByStage
    ) -> None:
        self._stages = stages
        self._status = status
        self._ends = ends
        self._tallies = tallies

    def collect(self) -> Iterator[Metric]:
        shards = self._status()
        yield self._lags(shards)
        yield self._counted(
            "folded", "Records folded into scores by this worker, by stage.", lambda tally: tally.folded
        )
        yield self._counted(
            "dead_letters",
            "Records that this worker could not read or that an operator skipped, by stage.",
            lambda tally: tally.dead_letters,
        )
        yield self._counted(
            "misplaced_records",
            "Of these dead letters, records in another partition than their key's: their producer needs "
            "partitioner=murmur2_random.",
            lambda tally: tally.misplaced,
        )
        yield GaugeMetricFamily(
            "leadstream_worker_restoring_shards",
            "Shards whose state is being read back; nothing of theirs is folded until then.",
            value=sum(not shard.ready for shard in shards),
        )
        yield self._counted(
            "lost_positions",
            "Positions that retention deleted before this worker had folded them: their events are in no score. "
            "Keep the log longer, or keep workers from being down for so long.",
            lambda tally: tally.removed,
        )
        yield GaugeMetricFamily(
            "leadstream_worker_restored_percent",
            "How much of the state of the shards that this worker owns is read back; 100 when all of it is.",
            value=restored_percent(shards),
        )
        yield self._ages(shards)
        yield self._by_stage("shards", "Shards that this worker owns, by stage.", shards, lambda _: 1)
        yield self._by_stage(
            "keys",
            "Visitors or leads whose state this worker owns, by stage.",
            shards,
            lambda shard: shard.keys,
        )
        yield self._by_stage(
            "state_bytes",
            "Bytes of encoded state held in memory, by stage.",
            shards,
            lambda shard: shard.size,
        )

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads no status."""
        return iter(())

    def _lags(self, shards: Sequence[ShardStatus]) -> Metric:
        lags = GaugeMetricFamily(
            "leadstream_worker_lag_records",
            "Positions between what is committed in the log and what is folded, by topic and partition.",
            labels=["topic", "partition"],
        )
        ends = self._ends()
        for shard in shards:
            if (behind := lag_of_shard(shard, ends)) is not None:
                lags.add_metric([shard.topic, str(shard.partition)], behind)
        return lags

    def _ages(self, shards: Sequence[ShardStatus]) -> Metric:
        ages = GaugeMetricFamily(
            "leadstream_worker_lag_seconds",
            "For how long the record that is next to be folded has been in the log, by topic and partition; 0 when none "
            "waits in this worker.",
            labels=["topic", "partition"],
        )
        now = time.time()
        for shard in shards:
            waited = 0.0 if shard.oldest_at is None else max(0.0, now - shard.oldest_at / 1_000)
            ages.add_metric([shard.topic, str(shard.partition)], waited)
        return ages

    def _counted(self, name: str, about: str, value: Callable[[TaskCounts], int]) -> Metric:
        tallies = self._tallies()
        family = CounterMetricFamily(f"leadstream_worker_{name}", about, labels=["stage"])
        for stage in self._stages:
            family.add_metric([stage], value(tallies[stage]) if stage in tallies else 0)
        return family

    def _by_stage(
        self, name: str, about: str, shards: Sequence[ShardStatus], value: Callable[[ShardStatus], int]
    ) -> Metric:
        family = GaugeMetricFamily(f"leadstream_worker_{name}", about, labels=["stage"])
        for stage in self._stages:
            family.add_metric([stage], sum(value(shard) for shard in shards if shard.stage == stage))
        return family


def restored_percent(shards: Iterable[ShardStatus]) -> int:
    """100 only when every shard is ready."""
    owned = list(shards)
    if all(shard.ready for shard in owned):
        return 100
    whole = sum(shard.to_restore for shard in owned) or 1
    return min(99, sum(shard.restored for shard in owned) * 100 // whole)


def lag_of_shard(shard: ShardStatus, ends: Mapping[LogPartition, int]) -> int | None:
    """None: not known yet."""
    end = ends.get((shard.topic, shard.partition))
    return None if end is None or shard.position is None else max(0, end - shard.position)

"""What a worker says of itself in figures."""

import time

from prometheus_client.parser import text_string_to_metric_families

from streams.engine.task import TaskCounts
from streams.engine.worker import ShardStatus
from streams.kafka.metrics import WorkerMetrics


def shard(partition, restored, whole, *, ready=False, oldest_at=None):
    return ShardStatus(
        "track_sessions",
        "events",
        partition,
        task_group=0,
        ready=ready,
        restored=restored,
        to_restore=whole,
        position=10,
        queued=0,
        folded=0,
        keys=0,
        size=0,
        oldest_at=oldest_at,
    )


def values(shards, tallies=None):
    page = (
        WorkerMetrics(["track_sessions"], lambda: shards, dict, lambda: tallies or {}).exposition().decode()
    )
    families = text_string_to_metric_families(page)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_a_restore_shows_how_much_of_the_whole_is_read_back():
    """By bytes of no shard but by positions of all: 150 of 400."""
    assert values([shard(0, 100, 100), shard(1, 50, 300)])[("leadstream_worker_restored_percent",)] == 37


def test_a_restore_is_complete_only_when_every_shard_is_ready():
    name = ("leadstream_worker_restored_percent",)
    assert values([shard(0, 100, 100), shard(1, 300, 300)])[name] == 99
    assert values([shard(0, 100, 100, ready=True), shard(1, 300, 300, ready=True)])[name] == 100
    assert values([])[name] == 100


def test_what_waits_shows_for_how_long_and_what_was_lost_shows():
    found = values(
        [shard(0, 1, 1, oldest_at=int(time.time() * 1_000) - 90_000), shard(1, 1, 1)],
        {"track_sessions": TaskCounts(removed=5)},
    )
    assert 90 <= found["leadstream_worker_lag_seconds", "0", "events"] < 150
    assert found["leadstream_worker_lag_seconds", "1", "events"] == 0
    assert found["leadstream_worker_lost_positions_total", "track_sessions"] == 5
    assert found[("process_start_time_seconds",)] > 0

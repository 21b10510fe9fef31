"""The simplest host: one aiokafka consumer, no Faust. What a benchmark holds the other host against.

Reads what the group gives it and hands it to the worker; everything else is the worker's.
"""

import asyncio
import gc
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from streams.engine.shard import Stage
from streams.engine.worker import Worker
from streams.kafka.assignor import bucket_assignor
from streams.kafka.cluster import Cluster
from streams.kafka.reading import COMMITTED, ChunkReader
from streams.kafka.restoring import KafkaBacking

READ_SECONDS = 0.25
IDLE_SECONDS = 0.02
TICK_SECONDS = 1.0
MOST = 20_000
"""Records of one read."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    def __init__(self, cluster: Cluster, worker: Worker, reader: ChunkReader) -> None:
        self._cluster = cluster
        self._worker = worker
        self._reader = reader

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        self._reader.forget()
        await self._worker.revoke()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._worker.assign([(self._cluster.name_of(p.topic), p.partition) for p in assigned])


async def run(
    cluster: Cluster,
    stages: Sequence[Stage[Any, Any]],
    *,
    partitions: int,
    buckets: int = 2,
    now: Callable[[], int],
    stop: asyncio.Event,
    ready: Callable[[Worker], None] | None = None,
) -> None:
    """Until `stop` is set. Raises what the worker failed with; `ready` is given the worker at the start."""
    gc.set_threshold(200_000, 20, 50)  # folds make many small lasting objects
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    backing = KafkaBacking(cluster, partitions)
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        group_id=cluster.group,
        partition_assignment_strategy=(bucket_assignor(buckets),),
        enable_auto_commit=False,
        isolation_level=COMMITTED,
        auto_offset_reset="none",  # where to read is the worker's to say; a lost position must show
        fetch_max_wait_ms=int(READ_SECONDS * 1000),
        max_partition_fetch_bytes=2 * 1024 * 1024,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=3_000,
        max_poll_interval_ms=2**31 - 1,  # while everything restores or is full, nothing is read
    )
    reader = ChunkReader(consumer, cluster)
    worker = Worker(stages, backing, buckets=buckets, now=now, seek=reader.seek, fail=failure.set_exception)
    await backing.start()
    consumer.subscribe(
        [cluster.topic(stage.source) for stage in stages], listener=_Listener(cluster, worker, reader)
    )
    await consumer.start()
    if ready is not None:
        ready(worker)
    try:
        await _serve(worker, reader, failure, stop)
    finally:
        await worker.stop()
        await consumer.stop()
        await backing.stop()


async def _serve(
    worker: Worker, reader: ChunkReader, failure: "asyncio.Future[None]", stop: asyncio.Event
) -> None:
    told, loop = asyncio.create_task(stop.wait()), asyncio.get_running_loop()
    tick_at = loop.time()
    reading = asyncio.create_task(_read(worker, reader))
    try:
        while not stop.is_set():
            waiting: set[asyncio.Future[Any]] = {told, failure, reading}
            await asyncio.wait(waiting, timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for ended in (failure, reading):
                if ended.done():
                    ended.result()
            if loop.time() >= tick_at:
                worker.tick()
                tick_at = loop.time() + TICK_SECONDS
    finally:
        for task in (told, reading):
            task.cancel()
        await asyncio.gather(told, reading, return_exceptions=True)


async def _read(worker: Worker, reader: ChunkReader) -> None:
    while True:
        open_slots = [slot for slot in reader.slots if not worker.full(slot)]
        if not open_slots:
            await asyncio.sleep(IDLE_SECONDS)
            continue
        for chunk in await reader.read(seconds=READ_SECONDS, most=MOST, of=open_slots):
            worker.offer(chunk)
        await asyncio.sleep(0)

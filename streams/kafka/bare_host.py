"""The simplest host: a member of the group and the engine's worker, without Faust. Benchmarks compare the other host
with it.
"""

import asyncio
import gc
from collections.abc import Callable, Collection, Sequence
from typing import Any

from schemas.record import Chunk, LogPartition
from streams.engine.shard import Stage
from streams.engine.worker import Worker
from streams.kafka.cluster import Cluster
from streams.kafka.member import Member
from streams.kafka.restoring import KafkaChangelogStorage

TICK_SECONDS = 1.0


class _BareHost:
    """`streams.kafka.member.MemberHost` that passes everything to the worker."""

    def __init__(
        self,
        cluster: Cluster,
        stages: Sequence[Stage[Any, Any]],
        backing: KafkaChangelogStorage,
        buckets: int,
        now: Callable[[], int],
    ) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.member = Member(cluster, [stage.source for stage in stages], self, buckets=buckets)
        self.worker = Worker(
            stages,
            backing,
            task_groups=buckets,
            now=now,
            seek=self.member.read_from,
            room=lambda _: self.member.notify_room(),
            fail=self.fail,
        )

    async def assigned(self, log_partitions: Collection[LogPartition]) -> None:
        await self.worker.assign(log_partitions)

    async def revoked(self) -> None:
        await self.worker.revoke()

    def full(self, log_partition: LogPartition) -> bool:
        return self.worker.full(log_partition)

    async def hand_over(self, chunk: Chunk) -> None:
        self.worker.offer(chunk)

    def fail(self, error: BaseException) -> None:
        """The first failure counts."""
        if not self.failure.done():
            self.failure.set_exception(error)


async def run_bare_worker(
    cluster: Cluster,
    stages: Sequence[Stage[Any, Any]],
    *,
    partitions: int,
    buckets: int = 2,
    now: Callable[[], int],
    stop: asyncio.Event,
    ready: Callable[[Worker], None] | None = None,
) -> None:
    """Runs until `stop` is set. Raises the worker's failure. Calls `ready` with the worker at the start."""
    gc.set_threshold(200_000, 20, 50)  # folds make many small, long-lived objects
    backing = KafkaChangelogStorage(cluster, partitions)
    host = _BareHost(cluster, stages, backing, buckets, now)
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    try:
        await backing.start()
        host.member.start()
        if ready is not None:
            ready(host.worker)
        while not (stopped.done() or host.failure.done()):
            ends = {stopped, host.failure}
            await asyncio.wait(ends, timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            host.worker.tick()
        if host.failure.done():
            host.failure.result()
    finally:
        stopped.cancel()
        await host.worker.stop()
        await host.member.stop()
        await backing.stop()

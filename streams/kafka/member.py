"""A member of the workers' group: one aiokafka consumer, which hands chunks to the host of an engine's worker.

It joins, stays a member, reports what it owns, and reads the partitions whose queue has room. It commits nothing and
folds nothing; the worker decides where to read from.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from schemas.record import Chunk, LogPartition
from streams.kafka.assignor import task_group_assignor
from streams.kafka.cluster import Cluster
from streams.kafka.private_names import close_consumer
from streams.kafka.reading import COMMITTED_ISOLATION, ChunkReader

READ_SECONDS = 0.25
"""How long a read waits for records."""
MOST_RECORDS_PER_READ = 20_000
"""In one read. The engine bounds what a partition's queue holds."""
FETCH_BYTES = 2 * 1024 * 1024
SESSION_MS = 10_000
HEARTBEAT_MS = 3_000
REBALANCE_MS = 60_000
FOREVER_MS = 2**31 - 1
LEAVING_SECONDS = 2.0
"""For leaving the group, which needs a broker that answers."""

_NO_PARTITION = TopicPartition("", 0)


class MemberHost(Protocol):
    """What a member calls."""

    async def assigned(self, log_partitions: Collection[LogPartition]) -> None:
        """Gets everything that this member owns from now on."""

    async def revoked(self) -> None:
        """Called when the member owns nothing until the next assignment."""

    def full(self, log_partition: LogPartition) -> bool:
        """Whether the partition must not be read now."""

    async def hand_over(self, chunk: Chunk) -> None: ...

    def fail(self, error: BaseException) -> None:
        """Called when the membership has ended with an error."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """`worker_id` makes it a static member: the group keeps its partitions over a restart."""

    def __init__(
        self,
        cluster: Cluster,
        topics: Iterable[str],
        host: MemberHost,
        *,
        buckets: int,
        worker_id: str | None = None,
    ) -> None:
        self._cluster = cluster
        self._host = host
        self._room = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._consumer = AIOKafkaConsumer(
            **cluster.client(),
            group_id=cluster.group,
            group_instance_id=worker_id,
            partition_assignment_strategy=(task_group_assignor(buckets, worker_id),),
            enable_auto_commit=False,
            auto_offset_reset="none",  # the engine decides where to read; a position out of range must raise
            isolation_level=COMMITTED_ISOLATION,
            fetch_max_wait_ms=int(READ_SECONDS * 1000),
            max_partition_fetch_bytes=FETCH_BYTES,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            max_poll_interval_ms=FOREVER_MS,  # nothing is read while everything restores or is full
        )
        self._reader = ChunkReader(self._consumer, cluster)
        self._consumer.subscribe([cluster.topic(topic) for topic in topics], listener=self)

    def start(self) -> None:
        """Joins the group. Assignments and failures come later, through the host."""
        self._following = asyncio.create_task(self._follow(), name="member")

    async def stop(self) -> None:
        """Leaves the group, if a broker answers in time."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        await close_consumer(self._consumer, LEAVING_SECONDS)

    def read_from(self, log_partition: LogPartition, position: int) -> None:
        """The `seek` of the engine's worker."""
        if self._reader.partition(log_partition) in self._consumer.assignment():
            self._reader.seek(log_partition, position)

    def notify_room(self) -> None:
        """Called when a partition that was full or restoring may be read."""
        self._room.set()

    def ends(self) -> dict[LogPartition, int]:
        """The end of what is committed in each partition, as far as it is known."""
        ends = {
            self._log_partition(p): self._consumer.last_stable_offset(p) for p in self._consumer.assignment()
        }
        return {log_partition: end for log_partition, end in ends.items() if end is not None and end >= 0}

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """Drops what is being read: it belongs to the assignment that ends."""
        self._reader.forget()
        try:
            await self._host.revoked()
        except Exception as error:  # noqa: BLE001 - aiokafka would only log it, and go on with a member that folds nothing
            self._host.fail(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._reader.forget()  # a seek may have come meanwhile
        try:
            await self._host.assigned([self._log_partition(partition) for partition in assigned])
        except Exception as error:  # noqa: BLE001 - as above
            self._host.fail(error)

    def _log_partition(self, partition: TopicPartition) -> LogPartition:
        return self._cluster.name_of(partition.topic), partition.partition

    async def _follow(self) -> None:
        try:
            await self._consumer.start()
            while True:
                for chunk in await self._read():
                    await self._host.hand_over(chunk)
                await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the membership has ended
            self._host.fail(error)

    async def _read(self) -> list[Chunk]:
        """Reads the partitions that have room; returns early when more of them have. A read takes its records in its last
        step, so a cancelled read has taken none.
        """
        self._room.clear()
        roomy = [
            log_partition
            for log_partition in self._reader.log_partitions
            if not self._host.full(log_partition)
        ]
        if roomy and len(roomy) == len(self._reader.log_partitions):
            return await self._reader.read(seconds=READ_SECONDS, most=MOST_RECORDS_PER_READ, of=roomy)
        room = asyncio.create_task(self._room.wait())
        reading = asyncio.create_task(
            self._reader.read(seconds=READ_SECONDS, most=MOST_RECORDS_PER_READ, of=roomy)
            if roomy
            else self._idle()
        )
        try:
            await asyncio.wait({reading, room}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            room.cancel()
            reading.cancel()
        await asyncio.wait({reading})
        return [] if reading.cancelled() else reading.result()

    async def _idle(self) -> list[Chunk]:
        """Reads nothing: aiokafka reports a failed membership only to a caller that reads."""
        await self._consumer.getmany(_NO_PARTITION)
        await asyncio.sleep(READ_SECONDS)
        return []

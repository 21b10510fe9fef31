"""A member of the workers' group: one aiokafka consumer, which hands chunks to the host of an engine's worker.

It joins, stays a member, says what it owns, and reads what has room. It commits nothing and folds nothing:
where to read from is the worker's to say.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from schemas.record import Chunk, LogPartition
from streams.kafka.assignor import bucket_assignor
from streams.kafka.cluster import Cluster
from streams.kafka.private_names import close
from streams.kafka.reading import COMMITTED, ChunkReader

READ_SECONDS = 0.25
"""How long a read waits when nothing comes."""
MOST_RECORDS = 20_000
"""Of one read; what a partition's queue may hold is the engine's to say."""
FETCH_BYTES = 2 * 1024 * 1024
SESSION_MS = 10_000
HEARTBEAT_MS = 3_000
REBALANCE_MS = 60_000
FOREVER_MS = 2**31 - 1
LEAVING_SECONDS = 2.0
"""For leaving the group, which takes a broker that answers."""

_NOWHERE = TopicPartition("", 0)


class MemberHost(Protocol):
    """Whom a member tells what happens to it."""

    async def assigned(self, slots: Collection[LogPartition]) -> None:
        """All that this member owns from now on."""

    async def revoked(self) -> None:
        """It owns nothing until it is assigned again."""

    def full(self, slot: LogPartition) -> bool:
        """Whether nothing is to be read of it now."""

    async def hand_over(self, chunk: Chunk) -> None: ...

    def fail(self, error: BaseException) -> None:
        """Called when this is no member any more."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """`worker_id` makes it a static member: the group waits for it to come back."""

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
            partition_assignment_strategy=(bucket_assignor(buckets, worker_id),),
            enable_auto_commit=False,
            auto_offset_reset="none",  # where to read is the engine's to say; a lost position must show
            isolation_level=COMMITTED,
            fetch_max_wait_ms=int(READ_SECONDS * 1000),
            max_partition_fetch_bytes=FETCH_BYTES,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            max_poll_interval_ms=FOREVER_MS,  # while all restores or is full, nothing is read
        )
        self._reader = ChunkReader(self._consumer, cluster)
        self._consumer.subscribe([cluster.topic(topic) for topic in topics], listener=self)

    def start(self) -> None:
        """Joins the group; what it owns comes later, and what fails, through the host."""
        self._following = asyncio.create_task(self._follow(), name="member")

    async def stop(self) -> None:
        """Leaves the group, if a broker answers in time."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        await close(self._consumer, LEAVING_SECONDS)

    def read_from(self, slot: LogPartition, position: int) -> None:
        """`seek` of the engine's worker."""
        if self._reader.partition(slot) in self._consumer.assignment():
            self._reader.seek(slot, position)

    def has_room(self) -> None:
        """What was full, or restoring, may be read."""
        self._room.set()

    def ends(self) -> dict[LogPartition, int]:
        """Up to where each partition is known to hold what is committed."""
        ends = {self._slot(p): self._consumer.last_stable_offset(p) for p in self._consumer.assignment()}
        return {slot: end for slot, end in ends.items() if end is not None and end >= 0}

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """What is being read belongs to the assignment that ends."""
        self._reader.forget()
        try:
            await self._host.revoked()
        except Exception as error:  # noqa: BLE001 - aiokafka would log it, and go on with a member that folds nothing
            self._host.fail(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._reader.forget()  # a seek may have come since
        try:
            await self._host.assigned([self._slot(partition) for partition in assigned])
        except Exception as error:  # noqa: BLE001 - as above
            self._host.fail(error)

    def _slot(self, partition: TopicPartition) -> LogPartition:
        return self._cluster.name_of(partition.topic), partition.partition

    async def _follow(self) -> None:
        try:
            await self._consumer.start()
            while True:
                for chunk in await self._read():
                    await self._host.hand_over(chunk)
                await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - whatever it is, we are no member any more
            self._host.fail(error)

    async def _read(self) -> list[Chunk]:
        """What has come of what has room; ends early when more has it. A read takes its records in its last
        step, so that one which is cancelled has taken none.
        """
        self._room.clear()
        roomy = [slot for slot in self._reader.slots if not self._host.full(slot)]
        if roomy and len(roomy) == len(self._reader.slots):
            return await self._reader.read(seconds=READ_SECONDS, most=MOST_RECORDS, of=roomy)
        room = asyncio.create_task(self._room.wait())
        reading = asyncio.create_task(
            self._reader.read(seconds=READ_SECONDS, most=MOST_RECORDS, of=roomy) if roomy else self._idle()
        )
        try:
            await asyncio.wait({reading, room}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            room.cancel()
            reading.cancel()
        await asyncio.wait({reading})
        return [] if reading.cancelled() else reading.result()

    async def _idle(self) -> list[Chunk]:
        """Aiokafka says only to a caller that reads that a membership has failed: here it reads nothing."""
        await self._consumer.getmany(_NOWHERE)
        await asyncio.sleep(READ_SECONDS)
        return []

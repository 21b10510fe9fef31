"""Reading changelogs back, and what else a worker asks Kafka when it opens its buckets.

Only what is committed is read, after the bucket was fenced, so nobody else can still add to it. A
memory that stood somewhere in its changelog reads on from there.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.record import Chunk, LogPartition, LogUnreadableError, Record, Unreadable, skip_reason
from scoring.features.features import NewerCodec
from streams.engine.state_store import SEPARATOR, TIMER, StateStore
from streams.engine.task_group import TaskId, Transactions
from streams.engine.worker import STATE_SKIPPED
from streams.kafka.cluster import Cluster
from streams.kafka.reading import COMMITTED, ChunkReader
from streams.kafka.skips import Skips, read_skips
from streams.kafka.transactions import KafkaTransactions

FETCH_BYTES = 4 * 1024 * 1024
WAIT_SECONDS = 0.2
AT_ONCE = 20_000
"""Records between two looks at how far it is."""

_log = structlog.get_logger(__name__)


class KafkaBacking:
    """`streams.engine.worker.Backing`; `partitions` are those of every topic of ours."""

    def __init__(self, cluster: Cluster, partitions: int) -> None:
        self.partitions = partitions
        self._cluster = cluster
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client(),
            enable_auto_commit=False,
            isolation_level=COMMITTED,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
        await self._consumer.start()

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    def transactions(self, bucket: int) -> Transactions:
        return KafkaTransactions(self._cluster, bucket, self.partitions)

    async def beginnings(self, slots: Collection[LogPartition]) -> Mapping[LogPartition, int]:
        partitions = {TopicPartition(self._cluster.topic(slot[0]), slot[1]): slot for slot in slots}
        found = await self._started.beginning_offsets(list(partitions))
        return {partitions[partition]: offset for partition, offset in found.items()}

    async def ends(self, places: Collection[TaskId]) -> Mapping[TaskId, int]:
        partitions = {self._changelog(place): place for place in places}
        found = await self._started.end_offsets(list(partitions))
        return {partitions[partition]: offset for partition, offset in found.items()}

    async def restore(self, memories: Mapping[TaskId, StateStore], opened: Callable[[TaskId], None]) -> None:
        """Raises LogUnreadableError for a record that is none of a changelog, until it is skipped."""
        places = {self._slot(place): place for place in memories}
        skips = await self.skips(places)
        positions = {slot: memories[place].changelog_position for slot, place in places.items()}
        left = set(places)
        async for chunks, ends in self._read(positions):
            for chunk in chunks:
                slot = chunk.topic, chunk.partition
                _restore(memories[places[slot]], chunk, skips.get(slot, {}))
            for slot in list(left):
                if memories[places[slot]].changelog_position >= ends[slot]:
                    left.remove(slot)
                    opened(places[slot])

    async def parts_of(self, place: TaskId, key: str) -> Mapping[str, Record]:
        slot = self._slot(place)
        skips = (await self.skips([slot])).get(slot, {})
        found = {}
        async for chunks, _ in self._read({slot: 0}):
            for record in (record for chunk in chunks for record in chunk.records):
                name, _, part = record.key.partition(SEPARATOR)
                if name == key and part != TIMER and record.position not in skips:
                    found[part] = record
        return found

    async def _read(
        self, positions: Mapping[LogPartition, int]
    ) -> AsyncIterator[tuple[Sequence[Chunk], Mapping[LogPartition, int]]]:
        """What changelogs hold now from these positions on, with where they end; first nothing, with the ends."""
        consumer = self._started
        reader = ChunkReader(consumer, self._cluster, key_errors="surrogateescape")
        partitions = {slot: reader.partition(slot) for slot in positions}
        found = await consumer.end_offsets(list(partitions.values()))
        ends = {slot: found[partition] for slot, partition in partitions.items()}
        consumer.assign(list(partitions.values()))
        for slot, position in positions.items():
            reader.seek(slot, position)
        left = {slot for slot, position in positions.items() if position < ends[slot]}
        yield [], ends
        while left:
            chunks = await reader.read(seconds=WAIT_SECONDS, most=AT_ONCE, of=left)
            yield chunks, ends
            left -= {
                (chunk.topic, chunk.partition)
                for chunk in chunks
                if chunk.next >= ends[chunk.topic, chunk.partition]
            }
        consumer.assign([])

    async def skips(self, slots: Collection[LogPartition]) -> Skips:
        return await read_skips(self._started, self._cluster, slots)

    @property
    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the backing was not started")
        return self._consumer

    def _changelog(self, place: TaskId) -> TopicPartition:
        return TopicPartition(self._cluster.changelog(place[0]), place[1])

    def _slot(self, place: TaskId) -> LogPartition:
        return self._cluster.name_of(self._cluster.changelog(place[0])), place[1]


def _restore(memory: StateStore, chunk: Chunk, skips: Mapping[int, str]) -> None:
    for record in chunk.records:
        broken = record.unreadable
        if broken is None and record.position not in skips:
            try:
                memory.restore(record.key.encode(errors="surrogateescape"), record.value)
                continue
            except NewerCodec:  # no garbage: the version that wrote it reads it, and nobody may skip it
                raise
            except ValueError as error:
                broken = Unreadable(str(error), record.position, record.position + 1)
        reason = skip_reason(record._replace(unreadable=broken), skips)
        if reason is None and broken is not None:
            raise LogUnreadableError(record, broken, skipped=STATE_SKIPPED)
        _log.warning(
            "a record of the state is skipped",
            topic=record.topic,
            partition=record.partition,
            position=record.position,
            reason=reason,
        )
    memory.changelog_position = chunk.next

"""Restores state stores from changelogs, and answers what else a worker asks Kafka when it opens its task groups.

Only committed records are read, after the former owner was fenced, so nobody else can add to them. A state store
reads on in its changelog from its own position.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.record import Chunk, LogPartition, LogUnreadableError, Record, Unreadable, skip_reason
from scoring.features.features import NewerCodec
from streams.engine.state_store import KEY_SEPARATOR, TIMER_PART, StateStore
from streams.engine.task_group import TaskId, Transactions
from streams.engine.worker import STATE_SKIPPED_WARNING
from streams.kafka.cluster import Cluster
from streams.kafka.reading import COMMITTED_ISOLATION, ChunkReader
from streams.kafka.skips import Skips, read_skips
from streams.kafka.transactions import KafkaTransactions

FETCH_BYTES = 4 * 1024 * 1024
WAIT_SECONDS = 0.2
RECORDS_AT_ONCE = 20_000
"""Records between two progress checks."""

_log = structlog.get_logger(__name__)


class KafkaChangelogStorage:
    """`streams.engine.worker.ChangelogStorage`. Each of our topics has `partitions` partitions."""

    def __init__(self, cluster: Cluster, partitions: int) -> None:
        self.partitions = partitions
        self._cluster = cluster
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client(),
            enable_auto_commit=False,
            isolation_level=COMMITTED_ISOLATION,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
        await self._consumer.start()

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    def transactions(self, task_group: int) -> Transactions:
        return KafkaTransactions(self._cluster, task_group, self.partitions)

    async def beginnings(self, log_partitions: Collection[LogPartition]) -> Mapping[LogPartition, int]:
        partitions = {
            TopicPartition(self._cluster.topic(log_partition[0]), log_partition[1]): log_partition
            for log_partition in log_partitions
        }
        offsets = await self._started.beginning_offsets(list(partitions))
        return {partitions[partition]: offset for partition, offset in offsets.items()}

    async def ends(self, tasks: Collection[TaskId]) -> Mapping[TaskId, int]:
        partitions = {self._changelog(task): task for task in tasks}
        offsets = await self._started.end_offsets(list(partitions))
        return {partitions[partition]: offset for partition, offset in offsets.items()}

    async def restore(
        self, state_stores: Mapping[TaskId, StateStore], opened: Callable[[TaskId], None]
    ) -> None:
        """Raises LogUnreadableError for a record that no changelog can hold, until an operator skips it."""
        tasks = {self._log_partition(task): task for task in state_stores}
        skips = await self.skips(tasks)
        positions = {
            log_partition: state_stores[task].changelog_position for log_partition, task in tasks.items()
        }
        left = set(tasks)
        async for chunks, ends in self._read(positions):
            for chunk in chunks:
                log_partition = chunk.topic, chunk.partition
                _restore_chunk(state_stores[tasks[log_partition]], chunk, skips.get(log_partition, {}))
            for log_partition in list(left):
                if state_stores[tasks[log_partition]].changelog_position >= ends[log_partition]:
                    left.remove(log_partition)
                    opened(tasks[log_partition])

    async def parts_of(self, task: TaskId, key: str) -> Mapping[str, Record]:
        log_partition = self._log_partition(task)
        skips = (await self.skips([log_partition])).get(log_partition, {})
        parts = {}
        async for chunks, _ in self._read({log_partition: 0}):
            for record in (record for chunk in chunks for record in chunk.records):
                name, _, part = record.key.partition(KEY_SEPARATOR)
                if name == key and part != TIMER_PART and record.position not in skips:
                    parts[part] = record
        return parts

    async def _read(
        self, positions: Mapping[LogPartition, int]
    ) -> AsyncIterator[tuple[Sequence[Chunk], Mapping[LogPartition, int]]]:
        """Yields (chunks, ends): what the changelogs hold now from these positions on. The first chunks are empty."""
        consumer = self._started
        reader = ChunkReader(consumer, self._cluster, key_errors="surrogateescape")
        partitions = {log_partition: reader.partition(log_partition) for log_partition in positions}
        offsets = await consumer.end_offsets(list(partitions.values()))
        ends = {log_partition: offsets[partition] for log_partition, partition in partitions.items()}
        consumer.assign(list(partitions.values()))
        for log_partition, position in positions.items():
            reader.seek(log_partition, position)
        left = {
            log_partition for log_partition, position in positions.items() if position < ends[log_partition]
        }
        yield [], ends
        while left:
            chunks = await reader.read(seconds=WAIT_SECONDS, most=RECORDS_AT_ONCE, of=left)
            yield chunks, ends
            left -= {
                (chunk.topic, chunk.partition)
                for chunk in chunks
                if chunk.next >= ends[chunk.topic, chunk.partition]
            }
        consumer.assign([])

    async def skips(self, log_partitions: Collection[LogPartition]) -> Skips:
        return await read_skips(self._started, self._cluster, log_partitions)

    @property
    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the backing was not started")
        return self._consumer

    def _changelog(self, task: TaskId) -> TopicPartition:
        return TopicPartition(self._cluster.changelog(task[0]), task[1])

    def _log_partition(self, task: TaskId) -> LogPartition:
        return self._cluster.name_of(self._cluster.changelog(task[0])), task[1]


def _restore_chunk(state_store: StateStore, chunk: Chunk, skips: Mapping[int, str]) -> None:
    for record in chunk.records:
        broken = record.unreadable
        if broken is None and record.position not in skips:
            try:
                state_store.restore(record.key.encode(errors="surrogateescape"), record.value)
                continue
            except (
                NewerCodec
            ):  # not damaged: the version that wrote it can read it, so it must not be skipped
                raise
            except ValueError as error:
                broken = Unreadable(str(error), record.position, record.position + 1)
        reason = skip_reason(record._replace(unreadable=broken), skips)
        if reason is None and broken is not None:
            raise LogUnreadableError(record, broken, skipped=STATE_SKIPPED_WARNING)
        _log.warning(
            "a record of the state is skipped",
            topic=record.topic,
            partition=record.partition,
            position=record.position,
            reason=reason,
        )
    state_store.changelog_position = chunk.next

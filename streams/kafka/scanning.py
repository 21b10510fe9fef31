"""Reads topics once, from a position up to their ends; joins no group.

Its calls block, and are made from one thread at a time. The consumer runs in a thread of its own and reads ahead.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.record import Chunk, LogPartition
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.following import (
    ANSWER_SECONDS,
    DescribedTopics,
    PositionOutOfRange,
    describe_topics,
    no_answer_error,
    with_skip_reason,
)
from streams.kafka.private_names import close_consumer
from streams.kafka.reading import COMMITTED_ISOLATION, ChunkReader

SILENCE_SECONDS = 60.0
"""Until records that exist must have come."""
READ_SECONDS = 0.05
"""How long a read waits; one that finds only a transaction marker waits in vain."""

T = TypeVar("T")


class Scanner:
    """A context manager. Raises KafkaUnavailable when the cluster does not answer or a topic is missing."""

    described: DescribedTopics

    def __init__(self, cluster: Cluster, topics: Iterable[str], *, key_errors: str = "replace") -> None:
        self._cluster = cluster
        self._key_errors = key_errors
        self._topics = tuple(topics)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scanner", daemon=True)
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: ChunkReader | None = None
        self._position: tuple[LogPartition, int] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._do(self._start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    def starts(self) -> dict[LogPartition, int]:
        """The first position that each partition holds."""
        return self._do(self._offsets(self._opened().beginning_offsets))

    def ends(self) -> dict[LogPartition, int]:
        """The position after the last that can be read."""
        return self._do(self._offsets(self._opened().end_offsets))

    def read(self, log_partition: LogPartition, start: int, most: int) -> Chunk:
        """At most `most` records from `start` on, which must be below the end.
        Raises PositionOutOfRange, LogUnreadableError.
        """
        return self._do(self._read(log_partition, start, most))

    async def _start(self) -> None:
        self.described = await describe_topics(self._cluster, self._topics)
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client(),
            isolation_level=COMMITTED_ISOLATION,
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=20,  # a broker answers in order: a request for the ends waits for the fetch
        )
        self._reader = ChunkReader(self._consumer, self._cluster, key_errors=self._key_errors)
        await self._await_answer(self._consumer.start())

    async def _offsets(self, ask: Any) -> dict[LogPartition, int]:
        partitions = {
            self._partition(log_partition): log_partition for log_partition in self.described.log_partitions
        }
        offsets = await self._await_answer(ask(list(partitions)))
        return {log_partition: offsets[partition] for partition, log_partition in partitions.items()}

    async def _read(self, log_partition: LogPartition, start: int, most: int) -> Chunk:
        if self._reader is None:
            raise RuntimeError("enter the scanner first")
        if self._position != (log_partition, start):
            self._reader.forget()
            self._opened().assign([self._partition(log_partition)])
            self._reader.seek(log_partition, start)
        deadline = self._loop.time() + SILENCE_SECONDS
        while self._loop.time() < deadline:
            try:
                chunks = await self._reader.read(seconds=READ_SECONDS, most=most)
            except OffsetOutOfRangeError as cause:
                first = await self._await_answer(
                    self._opened().beginning_offsets([self._partition(log_partition)])
                )
                end = await self._await_answer(self._opened().end_offsets([self._partition(log_partition)]))
                partition = self._partition(log_partition)
                raise PositionOutOfRange(log_partition, start, first[partition], end[partition]) from cause
            except KafkaError as cause:
                raise KafkaUnavailable(
                    f"Kafka at {self._cluster.brokers} cannot be read: {cause!r}."
                ) from cause
            if chunks:
                chunk = await with_skip_reason(self._cluster, chunks[0])
                self._position = log_partition, chunk.next
                return chunk
        raise KafkaUnavailable(
            f"Kafka at {self._cluster.brokers} sends nothing of {log_partition[0]}/{log_partition[1]}."
        )

    def _partition(self, log_partition: LogPartition) -> TopicPartition:
        return TopicPartition(self._cluster.topic(log_partition[0]), log_partition[1])

    def _opened(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("enter the scanner first")
        return self._consumer

    async def _await_answer(self, request: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await asyncio.wait_for(request, ANSWER_SECONDS)
        except (KafkaError, TimeoutError) as cause:
            raise no_answer_error(self._cluster) from cause

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        if self._consumer is not None:
            self._do(close_consumer(self._consumer))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

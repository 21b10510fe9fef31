"""Reads topics from a position up to the present, for who wants all of it once; joins no group.

Blocking calls, from one thread at a time; the consumer lives in a thread of its own and reads ahead.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.record import Chunk, LogPartition
from streams.kafka.cluster import Cluster
from streams.kafka.following import (
    ANSWER_SECONDS,
    Described,
    KafkaUnavailable,
    PositionOutOfRange,
    describe,
    pass_skipped,
    silent,
)
from streams.kafka.private_names import close
from streams.kafka.reading import COMMITTED, ChunkReader

SILENCE_SECONDS = 60.0
"""So long records may take that are known to be there."""
READ_SECONDS = 0.05
"""A read that finds only the mark of a transaction lasts so long."""

T = TypeVar("T")


class Scanner:
    """A context manager. Raises KafkaAway when the cluster does not answer or a topic is missing."""

    described: Described

    def __init__(self, cluster: Cluster, topics: Iterable[str], *, key_errors: str = "replace") -> None:
        self._cluster = cluster
        self._key_errors = key_errors
        self._topics = tuple(topics)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scanner", daemon=True)
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: ChunkReader | None = None
        self._place: tuple[LogPartition, int] | None = None

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

    def read(self, slot: LogPartition, start: int, most: int) -> Chunk:
        """What stands from `start` on, at most so many records. The caller knows that something does.
        Raises PositionLost, LogUnreadableError.
        """
        return self._do(self._read(slot, start, most))

    async def _start(self) -> None:
        self.described = await describe(self._cluster, self._topics)
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client(),
            isolation_level=COMMITTED,
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=20,  # a broker answers in order: whoever asks for ends waits for the fetch
        )
        self._reader = ChunkReader(self._consumer, self._cluster, key_errors=self._key_errors)
        await self._answered(self._consumer.start())

    async def _offsets(self, ask: Any) -> dict[LogPartition, int]:
        partitions = {self._partition(slot): slot for slot in self.described.slots}
        found = await self._answered(ask(list(partitions)))
        return {slot: found[partition] for partition, slot in partitions.items()}

    async def _read(self, slot: LogPartition, start: int, most: int) -> Chunk:
        if self._reader is None:
            raise RuntimeError("enter the scanner first")
        if self._place != (slot, start):
            self._reader.forget()
            self._opened().assign([self._partition(slot)])
            self._reader.seek(slot, start)
        deadline = self._loop.time() + SILENCE_SECONDS
        while self._loop.time() < deadline:
            try:
                chunks = await self._reader.read(seconds=READ_SECONDS, most=most)
            except OffsetOutOfRangeError as cause:
                first = await self._answered(self._opened().beginning_offsets([self._partition(slot)]))
                end = await self._answered(self._opened().end_offsets([self._partition(slot)]))
                place = self._partition(slot)
                raise PositionOutOfRange(slot, start, first[place], end[place]) from cause
            except KafkaError as cause:
                raise KafkaUnavailable(
                    f"Kafka at {self._cluster.brokers} cannot be read: {cause!r}."
                ) from cause
            if chunks:
                chunk = await pass_skipped(self._cluster, chunks[0])
                self._place = slot, chunk.next
                return chunk
        raise KafkaUnavailable(f"Kafka at {self._cluster.brokers} sends nothing of {slot[0]}/{slot[1]}.")

    def _partition(self, slot: LogPartition) -> TopicPartition:
        return TopicPartition(self._cluster.topic(slot[0]), slot[1])

    def _opened(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("enter the scanner first")
        return self._consumer

    async def _answered(self, asked: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await asyncio.wait_for(asked, ANSWER_SECONDS)
        except (KafkaError, TimeoutError) as cause:
            raise silent(self._cluster) from cause

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        if self._consumer is not None:
            self._do(close(self._consumer))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

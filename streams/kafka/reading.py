"""Reads chunks from a Kafka consumer: records, and the positions that they cover.

A consumer's position moves past positions without a record (transaction markers, compacted records). So chunks follow
each other without a gap, as long as nothing else seeks the consumer.

A batch that aiokafka cannot read does not end the reading: it comes as one record with `unreadable` set, in a chunk of
its own, and the caller decides. Records that were read before it are never lost.
"""

import asyncio
import time
from collections.abc import Collection, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import (
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    RecordTooLargeError,
    UnsupportedCodecError,
)
from aiokafka.protocol.fetch import FetchRequest

from schemas.record import Chunk, LogPartition, Record, Unreadable
from streams.kafka.batches import PartialRead, first_position, read_around_unreadable, read_batches
from streams.kafka.cluster import Cluster
from streams.kafka.private_names import client_of

COMMITTED_ISOLATION = "read_committed"

INSPECTED_BYTES = 4 * 1024 * 1024
"""Fetched when we look at the bytes: as much as any of our consumers fetches. A broker sends at least one whole batch."""
STALLED_SECONDS = 5.0
"""We look at the bytes of a partition that gives nothing for so long although its log goes on."""
INSPECTION_SECONDS = 3.0
"""For looking at the bytes of all of them."""
INSPECTION_WAIT_MS = 500
"""For the broker to find records."""


class _FetchedBytes(NamedTuple):
    broken: bool
    """The broker cannot read it."""
    end: int
    """The last stable offset: records of open transactions come after it."""
    aborted: Collection[tuple[int, int]]
    log: bytes


def is_about_content(error: Exception) -> bool:
    """Whether a read failed because of what the log holds, and not because of the cluster or our use of aiokafka."""
    broken = CorruptRecordException | UnsupportedCodecError | RecordTooLargeError
    return isinstance(error, broken) or not isinstance(error, KafkaError)


class ChunkReader:
    """Reads a consumer's partitions; `seek` each one before reading it."""

    def __init__(self, consumer: AIOKafkaConsumer, cluster: Cluster, *, key_errors: str = "replace") -> None:
        self._consumer = consumer
        self._cluster = cluster
        self._key_errors = key_errors
        """How `bytes.decode` treats keys that are no UTF-8."""
        self._next: dict[TopicPartition, int] = {}
        self._failed_at: dict[TopicPartition, int] = {}
        """The positions at the last failed read."""
        self._quiet: dict[TopicPartition, tuple[int | None, float]] = {}
        """The position of each partition, and since when it has not moved, or when we last looked at its bytes."""

    def partition(self, log_partition: LogPartition) -> TopicPartition:
        return TopicPartition(self._cluster.topic(log_partition[0]), log_partition[1])

    def seek(self, log_partition: LogPartition, position: int) -> None:
        """The next chunk of this partition starts here."""
        partition = self.partition(log_partition)
        self._consumer.seek(partition, position)
        self._next[partition] = position

    @property
    def log_partitions(self) -> list[LogPartition]:
        """The partitions that are read."""
        return [self._log_partition(partition) for partition in self._next]

    def forget(self) -> None:
        """Called when the partitions are revoked: a read in progress returns nothing more of them."""
        self._next, self._quiet = {}, {}

    async def read(
        self, *, seconds: float, most: int | None = None, of: Collection[LogPartition] | None = None
    ) -> list[Chunk]:
        """At most `most` records, after waiting at most `seconds`. A partition whose position moved without a record gives
        a chunk without one.

        Raises aiokafka's errors: OffsetOutOfRangeError for a position that the log no longer holds.
        """
        chosen = [p for p in self._next if of is None or self._log_partition(p) in of]
        if not chosen:
            return []
        if (stalled := self._stalled(chosen)) and (chunks := await self._look_closer(stalled)):
            return chunks
        try:
            received = await self._consumer.getmany(*chosen, timeout_ms=int(seconds * 1000), max_records=most)
        except Exception as error:  # codecs and parsers raise whatever they like
            if not is_about_content(error):
                raise
            return await self._after_failure(chosen, error)
        chunks = []
        for partition in chosen:
            # The position as it is now: a seek may have moved it while we waited. None: the partition was revoked.
            start, position = (
                self._next.get(partition),
                _position_without_waiting(self._consumer.position(partition)),
            )
            if start is None or position is None:
                continue
            records = received.get(partition, ())
            if position <= start and not records:
                continue
            self._next[partition] = position
            topic, number = self._log_partition(partition)
            chunks.append(
                Chunk(
                    topic,
                    number,
                    start,
                    position,
                    [
                        Record(topic, number, r.offset, self._text(r.key), r.value, r.timestamp)
                        for r in records
                    ],
                )
            )
        return chunks

    def _stalled(self, chosen: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Partitions that have given nothing for long, although their log goes on or the broker does not answer. aiokafka
        reports to nobody that a broker cannot read its own disk, and fetches for ever.
        """
        now = time.monotonic()
        stalled = []
        for partition in chosen:
            at, since = self._quiet.get(partition, (None, now))
            if at != self._next[partition]:
                self._quiet[partition] = self._next[partition], now
            elif now - since >= STALLED_SECONDS and self._is_assigned(partition):
                end = self._consumer.last_stable_offset(partition)
                answered_at = self._consumer.last_poll_timestamp(partition)
                unanswered = answered_at is None or time.time() - answered_at / 1000 >= STALLED_SECONDS
                self._quiet[partition] = at, now
                if unanswered or (end is not None and end > self._next[partition]):
                    stalled.append(partition)
        return stalled

    async def _after_failure(self, chosen: Sequence[TopicPartition], error: Exception) -> list[Chunk]:
        """A failed read of aiokafka names neither the partition nor the position, and drops records that it had read. So
        every partition is set back to the end of its last chunk. Raises `error` if it is the second one at these
        positions, and nothing there explains it.
        """
        positions = {partition: self._next[partition] for partition in chosen if self._is_assigned(partition)}
        for partition, start in positions.items():
            self._consumer.seek(partition, start)
        chunks = await self._look_closer(list(positions))
        if not chunks and self._failed_at == positions:
            raise error
        self._failed_at = positions
        return chunks

    async def _look_closer(self, partitions: Sequence[TopicPartition]) -> list[Chunk]:
        """The next chunk of each of the partitions that aiokafka cannot read."""
        starts = {
            partition: self._next[partition] for partition in partitions if self._is_assigned(partition)
        }
        looks: list[tuple[TopicPartition, PartialRead | None]] = []
        with suppress(
            KafkaError, TimeoutError
        ):  # the next read of aiokafka reports what is wrong with the cluster
            async with asyncio.timeout(INSPECTION_SECONDS):
                for partition, start in starts.items():
                    looks.append((partition, await self._look(partition, start)))
        chunks = []  # no await from here on: a cancelled read has taken nothing
        for partition, outcome in looks:
            start = starts[partition]
            # Meanwhile it may have been revoked, or set to another position.
            if outcome is not None and self._is_assigned(partition) and self._next[partition] == start:
                chunks.append(self._chunk(partition, start, outcome))
                self._consumer.seek(partition, outcome.next)
                self._next[partition] = outcome.next
        return chunks

    def _is_assigned(self, partition: TopicPartition) -> bool:
        return partition in self._next and partition in self._consumer.assignment()

    async def _look(self, partition: TopicPartition, start: int) -> PartialRead | None:
        """None: aiokafka can read it, or no broker answers."""
        answer = await self._fetch(partition, start, wait_ms=INSPECTION_WAIT_MS)
        if answer is None:
            return None
        if answer.log:
            return read_around_unreadable(partition, start, answer.log, answer.aborted)
        if not answer.broken and answer.end <= start:
            return None
        # The broker finds what comes after the damage by the index of its file. That may be a position in the middle
        # of a batch, which the broker then sends whole.
        again, after = await self._readable_again(partition, start)
        behind = None if again >= after else await self._fetch(partition, again)
        if behind is not None and behind.log:
            after = first_position(behind.log)
            if after <= start:
                return read_batches(partition, start, behind.log, behind.aborted)
        return PartialRead(after, [], Unreadable("the broker's file is damaged there", start, after))

    async def _readable_again(self, partition: TopicPartition, start: int) -> tuple[int, int]:
        """(the first position after `start` for which the broker sends something, the end of the partition)"""
        end: int = max((await self._consumer.end_offsets([partition]))[partition], start + 1)
        bad, good, step = start, end, 1
        while bad + step < good:
            if await self._sends(partition, bad + step):
                good = bad + step
            else:
                bad, step = bad + step, 2 * step
        while good - bad > 1:
            middle = (bad + good) // 2
            bad, good = (bad, middle) if await self._sends(partition, middle) else (middle, good)
        return good, end

    async def _sends(self, partition: TopicPartition, position: int) -> bool:
        answer = await self._fetch(partition, position, size=1)
        return answer is not None and bool(answer.log)

    async def _fetch(
        self, partition: TopicPartition, start: int, *, size: int = INSPECTED_BYTES, wait_ms: int = 0
    ) -> "_FetchedBytes | None":
        """What a broker sends from `start` on, as bytes; None: it sends neither bytes nor that they are damaged."""
        client = client_of(self._consumer)
        node = client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            return None
        request = [(partition.topic, [(partition.partition, start, size)])]
        answer = await client.send(node, FetchRequest(wait_ms, 1, INSPECTED_BYTES, READ_COMMITTED, request))
        _, [(_, code, *parts)] = answer.topics[0]
        if code not in (0, CorruptRecordException.errno):
            return None
        aborted = parts[-3 if answer.API_VERSION >= 11 else -2]
        return _FetchedBytes(code != 0, parts[1], aborted or (), parts[-1] or b"")

    def _chunk(self, partition: TopicPartition, start: int, outcome: PartialRead) -> Chunk:
        topic, number = self._log_partition(partition)
        records = [
            Record(topic, number, r.position, self._text(r.key), r.value, r.appended_at)
            for r in outcome.records
        ]
        if outcome.unreadable is not None:
            records = [Record(topic, number, start, "", outcome.raw, None, outcome.unreadable)]
        return Chunk(topic, number, start, outcome.next, records)

    def _log_partition(self, partition: TopicPartition) -> LogPartition:
        return self._cluster.name_of(partition.topic), partition.partition

    def _text(self, key: bytes | None) -> str:
        return "" if key is None else key.decode(errors=self._key_errors)


def _position_without_waiting(position: Coroutine[Any, Any, int]) -> int | None:
    """None: the consumer would wait for a broker, or does not own the partition."""
    try:
        position.send(None)
    except StopIteration as done:
        return cast(int, done.value)
    except IllegalStateError:
        return None
    position.close()
    return None

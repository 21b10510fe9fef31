"""Chunks out of a Kafka consumer: records as everybody else sees them, and which positions they cover.

A consumer's position moves past what holds no record (marks of transactions, compacted records), so
chunks follow each other without a gap for as long as nothing else seeks the consumer.

A batch that aiokafka cannot read ends no reading by itself: it comes as one record with `unreadable` set, in
a chunk of its own, and who folds it decides. What was read before it is never lost.
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
from streams.kafka.batches import Look, first_position, look, read
from streams.kafka.cluster import Cluster
from streams.kafka.private_names import client_of

COMMITTED = "read_committed"

LOOK_BYTES = 4 * 1024 * 1024
"""Of a closer look: as much as any consumer of ours fetches. A broker sends the first batch whole, however large."""
STALLED_SECONDS = 5.0
"""A partition that has given nothing for so long is looked at, if its log goes on."""
LOOK_SECONDS = 3.0
"""For a closer look at all of them."""
LOOK_WAIT_MS = 500
"""For a broker to find what it is asked for."""


class _Fetched(NamedTuple):
    broken: bool
    """The broker says that it cannot read it."""
    end: int
    """Up to where it can be read, as far as transactions go."""
    aborted: Collection[tuple[int, int]]
    log: bytes


def is_about_content(error: Exception) -> bool:
    """Whether a read failed at what the log holds. aiokafka's other errors are about the cluster, or us."""
    broken = CorruptRecordException | UnsupportedCodecError | RecordTooLargeError
    return isinstance(error, broken) or not isinstance(error, KafkaError)


class ChunkReader:
    """Reads a consumer's partitions; `seek` each one before reading it."""

    def __init__(self, consumer: AIOKafkaConsumer, cluster: Cluster, *, key_errors: str = "replace") -> None:
        self._consumer = consumer
        self._cluster = cluster
        self._key_errors = key_errors
        """What becomes of bytes of a key that are no UTF-8, as `bytes.decode` names it."""
        self._next: dict[TopicPartition, int] = {}
        self._failed_at: dict[TopicPartition, int] = {}
        """Where everything stood when a read failed last."""
        self._quiet: dict[TopicPartition, tuple[int | None, float]] = {}
        """Where a partition stands, and since when it was seen there or looked at."""

    def partition(self, slot: LogPartition) -> TopicPartition:
        return TopicPartition(self._cluster.topic(slot[0]), slot[1])

    def seek(self, slot: LogPartition, position: int) -> None:
        """The next chunk of this partition starts here."""
        partition = self.partition(slot)
        self._consumer.seek(partition, position)
        self._next[partition] = position

    @property
    def slots(self) -> list[LogPartition]:
        """What is read."""
        return [self._slot(partition) for partition in self._next]

    def forget(self) -> None:
        """The partitions were taken away; what a read under way finds is not given any more."""
        self._next, self._quiet = {}, {}

    async def read(
        self, *, seconds: float, most: int | None = None, of: Collection[LogPartition] | None = None
    ) -> list[Chunk]:
        """What has come, waiting for it at most so long; at most `most` records. A partition whose
        position moved without a record gives a chunk without one.

        Raises aiokafka's errors: OffsetOutOfRangeError for a position that the log no longer holds.
        """
        chosen = [p for p in self._next if of is None or self._slot(p) in of]
        if not chosen:
            return []
        if (stalled := self._stalled(chosen)) and (chunks := await self._look_closer(stalled)):
            return chunks
        try:
            found = await self._consumer.getmany(*chosen, timeout_ms=int(seconds * 1000), max_records=most)
        except Exception as error:  # codecs and parsers raise whatever they like
            if not is_about_content(error):
                raise
            return await self._after_failure(chosen, error)
        chunks = []
        for partition in chosen:
            # As it is now: who was placed anew while we waited was read from there; None: taken away.
            start, position = self._next.get(partition), _at_once(self._consumer.position(partition))
            if start is None or position is None:
                continue
            records = found.get(partition, ())
            if position <= start and not records:
                continue
            self._next[partition] = position
            topic, number = self._slot(partition)
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
        """Partitions that have given nothing for long although their log goes on, or no answer has said that
        it does not. aiokafka tells nobody that a broker cannot read its own disk, and asks for ever.
        """
        now = time.monotonic()
        stalled = []
        for partition in chosen:
            at, since = self._quiet.get(partition, (None, now))
            if at != self._next[partition]:
                self._quiet[partition] = self._next[partition], now
            elif now - since >= STALLED_SECONDS and self._stands(partition):
                end = self._consumer.last_stable_offset(partition)
                heard = self._consumer.last_poll_timestamp(partition)
                silent = heard is None or time.time() - heard / 1000 >= STALLED_SECONDS
                self._quiet[partition] = at, now
                if silent or (end is not None and end > self._next[partition]):
                    stalled.append(partition)
        return stalled

    async def _after_failure(self, chosen: Sequence[TopicPartition], error: Exception) -> list[Chunk]:
        """A failed read of aiokafka tells neither where nor how far it had come, and has dropped records that it had read: every
        partition stands again where the chunks have come to. Raises `error` if nothing there explains it, again.
        """
        places = {partition: self._next[partition] for partition in chosen if self._stands(partition)}
        for partition, start in places.items():
            self._consumer.seek(partition, start)
        chunks = await self._look_closer(list(places))
        if not chunks and self._failed_at == places:
            raise error
        self._failed_at = places
        return chunks

    async def _look_closer(self, partitions: Sequence[TopicPartition]) -> list[Chunk]:
        """What comes next in those of the partitions that aiokafka cannot read."""
        starts = {partition: self._next[partition] for partition in partitions if self._stands(partition)}
        looks: list[tuple[TopicPartition, Look | None]] = []
        with suppress(KafkaError, TimeoutError):  # aiokafka itself meets what is wrong with the cluster
            async with asyncio.timeout(LOOK_SECONDS):
                for partition, start in starts.items():
                    looks.append((partition, await self._look(partition, start)))
        chunks = []  # without a pause from here on: a read that is cancelled has taken nothing
        for partition, found in looks:
            start = starts[partition]
            # Meanwhile it may have been taken away, or placed anew.
            if found is not None and self._stands(partition) and self._next[partition] == start:
                chunks.append(self._chunk(partition, start, found))
                self._consumer.seek(partition, found.next)
                self._next[partition] = found.next
        return chunks

    def _stands(self, partition: TopicPartition) -> bool:
        return partition in self._next and partition in self._consumer.assignment()

    async def _look(self, partition: TopicPartition, start: int) -> Look | None:
        """None: aiokafka can read it, or nobody says."""
        answer = await self._fetch(partition, start, wait_ms=LOOK_WAIT_MS)
        if answer is None:
            return None
        if answer.log:
            return look(partition, start, answer.log, answer.aborted)
        if not answer.broken and answer.end <= start:
            return None
        # What lies behind the damage is found by the index of the broker's file: perhaps from a position on that
        # is amid a batch, which the broker then sends whole.
        again, after = await self._readable_again(partition, start)
        behind = None if again >= after else await self._fetch(partition, again)
        if behind is not None and behind.log:
            after = first_position(behind.log)
            if after <= start:
                return read(partition, start, behind.log, behind.aborted)
        return Look(after, [], Unreadable("the broker's file is damaged there", start, after))

    async def _readable_again(self, partition: TopicPartition, start: int) -> tuple[int, int]:
        """(the first position behind `start` for which a broker sends something, where the partition ends)"""
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
        self, partition: TopicPartition, start: int, *, size: int = LOOK_BYTES, wait_ms: int = 0
    ) -> "_Fetched | None":
        """What a broker sends from `start` on, as bytes; None: nothing that says what stands there."""
        client = client_of(self._consumer)
        node = client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            return None
        asked = [(partition.topic, [(partition.partition, start, size)])]
        answer = await client.send(node, FetchRequest(wait_ms, 1, LOOK_BYTES, READ_COMMITTED, asked))
        _, [(_, code, *parts)] = answer.topics[0]
        if code not in (0, CorruptRecordException.errno):
            return None
        aborted = parts[-3 if answer.API_VERSION >= 11 else -2]
        return _Fetched(code != 0, parts[1], aborted or (), parts[-1] or b"")

    def _chunk(self, partition: TopicPartition, start: int, found: Look) -> Chunk:
        topic, number = self._slot(partition)
        records = [
            Record(topic, number, r.position, self._text(r.key), r.value, r.appended_at)
            for r in found.records
        ]
        if found.unreadable is not None:
            records = [Record(topic, number, start, "", found.raw, None, found.unreadable)]
        return Chunk(topic, number, start, found.next, records)

    def _slot(self, partition: TopicPartition) -> LogPartition:
        return self._cluster.name_of(partition.topic), partition.partition

    def _text(self, key: bytes | None) -> str:
        return "" if key is None else key.decode(errors=self._key_errors)


def _at_once(position: Coroutine[Any, Any, int]) -> int | None:
    """None: the consumer would wait for a broker, or does not own the partition."""
    try:
        position.send(None)
    except StopIteration as known:
        return cast(int, known.value)
    except IllegalStateError:
        return None
    position.close()
    return None

"""Chunks out of a Kafka consumer: records as everybody else sees them, and which positions they cover.

A consumer's position moves past what holds no record (marks of transactions, compacted records), so
chunks follow each other without a gap for as long as nothing else seeks the consumer.

A batch that aiokafka cannot read ends no reading by itself: it comes as one record with `unreadable` set, in
a chunk of its own, and who folds it decides. What was read before it is never lost.
"""

from collections.abc import Collection, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    RecordTooLargeError,
    UnsupportedCodecError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest

from schemas.record import Chunk, Record, Slot
from streams.kafka.batches import Look, look
from streams.kafka.cluster import Cluster

COMMITTED = "read_committed"

LOOK_BYTES = 4 * 1024 * 1024
"""Of a closer look: as much as any consumer of ours fetches. A broker sends the first batch whole, however large."""


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

    def partition(self, slot: Slot) -> TopicPartition:
        return TopicPartition(self._cluster.topic(slot[0]), slot[1])

    def seek(self, slot: Slot, position: int) -> None:
        """The next chunk of this partition starts here."""
        partition = self.partition(slot)
        self._consumer.seek(partition, position)
        self._next[partition] = position

    @property
    def slots(self) -> list[Slot]:
        """What is read."""
        return [self._slot(partition) for partition in self._next]

    def forget(self) -> None:
        """The partitions were taken away; what a read under way finds is not given any more."""
        self._next = {}

    async def read(
        self, *, seconds: float, most: int | None = None, of: Collection[Slot] | None = None
    ) -> list[Chunk]:
        """What has come, waiting for it at most so long; at most `most` records. A partition whose
        position moved without a record gives a chunk without one.

        Raises aiokafka's errors: OffsetOutOfRangeError for a position that the log no longer holds.
        """
        chosen = [p for p in self._next if of is None or self._slot(p) in of]
        if not chosen:
            return []
        try:
            found = await self._consumer.getmany(*chosen, timeout_ms=int(seconds * 1000), max_records=most)
        except Exception as error:  # codecs and parsers raise whatever they like
            if not is_about_content(error):
                raise
            return await self._look_closer(chosen, error)
        chunks = []
        for partition in chosen:
            state = self._consumer._subscription.subscription  # noqa: SLF001 - position() would wait for a broker
            assigned = state.assignment.state_value(partition) if state and state.assignment else None
            # As it is now: who was placed anew while we waited was read from there; None: taken away.
            start = self._next.get(partition)
            if start is None or assigned is None or not assigned.has_valid_position:
                continue
            position = assigned.position
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

    async def _look_closer(self, chosen: Sequence[TopicPartition], error: Exception) -> list[Chunk]:
        """After a read that failed: aiokafka tells neither where nor how far it had come, and has dropped
        records that it had read. Every partition stands again where the chunks have come to, and of those
        with a batch that cannot be read this gives what comes next. Raises `error` if there is none, again.
        """
        places = {partition: self._next[partition] for partition in chosen if self._stands(partition)}
        for partition, start in places.items():
            self._consumer.seek(partition, start)
        chunks = []
        for partition, start in places.items():
            found = await self._look(partition, start)
            # Meanwhile it may have been taken away, or placed anew.
            if found is not None and self._stands(partition) and self._next[partition] == start:
                chunks.append(self._chunk(partition, start, found))
                self._consumer.seek(partition, found.next)
                self._next[partition] = found.next
        if not chunks and self._failed_at == places:
            raise error
        self._failed_at = places
        return chunks

    def _stands(self, partition: TopicPartition) -> bool:
        return partition in self._next and partition in self._consumer.assignment()

    async def _look(self, partition: TopicPartition, start: int) -> Look | None:
        """What a broker sends from `start` on, batch by batch."""
        client = self._consumer._client  # noqa: SLF001 - aiokafka has no public way to read bytes
        node = client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            return None
        asked = [(partition.topic, [(partition.partition, start, LOOK_BYTES)])]
        answer = await client.send(node, FetchRequest(0, 0, LOOK_BYTES, READ_COMMITTED, asked))
        _, [(_, code, *parts)] = answer.topics[0]
        if code:
            raise for_code(code)(f"{partition.topic}/{partition.partition} at position {start}")
        aborted = parts[-3 if answer.API_VERSION >= 11 else -2]
        return look(partition, start, parts[-1] or b"", aborted or ())

    def _chunk(self, partition: TopicPartition, start: int, found: Look) -> Chunk:
        topic, number = self._slot(partition)
        records = [
            Record(topic, number, r.position, self._text(r.key), r.value, r.appended_at)
            for r in found.records
        ]
        if found.unreadable is not None:
            records = [Record(topic, number, start, "", found.raw, None, found.unreadable)]
        return Chunk(topic, number, start, found.next, records)

    def _slot(self, partition: TopicPartition) -> Slot:
        return self._cluster.name_of(partition.topic), partition.partition

    def _text(self, key: bytes | None) -> str:
        return "" if key is None else key.decode(errors=self._key_errors)

"""Chunks out of a Kafka consumer: records as everybody else sees them, and which positions they cover.

A consumer's position moves past what holds no record (marks of transactions, compacted records), so
chunks follow each other without a gap for as long as nothing else seeks the consumer.
"""

from collections.abc import Collection, Coroutine
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from schemas.record import Chunk, Record, Slot
from streams.kafka.cluster import Cluster

COMMITTED = "read_committed"


class ChunkReader:
    """Reads a consumer's partitions; `seek` each one before reading it."""

    def __init__(self, consumer: AIOKafkaConsumer, cluster: Cluster) -> None:
        self._consumer = consumer
        self._cluster = cluster
        self._next: dict[TopicPartition, int] = {}

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
        found = await self._consumer.getmany(*chosen, timeout_ms=int(seconds * 1000), max_records=most)
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
                    [Record(topic, number, r.offset, _text(r.key), r.value, r.timestamp) for r in records],
                )
            )
        return chunks

    def _slot(self, partition: TopicPartition) -> Slot:
        return self._cluster.name_of(partition.topic), partition.partition


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


def _text(key: bytes | None) -> str:
    return "" if key is None else key.decode(errors="replace")

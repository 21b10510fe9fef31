"""One Kafka transaction per round: outputs, changelogs and checkpoints, or nothing of them.

Opening a bucket's producer fences whoever held it before and ends what they left open. Batches are
acknowledged before the offsets are added: sent together, the broker makes one of them back off.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from schemas.topics import partition_of
from streams.engine.bucket import Place, Round
from streams.kafka.cluster import Cluster

BATCH_BYTES = 900_000
"""Below the broker's limit for a batch; a larger record is a batch of its own."""
REQUEST_BYTES = 16 * 1024 * 1024
TRANSACTION_MS = 30_000
"""After so long the broker ends a transaction that nobody ended."""

OPEN_SECONDS = 45.0
"""Longer than the broker takes to end what the one before left open."""
STOP_SECONDS = 5.0

_partition_of = lru_cache(maxsize=131_072)(partition_of)

Keyed = Collection[tuple[bytes, bytes | None]]


def reached(step: str) -> None:
    """Called at each step of a transaction: begun, sent, acknowledged, offsets, committing, committed.
    Does nothing; crash tests put something in its place.
    """


class BucketUnopened(Exception):
    """The brokers do not say whose turn it is; the message says where to look."""

    def __init__(self, bucket: int) -> None:
        super().__init__(
            f"Kafka did not open bucket {bucket} within {OPEN_SECONDS:.0f} s: its transaction coordinator does not "
            "answer. Look at the topic __transaction_state (is it replicated enough?) and at the brokers' logs."
        )


class Sent(NamedTuple):
    acknowledged: "asyncio.Future[RecordMetadata]"
    """Done when the broker has the batch; its offset is that of the first record."""
    records: int


class KafkaTransactions:
    """`streams.engine.bucket.Transactions` of one bucket."""

    def __init__(self, cluster: Cluster, bucket: int, partitions: int) -> None:
        self._cluster = cluster
        self._bucket = bucket
        self._partitions = partitions
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        producer = AIOKafkaProducer(
            **self._cluster.client(),
            transactional_id=self._cluster.transactional_id(self._bucket),
            transaction_timeout_ms=TRANSACTION_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES,
            linger_ms=0,
        )
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await producer.start()
                # The public way to wait until the broker has fenced the one before.
                await producer.begin_transaction()
                await producer.abort_transaction()
        except BaseException as error:  # also when it is called off
            await _stopped(producer)
            if isinstance(error, TimeoutError):
                raise BucketUnopened(self._bucket) from error
            raise
        self._producer = producer

    async def commit(self, made: Round) -> Mapping[Place, int]:
        producer = self._producer
        if producer is None:
            raise RuntimeError(f"bucket {self._bucket} is not open")
        await producer.begin_transaction()
        reached("begun")
        sent: list[Sent] = []
        of_changelogs: dict[Place, Sent] = {}
        for to, place, records in self._batches(made):
            sent += await _send(producer, to, records)
            if place is not None:
                of_changelogs[place] = sent[-1]
        reached("sent")
        await asyncio.gather(*(batch.acknowledged for batch in sent))
        reached("acknowledged")
        if made.checkpoints:
            offsets = {
                TopicPartition(self._cluster.topic(topic), partition): position
                for (topic, partition), position in made.checkpoints.items()
            }
            await producer.send_offsets_to_transaction(offsets, self._cluster.group)
        reached("offsets")
        committed = asyncio.ensure_future(producer.commit_transaction())
        await asyncio.sleep(0)  # the request is on its way: the moment that crash tests ask for
        reached("committing")
        await committed
        reached("committed")
        begun = {place: (last.acknowledged.result().offset, last) for place, last in of_changelogs.items()}
        # A batch that the broker had already is acknowledged without an offset.
        return {place: offset + last.records for place, (offset, last) in begun.items() if offset >= 0}

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)

    def _batches(self, made: Round) -> Iterator[tuple[TopicPartition, Place | None, Keyed]]:
        outputs: dict[tuple[str, int], list[tuple[bytes, bytes | None]]] = defaultdict(list)
        for topic, key, value, chosen in made.outputs:
            partition = _partition_of(key, self._partitions) if chosen is None else chosen
            outputs[topic, partition].append((key.encode(), value))
        for (topic, partition), records in outputs.items():
            yield TopicPartition(self._cluster.topic(topic), partition), None, records
        for (stage, partition), changes in made.changes.items():
            newest = {
                change.key: change.value for change in changes
            }  # written once, however often it changed
            yield (
                TopicPartition(self._cluster.changelog(stage), partition),
                (stage, partition),
                newest.items(),
            )


async def _send(producer: AIOKafkaProducer, to: TopicPartition, records: Keyed) -> list["Sent"]:
    """In as few batches as they need."""
    sent = []
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            sent.append(await _hand_over(producer, to, batch))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    sent.append(await _hand_over(producer, to, batch))
    return sent


async def _hand_over(producer: AIOKafkaProducer, to: TopicPartition, batch: BatchBuilder) -> "Sent":
    count = batch.record_count()
    return Sent(await producer.send_batch(batch, to.topic, partition=to.partition), count)


async def _stopped(producer: AIOKafkaProducer) -> None:
    """Without a coordinator it would wait for ever; what it leaves open, the next owner ends."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    stopping.cancel()

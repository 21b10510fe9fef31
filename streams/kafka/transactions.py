"""One Kafka transaction per round: outputs, changelogs and checkpoints, or nothing of them.

Opening a bucket's producer fences whoever held it before and ends what they left open. Batches are
acknowledged before the offsets are added: sent together, the broker makes one of them back off.

An end in doubt (`streams.kafka.end_txn`) is settled in place, because ending the process would restore
everything each time that a connection breaks. A new producer fences the late frame and every other owner;
then the changelogs are complete, and their records decide. Memory equals the changelogs plus this round:

- The changelogs hold exactly the round more: it was committed, and memory equals them.
- They hold nothing more: it was undone. Written again as it is, it makes them equal memory.
- Anything else: another owner has written. Memory is worth nothing, and the process ends.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import ConsumerRecord, RecordMetadata

from schemas.topics import partition_of
from streams.engine.task_group import Commit, TaskId
from streams.kafka.cluster import Cluster
from streams.kafka.end_txn import EndTxnInDoubt, end_once
from streams.kafka.reading import COMMITTED

_log = structlog.get_logger(__name__)

BATCH_BYTES = 900_000
"""Below the broker's limit for a batch; a larger record is a batch of its own."""
REQUEST_BYTES = 16 * 1024 * 1024
TRANSACTION_MS = 30_000
"""After so long the broker ends a transaction that nobody ended."""
REQUEST_MS = 20_000
"""Shorter than that: an end without an answer is settled before the broker gives the transaction up."""

OPEN_SECONDS = 45.0
"""Longer than the broker takes to end what the one before left open."""
STOP_SECONDS = 5.0

_partition_of = lru_cache(maxsize=131_072)(partition_of)

Keyed = Collection[tuple[bytes, bytes | None]]


def reached(step: str) -> None:
    """Called at each step of a transaction: begun, sent, acknowledged, offsets, committing, committed; and
    reopened, when its end was in doubt. Does nothing; crash tests put something in its place.
    """


class TaskGroupUnopened(Exception):
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
    """`streams.engine.task_group.Transactions` of one bucket."""

    def __init__(self, cluster: Cluster, bucket: int, partitions: int) -> None:
        self._cluster = cluster
        self._bucket = bucket
        self._partitions = partitions
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        producer = end_once(
            AIOKafkaProducer(
                **self._cluster.client(),
                transactional_id=self._cluster.transactional_id(self._bucket),
                transaction_timeout_ms=TRANSACTION_MS,
                request_timeout_ms=REQUEST_MS,
                max_batch_size=BATCH_BYTES,
                max_request_size=REQUEST_BYTES,
                linger_ms=0,
            )
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
                raise TaskGroupUnopened(self._bucket) from error
            raise
        self._producer = producer

    async def commit(self, made: Commit) -> Mapping[TaskId, int]:
        while True:
            try:
                return await self._attempt(made)
            except EndTxnInDoubt as doubt:
                if made.contained is None or not made.changes:  # the changelogs cannot decide
                    raise
                _log.warning("the end of a transaction is in doubt", bucket=self._bucket, error=str(doubt))
            if (contained := await self._settle(made, made.contained)) is not None:
                return contained

    async def _attempt(self, made: Commit) -> Mapping[TaskId, int]:
        producer = self._producer
        if producer is None:
            raise RuntimeError(f"bucket {self._bucket} is not open")
        # 1. A transaction begins.
        await producer.begin_transaction()
        reached("begun")
        # 2. Outputs and changelog records are sent, and acknowledged.
        sent: list[Sent] = []
        of_changelogs: dict[TaskId, Sent] = {}
        for to, place, records in self._batches(made):
            sent += await _send(producer, to, records)
            if place is not None:
                of_changelogs[place] = sent[-1]
        reached("sent")
        await asyncio.gather(*(batch.acknowledged for batch in sent))
        reached("acknowledged")
        # 3. The offsets of the sources are added to it, for monitors.
        if made.checkpoints:
            offsets = {
                TopicPartition(self._cluster.topic(topic), partition): position
                for (topic, partition), position in made.checkpoints.items()
            }
            await producer.send_offsets_to_transaction(offsets, self._cluster.group)
        reached("offsets")
        # 4. It is committed. Without an answer this raises EndTxnInDoubt, and the producer sends nothing more.
        committed = asyncio.ensure_future(producer.commit_transaction())
        await asyncio.sleep(0)  # the request is on its way: the moment that crash tests ask for
        reached("committing")
        await committed
        reached("committed")
        begun = {place: (last.acknowledged.result().offset, last) for place, last in of_changelogs.items()}
        # A batch that the broker had already is acknowledged without an offset.
        return {place: offset + last.records for place, (offset, last) in begun.items() if offset >= 0}

    async def _settle(self, made: Commit, contained: Mapping[TaskId, int]) -> Mapping[TaskId, int] | None:
        """What `commit` returns if the round stands; None if it was undone. Raises ProducerFenced."""
        # 5. A new producer: the late frame is refused from now on, and whatever was open has ended.
        await self.close()
        await self.open()
        reached("reopened")
        # 6. The changelogs decide.
        async with asyncio.timeout(OPEN_SECONDS):
            most = sum(len(changes) for changes in made.changes.values())
            found = await self._written_since(contained, most)
        written = {place: [(record.key, record.value) for record in rows] for place, rows in found.items()}
        if not written:
            return None
        if written == {place: list(_newest(made, place)) for place in made.changes}:
            return {place: rows[-1].offset + 1 for place, rows in found.items()}
        raise ProducerFenced("while the end of a transaction was in doubt, another worker has written")

    async def _written_since(
        self, contained: Mapping[TaskId, int], most: int
    ) -> Mapping[TaskId, list[ConsumerRecord]]:
        """What is committed in changelogs from these positions on; only of those that have more. Stops at more
        records than `most`.
        """
        places = {
            TopicPartition(self._cluster.changelog(stage), number): (stage, number)
            for stage, number in contained
        }
        found: dict[TaskId, list[ConsumerRecord]] = defaultdict(list)
        consumer = AIOKafkaConsumer(
            **self._cluster.client(),
            enable_auto_commit=False,
            isolation_level=COMMITTED,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            request_timeout_ms=REQUEST_MS,
        )
        try:
            await consumer.start()
            ends = await consumer.end_offsets(list(places))
            consumer.assign(list(places))
            for partition, place in places.items():
                consumer.seek(partition, contained[place])
            while left := [p for p, place in places.items() if await consumer.position(p) < ends[p]]:
                for partition, records in (await consumer.getmany(*left, timeout_ms=100)).items():
                    found[places[partition]] += records
                if sum(map(len, found.values())) > most:
                    break
        finally:
            await consumer.stop()
        return found

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)

    def _batches(self, made: Commit) -> Iterator[tuple[TopicPartition, TaskId | None, Keyed]]:
        outputs: dict[tuple[str, int], list[tuple[bytes, bytes | None]]] = defaultdict(list)
        for topic, key, value, chosen in made.outputs:
            partition = _partition_of(key, self._partitions) if chosen is None else chosen
            outputs[topic, partition].append((key.encode(), value))
        for (topic, partition), records in outputs.items():
            yield TopicPartition(self._cluster.topic(topic), partition), None, records
        for place in made.changes:
            yield TopicPartition(self._cluster.changelog(place[0]), place[1]), place, _newest(made, place)


def _newest(made: Commit, place: TaskId) -> Keyed:
    """The records of a changelog: each key once, however often it changed."""
    return {change.key: change.value for change in made.changes[place]}.items()


async def _send(producer: AIOKafkaProducer, to: TopicPartition, records: Keyed) -> list["Sent"]:
    """In as few batches as they need. One that follows another waits until that is acknowledged: aiokafka would
    wait for one request's time only, and then fail.
    """
    sent: list[Sent] = []
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            sent.append(await _hand_over(producer, to, batch))
            await sent[-1].acknowledged
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

"""A commit on Kafka: one transaction holds outputs, changelog records and source offsets, or none of them.

1. The task group folds what waits, for at most a quarter of a second. Then it encodes each changed state once. If
   a fold fails, nothing was sent, and the process ends.
2. A transaction begins. Outputs and changelog records (state, timers, positions) are sent and acknowledged. If this
   fails, the process ends. The broker aborts the transaction when it times out, or when the next owner opens the
   task group; the next owner restores state and positions as they were before.
3. The source offsets are added to the transaction, for monitors. If this fails: as in 2.
4. The transaction is committed. Only now can anybody read it (`read_committed`). If the broker refuses because
   another owner has fenced this one: as in 2. If no answer comes, the commit is in doubt, and it is never sent
   again. If the changelogs cannot decide (nothing of them changed, or one is still being restored): as in 2.
5. A commit in doubt: a new producer is opened. From now on the broker refuses what the old producer still has on its
   way. If this fails, the process ends; the next owner restores what the changelogs hold.
6. The changelogs of the task group are read from where they ended before this commit. They hold exactly this commit:
   it was committed. They hold nothing more: it was aborted, and is written again from 2. They hold anything else:
   another owner has written, and the process ends.

Step 1 is in `streams.engine.task_group`, the others are here. `docs/guarantees.md` has the same list; a test compares.
A commit in doubt does not end the process, because a restart would restore all state whenever a connection breaks.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    ProducerFenced,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import ConsumerRecord, RecordMetadata

from schemas.topics import partition_of
from streams.engine.task_group import Commit, TaskId
from streams.kafka.cluster import Cluster
from streams.kafka.end_txn import EndTxnInDoubt, end_once
from streams.kafka.private_names import transaction_failure
from streams.kafka.reading import COMMITTED_ISOLATION

_log = structlog.get_logger(__name__)

BATCH_BYTES = 900_000
"""Below the broker's limit for a batch; a larger record is a batch of its own."""
REQUEST_BYTES = 16 * 1024 * 1024
TRANSACTION_MS = 30_000
"""The broker aborts a transaction that is open for longer."""
REQUEST_MS = 20_000
"""Shorter than TRANSACTION_MS: a commit in doubt is settled before the broker aborts the transaction."""

OPEN_SECONDS = 45.0
"""Longer than the broker takes to abort what the former owner left open."""
STOP_SECONDS = 5.0

_partition_of = lru_cache(maxsize=131_072)(partition_of)

KeyedValues = Collection[tuple[bytes, bytes | None]]


def reached_step(step: str) -> None:
    """Called at each step of a transaction: begun, sent, acknowledged, offsets, committing, committed; and
    reopened, when its end was in doubt. Does nothing; crash tests replace it.
    """


class TaskGroupUnopened(Exception):
    """The brokers do not answer who owns the task group; the message says where to look."""

    def __init__(self, task_group: int) -> None:
        super().__init__(
            f"Kafka did not open bucket {task_group} within {OPEN_SECONDS:.0f} s: its transaction coordinator does not "
            "answer. Look at the topic __transaction_state (is it replicated enough?) and at the brokers' logs."
        )


class SentBatch(NamedTuple):
    acknowledged: "asyncio.Future[RecordMetadata]"
    """Done when the broker has the batch; its offset is that of the first record."""
    records: int


class KafkaTransactions:
    """`streams.engine.task_group.Transactions` of one task group."""

    def __init__(self, cluster: Cluster, task_group: int, partitions: int) -> None:
        self._cluster = cluster
        self._task_group = task_group
        self._partitions = partitions
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Fences the former owner and aborts what it left open."""
        producer = end_once(
            AIOKafkaProducer(
                **self._cluster.client(),
                transactional_id=self._cluster.transactional_id(self._task_group),
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
                # The public way to wait until the broker has fenced the former owner.
                await producer.begin_transaction()
                await producer.abort_transaction()
        except BaseException as error:  # also when it is cancelled
            await _stop_producer(producer)
            if isinstance(error, TimeoutError):
                raise TaskGroupUnopened(self._task_group) from error
            raise
        self._producer = producer

    async def commit(self, commit: Commit) -> Mapping[TaskId, int]:
        while True:
            try:
                return await self._attempt(commit)
            except EndTxnInDoubt as doubt:
                if commit.contained is None or not commit.changes:  # the changelogs cannot decide
                    raise
                _log.warning(
                    "the end of a transaction is in doubt", bucket=self._task_group, error=str(doubt)
                )
            if (contained := await self._settle(commit, commit.contained)) is not None:
                return contained

    async def _attempt(self, commit: Commit) -> Mapping[TaskId, int]:
        """Steps 2 to 4. Raises ProducerFenced, whatever aiokafka makes of it; EndTxnInDoubt."""
        producer = self._producer
        if producer is None:
            raise RuntimeError(f"bucket {self._task_group} is not open")
        try:
            return await self._transaction(producer, commit)
        except EndTxnInDoubt:
            raise
        except (KafkaError, IllegalOperation, AssertionError) as error:
            raise root_cause(error, transaction_failure(producer)) from error

    async def _transaction(self, producer: AIOKafkaProducer, commit: Commit) -> Mapping[TaskId, int]:
        # 2. A transaction begins. Outputs and changelog records are sent and acknowledged.
        await producer.begin_transaction()
        reached_step("begun")
        sent: list[SentBatch] = []
        last_of_changelog: dict[TaskId, SentBatch] = {}
        for target, task, records in self._batches(commit):
            sent += await _send_in_batches(producer, target, records)
            if task is not None:
                last_of_changelog[task] = sent[-1]
        reached_step("sent")
        # All are acknowledged before 3: sent together, the broker makes one of them back off.
        await asyncio.gather(*(batch.acknowledged for batch in sent))
        reached_step("acknowledged")
        # 3. The source offsets are added to the transaction, for monitors.
        if commit.checkpoints:
            offsets = {
                TopicPartition(self._cluster.topic(topic), partition): position
                for (topic, partition), position in commit.checkpoints.items()
            }
            await producer.send_offsets_to_transaction(offsets, self._cluster.group)
        reached_step("offsets")
        # 4. The transaction is committed. Without an answer this raises EndTxnInDoubt; the producer is finished then.
        committed = asyncio.ensure_future(producer.commit_transaction())
        await asyncio.sleep(0)  # the request is on its way: the moment that crash tests need
        reached_step("committing")
        await committed
        reached_step("committed")
        first_offsets = {
            task: (batch.acknowledged.result().offset, batch) for task, batch in last_of_changelog.items()
        }
        # The broker acknowledges a batch without an offset if it had it already.
        return {
            task: offset + batch.records for task, (offset, batch) in first_offsets.items() if offset >= 0
        }

    async def _settle(self, commit: Commit, contained: Mapping[TaskId, int]) -> Mapping[TaskId, int] | None:
        """What `commit` returns if it was committed; None if it was aborted. Raises ProducerFenced."""
        # 5. A new producer is opened: the late frame is refused from now on, and the transaction has ended.
        await self.close()
        await self.open()
        reached_step("reopened")
        # 6. The changelogs decide.
        async with asyncio.timeout(OPEN_SECONDS):
            most = sum(len(changes) for changes in commit.changes.values())
            rows = await self._written_since(contained, most)
        written = {task: [(record.key, record.value) for record in records] for task, records in rows.items()}
        if not written:
            return None
        if written == {task: list(_newest_changes(commit, task)) for task in commit.changes}:
            return {task: records[-1].offset + 1 for task, records in rows.items()}
        raise ProducerFenced("while the end of a transaction was in doubt, another worker has written")

    async def _written_since(
        self, contained: Mapping[TaskId, int], most: int
    ) -> Mapping[TaskId, list[ConsumerRecord]]:
        """What is committed in changelogs from these positions on; only tasks that have more. Stops after more
        than `most` records.
        """
        tasks = {
            TopicPartition(self._cluster.changelog(stage), number): (stage, number)
            for stage, number in contained
        }
        written: dict[TaskId, list[ConsumerRecord]] = defaultdict(list)
        consumer = AIOKafkaConsumer(
            **self._cluster.client(),
            enable_auto_commit=False,
            isolation_level=COMMITTED_ISOLATION,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            request_timeout_ms=REQUEST_MS,
        )
        try:
            await consumer.start()
            ends = await consumer.end_offsets(list(tasks))
            consumer.assign(list(tasks))
            for partition, task in tasks.items():
                consumer.seek(partition, contained[task])
            while left := [p for p in tasks if await consumer.position(p) < ends[p]]:
                for partition, records in (await consumer.getmany(*left, timeout_ms=100)).items():
                    written[tasks[partition]] += records
                if sum(map(len, written.values())) > most:
                    break
        finally:
            await consumer.stop()
        return written

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop_producer(producer)

    def _batches(self, commit: Commit) -> Iterator[tuple[TopicPartition, TaskId | None, KeyedValues]]:
        outputs: dict[tuple[str, int], list[tuple[bytes, bytes | None]]] = defaultdict(list)
        for topic, key, value, chosen in commit.outputs:
            partition = _partition_of(key, self._partitions) if chosen is None else chosen
            outputs[topic, partition].append((key.encode(), value))
        for (topic, partition), records in outputs.items():
            yield TopicPartition(self._cluster.topic(topic), partition), None, records
        for task in commit.changes:
            stage, partition = task
            yield (
                TopicPartition(self._cluster.changelog(stage), partition),
                task,
                _newest_changes(commit, task),
            )


def root_cause(error: BaseException, failure: BaseException | None) -> BaseException:
    """What has happened when a step of a transaction raises `error`, and `failure` ended the transaction.

    aiokafka's background task learns first that the producer is fenced: when it adds a partition or the group to the
    transaction. It ends then, and the next call finds no transaction: it raises IllegalOperation, or fails an
    assertion. What the task does not know as fencing, it wraps in "Unexpected error during batch delivery".
    """
    fenced = any(
        isinstance(cause, _FENCED_ERRORS) for cause in (*_chain_of_causes(error), *_chain_of_causes(failure))
    )
    if fenced:
        cause: BaseException = ProducerFenced()
        return cause
    if failure is not None and isinstance(error, IllegalOperation | AssertionError):
        return failure
    return error


_FENCED_ERRORS = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping)
"""The last one: the broker has another producer under our transactional id."""


def _chain_of_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _newest_changes(commit: Commit, task: TaskId) -> KeyedValues:
    """The records of a changelog: each key once, however often it changed."""
    return {change.key: change.value for change in commit.changes[task]}.items()


async def _send_in_batches(
    producer: AIOKafkaProducer, target: TopicPartition, records: KeyedValues
) -> list["SentBatch"]:
    """In as few batches as they need. Each waits until the one before is acknowledged: aiokafka would wait for the
    time of one request only, and then fail.
    """
    sent: list[SentBatch] = []
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            sent.append(await _send_batch(producer, target, batch))
            await sent[-1].acknowledged
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    sent.append(await _send_batch(producer, target, batch))
    return sent


async def _send_batch(producer: AIOKafkaProducer, target: TopicPartition, batch: BatchBuilder) -> "SentBatch":
    count = batch.record_count()
    return SentBatch(await producer.send_batch(batch, target.topic, partition=target.partition), count)


async def _stop_producer(producer: AIOKafkaProducer) -> None:
    """Without a coordinator it would wait for ever; the next owner aborts what it leaves open."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    stopping.cancel()

"""Creates and checks the topics in Kafka by the one list of them, and publishes into them.

Promises topics that keep what the design needs (retention, compaction, the broker's own time); a log that begins with
its genesis exactly once, however many processes create it; and publications of which all records are written or none.
Must never change or delete an existing topic, nor let a broker create one because we ask for it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import (
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    ProducerFenced,
    RequestTimedOutError,
    for_code,
)
from aiokafka.structs import RecordMetadata

from schemas.record import LogPartition, Outgoing
from schemas.topics import DAY_MS, EVENTS, PARTITION_WIDE_KEY, RETAIN_FOREVER, TOPICS, partition_of
from streams.kafka.closing import CLOSING_SECONDS, close_in_time
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.end_txn import end_once
from streams.kafka.private_names import transaction_failure
from streams.kafka.reading import COMMITTED_ISOLATION, ChunkReader
from streams.kafka.transactions import root_cause

STAGE_NAMES = ("track_sessions", "score_leads")
CREATE_COMMAND = "leadstream topics create"

MAX_BATCH_BYTES = 2 * 1024 * 1024
"""The largest batch of a topic: a dead letter of the largest record has 0.2 MB, a producer's batch up to 1 MB."""

_TOMBSTONE_MS = 7 * DAY_MS
"""A reader that reads on within this time sees the tombstone of every deleted key."""

_COMPACTED = {
    "cleanup.policy": "compact",
    "delete.retention.ms": str(_TOMBSTONE_MS),
    # Only closed segments are compacted. They are small, so that a restore reads few outdated records.
    "segment.bytes": str(64 * 1024 * 1024),
    "segment.ms": str(DAY_MS),
    "min.cleanable.dirty.ratio": "0.3",
    "max.compaction.lag.ms": str(2 * DAY_MS),
}
_CHECKED_SETTINGS = ("cleanup.policy", "message.timestamp.type", "max.message.bytes", "retention.ms")
"""Results depend on these; the operator may choose the other settings."""

_REQUEST_MS = 10_000
_FETCH_MS = 100
_TRANSACTION_MS = 20_000
"""When a broker aborts what a killed publisher left open; until then nobody can read what comes after it."""
_READY_SECONDS = 60.0
_PUBLISHING_SECONDS = 60.0
_ALREADY_EXISTS = 36
_RETRY_PAUSES_SECONDS = (0.2, 0.3, 0.5, 0.8, 1.3, 2.1, 3.4, 5.5)
"""Between the attempts of a publisher that another one has fenced, longer than a publication takes; the last one again and
again."""


class TopicsRefused(RuntimeError):
    """The topics cannot be used with these settings; the message names reason and remedy."""


class TopicsMissing(TopicsRefused):
    """A topic does not exist."""


_MISSING = "is missing"


class TopicProblem(NamedTuple):
    """What is wrong with a topic (its name in Kafka): fault and remedy without a full stop."""

    topic: str
    fault: str
    remedy: str
    tolerable: bool = False
    """It causes no fault at once."""

    @property
    def is_missing(self) -> bool:
        return self.fault == _MISSING

    def __str__(self) -> str:
        return f"Topic {self.topic} {self.fault}: {self.remedy}."


def topic_settings(cluster: Cluster, stages: Sequence[str] = STAGE_NAMES) -> dict[str, dict[str, str]]:
    """Every topic by its name in Kafka, with the settings that it needs."""
    everywhere = {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_BATCH_BYTES),
        "unclean.leader.election.enable": "false",
        "compression.type": "producer",
    }
    own = (*(cluster.changelog(stage) for stage in stages), cluster.skips)
    return {
        cluster.topic(topic.name): everywhere
        | (
            _COMPACTED
            if topic.compacted
            else {
                "cleanup.policy": "delete",
                "retention.ms": str(topic.retention_ms),
                "retention.bytes": "-1",
            }
        )
        for topic in TOPICS
    } | dict.fromkeys(own, everywhere | _COMPACTED)


async def create_topics(
    cluster: Cluster,
    *,
    partitions: int,
    replication: int | None = None,
    stages: Sequence[str] = STAGE_NAMES,
    genesis: Sequence[Outgoing],
) -> list[str]:
    """Creates missing topics, then publishes `genesis` if the log has none; returns the names in Kafka of the created
    topics. A second call, or another process at the same time, changes nothing more.

    `replication` None: 1 with one broker, else 3 at most. Raises KafkaUnavailable, TopicsRefused.
    """
    required = topic_settings(cluster, stages)
    async with _admin_client(cluster) as admin:
        existing = await _partition_counts(admin, required)
        _raise_problems(_partition_count_problems(cluster, existing, partitions))
        copies = replication or min(3, await _broker_count(admin))
        durable = {"min.insync.replicas": "2" if copies > 2 else "1"}
        missing = [name for name in required if name not in existing]
        created = await _create_missing_topics(
            admin,
            [NewTopic(name, partitions, copies, topic_configs=required[name] | durable) for name in missing],
        )
        await _await_leaders(admin, required)
        _raise_problems(
            _partition_count_problems(cluster, await _partition_counts(admin, required), partitions)
        )
    if genesis and (cluster.topic(EVENTS) in created or not await _has_genesis(cluster)):
        # Another broker may not know of new topics yet, so nobody is asked how many partitions they have.
        await _publish_unless(cluster, genesis, partitions, unless=_has_genesis)
    return created


async def check_topics(
    cluster: Cluster, *, partitions: int | None = None, stages: Sequence[str] = STAGE_NAMES
) -> list[TopicProblem]:
    """What is wrong with the topics. `partitions` None: as many as `events` has. Raises KafkaUnavailable."""
    required = topic_settings(cluster, stages)
    async with _admin_client(cluster) as admin:
        existing = await _partition_counts(admin, required)
        configs = await _settings_by_topic(admin, list(existing))
    missing = [
        TopicProblem(name, _MISSING, f"`{CREATE_COMMAND}` creates it")
        for name in required
        if name not in existing
    ]
    expected = partitions or existing.get(cluster.topic(EVENTS))
    miscounted = [] if expected is None else _partition_count_problems(cluster, existing, expected)
    misconfigured = [
        problem for name in existing for problem in _setting_problems(name, required[name], configs[name])
    ]
    return [*missing, *miscounted, *misconfigured]


async def partition_count_of(cluster: Cluster) -> int:
    """The number of partitions of each topic. Raises KafkaUnavailable, TopicsMissing."""
    events = cluster.topic(EVENTS)
    async with _admin_client(cluster) as admin:
        existing = await _partition_counts(admin, [events])
    if events not in existing:
        raise TopicsMissing(str(TopicProblem(events, _MISSING, f"`{CREATE_COMMAND}` creates it")))
    return existing[events]


async def delete_records(cluster: Cluster, positions: Mapping[LogPartition, int]) -> None:
    """Deletes everything before these positions, whoever it is about. Raises KafkaUnavailable, KafkaError."""
    before = {
        TopicPartition(cluster.topic(topic), partition): RecordsToDelete(position)
        for (topic, partition), position in positions.items()
    }
    async with _admin_client(cluster) as admin:
        await admin.delete_records(before)


async def publish_records(cluster: Cluster, records: Sequence[Outgoing]) -> None:
    """Publishes all records or none, in one transaction. A record with the key `PARTITION_WIDE_KEY` and no partition goes to every
    partition of its topic. Concurrent publishers take turns.

    Raises KafkaUnavailable (the message says whether it is published), TopicsMissing, TopicsRefused.
    """
    await _publish_unless(cluster, records, await partition_count_of(cluster))


_Routed = tuple[TopicPartition, bytes, bytes | None]
_UnlessTrue = Callable[[Cluster], Awaitable[bool]]


class _TransactionMark(NamedTuple):
    """The position of the first record of a transaction, before its commit."""

    partition: TopicPartition
    offset: int


class _Publication:
    """One transaction, attempted until it is committed."""

    def __init__(self, cluster: Cluster, routed: list[_Routed], unless: _UnlessTrue | None) -> None:
        self._cluster = cluster
        self._routed = routed
        self._unless = unless
        self.mark: _TransactionMark | None = None
        """Set while it is not known whether it is committed."""

    async def attempt(self) -> None:
        """Whatever it raises, the next attempt finds out whether this one was committed."""
        async with _publisher(self._cluster) as producer:
            if self.mark is not None and await _is_committed(self._cluster, self.mark):
                return
            self.mark = None
            if self._unless is not None and await self._unless(self._cluster):
                return
            try:
                await self._transaction(producer)
            except (KafkaError, IllegalOperation, AssertionError) as error:
                raise root_cause(error, transaction_failure(producer)) from error

    async def _transaction(self, producer: AIOKafkaProducer) -> None:
        await producer.begin_transaction()
        try:
            acknowledged = await self._write(producer)
        except BaseException:
            await _abort(producer)
            raise
        if acknowledged:
            self.mark = _TransactionMark(self._routed[0][0], acknowledged[0].offset)
        await producer.commit_transaction()

    async def _write(self, producer: AIOKafkaProducer) -> list[RecordMetadata]:
        sent = [
            await producer.send(partition.topic, value, key, partition.partition)
            for partition, key, value in self._routed
        ]
        return await asyncio.gather(*sent)


async def _publish_unless(
    cluster: Cluster, records: Sequence[Outgoing], partitions: int, unless: _UnlessTrue | None = None
) -> None:
    """Calls `unless` after former publishers are fenced, so its answer stays true."""
    routed = list(_routed(cluster, records, partitions))
    publication = _Publication(cluster, routed, unless)
    with suppress(TimeoutError):
        async with asyncio.timeout(_PUBLISHING_SECONDS):
            for pause in chain(_RETRY_PAUSES_SECONDS, repeat(_RETRY_PAUSES_SECONDS[-1])):
                try:
                    return await publication.attempt()
                except KafkaError as cause:
                    if not _is_transient(cause):
                        raise TopicsRefused(f"Kafka refuses what is to be published ({cause!r}).") from cause
                await asyncio.sleep(pause)
    outcome = "nothing is published" if publication.mark is None else "whether it is published is not known"
    raise KafkaUnavailable(
        f"Kafka at {cluster.brokers} did not complete the publication: {outcome}. Try again when it answers."
    )


def _routed(cluster: Cluster, records: Sequence[Outgoing], partitions: int) -> Iterator[_Routed]:
    for record in records:
        if record.partition is not None:
            where = [record.partition]
        elif record.key == PARTITION_WIDE_KEY:
            where = list(range(partitions))
        else:
            where = [partition_of(record.key, partitions)]
        for partition in where:
            yield TopicPartition(cluster.topic(record.topic), partition), record.key.encode(), record.value


def _is_transient(cause: KafkaError) -> bool:
    """Another publisher has fenced us, or the broker became unavailable: another attempt may succeed. aiokafka raises a
    bare KafkaError for a transaction that the broker has aborted.
    """
    return isinstance(cause, ProducerFenced) or type(cause) is KafkaError or bool(cause.retriable)


@asynccontextmanager
async def _publisher(cluster: Cluster) -> AsyncIterator[AIOKafkaProducer]:
    """The only publisher: opening it fences the former one and aborts its open transaction. It makes one transaction:
    the next one begins with a new producer, even if the end of this one is in doubt.
    """
    producer = end_once(
        AIOKafkaProducer(
            **cluster.client(),
            transactional_id=cluster.publisher_id,
            acks="all",
            max_request_size=MAX_BATCH_BYTES,
            request_timeout_ms=_REQUEST_MS,
            transaction_timeout_ms=_TRANSACTION_MS,
        )
    )
    try:
        await producer.start()
        yield producer
    finally:
        await close_in_time(producer.stop())


async def _abort(producer: AIOKafkaProducer) -> None:
    """Aborts: an open transaction keeps every reader waiting until the broker aborts it."""
    with suppress(TimeoutError, KafkaError, AssertionError):  # it asserts that it was not fenced
        await asyncio.wait_for(producer.abort_transaction(), CLOSING_SECONDS)


async def _is_committed(cluster: Cluster, mark: _TransactionMark) -> bool:
    """Whether the transaction that wrote this record was committed. Call it when the transaction has ended."""
    async with _uncommitted_reader(cluster) as consumer:
        consumer.assign([mark.partition])
        consumer.seek(mark.partition, mark.offset)
        while await consumer.position(mark.partition) <= mark.offset:
            for records in (await consumer.getmany(timeout_ms=_FETCH_MS, max_records=1)).values():
                return bool(records[0].offset == mark.offset)
    return False


async def _has_genesis(cluster: Cluster) -> bool:
    """Events may have come before the genesis, and retention may have deleted it. Reads up to the high watermark, so it
    waits for the end of an open transaction.
    """
    partition = TopicPartition(cluster.topic(EVENTS), 0)
    try:
        async with asyncio.timeout(_READY_SECONDS), _uncommitted_reader(cluster) as consumer:
            consumer.assign([partition])
            if (await consumer.beginning_offsets([partition]))[partition] > 0:
                return True
            reader = ChunkReader(consumer, cluster)
            reader.seek((EVENTS, 0), 0)
            position, end = 0, None
            while end is None or position < end:
                for chunk in await reader.read(seconds=_FETCH_MS / 1000):
                    if any(record.key == PARTITION_WIDE_KEY for record in chunk.records):
                        return True
                    position = chunk.next
                end = consumer.highwater(partition)
    except TimeoutError as cause:
        raise KafkaUnavailable(
            f"Kafka at {cluster.brokers} does not give the beginning of {partition.topic}: try again when it answers."
        ) from cause
    return False


@asynccontextmanager
async def _uncommitted_reader(cluster: Cluster) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        isolation_level=COMMITTED_ISOLATION,
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_MS,
        request_timeout_ms=_REQUEST_MS,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await close_in_time(consumer.stop())


@asynccontextmanager
async def _admin_client(cluster: Cluster) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**cluster.client(), request_timeout_ms=_REQUEST_MS)
    try:
        await admin.start()
        yield admin
    except (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, TimeoutError) as cause:
        raise KafkaUnavailable(
            f"No Kafka broker answers at {cluster.brokers} with this protocol ({cluster.security.protocol}): start one "
            "(`make kafka`), or set LEADSTREAM_KAFKA to HOST:PORT of one that runs."
        ) from cause
    finally:
        await close_in_time(admin.close())


async def _partitions_by_topic(admin: AIOKafkaAdminClient) -> dict[str, list[Mapping[str, Any]]]:
    """Every topic's partitions. Asking for one topic by name might create it; asking for all creates none."""
    return {
        topic["topic"]: topic["partitions"]
        for topic in await admin.describe_topics()
        if topic["error_code"] == 0
    }


async def _partition_counts(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    topics = await _partitions_by_topic(admin)
    return {name: len(topics[name]) for name in names if name in topics}


async def _broker_count(admin: AIOKafkaAdminClient) -> int:
    return len((await admin.describe_cluster())["brokers"])


async def _create_missing_topics(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> list[str]:
    """The names of the topics that did not exist. Raises TopicsRefused."""
    if not topics:
        return []
    created = []
    for name, code, *message in (await admin.create_topics(topics)).topic_errors:
        if code == 0:
            created.append(name)
        elif code != _ALREADY_EXISTS:
            why = next(filter(None, message), for_code(code).description)
            raise TopicsRefused(
                f"Kafka did not create the topic {name} ({why}): set LEADSTREAM_KAFKA_REPLICATION if it is about "
                "replication; else have an administrator of the cluster allow it, or create it."
            )
    return created


async def _await_leaders(admin: AIOKafkaAdminClient, names: Iterable[str]) -> None:
    """Waits until new topics are listed and can be written to."""
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            topics = await _partitions_by_topic(admin)
            if all(name in topics and all(p["error_code"] == 0 for p in topics[name]) for name in names):
                return
            await asyncio.sleep(0.05)


async def _settings_by_topic(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_CHECKED_SETTINGS)) for name in names
    ]
    (answer,) = await admin.describe_configs(resources)
    return {name: {key: value for key, value, *_ in entries} for _, _, _, name, entries in answer.resources}


def _partition_count_problems(
    cluster: Cluster, existing: Mapping[str, int], partitions: int
) -> list[TopicProblem]:
    """One problem, if all agree on another number."""
    events = cluster.topic(EVENTS)
    wrong = {name: count for name, count in existing.items() if count != partitions}
    if len(wrong) > 1 and len(wrong) == len(existing) and len(set(wrong.values())) == 1:
        name = events if events in wrong else next(iter(wrong))
        return [
            _partition_count_problem(
                name, wrong[name], partitions, _SET_PARTITIONS_REMEDY, ", as the other topics have"
            )
        ]
    odd = [name for name in wrong if wrong[name] != existing.get(events)]
    problems = []
    for name, count in wrong.items():
        if name == events or count == existing.get(events):
            remedy = _SET_PARTITIONS_REMEDY
        elif odd == [name] and name in map(cluster.topic, _TOPIC_NAMES):
            remedy = f"delete it if nothing is lost with it, or {_NEW_PREFIX_REMEDY}"
        else:
            remedy = _NEW_PREFIX_REMEDY
        problems.append(_partition_count_problem(name, count, partitions, remedy))
    return problems


def _partition_count_problem(
    name: str, count: int, partitions: int, remedy: str, others: str = ""
) -> TopicProblem:
    return TopicProblem(
        name, f"has {count} partitions instead of {partitions}{others}", remedy.format(count=count)
    )


_NEW_PREFIX_REMEDY = "set another LEADSTREAM_KAFKA_PREFIX to begin with new topics beside it"
_SET_PARTITIONS_REMEDY = (
    "set LEADSTREAM_PARTITIONS={count}, or another LEADSTREAM_KAFKA_PREFIX to begin with new topics beside it"
)
_TOPIC_NAMES = tuple(topic.name for topic in TOPICS)


def _setting_problems(
    name: str, required: Mapping[str, str], configs: Mapping[str, str]
) -> Iterator[TopicProblem]:
    """A topic may keep more, or accept larger batches, than required."""
    for key in _CHECKED_SETTINGS:
        if key not in required:
            continue
        need, has = required[key], configs.get(key, "")
        at_least = key in {"retention.ms", "max.message.bytes"}
        if not (_retention_ms(has) >= _retention_ms(need) if at_least else has == need):
            yield TopicProblem(
                name,
                f"has {key}={has} instead of {need}",
                f"`kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}={need}` fixes it",
                tolerable=key == "retention.ms",
            )


def _retention_ms(text: str) -> float:
    number = int(text or 0)
    return float("inf") if number == RETAIN_FOREVER else number


def _raise_problems(problems: Sequence[TopicProblem]) -> None:
    if problems:
        raise TopicsRefused(" ".join(map(str, problems)))

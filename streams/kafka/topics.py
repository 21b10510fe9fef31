"""The topics in Kafka: made and checked by the one list of them, and published into.

Promises topics that keep what the design needs (retention, compaction, the broker's own time), a log
that begins with its genesis exactly once, however many processes begin it, and publications of which
all records stand or none. Must never change or delete a topic that is there, nor let one be made by
asking for it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    ProducerFenced,
    RequestTimedOutError,
    for_code,
)
from aiokafka.structs import RecordMetadata

from schemas.record import Outgoing
from schemas.topics import DAYS, EVENTS, FOREVER, SHARED, TOPICS, partition_of
from streams.kafka.cluster import Cluster
from streams.kafka.end_txn import end_once
from streams.kafka.reading import COMMITTED, ChunkReader

STAGES = ("track_sessions", "score_leads")
CREATE = "leadstream topics create"

MAX_BATCH_BYTES = 2 * 1024 * 1024
"""What a topic takes at once: a dead letter of the largest record has 0.2 MB, a producer's batch up to 1 MB."""

_TOMBSTONE_MS = 7 * DAYS
"""Who reads on where it stopped, after less than this, learns of everything that is gone."""

_COMPACTED = {
    "cleanup.policy": "compact",
    "delete.retention.ms": str(_TOMBSTONE_MS),
    # Only closed segments are compacted: small ones, so that restoring a state reads little that is stale.
    "segment.bytes": str(64 * 1024 * 1024),
    "segment.ms": str(DAYS),
    "min.cleanable.dirty.ratio": "0.3",
    "max.compaction.lag.ms": str(2 * DAYS),
}
_CHECKED = ("cleanup.policy", "message.timestamp.type", "max.message.bytes", "retention.ms")
"""What results depend on; the rest of a topic's settings are the operator's."""

_REQUEST_MS = 10_000
_FETCH_MS = 100
_TRANSACTION_MS = 20_000
"""When a broker gives up what a killed publisher left open; until then nobody reads what comes after it."""
_READY_SECONDS = 60.0
_PUBLISHING_SECONDS = 60.0
_CLOSING_SECONDS = 3.0
_ALREADY_EXISTS = 36
_PAUSES = (0.2, 0.3, 0.5, 0.8, 1.3, 2.1, 3.4, 5.5)
"""Between the attempts of a publisher whom another one shuts out; longer than a publication takes."""


class BrokerUnavailable(RuntimeError):
    """No broker answers; the message names the remedy."""


class TopicsRefused(RuntimeError):
    """The topics cannot be used as asked; the message names the reason and the remedy."""


class TopicsMissing(TopicsRefused):
    """A topic is not there."""


class TopicProblem(NamedTuple):
    """What is wrong with a topic (its name in Kafka), as sentences without a full stop."""

    topic: str
    said: str
    remedy: str
    tolerable: bool = False
    """Nothing goes wrong at once."""

    def __str__(self) -> str:
        return f"Topic {self.topic} {self.said}: {self.remedy}."


def topic_settings(cluster: Cluster, stages: Sequence[str] = STAGES) -> dict[str, dict[str, str]]:
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
    stages: Sequence[str] = STAGES,
    genesis: Sequence[Outgoing],
) -> list[str]:
    """Makes what is missing, then publishes `genesis` if the log has none; the names in Kafka of what
    was made. Again, or in two processes at once, it changes nothing more.

    `replication` None: 1 with one broker, else 3 at most. Raises BrokerAway, TopicsRefused.
    """
    wanted = topic_settings(cluster, stages)
    async with _admin(cluster) as admin:
        found = await _partition_counts(admin, wanted)
        _require(_miscounted(cluster, found, partitions))
        copies = replication or min(3, await _brokers(admin))
        durable = {"min.insync.replicas": "2" if copies > 2 else "1"}
        missing = [name for name in wanted if name not in found]
        made = await _create(
            admin,
            [NewTopic(name, partitions, copies, topic_configs=wanted[name] | durable) for name in missing],
        )
        await _await_leaders(admin, wanted)
        _require(_miscounted(cluster, await _partition_counts(admin, wanted), partitions))
    if genesis and (cluster.topic(EVENTS) in made or not await _has_genesis(cluster)):
        await _publish(cluster, genesis, unless=_has_genesis)
    return made


async def check_topics(
    cluster: Cluster, *, partitions: int | None = None, stages: Sequence[str] = STAGES
) -> list[TopicProblem]:
    """What is wrong with the topics. `partitions` None: as many as `events` has. Raises BrokerAway."""
    wanted = topic_settings(cluster, stages)
    async with _admin(cluster) as admin:
        found = await _partition_counts(admin, wanted)
        configs = await _configs(admin, list(found))
    missing = [
        TopicProblem(name, "is missing", f"`{CREATE}` makes it") for name in wanted if name not in found
    ]
    expected = partitions or found.get(cluster.topic(EVENTS))
    miscounted = [] if expected is None else _miscounted(cluster, found, expected)
    misconfigured = [
        problem for name in found for problem in _misconfigured(name, wanted[name], configs[name])
    ]
    return [*missing, *miscounted, *misconfigured]


async def partitions_of(cluster: Cluster) -> int:
    """How many every topic has. Raises BrokerAway, TopicsMissing."""
    events = cluster.topic(EVENTS)
    async with _admin(cluster) as admin:
        found = await _partition_counts(admin, [events])
    if events not in found:
        raise TopicsMissing(str(TopicProblem(events, "is missing", f"`{CREATE}` makes it")))
    return found[events]


async def publish(cluster: Cluster, records: Sequence[Outgoing]) -> None:
    """All records or none, in one transaction; one without a partition whose key is `SHARED` goes to
    every partition of its topic. Two publishers at once take turns.

    Raises BrokerAway (the message says what is known then), TopicsMissing, TopicsRefused.
    """
    await _publish(cluster, records)


_Placed = tuple[TopicPartition, bytes, bytes | None]
_Unless = Callable[[Cluster], Awaitable[bool]]


class _Mark(NamedTuple):
    """Where the first record of a transaction was written, before its commit."""

    slot: TopicPartition
    offset: int


class _Publication:
    """One transaction, attempted until it stands."""

    def __init__(self, cluster: Cluster, placed: list[_Placed], unless: _Unless | None) -> None:
        self._cluster = cluster
        self._placed = placed
        self._unless = unless
        self.mark: _Mark | None = None
        """Set while it is not known whether it stands."""

    async def attempt(self) -> None:
        """Whatever it raises, the next attempt finds out whether this one stands."""
        async with _publisher(self._cluster) as producer:
            if self.mark is not None and await _stands(self._cluster, self.mark):
                return
            self.mark = None
            if self._unless is not None and await self._unless(self._cluster):
                return
            await producer.begin_transaction()
            try:
                acknowledged = await self._write(producer)
            except BaseException:
                await _abort(producer)
                raise
            if acknowledged:
                self.mark = _Mark(self._placed[0][0], acknowledged[0].offset)
            await producer.commit_transaction()

    async def _write(self, producer: AIOKafkaProducer) -> list[RecordMetadata]:
        sent = [
            await producer.send(slot.topic, value, key, slot.partition) for slot, key, value in self._placed
        ]
        return await asyncio.gather(*sent)


async def _publish(cluster: Cluster, records: Sequence[Outgoing], unless: _Unless | None = None) -> None:
    """`unless` is asked once former publishers are shut out, so what it sees stays."""
    placed = list(_placed(cluster, records, await partitions_of(cluster)))
    publication = _Publication(cluster, placed, unless)
    with suppress(TimeoutError):
        async with asyncio.timeout(_PUBLISHING_SECONDS):
            for pause in _PAUSES:
                try:
                    return await publication.attempt()
                except KafkaError as cause:
                    if not _passing(cause):
                        raise TopicsRefused(f"Kafka refuses what is to be published ({cause!r}).") from cause
                await asyncio.sleep(pause)
    known = "nothing is published" if publication.mark is None else "whether it is published is not known"
    raise BrokerUnavailable(
        f"Kafka at {cluster.brokers} did not complete the publication: {known}. Try again when it answers."
    )


def _placed(cluster: Cluster, records: Sequence[Outgoing], partitions: int) -> Iterator[_Placed]:
    for record in records:
        if record.partition is not None:
            where = [record.partition]
        elif record.key == SHARED:
            where = list(range(partitions))
        else:
            where = [partition_of(record.key, partitions)]
        for partition in where:
            yield TopicPartition(cluster.topic(record.topic), partition), record.key.encode(), record.value


def _passing(cause: KafkaError) -> bool:
    """Shut out by another publisher, or the broker goes away: another attempt may do. aiokafka gives a
    bare KafkaError for a transaction that the broker has given up.
    """
    return isinstance(cause, ProducerFenced) or type(cause) is KafkaError or bool(cause.retriable)


@asynccontextmanager
async def _publisher(cluster: Cluster) -> AsyncIterator[AIOKafkaProducer]:
    """The only publisher: whoever published before is shut out, and its open transaction aborted. It makes one
    transaction, so the next one begins with a new producer whatever became of this one's end.
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
        await _close(producer.stop())


async def _abort(producer: AIOKafkaProducer) -> None:
    """What is left open keeps every reader waiting until the broker gives it up."""
    with suppress(TimeoutError, KafkaError, AssertionError):  # it asserts that it was not shut out
        await asyncio.wait_for(producer.abort_transaction(), _CLOSING_SECONDS)


async def _stands(cluster: Cluster, mark: _Mark) -> bool:
    """Whether the transaction that wrote there was committed. Asked when it is no longer open."""
    async with _reader(cluster) as consumer:
        consumer.assign([mark.slot])
        consumer.seek(mark.slot, mark.offset)
        while await consumer.position(mark.slot) <= mark.offset:
            for records in (await consumer.getmany(timeout_ms=_FETCH_MS, max_records=1)).values():
                return bool(records[0].offset == mark.offset)
    return False


async def _has_genesis(cluster: Cluster) -> bool:
    """Events may have come before it, and retention may have taken it since. Reads up to what is written,
    so that an open transaction before it is waited for.
    """
    slot = TopicPartition(cluster.topic(EVENTS), 0)
    try:
        async with asyncio.timeout(_READY_SECONDS), _reader(cluster) as consumer:
            consumer.assign([slot])
            if (await consumer.beginning_offsets([slot]))[slot] > 0:
                return True
            reader = ChunkReader(consumer, cluster)
            reader.seek((EVENTS, 0), 0)
            position, end = 0, None
            while end is None or position < end:
                for chunk in await reader.read(seconds=_FETCH_MS / 1000):
                    if any(record.key == SHARED for record in chunk.records):
                        return True
                    position = chunk.next
                end = consumer.highwater(slot)
    except TimeoutError as cause:
        raise BrokerUnavailable(
            f"Kafka at {cluster.brokers} does not give the beginning of {slot.topic}: try again when it answers."
        ) from cause
    return False


@asynccontextmanager
async def _reader(cluster: Cluster) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        isolation_level=COMMITTED,
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_MS,
        request_timeout_ms=_REQUEST_MS,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await _close(consumer.stop())


async def _close(closing: Awaitable[None]) -> None:
    """A client waits for a broker that is away even when it closes."""
    with suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(closing, _CLOSING_SECONDS)


@asynccontextmanager
async def _admin(cluster: Cluster) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**cluster.client(), request_timeout_ms=_REQUEST_MS)
    try:
        await admin.start()
        yield admin
    except (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, TimeoutError) as cause:
        raise BrokerUnavailable(
            f"No Kafka broker answers at {cluster.brokers} as asked ({cluster.security.protocol}): start one "
            "(`make kafka`), or set LEADSTREAM_KAFKA to HOST:PORT of one that runs."
        ) from cause
    finally:
        await admin.close()


async def _topics(admin: AIOKafkaAdminClient) -> dict[str, list[Mapping[str, Any]]]:
    """Every topic's partitions. Asking for all makes none, as asking for one by name may."""
    return {
        topic["topic"]: topic["partitions"]
        for topic in await admin.describe_topics()
        if topic["error_code"] == 0
    }


async def _partition_counts(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    topics = await _topics(admin)
    return {name: len(topics[name]) for name in names if name in topics}


async def _brokers(admin: AIOKafkaAdminClient) -> int:
    return len((await admin.describe_cluster())["brokers"])


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> list[str]:
    """The names of those that did not exist. Raises TopicsRefused."""
    if not topics:
        return []
    made = []
    for name, code, *message in (await admin.create_topics(topics)).topic_errors:
        if code == 0:
            made.append(name)
        elif code != _ALREADY_EXISTS:
            why = next(filter(None, message), for_code(code).description)
            raise TopicsRefused(
                f"Kafka did not make the topic {name} ({why}): set LEADSTREAM_KAFKA_REPLICATION if it is about "
                "replication; else have an administrator of the cluster allow it, or make it."
            )
    return made


async def _await_leaders(admin: AIOKafkaAdminClient, names: Iterable[str]) -> None:
    """A topic just made shows, and can be written to, a moment later."""
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            topics = await _topics(admin)
            if all(name in topics and all(p["error_code"] == 0 for p in topics[name]) for name in names):
                return
            await asyncio.sleep(0.05)


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_CHECKED)) for name in names]
    (answer,) = await admin.describe_configs(asked)
    return {name: {key: value for key, value, *_ in entries} for _, _, _, name, entries in answer.resources}


def _miscounted(cluster: Cluster, found: Mapping[str, int], partitions: int) -> list[TopicProblem]:
    """One problem, if all agree on another number."""
    events = cluster.topic(EVENTS)
    wrong = {name: count for name, count in found.items() if count != partitions}
    if len(wrong) > 1 and len(wrong) == len(found) and len(set(wrong.values())) == 1:
        name = events if events in wrong else next(iter(wrong))
        return [_differs(name, wrong[name], partitions, _SET, ", as the other topics have")]
    odd = [name for name in wrong if wrong[name] != found.get(events)]
    problems = []
    for name, count in wrong.items():
        if name == events or count == found.get(events):
            remedy = _SET
        elif odd == [name] and name in map(cluster.topic, _TOPIC_NAMES):
            remedy = f"delete it if nothing is lost with it, or {_BESIDE}"
        else:
            remedy = _BESIDE
        problems.append(_differs(name, count, partitions, remedy))
    return problems


def _differs(name: str, count: int, partitions: int, remedy: str, others: str = "") -> TopicProblem:
    return TopicProblem(
        name, f"has {count} partitions instead of {partitions}{others}", remedy.format(count=count)
    )


_BESIDE = "set another LEADSTREAM_KAFKA_PREFIX to begin anew beside it"
_SET = "set LEADSTREAM_PARTITIONS={count}, or another LEADSTREAM_KAFKA_PREFIX to begin anew beside it"
_TOPIC_NAMES = tuple(topic.name for topic in TOPICS)


def _misconfigured(
    name: str, wanted: Mapping[str, str], configs: Mapping[str, str]
) -> Iterator[TopicProblem]:
    """Keeping more, or taking more, than asked is no problem."""
    for key in _CHECKED:
        if key not in wanted:
            continue
        need, has = wanted[key], configs.get(key, "")
        at_least = key in {"retention.ms", "max.message.bytes"}
        if not (_span(has) >= _span(need) if at_least else has == need):
            yield TopicProblem(
                name,
                f"has {key}={has} instead of {need}",
                f"`kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}={need}` mends it",
                tolerable=key == "retention.ms",
            )


def _span(text: str) -> float:
    number = int(text or 0)
    return float("inf") if number == FOREVER else number


def _require(problems: Sequence[TopicProblem]) -> None:
    if problems:
        raise TopicsRefused(" ".join(map(str, problems)))

"""Measures how far the stages and the read models are behind the log in Kafka.

It counts positions. A few positions hold markers of transactions and no record; when everything is folded, none
is left. The marker of an open transaction counts, too, so that the lag is never zero too early.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from leadstream.operations.kafka_projection import followed_topics, projection_positions
from projections.source import RECREATED_REMEDY
from schemas.record import LogPartition
from schemas.topics import EVENTS
from streams.kafka.closing import close_in_time
from streams.kafka.cluster import Cluster
from streams.kafka.journal import JournalNote, read_notes

_REQUEST_MS = 5_000
_RETRY_SECONDS = 0.2
MEASUREMENT_SECONDS = 15.0
"""How long a measurement may take."""
PROJECTION_STEP = "projection"
HIGHEST_AGE_SECONDS = 10_000_000
"""The highest age: greater ages are measured as this one."""


class Backlog(NamedTuple):
    stages: Mapping[str, int]
    """By stage: how many positions of its source it has not folded."""
    projection: int | None
    """How many positions the read models do not show; None if that is unknown."""
    unknown: str | None = None
    """Why it is unknown."""
    ages: Mapping[str, float] = MappingProxyType({})
    """By stage (and PROJECTION, if its lag is known): seconds since the oldest of these was appended."""
    unowned: Mapping[str, int] = MappingProxyType({})
    """By the same keys: how many of these are in partitions that no member of the group owns."""

    @property
    def total(self) -> int | None:
        return None if self.projection is None else sum(self.stages.values()) + self.projection


class GroupMember(NamedTuple):
    client: str
    host: str
    owned: Collection[TopicPartition] = ()


class _StepLag(NamedTuple):
    """The lag of one step: (next position, positions left) of each partition that it has not read to the end."""

    left: Mapping[TopicPartition, tuple[int, int]]
    unknown: str | None = None
    """Why it is unknown."""

    @property
    def records(self) -> int:
        return sum(left for _, left in self.left.values())


class ConsumerGroup(NamedTuple):
    """A consumer group of Kafka."""

    state: str
    """As Kafka calls it: Stable, PreparingRebalance, CompletingRebalance, Empty, Dead."""
    members: Sequence[GroupMember]


class LagMeter:
    """Belongs to one event loop; `open_lag_meter` opens and closes it."""

    def __init__(
        self,
        cluster: Cluster,
        sources: Mapping[str, str],
        database_url: str,
        consumer: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        database_seconds: float,
    ) -> None:
        self._database_seconds = database_seconds
        self._positions: asyncio.Task[dict[LogPartition, int] | None] | None = None
        self._cluster = cluster
        self._sources = sources
        self._database_url = database_url
        self._consumer = consumer
        self._admin = admin
        self._partitions = 0
        self._projected = [cluster.topic(name) for name in followed_topics(cluster)]

    async def measure(self) -> Backlog:
        """Measures in the order of the flow, so that outputs which a stage writes meanwhile count in the next step.

        Raises KafkaError or TimeoutError; an unreachable database leaves `projection` unknown.
        """
        async with asyncio.timeout(MEASUREMENT_SECONDS):
            await self.partitions()
            steps = {stage: await self._stage(topic) for stage, topic in self._sources.items()}
            stages = {stage: behind.records for stage, behind in steps.items()}
            projection = await self._projected_behind(self._projected)
            if projection.unknown is None:
                steps[PROJECTION_STEP] = projection
            ages = {step: await self._age(behind.left) for step, behind in steps.items()}
            unowned = await self._unowned(steps)
            count = None if projection.unknown else projection.records
            return Backlog(stages, count, projection.unknown, ages, unowned)

    async def unfolded(self) -> int:
        """How many positions the stages have not folded; 0: nothing is left.

        Stage 2 writes into the source of stage 1, too, and may do so after that one was measured. So this measures
        twice: if no source has grown in between, every stage had folded everything at the end of the first time.
        """
        async with asyncio.timeout(MEASUREMENT_SECONDS):
            await self.partitions()
            left, ends = await self._unfolded_and_ends()
            if left:
                return left
            left, later = await self._unfolded_and_ends()
            return left or sum(later.values()) - sum(ends.values())

    async def _unfolded_and_ends(self) -> tuple[int, dict[TopicPartition, int]]:
        """(positions that the stages have not folded, the ends of their sources)"""
        left, ends = 0, dict[TopicPartition, int]()
        for source in self._sources.values():
            partitions = self._topic_partitions([self._cluster.topic(source)])
            of_source = await self._consumer.end_offsets(partitions)
            offsets = await committed_offsets(self._admin, self._cluster.group, partitions)
            left += (await self._behind(of_source, offsets)).records
            ends |= of_source
        return left, ends

    async def unarchived(self) -> int | None:
        """How many positions of `events` the archive lacks; None if that is unknown."""
        async with asyncio.timeout(MEASUREMENT_SECONDS):
            await self.partitions()
            behind = await self._projected_behind([self._cluster.topic(EVENTS)])
            return None if behind.unknown else behind.records

    async def halt_reason(self, backlog: Backlog) -> str | None:
        """Why no process reads what is left, as a text; None if one does."""
        if any(backlog.stages.values()) and not (await self.workers()).members:
            return "no worker runs: start `leadstream worker`"
        if backlog.projection is None:
            return backlog.unknown
        if backlog.projection and not (await self.projections()).members:
            return "no projection runs: start `leadstream project`"
        return None

    async def workers(self) -> ConsumerGroup:
        return await _describe_group(self._admin, self._cluster.group)

    async def projections(self) -> ConsumerGroup:
        return await _describe_group(self._admin, self._cluster.projections_group)

    async def cluster_id(self) -> str:
        return str((await self._admin.describe_cluster())["cluster_id"])

    async def partitions(self) -> int:
        """The number of partitions of every topic."""
        if not self._partitions:
            self._partitions = await partition_count(self._admin, self._cluster)
        return self._partitions

    async def journal(self) -> list[JournalNote]:
        """When workers and projections started, ended and paused."""
        journal: list[JournalNote] = await _ask_coordinator(
            lambda: read_notes(self._admin, self._cluster, self._partitions)
        )
        return journal

    async def _unowned(self, steps: Mapping[str, _StepLag]) -> dict[str, int]:
        """Reads the members of a group only if something is left for it."""
        unowned = dict.fromkeys(steps, 0)
        for ask, names in ((self.workers, self._sources), (self.projections, (PROJECTION_STEP,))):
            if any(steps[name].left for name in names if name in steps):
                owned = {partition for member in (await ask()).members for partition in member.owned}
                for name in names:
                    if name in steps:
                        left = steps[name].left
                        unowned[name] = sum(left[partition][1] for partition in left.keys() - owned)
        return unowned

    async def _age(self, left: Mapping[TopicPartition, tuple[int, int]]) -> float:
        """The age of the oldest record, up to an eighth too high. It comes from the broker's index of positions by
        time, so that unreadable records have an age, too.
        """
        if not left:
            return 0.0
        now = time.time()

        async def older(seconds: float) -> bool:
            since = int((now - seconds) * 1000)
            first = await self._consumer.offsets_for_times(dict.fromkeys(left, since))
            return any(
                first.get(partition) is None or first[partition].offset > position
                for partition, (position, _) in left.items()
            )

        least, most = 0.0, 1.0
        while most < HIGHEST_AGE_SECONDS and await older(most):
            least, most = most, 4 * most
        for _ in range(4 if least else 0):
            middle = (least + most) / 2
            least, most = (middle, most) if await older(middle) else (least, middle)
        return most

    async def _stage(self, source: str) -> _StepLag:
        partitions = self._topic_partitions([self._cluster.topic(source)])
        ends = await self._consumer.end_offsets(partitions)
        return await self._behind(ends, await committed_offsets(self._admin, self._cluster.group, partitions))

    async def _projected_behind(self, topics: Iterable[str]) -> _StepLag:
        partitions = self._topic_partitions(topics)
        positions = await self._contained()
        if positions is None:
            return _StepLag({}, "the database does not answer")
        ends = await self._consumer.end_offsets(partitions)  # last: no position is beyond them
        offsets = {self._partition(partition): next_ for partition, next_ in positions.items()}
        if any(offsets.get(partition, 0) > end for partition, end in ends.items()):
            return _StepLag(
                {}, f"the topics were recreated since the read models were filled: {RECREATED_REMEDY}"
            )
        return await self._behind(ends, offsets)

    async def _contained(self) -> dict[LogPartition, int] | None:
        """None if the database does not answer in time. A query that hangs is abandoned, one at most."""
        if self._positions is None or self._positions.done():
            self._positions = asyncio.create_task(self._read_positions(), name="read positions")
            if (await asyncio.wait({self._positions}, timeout=self._database_seconds))[0]:
                return self._positions.result()
        return None

    async def _read_positions(self) -> dict[LogPartition, int] | None:
        with suppress(psycopg.OperationalError):
            return await asyncio.to_thread(projection_positions, self._database_url)
        return None

    async def _behind(
        self, ends: Mapping[TopicPartition, int], offsets: Mapping[TopicPartition, int]
    ) -> _StepLag:
        """A partition that was never read begins at the start of the log."""
        unread = [partition for partition in ends if partition not in offsets]
        begins = await self._consumer.beginning_offsets(unread) if unread else {}
        next_ = {partition: offsets.get(partition, begins.get(partition, 0)) for partition in ends}
        return _StepLag({p: (next_[p], end - next_[p]) for p, end in ends.items() if end > next_[p]})

    def _topic_partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic in topics for number in range(self._partitions)]

    def _partition(self, partition: LogPartition) -> TopicPartition:
        return TopicPartition(self._cluster.topic(partition[0]), partition[1])


@asynccontextmanager
async def open_lag_meter(
    cluster: Cluster,
    sources: Mapping[str, str],
    database_url: str,
    *,
    database_seconds: float = MEASUREMENT_SECONDS,
) -> AsyncIterator[LagMeter]:
    """`sources`: stage -> the topic that it folds. The database may take `database_seconds` to answer. Raises KafkaError if no
    broker answers.
    """
    async with kafka_clients(cluster) as (consumer, admin):
        yield LagMeter(cluster, sources, database_url, consumer, admin, database_seconds)


@asynccontextmanager
async def kafka_clients(cluster: Cluster) -> AsyncIterator[tuple[AIOKafkaConsumer, AIOKafkaAdminClient]]:
    """Clients for metadata, which read no records. Ends of partitions include what is not committed yet."""
    consumer = AIOKafkaConsumer(
        **cluster.client(), request_timeout_ms=_REQUEST_MS, isolation_level="read_uncommitted"
    )
    admin = AIOKafkaAdminClient(**cluster.client(), request_timeout_ms=_REQUEST_MS)
    try:
        await consumer.start()
        await admin.start()
        yield consumer, admin
    finally:
        await close_in_time(consumer.stop())
        await close_in_time(admin.close())


async def partition_count(admin: AIOKafkaAdminClient, cluster: Cluster) -> int:
    """0 if the topic does not exist. It describes all topics, since describing one may create it."""
    for topic in await admin.describe_topics():
        if topic["topic"] == cluster.topic(EVENTS):
            return len(topic["partitions"])
    return 0


async def committed_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """The committed offsets of a group, without partitions that have none."""
    offsets = await _ask_coordinator(lambda: admin.list_consumer_group_offsets(group, partitions=partitions))
    return {partition: offset.offset for partition, offset in offsets.items() if offset.offset >= 0}


async def _describe_group(admin: AIOKafkaAdminClient, name: str) -> ConsumerGroup:
    (answer,) = await _ask_coordinator(lambda: admin.describe_consumer_groups([name]))
    ((_, _, state, _, _, members, *_),) = answer.groups
    return ConsumerGroup(
        state,
        [
            GroupMember(client, host.lstrip("/"), _owned_partitions(assignment))
            for _, client, host, _, assignment, *_ in members
        ],
    )


def _owned_partitions(assignment: bytes) -> list[TopicPartition]:
    """The partitions of a member; empty while the group assigns them."""
    return ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []


async def _ask_coordinator(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer of a group's coordinator. It retries while no broker is the coordinator yet."""
    async with asyncio.timeout(MEASUREMENT_SECONDS):
        while True:
            try:
                return await ask()
            except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
                await asyncio.sleep(_RETRY_SECONDS)

"""How far the stages and the read models are behind the log in Kafka, asked anew each time.

What is counted are positions: a few hold marks of transactions and no record, and when all is done,
nothing is left. A mark that is still to come counts as well, so that zero is never said too early.
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
from streams.kafka.cluster import Cluster
from streams.kafka.journal import JournalNote, notes

_REQUEST_MS = 5_000
_RETRY_SECONDS = 0.2
SECONDS = 15.0
"""Until asking is given up."""
PROJECTION = "projection"
OLDEST_SECONDS = 10_000_000
"""Ages beyond it are not told apart."""


class Backlog(NamedTuple):
    stages: Mapping[str, int]
    """By stage, positions of its source that it has not passed."""
    projection: int | None
    """Positions that the read models do not show; None if that is not known."""
    unknown: str | None = None
    """Why not."""
    ages: Mapping[str, float] = MappingProxyType({})
    """By stage, and of the projection if it is known: seconds since the oldest of these was appended."""
    unowned: Mapping[str, int] = MappingProxyType({})
    """As `ages`: those in partitions that no member of the group owns."""

    @property
    def total(self) -> int | None:
        return None if self.projection is None else sum(self.stages.values()) + self.projection


class GroupMember(NamedTuple):
    client: str
    host: str
    owned: Collection[TopicPartition] = ()


class _Behind(NamedTuple):
    """Of one step: of each partition that it has not read to the end, (next position, how many are left)."""

    left: Mapping[TopicPartition, tuple[int, int]]
    unknown: str | None = None
    """Why that is not known."""

    @property
    def records(self) -> int:
        return sum(left for _, left in self.left.values())


class ConsumerGroup(NamedTuple):
    """Of consumers."""

    state: str
    """As Kafka calls it: Stable, PreparingRebalance, CompletingRebalance, Empty, Dead."""
    members: Sequence[GroupMember]


class Lag:
    """For one event loop; `lag_of` opens and closes it."""

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
        """In the order of the flow, so that what a stage had yet to write is seen behind it.

        Raises KafkaError or TimeoutError; an unreachable database leaves `projection` unknown.
        """
        async with asyncio.timeout(SECONDS):
            await self.partitions()
            steps = {stage: await self._stage(topic) for stage, topic in self._sources.items()}
            stages = {stage: behind.records for stage, behind in steps.items()}
            projection = await self._projected_behind(self._projected)
            if projection.unknown is None:
                steps[PROJECTION] = projection
            ages = {step: await self._age(behind.left) for step, behind in steps.items()}
            unowned = await self._unowned(steps)
            count = None if projection.unknown else projection.records
            return Backlog(stages, count, projection.unknown, ages, unowned)

    async def settled(self) -> bool:
        """Whether the stages have nothing left to fold.

        Stage 2 writes into the source of stage 1, too, and may do so after that one was measured. So this measures
        twice: if no source has grown in between, every stage had folded everything at the end of the first time.
        """
        async with asyncio.timeout(SECONDS):
            await self.partitions()
            ends = await self._folded_ends()
            return ends is not None and ends == await self._folded_ends()

    async def _folded_ends(self) -> dict[TopicPartition, int] | None:
        """The ends of the stages' sources; None: a stage has not folded its source to the end."""
        ends: dict[TopicPartition, int] = {}
        for source in self._sources.values():
            partitions = self._slots([self._cluster.topic(source)])
            of_source = await self._consumer.end_offsets(partitions)
            offsets = await committed(self._admin, self._cluster.group, partitions)
            if (await self._behind(of_source, offsets)).left:
                return None
            ends |= of_source
        return ends

    async def unarchived(self) -> int | None:
        """Positions of `events` that the archive lacks; None if that is not known."""
        async with asyncio.timeout(SECONDS):
            await self.partitions()
            behind = await self._projected_behind([self._cluster.topic(EVENTS)])
            return None if behind.unknown else behind.records

    async def standstill(self, backlog: Backlog) -> str | None:
        """Why nobody does what is left, in words; None: somebody is there."""
        if any(backlog.stages.values()) and not (await self.workers()).members:
            return "no worker is there: start `leadstream worker`"
        if backlog.projection is None:
            return backlog.unknown
        if backlog.projection and not (await self.projections()).members:
            return "nobody makes the read models: start `leadstream project`"
        return None

    async def workers(self) -> ConsumerGroup:
        return await _group(self._admin, self._cluster.group)

    async def projections(self) -> ConsumerGroup:
        return await _group(self._admin, self._cluster.projections_group)

    async def cluster_id(self) -> str:
        return str((await self._admin.describe_cluster())["cluster_id"])

    async def partitions(self) -> int:
        """Of every topic."""
        if not self._partitions:
            self._partitions = await partition_count(self._admin, self._cluster)
        return self._partitions

    async def journal(self) -> list[JournalNote]:
        """When workers and projections started, ended and paused."""
        found: list[JournalNote] = await _coordinated(
            lambda: notes(self._admin, self._cluster, self._partitions)
        )
        return found

    async def _unowned(self, steps: Mapping[str, _Behind]) -> dict[str, int]:
        """Asks for nobody where nothing is left."""
        found = dict.fromkeys(steps, 0)
        for ask, names in ((self.workers, self._sources), (self.projections, (PROJECTION,))):
            if any(steps[name].left for name in names if name in steps):
                owned = {partition for member in (await ask()).members for partition in member.owned}
                for name in names:
                    if name in steps:
                        left = steps[name].left
                        found[name] = sum(left[partition][1] for partition in left.keys() - owned)
        return found

    async def _age(self, left: Mapping[TopicPartition, tuple[int, int]]) -> float:
        """Within an eighth, and no less. The broker is asked for positions by time, so that records which nobody can
        read have an age, too.
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
        while most < OLDEST_SECONDS and await older(most):
            least, most = most, 4 * most
        for _ in range(4 if least else 0):
            middle = (least + most) / 2
            least, most = (middle, most) if await older(middle) else (least, middle)
        return most

    async def _stage(self, source: str) -> _Behind:
        partitions = self._slots([self._cluster.topic(source)])
        ends = await self._consumer.end_offsets(partitions)
        return await self._behind(ends, await committed(self._admin, self._cluster.group, partitions))

    async def _projected_behind(self, topics: Iterable[str]) -> _Behind:
        partitions = self._slots(topics)
        positions = await self._contained()
        if positions is None:
            return _Behind({}, "the database does not answer")
        ends = await self._consumer.end_offsets(partitions)  # last: no position is beyond them
        passed = {self._partition(slot): next_ for slot, next_ in positions.items()}
        if any(passed.get(partition, 0) > end for partition, end in ends.items()):
            return _Behind({}, f"the read models are of topics that were made anew since: {RECREATED_REMEDY}")
        return await self._behind(ends, passed)

    async def _contained(self) -> dict[LogPartition, int] | None:
        """None: the database does not say so in time. A question that hangs is left behind, one at most."""
        if self._positions is None or self._positions.done():
            self._positions = asyncio.create_task(self._ask_for_positions(), name="ask for positions")
            if (await asyncio.wait({self._positions}, timeout=self._database_seconds))[0]:
                return self._positions.result()
        return None

    async def _ask_for_positions(self) -> dict[LogPartition, int] | None:
        with suppress(psycopg.OperationalError):
            return await asyncio.to_thread(projection_positions, self._database_url)
        return None

    async def _behind(
        self, ends: Mapping[TopicPartition, int], passed: Mapping[TopicPartition, int]
    ) -> _Behind:
        """What nobody has read yet begins where the log does."""
        unread = [partition for partition in ends if partition not in passed]
        begins = await self._consumer.beginning_offsets(unread) if unread else {}
        next_ = {partition: passed.get(partition, begins.get(partition, 0)) for partition in ends}
        return _Behind({p: (next_[p], end - next_[p]) for p, end in ends.items() if end > next_[p]})

    def _slots(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic in topics for number in range(self._partitions)]

    def _partition(self, slot: LogPartition) -> TopicPartition:
        return TopicPartition(self._cluster.topic(slot[0]), slot[1])


@asynccontextmanager
async def lag_of(
    cluster: Cluster, sources: Mapping[str, str], database_url: str, *, database_seconds: float = SECONDS
) -> AsyncIterator[Lag]:
    """`sources`: stage -> the topic that it folds. The database is given so long to answer. Raises KafkaError if no
    broker answers.
    """
    async with asking(cluster) as (consumer, admin):
        yield Lag(cluster, sources, database_url, consumer, admin, database_seconds)


@asynccontextmanager
async def asking(cluster: Cluster) -> AsyncIterator[tuple[AIOKafkaConsumer, AIOKafkaAdminClient]]:
    """Clients that ask a broker and read nothing; ends count what is not committed yet."""
    consumer = AIOKafkaConsumer(
        **cluster.client(), request_timeout_ms=_REQUEST_MS, isolation_level="read_uncommitted"
    )
    admin = AIOKafkaAdminClient(**cluster.client(), request_timeout_ms=_REQUEST_MS)
    try:
        await consumer.start()
        await admin.start()
        yield consumer, admin
    finally:
        await consumer.stop()
        await admin.close()


async def partition_count(admin: AIOKafkaAdminClient, cluster: Cluster) -> int:
    """0: there is no topic. Asked for among all, since a question for one may make it."""
    for topic in await admin.describe_topics():
        if topic["topic"] == cluster.topic(EVENTS):
            return len(topic["partitions"])
    return 0


async def committed(
    admin: AIOKafkaAdminClient, group: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """How far a group has come; partitions of which it never said so are missing."""
    found = await _coordinated(lambda: admin.list_consumer_group_offsets(group, partitions=partitions))
    return {partition: offset.offset for partition, offset in found.items() if offset.offset >= 0}


async def _group(admin: AIOKafkaAdminClient, name: str) -> ConsumerGroup:
    (answer,) = await _coordinated(lambda: admin.describe_consumer_groups([name]))
    ((_, _, state, _, _, members, *_),) = answer.groups
    return ConsumerGroup(
        state,
        [
            GroupMember(client, host.lstrip("/"), _owned(assignment))
            for _, client, host, _, assignment, *_ in members
        ],
    )


def _owned(assignment: bytes) -> list[TopicPartition]:
    """Nothing, while the group shares its partitions out."""
    return ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []


async def _coordinated(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer of a group's coordinator, which a broker may be about to appoint."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await ask()
            except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
                await asyncio.sleep(_RETRY_SECONDS)

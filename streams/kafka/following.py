"""Follows topics as a member of a consumer group: gives chunks to a taker, which keeps the positions.

The group only assigns the partitions. The taker gives the positions to continue from: after each assignment, and
again whenever it rejects a chunk that does not start at its position. So no record is skipped when partitions are
revoked in the middle of a batch. Offsets are committed for monitors and never read back.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from schemas.record import Chunk, LogPartition, LogUnreadableError, Record, skip_reason
from streams.kafka.closing import close_in_time
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.private_names import close_consumer
from streams.kafka.reading import COMMITTED_ISOLATION, ChunkReader, is_about_content
from streams.kafka.skips import fetch_skips

NextPositions = Callable[[Mapping[LogPartition, int]], Mapping[LogPartition, int]]
"""Gets the first available position of each partition; returns the position to read next. Called in a thread."""
TakeChunks = Callable[[Sequence[Chunk]], bool]
"""Takes a batch. False: the chunks do not continue at its positions, so these must be asked for again.
Called in a thread."""

WatchBacklog = Callable[[Mapping[LogPartition, int]], None]
"""Gets the number of positions left in each followed partition, as far as it is known; called repeatedly."""

MOST_BATCH_RECORDS = 5_000
"""In a batch."""
MOST_BATCH_BYTES = 8 * 1024 * 1024
"""Of a batch's keys and values, roughly: a single record may exceed it."""
FETCHED_BYTES = 512 * 1024
"""Fetched ahead of one partition."""
READ_SECONDS = 0.5
COMMIT_SECONDS = 1.0
QUIET_SECONDS = 3.0
"""After this time without a record, a request checks that the cluster answers."""
ANSWER_SECONDS = 8.0
JOIN_SECONDS = 60.0
STUCK_SECONDS = 60.0
RETRY_UNREADABLE_SECONDS = 5.0
"""Between two attempts to read an unreadable partition."""


class PositionOutOfRange(RuntimeError):
    """Kafka does not hold the next position; the message names the remedy."""

    def __init__(self, log_partition: LogPartition, position: int, first: int, end: int) -> None:
        name = f"{log_partition[0]}/{log_partition[1]}"
        super().__init__(
            f"{name}: Kafka no longer holds position {position}, which comes next: it holds {first} to {end - 1}. "
            "Run `leadstream rebuild`: it keeps what the read models contain, names the rows that no log holds any more, and "
            "goes on with what Kafka holds."
            if position < first
            else f"{name}: position {position} comes next, and Kafka's topic ends at {end}, so the topics were "
            "deleted and created again: set LEADSTREAM_DATABASE_URL to another database, or another LEADSTREAM_KAFKA_PREFIX."
        )


class DescribedTopics(NamedTuple):
    cluster_id: str
    log_partitions: list[LogPartition]
    """Every partition of the requested topics."""


async def describe_topics(cluster: Cluster, topics: Iterable[str]) -> DescribedTopics:
    """The cluster's id and the topics' partitions. Raises KafkaUnavailable, also while a topic is missing."""
    names = {cluster.topic(topic): topic for topic in topics}
    admin = AIOKafkaAdminClient(**cluster.client())
    try:
        await asyncio.wait_for(admin.start(), ANSWER_SECONDS)
        description = await asyncio.wait_for(admin.describe_cluster(), ANSWER_SECONDS)
        topic_metadata = await asyncio.wait_for(admin.describe_topics(list(names)), ANSWER_SECONDS)
    except (KafkaError, TimeoutError) as cause:
        raise no_answer_error(cluster) from cause
    finally:
        await close_in_time(admin.close())
    log_partitions = [
        (names[each["topic"]], partition["partition"])
        for each in topic_metadata
        for partition in each["partitions"]
    ]
    if missing := sorted(names.keys() - {cluster.topic(topic) for topic, _ in log_partitions}):
        raise KafkaUnavailable(
            f"Kafka at {cluster.brokers} has no topic {', '.join(missing)}: run `leadstream topics create`."
        )
    return DescribedTopics(str(description["cluster_id"]), sorted(log_partitions))


async def follow_topics(
    cluster: Cluster,
    topics: Iterable[str],
    *,
    stop: threading.Event,
    positions: NextPositions,
    take: TakeChunks,
    report: Callable[[str | None], None],
    watch: WatchBacklog | None = None,
    member: str | None = None,
) -> None:
    """Follows until `stop` is set. Calls `report` whenever the cluster has answered: with a reason if a partition is
    unreadable (it is tried again until an operator skips the record), else with None. Calls `watch` after each batch.
    `member` makes it a static member: the group keeps its partitions over a restart.

    Raises KafkaUnavailable, PositionOutOfRange, whatever `positions` and `take` raise, and aiokafka's errors.
    """
    names = sorted(set(topics))
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        group_id=cluster.projections_group,
        group_instance_id=member,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=COMMITTED_ISOLATION,
        fetch_max_wait_ms=250,
        max_partition_fetch_bytes=FETCHED_BYTES,
        fetch_max_bytes=MOST_BATCH_BYTES,
    )
    members = _Membership(cluster)
    consumer.subscribe([cluster.topic(name) for name in names], listener=members)
    try:
        try:
            await asyncio.wait_for(consumer.start(), JOIN_SECONDS)
        except TimeoutError as cause:
            raise no_answer_error(cluster) from cause
        following = _Following(cluster, consumer, members, positions, take, report, watch)
        while not stop.is_set():
            await following.step()
    finally:
        await close_consumer(consumer)


class _Membership(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """The last assignment. Does nothing else: aiokafka swallows what a listener raises."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.turn = 0
        """Counts assignments and revocations."""
        self.log_partitions: list[LogPartition] | None = None
        """None during a rebalance."""

    def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        self.turn += 1
        self.log_partitions = None

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.turn += 1
        self.log_partitions = sorted((self._cluster.name_of(p.topic), p.partition) for p in assigned)


class _Following:
    def __init__(
        self,
        cluster: Cluster,
        consumer: AIOKafkaConsumer,
        members: _Membership,
        positions: NextPositions,
        take: TakeChunks,
        report: Callable[[str | None], None],
        watch: WatchBacklog | None,
    ) -> None:
        self._cluster = cluster
        self._consumer = consumer
        self._members = members
        self._positions = positions
        self._take = take
        self._report = report
        self._watch = watch
        self._reader = ChunkReader(consumer, cluster)
        self._positioned_turn: int | None = None
        """The turn for which every partition was positioned; None: positions must be asked for again."""
        self._unreadable: dict[LogPartition, str] = {}
        """Unreadable partitions, and why. The others are read on."""
        self._paused: set[LogPartition] = set()
        """Those of them that are not looked at again just now."""
        self._look_again_at = 0.0
        self._next: dict[LogPartition, int] = {}
        """The position after what the taker took, per partition."""
        self._committed: dict[LogPartition, int] = {}
        self._commit_at = self._answered_at = self._received_at = _now()

    async def step(self) -> None:
        """Reads and hands over once, or finds out why nothing comes."""
        turn = self._members.turn
        if self._members.log_partitions is None:
            await self._wait_for_members()
        elif self._positioned_turn != turn:
            await self._seek_to_positions(turn, self._members.log_partitions)
        else:
            chunks = await self._read()
            if turn == self._members.turn:
                await self._hand_over(turn, chunks)
                await self._commit(turn)
                self._report_backlog()
        if _now() - self._answered_at > QUIET_SECONDS:
            await self._check_cluster()

    async def _wait_for_members(self) -> None:
        """Reads during a rebalance: aiokafka reports errors only to a caller that reads. The records are dropped: every
        partition is positioned again afterwards.
        """
        try:
            await asyncio.wait_for(self._consumer.getmany(timeout_ms=200, max_records=1), READ_SECONDS)
        except (TimeoutError, NoOffsetForPartitionError, OffsetOutOfRangeError):
            pass
        except Exception as error:
            if not is_about_content(error):
                raise

    async def _seek_to_positions(self, turn: int, log_partitions: Sequence[LogPartition]) -> None:
        partitions = {
            log_partition: self._reader.partition(log_partition) for log_partition in log_partitions
        }
        beginnings = await self._await_answer(self._consumer.beginning_offsets(list(partitions.values())))
        starts = {log_partition: beginnings[partition] for log_partition, partition in partitions.items()}
        positions = await asyncio.to_thread(self._positions, starts)
        for log_partition, position in positions.items():
            if position < starts[log_partition]:
                end = await self._await_answer(self._consumer.end_offsets([partitions[log_partition]]))
                raise PositionOutOfRange(
                    log_partition, position, starts[log_partition], end[partitions[log_partition]]
                )
        if turn != self._members.turn:
            return
        self._reader.forget()
        for log_partition, position in positions.items():
            self._reader.seek(log_partition, position)
        self._unreadable, self._paused = {}, set()
        self._next, self._committed = dict(positions), {}
        self._positioned_turn = turn
        self._received_at = _now()
        self._cluster_answered()

    async def _read(self) -> list[Chunk]:
        try:
            if not self._members.log_partitions:  # more members than partitions
                await asyncio.sleep(READ_SECONDS)
                return []
            if self._paused and _now() >= self._look_again_at:
                self._consumer.resume(*map(self._reader.partition, self._paused))
                self._paused.clear()
            log_partitions = [
                log_partition
                for log_partition in self._reader.log_partitions
                if log_partition not in self._paused
            ]
            if not log_partitions:
                await asyncio.sleep(READ_SECONDS)
            return await self._without_unreadable(
                await self._reader.read(seconds=READ_SECONDS, most=MOST_BATCH_RECORDS, of=log_partitions)
            )
        except NoOffsetForPartitionError:
            return []  # between the assignment and its seeks
        except OffsetOutOfRangeError as cause:
            self._positioned_turn = None
            for partition, position in cause.args[0].items():
                first = (await self._await_answer(self._consumer.beginning_offsets([partition])))[partition]
                end = (await self._await_answer(self._consumer.end_offsets([partition])))[partition]
                if not first <= position <= end:
                    log_partition = self._cluster.name_of(partition.topic), partition.partition
                    raise PositionOutOfRange(log_partition, position, first, end) from cause
            return []

    async def _without_unreadable(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks that can be read, or that an operator has skipped; the other partitions are paused."""
        readable = []
        for chunk in chunks:
            try:
                readable.append(await with_skip_reason(self._cluster, chunk))
                self._unreadable.pop((chunk.topic, chunk.partition), None)
            except LogUnreadableError as error:
                self._unreadable[error.slot] = str(error)
                self._paused.add(error.slot)
                self._look_again_at = _now() + RETRY_UNREADABLE_SECONDS
                self._reader.seek(error.slot, error.position)
                self._consumer.pause(
                    self._reader.partition(error.slot)
                )  # else aiokafka would fetch it in a loop
                self._cluster_answered()
        return readable

    async def _hand_over(self, turn: int, chunks: Sequence[Chunk]) -> None:
        if chunks:
            self._received_at = _now()
            self._cluster_answered()
        for batch in batches_of_chunks(chunks, MOST_BATCH_RECORDS, MOST_BATCH_BYTES):
            taken = await asyncio.to_thread(self._take, batch)
            if not taken:
                self._positioned_turn = None
                return
            self._next.update({(chunk.topic, chunk.partition): chunk.next for chunk in batch})
            if turn != self._members.turn:
                return

    def _report_backlog(self) -> None:
        if self._watch is None:
            return
        owned = self._consumer.assignment()  # a rebalance may have taken some since they were read
        backlog = {}
        for log_partition, position in self._next.items():
            partition = self._reader.partition(log_partition)
            if partition in owned:
                end = self._consumer.last_stable_offset(partition) or position
                backlog[log_partition] = max(0, end - position)
        self._watch(backlog)

    async def _commit(self, turn: int) -> None:
        """Commits offsets from time to time, for monitors. A failure is ignored: the taker's positions count."""
        if turn != self._members.turn or _now() < self._commit_at:
            return
        changed = {
            log_partition: at
            for log_partition, at in self._next.items()
            if self._committed.get(log_partition) != at
        }
        if not changed:
            return
        self._commit_at = _now() + COMMIT_SECONDS
        with suppress(KafkaError, IllegalStateError, TimeoutError):
            offsets = {self._reader.partition(log_partition): at for log_partition, at in changed.items()}
            await asyncio.wait_for(self._consumer.commit(offsets), ANSWER_SECONDS)
            self._committed.update(changed)

    async def _check_cluster(self) -> None:
        """Raises KafkaUnavailable if the cluster does not answer, or holds records that do not come."""
        partitions = [
            self._reader.partition(log_partition) for log_partition in self._members.log_partitions or ()
        ]
        if not partitions:
            topic = min(self._consumer.subscription())
            partitions = [TopicPartition(topic, 0)]
        ends = await self._await_answer(self._consumer.end_offsets(partitions))
        behind = [
            log_partition
            for log_partition, at in self._next.items()
            if log_partition not in self._paused and ends.get(self._reader.partition(log_partition), at) > at
        ]
        if (
            behind
            and self._positioned_turn == self._members.turn
            and _now() - self._received_at > STUCK_SECONDS
        ):
            raise KafkaUnavailable(
                f"Kafka at {self._cluster.brokers} sends nothing of {behind[0][0]}/{behind[0][1]}."
            )
        self._cluster_answered()

    async def _await_answer(
        self, request: "asyncio.Future[dict[TopicPartition, int]]"
    ) -> dict[TopicPartition, int]:
        try:
            return await asyncio.wait_for(request, ANSWER_SECONDS)
        except (KafkaError, TimeoutError) as cause:
            raise no_answer_error(self._cluster) from cause

    def _cluster_answered(self) -> None:
        self._answered_at = _now()
        self._report(" ".join(why for _, why in sorted(self._unreadable.items())) or None)


async def with_skip_reason(cluster: Cluster, chunk: Chunk) -> Chunk:
    """A readable chunk is returned unchanged. An unreadable record, which is alone in its chunk, gets the reason for
    which an operator skipped it. Raises LogUnreadableError if nobody skipped it.
    """
    if not chunk.records or (broken := chunk.records[0].unreadable) is None:
        return chunk
    record = chunk.records[0]
    log_partition = chunk.topic, chunk.partition
    reason = skip_reason(record, (await fetch_skips(cluster, [log_partition])).get(log_partition, {}))
    if reason is None:
        raise LogUnreadableError(record, broken)
    return chunk._replace(records=[record._replace(unreadable=broken._replace(reason=reason))])


def batches_of_chunks(chunks: Iterable[Chunk], records: int, size: int) -> Iterator[list[Chunk]]:
    """The same chunks in the same order, cut into batches of at most `records` records and `size` bytes. A larger
    record is a batch of its own.
    """
    batch: list[Chunk] = []
    left, room = records, size
    for chunk in chunks:
        start, part = chunk.start, list[Record]()
        for record in chunk.records:
            weight = len(record.key) + len(record.value or b"")
            if left < 1 or (weight > room and left < records):
                if record.position > start:
                    batch.append(chunk._replace(start=start, next=record.position, records=part))
                    start, part = record.position, []
                yield batch
                batch, left, room = [], records, size
            part.append(record)
            left, room = left - 1, room - weight
        batch.append(chunk._replace(start=start, records=part))
    if batch:
        yield batch


def no_answer_error(cluster: Cluster) -> KafkaUnavailable:
    return KafkaUnavailable(f"Kafka at {cluster.brokers} does not answer.")


def _now() -> float:
    return asyncio.get_running_loop().time()

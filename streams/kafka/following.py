"""Follows topics as one of a group: gives chunks to who keeps the positions, and goes where these say.

The group only shares out the partitions; where to read stands with the taker, who is asked whenever
partitions come, and again when what it holds does not fit what it was given. So whatever is taken
away in mid-course, nothing is passed over. Offsets are committed for monitors and never read back.
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
from streams.kafka.cluster import Cluster
from streams.kafka.private_names import close
from streams.kafka.reading import COMMITTED, ChunkReader, is_about_content
from streams.kafka.skips import fetch_skips

Positions = Callable[[Mapping[LogPartition, int]], Mapping[LogPartition, int]]
"""Given the first position that the log holds of each partition: where to read on. Called in a thread."""
Take = Callable[[Sequence[Chunk]], bool]
"""Takes a batch; False: the chunks are not what comes next, so positions are to be asked for again.
Called in a thread."""

Watch = Callable[[Mapping[LogPartition, int]], None]
"""Is told how many positions are left of each partition that is followed, as far as it is known; again and again."""

MOST_RECORDS = 5_000
"""Of a batch."""
MOST_BYTES = 8 * 1024 * 1024
"""Of a batch's keys and values, about: a single record may exceed it."""
FETCHED_BYTES = 512 * 1024
"""Of one partition, read ahead."""
READ_SECONDS = 0.5
COMMIT_SECONDS = 1.0
QUIET_SECONDS = 3.0
"""After so long without a record the cluster is asked whether it is there."""
ANSWER_SECONDS = 8.0
JOIN_SECONDS = 60.0
STUCK_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 5.0
"""Between two looks at a partition that cannot be read on."""


class KafkaUnavailable(RuntimeError):
    """The cluster does not answer, or has no such topics yet: try again later."""


class PositionOutOfRange(RuntimeError):
    """Kafka does not hold what comes next; the message names the remedy."""

    def __init__(self, slot: LogPartition, position: int, first: int, end: int) -> None:
        place = f"{slot[0]}/{slot[1]}"
        super().__init__(
            f"{place}: Kafka no longer holds position {position}, which comes next: it holds {first} to {end - 1}. "
            "Run `leadstream rebuild`: it keeps what the read models contain, names the rows that are lost for good, and "
            "goes on with what Kafka holds."
            if position < first
            else f"{place}: position {position} comes next, and Kafka's topic ends at {end}, so the topics were made anew "
            "since: set LEADSTREAM_DATABASE_URL to another database, or another LEADSTREAM_KAFKA_PREFIX."
        )


class Described(NamedTuple):
    cluster_id: str
    slots: list[LogPartition]
    """Every partition of the topics asked for."""


async def describe(cluster: Cluster, topics: Iterable[str]) -> Described:
    """Whose topics these are. Raises KafkaAway, also while one of them is missing."""
    names = {cluster.topic(topic): topic for topic in topics}
    admin = AIOKafkaAdminClient(**cluster.client())
    try:
        await asyncio.wait_for(admin.start(), ANSWER_SECONDS)
        told = await asyncio.wait_for(admin.describe_cluster(), ANSWER_SECONDS)
        found = await asyncio.wait_for(admin.describe_topics(list(names)), ANSWER_SECONDS)
    except (KafkaError, TimeoutError) as cause:
        raise silent(cluster) from cause
    finally:
        await admin.close()
    slots = [
        (names[each["topic"]], partition["partition"]) for each in found for partition in each["partitions"]
    ]
    if missing := sorted(names.keys() - {cluster.topic(topic) for topic, _ in slots}):
        raise KafkaUnavailable(
            f"Kafka at {cluster.brokers} has no topic {', '.join(missing)}: run `leadstream topics create`."
        )
    return Described(str(told["cluster_id"]), sorted(slots))


async def follow(
    cluster: Cluster,
    topics: Iterable[str],
    *,
    stop: threading.Event,
    positions: Positions,
    take: Take,
    going: Callable[[str | None], None],
    watch: Watch | None = None,
    member: str | None = None,
) -> None:
    """Until `stop` is set; `going` is called whenever the cluster has been heard, with the reason if a
    partition cannot be read on (it is looked at again until somebody skips it); `watch` after each
    batch. `member` names who
    follows across restarts: the group waits for it instead of sharing its partitions out.

    Raises KafkaAway, PositionLost, whatever `positions` and `take` raise, and aiokafka's errors.
    """
    names = sorted(set(topics))
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        group_id=cluster.projections_group,
        group_instance_id=member,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=COMMITTED,
        fetch_max_wait_ms=250,
        max_partition_fetch_bytes=FETCHED_BYTES,
        fetch_max_bytes=MOST_BYTES,
    )
    members = _Membership(cluster)
    consumer.subscribe([cluster.topic(name) for name in names], listener=members)
    try:
        try:
            await asyncio.wait_for(consumer.start(), JOIN_SECONDS)
        except TimeoutError as cause:
            raise silent(cluster) from cause
        following = _Following(cluster, consumer, members, positions, take, going, watch)
        while not stop.is_set():
            await following.step()
    finally:
        await close(consumer)


class _Membership(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """What the group gave us last. Does nothing by itself: aiokafka swallows what a listener raises."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.turn = 0
        """Counts what the group decides."""
        self.slots: list[LogPartition] | None = None
        """None while it decides."""

    def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        self.turn += 1
        self.slots = None

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.turn += 1
        self.slots = sorted((self._cluster.name_of(p.topic), p.partition) for p in assigned)


class _Following:
    def __init__(
        self,
        cluster: Cluster,
        consumer: AIOKafkaConsumer,
        members: _Membership,
        positions: Positions,
        take: Take,
        going: Callable[[str | None], None],
        watch: Watch | None,
    ) -> None:
        self._cluster = cluster
        self._consumer = consumer
        self._members = members
        self._positions = positions
        self._take = take
        self._going = going
        self._watch = watch
        self._reader = ChunkReader(consumer, cluster)
        self._placed: int | None = None
        """The turn whose partitions stand where they should; None: they are to be placed anew."""
        self._stuck: dict[LogPartition, str] = {}
        """Partitions that cannot be read on, and why; the others are."""
        self._look_again_at = 0.0
        self._next: dict[LogPartition, int] = {}
        """What was taken, per partition."""
        self._committed: dict[LogPartition, int] = {}
        self._commit_at = self._heard_at = self._got_at = _now()

    async def step(self) -> None:
        """Reads and hands over once, or finds out what stands in the way."""
        turn = self._members.turn
        if self._members.slots is None:
            await self._wait_for_members()
        elif self._placed != turn:
            await self._place(turn, self._members.slots)
        else:
            chunks = await self._read()
            if turn == self._members.turn:
                await self._hand_over(turn, chunks)
                await self._commit(turn)
                self._show()
        if _now() - self._heard_at > QUIET_SECONDS:
            await self._ask()

    async def _wait_for_members(self) -> None:
        """Reading is how aiokafka tells an error and learns that we are alive. What it gives is dropped:
        every partition is placed anew afterwards.
        """
        try:
            await asyncio.wait_for(self._consumer.getmany(timeout_ms=200, max_records=1), READ_SECONDS)
        except (TimeoutError, NoOffsetForPartitionError, OffsetOutOfRangeError):
            pass
        except Exception as error:
            if not is_about_content(error):
                raise

    async def _place(self, turn: int, slots: Sequence[LogPartition]) -> None:
        partitions = {slot: self._reader.partition(slot) for slot in slots}
        found = await self._answered(self._consumer.beginning_offsets(list(partitions.values())))
        starts = {slot: found[partition] for slot, partition in partitions.items()}
        places = await asyncio.to_thread(self._positions, starts)
        for slot, position in places.items():
            if position < starts[slot]:
                end = await self._answered(self._consumer.end_offsets([partitions[slot]]))
                raise PositionOutOfRange(slot, position, starts[slot], end[partitions[slot]])
        if turn != self._members.turn:
            return
        self._reader.forget()
        for slot, position in places.items():
            self._reader.seek(slot, position)
        self._stuck = {}
        self._next, self._committed = dict(places), {}
        self._placed = turn
        self._got_at = _now()
        self._heard()

    async def _read(self) -> list[Chunk]:
        try:
            if not self._members.slots:  # more members than partitions
                await asyncio.sleep(READ_SECONDS)
                return []
            if self._stuck and _now() >= self._look_again_at:
                self._consumer.resume(*map(self._reader.partition, self._stuck))
                self._stuck.clear()
            slots = [slot for slot in self._reader.slots if slot not in self._stuck]
            if not slots:
                await asyncio.sleep(READ_SECONDS)
            return await self._passed(
                await self._reader.read(seconds=READ_SECONDS, most=MOST_RECORDS, of=slots)
            )
        except NoOffsetForPartitionError:
            return []  # of the moment between the assignment and its seeks
        except OffsetOutOfRangeError as cause:
            self._placed = None
            for partition, position in cause.args[0].items():
                first = (await self._answered(self._consumer.beginning_offsets([partition])))[partition]
                end = (await self._answered(self._consumer.end_offsets([partition])))[partition]
                if not first <= position <= end:
                    slot = self._cluster.name_of(partition.topic), partition.partition
                    raise PositionOutOfRange(slot, position, first, end) from cause
            return []

    async def _passed(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Without those that nobody can read, if nobody has asked to skip them."""
        passed = []
        for chunk in chunks:
            try:
                passed.append(await pass_skipped(self._cluster, chunk))
            except LogUnreadableError as error:
                self._stuck[error.slot] = str(error)
                self._look_again_at = _now() + LOOK_AGAIN_SECONDS
                self._reader.seek(error.slot, error.position)
                self._consumer.pause(
                    self._reader.partition(error.slot)
                )  # or it would be asked for again and again
                self._heard()
        return passed

    async def _hand_over(self, turn: int, chunks: Sequence[Chunk]) -> None:
        if chunks:
            self._got_at = _now()
            self._heard()
        for batch in batches(chunks, MOST_RECORDS, MOST_BYTES):
            taken = await asyncio.to_thread(self._take, batch)
            if not taken:
                self._placed = None
                return
            self._next.update({(chunk.topic, chunk.partition): chunk.next for chunk in batch})
            if turn != self._members.turn:
                return

    def _show(self) -> None:
        if self._watch is not None:
            ends = {
                slot: self._consumer.last_stable_offset(self._reader.partition(slot)) for slot in self._next
            }
            self._watch({slot: max(0, (ends[slot] or at) - at) for slot, at in self._next.items()})

    async def _commit(self, turn: int) -> None:
        """Now and then, for monitors. The taker's positions are what counts, so a failure is none."""
        if turn != self._members.turn or _now() < self._commit_at:
            return
        moved = {slot: at for slot, at in self._next.items() if self._committed.get(slot) != at}
        if not moved:
            return
        self._commit_at = _now() + COMMIT_SECONDS
        with suppress(KafkaError, IllegalStateError, TimeoutError):
            offsets = {self._reader.partition(slot): at for slot, at in moved.items()}
            await asyncio.wait_for(self._consumer.commit(offsets), ANSWER_SECONDS)
            self._committed.update(moved)

    async def _ask(self) -> None:
        """Whether the cluster is there, and whether it has records that do not come."""
        partitions = [self._reader.partition(slot) for slot in self._members.slots or ()]
        if not partitions:
            topic = min(self._consumer.subscription())
            partitions = [TopicPartition(topic, 0)]
        ends = await self._answered(self._consumer.end_offsets(partitions))
        behind = [
            slot
            for slot, at in self._next.items()
            if slot not in self._stuck and ends.get(self._reader.partition(slot), at) > at
        ]
        if behind and self._placed == self._members.turn and _now() - self._got_at > STUCK_SECONDS:
            raise KafkaUnavailable(
                f"Kafka at {self._cluster.brokers} sends nothing of {behind[0][0]}/{behind[0][1]}."
            )
        self._heard()

    async def _answered(
        self, asked: "asyncio.Future[dict[TopicPartition, int]]"
    ) -> dict[TopicPartition, int]:
        try:
            return await asyncio.wait_for(asked, ANSWER_SECONDS)
        except (KafkaError, TimeoutError) as cause:
            raise silent(self._cluster) from cause

    def _heard(self) -> None:
        self._heard_at = _now()
        self._going(next(iter(self._stuck.values()), None))


async def pass_skipped(cluster: Cluster, chunk: Chunk) -> Chunk:
    """The chunk, whose unreadable record (it has no other) says why it is skipped. Raises LogUnreadableError if
    nobody has asked to skip it.
    """
    if not chunk.records or (broken := chunk.records[0].unreadable) is None:
        return chunk
    record = chunk.records[0]
    slot = chunk.topic, chunk.partition
    reason = skip_reason(record, (await fetch_skips(cluster, [slot])).get(slot, {}))
    if reason is None:
        raise LogUnreadableError(record, broken)
    return chunk._replace(records=[record._replace(unreadable=broken._replace(reason=reason))])


def batches(chunks: Iterable[Chunk], records: int, size: int) -> Iterator[list[Chunk]]:
    """The same chunks in the same order, cut so that no batch holds more than so many records, or more
    bytes unless one record does.
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


def silent(cluster: Cluster) -> KafkaUnavailable:
    return KafkaUnavailable(f"Kafka at {cluster.brokers} does not answer.")


def _now() -> float:
    return asyncio.get_running_loop().time()

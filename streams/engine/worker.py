"""A worker: the lanes of the partitions that it owns, in buckets, through assignments and revocations.

Its host (Faust, or a bare consumer) tells it what it owns and hands it chunks; the worker says where to
read from and when there is room. Knows no Kafka client. Crash-only: an unexpected exception goes to
`fail` once, and nothing more is written; whoever opens the buckets next goes on from what is durable.
"""

import asyncio
import gc
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import structlog

from schemas.record import Chunk, LogPartition, LogUnreadableError, Record, Unreadable
from streams.engine.shard import Stage, StateUnreadableError
from streams.engine.state_store import StateStore
from streams.engine.task import Task, TaskCounts
from streams.engine.task_group import TaskGroup, TaskId, Transactions

_log = structlog.get_logger(__name__)


class Backing(Protocol):
    """Where changelogs are kept, and what else a worker must be told when it opens."""

    @property
    def partitions(self) -> int | None:
        """Of every topic, if records may stand in another one than their key's."""

    def transactions(self, bucket: int) -> Transactions: ...

    async def restore(self, memories: Mapping[TaskId, StateStore], opened: Callable[[TaskId], None]) -> None:
        """Brings each memory up to the end of its changelog, from its `changelog_position` on; tells
        `opened` of each one when it is there. May be cancelled and called again.
        """

    async def beginnings(self, slots: Collection[LogPartition]) -> Mapping[LogPartition, int]:
        """The first position that each source partition holds."""

    async def ends(self, places: Collection[TaskId]) -> Mapping[TaskId, int]:
        """Where each changelog ends now."""

    async def parts_of(self, place: TaskId, key: str) -> Mapping[str, Record]:
        """By part, the record of the changelog that a key's state was restored from."""

    async def skips(self, slots: Collection[LogPartition]) -> Mapping[LogPartition, Mapping[int, str]]:
        """Which records are to be passed over, and why."""


class ShardStatus(NamedTuple):
    stage: str
    topic: str
    partition: int
    task_group: int
    ready: bool
    """False: restoring."""
    restored: int
    to_restore: int
    """Positions of its changelog."""
    position: int | None
    """Of the next record to fold."""
    queued: int
    """Records that wait in memory."""
    folded: int
    """Records, since this worker first owned it."""
    keys: int
    size: int
    """Bytes of encoded state."""
    oldest_at: int | None = None
    """When the record that is next to be folded was appended (ms); None: none waits here."""


NAMING_SECONDS = 60.0
"""To find the record of a changelog that cannot be decoded."""
STATE_SKIPPED = "what it says of the state is lost, and scores may be as without it"
KEPT_MS = 3_600_000
"""How long memories are kept between two assignments: far shorter than changelogs keep tombstones, without
which a memory that reads on would keep what is gone."""


def _nothing(*_: Any) -> None: ...


class Worker:
    """`seek` is told where to read a partition from; `room`, that there is room (again) to read it."""

    def __init__(
        self,
        stages: Sequence[Stage[Any, Any]],
        backing: Backing,
        *,
        task_groups: int = 2,
        now: Callable[[], int],
        seek: Callable[[LogPartition, int], None],
        room: Callable[[LogPartition], None] = _nothing,
        fail: Callable[[BaseException], None],
        observe: Callable[[int, float], None] = _nothing,
    ) -> None:
        self._stages = {stage.source: stage for stage in stages}
        self._backing = backing
        self._count = task_groups
        self._now = now
        self._seek = seek
        self._room = room
        self._fail = fail
        self._observe = observe
        self.counts = {stage.name: TaskCounts() for stage in stages}
        """Per stage, of all its lanes ever."""
        self._lanes: dict[LogPartition, Task] = {}
        self._buckets: dict[int, TaskGroup] = {}
        self._kept: dict[LogPartition, Task] = {}
        """Lanes of the last assignment: what they remember is true, if no longer complete."""
        self._kept_at = 0
        self._full: set[LogPartition] = set()
        """What was full when it was last offered."""
        self._opening: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._naming: asyncio.Task[None] | None = None
        self._failed = False
        self._stopped = False

    async def assign(self, slots: Collection[LogPartition]) -> None:
        """Opens the buckets of `slots`, all that is owned now, and begins to restore them.

        To be called after `revoke`, while the group waits for this member: restoring goes on behind. A
        `revoke` or `stop` meanwhile ends it.
        """
        if self._buckets:
            await self.revoke()
        if self._stopped or self._failed:
            return
        owned = sorted((slot for slot in slots if slot[0] in self._stages), key=lambda slot: slot[1])
        if self._now() - self._kept_at > KEPT_MS:
            self._kept = {}
        self._lanes = {slot: self._lane(slot) for slot in owned}
        self._kept = {}
        by_bucket = sorted(owned, key=lambda slot: slot[1] % self._count)
        for number, members in groupby(by_bucket, key=lambda slot: slot[1] % self._count):
            self._buckets[number] = TaskGroup(
                self._backing.transactions(number),
                [self._lanes[slot] for slot in members],
                now=self._now,
                drained=self._make_room,
                fail=self._failed_once,
                observe=self._observe,
            )
        self._opening = opening = asyncio.create_task(self._open(list(self._buckets.values())), name="open")
        try:
            await asyncio.wait({opening})
        finally:
            opening.cancel()  # if the host has given up

    async def revoke(self) -> None:
        """Ends the rounds under way and gives the buckets up."""
        for task in (self._opening, self._restoring):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        self._opening = self._restoring = None
        buckets, self._buckets = self._buckets, {}
        await asyncio.gather(*(bucket.close() for bucket in buckets.values()))
        self._full.clear()
        if self._lanes and not self._failed:  # what failed may remember what is not durable
            self._kept, self._kept_at, self._lanes = self._lanes, self._now(), {}

    async def stop(self) -> None:
        """For good: what is assigned from now on is not opened."""
        self._stopped = True
        await self.revoke()
        self._kept = {}

    def offer(self, chunk: Chunk) -> None:
        """Hands over what was read; what is not owned is not taken. Ask `full` before reading more."""
        slot = chunk.topic, chunk.partition
        lane = self._lanes.get(slot)
        if lane is None or lane.queue is None or self._failed:
            return
        if not lane.offer(chunk):
            _log.info("reading again after a gap", topic=slot[0], partition=slot[1], position=lane.queue.end)
            self._seek(slot, lane.queue.end)
            return
        if len(lane.queue) and (bucket := self._buckets.get(slot[1] % self._count)) is not None:
            bucket.wake()
        if lane.queue.full:
            self._full.add(slot)

    def full(self, slot: LogPartition) -> bool:
        """Whether nothing is to be read of it now: too much waits, or it is restoring."""
        lane = self._lanes.get(slot)
        return lane is not None and (lane.queue is None or lane.queue.full)

    def tick(self) -> None:
        """About once a second."""
        if self._failed:
            return
        for bucket in self._buckets.values():
            bucket.tick()

    def status(self) -> list[ShardStatus]:
        return [
            ShardStatus(
                lane.stage.name,
                *slot,
                task_group=slot[1] % self._count,
                ready=lane.queue is not None,
                restored=lane.store.changelog_position,
                to_restore=lane.to_restore,
                position=lane.store.position if lane.queue is None else lane.queue.position,
                queued=0 if lane.queue is None else len(lane.queue),
                folded=lane.folded,
                keys=len(lane.store),
                size=lane.store.size,
                oldest_at=lane.oldest_at,
            )
            for slot, lane in self._lanes.items()
        ]

    def _lane(self, slot: LogPartition) -> Task:
        if (kept := self._kept.get(slot)) is not None:
            return kept
        stage = self._stages[slot[0]]
        return Task(stage, slot[1], StateStore(), self.counts[stage.name], self._backing.partitions)

    async def _open(self, buckets: Sequence[TaskGroup]) -> None:
        try:
            await asyncio.gather(*(bucket.open() for bucket in buckets))
        except Exception as error:  # noqa: BLE001 - whatever it is, these shards cannot be folded
            self._failed_once(error)
            return
        if self._lanes:
            self._restoring = asyncio.create_task(self._restore(dict(self._lanes)), name="restore")

    async def _restore(self, lanes: Mapping[LogPartition, Task]) -> None:
        """Behind the assignment: nobody's heartbeat waits for it."""
        try:
            by_place = {lane.task_id: (slot, lane) for slot, lane in lanes.items()}
            for place, end in (await self._backing.ends(by_place)).items():
                by_place[place][1].to_restore = end
            beginnings = await self._backing.beginnings(lanes)
            skips = await self._backing.skips(lanes)

            def opened(place: TaskId) -> None:
                slot, lane = by_place[place]
                begin, reached = beginnings[slot], lane.store.position
                if reached is not None and reached < begin:
                    _log.error(
                        "the log no longer holds what was not folded yet; going on with what it holds",
                        topic=slot[0],
                        partition=slot[1],
                        missing=f"{reached} to {begin - 1}",
                    )
                    self.counts[lane.stage.name].removed += begin - reached
                position = lane.restored(begin, skips.get(slot, {}))
                lane.to_restore = lane.store.changelog_position
                self._seek(slot, position)
                self._room(slot)

            await self._backing.restore({place: lane.store for place, (_, lane) in by_place.items()}, opened)
            gc.freeze()  # what was restored stays: the collector need not walk it again and again
        except Exception as error:  # noqa: BLE001 - whatever it is, these shards cannot be folded
            self._failed_once(error)

    def _make_room(self, lane: Task) -> None:
        if lane.log_partition in self._full and lane.queue is not None and not lane.queue.full:
            self._full.remove(lane.log_partition)
            self._room(lane.log_partition)

    def _failed_once(self, error: BaseException) -> None:
        """Whatever was folded and not committed may be in memory, so nothing more is written at all."""
        for bucket in self._buckets.values():
            bucket.halt()
        if self._failed:
            return
        self._failed = True
        if isinstance(error, StateUnreadableError):
            self._naming = asyncio.create_task(self._fail_by_name(error), name="name the record")
        else:
            self._fail(error)

    async def _fail_by_name(self, error: StateUnreadableError) -> None:
        """Fails with the record of the changelog that cannot be decoded, if it can be found."""
        named: BaseException = error
        try:
            if self._restoring is not None:  # it reads by the same consumer
                self._restoring.cancel()
                await asyncio.wait({self._restoring})
            async with asyncio.timeout(NAMING_SECONDS):
                records = await self._backing.parts_of(error.task_id, error.key)
            if (record := _undecodable(error, records)) is not None:
                reason = Unreadable(str(error), record.position, record.position + 1)
                named = LogUnreadableError(record, reason, skipped=STATE_SKIPPED)
                named.__cause__ = error
        except Exception as cause:  # noqa: BLE001 - what has failed is known by key, at least
            _log.warning("the record of the changelog is not found", reason=repr(cause))
        self._fail(named)


def _undecodable(error: StateUnreadableError, records: Mapping[str, Record]) -> Record | None:
    """The record without which the rest can be decoded; None: there is no such one."""
    parts = {part: record.value for part, record in records.items() if record.value is not None}
    for part in parts:
        with suppress(Exception):  # decoders raise what they like
            error.decode({name: value for name, value in parts.items() if name != part})
            return records[part]
    return None

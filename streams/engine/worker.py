"""A worker: the tasks of the partitions that it owns, in task groups, through assignments and revocations.

Its host (Faust, or a bare consumer) assigns partitions and offers chunks; the worker asks it to seek and
says when a queue has room. Knows no Kafka client. Crash-only: an unexpected exception goes to `fail` once,
and nothing more is written; the next owner of the groups goes on from what is durable.
"""

import asyncio
import gc
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import structlog

from schemas.record import Chunk, LogPartition, LogUnreadableError, Record, Unreadable
from streams.engine.shard import Stage, StateUnreadableError
from streams.engine.state_store import StateStore
from streams.engine.task import Task, TaskCounts
from streams.engine.task_group import TaskGroup, TaskId, Transactions

_log = structlog.get_logger(__name__)


class ChangelogStorage(Protocol):
    """Where changelogs are kept, and what else a worker needs to know when it opens."""

    @property
    def partitions(self) -> int | None:
        """Of every topic, if records may stand in another one than their key's."""

    def transactions(self, group: int) -> Transactions: ...

    async def restore(self, stores: Mapping[TaskId, StateStore], opened: Callable[[TaskId], None]) -> None:
        """Brings each state store up to the end of its changelog, from its `changelog_position` on, and calls
        `opened` when it is there. May be cancelled and called again.
        """

    async def beginnings(self, partitions: Collection[LogPartition]) -> Mapping[LogPartition, int]:
        """The first position that each source partition still contains."""

    async def ends(self, task_ids: Collection[TaskId]) -> Mapping[TaskId, int]:
        """Where each changelog ends now."""

    async def parts_of(self, task_id: TaskId, key: str) -> Mapping[str, Record]:
        """By part, the record of the changelog that a key's state was restored from."""

    async def skips(self, partitions: Collection[LogPartition]) -> Mapping[LogPartition, Mapping[int, str]]:
        """Which records to skip, and why."""


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
    """Records that wait in its queue."""
    folded: int
    """Records, since this worker first owned it."""
    keys: int
    size: int
    """Bytes of encoded state."""
    oldest_at: int | None = None
    """When the record that is next to be folded was appended (ms); None: none waits here."""


FIND_RECORD_SECONDS = 60.0
"""To find the record of a changelog that cannot be decoded."""
STATE_SKIPPED_WARNING = "its part of the state is lost, and scores may be as without it"
KEEP_STATE_MS = 3_600_000
"""How long state stores are kept between two assignments. Changelogs keep tombstones far longer; without them a
store that reads on would keep what was removed."""


def _do_nothing(*_: Any) -> None: ...


class Worker:
    """`seek` sets where to read a partition from; `room` says that its queue has room (again)."""

    def __init__(
        self,
        stages: Sequence[Stage[Any, Any]],
        backing: ChangelogStorage,
        *,
        task_groups: int = 2,
        now: Callable[[], int],
        seek: Callable[[LogPartition, int], None],
        room: Callable[[LogPartition], None] = _do_nothing,
        fail: Callable[[BaseException], None],
        observe: Callable[[int, float], None] = _do_nothing,
    ) -> None:
        self._stages = {stage.source: stage for stage in stages}
        self._backing = backing
        self._group_count = task_groups
        self._now = now
        self._seek = seek
        self._room = room
        self._fail = fail
        self._observe = observe
        self.counts = {stage.name: TaskCounts() for stage in stages}
        """Per stage, of all its tasks ever."""
        self._tasks: dict[LogPartition, Task] = {}
        self._groups: dict[int, TaskGroup] = {}
        self._kept: dict[LogPartition, Task] = {}
        """Tasks of the last assignment: their state is true, if no longer complete."""
        self._kept_at = 0
        self._full: set[LogPartition] = set()
        """Partitions whose queue was full at the last offer."""
        self._opening: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._naming: asyncio.Task[None] | None = None
        self._failed = False
        self._stopped = False

    async def assign(self, partitions: Collection[LogPartition]) -> None:
        """Opens the task groups of `partitions`, all that the worker owns now, and begins to restore them.

        Call it after `revoke`, while the consumer group waits for this member: restoring goes on behind. A
        `revoke` or `stop` meanwhile ends it.
        """
        if self._groups:
            await self.revoke()
        if self._stopped or self._failed:
            return
        owned = sorted((each for each in partitions if each[0] in self._stages), key=itemgetter(1))
        if self._now() - self._kept_at > KEEP_STATE_MS:
            self._kept = {}
        self._tasks = {partition: self._task(partition) for partition in owned}
        self._kept = {}
        by_group = sorted(owned, key=self._group_of)
        for number, members in groupby(by_group, key=self._group_of):
            self._groups[number] = TaskGroup(
                self._backing.transactions(number),
                [self._tasks[partition] for partition in members],
                now=self._now,
                drained=self._make_room,
                fail=self._failed_once,
                observe=self._observe,
            )
        self._opening = opening = asyncio.create_task(self._open(list(self._groups.values())), name="open")
        try:
            await asyncio.wait({opening})
        finally:
            opening.cancel()  # if the host has given up

    async def revoke(self) -> None:
        """Ends the commits under way and closes the task groups."""
        for background in (self._opening, self._restoring):
            if background is not None:
                background.cancel()
                await asyncio.wait({background})
        self._opening = self._restoring = None
        groups, self._groups = self._groups, {}
        await asyncio.gather(*(group.close() for group in groups.values()))
        self._full.clear()
        if self._tasks and not self._failed:  # after a failure the stores may contain what is not durable
            self._kept, self._kept_at, self._tasks = self._tasks, self._now(), {}

    async def stop(self) -> None:
        """Revokes for good: `assign` opens nothing any more."""
        self._stopped = True
        await self.revoke()
        self._kept = {}

    def offer(self, chunk: Chunk) -> None:
        """Queues what was read; ignores what the worker does not own. Ask `full` before reading more."""
        partition = chunk.topic, chunk.partition
        task = self._tasks.get(partition)
        if task is None or task.queue is None or self._failed:
            return
        if not task.offer(chunk):
            _log.info(
                "reading again after a gap",
                topic=partition[0],
                partition=partition[1],
                position=task.queue.end,
            )
            self._seek(partition, task.queue.end)
            return
        if len(task.queue) and (group := self._groups.get(self._group_of(partition))) is not None:
            group.wake()
        if task.queue.full:
            self._full.add(partition)

    def full(self, partition: LogPartition) -> bool:
        """Whether to read nothing of it now: its queue is full, or its task is restoring."""
        task = self._tasks.get(partition)
        return task is not None and (task.queue is None or task.queue.full)

    def tick(self) -> None:
        """To be called about once a second."""
        if self._failed:
            return
        for group in self._groups.values():
            group.tick()

    def status(self) -> list[ShardStatus]:
        return [
            ShardStatus(
                task.stage.name,
                *partition,
                task_group=self._group_of(partition),
                ready=task.queue is not None,
                restored=task.store.changelog_position,
                to_restore=task.to_restore,
                position=task.store.position if task.queue is None else task.queue.position,
                queued=0 if task.queue is None else len(task.queue),
                folded=task.folded,
                keys=len(task.store),
                size=task.store.size,
                oldest_at=task.oldest_at,
            )
            for partition, task in self._tasks.items()
        ]

    def _group_of(self, partition: LogPartition) -> int:
        return partition[1] % self._group_count

    def _task(self, partition: LogPartition) -> Task:
        if (kept := self._kept.get(partition)) is not None:
            return kept
        stage = self._stages[partition[0]]
        return Task(stage, partition[1], StateStore(), self.counts[stage.name], self._backing.partitions)

    async def _open(self, groups: Sequence[TaskGroup]) -> None:
        try:
            await asyncio.gather(*(group.open() for group in groups))
        except Exception as error:  # noqa: BLE001 - whatever it is, these shards cannot be folded
            self._failed_once(error)
            return
        if self._tasks:
            self._restoring = asyncio.create_task(self._restore(dict(self._tasks)), name="restore")

    async def _restore(self, tasks: Mapping[LogPartition, Task]) -> None:
        """Runs behind the assignment, so that no heartbeat waits for it."""
        try:
            by_id = {task.task_id: (partition, task) for partition, task in tasks.items()}
            for task_id, end in (await self._backing.ends(by_id)).items():
                by_id[task_id][1].to_restore = end
            beginnings = await self._backing.beginnings(tasks)
            skips = await self._backing.skips(tasks)

            def opened(task_id: TaskId) -> None:
                partition, task = by_id[task_id]
                begin, reached = beginnings[partition], task.store.position
                if reached is not None and reached < begin:
                    _log.error(
                        "the log removed records before they were folded; going on with what it contains",
                        topic=partition[0],
                        partition=partition[1],
                        missing=f"{reached} to {begin - 1}",
                    )
                    self.counts[task.stage.name].removed += begin - reached
                position = task.restored(begin, skips.get(partition, {}))
                task.to_restore = task.store.changelog_position
                self._seek(partition, position)
                self._room(partition)

            await self._backing.restore({task_id: task.store for task_id, (_, task) in by_id.items()}, opened)
            gc.freeze()  # what was restored stays: the collector need not walk it again and again
        except Exception as error:  # noqa: BLE001 - whatever it is, these shards cannot be folded
            self._failed_once(error)

    def _make_room(self, task: Task) -> None:
        if task.log_partition in self._full and task.queue is not None and not task.queue.full:
            self._full.remove(task.log_partition)
            self._room(task.log_partition)

    def _failed_once(self, error: BaseException) -> None:
        """The state stores may contain what was not committed, so nothing more is written at all."""
        for group in self._groups.values():
            group.halt()
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
            async with asyncio.timeout(FIND_RECORD_SECONDS):
                records = await self._backing.parts_of(error.task_id, error.key)
            if (record := _undecodable_record(error, records)) is not None:
                reason = Unreadable(str(error), record.position, record.position + 1)
                named = LogUnreadableError(record, reason, skipped=STATE_SKIPPED_WARNING)
                named.__cause__ = error
        except Exception as cause:  # noqa: BLE001 - the failure names the key, at least
            _log.warning("the record of the changelog is not found", reason=repr(cause))
        self._fail(named)


def _undecodable_record(error: StateUnreadableError, records: Mapping[str, Record]) -> Record | None:
    """The record without which the rest can be decoded; None: there is no such one."""
    parts = {part: record.value for part, record in records.items() if record.value is not None}
    for part in parts:
        with suppress(Exception):  # decoders raise what they like
            error.decode({name: value for name, value in parts.items() if name != part})
            return records[part]
    return None

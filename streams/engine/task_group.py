"""A task group: the unit of assignment, of fencing and of transactions.

A commit takes these steps; the numbers stand where the code takes them, here and in `Transactions.commit`.

1. The tasks fold what waits in their queues, for a bounded time. Then each changed state is encoded once, into
   their state stores.
2. One transaction writes outputs and changelog records (state, timers, positions).
3. It also takes the offsets of the sources, which only monitors read.
4. It is committed. Readers of committed records see it from here on.

Commits follow each other; during one the group's tasks fold nothing. If anything fails before step 4, the
group calls `fail` once and writes nothing more; the next owner restores what was durable.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from schemas.record import LogPartition, Outgoing
from streams.engine.state_store import ChangelogRecord
from streams.engine.task import Task, TaskOutput

CHUNK_RECORDS = 500
"""Records that one call of a shard's `fold` gets at most; in between, others have the event loop."""
COMMIT_RECORDS = 20_000
COMMIT_SECONDS = 0.25
LINGER_SECONDS = 0.002
"""A pause after a small commit: fewer, fuller transactions."""
SMALL_COMMIT_RECORDS = 100


TaskId = tuple[str, int]
"""(stage, partition)"""


class Commit(NamedTuple):
    """What one transaction makes durable."""

    outputs: Sequence[Outgoing]
    changes: Mapping[TaskId, Sequence[ChangelogRecord]]
    """Records of changelogs."""
    checkpoints: Mapping[LogPartition, int]
    """Positions in the sources."""
    contained: Mapping[TaskId, int] | None
    """Up to where the group's state stores contain their changelogs without this commit; None while one of
    them is restoring.
    """


class Transactions(Protocol):
    """What a task group writes through."""

    async def open(self) -> None:
        """Shuts out every former writer of this group; what they had not committed is undone."""

    async def commit(self, made: Commit) -> Mapping[TaskId, int]:
        """Writes all of it or nothing, once; returns up to where changelogs contain it, at least. Raises if it
        is not durable, or if another worker owns the group now.
        """

    async def close(self) -> None: ...


class TaskGroup:
    """`observe` gets (records, seconds) of each commit."""

    def __init__(
        self,
        transactions: Transactions,
        tasks: Sequence[Task],
        *,
        now: Callable[[], int],
        drained: Callable[[Task], None],
        fail: Callable[[BaseException], None],
        observe: Callable[[int, float], None],
    ) -> None:
        self.tasks = tasks
        self._transactions = transactions
        self._turns = deque(tasks)
        self._now = now
        self._drained = drained
        self._fail = fail
        self._observe = observe
        self._running: asyncio.Task[None] | None = None
        self._closed = False
        self._halted = False
        self._tick = False

    async def open(self) -> None:
        await self._transactions.open()

    def halt(self) -> None:
        """Starts no further commit, and gives up the one that still folds."""
        self._closed = self._halted = True

    async def close(self) -> None:
        """Ends the commit under way: what it has folded is committed. Then nothing more is written."""
        self._closed = True
        if self._running is not None:
            await asyncio.shield(self._running)
        for task in self.tasks:
            task.close()
        await self._transactions.close()

    def wake(self) -> None:
        """Records wait."""
        if self._running is None and not self._closed:
            self._running = asyncio.create_task(self._run(), name="commits")

    def tick(self) -> None:
        """Time has passed: fire timers, and commit positions that moved without a record."""
        self._tick = True
        self.wake()

    async def _run(self) -> None:
        try:
            while not self._closed:
                started = time.perf_counter()
                commit, records = await self._fold()  # 1
                if commit is None or self._halted:
                    return
                contained = await self._transactions.commit(commit)  # 2 to 4
                for task in self.tasks:
                    if (position := contained.get(task.task_id)) is not None:
                        task.store.changelog_position = position
                self._observe(records, time.perf_counter() - started)
                if records < SMALL_COMMIT_RECORDS:
                    await asyncio.sleep(LINGER_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing more may be written
            self._closed = True
            self._fail(error)
        finally:
            self._running = None

    async def _fold(self) -> tuple[Commit | None, int]:
        """Folds the queues of the tasks, which take turns chunk by chunk."""
        builder = _CommitBuilder()
        ticking, self._tick = self._tick, False
        records, deadline = 0, time.monotonic() + COMMIT_SECONDS
        idle = 0
        while idle < len(self._turns) and records < COMMIT_RECORDS and time.monotonic() < deadline:
            if self._closed:
                break
            task = self._turns[0]
            self._turns.rotate(-1)
            work, output = task.fold(CHUNK_RECORDS)
            if not work:
                idle += 1
                continue
            idle = 0
            records += work
            builder.add(task, output)
            self._drained(task)
            await asyncio.sleep(0)
        for task in self.tasks:
            if task in builder:
                builder.add(task, task.changes())
        if ticking:  # now: the queue of a task that keeps up is empty after a fold, seldom before it
            self._fire_timers(builder)
        for task in self.tasks:
            if task.queue is not None and task.dirty and (task in builder or ticking):
                builder.add_checkpoint(task)
        return builder.build(self._contained()), records

    def _contained(self) -> Mapping[TaskId, int] | None:
        if any(task.queue is None for task in self.tasks):
            return None
        return {task.task_id: task.store.changelog_position for task in self.tasks}

    def _fire_timers(self, builder: "_CommitBuilder") -> None:
        now = self._now()
        for task in self.tasks:
            output = task.timers(now)
            if output.outputs or output.changes:
                builder.add(task, output)


class _CommitBuilder:
    def __init__(self) -> None:
        self._outputs: list[Outgoing] = []
        self._changes: dict[TaskId, list[ChangelogRecord]] = {}
        self._checkpoints: dict[LogPartition, int] = {}
        self._task_ids: set[TaskId] = set()

    def __contains__(self, task: Task) -> bool:
        return task.task_id in self._task_ids

    def add(self, task: Task, output: TaskOutput) -> None:
        self._task_ids.add(task.task_id)
        self._outputs += output.outputs
        if output.changes:
            self._changes_of(task).extend(output.changes)

    def add_checkpoint(self, task: Task) -> None:
        self._checkpoints[task.log_partition] = task.checkpoint()
        self._changes_of(task).extend(task.store.position_changes())

    def build(self, contained: Mapping[TaskId, int] | None) -> Commit | None:
        """None: there is nothing to write."""
        if not (self._outputs or self._changes or self._checkpoints):
            return None
        return Commit(self._outputs, self._changes, self._checkpoints, contained)

    def _changes_of(self, task: Task) -> list[ChangelogRecord]:
        return self._changes.setdefault(task.task_id, [])

"""A bucket of lanes: the unit of assignment, of fencing and of transactions.

A round folds what waits in its lanes, for a bounded time, and makes all of it durable in one
transaction: outputs, changed state, positions. Rounds follow each other; while one is being committed
nothing of its lanes is folded. Whatever goes wrong is told to `fail`, once, and nothing more is written.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from schemas.record import LogPartition, Outgoing
from streams.engine.state_store import Change
from streams.engine.task import Task, TaskOutput

CHUNK = 500
"""Records that one call of a shard's `fold` gets at most; in between, others have the event loop."""
COMMIT_RECORDS = 20_000
COMMIT_SECONDS = 0.25
LINGER_SECONDS = 0.002
"""A pause after a small round: fewer, fuller transactions."""
SMALL = 100


TaskId = tuple[str, int]
"""(stage, partition)"""


class Commit(NamedTuple):
    """What one transaction makes durable."""

    outputs: Sequence[Outgoing]
    changes: Mapping[TaskId, Sequence[Change]]
    """Records of changelogs."""
    checkpoints: Mapping[LogPartition, int]
    """Positions in the sources."""
    contained: Mapping[TaskId, int] | None
    """Up to where the memories of the bucket contain their changelogs without this round; None while one of
    them is restoring.
    """


class Transactions(Protocol):
    """What a bucket writes through."""

    async def open(self) -> None:
        """Shuts out whoever wrote for this bucket before; what they had not committed is undone."""

    async def commit(self, made: Commit) -> Mapping[TaskId, int]:
        """All of it or nothing, once; returns up to where changelogs contain it, at least. Raises if it is not
        durable, or no longer ours to write.
        """

    async def close(self) -> None: ...


class TaskGroup:
    """`observe` is told (records, seconds) of each round."""

    def __init__(
        self,
        transactions: Transactions,
        lanes: Sequence[Task],
        *,
        now: Callable[[], int],
        drained: Callable[[Task], None],
        fail: Callable[[BaseException], None],
        observe: Callable[[int, float], None],
    ) -> None:
        self.lanes = lanes
        self._transactions = transactions
        self._turns = deque(lanes)
        self._now = now
        self._drained = drained
        self._fail = fail
        self._observe = observe
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._halted = False
        self._tick = False

    async def open(self) -> None:
        await self._transactions.open()

    def halt(self) -> None:
        """Begins no round any more, and commits none that has not begun to be committed."""
        self._closed = self._halted = True

    async def close(self) -> None:
        """Ends the round under way: what it has folded is committed. Then nothing is written any more."""
        self._closed = True
        if self._task is not None:
            await asyncio.shield(self._task)
        for lane in self.lanes:
            lane.close()
        await self._transactions.close()

    def wake(self) -> None:
        """Something waits."""
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._run(), name="rounds")

    def tick(self) -> None:
        """Time has passed: look at what is due, and commit positions that moved without a record."""
        self._tick = True
        self.wake()

    async def _run(self) -> None:
        try:
            while not self._closed:
                begun = time.perf_counter()
                made, records = await self._fold()
                if made is None or self._halted:
                    return
                contained = await self._transactions.commit(made)
                for lane in self.lanes:
                    if (position := contained.get(lane.task_id)) is not None:
                        lane.store.changelog_position = position
                self._observe(records, time.perf_counter() - begun)
                if records < SMALL:
                    await asyncio.sleep(LINGER_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing more may be written
            self._closed = True
            self._fail(error)
        finally:
            self._task = None

    async def _fold(self) -> tuple[Commit | None, int]:
        """What the lanes make of what waits; lanes take turns, chunk by chunk."""
        gathered = _Gathered()
        ticking, self._tick = self._tick, False
        records, deadline = 0, time.monotonic() + COMMIT_SECONDS
        idle = 0
        while idle < len(self._turns) and records < COMMIT_RECORDS and time.monotonic() < deadline:
            if self._closed:
                break
            lane = self._turns[0]
            self._turns.rotate(-1)
            worked, said = lane.fold(CHUNK)
            if not worked:
                idle += 1
                continue
            idle = 0
            records += worked
            gathered.take(lane, said)
            self._drained(lane)
            await asyncio.sleep(0)
        if ticking:  # now: a lane that keeps up is empty at the end of a round, seldom at its beginning
            self._wake_due(gathered)
        for lane in self.lanes:
            if lane.queue is not None and lane.dirty and (lane in gathered or ticking):
                gathered.checkpoint(lane)
        return gathered.round(self._contained()), records

    def _contained(self) -> Mapping[TaskId, int] | None:
        if any(lane.queue is None for lane in self.lanes):
            return None
        return {lane.task_id: lane.store.changelog_position for lane in self.lanes}

    def _wake_due(self, gathered: "_Gathered") -> None:
        now = self._now()
        for lane in self.lanes:
            said = lane.timers(now)
            if said.outputs or said.changes:
                gathered.take(lane, said)


class _Gathered:
    def __init__(self) -> None:
        self._outputs: list[Outgoing] = []
        self._changes: dict[TaskId, list[Change]] = {}
        self._checkpoints: dict[LogPartition, int] = {}
        self._lanes: set[int] = set()

    def __contains__(self, lane: Task) -> bool:
        return id(lane) in self._lanes

    def take(self, lane: Task, said: TaskOutput) -> None:
        self._lanes.add(id(lane))
        self._outputs += said.outputs
        if said.changes:
            self._changes_of(lane).extend(said.changes)

    def checkpoint(self, lane: Task) -> None:
        self._checkpoints[lane.log_partition] = lane.checkpoint()
        self._changes_of(lane).extend(lane.store.at_position())

    def round(self, contained: Mapping[TaskId, int] | None) -> Commit | None:
        """None: there is nothing to write."""
        if not (self._outputs or self._changes or self._checkpoints):
            return None
        return Commit(self._outputs, self._changes, self._checkpoints, contained)

    def _changes_of(self, lane: Task) -> list[Change]:
        return self._changes.setdefault(lane.task_id, [])

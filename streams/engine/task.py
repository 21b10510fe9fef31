"""A task: one shard at work, its state store, and the queue of records that it has still to fold. No I/O.

Folding changes decoded states. `changes` encodes each of them once into the state store, and returns what one
transaction must make durable. If that transaction fails, the process ends: a task never takes anything back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

from schemas.record import Chunk, LogPartition, LogUnreadableError, Outgoing, Record, skip_reason
from schemas.topics import DEAD_LETTERS
from streams.engine.record_queue import RecordQueue
from streams.engine.shard import MOST_KEY_CHARACTERS, Shard, Stage, encoded_dead_letter
from streams.engine.state_store import ChangelogRecord, StateStore

TIMERS_AT_ONCE = 500
CAUGHT_UP_MS = 2_000
"""A task that folds older records than this is catching up."""


CACHE_BYTES = 1024 * 1024
"""Of encoded state whose keys are kept decoded, about; decoded it is some ten times as large."""
CACHED_KEYS_RANGE = range(200, 20_000)


class TaskOutput(NamedTuple):
    """What one transaction has to write."""

    outputs: Sequence[Outgoing] = ()
    changes: Sequence[ChangelogRecord] = ()


NO_OUTPUT = TaskOutput()


@dataclass(slots=True)
class TaskCounts:
    """What the tasks of a stage have done since the process began."""

    folded: int = 0
    """Records."""
    dead_letters: int = 0
    """Of them, those that could not be read or were skipped."""
    misplaced: int = 0
    """Of these, those that stood in another partition than their key's."""
    removed: int = 0
    """Positions that the log removed before they were folded."""


class Task:
    """`store` may come from an earlier ownership; `restored` says that it contains the changelog."""

    def __init__(
        self,
        stage: Stage[Any, Any],
        partition: int,
        store: StateStore,
        counts: TaskCounts,
        partitions: int | None = None,
    ) -> None:
        self.stage = stage
        self._counts = counts
        self.log_partition: LogPartition = (stage.source, partition)
        self.task_id = (stage.name, partition)
        self.store = store
        self.queue: RecordQueue | None = None
        """None: the task is restoring."""
        self.folded = 0
        self.to_restore = 0
        self.dirty = False
        """The position has moved, and the changelog does not contain that yet."""
        self._unstored = False
        """States have changed, and the store does not contain that yet."""
        self._shard = Shard(stage, partition, store, partitions=partitions)
        self._skips: Mapping[int, str] = {}
        self._sweeping = False
        self._newest = 0
        """When the record folded last was appended, if a broker gave the time."""
        self._counted = -1
        self._quiet_since = 0
        """Since when `folded` has been `_counted`."""

    def restored(self, begin: int, skips: Mapping[int, str]) -> int:
        """The store contains the changelog: opens the queue and returns its position. `begin` is where the
        source begins now; a store without a position, or with an earlier one, starts there.
        """
        if self.store.position is None or self.store.position < begin:
            self.store.position = begin
        self._skips = skips
        self._newest, self._counted = 0, -1  # what another owner left unread may be older than the clock
        self.queue = RecordQueue(self.store.position)
        self.dirty = True  # the group's offset is committed again: it may have expired, or been reset
        return self.store.position

    @property
    def oldest_at(self) -> int | None:
        """When the record that is next to be folded was appended (ms); None: none waits, or the time is unknown."""
        return next((record.appended_at for record in (self.queue.first(1) if self.queue else ())), None)

    def offer(self, chunk: Chunk) -> bool:
        """False: there is a gap before the chunk; read again from `queue.end`."""
        if self.queue is None:
            return True
        accepted = self.queue.offer(chunk)
        if self.queue.position != self.store.position:
            self.dirty = True
        return accepted

    def fold(self, most: int) -> tuple[int, TaskOutput]:
        """(the amount of work in records, its output); `changes` has the rest. Raises FoldFailed, LogUnreadableError."""
        queue = self.queue
        if not queue:
            return 0, NO_OUTPUT
        waiting = queue.first(1 if self._sweeping else most)
        records = self._before_a_skip(waiting)
        if not records:
            return 1, self._skip(queue, waiting[0], self.changes())
        self._newest = records[-1].appended_at or 0
        self._shard.cache_size = cache_size(self.store)
        outcome = self._shard.fold(records)
        queue.drop(outcome.applied)
        self._sweeping = outcome.applied < len(records)
        self.folded += outcome.applied
        self._counts.folded += outcome.applied
        self._counts.dead_letters += sum([out.topic == DEAD_LETTERS for out in outcome.outputs])
        self._counts.misplaced += outcome.misplaced
        self.dirty = self._unstored = True
        return (most if self._sweeping else outcome.applied), TaskOutput(outcome.outputs)

    def changes(self) -> TaskOutput:
        """What has changed since the last call: a commit collects it before it ends. Whatever else reads the store
        calls it first.
        """
        if not self._unstored or self.queue is None:
            return NO_OUTPUT
        self._unstored = False
        changes = self._shard.changes()
        return TaskOutput(changes.outputs, list(self.store.put(changes, self.queue.position)))

    def timers(self, now: int) -> TaskOutput:
        """Fires timers once the task has caught up: a record that waits may be older than what a timer
        would emit.
        """
        if self.queue is None or len(self.queue) or not self._caught_up(now):
            return NO_OUTPUT
        return self.fire_timers(now)

    def fire_timers(self, now: int) -> TaskOutput:
        """Wakes the keys that time has changed by `now`; corrects the timers of those that it has not. Call `changes`
        first.
        """
        keys = self.store.due_keys(now, TIMERS_AT_ONCE)
        if not keys:
            return NO_OUTPUT
        wake_ups, timers = self._shard.fire_timers(keys, now)
        self.store.mark_woken([key for key in keys if key not in timers])
        return TaskOutput(wake_ups, list(self.store.put_timers(timers)))

    def checkpoint(self) -> int:
        """The position that a transaction commits now."""
        if self.queue is None:
            raise RuntimeError(f"{self.log_partition} is restoring and has no checkpoint")
        self.dirty = False
        self.store.position = self.queue.position
        return self.store.position

    def close(self) -> None:
        """Drops the records that wait; the next owner reads them again. Drops decoded states, too: the store
        may be restored to what another owner did.
        """
        self.queue = None
        self.dirty = self._unstored = False
        self._shard.forget()

    def _caught_up(self, now: int) -> bool:
        """Whether the record folded last is new, or none has come for a while."""
        if self.folded != self._counted:
            self._counted, self._quiet_since = self.folded, now
        return self._newest >= now - CAUGHT_UP_MS or now - self._quiet_since >= CAUGHT_UP_MS

    def _before_a_skip(self, records: list[Record]) -> list[Record]:
        """The records that come before one that is to be skipped or cannot be read."""
        begin, end = records[0].position, records[-1].position
        if not any(begin <= position <= end for position in self._skips) and all(
            [record.unreadable is None for record in records]  # noqa: C419 - twice as quick as a generator
        ):
            return records
        return list(
            takewhile(
                lambda record: record.unreadable is None and record.position not in self._skips, records
            )
        )

    def _skip(self, queue: RecordQueue, record: Record, before: TaskOutput) -> TaskOutput:
        """The record becomes a dead letter instead of being folded, behind what came before it."""
        reason = skip_reason(record, self._skips)
        if reason is None and record.unreadable is not None:
            raise LogUnreadableError(record, record.unreadable)
        queue.drop(1)
        self.dirty = True
        self._counts.folded += 1
        self._counts.dead_letters += 1
        output = Outgoing(
            DEAD_LETTERS, record.key[:MOST_KEY_CHARACTERS], encoded_dead_letter(record, reason or "")
        )
        # If a timer wrote the record, it would write the same again. The key's next event sets a new timer.
        timer = self.store.put_timers({record.key: None})
        return TaskOutput([*before.outputs, output], [*before.changes, *timer])


def cache_size(store: StateStore) -> int:
    """How many keys to keep decoded: more of small ones."""
    size = CACHE_BYTES * len(store) // max(store.size, 1)
    return min(max(size, CACHED_KEYS_RANGE.start), CACHED_KEYS_RANGE.stop)

"""A lane: one shard at work, its memory, and what waits for it. No I/O.

Folding a lane changes its memory at once, and gives what one transaction must make durable. If that
transaction fails, the process ends: no lane is ever taken back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

from schemas.record import Chunk, LogPartition, LogUnreadableError, Outgoing, Record, skip_reason
from schemas.topics import DEAD_LETTERS
from streams.engine.record_queue import RecordQueue
from streams.engine.shard import MOST_KEY_CHARACTERS, Shard, Stage, dead_letter
from streams.engine.state_store import Change, StateStore

TIMERS_AT_ONCE = 500
LATELY_MS = 2_000
"""A lane that folds older records than this is catching up."""


CACHE_BYTES = 1024 * 1024
"""Of encoded state whose keys are kept decoded, about; decoded it is some ten times as large."""
CACHED_KEYS = range(200, 20_000)


class TaskOutput(NamedTuple):
    """What is to be written."""

    outputs: Sequence[Outgoing] = ()
    changes: Sequence[Change] = ()


NOTHING = TaskOutput()


@dataclass(slots=True)
class TaskCounts:
    """What the lanes of a stage have done since the process began."""

    folded: int = 0
    """Records."""
    dead_letters: int = 0
    """Of them, those that could not be read or were passed over."""
    misplaced: int = 0
    """Of these, those that stood in another partition than their key's."""
    removed: int = 0
    """Positions that the log let go before they were folded."""


class Task:
    """`memory` may come from an earlier ownership; `restored` says that the changelog is contained."""

    def __init__(
        self,
        stage: Stage[Any, Any],
        partition: int,
        memory: StateStore,
        tally: TaskCounts,
        partitions: int | None = None,
    ) -> None:
        self.stage = stage
        self._tally = tally
        self.log_partition: LogPartition = (stage.source, partition)
        self.task_id = (stage.name, partition)
        self.store = memory
        self.queue: RecordQueue | None = None
        """None: restoring."""
        self.folded = 0
        self.to_restore = 0
        self.dirty = False
        """The position has moved and the changelog has not learnt it."""
        self._shard = Shard(stage, partition, memory, partitions=partitions)
        self._skips: Mapping[int, str] = {}
        self._sweeping = False
        self._newest = 0
        """When the record folded last was appended, if a broker said so."""
        self._counted = -1
        self._quiet_since = 0
        """Since when `folded` stands at `_counted`."""

    def restored(self, begin: int, skips: Mapping[int, str]) -> int:
        """The memory contains the changelog: opens the inbox. `begin` is where the source begins now:
        nothing was folded ever, or what lay before it is gone.
        """
        if self.store.position is None or self.store.position < begin:
            self.store.position = begin
        self._skips = skips
        self._newest, self._counted = 0, -1  # what another owner left unread may be older than the clock
        self.queue = RecordQueue(self.store.position)
        self.dirty = True  # the group's offset is said anew: it may have expired, or been reset
        return self.store.position

    @property
    def oldest_at(self) -> int | None:
        """When the record that is next to be folded was appended (ms); None: none waits, or nobody said."""
        return next((record.appended_at for record in (self.queue.first(1) if self.queue else ())), None)

    def offer(self, chunk: Chunk) -> bool:
        """False: there is a gap before it; read again from `inbox.end`."""
        if self.queue is None:
            return True
        taken = self.queue.offer(chunk)
        if self.queue.position != self.store.position:
            self.dirty = True
        return taken

    def fold(self, most: int) -> tuple[int, TaskOutput]:
        """(how much work it was, in records; what came of it). Raises FoldFailed, LogUnreadableError."""
        inbox = self.queue
        if not inbox:
            return 0, NOTHING
        found = inbox.first(1 if self._sweeping else most)
        records = self._before_a_skip(found)
        if not records:
            return 1, self._pass_over(inbox, found[0])
        self._newest = records[-1].appended_at or 0
        self._shard.cache_size = cache_size(self.store)
        outcome = self._shard.fold(records)
        inbox.drop(outcome.applied)
        self._sweeping = outcome.applied < len(records)
        self.folded += outcome.applied
        self._tally.folded += outcome.applied
        self._tally.dead_letters += sum([out.topic == DEAD_LETTERS for out in outcome.outputs])
        self._tally.misplaced += outcome.misplaced
        self.dirty = True
        changes = list(self.store.put(outcome, inbox.position))
        return (most if self._sweeping else outcome.applied), TaskOutput(outcome.outputs, changes)

    def timers(self, now: int) -> TaskOutput:
        """Wakes the keys that time has changed. Quiet until the lane has caught up: what is still to be
        folded may have been recorded before what a timer would say.
        """
        if self.queue is None or len(self.queue) or not self._caught_up(now):
            return NOTHING
        keys = self.store.due_keys(now, TIMERS_AT_ONCE)
        if not keys:
            return NOTHING
        wake, dues = self._shard.timers(keys, now)
        self.store.mark_woken([key for key in keys if key not in dues])
        return TaskOutput(wake, list(self.store.put_timers(dues)))

    def checkpoint(self) -> int:
        """The position that a transaction commits now."""
        if self.queue is None:
            raise RuntimeError(f"{self.log_partition} is restoring and has no checkpoint")
        self.dirty = False
        self.store.position = self.queue.position
        return self.store.position

    def close(self) -> None:
        """What waits is dropped; the next owner reads it. Decoded states go, too: their memory may learn
        what another owner did.
        """
        self.queue = None
        self.dirty = False
        self._shard.forget()

    def _caught_up(self, now: int) -> bool:
        """What it folded last is new, or nothing has come for a while."""
        if self.folded != self._counted:
            self._counted, self._quiet_since = self.folded, now
        return self._newest >= now - LATELY_MS or now - self._quiet_since >= LATELY_MS

    def _before_a_skip(self, records: list[Record]) -> list[Record]:
        """The records that come before one that is to be skipped or cannot be read."""
        begin, end = records[0].position, records[-1].position
        if not any(begin <= at <= end for at in self._skips) and all(
            [record.unreadable is None for record in records]  # noqa: C419 - twice as quick as a generator
        ):
            return records
        return list(
            takewhile(lambda one: one.unreadable is None and one.position not in self._skips, records)
        )

    def _pass_over(self, inbox: RecordQueue, record: Record) -> TaskOutput:
        reason = skip_reason(record, self._skips)
        if reason is None and record.unreadable is not None:
            raise LogUnreadableError(record, record.unreadable)
        inbox.drop(1)
        self.dirty = True
        self._tally.folded += 1
        self._tally.dead_letters += 1
        letter = Outgoing(DEAD_LETTERS, record.key[:MOST_KEY_CHARACTERS], dead_letter(record, reason or ""))
        # If a timer wrote it, the same would come of it again: the key's next event says when it is due.
        return TaskOutput([letter], list(self.store.put_timers({record.key: None})))


def cache_size(memory: StateStore) -> int:
    """How many keys to keep decoded: more of small ones."""
    size = CACHE_BYTES * len(memory) // max(memory.size, 1)
    return min(max(size, CACHED_KEYS.start), CACHED_KEYS.stop)

"""The only appender of a log, over one connection: it appends, folds and projects in one transaction.

Appended records, the outputs of the folds, their state, their positions and the rows of projections become
durable together or not at all. `commit` either does all of it, or raises and has done nothing. Where a fold
or a projection fails, `commit_unfolded` still keeps the records of producers. Reads no clock but for the
length of a turn.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain, groupby, islice, takewhile
from typing import Any

import psycopg

from schemas.record import ERASED_KEY, LogPartition, Outgoing, Record, stub_of
from schemas.topics import DEAD_LETTERS, EVENTS, partition_of
from streams.embedded import log
from streams.embedded.rows import COPY_FROM_ROWS, Connection
from streams.embedded.state import PostgresStateStore
from streams.engine.shard import FoldOutcome, Shard, Stage, encoded_dead_letter
from streams.engine.task_group import TaskId
from streams.recorded_order import in_order, merged_outputs, recorded_times, windows

AnyStage = Stage[Any, Any]
ConnectToDatabase = Callable[..., Connection]
"""`psycopg.connect`, or one whose statements do not wait for an unavailable server."""
ProjectRecords = Callable[[Connection, Sequence[Record]], None]
"""Writes read models from records, over the given connection, in its transaction. It gets every
record of the log exactly once, in the order of its partition; it must not commit."""

CHUNK_RECORDS = 500
"""Records that one call of a shard's `fold` gets at most, and of events all shards together."""
TURN_RECORDS = 2_000
"""Records that one stage folds before the next stage has its turn."""
TURN_SECONDS = 0.2
"""How long a stage may fold before the next has its turn, so that a sweep delays nothing else."""
COMMIT_SECONDS = 0.3
"""How long a transaction goes on folding; the next one folds the rest."""
TIMERS_AT_ONCE = 500
"""Keys whose timers one transaction fires at most."""
TAIL_RECORDS = 2_000
"""Records that a task keeps in memory between append and fold; it reads further ones from the log."""

_SESSION_OPTIONS = {
    "synchronous_commit": "on",  # a database may default to off, but what we acknowledge must be on disk
    "jit": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "10",  # the lock of a machine that vanished must not outlive it for hours
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


@dataclass(slots=True)
class EmbeddedTask:
    """One shard, and its position in its source partition."""

    stage: str
    log_partition: LogPartition
    shard: Shard[Any, Any]
    position: int
    """Of the next record to fold."""
    committed: int
    tail: deque[Record] = field(default_factory=deque)
    """The records from `position` on that are in memory, without a gap."""
    sweeping: bool = False
    """A sweep of the next record is under way: fold that record alone until it is complete."""

    @property
    def task_id(self) -> TaskId:
        return self.stage, self.log_partition[1]

    def offer(self, record: Record) -> None:
        if len(self.tail) < TAIL_RECORDS and self.position + len(self.tail) == record.position:
            self.tail.append(record)

    def advance(self, records: int) -> None:
        for _ in range(records):
            self.tail.popleft()
        self.position += records

    def reset(self) -> None:
        self.position = self.committed
        self.tail.clear()
        self.sweeping = False
        self.shard.forget()


class Writer:
    """Opening it takes the appender's lock; closing the connection releases it."""

    def __init__(
        self,
        url: str,
        stages: Sequence[AnyStage],
        *,
        connect: ConnectToDatabase = psycopg.connect,
        partitions: int | None = None,
        genesis: Sequence[Outgoing] = (),
        project: ProjectRecords | None = None,
    ) -> None:
        self._connection: Connection = connect(url, application_name="leadstream appender")
        try:
            self._open(stages, partitions, genesis, project)
        except BaseException:
            self._connection.close()
            raise

    def _open(
        self,
        stages: Sequence[AnyStage],
        partitions: int | None,
        genesis: Sequence[Outgoing],
        project: ProjectRecords | None,
    ) -> None:
        connection = self._connection
        for setting, value in _SESSION_OPTIONS.items():
            connection.execute("select set_config(%s, %s, false)", (setting, value))
        connection.commit()
        log.take_appender_lock(connection)
        self.partitions = log.open_log(connection, partitions)
        self._heads = log.read_heads(connection)
        self._stored = dict(self._heads)
        self._unprojected = {} if project is None else log.read_unprojected(connection)
        self._skips: dict[tuple[str, int, int], str] = {}
        self._state = PostgresStateStore(connection)
        self._project = project
        self._written: list[Record] = []
        self._refused: set[tuple[str, int, int]] = set()
        """(topic, partition, position) of records that nobody may keep: they name a person who was erased."""
        self._changed: dict[TaskId, EmbeddedTask] = {}
        """The tasks that have folded in this transaction."""
        checkpoints = log.read_checkpoints(connection)
        self._tasks = {
            stage.source: [
                self._open_task(stage, partition, checkpoints.get((stage.name, partition), 0))
                for partition in range(self.partitions)
            ]
            for stage in stages
        }
        self._turns = dict.fromkeys(self._tasks, 0)
        """Source -> the partition whose task folds next."""
        self.more_timers = False
        """Whether the last commit has left timers to the next one."""
        self.reread_skips()
        if genesis and not self._heads:
            everywhere = range(self.partitions)
            self.commit(
                [
                    record._replace(partition=partition)
                    for record in genesis
                    for partition in (everywhere if record.partition is None else [record.partition])
                ]
            )

    def _open_task(self, stage: AnyStage, partition: int, position: int) -> EmbeddedTask:
        parts = self._state.of(stage.name, partition)
        shard = Shard(stage, partition, parts)
        return EmbeddedTask(stage.name, (stage.source, partition), shard, position, position)

    def close(self) -> None:
        self._connection.close()

    @property
    def unavailable(self) -> bool:
        """Whether the connection is broken; then it is unknown whether the last commit was done."""
        return self._connection.closed or self._connection.broken

    @property
    def heads(self) -> dict[LogPartition, int]:
        """The next position of each partition, as committed."""
        return dict(self._stored)

    @property
    def backlog(self) -> dict[str, int]:
        """How many records each stage has yet to fold, as committed."""
        return {
            tasks[0].stage: sum(self._stored.get(task.log_partition, 0) - task.committed for task in tasks)
            for tasks in self._tasks.values()
        }

    @property
    def has_work(self) -> bool:
        """Whether another `commit` would have work."""
        return bool(self._unprojected) or any(self.backlog.values())

    def has_position_of(self, record: Record) -> bool:
        """Whether the log has a record at this position."""
        return record.position < self._stored.get((record.topic, record.partition), 0)

    def folded(self, record: Record) -> bool:
        """Whether the stage that reads its topic has folded this position."""
        return record.position < self._tasks[record.topic][record.partition].committed

    def commit(
        self, outgoing: Sequence[Outgoing], now: int | None = None, *, before: str | None = None
    ) -> list[Record]:
        """Appends, folds a bounded amount, projects; returns the appended records with their positions.

        With `now`, timers fire up to then. With `before`, only the stages before that one fold, so that the
        record it fails on is in the log. Answer producers only after it returns. If a step fails, nothing of
        the transaction is left: the driver then calls `commit_unfolded`.
        """
        with self._transaction():
            # 1. The records get positions.
            appended = self._append(outgoing)
            if self._unprojected:  # older records are projected first; folding waits
                self._mark_unprojected(appended)
                self._store()
                self._project_older()
            else:
                # 2. Stage 1 folds them, stage 2 folds the outputs of stage 1, until nothing is left or time is up.
                if now is not None:
                    self._fire_timers(now)
                self._fold(before)
                self._collect_changes()
                # 3. Records, outputs, changed parts of the state, timers and checkpoints are written.
                self._store()
                # 4. The read models and their positions are written.
                if self._project is not None and self._written:
                    self._project(self._connection, self._written)
            # 5. The end of the block commits. If the connection breaks here, the commit is in doubt, and the
            #    driver asks the log with `contains`.
        return appended

    def commit_unfolded(self, outgoing: Sequence[Outgoing]) -> list[Record]:
        """Appends, and nothing else."""
        with self._transaction():
            appended = self._append(outgoing)
            if self._project is not None:
                self._mark_unprojected(appended)
            self._store()
        return appended

    def reread_skips(self) -> None:
        """Reads which records to skip; any process may have written them."""
        committed = {task.log_partition: task.committed for task in self._all_tasks()}
        self._skips = {
            (topic, partition, position): reason
            for (topic, partition, position), reason in log.read_skips(self._connection).items()
            if position >= committed.get((topic, partition), 0)
        }
        self._connection.commit()

    def as_appended(self, outgoing: Sequence[Outgoing]) -> list[Record]:
        """The records that the next commit would make of these."""
        return _with_positions(outgoing, dict(self._stored), self.partitions)

    def contains(self, record: Record) -> bool:
        """Whether exactly this record was appended: the answer to a commit in doubt."""
        if record.topic in log.COMPACTED_TOPICS:
            return self._stored.get((record.topic, record.partition), 0) > record.position
        stored = log.read_records(self._connection, *record[:3], 1)
        self._connection.commit()
        return stored == [record] or (bool(stored) and stored[0].key == ERASED_KEY)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing: the writer's memory follows the database."""
        unprojected = dict(self._unprojected)
        try:
            yield
            self._connection.commit()
        except BaseException:
            self._unprojected = unprojected
            self._heads = dict(self._stored)
            self._written = []
            self._refused.clear()
            self._changed.clear()
            self._state.forget()
            for task in self._all_tasks():
                task.reset()
            with suppress(psycopg.Error):  # a broken connection has rolled back already
                self._connection.rollback()
            raise
        self._stored = dict(self._heads)
        self._written = []
        self._refused.clear()
        for task in self._all_tasks():
            task.committed = task.position

    def _all_tasks(self) -> Iterator[EmbeddedTask]:
        return chain.from_iterable(self._tasks.values())

    def _append(self, outgoing: Sequence[Outgoing]) -> list[Record]:
        """Gives records their positions; `_store` writes the rows at the end of the transaction."""
        appended = _with_positions(outgoing, self._heads, self.partitions)
        for record in appended:
            if (tasks := self._tasks.get(record.topic)) is not None:
                tasks[record.partition].offer(record)
        self._written += appended
        return appended

    def _fire_timers(self, now: int) -> None:
        tasks = {task.task_id: task for task in self._all_tasks()}
        due = self._state.due_timers(sorted({stage for stage, _ in tasks}), now, TIMERS_AT_ONCE)
        self.more_timers = len(due) == TIMERS_AT_ONCE
        for task_id, keys in groupby(sorted(due), lambda timer: (timer.stage, timer.partition)):
            wake_ups, timers = tasks[task_id].shard.fire_timers([timer.key for timer in keys], now)
            self._state.put(task_id, {}, timers)
            self._append(wake_ups)

    def _fold(self, before: str | None) -> None:
        """Every stage in turn, until nothing is left or the transaction is long enough."""
        sources = list(takewhile(lambda source: self._tasks[source][0].stage != before, self._tasks))
        deadline = time.monotonic() + COMMIT_SECONDS
        while any([self._fold_stage(source) for source in sources]):  # noqa: C419 - all have their turn
            if time.monotonic() > deadline:
                return

    def _fold_stage(self, source: str) -> bool:
        """One stage's turn; returns whether it folded anything."""
        deadline, room = time.monotonic() + TURN_SECONDS, TURN_RECORDS
        fold = self._fold_window if source == EVENTS else self._fold_next_task
        for _ in range(TURN_RECORDS):
            work = fold(source, room)
            room -= work
            if not work or room <= 0 or time.monotonic() > deadline:
                break
        return room < TURN_RECORDS

    def _fold_window(self, source: str, room: int) -> int:
        """The next events of all partitions, in the order of recording. Returns the amount of work, in records."""
        tasks = self._tasks[source]
        share = max(1, min(room, CHUNK_RECORDS) // len(tasks))
        skipped = sum(self._skip_next(task) for task in tasks)
        chunks = [self._next_records(task, share) for task in tasks]
        times = [list(in_order(recorded_times(record.value or b"") for record in chunk)) for chunk in chunks]
        more = [
            task.position + len(chunk) < self._heads.get(task.log_partition, 0)
            for task, chunk in zip(tasks, chunks, strict=True)
        ]
        work, folded = skipped, []
        for task, chunk, recorded, size in zip(tasks, chunks, times, windows(times, more), strict=True):
            if size:
                outcome = self._fold_records(task, chunk[:size])
                work += share if task.sweeping else outcome.applied
                folded.append((recorded, outcome.ends, outcome.outputs))
        self._append(merged_outputs(folded))
        return work

    def _fold_next_task(self, source: str, room: int) -> int:
        """The next records of one partition; the partitions take turns. Returns the amount of work, in records."""
        tasks = self._tasks[source]
        for _ in tasks:
            task = tasks[self._turns[source]]
            self._turns[source] = (self._turns[source] + 1) % len(tasks)
            if self._skip_next(task):
                return 1
            limit = min(room, CHUNK_RECORDS)
            if records := self._next_records(task, limit):
                outcome = self._fold_records(task, records)
                self._append(outcome.outputs)
                return limit if task.sweeping else outcome.applied
        return 0

    def _next_records(self, task: EmbeddedTask, limit: int) -> list[Record]:
        """Those that the task can fold together: none of them is to be skipped."""
        self._fill(task, limit)
        records = list(islice(task.tail, 1 if task.sweeping else limit))
        if self._skips:
            records = list(takewhile(lambda record: record[:3] not in self._skips, records))
        return records

    def _fill(self, task: EmbeddedTask, limit: int) -> None:
        begin = task.position + len(task.tail)
        if len(task.tail) < limit and begin < self._stored.get(task.log_partition, 0):
            task.tail.extend(log.read_records(self._connection, *task.log_partition, begin, CHUNK_RECORDS))

    def _skip_next(self, task: EmbeddedTask) -> bool:
        """Skips the task's next record if an operator has asked for it."""
        if not self._skips:
            return False
        self._fill(task, 1)
        if not task.tail or (reason := self._skips.get(task.tail[0][:3])) is None:
            return False
        dead_letter = encoded_dead_letter(task.tail[0], f"skipped: {reason}")
        self._append([Outgoing(DEAD_LETTERS, task.tail[0].key, dead_letter)])
        task.advance(1)
        return True

    def _fold_records(self, task: EmbeddedTask, records: Sequence[Record]) -> FoldOutcome:
        """Folds them, but appends no outputs."""
        outcome = task.shard.fold(records)
        self._changed[task.task_id] = task
        self._refused |= {(*task.log_partition, position) for position in outcome.refused}
        task.advance(outcome.applied)
        task.sweeping = outcome.applied < len(records)
        return outcome

    def _collect_changes(self) -> None:
        """Each changed state is encoded once, however many records of the transaction changed it."""
        for task in self._changed.values():
            changes = task.shard.changes()
            self._state.put(task.task_id, changes.parts, changes.timers)
            self._append(changes.outputs)
        self._changed.clear()

    def _store(self) -> None:
        """Writes the rows of the transaction, in one round trip if they are few."""
        kept = [
            stub_of(record) if record[:3] in self._refused else record
            for record in self._written
            if record.topic not in log.COMPACTED_TOPICS
        ]
        older = self._refused - {record[:3] for record in kept} if self._refused else ()
        newer = [record for record in self._written if record.topic in log.COMPACTED_TOPICS]
        heads = [
            (*log_partition, head)
            for log_partition, head in self._heads.items()
            if head != self._stored.get(log_partition)
        ]
        checkpoints = [
            (*task.task_id, task.position) for task in self._all_tasks() if task.position != task.committed
        ]
        few = len(self._written) + len(checkpoints) + self._state.waiting < COPY_FROM_ROWS
        with self._connection.pipeline() if few else nullcontext():
            log.write_records(self._connection, kept)
            log.write_stubs(self._connection, older)
            log.write_compacted(self._connection, newer)
            log.write_heads(self._connection, heads)
            log.write_checkpoints(self._connection, checkpoints)
            self._state.flush()

    def _mark_unprojected(self, appended: Sequence[Record]) -> None:
        first: dict[LogPartition, int] = {}
        for record in appended:
            log_partition = (record.topic, record.partition)
            if log_partition not in self._unprojected:
                first.setdefault(log_partition, record.position)
        self._unprojected |= first
        log.write_unprojected(
            self._connection, [(*log_partition, position) for log_partition, position in first.items()]
        )

    def _project_older(self) -> None:
        """Projects a page of the records that were appended while folding was halted."""
        log_partition, position = next(iter(self._unprojected.items()))
        page = log.read_records(self._connection, *log_partition, position, TURN_RECORDS)
        if self._project is not None:
            self._project(self._connection, page)
        done = len(page) < TURN_RECORDS
        log.write_unprojected(self._connection, [(*log_partition, None if done else page[-1].position + 1)])
        if done:
            del self._unprojected[log_partition]
        else:
            self._unprojected[log_partition] = page[-1].position + 1


def _with_positions(
    outgoing: Sequence[Outgoing], heads: dict[LogPartition, int], partitions: int
) -> list[Record]:
    """Gives each record its partition and the next position there; advances `heads`."""
    records = []
    for topic, key, value, chosen in outgoing:
        partition = partition_of(key, partitions) if chosen is None else chosen
        position = heads.get((topic, partition), 0)
        heads[topic, partition] = position + 1
        records.append(Record(topic, partition, position, key, value))
    return records

"""The only appender of a log, over one connection: it appends, folds and projects in one transaction.

What is appended, what the folds make of it, their state, how far they have come and what projections
write become durable together or not at all. `commit` either does all of it, or raises and has done
nothing; `commit_unfolded` is the way out when a fold or a projection fails, so that what producers
say is kept all the same. Reads no clock but for the length of a turn.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain, groupby, islice, takewhile
from typing import Any

import psycopg

from schemas.record import LogPartition, Outgoing, Record
from schemas.topics import DEAD_LETTERS, partition_of
from streams.embedded import log
from streams.embedded.rows import MANY, Connection
from streams.embedded.state import PostgresStateStore
from streams.engine.shard import Shard, Stage, dead_letter

AnyStage = Stage[Any, Any]
Connect = Callable[..., Connection]
"""`psycopg.connect`, or one whose statements wait for no server that is gone."""
Project = Callable[[Connection, Sequence[Record]], None]
"""Writes read models from records, over the given connection, in its transaction. It gets every
record of the log exactly once, in the order of its partition; it must not commit."""

CHUNK = 500
"""Records that one call of a shard's `fold` gets at most."""
TURN = 2_000
"""Records that one stage folds before the next stage has its turn."""
TURN_SECONDS = 0.2
"""How long a stage may fold before the next has its turn, so that a sweep holds up nothing else."""
COMMIT_SECONDS = 0.3
"""How long a transaction goes on folding; what is left is folded in the next."""
TIMERS_AT_ONCE = 500
"""Keys whose due has come that are looked at in one transaction."""
TAIL = 2_000
"""Records that a lane keeps in memory between append and fold; beyond it reads them from the log."""

_SESSION = {
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
    """One shard, and how far it has come in its source partition."""

    stage: str
    slot: LogPartition
    shard: Shard[Any, Any]
    position: int
    """Of the next record to fold."""
    committed: int
    tail: deque[Record] = field(default_factory=deque)
    """The records from `position` on that are in memory, without a gap."""
    sweeping: bool = False
    """It has not finished with the next record: fold that one alone until it has."""

    def offer(self, record: Record) -> None:
        if len(self.tail) < TAIL and self.position + len(self.tail) == record.position:
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
        connect: Connect = psycopg.connect,
        partitions: int | None = None,
        genesis: Sequence[Outgoing] = (),
        project: Project | None = None,
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
        project: Project | None,
    ) -> None:
        connection = self._connection
        for setting, value in _SESSION.items():
            connection.execute("select set_config(%s, %s, false)", (setting, value))
        connection.commit()
        log.take_lock(connection)
        self.partitions = log.open_log(connection, partitions)
        self._heads = log.heads(connection)
        self._stored = dict(self._heads)
        self._unprojected = {} if project is None else log.unprojected(connection)
        self._skips: dict[tuple[str, int, int], str] = {}
        self._state = PostgresStateStore(connection)
        self._project = project
        self._written: list[Record] = []
        checkpoints = log.checkpoints(connection)
        self._tasks = {
            stage.source: [
                self._lane(stage, partition, checkpoints.get((stage.name, partition), 0))
                for partition in range(self.partitions)
            ]
            for stage in stages
        }
        self._turns = dict.fromkeys(self._tasks, 0)
        """Source -> the partition whose lane is the next to fold."""
        self.more_due = False
        """Whether the last look at what is due has left some for the next."""
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

    def _lane(self, stage: AnyStage, partition: int, position: int) -> EmbeddedTask:
        parts = self._state.of(stage.name, partition)
        shard = Shard(stage, partition, parts)
        return EmbeddedTask(stage.name, (stage.source, partition), shard, position, position)

    def close(self) -> None:
        self._connection.close()

    @property
    def lost(self) -> bool:
        """Whether the connection is gone; then nobody knows whether the last commit was done."""
        return self._connection.closed or self._connection.broken

    @property
    def heads(self) -> dict[LogPartition, int]:
        """The next position of each partition, as committed."""
        return dict(self._stored)

    @property
    def backlog(self) -> dict[str, int]:
        """How many records each stage has yet to fold, as committed."""
        return {
            lanes[0].stage: sum(self._stored.get(lane.slot, 0) - lane.committed for lane in lanes)
            for lanes in self._tasks.values()
        }

    @property
    def behind(self) -> bool:
        """Whether another `commit` would find something to do."""
        return bool(self._unprojected) or any(self.backlog.values())

    def has(self, record: Record) -> bool:
        """Whether a record stands at this place in the log."""
        return record.position < self._stored.get((record.topic, record.partition), 0)

    def folded(self, record: Record) -> bool:
        """Whether the stage that reads its topic has passed this place."""
        return record.position < self._tasks[record.topic][record.partition].committed

    def commit(
        self, outgoing: Sequence[Outgoing], now: int | None = None, *, before: str | None = None
    ) -> list[Record]:
        """Appends, folds a bounded amount, projects; returns the appended records with their positions.

        With `now`, the passing of time until then is folded into keys whose due has come. With
        `before`, only the stages before that one fold, so that what it fails on stands in the log.
        """
        with self._transaction():
            appended = self._append(outgoing)
            if self._unprojected:  # what is older comes first; folding waits
                self._mark_unprojected(appended)
                self._store()
                self._project_older()
            else:
                if now is not None:
                    self._wake(now)
                self._fold(before)
                self._store()
                if self._project is not None and self._written:
                    self._project(self._connection, self._written)
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
        """Learns what was asked to be skipped, by whatever process."""
        committed = {lane.slot: lane.committed for lane in self._all_lanes()}
        self._skips = {
            (topic, partition, position): reason
            for (topic, partition, position), reason in log.skips(self._connection).items()
            if position >= committed.get((topic, partition), 0)
        }
        self._connection.commit()

    def place(self, outgoing: Sequence[Outgoing]) -> list[Record]:
        """The records that the next commit would make of these."""
        return _place(outgoing, dict(self._stored), self.partitions)

    def holds(self, record: Record) -> bool:
        """Whether exactly this record was appended: the answer to a commit in doubt."""
        if record.topic in log.COMPACTED:
            return self._stored.get((record.topic, record.partition), 0) > record.position
        found = log.read(self._connection, *record[:3], 1)
        self._connection.commit()
        return found == [record]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing: what the writer remembers follows what the database has."""
        unprojected = dict(self._unprojected)
        try:
            yield
            self._connection.commit()
        except BaseException:
            self._unprojected = unprojected
            self._heads = dict(self._stored)
            self._written = []
            self._state.forget()
            for lane in self._all_lanes():
                lane.reset()
            with suppress(psycopg.Error):  # a lost connection has rolled back already
                self._connection.rollback()
            raise
        self._stored = dict(self._heads)
        self._written = []
        for lane in self._all_lanes():
            lane.committed = lane.position

    def _all_lanes(self) -> Iterator[EmbeddedTask]:
        return chain.from_iterable(self._tasks.values())

    def _append(self, outgoing: Sequence[Outgoing]) -> list[Record]:
        """Gives positions; the rows are written at the end of the transaction."""
        appended = _place(outgoing, self._heads, self.partitions)
        for record in appended:
            if (lanes := self._tasks.get(record.topic)) is not None:
                lanes[record.partition].offer(record)
        self._written += appended
        return appended

    def _wake(self, now: int) -> None:
        lanes = {(lane.stage, lane.slot[1]): lane for lane in self._all_lanes()}
        due = self._state.due_timers(sorted({stage for stage, _ in lanes}), now, TIMERS_AT_ONCE)
        self.more_due = len(due) == TIMERS_AT_ONCE
        for slot, keys in groupby(sorted(due), lambda key: (key.stage, key.partition)):
            records, dues = lanes[slot].shard.timers([key.key for key in keys], now)
            self._state.put(slot, {}, dues)
            self._append(records)

    def _fold(self, before: str | None) -> None:
        """Every stage in turn, until nothing is left or the transaction is long enough."""
        sources = list(takewhile(lambda source: self._tasks[source][0].stage != before, self._tasks))
        deadline = time.monotonic() + COMMIT_SECONDS
        while any([self._fold_stage(source) for source in sources]):  # noqa: C419 - all have their turn
            if time.monotonic() > deadline:
                return

    def _fold_stage(self, source: str) -> bool:
        """One stage's turn, beginning where the last one ended; whether anything was folded."""
        deadline, room, lanes = time.monotonic() + TURN_SECONDS, TURN, self._tasks[source]
        for _ in lanes:
            lane = lanes[self._turns[source]]
            self._turns[source] = (self._turns[source] + 1) % len(lanes)
            room -= self._fold_chunk(lane, min(room, CHUNK))
            if room <= 0 or time.monotonic() > deadline:
                break
        return room < TURN

    def _fold_chunk(self, lane: EmbeddedTask, limit: int) -> int:
        """Returns how much work it was, in records."""
        if not lane.tail and lane.position < self._stored.get(lane.slot, 0):
            lane.tail.extend(log.read(self._connection, *lane.slot, lane.position, CHUNK))
        records = list(islice(lane.tail, 1 if lane.sweeping else limit))
        if not records:
            return 0
        if self._skips:
            if reason := self._skips.get(records[0][:3]):
                self._append(
                    [Outgoing(DEAD_LETTERS, records[0].key, dead_letter(records[0], f"skipped: {reason}"))]
                )
                lane.advance(1)
                return 1
            records = list(takewhile(lambda record: record[:3] not in self._skips, records))
        outcome = lane.shard.fold(records)
        self._state.put((lane.stage, lane.slot[1]), outcome.parts, outcome.timers)
        self._append(outcome.outputs)
        lane.advance(outcome.applied)
        lane.sweeping = outcome.applied < len(records)
        return limit if lane.sweeping else outcome.applied

    def _store(self) -> None:
        """Writes the rows of the transaction, in one round trip if they are few."""
        kept = [record for record in self._written if record.topic not in log.COMPACTED]
        newer = [record for record in self._written if record.topic in log.COMPACTED]
        heads = [(*slot, head) for slot, head in self._heads.items() if head != self._stored.get(slot)]
        checkpoints = [
            (lane.stage, lane.slot[1], lane.position)
            for lane in self._all_lanes()
            if lane.position != lane.committed
        ]
        few = len(self._written) + len(checkpoints) + self._state.waiting < MANY
        with self._connection.pipeline() if few else nullcontext():
            log.write_records(self._connection, kept)
            log.compact(self._connection, newer)
            log.write_heads(self._connection, heads)
            log.write_checkpoints(self._connection, checkpoints)
            self._state.flush()

    def _mark_unprojected(self, appended: Sequence[Record]) -> None:
        first: dict[LogPartition, int] = {}
        for record in appended:
            slot = (record.topic, record.partition)
            if slot not in self._unprojected:
                first.setdefault(slot, record.position)
        self._unprojected |= first
        log.write_unprojected(self._connection, [(*slot, position) for slot, position in first.items()])

    def _project_older(self) -> None:
        """Projects a page of what was appended while folding stood still."""
        slot, position = next(iter(self._unprojected.items()))
        page = log.read(self._connection, *slot, position, TURN)
        if self._project is not None:
            self._project(self._connection, page)
        done = len(page) < TURN
        log.write_unprojected(self._connection, [(*slot, None if done else page[-1].position + 1)])
        if done:
            del self._unprojected[slot]
        else:
            self._unprojected[slot] = page[-1].position + 1


def _place(outgoing: Sequence[Outgoing], heads: dict[LogPartition, int], partitions: int) -> list[Record]:
    """Gives each record its partition and the next position there; moves `heads`."""
    placed = []
    for topic, key, value, chosen in outgoing:
        partition = partition_of(key, partitions) if chosen is None else chosen
        position = heads.get((topic, partition), 0)
        heads[topic, partition] = position + 1
        placed.append(Record(topic, partition, position, key, value))
    return placed

"""Builds the read models anew from a log, beside the live ones, and swaps them in.

Rows of records that the log no longer holds are kept (`projections.history`). Live writers go on meanwhile. Every statement of a reader sees the old tables or the new ones; a
writer that waits for the swap goes on from the new tables' positions. Interrupted at any moment
before the swap, it leaves the live tables untouched and can be run again. Archives stay as they are.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement, SetTableComment

from projections import history, positions, worker
from projections.connection import connect
from projections.embedded_log import EmbeddedLog, NothingToRebuildError
from projections.history import HistoryLostError
from projections.tables import FACTS, LIVE, READ_MODELS, SHADOW
from projections.views import create_views
from schemas.record import Chunk, LogPartition

__all__ = ["HistoryLostError", "Log", "NothingToRebuildError", "Progress", "RebuildRunsError", "rebuild"]

Connection = psycopg.Connection[Any]
Progress = Callable[[int, int], None]
"""(records folded, records there are now)"""

RETIRED: Final = "retired"
PAGE: Final = 5_000
CLOSE: Final = 1_000
"""Records behind the log at which swapping begins: what is left is folded while writers wait."""
ROUNDS: Final = 20
"""Of catching up; a log that outruns them all is caught up with while writers wait."""

_LOCK = 0x6C656164_72656264  # "leadrebd": advisory locks are numbered per database


class Log(Protocol):
    """Where the records are. It is given the rebuild's connection, for a log in the same database."""

    strict: bool
    """Only this program writes into it: a record that cannot be read ends the rebuild."""

    def starts(self, connection: Connection) -> Mapping[LogPartition, int]:
        """The first position held of every partition that the read models are made from; one that is
        left out begins at 0. Raises NothingToRebuildError.
        """

    def ends(self, connection: Connection) -> Mapping[LogPartition, int]:
        """The next position of every partition that has one: what stands before it can be read."""

    def read(self, connection: Connection, slot: LogPartition, start: int, end: int, most: int) -> Chunk:
        """What stands from `start` on: never nothing, at most so many records, and up to `end` if there
        are fewer. Raises PositionGapError for records that should be there.
        """

    def forget(self, connection: Connection) -> None:
        """Takes out of the shadow what the log let go without a record that says so."""

    def swapped(self, connection: Connection) -> None:
        """Within the transaction from which on readers and writers see the new tables."""


_OPTIONS: Final = "-c timezone=UTC -c jit=off -c maintenance_work_mem=256MB"


class RebuildRunsError(RuntimeError):
    """Another process rebuilds the database now."""


def rebuild(
    url: str,
    *,
    progress: Progress | None = None,
    source: Log | None = None,
    accept_loss: Collection[str] = (),
) -> list[str]:
    """Replaces every read model by one folded from the log: `source`, or the one embedded in this very
    database. Returns the names of the tables that keep rows from before the log's start. `accept_loss` names
    tables that may lack what no table ever contained. Raises NothingToRebuildError, RebuildRunsError,
    HistoryLostError.
    """
    log = source or EmbeddedLog()
    tell = progress or (lambda _done, _total: None)
    with connect(url, options=_OPTIONS, autocommit=True) as connection, _alone(connection):
        cut = _begin(connection, log, accept_loss)
        _fold(connection, log, tell)
        _complete(connection, cut)
        for _ in range(ROUNDS):
            if _fold(connection, log, tell) <= CLOSE:
                break
        _swap(connection, log, tell)
        _discard(connection, RETIRED)
    return sorted(table.name for table in cut)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    row = connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    if row is None or not row[0]:
        raise RebuildRunsError("Another process rebuilds the read models of this database: wait for it.")
    try:
        yield
    finally:
        connection.execute("select pg_advisory_unlock(%s)", (_LOCK,))


def _begin(connection: Connection, log: Log, accept_loss: Collection[str]) -> dict[Table, int]:
    """Tables without the facts' keys, empty but for what the log no longer holds; returns which those are.
    What an interrupted rebuild left is dropped.
    """
    starts = log.starts(connection)
    for schema in (SHADOW, RETIRED):
        _discard(connection, schema)
    with connection.transaction():
        contained = worker.contained_positions(connection)
        history.refuse_loss(history.gaps(starts, contained), accept_loss)
        cut = history.cut_tables(starts, contained)
        connection.execute("delete from public.positions where generation = %s", (SHADOW,))
        connection.execute(SQL("create schema {}").format(Identifier(SHADOW)))
        connection.execute(SQL("set local search_path = {}").format(Identifier(SHADOW)))
        for table in READ_MODELS:
            _define(connection, CreateTable(table))
            if table in FACTS:
                connection.execute(
                    SQL("alter table {} drop constraint {}").format(Identifier(table.name), _key_of(table))
                )
            else:
                _define_indexes(connection, table)
        create_views(connection, SHADOW)
        history.keep_rows(connection, cut)
        with worker.open_cursor(connection) as cursor:
            positions.begin(cursor, SHADOW, {slot: start - 1 for slot, start in starts.items()})
    return cut


def _fold(connection: Connection, log: Log, tell: Progress) -> int:
    """Everything that the log holds now, a page a transaction; returns how much there was to fold."""
    ends = log.ends(connection)
    held = _held(connection)
    found = sum(ends.values()) - sum(held.values())
    for slot, end in sorted(ends.items()):
        while held.get(slot, 0) < end:
            with connection.transaction():
                held[slot] = _fold_page(connection, log, slot, end)
            tell(sum(held.values()), sum(ends.values()))
    log.forget(connection)
    tell(sum(held.values()), sum(ends.values()))
    return found


def _fold_page(connection: Connection, log: Log, slot: LogPartition, end: int) -> int:
    """The next page of one partition; returns where the next one begins."""
    with worker.open_cursor(connection) as cursor:
        start = positions.lock(cursor, SHADOW, [slot])[slot] + 1
    chunk = log.read(connection, slot, start, end, PAGE)
    return worker.project_chunks(connection, [chunk], schema=SHADOW, strict=log.strict)[slot]


def _complete(connection: Connection, cut: Mapping[Table, int]) -> None:
    """The facts that the log no longer holds, the facts' keys and indexes, and what the planner needs."""
    with connection.transaction():
        history.add_facts(connection, cut)
        connection.execute(SQL("set local search_path = {}").format(Identifier(SHADOW)))
        for table in FACTS:
            connection.execute(
                SQL("alter table {} add constraint {} primary key ({})").format(
                    Identifier(table.name),
                    _key_of(table),
                    SQL(", ").join(Identifier(column.name) for column in table.primary_key),
                )
            )
            _define_indexes(connection, table)
    for table in READ_MODELS:
        connection.execute(SQL("analyze {}").format(Identifier(SHADOW, table.name)))


def _swap(connection: Connection, log: Log, tell: Progress) -> None:
    """While no writer is inside a transaction: the rest of the log, then the new name."""
    with connection.transaction():
        connection.execute("lock table public.positions in exclusive mode")
        _fold(connection, log, tell)
        connection.execute("delete from public.positions where generation = %s", (LIVE,))
        connection.execute(
            "update public.positions set generation = %s where generation = %s", (LIVE, SHADOW)
        )
        for old, new in ((LIVE, RETIRED), (SHADOW, LIVE)):
            connection.execute(SQL("alter schema {} rename to {}").format(Identifier(old), Identifier(new)))
        log.swapped(connection)
        connection.execute("select pg_notify(%s, '{}')", (worker.CHANNEL,))


def _discard(connection: Connection, schema: str) -> None:
    """Table by table: a reader of one keeps nobody from the others."""
    for table in READ_MODELS:
        connection.execute(SQL("drop table if exists {} cascade").format(Identifier(schema, table.name)))
    connection.execute(SQL("drop schema if exists {} cascade").format(Identifier(schema)))


def _held(connection: Connection) -> dict[LogPartition, int]:
    """The next position that the shadow needs of every partition that it knows."""
    rows = connection.execute(
        "select topic, partition, position + 1 from public.positions where generation = %s", (SHADOW,)
    )
    return {(topic, partition): position for topic, partition, position in rows}


def _define(connection: Connection, definition: ExecutableDDLElement) -> None:
    """A definition of `tables`, in the schema that the search path names."""
    connection.execute(str(definition.compile(dialect=_DIALECT)).encode())


def _define_indexes(connection: Connection, table: Table) -> None:
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        _define(connection, CreateIndex(index))
    _define(connection, SetTableComment(table))


def _key_of(table: Table) -> Identifier:
    return Identifier(str(table.primary_key.name))


_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped

"""Builds the read models anew from the embedded log, beside the live ones, and swaps them in.

Live writers go on meanwhile. Every statement of a reader sees the old tables or the new ones; a
writer that waits for the swap goes on from the new tables' positions. Interrupted at any moment
before the swap, it leaves the live tables untouched and can be run again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement, SetTableComment

from projections import positions, worker
from projections.tables import FACTS, LIVE, PROJECTED, READ_MODELS, SHADOW
from projections.views import create_views
from schemas.record import Record, Slot
from schemas.topics import LEAD_SCORES

Connection = psycopg.Connection[Any]
Progress = Callable[[int, int], None]
"""(records folded, records there are now)"""

RETIRED: Final = "retired"
PAGE: Final = 5_000
CLOSE: Final = 1_000
"""Records behind the log at which swapping begins: what is left is folded while writers wait."""
ROUNDS: Final = 20
"""Of catching up; a log that outruns them all is caught up with while writers wait."""

KEPT: Final = tuple(topic for topic in PROJECTED if topic != LEAD_SCORES)
COMPACTED: Final = LEAD_SCORES

_LOCK = 0x6C656164_72656264  # "leadrebd": advisory locks are numbered per database

_ENDS: LiteralString = """
  select topic, partition, position - 1 from public.heads where topic = any(%b::text[])
"""
_STARTS: LiteralString = """
  select h.topic, h.partition, coalesce(first.position, h.position) - 1
  from public.heads h left join lateral (
    select r.position from public.records r where r.topic = h.topic and r.partition = h.partition
    order by r.position limit 1) first on true
  where h.topic = any(%b::text[])
"""
_PAGE: LiteralString = """
  select topic, partition, position, key, value from public.records
  where topic = %b and partition = %b and position > %b order by position limit %b
"""
_NEWEST: LiteralString = """
  select c.topic, c.partition, c.position, c.key, c.value
  from public.compacted c left join public.positions p
    on p.generation = %b and p.topic = c.topic and p.partition = c.partition
  where c.topic = %b and c.position > coalesce(p.position, -1)
"""
_VANISHED: LiteralString = """
  delete from {table} t using shadow.leads l
  where t.lead_key = l.lead_key and not exists (
    select from public.compacted c where c.topic = %b and c.key = l.tenant || '/l/' || l.lead_id)
"""
_HELD: LiteralString = "select topic, partition, position from public.positions where generation = %b"
_OPTIONS: Final = "-c timezone=UTC -c jit=off -c maintenance_work_mem=256MB"


class NothingToRebuildError(RuntimeError):
    """The database holds no embedded log."""


class RebuildRunsError(RuntimeError):
    """Another process rebuilds the database now."""


def rebuild(url: str, *, progress: Progress | None = None) -> None:
    """Replaces every read model by one folded from the log. Raises NothingToRebuildError."""
    tell = progress or (lambda _done, _total: None)
    with psycopg.connect(url, options=_OPTIONS, autocommit=True) as connection, _alone(connection):
        _begin(connection)
        _fold(connection, tell)
        _complete(connection)
        for _ in range(ROUNDS):
            done, total = _counts(connection, SHADOW)
            if total - done <= CLOSE:
                break
            _fold(connection, tell)
        _swap(connection)
        tell(*_counts(connection, LIVE))
        _discard(connection, RETIRED)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    row = connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    if row is None or not row[0]:
        raise RebuildRunsError("Another process rebuilds the read models of this database: wait for it.")
    try:
        yield
    finally:
        connection.execute("select pg_advisory_unlock(%s)", (_LOCK,))


def _begin(connection: Connection) -> None:
    """Empty tables without the facts' keys; what an interrupted rebuild left is dropped."""
    row = connection.execute("select to_regclass('public.records') is not null").fetchone()
    if row is None or not row[0]:
        raise NothingToRebuildError(
            "There is no embedded log in this database, so there is nothing to rebuild from: name the database of "
            "`leadstream serve`."
        )
    for schema in (SHADOW, RETIRED):
        _discard(connection, schema)
    with connection.transaction():
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
        with worker.open_cursor(connection) as cursor:
            starts = _positions(connection, _STARTS, list(KEPT))
            positions.lock(cursor, SHADOW, sorted(starts))
            positions.advance(cursor, SHADOW, starts)


def _fold(connection: Connection, tell: Progress) -> None:
    """Everything that the log holds now, a page a transaction."""
    for slot, end in sorted(_ends(connection, KEPT).items()):
        more = True
        while more:
            with connection.transaction():
                more = _fold_page(connection, slot, end)
            tell(*_counts(connection, SHADOW))
    with connection.transaction():
        # One moment for all that is read: a lead that goes meanwhile is seen to go the next time.
        connection.execute("set transaction isolation level repeatable read")
        _fold_compacted(connection)


def _fold_page(connection: Connection, slot: Slot, end: int) -> bool:
    """The next page of one partition; False when there is no more up to `end`."""
    with worker.open_cursor(connection) as cursor:
        held = positions.lock(cursor, SHADOW, [slot])[slot]
        if held >= end:
            return False
        cursor.execute(_PAGE, (*slot, held, min(PAGE, end - held)))
        records = [Record(*row) for row in cursor]
        if not records:
            raise positions.PositionGapError(
                f"{slot[0]}/{slot[1]}: the log ends at {end}, but holds no record after {held}."
            )
        new, reached = positions.fresh(records, {slot: held})
        worker.write(connection, cursor, SHADOW, new, reached)
        return reached[slot] < end


def _fold_compacted(connection: Connection) -> None:
    """The newest record of every lead, and the end of those that are no more."""
    ends = _ends(connection, (COMPACTED,))
    with connection.cursor("newest", binary=True) as newest, worker.open_cursor(connection) as cursor:
        newest.execute(_NEWEST, (SHADOW, COMPACTED))
        while page := newest.fetchmany(PAGE):
            worker.write(connection, cursor, SHADOW, (Record(*row) for row in page), {})
        for table in ("lead_scores", "leads"):
            cursor.execute(SQL(_VANISHED).format(table=Identifier(SHADOW, table)), (COMPACTED,))
        positions.lock(cursor, SHADOW, sorted(ends))
        positions.advance(cursor, SHADOW, ends)


def _complete(connection: Connection) -> None:
    """The facts' keys and indexes, and what the planner needs to know."""
    with connection.transaction():
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


def _swap(connection: Connection) -> None:
    """While no writer is inside a transaction: the rest of the log, then the new name."""
    with connection.transaction():
        connection.execute("lock table public.positions in exclusive mode")
        for slot, end in sorted(_ends(connection, KEPT).items()):
            while _fold_page(connection, slot, end):
                pass
        _fold_compacted(connection)
        connection.execute("delete from public.positions where generation = %s", (LIVE,))
        connection.execute(
            "update public.positions set generation = %s where generation = %s", (LIVE, SHADOW)
        )
        for old, new in ((LIVE, RETIRED), (SHADOW, LIVE)):
            connection.execute(SQL("alter schema {} rename to {}").format(Identifier(old), Identifier(new)))
        connection.execute("select pg_notify(%s, '{}')", (worker.CHANNEL,))


def _discard(connection: Connection, schema: str) -> None:
    """Table by table: a reader of one keeps nobody from the others."""
    for table in READ_MODELS:
        connection.execute(SQL("drop table if exists {}").format(Identifier(schema, table.name)))
    connection.execute(SQL("drop schema if exists {} cascade").format(Identifier(schema)))


def _ends(connection: Connection, topics: Sequence[str]) -> dict[Slot, int]:
    """The last position of every partition that has one."""
    return _positions(connection, _ENDS, list(topics))


def _positions(connection: Connection, query: LiteralString, given: object) -> dict[Slot, int]:
    with worker.open_cursor(connection) as cursor:
        cursor.execute(query, (given,))
        return {(topic, partition): position for topic, partition, position in cursor}


def _counts(connection: Connection, generation: str) -> tuple[int, int]:
    ends, held = _ends(connection, PROJECTED), _positions(connection, _HELD, generation)
    return sum(position + 1 for position in held.values()), sum(end + 1 for end in ends.values())


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

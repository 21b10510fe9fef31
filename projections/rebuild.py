"""Builds the read models again from a log, beside the live ones, and swaps them in.

Rows of records that the log no longer has are kept (`projections.history`). Live writers go on meanwhile. Every
statement of a reader sees the old tables or the new ones; a writer that waits for the swap goes on from the new tables'
positions. A rebuild that is interrupted before the swap leaves the live tables unchanged and can run again. It does not
change the archive.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from psycopg.sql import SQL, Identifier
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement, SetTableComment

from projections import analytics_worker, history, positions, worker
from projections.connection import Connection, connect_watched
from projections.embedded_log import EmbeddedLog, NothingToRebuildError
from projections.history import HistoryLostError
from projections.outbox import add_deliveries_of_swap
from projections.reports import create_reports
from projections.retention import remove_from_rebuilt
from projections.table_definition import LIVE_SCHEMA, SHADOW_SCHEMA
from projections.table_sets import ANALYTICS_TABLES, FACT_TABLES, READ_MODEL_TABLES
from projections.views import create_views
from schemas.record import Chunk, LogPartition

__all__ = [
    "HistoryLostError",
    "LogSource",
    "NothingToRebuildError",
    "RebuildProgress",
    "RebuildRunsError",
    "rebuild",
]

RebuildProgress = Callable[[int, int], None]
"""(records folded, records there are now)"""

RETIRED_SCHEMA: Final = "retired"
PAGE_RECORDS: Final = 5_000
SWAP_BELOW_RECORDS: Final = 1_000
"""The swap begins when at most so many records are left; they are folded while writers wait."""
MOST_PASSES: Final = 20
"""Passes that catch up with the log. If the log grows faster, the rest is folded while writers wait."""

REBUILD_LOCK_ID = 0x6C656164_72656264  # "leadrebd": advisory locks are numbered per database


class LogSource(Protocol):
    """The source of the records. It gets the rebuild's connection, for a log in the same database."""

    strict: bool
    """If only this program writes into the log: a record that cannot be read ends the rebuild."""

    def starts(self, connection: Connection) -> Mapping[LogPartition, int]:
        """The first position in the log of every partition that the read models are made from. A partition that is
        left out begins at 0. Raises NothingToRebuildError.
        """

    def ends(self, connection: Connection) -> Mapping[LogPartition, int]:
        """The next position of every partition that has one. Every record before it can be read."""

    def read(
        self, connection: Connection, log_partition: LogPartition, start: int, end: int, most: int
    ) -> Chunk:
        """The records from `start` on: at least one position, at most `most` records, and up to `end` if there are fewer.
        Raises PositionGapError if records are missing.
        """

    def forget(self, connection: Connection) -> None:
        """Deletes from the shadow what the log deleted without a record."""

    def swapped(self, connection: Connection) -> None:
        """Called in the transaction that makes the new tables visible."""


_OPTIONS: Final = "-c timezone=UTC -c jit=off -c maintenance_work_mem=256MB"


class RebuildRunsError(RuntimeError):
    """Another process is rebuilding this database."""


def rebuild(
    url: str,
    *,
    progress: RebuildProgress | None = None,
    source: LogSource | None = None,
    accept_loss: Collection[str] = (),
    read_settings: analytics_worker.ReadSettings = analytics_worker.no_settings,
) -> list[str]:
    """Replaces every read model by one that is folded from the log: `source`, or the log embedded in this database.

    1. Create empty tables in the shadow, and keep the rows whose records the log no longer has.
    2. Fold the log into the shadow.
    3. Complete the facts, their keys and indexes.
    4. Compute the analytics of every lead.
    5. Fold what the log has gained, and compute the leads that it changed, until little is left.
    6. While writers wait: fold the rest, deliver the workflows that the live tables do not know yet, and rename the schemas.
       The analytics worker computes what the rest changed.

    `read_settings` reads what the analytics depend on. Returns the names of the tables that keep rows from before the
    log's start. `accept_loss` names tables that may lack
    rows of records that no table ever contained. Raises NothingToRebuildError, RebuildRunsError, HistoryLostError.
    """
    log = source or EmbeddedLog()
    report = progress or (lambda _done, _total: None)
    with connect_watched(url, options=_OPTIONS, autocommit=True) as connection, only_rebuild(connection):
        cut = _begin_shadow(connection, log, accept_loss)
        _fold_log(connection, log, report)
        _complete_shadow(connection, cut)
        analytics_worker.compute_all_leads(connection, read_settings, SHADOW_SCHEMA)
        for _ in range(MOST_PASSES):
            folded = _fold_log(connection, log, report)
            analytics_worker.compute_every_stale_lead(connection, read_settings, SHADOW_SCHEMA)
            if folded <= SWAP_BELOW_RECORDS:
                break
        _swap_schemas(connection, log, report)
        _drop_schema(connection, RETIRED_SCHEMA)
    return sorted(table.name for table in cut)


@contextmanager
def only_rebuild(connection: Connection) -> Iterator[None]:
    row = connection.execute("select pg_try_advisory_lock(%s)", (REBUILD_LOCK_ID,)).fetchone()
    if row is None or not row[0]:
        raise RebuildRunsError(
            "Another process is rebuilding the read models of this database. Wait until it ends."
        )
    try:
        yield
    finally:
        connection.execute("select pg_advisory_unlock(%s)", (REBUILD_LOCK_ID,))


def _begin_shadow(connection: Connection, log: LogSource, accept_loss: Collection[str]) -> dict[Table, int]:
    """Creates the shadow's tables, those of facts without keys, and copies the rows whose records the log no longer
    has. Returns the tables with such rows. Drops what an interrupted rebuild left.
    """
    starts = log.starts(connection)
    for schema in (SHADOW_SCHEMA, RETIRED_SCHEMA):
        _drop_schema(connection, schema)
    with connection.transaction():
        contained = worker.contained_positions(connection)
        history.refuse_loss(history.gaps_between(starts, contained), accept_loss)
        cut = history.tables_with_lost_source(starts, contained)
        connection.execute("delete from public.positions where generation = %s", (SHADOW_SCHEMA,))
        connection.execute(SQL("create schema {}").format(Identifier(SHADOW_SCHEMA)))
        connection.execute(SQL("set local search_path = {}").format(Identifier(SHADOW_SCHEMA)))
        for table in READ_MODEL_TABLES:
            _run_definition(connection, CreateTable(table))
            if table in FACT_TABLES:
                connection.execute(
                    SQL("alter table {} drop constraint {}").format(
                        Identifier(table.name), _primary_key_name(table)
                    )
                )
            else:
                _define_indexes(connection, table)
        for table in ANALYTICS_TABLES:
            _run_definition(connection, CreateTable(table))
            _define_indexes(connection, table)
        create_views(connection, SHADOW_SCHEMA)
        history.keep_rows(connection, cut)
        with worker.open_cursor(connection) as cursor:
            positions.begin_positions(
                cursor, SHADOW_SCHEMA, {log_partition: start - 1 for log_partition, start in starts.items()}
            )
    return cut


def _fold_log(connection: Connection, log: LogSource, report: RebuildProgress) -> int:
    """Folds everything that the log has now, one page in each transaction. Returns how many records there were."""
    ends = log.ends(connection)
    reached = _next_positions(connection)
    count = sum(ends.values()) - sum(reached.values())
    for log_partition, end in sorted(ends.items()):
        while reached.get(log_partition, 0) < end:
            with connection.transaction():
                reached[log_partition] = _fold_page(connection, log, log_partition, end)
            report(sum(reached.values()), sum(ends.values()))
    log.forget(connection)
    report(sum(reached.values()), sum(ends.values()))
    return count


def _fold_page(connection: Connection, log: LogSource, log_partition: LogPartition, end: int) -> int:
    """Folds the next page of one partition. Returns the position at which the page after it begins."""
    with worker.open_cursor(connection) as cursor:
        start = positions.lock_positions(cursor, SHADOW_SCHEMA, [log_partition])[log_partition] + 1
    chunk = log.read(connection, log_partition, start, end, PAGE_RECORDS)
    return worker.project_chunks(connection, [chunk], schema=SHADOW_SCHEMA, strict=log.strict)[log_partition]


def _complete_shadow(connection: Connection, cut: Mapping[Table, int]) -> None:
    """Adds the facts that the log no longer has, the facts' keys and indexes, and statistics for the planner."""
    with connection.transaction():
        history.add_facts(connection, cut)
        remove_from_rebuilt(connection, SHADOW_SCHEMA)
        connection.execute(SQL("set local search_path = {}").format(Identifier(SHADOW_SCHEMA)))
        for table in FACT_TABLES:
            connection.execute(
                SQL("alter table {} add constraint {} primary key ({})").format(
                    Identifier(table.name),
                    _primary_key_name(table),
                    SQL(", ").join(Identifier(column.name) for column in table.primary_key),
                )
            )
            _define_indexes(connection, table)
    for table in READ_MODEL_TABLES:
        connection.execute(SQL("analyze {}").format(Identifier(SHADOW_SCHEMA, table.name)))


def _swap_schemas(connection: Connection, log: LogSource, report: RebuildProgress) -> None:
    """Folds the rest of the log and renames the schemas, while no writer is inside a transaction."""
    with connection.transaction():
        connection.execute("lock table public.positions in exclusive mode")
        _fold_log(connection, log, report)
        add_deliveries_of_swap(connection, SHADOW_SCHEMA)
        connection.execute("delete from public.positions where generation = %s", (LIVE_SCHEMA,))
        connection.execute(
            "update public.positions set generation = %s where generation = %s", (LIVE_SCHEMA, SHADOW_SCHEMA)
        )
        for old, new in ((LIVE_SCHEMA, RETIRED_SCHEMA), (SHADOW_SCHEMA, LIVE_SCHEMA)):
            connection.execute(SQL("alter schema {} rename to {}").format(Identifier(old), Identifier(new)))
        create_reports(connection, replace=True)
        log.swapped(connection)
        for channel in (worker.NOTIFY_CHANNEL, worker.CHANGES_CHANNEL):
            connection.execute("select pg_notify(%s, '{}')", (channel,))


def _drop_schema(connection: Connection, schema: str) -> None:
    """Drops table by table, so that a reader of one table blocks no reader of the others."""
    for table in (*READ_MODEL_TABLES, *ANALYTICS_TABLES):
        connection.execute(SQL("drop table if exists {} cascade").format(Identifier(schema, table.name)))
    connection.execute(SQL("drop schema if exists {} cascade").format(Identifier(schema)))


def _next_positions(connection: Connection) -> dict[LogPartition, int]:
    """The next position that the shadow needs, of every partition that it knows."""
    rows = connection.execute(
        "select topic, partition, position + 1 from public.positions where generation = %s", (SHADOW_SCHEMA,)
    )
    return {(topic, partition): position for topic, partition, position in rows}


def _run_definition(connection: Connection, definition: ExecutableDDLElement) -> None:
    """Runs a definition of a table in the schema that the search path names."""
    connection.execute(str(definition.compile(dialect=_DIALECT)).encode())


def _define_indexes(connection: Connection, table: Table) -> None:
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        _run_definition(connection, CreateIndex(index))
    _run_definition(connection, SetTableComment(table))


def _primary_key_name(table: Table) -> Identifier:
    return Identifier(str(table.primary_key.name))


_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped

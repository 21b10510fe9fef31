"""What a rebuild keeps if the log no longer contains the records of the oldest rows: rows of the live tables.

1. `keep_rows` copies mutable rows of the live tables into the shadow, and facts into tables beside it.
2. The fold of the log replaces, rewrites and deletes the mutable rows as it always does. It comes at least as far as
   the live tables were, so it meets the record of every newer row again.
3. `add_facts` adds the copied facts that the fold did not make again: their records were before the log's start.

`refuse_loss`: records that were deleted before the live tables contained them are lost, whatever a rebuild does.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from psycopg.sql import SQL, Composable, Identifier, Literal
from sqlalchemy import Table

from projections import public_tables, tables
from projections.connection import Connection
from projections.state_rows import stage_of
from projections.table_definition import LIVE_SCHEMA, NEWEST_BY_INFO_KEY, SHADOW_SCHEMA
from projections.table_sets import FACT_TABLES, READ_MODEL_TABLES
from schemas import topics
from schemas.record import LogPartition

_TABLES_OF: Final[Mapping[str, tuple[Table, ...]]] = {
    topics.EVENTS: (public_tables.event_archive,),
    topics.LEAD_ACTIVITY: (
        tables.engagement_history,
        tables.identities,
        tables.identity_history,
        tables.lead_records,
        tables.publications,
        tables.sessions,
        tables.settings_history,
    ),
    topics.SESSION_SCORES: (tables.session_scores,),
    topics.SCORE_CHANGED: (tables.score_history,),
    topics.LEAD_SCORES: (tables.lead_scores, tables.lead_search, tables.leads),
    topics.LEAD_CHANGES: (
        tables.applied_events,
        tables.band_changes,
        tables.qualification_overrides,
        tables.stage_history,
        tables.workflow_executions,
    ),
    topics.DEAD_LETTERS: (tables.dead_letters,),
}
_STATE_TABLES: Final = (tables.worker_dues, tables.worker_state)
LOSABLE_TABLES: Final = frozenset(
    {table.name for table in READ_MODEL_TABLES} | {public_tables.event_archive.name}
)
"""The names that `--accept-loss` accepts."""


class HistoryLostError(RuntimeError):
    """Records that no table contains were deleted. The message names what is lost and how to accept that."""


class LogGap(NamedTuple):
    """Records of one partition that the log deleted before the tables contained them."""

    partition: LogPartition
    first: int
    last: int


def tables_filled_from(topic: str) -> tuple[Table, ...]:
    """Every table in which a record of the topic may make a row."""
    own = _TABLES_OF.get(topic) or (_STATE_TABLES if stage_of(topic) else ())
    if topic in {topics.EVENTS, topics.LEAD_ACTIVITY, topics.DEAD_LETTERS}:
        return own
    return (*own, tables.dead_letters)  # for a record that another program wrote


def gaps_between(starts: Mapping[LogPartition, int], contained: Mapping[LogPartition, int]) -> list[LogGap]:
    """The gaps between the next position that the tables need (`contained`) and the first one that the log has
    (`starts`). Partitions that the tables do not know have none.
    """
    return [
        LogGap(partition, contained[partition], start - 1)
        for partition, start in sorted(starts.items())
        if contained.get(partition, start) < start
    ]


def refuse_loss(gaps: Iterable[LogGap], accepted: Collection[str]) -> None:
    """Raises HistoryLostError unless `accepted` names every table that will lack rows forever."""
    missing = list(gaps)
    lost_rows: Counter[str] = Counter()
    for gap in missing:
        for table in tables_filled_from(gap.partition[0]):
            if table is not tables.dead_letters or gap.partition[0] == topics.DEAD_LETTERS:
                lost_rows[table.name] += gap.last - gap.first + 1
    refused = sorted(lost_rows.keys() - set(accepted))
    if not refused:
        return
    ranges = ", ".join(
        f"{gap.partition[0]}/{gap.partition[1]} positions {gap.first} to {gap.last}" for gap in missing
    )
    counts = ", ".join(f"{name} (up to {lost_rows[name]:,} rows)" for name in refused)
    options = " ".join(f"--accept-loss {name}" for name in sorted(lost_rows))
    raise HistoryLostError(
        f"Retention deleted records before the read models contained them: {ranges}. A rebuild cannot make the rows "
        f"of these records: {counts}. Everything else is kept. To go on without them: `leadstream rebuild {options}`."
    )


def tables_with_lost_source(
    starts: Mapping[LogPartition, int], contained: Mapping[LogPartition, int]
) -> dict[Table, int]:
    """The tables that may contain rows of records from before the log's starts. Each has a position that is above the
    positions of all these records.
    """
    cut: dict[Table, int] = {}
    for partition, start in starts.items():
        if start > 0 and partition in contained:
            for table in tables_filled_from(partition[0]):
                cut[table] = max(cut.get(table, 0), start)
    return cut


def keep_rows(connection: Connection, cut: Mapping[Table, int]) -> None:
    """Step 1. The live writer goes on meanwhile."""
    for table, start in cut.items():
        columns = _column_list(table)
        rows = SQL("select {} from {}{}").format(
            columns, Identifier(LIVE_SCHEMA, table.name), _rows_before(table, start)
        )
        if table in FACT_TABLES:
            connection.execute(SQL("create table {} as {}").format(_name_of_copy(table), rows))
        else:
            into = Identifier(SHADOW_SCHEMA, table.name)
            connection.execute(SQL("insert into {} ({}) {}").format(into, columns, rows))


def add_facts(connection: Connection, cut: Mapping[Table, int]) -> None:
    """Step 3, after the fold has reached the position at which the log ended after step 1."""
    for table, start in cut.items():
        if table not in FACT_TABLES:
            continue
        same = SQL(" and ").join(
            SQL("made.{0} = kept.{0}").format(Identifier(column.name)) for column in table.primary_key
        )
        connection.execute(
            SQL(
                "insert into {table} ({columns}) select {columns} from {copy} kept "
                "where not exists (select from {table} made where {same} and made.position < {start})"
            ).format(
                table=Identifier(SHADOW_SCHEMA, table.name),
                columns=_column_list(table),
                copy=_name_of_copy(table),
                same=same,
                start=Literal(start),
            )
        )
        connection.execute(SQL("drop table {}").format(_name_of_copy(table)))


def _rows_before(table: Table, start: int) -> Composable:
    """Only rows of records before the log's start are kept; the fold makes the later ones again. `identities`,
    `identity_history`, `sessions`, `dead_letters`, `publications`, `settings_history` and `workflow_executions` are not newest by a position, so all of their rows are kept.
    """
    if table in FACT_TABLES or table.info[NEWEST_BY_INFO_KEY] == ("position",):
        return SQL(" where position < {}").format(Literal(start))
    return SQL("")


def _column_list(table: Table) -> Composable:
    return SQL(", ").join(Identifier(column.name) for column in table.columns)


def _name_of_copy(table: Table) -> Identifier:
    return Identifier(SHADOW_SCHEMA, f"kept_{table.name}")

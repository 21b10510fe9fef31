"""What a rebuild keeps of a history whose records the log no longer holds: rows of the live tables.

1. `keep_rows`: mutable rows of the live tables go into the shadow; facts are set aside there.
2. The fold of the log goes over the mutable rows: it replaces, rewrites and deletes them as ever. It comes
   at least as far as the live tables were, so what it finds newer than itself it meets again.
3. `add_facts`: the facts set aside that the fold did not make again are from before the log's start.

Records that went before the live tables took them are lost whatever a rebuild does: `refuse_loss`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.sql import SQL, Composable, Identifier, Literal
from sqlalchemy import Table

from projections import tables
from projections.state_rows import stage_of
from projections.tables import FACTS, LIVE, NEWEST_BY, READ_MODELS, SHADOW
from schemas import topics
from schemas.record import LogPartition

Connection = psycopg.Connection[Any]

_TABLES_OF: Final[Mapping[str, tuple[Table, ...]]] = {
    topics.EVENTS: (tables.event_archive,),
    topics.LEAD_ACTIVITY: (
        tables.engagement_history,
        tables.identities,
        tables.publications,
        tables.sessions,
    ),
    topics.SESSION_SCORES: (tables.session_scores,),
    topics.SCORE_CHANGED: (tables.score_history,),
    topics.LEAD_SCORES: (tables.lead_scores, tables.leads),
    topics.LEAD_CHANGES: (tables.applied_events, tables.band_changes, tables.stage_history),
    topics.DEAD_LETTERS: (tables.dead_letters,),
}
_STATE: Final = (tables.worker_dues, tables.worker_state)
LOSABLE_TABLES: Final = frozenset({table.name for table in READ_MODELS} | {tables.event_archive.name})
"""What `--accept-loss` may name."""


class HistoryLostError(RuntimeError):
    """Records are gone that no table contains; the message names what is lost and how to accept that."""


class Gap(NamedTuple):
    """Records of one partition that the log let go before the tables contained them."""

    slot: LogPartition
    first: int
    last: int


def tables_of(topic: str) -> tuple[Table, ...]:
    """Every table that a record of the topic may make a row of."""
    own = _TABLES_OF.get(topic) or (_STATE if stage_of(topic) else ())
    if topic in {topics.EVENTS, topics.LEAD_ACTIVITY, topics.DEAD_LETTERS}:
        return own
    return (*own, tables.dead_letters)  # of a record that somebody else wrote


def gaps(starts: Mapping[LogPartition, int], contained: Mapping[LogPartition, int]) -> list[Gap]:
    """Given the first position that the log holds, and the next one that the tables need, where they
    know the partition at all.
    """
    return [
        Gap(slot, contained[slot], start - 1)
        for slot, start in sorted(starts.items())
        if contained.get(slot, start) < start
    ]


def refuse_loss(found: Iterable[Gap], accepted: Collection[str]) -> None:
    """Raises HistoryLostError unless every table that lacks something for good is accepted by name."""
    missing = list(found)
    lost: Counter[str] = Counter()
    for gap in missing:
        for table in tables_of(gap.slot[0]):
            if table is not tables.dead_letters or gap.slot[0] == topics.DEAD_LETTERS:
                lost[table.name] += gap.last - gap.first + 1
    refused = sorted(lost.keys() - set(accepted))
    if not refused:
        return
    places = ", ".join(f"{gap.slot[0]}/{gap.slot[1]} positions {gap.first} to {gap.last}" for gap in missing)
    counts = ", ".join(f"{name} (up to {lost[name]:,} rows)" for name in refused)
    options = " ".join(f"--accept-loss {name}" for name in sorted(lost))
    raise HistoryLostError(
        f"Retention deleted records before the read models contained them: {places}. A rebuild cannot make the rows "
        f"of these records: {counts}. Everything else is kept. To go on without them: `leadstream rebuild {options}`."
    )


def cut_tables(starts: Mapping[LogPartition, int], contained: Mapping[LogPartition, int]) -> dict[Table, int]:
    """The tables that may contain rows of records from before the log's starts, each with the position
    that all of these records lie before.
    """
    cut: dict[Table, int] = {}
    for slot, start in starts.items():
        if start > 0 and slot in contained:
            for table in tables_of(slot[0]):
                cut[table] = max(cut.get(table, 0), start)
    return cut


def keep_rows(connection: Connection, cut: Mapping[Table, int]) -> None:
    """Step 1, while the live writer goes on."""
    for table, start in cut.items():
        columns = _columns(table)
        chosen = SQL("select {} from {}{}").format(
            columns, Identifier(LIVE, table.name), _before(table, start)
        )
        if table in FACTS:
            connection.execute(SQL("create table {} as {}").format(_aside(table), chosen))
        else:
            into = Identifier(SHADOW, table.name)
            connection.execute(SQL("insert into {} ({}) {}").format(into, columns, chosen))


def add_facts(connection: Connection, cut: Mapping[Table, int]) -> None:
    """Step 3, once the fold has come to where the log ended after step 1."""
    for table, start in cut.items():
        if table not in FACTS:
            continue
        same = SQL(" and ").join(
            SQL("made.{0} = kept.{0}").format(Identifier(column.name)) for column in table.primary_key
        )
        connection.execute(
            SQL(
                "insert into {table} ({columns}) select {columns} from {aside} kept "
                "where not exists (select from {table} made where {same} and made.position < {start})"
            ).format(
                table=Identifier(SHADOW, table.name),
                columns=_columns(table),
                aside=_aside(table),
                same=same,
                start=Literal(start),
            )
        )
        connection.execute(SQL("drop table {}").format(_aside(table)))


def _before(table: Table, start: int) -> Composable:
    """Rows of later records are made again; the others' tables do not say where a row's record stood."""
    if table in FACTS or table.info[NEWEST_BY] == ("position",):
        return SQL(" where position < {}").format(Literal(start))
    return SQL("")


def _columns(table: Table) -> Composable:
    return SQL(", ").join(Identifier(column.name) for column in table.columns)


def _aside(table: Table) -> Identifier:
    return Identifier(SHADOW, f"kept_{table.name}")

"""Collapses a batch's changes of the same row, and builds the SQL of each table.

One rule decides inside a batch and against the stored row: the higher version wins. So a batch may be cut anywhere
without changing a result. The fastest way depends on the rows: few go one by one in a pipeline, many facts by COPY, and
many mutable rows as one array for each column.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import BigInteger, Boolean, Date, DateTime, Integer, LargeBinary, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from projections.rows import Row, SupersededRows, TableChange
from projections.table_definition import NEWEST_BY_INFO_KEY, SHADOW_SCHEMA
from projections.table_sets import READ_MODEL_TABLES, TABLE_OF_ROW
from projections.tables import applied_events

Values = tuple[Any, ...]

_TYPES: Final[dict[type[TypeEngine[Any]], str]] = {
    BigInteger: "int8",
    Boolean: "bool",
    Date: "date",
    DateTime: "timestamptz",
    Integer: "int4",
    JSONB: "jsonb",
    LargeBinary: "bytea",
    Numeric: "numeric",
    Text: "text",
}


class CollapsedChanges(NamedTuple):
    """The result of a batch: rows by table, and then the deletions. A mutable table has at most one row for each key, in
    the order of the keys, so that all writers lock rows in the same order.
    """

    rows: dict[Table, list[Row]]
    superseded: dict[Table, list[Values]]


class _RowForm(NamedTuple):
    """How to read the key of a row, and its version if the table is mutable."""

    table: Table
    key: Callable[[Row], Any]
    version: Callable[[Row], Any] | None


def _row_form(table: Table) -> _RowForm:
    names = list(table.columns.keys())
    key = [names.index(column.name) for column in table.primary_key]
    versions = [names.index(name) for name in table.info.get(NEWEST_BY_INFO_KEY, ())]
    return _RowForm(table, itemgetter(*key), itemgetter(*versions) if versions else None)


_FORM_OF_ROW: Final = {kind: _row_form(table) for kind, table in TABLE_OF_ROW.items()}


def collapse_changes(changes: Iterable[TableChange]) -> CollapsedChanges:
    facts: defaultdict[Table, list[Row]] = defaultdict(list)
    newest: defaultdict[Table, dict[Any, Row]] = defaultdict(dict)
    superseded: defaultdict[Table, dict[Values, int]] = defaultdict(dict)
    for change in changes:
        if isinstance(change, SupersededRows):
            superseded[change.table][change.key] = change.position
            continue
        table, key_of, version_of = _FORM_OF_ROW[type(change)]
        if version_of is None:
            facts[table].append(change)
            continue
        rows, key = newest[table], key_of(change)
        if (old := rows.get(key)) is None or version_of(old) < version_of(change):
            rows[key] = change
    mutable = {table: [rows[key] for key in sorted(rows)] for table, rows in newest.items()}
    ended = {
        table: [(*key, position) for key, position in sorted(ends.items())]
        for table, ends in superseded.items()
    }
    merged = {**facts, **mutable}
    return CollapsedChanges({table: merged[table] for table in READ_MODEL_TABLES if table in merged}, ended)


def postgres_types_of(table: Table) -> list[str]:
    return [_TYPES[type(column.type)] for column in table.columns]


def transposed(rows: Sequence[Values]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


@lru_cache
def insert_one_statement(schema: str, table: Table) -> bytes:
    """Inserts one row. `_on_conflict` decides between two rows of a mutable table with the same key."""
    return (
        SQL("insert into {table} ({columns}) values ({values}){conflict}")
        .format(
            table=Identifier(schema, table.name),
            columns=_name_list(table.columns.keys()),
            values=SQL(", ").join(SQL("%b::{}").format(SQL(type_)) for type_ in postgres_types_of(table)),
            conflict=_on_conflict(schema, table),
        )
        .as_bytes(None)
    )


@lru_cache
def insert_many_statement(schema: str, table: Table) -> bytes:
    """As `insert_one_statement`, from one array for each column."""
    names = table.columns.keys()
    types = dict(zip(names, postgres_types_of(table), strict=True))
    return (
        SQL(
            "insert into {table} ({columns}) select {selected} from unnest({arrays}) as t ({columns}){conflict}"
        )
        .format(
            table=Identifier(schema, table.name),
            columns=_name_list(names),
            selected=SQL(", ").join(
                Identifier(name) + SQL("::jsonb" if type_ == "jsonb" else "") for name, type_ in types.items()
            ),
            arrays=SQL(", ").join(
                SQL("%b::{}[]").format(SQL("text" if type_ == "jsonb" else type_)) for type_ in types.values()
            ),
            conflict=_on_conflict(schema, table),
        )
        .as_bytes(None)
    )


@lru_cache
def copy_statement(schema: str, table: Table) -> bytes:
    """For facts only: it fails if a row exists already."""
    return (
        SQL("copy {} ({}) from stdin (format binary)")
        .format(Identifier(schema, table.name), _name_list(table.columns.keys()))
        .as_bytes(None)
    )


def _on_conflict(schema: str, table: Table) -> Composed:
    """The higher version stays. In a rebuild, an equal version is a kept row that is made again, maybe with more
    columns, and replaces it.
    """
    if NEWEST_BY_INFO_KEY not in table.info:
        return Composed([])
    key = [column.name for column in table.primary_key]
    version = table.info[NEWEST_BY_INFO_KEY]
    if set(version) <= set(key):
        return SQL(" on conflict ({}) do nothing").format(_name_list(key))
    return SQL(" on conflict ({key}) do update set {assigned} where ({stored}) {below} ({new})").format(
        key=_name_list(key),
        below=SQL("<=" if schema == SHADOW_SCHEMA else "<"),
        assigned=SQL(", ").join(
            SQL("{} = excluded.{}").format(Identifier(name), Identifier(name))
            for name in table.columns.keys()  # noqa: SIM118 - a column collection iterates over columns
            if name not in key
        ),
        stored=SQL(", ").join(Identifier(table.name, name) for name in version),
        new=SQL(", ").join(Identifier("excluded", name) for name in version),
    )


@lru_cache
def delete_statement(schema: str, table: Table, length: int) -> bytes:
    """Deletes rows by the first `length` columns of their key, if a record before `position` wrote them."""
    key = [column.name for column in table.primary_key][:length]
    types = dict(zip(table.columns.keys(), postgres_types_of(table), strict=True))
    return (
        SQL(
            "delete from {table} t using unnest({arrays}) as n ({columns}) where {same} and t.position < n.position"
        )
        .format(
            table=Identifier(schema, table.name),
            arrays=SQL(", ").join(SQL("%b::{}[]").format(SQL(types[name])) for name in (*key, "position")),
            columns=_name_list([*key, "position"]),
            same=SQL(" and ").join(
                SQL("t.{} = n.{}").format(Identifier(name), Identifier(name)) for name in key
            ),
        )
        .as_bytes(None)
    )


@lru_cache
def delete_old_applied_events_statement(schema: str) -> bytes:
    """Deletes applied events up to a position of each partition."""
    return (
        SQL(
            "delete from {} t using unnest(%b::int4[], %b::int8[]) as n (partition, position) "
            "where t.partition = n.partition and t.position <= n.position"
        )
        .format(Identifier(schema, applied_events.name))
        .as_bytes(None)
    )


def _name_list(names: Iterable[str]) -> Composed:
    return SQL(", ").join(map(Identifier, names))

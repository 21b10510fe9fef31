"""Changes to statements: collapses what a batch says of one row, and writes the SQL of each table.

The same rule decides both inside a batch and against the stored row (the higher version wins), so a
batch may be cut anywhere without changing a result. Few rows go one by one in a pipeline; many facts
by COPY, many mutable rows as one array per column: each is the fastest where it is used.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import BigInteger, Boolean, DateTime, Integer, LargeBinary, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from projections.rows import TABLE_OF, Change, Row, Superseded
from projections.tables import NEWEST_BY, READ_MODELS, SHADOW, applied_events

Values = tuple[Any, ...]

_TYPES: Final[dict[type[TypeEngine[Any]], str]] = {
    BigInteger: "int8",
    Boolean: "bool",
    DateTime: "timestamptz",
    Integer: "int4",
    JSONB: "jsonb",
    LargeBinary: "bytea",
    Numeric: "numeric",
    Text: "text",
}


class Collapsed(NamedTuple):
    """What a batch comes to: rows per table, at most one per key of a mutable one, in the order of
    their keys (so that two writers lock in one order); then what is no more.
    """

    rows: dict[Table, list[Row]]
    superseded: dict[Table, list[Values]]


class _Form(NamedTuple):
    """How rows of one kind are told apart: by key, and by version if the table is mutable."""

    table: Table
    key: Callable[[Row], Any]
    version: Callable[[Row], Any] | None


def _form(table: Table) -> _Form:
    names = list(table.columns.keys())
    places = [names.index(column.name) for column in table.primary_key]
    versions = [names.index(name) for name in table.info.get(NEWEST_BY, ())]
    return _Form(table, itemgetter(*places), itemgetter(*versions) if versions else None)


_FORMS: Final = {kind: _form(table) for kind, table in TABLE_OF.items()}


def collapse(changes: Iterable[Change]) -> Collapsed:
    facts: defaultdict[Table, list[Row]] = defaultdict(list)
    newest: defaultdict[Table, dict[Any, Row]] = defaultdict(dict)
    superseded: defaultdict[Table, dict[Values, int]] = defaultdict(dict)
    for change in changes:
        if isinstance(change, Superseded):
            superseded[change.table][change.key] = change.position
            continue
        table, key_of, version_of = _FORMS[type(change)]
        if version_of is None:
            facts[table].append(change)
            continue
        held, key = newest[table], key_of(change)
        if (old := held.get(key)) is None or version_of(old) < version_of(change):
            held[key] = change
    mutable = {table: [rows[key] for key in sorted(rows)] for table, rows in newest.items()}
    ended = {
        table: [(*key, position) for key, position in sorted(ends.items())]
        for table, ends in superseded.items()
    }
    merged = {**facts, **mutable}
    return Collapsed({table: merged[table] for table in READ_MODELS if table in merged}, ended)


def types_of(table: Table) -> list[str]:
    return [_TYPES[type(column.type)] for column in table.columns]


def transposed(rows: Sequence[Values]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


@lru_cache
def insert_one(schema: str, table: Table) -> bytes:
    """One row; of a mutable one that is there already, `_conflict` says which stays."""
    return (
        SQL("insert into {table} ({columns}) values ({values}){conflict}")
        .format(
            table=Identifier(schema, table.name),
            columns=_list(table.columns.keys()),
            values=SQL(", ").join(SQL("%b::{}").format(SQL(type_)) for type_ in types_of(table)),
            conflict=_conflict(schema, table),
        )
        .as_bytes(None)
    )


@lru_cache
def insert_many(schema: str, table: Table) -> bytes:
    """As `insert_one`, of one array per column."""
    names = table.columns.keys()
    types = dict(zip(names, types_of(table), strict=True))
    return (
        SQL(
            "insert into {table} ({columns}) select {picked} from unnest({arrays}) as t ({columns}){conflict}"
        )
        .format(
            table=Identifier(schema, table.name),
            columns=_list(names),
            picked=SQL(", ").join(
                Identifier(name) + SQL("::jsonb" if type_ == "jsonb" else "") for name, type_ in types.items()
            ),
            arrays=SQL(", ").join(
                SQL("%b::{}[]").format(SQL("text" if type_ == "jsonb" else type_)) for type_ in types.values()
            ),
            conflict=_conflict(schema, table),
        )
        .as_bytes(None)
    )


@lru_cache
def copy(schema: str, table: Table) -> bytes:
    """Facts only: a row that is there already would be an error."""
    return (
        SQL("copy {} ({}) from stdin (format binary)")
        .format(Identifier(schema, table.name), _list(table.columns.keys()))
        .as_bytes(None)
    )


def _conflict(schema: str, table: Table) -> Composed:
    """The higher version stays. In a rebuild an equal one is the same row, kept from before and now made
    anew, maybe with more columns.
    """
    if NEWEST_BY not in table.info:
        return Composed([])
    key = [column.name for column in table.primary_key]
    version = table.info[NEWEST_BY]
    if set(version) <= set(key):
        return SQL(" on conflict ({}) do nothing").format(_list(key))
    return SQL(" on conflict ({key}) do update set {assigned} where ({held}) {above} ({offered})").format(
        key=_list(key),
        above=SQL("<=" if schema == SHADOW else "<"),
        assigned=SQL(", ").join(
            SQL("{} = excluded.{}").format(Identifier(name), Identifier(name))
            for name in table.columns.keys()  # noqa: SIM118 - a column collection iterates over columns
            if name not in key
        ),
        held=SQL(", ").join(Identifier(table.name, name) for name in version),
        offered=SQL(", ").join(Identifier("excluded", name) for name in version),
    )


@lru_cache
def delete(schema: str, table: Table, length: int) -> bytes:
    """Rows under the first `length` columns of the key that a record before `position` wrote."""
    key = [column.name for column in table.primary_key][:length]
    types = dict(zip(table.columns.keys(), types_of(table), strict=True))
    return (
        SQL(
            "delete from {table} t using unnest({arrays}) as n ({columns}) where {same} and t.position < n.position"
        )
        .format(
            table=Identifier(schema, table.name),
            arrays=SQL(", ").join(SQL("%b::{}[]").format(SQL(types[name])) for name in (*key, "position")),
            columns=_list([*key, "position"]),
            same=SQL(" and ").join(
                SQL("t.{} = n.{}").format(Identifier(name), Identifier(name)) for name in key
            ),
        )
        .as_bytes(None)
    )


@lru_cache
def delete_old_applied_events(schema: str) -> bytes:
    """Answers that stand no higher in their partition than the position given for it."""
    return (
        SQL(
            "delete from {} t using unnest(%b::int4[], %b::int8[]) as n (partition, position) "
            "where t.partition = n.partition and t.position <= n.position"
        )
        .format(Identifier(schema, applied_events.name))
        .as_bytes(None)
    )


def _list(names: Iterable[str]) -> Composed:
    return SQL(", ").join(map(Identifier, names))

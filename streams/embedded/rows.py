"""Rows into tables: COPY for many, pipelined statements for few. Nothing here commits."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Identifier

Connection = psycopg.Connection[Any]
Row = tuple[Any, ...]

COPY_FROM_ROWS = 150
"""From so many rows on, COPY is faster than single inserts in a pipeline."""


_UPSERT_ONE = SQL(
    """insert into {table} ({columns}) values ({values}) on conflict ({key})
       do update set ({others}) = row({new}) where row({old}) is distinct from row({new})"""
)
_CREATE_INCOMING = SQL(
    """create temporary table if not exists {incoming} on commit delete rows
       as select {columns} from {table} with no data;
       delete from {incoming}"""
)
_COPY_TO_INCOMING = SQL("copy {incoming} ({columns}) from stdin (format binary)")
_MERGE_INCOMING = SQL(
    """insert into {table} ({columns}) select {columns} from {incoming} on conflict ({key})
       do update set ({others}) = row({new}) where row({old}) is distinct from row({new})"""
)


class Upsert(NamedTuple):
    """The statements that insert rows into one table, or replace those with the same key."""

    one: bytes
    room: bytes
    """Makes, and empties, a temporary table for many at once."""
    copy: bytes
    merge: bytes
    types: tuple[str, ...]


def upsert_into(table: str, columns: Mapping[str, str], key: Sequence[str]) -> Upsert:
    """`columns` names every column with its type. A row that is equal already is left alone."""
    names = {
        "table": Identifier(table),
        "incoming": Identifier(f"incoming_{table}"),
        "columns": SQL(", ").join(map(Identifier, columns)),
        "values": SQL(", ").join(SQL("%s") for _ in columns),
        "key": SQL(", ").join(map(Identifier, key)),
        "others": SQL(", ").join(Identifier(name) for name in columns if name not in key),
        "old": SQL(", ").join(Identifier(table, name) for name in columns if name not in key),
        "new": SQL(", ").join(Identifier("excluded", name) for name in columns if name not in key),
    }
    return Upsert(
        one=_UPSERT_ONE.format(**names).as_bytes(None),
        room=_CREATE_INCOMING.format(**names).as_bytes(None),
        copy=_COPY_TO_INCOMING.format(**names).as_bytes(None),
        merge=_MERGE_INCOMING.format(**names).as_bytes(None),
        types=tuple(columns.values()),
    )


def upsert_rows(connection: Connection, into: Upsert, rows: Sequence[Row]) -> None:
    """No key may come twice in one call."""
    if len(rows) >= COPY_FROM_ROWS:
        connection.execute(into.room)
        copy_rows(connection, into.copy, into.types, rows)
        connection.execute(into.merge)
    elif rows:
        with connection.cursor() as cursor:
            cursor.executemany(into.one, rows)


def copy_rows(connection: Connection, statement: bytes, types: Sequence[str], rows: Sequence[Row]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)

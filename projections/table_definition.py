"""How a table is defined: its columns are the fields of its type of row.

Tables without a schema are in the schema `live`. A rebuild fills `shadow` and replaces `live` by it as a whole. Readers
connect with `READ_OPTIONS` and name no schema; writers name the schema they mean. Tables that no rebuild may change are
in `public`. Text compares by bytes. Keys are hashes and log positions, never serials, so that a rebuild gives
identical rows.

`newest_by` in a table's `info` makes it mutable: the row whose version is higher wins. A table
without it is append-only, and its key contains the log position of the record of the fact.

The tables of ANALYTICS_TABLES are not made of records but of the other tables, by `projections.analytics_worker`.
"""

from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

from sqlalchemy import Boolean, Column, Date, DateTime, Integer, LargeBinary, MetaData, Numeric, Table, Text
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

LIVE_SCHEMA: Final = "live"

SHADOW_SCHEMA: Final = "shadow"

PUBLIC_SCHEMA: Final = "public"

READ_OPTIONS: Final = f"-c search_path={LIVE_SCHEMA} -c timezone=UTC"
"""The options of a reader's connection: `psycopg.connect(url, options=READ_OPTIONS)`."""

NEWEST_BY_INFO_KEY: Final = "newest_by"

ANALYTICS_INFO_KEY: Final = "analytics"
"""In a table's `info`: no record makes its rows, but the analytics worker."""

ROW_INFO_KEY: Final = "row"
"""In a table's `info`: the type of its rows, which defines its columns."""

UPDATED_IN_PLACE: Final = {"fillfactor": 50}
"""Rows that nearly every batch updates, and no index but the key."""

metadata: Final = MetaData(naming_convention={"pk": "%(table_name)s_pkey"})


def define_table(
    name: str,
    row: type[tuple[Any, ...]],
    *extras: SchemaItem,
    key: tuple[str, ...],
    newest_by: tuple[str, ...] = (),
    schema: str | None = None,
    analytics: bool = False,
    comment: str,
    **options: Any,
) -> Table:
    """A table with the columns that `row` names. Free space on the pages of a mutable table lets an update stay on
    its page and leave the indexes alone.
    """
    info: dict[str, Any] = {ROW_INFO_KEY: row, ANALYTICS_INFO_KEY: analytics}
    if newest_by:
        info[NEWEST_BY_INFO_KEY] = newest_by
        options["postgresql_with"] = {"fillfactor": 75}
    hints = get_type_hints(row, include_extras=True)
    columns = [define_column(column, hint, key=column in key) for column, hint in hints.items()]
    return Table(name, metadata, *columns, *extras, schema=schema, comment=comment, info=info, **options)


def define_column(name: str, hint: Any, *, key: bool = False) -> Column[Any]:
    """A column for values of the type `hint`; `X | None` may be null."""
    null = NoneType in get_args(hint)
    kind = get_args(hint)[0] if null else hint
    type_, *extras = kind.__metadata__ if get_origin(kind) is Annotated else (_COLUMN_TYPES[kind],)
    return Column(name, type_, *extras, nullable=null, primary_key=key, autoincrement=bool(extras))


_COLUMN_TYPES: Final[dict[type, TypeEngine[Any]]] = {
    str: Text(collation="C"),
    int: Integer(),
    bool: Boolean(),
    bytes: LargeBinary(),
    datetime: DateTime(timezone=True),
    date: Date(),
    Decimal: Numeric(),
}

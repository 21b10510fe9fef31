"""Which rows grow old, and what is done with them then: retention of the read models and of what is beside the log.

Everything else stays: a ledger has to add up to its score, and sums and summaries are made of stages, sessions and the
kinds of events. Of an old event only its contents go: what nobody adds up.

`public.removed_rows` says up to which moment each kind was removed. A rebuild does the same with what it has made, so that
it brings nothing back.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, LiteralString, NamedTuple

from psycopg.sql import SQL, Composed, Identifier, Literal
from sqlalchemy import Table

from projections import public_tables, tables
from projections.connection import Connection
from projections.table_definition import LIVE_SCHEMA

DELIVERIES: Final = "deliveries"
REMOVED_AT_ONCE: Final = 2_000
"""Rows of one transaction."""
KEPT_DETAILS: Final = (
    "action", "ad_id", "assigned_to", "by", "campaign_id", "campaign_name", "catalog_id", "content_id", "conversion_id",
    "conversion_type", "cta_id", "currency", "element_id", "experiment", "form_id", "form_name", "into", "kind", "message_id",
    "method", "network", "order_id", "outcome", "place", "product_id", "product_name", "profile_field", "qr_id", "question",
    "question_id", "reason", "refund_id", "stage", "submission_id", "value", "variant",
)  # fmt: skip
"""Details of an event that stay, beside numbers and yes or no: its kind, and what sums and reports read."""

_KEPT: Final = SQL(
    "(name = any({kept}) or (name = 'name' and type = 'custom') or jsonb_typeof(value) in ('number', 'boolean'))"
).format(kept=Literal(list(KEPT_DETAILS)))
_KEPT_EXTRA: LiteralString = (
    "jsonb_build_object('extra', jsonb_build_object('action', details -> 'extra' -> 'action'))"
)
_HAS_CONTENTS: Final = SQL(
    """(num_nonnulls(ip, location, url, referrer) > 0
        or exists (select from jsonb_each(details - 'extra') as each (name, value) where not {kept})
        or coalesce((details -> 'extra') - 'action', '{{}}') <> '{{}}')"""
).format(kept=_KEPT)
_WITHOUT_CONTENTS: Final = SQL(
    """ip = null, location = null, url = null, referrer = null,
       details = nullif(coalesce((select jsonb_object_agg(name, value) from jsonb_each(details - 'extra') as each (name, value)
                                  where {kept}), '{{}}')
                        || case when details -> 'extra' ? 'action' then {extra} else '{{}}' end, '{{}}')"""
).format(kept=_KEPT, extra=SQL(_KEPT_EXTRA))


class RowKind(NamedTuple):
    """Rows that may be removed by age."""

    table: Table
    moment: LiteralString
    """The column that says how old a row is."""
    about: str
    least_days: int
    """Something reads them for so long."""
    condition: Composed | SQL = SQL("true")
    emptied: Composed | None = None
    """What is assigned to a row's columns instead of deleting it."""


ROW_KINDS: Final[Mapping[str, RowKind]] = MappingProxyType(
    {
        DELIVERIES: RowKind(
            public_tables.outbox,
            "created_at",
            "actions of workflows that were carried out, skipped or given up",
            2,
            SQL("counted and status in ('delivered', 'skipped', 'dead')"),
        ),
        "notifications": RowKind(
            public_tables.notifications, "created_at", "messages inside the application, read or not", 1
        ),
        "executions": RowKind(
            tables.workflow_executions, "at", "which workflow was triggered for which lead, and why", 90
        ),
        "contents": RowKind(
            tables.engagement_history,
            "occurred_at",
            "what people wrote, answers, form fields, addresses of pages, IP addresses and places of events",
            1,
            SQL("{}").format(_HAS_CONTENTS),
            _WITHOUT_CONTENTS,
        ),
        "states": RowKind(
            tables.lead_records,
            "at",
            "what a lead as of a moment is made of: `?as_of=` before it says `not_kept`",
            1,
        ),
        "audit": RowKind(public_tables.audit_log, "at", "entries of the audit log", 30),
    }
)


def remove_old_rows(connection: Connection, kind: str, before: datetime) -> Iterator[int]:
    """Removes what is older, in the order of the table's file; yields how many rows, after each transaction. What a killed run
    left is removed by the next one. The connection must be in autocommit mode.
    """
    last = "(0,0)"
    while True:
        with connection.transaction():
            _note_removed(connection, kind, before, 0)  # before the first row goes: a rebuild follows
            connection.execute("select set_config('leadstream.audit_retention', 'on', true)")
            rows = connection.execute(_batch(kind), {"before": before, "last": last}).fetchall()
            last, count = rows[0] if rows else (last, 0)
            _note_removed(connection, kind, before, count)
        if count:
            yield count
        if count < REMOVED_AT_ONCE:
            return


def count_old_rows(connection: Connection, kind: str, before: datetime) -> int:
    row = connection.execute(
        SQL("select count(*) from {} where {}").format(_name(kind, LIVE_SCHEMA), _is_old(kind)),
        {"before": before},
    ).fetchone()
    return row[0] if row else 0


def remove_from_rebuilt(connection: Connection, schema: str) -> None:
    """Does with the tables of a rebuild what was done with the live ones."""
    for kind, before in removed_before(connection).items():
        if ROW_KINDS[kind].table.schema is None:
            connection.execute(
                SQL("{} where {}").format(_removal(kind, schema), _is_old(kind)), {"before": before}
            )


def removed_before(connection: Connection) -> dict[str, datetime]:
    """Kind of rows -> the moment up to which they were removed."""
    rows = connection.execute("select kind, removed_before from public.removed_rows order by kind").fetchall()
    return {kind: before for kind, before in rows if kind in ROW_KINDS}


def _batch(kind: str) -> Composed:
    """(place of the last row in the file, rows)"""
    return SQL(
        """with old as materialized (select ctid from {table} where ctid > %(last)s::tid and {is_old} order by ctid limit {most}),
           removed as ({removal} where ctid = any(array(select ctid from old)) returning 1)
           select (select (array_agg(ctid order by ctid desc))[1]::text from old), (select count(*) from old)
           where exists (select from old) and (select count(*) from removed) >= 0"""
    ).format(
        table=_name(kind, LIVE_SCHEMA),
        is_old=_is_old(kind),
        removal=_removal(kind, LIVE_SCHEMA),
        most=Literal(REMOVED_AT_ONCE),
    )


def _removal(kind: str, schema: str) -> Composed:
    table = _name(kind, schema)
    emptied = ROW_KINDS[kind].emptied
    if emptied is None:
        return SQL("delete from {}").format(table)
    return SQL("update {} set {}").format(table, emptied)


def _is_old(kind: str) -> Composed:
    rows = ROW_KINDS[kind]
    return SQL("{} < %(before)s and {}").format(Identifier(rows.moment), rows.condition)


def _name(kind: str, schema: str) -> Identifier:
    table = ROW_KINDS[kind].table
    return Identifier(table.schema or schema, table.name)


def _note_removed(connection: Connection, kind: str, before: datetime, count: int) -> None:
    connection.execute(
        """insert into public.removed_rows as r (kind, removed_before, removed_at, removed) values (%s, %s, now(), %s)
           on conflict (kind) do update set removed_before = greatest(r.removed_before, excluded.removed_before),
             removed_at = excluded.removed_at, removed = r.removed + excluded.removed""",
        (kind, before, count),
    )

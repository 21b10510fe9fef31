"""Fills the outbox: the actions of workflows that a delivery worker has to carry out.

Only the live projection adds rows, in the transaction of the execution's own row. A rebuild, an import and a restatement
add none: what was concluded silently, or more than a day ago, is never delivered.
"""

import json
from collections.abc import Collection, Iterable
from types import MappingProxyType
from typing import Any, Final, LiteralString, cast

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from projections.connection import Connection
from projections.rows import Row, WorkflowExecutionRow
from projections.table_definition import LIVE_SCHEMA

LEAD_CHANNEL: Final = "lead"
"""The channel of actions that change the lead."""
NOTIFICATIONS_CHANNEL: Final = "notifications"
"""The channel of messages inside the application."""

DEFAULT_CHANNELS: Final = MappingProxyType({"send_email": "email", "send_webhook": "webhook"})
"""Of the actions that go to a channel of the configuration: the one that they go to if they name none."""

OUTBOX_DAYS: Final = 90
"""Delivered and skipped rows of the outbox are deleted after so many days; the executions stay in the read models."""

_INSERT: LiteralString = """
  insert into public.outbox (
    tenant, execution_id, lead_key, lead_id, workflow_id, workflow, version, trigger, reason, action, config, hops, at,
    caused_by, channel, priority, status, attempts, next_attempt_at, created_at, counted)
  select tenant, execution_id, lead_key, lead_id, workflow_id, workflow, version, trigger, reason, action, config, hops, at,
    caused_by, channel, priority, 'waiting', 0, now(), now(), false
  from {schema}.workflow_executions
  cross join lateral (
    select case
      when action = 'send_notification' then {notifications}
      when {default_channels}::jsonb ? action
        then coalesce(config ->> 'channel', {default_channels}::jsonb ->> action)
      else {lead} end
    union
    select jsonb_array_elements_text(config -> 'channels')
    where action = 'send_notification' and jsonb_typeof(config -> 'channels') = 'array') as way (channel)
"""
_TO_DELIVER: LiteralString = """
  not silent and at > now() - interval '24 hours' on conflict do nothing
"""
_ADD: LiteralString = (
    _INSERT
    + " join unnest(%b::text[], %b::int8[]) as added (tenant, execution_id) using (tenant, execution_id) where "
    + _TO_DELIVER
)
_ADD_OF_SWAP: LiteralString = (
    _INSERT
    + """
  where exists (
    select from public.positions live where generation = %s and topic = 'lead-changes'
      and live.partition = workflow_executions.partition and live.position < workflow_executions.position)
  and """
    + _TO_DELIVER
)


def add_deliveries(cursor: psycopg.Cursor[Any], executions: Iterable[Row]) -> None:
    """Adds the actions of rows that this transaction has written into `live.workflow_executions`."""
    added = [row for row in cast("Iterable[WorkflowExecutionRow]", executions) if not row.silent]
    if added:
        cursor.execute(
            _statement(_ADD, LIVE_SCHEMA),
            ([row.tenant for row in added], [row.execution_id for row in added]),
        )


def add_deliveries_of_swap(connection: Connection, schema: str) -> None:
    """Adds the actions of executions that only the tables which will be live know, before they replace the live ones: the
    live projection will not meet their records again.
    """
    connection.execute(_statement(_ADD_OF_SWAP, schema), (LIVE_SCHEMA,))


OUTBOX_STATUSES: Final = ("dead", "failed", "delivering", "waiting", "skipped", "delivered")
"""The first of them that one of its channels has is the status of an execution."""
COUNTED_AT_ONCE: Final = 5_000

_COUNT_ENDED: LiteralString = """
  with ended as (
    select tenant, execution_id, at, status from public.outbox o
    where not counted and status in ('dead', 'skipped', 'delivered') and not exists (
      select from public.outbox other where (other.tenant, other.execution_id) = (o.tenant, o.execution_id)
        and other.status not in ('dead', 'skipped', 'delivered'))
    order by tenant, execution_id limit %b for update skip locked),
  executions as (
    select tenant, execution_id, min(at) as at, {status} as status from ended e group by tenant, execution_id
    having count(*) = (select count(*) from public.outbox o where (o.tenant, o.execution_id) = (e.tenant, e.execution_id))),
  marked as (
    update public.outbox o set counted = true from executions e
    where (o.tenant, o.execution_id) = (e.tenant, e.execution_id) returning 1),
  added as (
    insert into public.execution_counts as c (tenant, quarter, status, executions)
    select tenant, {quarter}, status, count(*) from executions group by 1, 2, 3 order by 1, 2, 3
    on conflict (tenant, quarter, status) do update set executions = c.executions + excluded.executions)
  select count(*) from marked
"""
_TAKE_BACK_COUNTS: LiteralString = """
  with again as (
    update public.outbox o set counted = false from unnest(%b::text[], %b::int8[]) as named (tenant, execution_id)
    where (o.tenant, o.execution_id) = (named.tenant, named.execution_id) and counted
    returning o.tenant, o.execution_id, o.at, o.status),
  executions as (
    select tenant, min(at) as at, {status} as status from again group by tenant, execution_id),
  gone as (select tenant, {quarter} as quarter, status, count(*) as executions from executions group by 1, 2, 3 order by 1, 2, 3)
  update public.execution_counts c set executions = c.executions - gone.executions from gone
  where (c.tenant, c.quarter, c.status) = (gone.tenant, gone.quarter, gone.status)
"""
_COUNTING: Final = MappingProxyType(
    {
        "status": SQL("({}::text[])[min(array_position({}::text[], status))]").format(
            Literal(list(OUTBOX_STATUSES)), Literal(list(OUTBOX_STATUSES))
        ),
        "quarter": SQL("date_bin('15 minutes', at, timestamptz '2000-01-01 00:00:00+00')"),
    }
)


def count_ended_executions(connection: Connection) -> int:
    """Adds executions that have ended to `execution_counts`, each once, as the caller's transaction is committed. Returns of how
    many rows; COUNTED_AT_ONCE: there may be more.
    """
    row = connection.execute(
        SQL(_COUNT_ENDED).format(**_COUNTING), (COUNTED_AT_ONCE,), binary=True
    ).fetchone()
    return 0 if row is None else int(row[0])


def take_back_counts(connection: Connection, executions: Collection[tuple[str, int]]) -> None:
    """Takes these executions, whose rows this transaction has locked, out of the counts: they are tried again."""
    connection.execute(
        SQL(_TAKE_BACK_COUNTS).format(**_COUNTING),
        ([tenant for tenant, _ in executions], [number for _, number in executions]),
    )


def _statement(text: LiteralString, schema: str) -> Composed:
    return SQL(text).format(
        schema=Identifier(schema),
        default_channels=Literal(json.dumps(dict(DEFAULT_CHANNELS))),
        lead=Literal(LEAD_CHANNEL),
        notifications=Literal(NOTIFICATIONS_CHANNEL),
    )

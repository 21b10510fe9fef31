"""Fills the outbox: the actions of workflows that a delivery worker has to carry out.

Only the live projection adds rows, in the transaction of the execution's own row. A rebuild, an import and a restatement
add none: what was concluded silently, or more than a day ago, is never delivered.
"""

import json
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final, LiteralString, cast

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from projections.connection import Connection
from projections.rows import Row, WorkflowExecutionRow
from projections.tables import LIVE_SCHEMA

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
    caused_by, channel, priority, status, attempts, next_attempt_at, created_at)
  select tenant, execution_id, lead_key, lead_id, workflow_id, workflow, version, trigger, reason, action, config, hops, at,
    caused_by, channel, priority, 'waiting', 0, now(), now()
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


def _statement(text: LiteralString, schema: str) -> Composed:
    return SQL(text).format(
        schema=Identifier(schema),
        default_channels=Literal(json.dumps(dict(DEFAULT_CHANNELS))),
        lead=Literal(LEAD_CHANNEL),
        notifications=Literal(NOTIFICATIONS_CHANNEL),
    )

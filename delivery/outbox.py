"""The outbox in PostgreSQL: which action is due, who delivers it, and how it ended. Every function is one transaction.

    waiting --claim--> delivering --> delivered
                           |--> failed (is claimed again later) --> ... --> dead (an operator may send it again)
    waiting --> skipped (over the cap, or nobody to write to)

1. A worker claims rows: it marks them as being delivered until its lease ends, and commits.
2. It delivers each, under the key of the execution.
3. It marks how that ended.

If it is killed between two steps, the lease ends and another worker claims the row: nothing is lost, and what is repeated has
the same key.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString, NamedTuple

import msgspec
import psycopg
import structlog
from psycopg.rows import dict_row
from psycopg.sql import SQL

from delivery.message import LeadCard, Message
from projections.connection import Connection
from projections.outbox import COUNTED_AT_ONCE, count_ended_executions, take_back_counts

Row = dict[str, Any]


class Proceed(NamedTuple):
    """Deliver it now, as decided."""

    message: Message
    decision: Mapping[str, Any] | None = None


class Postpone(NamedTuple):
    """Not before this moment; it is no attempt."""

    until: datetime
    reason: str


class Skip(NamedTuple):
    """Never; nobody need look at it."""

    reason: str


class Refuse(NamedTuple):
    """A dead letter: somebody has to correct something."""

    reason: str


Plan = Proceed | Postpone | Skip | Refuse
Prepare = Callable[[Connection, Row, LeadCard | None], Plan]
"""Decides about a claimed row, within the transaction that claims it."""

_log = structlog.get_logger(__name__)

_CLAIM: Final[LiteralString] = """
  select o.* from unnest(%(channels)s::text[], %(most)s::int4[]) as open (name, most), lateral (
    select * from public.outbox
    where channel = open.name and status in ('waiting', 'delivering', 'failed') and next_attempt_at <= %(now)s
    order by priority desc, next_attempt_at, execution_id limit open.most for update skip locked) o
"""
_CLAIM_UNKNOWN: Final[LiteralString] = """
  select * from public.outbox
  where channel <> all(%(channels)s) and status in ('waiting', 'delivering', 'failed') and next_attempt_at <= %(now)s
  limit %(most)s for update skip locked
"""
_BEGIN: Final[LiteralString] = """
  update public.outbox set status = 'delivering', attempts = attempts + 1, next_attempt_at = %(until)s,
    last_attempt_at = %(now)s, decision = %(decision)s::jsonb
  where tenant = %(tenant)s and execution_id = %(execution_id)s and channel = %(channel)s
"""
_PUT_OFF: Final[LiteralString] = """
  update public.outbox set status = case status when 'delivering' then 'failed' else status end,
    next_attempt_at = %(until)s, last_error = %(reason)s
  where tenant = %(tenant)s and execution_id = %(execution_id)s and channel = %(channel)s
"""
_END: Final[LiteralString] = """
  update public.outbox set status = %(status)s, last_error = %(reason)s
  where tenant = %(tenant)s and execution_id = %(execution_id)s and channel = %(channel)s
"""
_DELIVERED: Final[LiteralString] = """
  update public.outbox set status = 'delivered', delivered_at = %(now)s, last_error = null
  where tenant = %(tenant)s and execution_id = %(execution_id)s and channel = %(channel)s and status <> 'delivered'
"""
_FAILED: Final[LiteralString] = """
  update public.outbox set status = %(status)s, next_attempt_at = %(until)s, last_error = %(reason)s
  where tenant = %(tenant)s and execution_id = %(execution_id)s and channel = %(channel)s and status = 'delivering' and attempts = %(attempt)s
"""
_RETRY: Final[LiteralString] = """
  update public.outbox set status = 'waiting', attempts = 0, next_attempt_at = now(), last_error = null
  where {ended}
"""
_ENDED: Final[LiteralString] = """
  status in ('dead', 'skipped') and (%(tenant)s::text is null or tenant = %(tenant)s)
    and (%(execution_ids)s::int8[] is null or execution_id = any(%(execution_ids)s))
    and (%(channel)s::text is null or channel = %(channel)s)
    and (status = 'dead' or %(execution_ids)s::int8[] is not null)
"""
_LOCK: Final[LiteralString] = """
  select tenant, execution_id, counted from public.outbox where {ended} order by tenant, execution_id, channel for update
"""
_LEAD: Final[LiteralString] = """
  select l.lead_id, l.name, l.email, l.phone, l.company, l.stage, l.assigned_to, l.fields, l.redirect, l.tenant, l.identities,
    (select coalesce(jsonb_object_agg(model, rounded), '{}') from live.lead_scores s where s.lead_key = l.lead_key) as scores
  from live.leads l where l.lead_key = %s
"""
_PRUNE: Final[LiteralString] = """
  delete from public.outbox o where status in ('delivered', 'skipped') and counted and created_at < now() - %s::interval
    and not exists (select from public.outbox other where (other.tenant, other.execution_id) = (o.tenant, o.execution_id)
      and other.status not in ('delivered', 'skipped'))
"""


def claim(
    connection: Connection,
    open_channels: Mapping[str, int],
    known_channels: Collection[str],
    *,
    now: datetime,
    lease_seconds: float,
    prepare: Prepare,
    read_lead: Callable[[Connection, int], LeadCard | None],
) -> list[Message]:
    """Step 1: at most so many rows of each open channel. What names a channel that nobody knows goes to `prepare`, too, which
    refuses it.
    """
    messages = []
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            _CLAIM, {"channels": list(open_channels), "most": list(open_channels.values()), "now": now}
        ).fetchall()
        rows += cursor.execute(
            _CLAIM_UNKNOWN, {"channels": list(known_channels), "now": now, "most": MOST_UNKNOWN}
        ).fetchall()
        for row in rows:
            plan = _plan_of(connection, row, prepare, read_lead(connection, row["lead_key"]))
            key = {name: row[name] for name in ("tenant", "execution_id", "channel")}
            match plan:
                case Proceed(message, decision):
                    encoded = None if decision is None else msgspec.json.encode(decision).decode()
                    until = now + timedelta(seconds=lease_seconds)
                    cursor.execute(_BEGIN, {**key, "until": until, "now": now, "decision": encoded})
                    messages.append(message)
                case Postpone(until, reason):
                    cursor.execute(_PUT_OFF, {**key, "until": until, "reason": reason})
                case Skip(reason):
                    cursor.execute(_END, {**key, "status": "skipped", "reason": reason})
                case Refuse(reason):
                    cursor.execute(_END, {**key, "status": "dead", "reason": reason})
    return messages


def _plan_of(connection: Connection, row: Row, prepare: Prepare, lead: LeadCard | None) -> Plan:
    """A row about which nobody can decide keeps no other waiting."""
    try:
        return prepare(connection, row, lead)
    except psycopg.Error:
        raise
    except Exception as cause:  # noqa: BLE001 - a fault of one row
        _log.exception("an action cannot be prepared", execution=row["execution_id"])
        return Refuse(f"it cannot be prepared ({type(cause).__name__}); the log of the worker says more")


MOST_UNKNOWN: Final = 100
MOST_BATCHES_COUNTED: Final = 20
"""In one turn: the next one goes on."""


def mark_delivered(connection: Connection, message: Message, now: datetime) -> None:
    """Step 3, also of a worker whose lease has ended: the message is out."""
    with connection.transaction():
        connection.execute(_DELIVERED, {**_key_of(message), "now": now})


def mark_failed(connection: Connection, message: Message, reason: str, until: datetime | None) -> None:
    """Step 3. `until`: when it is tried again; None: it is a dead letter. Nothing changes if another worker has claimed the row
    meanwhile.
    """
    with connection.transaction():
        connection.execute(
            _FAILED,
            {
                **_key_of(message),
                "attempt": message.attempt,
                "status": "dead" if until is None else "failed",
                "until": until or message.at,
                "reason": reason,
            },
        )


def _key_of(message: Message) -> dict[str, Any]:
    return {"tenant": message.tenant, "execution_id": message.execution_id, "channel": message.channel}


def retry(
    connection: Connection,
    *,
    tenant: str | None = None,
    execution_ids: Sequence[int] | None = None,
    channel: str | None = None,
) -> int:
    """Sends dead letters again, from the first attempt on and under their old keys; of named executions also skipped ones.
    Returns how many.
    """
    named = {
        "tenant": tenant,
        "execution_ids": None if execution_ids is None else list(execution_ids),
        "channel": channel,
    }
    lock, again = (SQL(text).format(ended=SQL(_ENDED)) for text in (_LOCK, _RETRY))
    with connection.transaction():
        rows = connection.execute(lock, named).fetchall()
        take_back_counts(connection, {(owner, number) for owner, number, counted in rows if counted})
        return connection.execute(again, named).rowcount


def count_ended(connection: Connection) -> None:
    """Adds what has ended to the counts that reports read."""
    for _ in range(MOST_BATCHES_COUNTED):
        with connection.transaction():
            if count_ended_executions(connection) < COUNTED_AT_ONCE:
                return


def prune(connection: Connection, days: int) -> int:
    """Deletes what was delivered or skipped more than so many days ago; the executions stay in the read models."""
    with connection.transaction():
        return connection.execute(_PRUNE, (timedelta(days=days),)).rowcount


class ChannelCounts(NamedTuple):
    """Rows of a channel by status, and when the oldest one is due that was not delivered yet."""

    channel: str
    waiting: int
    delivering: int
    failed: int
    dead: int
    skipped: int
    delivered: int
    oldest_due: datetime | None


_COUNTS: Final[LiteralString] = """
  select channel,
    count(*) filter (where status = 'waiting'), count(*) filter (where status = 'delivering'),
    count(*) filter (where status = 'failed'), count(*) filter (where status = 'dead'),
    count(*) filter (where status = 'skipped'), count(*) filter (where status = 'delivered'),
    min(next_attempt_at) filter (where status in ('waiting', 'delivering', 'failed'))
  from public.outbox where %(tenant)s::text is null or tenant = %(tenant)s
  group by channel order by channel
"""
_DEAD: Final[LiteralString] = """
  select tenant, execution_id, channel, workflow, action, attempts, last_error, last_attempt_at
  from public.outbox where status = 'dead' and (%(tenant)s::text is null or tenant = %(tenant)s)
  order by tenant, execution_id limit %(most)s
"""
_BACKLOG: Final[LiteralString] = """
  select case when channel = any(%(configured)s) then channel end, count(*) filter (where status <> 'dead'),
    count(*) filter (where status = 'dead'),
    greatest(coalesce(extract(epoch from now() - min(next_attempt_at) filter (where status <> 'dead')), 0), 0)::float8
  from public.outbox where status in ('waiting', 'delivering', 'failed', 'dead') group by 1
"""


def counts_by_channel(connection: Connection, tenant: str | None = None) -> list[ChannelCounts]:
    with connection.cursor() as cursor:
        return [ChannelCounts(*row) for row in cursor.execute(_COUNTS, {"tenant": tenant}).fetchall()]


def dead_letters(connection: Connection, tenant: str | None = None, most: int = 100) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_DEAD, {"tenant": tenant, "most": most}).fetchall()


class ChannelBacklog(NamedTuple):
    waiting: int = 0
    dead: int = 0
    oldest_seconds: float = 0.0
    """For how long the oldest row has been due; 0 when none is."""


def backlog(connection: Connection, configured: Collection[str]) -> dict[str | None, ChannelBacklog]:
    """By channel of the configuration; under None the rows of every other one."""
    with connection.cursor() as cursor:
        rows = cursor.execute(_BACKLOG, {"configured": list(configured)}).fetchall()
    return {channel: ChannelBacklog(*counts) for channel, *counts in rows}


def lead_card(
    connection: Connection, lead_key: int, key_of_lead: Callable[[str, str], int]
) -> LeadCard | None:
    """The lead as it is now. Of a lead that was merged: the one that it belongs to, however often that was merged, too."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_LEAD, (lead_key,)).fetchone()
        walked = {lead_key}
        while row is not None and row["redirect"] and not row["identities"]:
            next_key = key_of_lead(row["tenant"], row["redirect"])
            following = None if next_key in walked else cursor.execute(_LEAD, (next_key,)).fetchone()
            if following is None:
                break
            walked.add(next_key)
            row = following
    if row is None:
        return None
    del row["redirect"], row["tenant"], row["identities"]
    return LeadCard(**row)

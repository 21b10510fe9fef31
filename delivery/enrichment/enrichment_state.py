"""What the database keeps for enrichment: whom to ask about, answers that are still good, and how much was asked.

Keys are digests. No rebuild changes these tables.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final, LiteralString, NamedTuple

import msgspec
from psycopg.rows import dict_row

from projections.connection import Connection
from projections.row_keys import lead_row_key

_DUE: Final[LiteralString] = """
  select q.identity_key, q.tenant, q.noticed_at, q.attempts, l.lead_id, l.email, l.phone, l.fields, l.identified
  from public.enrichment_queue q
  left join live.identities i on i.identity_key = q.identity_key
  left join live.leads l on l.lead_key = i.lead_key
  where q.next_at <= %s order by q.next_at limit %s
"""
_LEAD: Final[LiteralString] = """
  select 0, tenant, as_of, 0, lead_id, email, phone, fields, identified from live.leads where lead_key = %s
"""
_DONE: Final[LiteralString] = (
    "delete from public.enrichment_queue where identity_key = %s and noticed_at = %s"
)
_PUT_OFF: Final[LiteralString] = """
  update public.enrichment_queue set next_at = %s, attempts = attempts + %s where identity_key = %s and noticed_at = %s
"""
_PRUNE: Final[LiteralString] = "delete from public.enrichment_queue where noticed_at < %s"
_PRUNE_CACHE: Final[LiteralString] = "delete from public.enrichment_cache where expires_at < %s"
_CACHED: Final[LiteralString] = """
  select fields, previous, fetched_at, expires_at > %s as is_fresh from public.enrichment_cache
  where key_digest = %s and source = %s
"""
_STORE: Final[LiteralString] = """
  insert into public.enrichment_cache (key_digest, tenant, source, fields, previous, fetched_at, expires_at)
  values (%s, %s, %s, %s::jsonb, '{}', %s, %s)
  on conflict (key_digest, source) do update set previous = public.enrichment_cache.fields, fields = excluded.fields,
    fetched_at = excluded.fetched_at, expires_at = excluded.expires_at
"""
_USED: Final[LiteralString] = """
  select coalesce(sum(requests) filter (where day = %(day)s), 0), coalesce(sum(requests), 0)
  from public.enrichment_usage
  where tenant = %(tenant)s and source = %(source)s and day between %(first)s and %(day)s
"""
_COUNT: Final[LiteralString] = """
  insert into public.enrichment_usage (tenant, source, day, requests) values (%s, %s, %s, 1)
  on conflict (tenant, source, day) do update set requests = public.enrichment_usage.requests + 1
"""
_STATUS: Final[LiteralString] = """
  select tenant, source, sum(requests) filter (where day = %(day)s) as today, sum(requests) as this_month
  from public.enrichment_usage where day >= %(first)s group by tenant, source order by tenant, source
"""


class PersonToAsk(NamedTuple):
    """A person whom an event has given an address; the lead is None while the read models do not have it."""

    identity_key: int
    tenant: str
    noticed_at: datetime
    attempts: int
    lead_id: str | None
    email: str | None
    phone: str | None
    fields: Mapping[str, Any] | None
    identified: bool | None


class CachedAnswer(NamedTuple):
    """`previous`: what the source answered before; it may be what the lead has now."""

    fields: dict[str, Any]
    previous: dict[str, Any]
    fetched_at: datetime
    is_fresh: bool


def due_persons(connection: Connection, now: datetime, most: int) -> list[PersonToAsk]:
    with connection.cursor() as cursor:
        return [PersonToAsk(*row) for row in cursor.execute(_DUE, (now, most)).fetchall()]


def person_of_lead(connection: Connection, tenant: str, lead_id: str) -> PersonToAsk | None:
    """A lead as if an event had just given it an address."""
    with connection.cursor() as cursor:
        row = cursor.execute(_LEAD, (lead_row_key(tenant, lead_id),)).fetchone()
    return None if row is None else PersonToAsk(*row)


def finish(connection: Connection, person: PersonToAsk) -> None:
    """A person whom a later event has given another address stays in the queue."""
    connection.execute(_DONE, (person.identity_key, person.noticed_at))


def put_off(connection: Connection, person: PersonToAsk, until: datetime, *, failed: bool) -> None:
    connection.execute(_PUT_OFF, (until, int(failed), person.identity_key, person.noticed_at))


def prune(connection: Connection, now: datetime, oldest: timedelta) -> None:
    """Forgets whom nobody has asked about for so long, and answers that are too old to be of use."""
    connection.execute(_PRUNE, (now - oldest,))
    connection.execute(_PRUNE_CACHE, (now - timedelta(days=365),))


def cached_answer(connection: Connection, digest: str, source: str, now: datetime) -> CachedAnswer | None:
    with connection.cursor() as cursor:
        row = cursor.execute(_CACHED, (now, digest, source)).fetchone()
    return None if row is None else CachedAnswer(*row)


def store_answer(
    connection: Connection,
    digest: str,
    tenant: str,
    source: str,
    fields: Mapping[str, Any],
    now: datetime,
    days: float,
) -> None:
    encoded = msgspec.json.encode(fields).decode()
    connection.execute(_STORE, (digest, tenant, source, encoded, now, now + timedelta(days=days)))


def requests_made(connection: Connection, tenant: str, source: str, day: date) -> tuple[int, int]:
    """(on this day, in this month up to this day)."""
    values = {"tenant": tenant, "source": source, "day": day, "first": day.replace(day=1)}
    with connection.cursor() as cursor:
        ((today, month),) = cursor.execute(_USED, values).fetchall()
    return int(today), int(month)


def count_request(connection: Connection, tenant: str, source: str, day: date) -> None:
    """On record before the request is made."""
    connection.execute(_COUNT, (tenant, source, day))


def persons_waiting(connection: Connection, tenant: str) -> int:
    with connection.cursor() as cursor:
        ((waiting,),) = cursor.execute(
            "select count(*) from public.enrichment_queue where tenant = %s", (tenant,)
        ).fetchall()
    return int(waiting)


def enrichment_status(connection: Connection, day: date) -> tuple[list[dict[str, Any]], int]:
    """The requests of each tenant and source, and how many persons wait."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows: Sequence[dict[str, Any]] = cursor.execute(
            _STATUS, {"day": day, "first": day.replace(day=1)}
        ).fetchall()
    with connection.cursor() as cursor:
        ((waiting,),) = cursor.execute("select count(*) from public.enrichment_queue").fetchall()
    return list(rows), waiting

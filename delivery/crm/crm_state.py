"""What the database keeps of CRMs: what is known of each record, how far changes were read, and what webhooks have reported.

Every function is one transaction, or part of one of its caller. No rebuild changes these tables.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, LiteralString, NamedTuple

import msgspec
from psycopg.rows import dict_row

from delivery.crm.inbound import PROOF_SECONDS, RecordKind
from delivery.crm.outcome_events import KnownRecord
from delivery.crm.records import CrmRecord
from projections.connection import Connection
from projections.row_keys import lead_row_key

RecordKey = tuple[RecordKind, str]
"""Kind and id of a record."""
LONGEST_ERROR: Final = 500

_CURRENT: Final[LiteralString] = """
  select kind, record_id, state::text, pushed::text from public.crm_records
  where tenant = %s and crm = %s and (kind, record_id) in (select * from unnest(%s::text[], %s::text[]))
"""
_SAVE: Final[LiteralString] = """
  insert into public.crm_records (tenant, crm, kind, record_id, lead_id, status, state, pushed, changed_at)
  values (%(tenant)s, %(crm)s, %(kind)s, %(record_id)s, %(lead_id)s, %(status)s, %(state)s::jsonb, '{}', %(changed_at)s)
  on conflict (tenant, crm, kind, record_id) do update
  set lead_id = excluded.lead_id, status = excluded.status, state = excluded.state, changed_at = excluded.changed_at,
    pushed = public.crm_records.pushed - %(consumed)s::text[]
"""
_DEALS: Final[LiteralString] = """
  select lead_id, crm, record_id, status from public.crm_records
  where tenant = %s and lead_id = any(%s) and kind = 'deal' and status is not null
"""
_STAGES: Final[LiteralString] = "select lead_id, stage from live.leads where lead_key = any(%s)"
_CURSOR: Final[LiteralString] = """
  select since, page, next_at, failures from public.crm_cursors where tenant = %s and crm = %s and kind = %s
"""
_MOVE: Final[LiteralString] = """
  insert into public.crm_cursors (tenant, crm, kind, since, page, next_at, pulled_at, failures)
  values (%(tenant)s, %(crm)s, %(kind)s, %(since)s, %(page)s, %(next_at)s, %(pulled_at)s, 0)
  on conflict (tenant, crm, kind) do update
  set since = excluded.since, page = excluded.page, next_at = excluded.next_at, failures = 0, last_error = null,
    pulled_at = coalesce(excluded.pulled_at, public.crm_cursors.pulled_at)
"""
_FAILED: Final[LiteralString] = """
  update public.crm_cursors set failures = failures + 1, last_error = %s, next_at = %s
  where tenant = %s and crm = %s and kind = %s
"""
_NOW: Final[LiteralString] = """
  update public.crm_cursors set next_at = now(), failures = 0 where tenant = %s and crm = %s
"""
_HINT: Final[LiteralString] = """
  insert into public.crm_inbox (tenant, crm, kind, record_id, received_at, next_at) values (%s, %s, %s, %s, now(), now())
  on conflict (tenant, crm, kind, record_id) where record is null do update set received_at = now(), next_at = now()
"""
_CONTENT: Final[LiteralString] = """
  insert into public.crm_inbox (tenant, crm, kind, record_id, record, received_at, next_at)
  values (%s, %s, %s, %s, %s::jsonb, now(), now())
"""
_TAKE: Final[LiteralString] = """
  select number, kind, record_id, record::text, received_at from public.crm_inbox
  where tenant = %s and crm = %s and next_at <= %s order by number limit %s
"""
_TAKEN: Final[LiteralString] = """
  delete from public.crm_inbox i using unnest(%s::bigint[], %s::timestamptz[]) as taken (number, received_at)
  where i.number = taken.number and i.received_at = taken.received_at
"""
_PUT_OFF: Final[LiteralString] = """
  update public.crm_inbox set next_at = %s where tenant = %s and crm = %s and next_at <= %s
"""
_PUSHED: Final[LiteralString] = """
  insert into public.crm_records (tenant, crm, kind, record_id, lead_id, state, pushed)
  values (%(tenant)s, %(crm)s, %(kind)s, %(record_id)s, %(lead_id)s, %(state)s::jsonb, %(pushed)s::jsonb)
  on conflict (tenant, crm, kind, record_id) do update set pushed = public.crm_records.pushed || excluded.pushed
"""
_STATUS: Final[LiteralString] = """
  select c.tenant, c.crm, c.kind, c.since, c.pulled_at, c.next_at, c.failures, c.last_error,
    (select count(*) from public.crm_inbox i where i.tenant = c.tenant and i.crm = c.crm and i.kind = c.kind) as waiting,
    (select count(*) from public.crm_records r where r.tenant = c.tenant and r.crm = c.crm and r.kind = c.kind) as records
  from public.crm_cursors c where %(tenant)s::text is null or c.tenant = %(tenant)s
  order by c.tenant, c.crm, c.kind
"""


class CrmCursor(NamedTuple):
    """How far changes of one kind were read."""

    since: datetime
    page: str | None
    next_at: datetime
    failures: int


class InboxItem(NamedTuple):
    """What a webhook has reported: that a record changed, or the whole record."""

    number: int
    kind: RecordKind
    record_id: str
    record: CrmRecord | None
    received_at: datetime


class _StoredRecord(msgspec.Struct):
    """A CrmRecord as JSON."""

    changed_at: datetime
    values: dict[str, str | None]
    lead_id: str | None = None
    email: str | None = None
    phone: str | None = None
    contact_ids: tuple[str, ...] = ()
    closed_at: datetime | None = None
    reason: str | None = None


def current_records(
    connection: Connection, tenant: str, crm: str, keys: Collection[RecordKey]
) -> dict[RecordKey, KnownRecord]:
    kinds, ids = [kind for kind, _ in keys], [record_id for _, record_id in keys]
    with connection.cursor() as cursor:
        rows = cursor.execute(_CURRENT, (tenant, crm, kinds, ids)).fetchall()
    return {
        (kind, number): msgspec.structs.replace(
            msgspec.json.decode(current, type=KnownRecord),
            pushed=msgspec.json.decode(pushed, type=dict[str, str]),
        )
        for kind, number, current, pushed in rows
    }


def save_records(
    connection: Connection,
    tenant: str,
    crm: str,
    records: Mapping[RecordKey, KnownRecord],
    consumed: Mapping[RecordKey, Collection[str]] = MappingProxyType({}),
) -> None:
    """`consumed`: fields of which the value that we pushed was read."""
    with connection.cursor() as cursor:
        cursor.executemany(
            _SAVE,
            [
                {
                    "tenant": tenant,
                    "crm": crm,
                    "kind": kind,
                    "record_id": record_id,
                    "lead_id": current.lead_id,
                    "status": current.values.get("status"),
                    "state": _encoded(current),
                    "changed_at": current.changed_at,
                    "consumed": list(consumed.get((kind, record_id), ())),
                }
                for (kind, record_id), current in records.items()
            ],
        )


def deals_of(
    connection: Connection, tenant: str, lead_ids: Collection[str]
) -> dict[str, dict[tuple[str, str], str]]:
    """Lead -> (CRM, id) of each of its deals -> the deal's state."""
    deals: dict[str, dict[tuple[str, str], str]] = {lead_id: {} for lead_id in lead_ids}
    with connection.cursor() as cursor:
        for lead_id, crm, record_id, status in cursor.execute(_DEALS, (tenant, list(lead_ids))):
            deals[lead_id][crm, record_id] = status
    return deals


def stages_of(connection: Connection, tenant: str, lead_ids: Collection[str]) -> dict[str, str]:
    """The stages of those of the leads that are there."""
    keys = [lead_row_key(tenant, lead_id) for lead_id in lead_ids]
    with connection.cursor() as cursor:
        return dict(cursor.execute(_STAGES, (keys,)).fetchall())


def cursor_of(connection: Connection, tenant: str, crm: str, kind: RecordKind) -> CrmCursor | None:
    with connection.cursor() as cursor:
        row = cursor.execute(_CURSOR, (tenant, crm, kind)).fetchone()
    return None if row is None else CrmCursor(*row)


def move_cursor(
    connection: Connection,
    tenant: str,
    crm: str,
    kind: RecordKind,
    cursor: CrmCursor,
    pulled_at: datetime | None,
) -> None:
    connection.execute(
        _MOVE,
        {
            "tenant": tenant,
            "crm": crm,
            "kind": kind,
            "since": cursor.since,
            "page": cursor.page,
            "next_at": cursor.next_at,
            "pulled_at": pulled_at,
        },
    )


def mark_failed_pull(
    connection: Connection, tenant: str, crm: str, kind: RecordKind, reason: str, until: datetime
) -> None:
    connection.execute(_FAILED, (reason[:LONGEST_ERROR], until, tenant, crm, kind))


def rewind(
    connection: Connection, tenant: str, crm: str, kinds: Sequence[RecordKind], since: datetime | None
) -> None:
    """The next pull comes at once, from `since` on if that is given."""
    with connection.transaction():
        if since is not None:
            for kind in kinds:
                move_cursor(connection, tenant, crm, kind, CrmCursor(since, None, since, 0), None)
        connection.execute(_NOW, (tenant, crm))


def add_hints(connection: Connection, tenant: str, crm: str, keys: Collection[RecordKey]) -> None:
    """These records changed. A hint that waits already is not there twice."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_HINT, [(tenant, crm, kind, record_id) for kind, record_id in keys])


def add_reported(connection: Connection, tenant: str, crm: str, records: Sequence[CrmRecord]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            _CONTENT,
            [
                (
                    tenant,
                    crm,
                    record.kind,
                    record.record_id,
                    msgspec.json.encode(
                        _StoredRecord(
                            **{name: getattr(record, name) for name in _StoredRecord.__struct_fields__}
                        )
                    ).decode(),
                )
                for record in records
            ],
        )


def add_receipt(connection: Connection, tenant: str, crm: str, receipt: str, now: datetime) -> bool:
    """Whether this webhook is new. `receipt`: its id, or its signature. Forgets those that are too old to be proven again."""
    digest = hashlib.sha256(f"{tenant}/{crm}/{receipt}".encode(errors="replace")).hexdigest()
    connection.execute(
        "delete from public.webhook_receipts where received_at < %s",
        (now - 2 * timedelta(seconds=PROOF_SECONDS),),
    )
    return (
        connection.execute(
            "insert into public.webhook_receipts values (%s, %s) on conflict do nothing", (digest, now)
        ).rowcount
        == 1
    )


def add_reported_once(
    connection: Connection,
    tenant: str,
    crm: str,
    records: Sequence[CrmRecord],
    receipt: str | None,
    now: datetime,
) -> bool:
    """Whether the records were added: not, if a copy of the webhook came before."""
    with connection.transaction():
        if receipt is not None and not add_receipt(connection, tenant, crm, receipt, now):
            return False
        add_reported(connection, tenant, crm, records)
        return True


def waiting_items(connection: Connection, tenant: str, crm: str, now: datetime, most: int) -> list[InboxItem]:
    with connection.cursor() as cursor:
        rows = cursor.execute(_TAKE, (tenant, crm, now, most)).fetchall()
    return [
        InboxItem(number, kind, record_id, None if record is None else _read(kind, record_id, record), at)
        for number, kind, record_id, record, at in rows
    ]


def _read(kind: RecordKind, record_id: str, record: str) -> CrmRecord:
    return CrmRecord(
        kind, record_id, **msgspec.structs.asdict(msgspec.json.decode(record, type=_StoredRecord))
    )


def remove_items(connection: Connection, items: Sequence[InboxItem]) -> None:
    """Those that were reported again meanwhile stay."""
    connection.execute(_TAKEN, ([each.number for each in items], [each.received_at for each in items]))


def put_off_items(connection: Connection, tenant: str, crm: str, now: datetime, until: datetime) -> None:
    connection.execute(_PUT_OFF, (until, tenant, crm, now))


def remember_push(
    connection: Connection, tenant: str, crm: str, key: RecordKey, lead_id: str, values: Mapping[str, str]
) -> None:
    """The record is this lead's, and these values of it are our own: when they come back, nobody has done anything."""
    kind, record_id = key
    with connection.transaction():
        connection.execute(
            _PUSHED,
            {
                "tenant": tenant,
                "crm": crm,
                "kind": kind,
                "record_id": record_id,
                "lead_id": lead_id,
                "state": _encoded(KnownRecord(lead_id=lead_id)),
                "pushed": msgspec.json.encode(values).decode(),
            },
        )


def _encoded(current: KnownRecord) -> str:
    """`pushed` has a column of its own, since a push changes it beside a pull."""
    return msgspec.json.encode(msgspec.structs.replace(current, pushed={})).decode()


def crm_status(connection: Connection, tenant: str | None = None) -> list[dict[str, Any]]:
    """How far each CRM was read, by kind of record."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_STATUS, {"tenant": tenant}).fetchall()

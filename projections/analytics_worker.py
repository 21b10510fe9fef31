"""Computes the tables of `projections.lead_tables` again for leads whose facts changed. One worker per database.

The projection marks leads as stale in the transaction of their rows, in a queue without a key: it waits for nobody. A
mark names a lead, or an identity, whose leads are looked up only when the mark is taken: by then the transaction that
moved the identity has committed, or it brings marks of its own. `compute_stale_leads` is one transaction:

1. Keep a rebuild from swapping the tables until the transaction ends.
2. If settings changed, mark the leads of these tenants.
3. Take marks from the queue, and find their leads.
4. Read the leads' facts, compute their rows, and write the rows that differ.

It removes only the marks that it saw, and with the rows or not at all. A lead with many events is computed at most for a
tenth of the time: it comes up again after RESTS times what its last turn cost.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, LiteralString

import msgspec
import psycopg
import structlog
from psycopg import IsolationLevel
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import Table

from projections import metrics, upserts
from projections.connection import Connection, connect_watched
from projections.lead_facts import count_facts, facts_of_rows, select_facts
from projections.lead_tables import LEAD_TABLES
from projections.queries import sql_and_parameters
from projections.table_definition import LIVE_SCHEMA
from projections.tenant_tables import add_difference
from projections.worker import open_cursor
from schemas.control import EVERY_TENANT
from scoring.analytics.facts import LeadFacts
from scoring.analytics.settings import AnalyticsSettings

SettingsByTenant = Mapping[str, AnalyticsSettings]
"""The settings of each tenant that has its own, and of `*`, every other one."""
ReadSettings = Callable[[Connection], SettingsByTenant]
"""Reads the settings that are active, over a connection whose search path is a schema of read models."""

MARKS_AT_ONCE: Final = 500
"""Marks that one transaction takes."""
FACTS_AT_ONCE: Final = 20_000
"""Events that are in memory at once, and those of one more lead."""
RESTS: Final = 10
"""A lead is not computed again before this many times what it cost have passed."""
CHEAP_SECONDS: Final = 0.05
"""A lead that costs less may come up again at once."""
IDLE_SECONDS: Final = 0.5
"""How long the worker waits before it looks again, when no lead is stale."""
RETRY_SECONDS: Final = 2.0
_WORKER_LOCK_ID: Final = 0x6C656164_616E616C  # "leadanal": advisory locks are numbered per database
_OPTIONS: Final = "-c timezone=UTC -c jit=off -c lock_timeout=30s -c idle_in_transaction_session_timeout=60s"

_HOLD_SCHEMAS: LiteralString = "lock table public.positions in row exclusive mode"
"""As every writer does; a swap of a rebuild waits for it."""
_TAKE_MARKS: LiteralString = """
  delete from {schema}.stale_leads where ctid = any(array(
    select ctid from {schema}.stale_leads where lead_key is null or lead_key <> all(%b::int8[]) limit %b))
  returning lead_key, identity_key, marked_at
"""
_MARK_LEADS_SINCE: LiteralString = (
    "insert into {schema}.stale_leads (lead_key, marked_at) select unnest(%b::int8[]), %b::timestamptz"
)
_MARK_EVERY_LEAD: LiteralString = (
    "insert into {schema}.stale_leads (lead_key, marked_at) select lead_key, now() from {schema}.leads"
)
_MARK_TENANTS: LiteralString = """
  insert into {schema}.stale_leads (lead_key, marked_at) select lead_key, now() from {schema}.leads
  where tenant = any(%b::text[]) or (%b::bool and tenant <> all(%b::text[]))
"""
_LEADS_OF_IDENTITIES: LiteralString = (
    "select distinct lead_key from {schema}.identity_history where identity_key = any(%b::int8[])"
)
_SELECT_SETTINGS: LiteralString = "select tenant, settings from {schema}.analytics_settings"
_STORE_SETTINGS: LiteralString = """
  insert into {schema}.analytics_settings select * from unnest(%b::text[], %b::text[])
  on conflict (tenant) do update set settings = excluded.settings
"""
_DELETE_SETTINGS: LiteralString = "delete from {schema}.analytics_settings where tenant = any(%b::text[])"

_BUILT_IN_SETTINGS: Final = AnalyticsSettings()
_log = structlog.get_logger(__name__)


def no_settings(_: Connection) -> SettingsByTenant:
    """Every tenant has the built-in settings."""
    return {}


class TurnTaker:
    """Which leads are expensive, and when each may be computed again. In memory: a restart only computes them sooner."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._next_turn: dict[int, float] = {}

    def resting(self) -> list[int]:
        now = self.clock()
        self._next_turn = {lead: turn for lead, turn in self._next_turn.items() if turn > now}
        return list(self._next_turn)

    def computed(self, lead_key: int, seconds: float) -> None:
        if seconds > CHEAP_SECONDS:
            self._next_turn[lead_key] = self.clock() + RESTS * seconds


def compute_stale_leads(
    connection: Connection,
    read_settings: ReadSettings,
    *,
    turns: TurnTaker | None = None,
    schema: str = LIVE_SCHEMA,
) -> tuple[int, float]:
    """Takes marks and computes their leads, in one transaction: the caller's, or its own. Returns how many marks it took,
    0 if none is left, and for how many seconds the oldest of them had waited.
    """
    turns = turns or TurnTaker()
    with connection.transaction(), open_cursor(connection) as cursor:
        cursor.execute(_HOLD_SCHEMAS)
        cursor.execute(SQL("set local search_path = {}").format(Identifier(schema)))
        settings = _current_settings(connection, cursor, schema, read_settings)
        resting = turns.resting()
        cursor.execute(_statement(_TAKE_MARKS, schema), (resting, MARKS_AT_ONCE))
        marks = cursor.fetchall()
        if not marks:
            return 0, 0.0
        oldest = min(marked_at for _, _, marked_at in marks)
        leads = {lead for lead, _, _ in marks if lead is not None}
        identities = {identity for _, identity, _ in marks if identity is not None}
        if identities:
            cursor.execute(_statement(_LEADS_OF_IDENTITIES, schema), (list(identities),))
            leads |= {lead for (lead,) in cursor}
        if early := leads.intersection(resting):
            cursor.execute(_statement(_MARK_LEADS_SINCE, schema), (sorted(early), oldest))
        for lead_keys in _batches(connection, sorted(leads - early)):
            begun = turns.clock()
            _write_leads(connection, schema, lead_keys, _read_facts(connection, lead_keys), settings)
            if len(lead_keys) == 1:
                turns.computed(lead_keys[0], turns.clock() - begun)
        cursor.execute("select extract(epoch from clock_timestamp() - %b::timestamptz)::float8", (oldest,))
        ((age,),) = cursor.fetchall()
    return len(marks), age


def compute_all_leads(connection: Connection, read_settings: ReadSettings, schema: str) -> None:
    """Computes every lead of a schema that nobody reads yet, in several transactions."""
    with connection.transaction():
        connection.execute(_statement("truncate {schema}.stale_leads", schema))
        connection.execute(_statement(_MARK_EVERY_LEAD, schema))
    compute_every_stale_lead(connection, read_settings, schema)


def compute_every_stale_lead(connection: Connection, read_settings: ReadSettings, schema: str) -> None:
    """Until no mark is left."""
    while compute_stale_leads(connection, read_settings, schema=schema)[0]:
        pass


def run_analytics(
    database: Callable[[], str],
    read_settings: ReadSettings,
    *,
    stop: threading.Event,
    schema: str = LIVE_SCHEMA,
) -> None:
    """Computes stale leads until `stop` is set. Waits while another process does, or the database is unavailable."""
    reported = False
    while not stop.is_set():
        try:
            with connect_watched(
                database(), options=_OPTIONS, autocommit=True, application_name="leadstream analytics"
            ) as connection:
                connection.isolation_level = IsolationLevel.REPEATABLE_READ
                if _is_only_worker(connection):
                    reported = False
                    _follow_marks(connection, read_settings, stop, schema)
                    return
        except psycopg.errors.UndefinedTable:
            pass  # the tables are being made
        except Exception as cause:  # noqa: BLE001 - reported, and tried again
            if not stop.is_set() and not reported:
                reported = True
                _log.warning(
                    "computing analytics pauses",
                    cause=" ".join(str(cause).split()),
                    exc_info=None if isinstance(cause, psycopg.Error) else cause,
                )
        stop.wait(RETRY_SECONDS)


def _follow_marks(
    connection: Connection, read_settings: ReadSettings, stop: threading.Event, schema: str
) -> None:
    turns = TurnTaker()
    while not stop.is_set():
        begun = time.monotonic()
        marks, age = compute_stale_leads(connection, read_settings, turns=turns, schema=schema)
        metrics.ANALYTICS_LAG_SECONDS.set(age)
        # It leaves at least half of the time to the threads that fold and answer.
        stop.wait(min(time.monotonic() - begun, IDLE_SECONDS) if marks == MARKS_AT_ONCE else IDLE_SECONDS)


def _is_only_worker(connection: Connection) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s)", (_WORKER_LOCK_ID,)).fetchone()
    return row is not None and bool(row[0])


def _current_settings(
    connection: Connection, cursor: psycopg.Cursor[Any], schema: str, read_settings: ReadSettings
) -> SettingsByTenant:
    """The active settings. The leads of tenants whose settings changed become stale."""
    current = dict(read_settings(connection))
    encoded = {tenant: msgspec.json.encode(settings).decode() for tenant, settings in current.items()}
    cursor.execute(_statement(_SELECT_SETTINGS, schema))
    stored = dict(cursor.fetchall())
    changed = {
        tenant for tenant in encoded.keys() | stored.keys() if encoded.get(tenant) != stored.get(tenant)
    }
    if changed:
        own = sorted({*encoded, *stored} - {EVERY_TENANT})
        cursor.execute(_statement(_MARK_TENANTS, schema), (sorted(changed), EVERY_TENANT in changed, own))
        cursor.execute(_statement(_DELETE_SETTINGS, schema), (sorted(stored.keys() - encoded.keys()),))
        cursor.execute(_statement(_STORE_SETTINGS, schema), (list(encoded), list(encoded.values())))
    return current


def _batches(connection: Connection, lead_keys: Sequence[int]) -> Iterator[list[int]]:
    """The leads in batches of bounded facts; one with many facts is alone."""
    sizes = dict(connection.execute(*sql_and_parameters(count_facts(lead_keys))).fetchall())
    batch: list[int] = []
    room = FACTS_AT_ONCE
    for lead in lead_keys:
        size = sizes.get(lead, 0)
        if size > FACTS_AT_ONCE // RESTS:
            yield [lead]
            continue
        if size > room:
            yield batch
            batch, room = [], FACTS_AT_ONCE
        batch.append(lead)
        room -= size
    if batch:
        yield batch


def _read_facts(connection: Connection, lead_keys: Sequence[int]) -> dict[int, LeadFacts]:
    with connection.cursor(row_factory=dict_row) as cursor, connection.pipeline():
        return facts_of_rows(
            *[
                cursor.execute(*sql_and_parameters(statement)).fetchall()
                for statement in select_facts(lead_keys)
            ]
        )


def _write_leads(
    connection: Connection,
    schema: str,
    lead_keys: Iterable[int],
    facts: Mapping[int, LeadFacts],
    settings: SettingsByTenant,
) -> None:
    """Replaces the rows of these leads. A lead without facts has none; one that cannot be computed keeps what it has."""
    every_tenant = settings.get(EVERY_TENANT, _BUILT_IN_SETTINGS)
    computed: dict[Table, list[tuple[Any, ...]]] = {table: [] for table, _ in LEAD_TABLES}
    failed = set()
    for lead_key, lead in facts.items():
        by_settings = settings.get(lead.tenant, every_tenant)
        try:
            rows = [list(rows_of(lead, by_settings)) for _, rows_of in LEAD_TABLES]
        except Exception:  # noqa: BLE001 - one lead must not keep the others waiting
            failed.add(lead_key)
            metrics.FAILED_ANALYTICS.inc()
            _log.exception("the analytics of a lead cannot be computed", lead_key=lead_key)
            continue
        for table, rows_of_lead in zip(computed, rows, strict=True):
            computed[table].extend(rows_of_lead)
    replaced = [lead_key for lead_key in lead_keys if lead_key not in failed]
    for table, table_rows in computed.items():
        _replace_rows(connection, schema, table, replaced, table_rows)


def _replace_rows(
    connection: Connection,
    schema: str,
    table: Table,
    lead_keys: Sequence[int],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    """Writes only what differs from what is stored: a lead of many days gains one."""
    computed = Identifier(f"computed_{table.name}")
    same_key = SQL(" and ").join(
        SQL("stored.{0} = computed.{0}").format(Identifier(column.name)) for column in table.primary_key
    )
    names = {
        "table": Identifier(schema, table.name),
        "computed": computed,
        "columns": SQL(", ").join(map(Identifier, table.columns.keys())),
        "same_key": same_key,
    }
    with open_cursor(connection) as cursor:
        cursor.execute(
            SQL("create temp table if not exists {computed} (like {table}) on commit delete rows").format(
                **names
            )
        )
        cursor.execute(SQL("delete from pg_temp.{computed}").format(**names))
        with cursor.copy(
            SQL("copy pg_temp.{computed} ({columns}) from stdin (format binary)").format(**names)
        ) as copy:
            copy.set_types(upserts.postgres_types_of(table))
            for row in rows:
                copy.write_row(row)
        add_difference(cursor, schema, table, f"computed_{table.name}", lead_keys)
        cursor.execute(
            SQL(
                "delete from {table} stored where lead_key = any(%b::int8[]) and not exists ("
                "select from pg_temp.{computed} computed where {same_key} "
                "and row(computed.*) is not distinct from row(stored.*))"
            ).format(**names),
            (list(lead_keys),),
        )
        cursor.execute(
            SQL(
                "insert into {table} ({columns}) select {columns} from pg_temp.{computed} computed "
                "where not exists (select from {table} stored where {same_key})"
            ).format(**names)
        )


def _statement(text: LiteralString, schema: str) -> Composed:
    return SQL(text).format(schema=Identifier(schema))

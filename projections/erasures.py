"""Erasures of people: the table that remembers them, and the rows that an erasure deletes.

`public.erasures` has one row for each. While it runs, the row has the person's names, so that it goes on after a crash;
afterwards it has only keyed hashes, and no rebuild changes it. Which rows are a person's follows from the columns of
`projections.table_sets`: a new table with a lead's or an identity's key is covered by itself. Nothing here commits.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from secrets import token_bytes, token_hex
from typing import Any, Final, LiteralString

import msgspec
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import Table

from projections import analytics_tables, public_tables, table_sets, tables
from projections.connection import Connection
from projections.enrichment_queue import digest_of_key
from projections.outbox import COUNTED_AT_ONCE, count_ended_executions
from projections.person import Person
from projections.table_definition import ANALYTICS_INFO_KEY, LIVE_SCHEMA
from schemas.control import MOST_ERASURE_HASHES, Derived, PersonErased, Reassigned, SignalsCounted
from schemas.decode import Refusal, decode_source
from schemas.envelope import Event
from schemas.events import LeadsMerged
from schemas.record import Record
from schemas.topics import EVENTS
from scoring.features.erased_people import ErasedPeople, is_key_erased

REGISTERED: Final = "registered"
"""Later events are refused at the door."""
RECORDED: Final = "recorded"
"""The folds have forgotten the person."""
EMPTIED: Final = "emptied"
"""Rows and records are gone."""
DONE: Final = "done"
STEPS: Final = (REGISTERED, RECORDED, EMPTIED, DONE)

BY_OTHER_KEYS: Final = frozenset(
    {
        "crm_inbox",
        "crm_records",
        "dead_letters",
        "enrichment_cache",
        "lead_records",
        "notifications",
        "recalculations",
        "session_scores",
        "worker_dues",
        "worker_state",
    }
)
"""Tables whose rows of a person are found by other columns than `lead_key` and `identity_key`."""
NAMELESS_TABLES: Final = frozenset(
    {
        "analytics_settings",
        "api_keys",
        "audit_log",
        "backfills",
        "crm_cursors",
        "enrichment_usage",
        "erasures",
        "event_archive",
        "execution_counts",
        "log_source",
        "model_drafts",
        "positions",
        "publications",
        "removed_records",
        "removed_rows",
        "retried_letters",
        "settings_history",
        "sign_in_attempts",
        "tenant_days",
        "tenant_engagements",
        "tenant_periods",
        "user_sessions",
        "users",
        "webhook_receipts",
    }
)
"""Tables without rows of one lead: sums, texts, staff. `audit_log` keeps its rows, and the person's names in them are
masked; `event_archive` is the log, which is emptied with the log.
"""

KEY_MAY_BE_OF_TENANT: Final[LiteralString] = (
    "(split_part(key, '/', 1) = %s or coalesce(key, '') !~ '^[a-z0-9][a-z0-9-]*/[vl]/')"
)
"""Whether a dead letter's key names this tenant, or none. Ids are chosen by strangers: one must not reach another tenant."""

MASK: Final = "***"
_SHORTEST_MASKED: Final = 4
"""Characters of a name that is masked in the audit log: a shorter one would hit what it does not mean."""

_INSERT: LiteralString = """
  insert into public.erasures (erasure_id, tenant, salt, hashes, requested_at, requested_by, step, person, removed, remains)
  values (%(erasure_id)s, %(tenant)s, %(salt)s, %(hashes)s, %(requested_at)s, %(requested_by)s, %(step)s, %(person)s, '{}', '[]')
  on conflict (erasure_id) do nothing
"""
_COLUMNS: LiteralString = "erasure_id, tenant, salt, hashes, requested_at, requested_by, step, person, removed, remains, finished_at"


class Erasure(msgspec.Struct):
    """A row of `public.erasures`."""

    erasure_id: str
    tenant: str
    salt: str
    hashes: list[str]
    requested_at: datetime
    requested_by: str
    step: str
    person: Person | None = None
    removed: dict[str, int] = {}
    """Table or topic -> how many rows or records went."""
    remains: list[dict[str, Any]] = []
    """What Kafka still has of the person, by topic."""
    finished_at: datetime | None = None


def salt_of_tenant(connection: Connection, tenant: str) -> str:
    """The key of the tenant's hashes, in hexadecimal: that of its first erasure, or a new one."""
    row = connection.execute(
        "select salt from public.erasures where tenant = %s order by requested_at, erasure_id limit 1",
        (tenant,),
    ).fetchone()
    return token_bytes(16).hex() if row is None else str(row[0])


def register(connection: Connection, person: Person, requested_at: datetime, requested_by: str) -> Erasure:
    """The first step. Two erasures of one person at the same time become two rows; that does no harm."""
    connection.execute("lock table public.erasures in share row exclusive mode")
    salt = salt_of_tenant(connection, person.tenant)
    hashes = [each.hex() for each in person.hashes(bytes.fromhex(salt))]
    erasure = Erasure(
        token_hex(8), person.tenant, salt, hashes, requested_at, requested_by, REGISTERED, person
    )
    insert(connection, erasure)
    return erasure


def insert(connection: Connection, erasure: Erasure) -> None:
    connection.execute(
        _INSERT,
        {
            "erasure_id": erasure.erasure_id,
            "tenant": erasure.tenant,
            "salt": erasure.salt,
            "hashes": msgspec.json.encode(erasure.hashes).decode(),
            "requested_at": erasure.requested_at,
            "requested_by": erasure.requested_by,
            "step": erasure.step,
            "person": _encoded(erasure.person),
        },
    )


def save(connection: Connection, erasure: Erasure) -> None:
    """Writes what has changed."""
    connection.execute(
        """update public.erasures set hashes = %s, step = %s, person = %s, removed = %s, remains = %s, finished_at = %s
           where erasure_id = %s""",
        (
            _encoded(erasure.hashes),
            erasure.step,
            _encoded(erasure.person),
            _encoded(erasure.removed),
            _encoded(erasure.remains),
            erasure.finished_at,
            erasure.erasure_id,
        ),
    )


def read_erasures(
    connection: Connection,
    *,
    tenant: str | None = None,
    erasure_id: str | None = None,
    unfinished: bool = False,
) -> list[Erasure]:
    """The oldest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            SQL(
                """select {} from public.erasures where (%(tenant)s::text is null or tenant = %(tenant)s)
                   and (%(erasure_id)s::text is null or erasure_id = %(erasure_id)s)
                   and (not %(unfinished)s or step <> 'done') order by requested_at, erasure_id"""
            ).format(SQL(_COLUMNS)),
            {"tenant": tenant, "erasure_id": erasure_id, "unfinished": unfinished},
        )
        return [msgspec.convert(row, Erasure) for row in cursor]


def publications_of(erasure: Erasure, at: datetime) -> list[PersonErased]:
    """What tells the folds of it."""
    return [
        PersonErased(
            tenant=erasure.tenant,
            recorded_at=at,
            salt=erasure.salt,
            hashes=erasure.hashes[start : start + MOST_ERASURE_HASHES],
        )
        for start in range(0, len(erasure.hashes), MOST_ERASURE_HASHES)
    ]


def erased_people(erasures: Iterable[Erasure]) -> ErasedPeople:
    people = ErasedPeople()
    for each in erasures:
        people.remember(each.tenant, bytes.fromhex(each.salt), map(bytes.fromhex, each.hashes))
    return people


def erasure_json(erasure: Erasure) -> dict[str, Any]:
    """An erasure as callers see it: without the names that it has until it is done."""
    return {
        "erasure_id": erasure.erasure_id,
        "requested_at": erasure.requested_at,
        "requested_by": erasure.requested_by,
        "step": erasure.step,
        "done": erasure.step == DONE,
        "finished_at": erasure.finished_at,
        "removed": erasure.removed,
        "remains": erasure.remains,
    }


def read_erased_people(connection: Connection) -> ErasedPeople:
    """Everybody who was erased, for a projection from Kafka, whose topics still have their records."""
    row = connection.execute("select exists (select from public.erasures)").fetchone()
    return erased_people(read_erasures(connection)) if row is not None and row[0] else ErasedPeople()


def is_record_erased(people: ErasedPeople, record: Record) -> bool:
    """Whether a record of Kafka is about an erased person. One without a value deletes, and so it counts."""
    if record.value is None:
        return False
    key = record.key.partition("\0")[0]  # a changelog has the part behind it
    return key.count("/") >= 2 and is_key_erased(people, key)


# Rows


def tables_of_people() -> list[tuple[Table, str]]:
    """(table, column): each table in which a row belongs to the lead or the identity of this column. The analytics worker
    removes what it has made of the others.
    """
    return [
        (table, column)
        for table in table_sets.ALL_TABLES.sorted_tables
        if not table.info.get(ANALYTICS_INFO_KEY) and table.name not in BY_OTHER_KEYS | NAMELESS_TABLES
        for column in ("identity_key", "lead_key")
        if column in table.columns and not (column == "lead_key" and "identity_key" in table.columns)
    ]


def count_rows(connection: Connection, person: Person) -> dict[str, int]:
    """What `delete_rows` would delete, by table."""
    counts: dict[str, int] = {}
    for table, condition, parameters in row_conditions(person):
        row = connection.execute(
            SQL("select count(*) from {} where {}").format(table_name(table), condition), parameters
        ).fetchone()
        counts[table.name] = counts.get(table.name, 0) + (0 if row is None else row[0])
    return {name: count for name, count in sorted(counts.items()) if count}


def delete_rows(connection: Connection, person: Person) -> dict[str, int]:
    """Deletes the person's rows and marks the leads, so that the analytics worker takes them out of every sum. Returns how
    many went, by table. A rebuild must not run.
    """
    connection.execute("lock table public.positions in row exclusive mode")  # no swap of a rebuild in between
    while count_ended_executions(connection) == COUNTED_AT_ONCE:
        pass  # what was done stays counted: the counts name nobody
    removed: dict[str, int] = {}
    for table, condition, parameters in row_conditions(person):
        count = connection.execute(
            SQL("delete from {} where {}").format(table_name(table), condition), parameters
        ).rowcount
        removed[table.name] = removed.get(table.name, 0) + count
    connection.execute(
        SQL("insert into {} (lead_key, marked_at) select unnest(%s::bigint[]), now()").format(
            table_name(analytics_tables.stale_leads)
        ),
        (person.row_keys,),
    )
    return {name: count for name, count in removed.items() if count}


def row_conditions(person: Person) -> list[tuple[Table, Composed, Sequence[Any]]]:
    """In the order in which rows are deleted: what is found by the rows of another table goes before these."""
    conditions: list[tuple[Table, Composed, Sequence[Any]]] = [
        (
            tables.session_scores,
            SQL(
                "lead_key = any(%s) or session_key in (select session_key from {} where identity_key = any(%s))"
            ).format(table_name(tables.sessions)),
            (person.row_keys, person.identity_keys),
        ),
        (  # also at leads that had the person's identities for a while, or were merged into them
            tables.lead_records,
            SQL(
                "lead_key = any(%s) or identity_key = any(%s) or (leads_to <> 0 and leads_to = any(%s))"
            ).format(),
            (person.row_keys, person.identity_keys, person.row_keys),
        ),
        (  # other people's identities that were the person's for a while
            tables.identity_history,
            SQL("lead_key = any(%s) and identity_key <> all(%s)").format(),
            (person.row_keys, person.identity_keys),
        ),
        (tables.applied_events, SQL("key = any(%s)").format(), (person.source_keys,)),
        (
            public_tables.notifications,
            SQL("tenant = %s and lead_id = any(%s)").format(),
            (person.tenant, person.leads),
        ),
        (
            tables.engagement_history,
            SQL(
                "tenant = %s and type = 'leads_merged' and details ->> 'into' = any(%s) and identity_key <> all(%s)"
            ).format(),
            (person.tenant, person.leads, person.identity_keys),
        ),
        (
            public_tables.crm_inbox,
            SQL(
                "tenant = %s and ((crm, kind, record_id) in (select crm, kind, record_id from {} where tenant = %s "
                "and lead_id = any(%s)) or exists (select from unnest(%s::text[]) as name where jsonb_path_exists("
                "record, 'strict $.** ? (@ == $name)', jsonb_build_object('name', name))))"
            ).format(table_name(public_tables.crm_records)),
            (person.tenant, person.tenant, person.leads, searched_texts(person)),
        ),
        (
            public_tables.crm_records,
            SQL("tenant = %s and lead_id = any(%s)").format(),
            (person.tenant, person.leads),
        ),
        (
            public_tables.enrichment_cache,
            SQL("tenant = %s and key_digest = any(%s)").format(),
            (
                person.tenant,
                [digest_of_key(person.tenant, each) for each in (*person.emails, *person.phones)],
            ),
        ),
        (  # the report of a night that names the person
            public_tables.recalculations,
            SQL(
                "tenant = %s and exists (select from jsonb_array_elements(differences) as each where each ->> 'lead_id' = any(%s))"
            ).format(),
            (person.tenant, person.leads),
        ),
        *(
            (table, SQL("key = any(%s)").format(), (person.source_keys,))
            for table in (tables.worker_state, tables.worker_dues)
        ),
        (
            tables.dead_letters,
            SQL("key = any(%s) or ({} and {})").format(
                SQL(KEY_MAY_BE_OF_TENANT), _names_searched("original")
            ),
            (person.source_keys, person.tenant, quoted_names(person)),
        ),
    ]
    for table, column in tables_of_people():
        keys = person.identity_keys if column == "identity_key" else person.row_keys
        conditions.append((table, SQL("{} = any(%s)").format(Identifier(column)), (keys,)))
    return conditions


def table_name(table: Table) -> Identifier:
    return Identifier(table.schema or LIVE_SCHEMA, table.name)


def _names_searched(column: str) -> Composed:
    """Whether the bytes contain one of the names."""
    return SQL("exists (select from unnest(%s::bytea[]) as name where position(name in {}) > 0)").format(
        Identifier(column)
    )


def searched_texts(person: Person) -> list[str]:
    """The person's names as they may stand in texts that nobody could read. Short ones would hit other people's."""
    visitors = [key.split("/", 2)[2] for key in person.visitors]
    own = [
        *person.leads,
        *visitors,
        *(each for each in (*person.emails, *person.phones) if each not in person.shared_addresses),
    ]
    return sorted({name for name in own if len(name) > _SHORTEST_MASKED})


def quoted_names(person: Person) -> list[bytes]:
    """As values of JSON: a part of a longer text, or the name of a field, is nobody's name."""
    quoted = [msgspec.json.encode(name) for name in searched_texts(person)]
    return [colon + each for each in quoted for colon in (b":", b": ")]


def delete_archived_events(connection: Connection, person: Person) -> dict[str, int]:
    """Deletes the person's events from the archive that a database has beside Kafka. Read it before the rows are deleted."""
    own = connection.execute(
        "delete from public.event_archive where key = any(%s)", (person.source_keys,)
    ).rowcount
    kept = {
        event_id
        for (event_id,) in connection.execute(
            SQL(
                "select e.event_id from {} i join {} e using (identity_key) where i.tenant = %s "
                "and regexp_replace(i.identity, '#[0-9]+$', '') = any(%s) and i.identity_key <> all(%s)"
            ).format(table_name(tables.identities), table_name(tables.engagement_history)),
            (person.tenant, person.shared_visitors, person.identity_keys),
        )
    }
    rows = connection.execute(
        "select partition, position, key, value from public.event_archive where key = any(%s)",
        ([*person.shared_visitors, *person.merged_keys],),
    ).fetchall()
    theirs = [
        (partition, position)
        for partition, position, key, value in rows
        if (key in person.shared_visitors and is_of_person(bytes(value), person, kept))
        or (key in person.merged_keys and source_names_lead(bytes(value), person.leads))
    ]
    if theirs:
        with connection.cursor() as cursor:
            cursor.executemany(
                "delete from public.event_archive where partition = %s and position = %s", theirs
            )
    return {EVENTS: own + len(theirs)}


def is_of_person(value: bytes, person: Person, event_ids_of_others: Collection[str]) -> bool:
    """Whether an event of a browser that others use, too, is this person's: it counted for nobody else, and names no other
    lead.
    """
    try:
        source = decode_source(value)
    except Refusal:
        return False  # a dead letter, which is searched for names
    if isinstance(source, Derived):
        return source.identity in person.identities
    return (
        isinstance(source, Event)
        and source.event_id not in event_ids_of_others
        and (source.lead_id is None or source.lead_id in person.leads)
    )


def source_names_lead(value: bytes, leads: Collection[str]) -> bool:
    """Whether an event or a control record of another key names one of the leads: a merge, or an identity that it moved."""
    try:
        source = decode_source(value)
    except Refusal:
        return False
    if isinstance(source, SignalsCounted):
        return source.home_lead in leads
    if isinstance(source, Reassigned):
        return not {source.holder, source.to, *source.path}.isdisjoint(leads)
    return isinstance(source, LeadsMerged) and source.into in leads


def mask_audit_log(connection: Connection, person: Person) -> int:
    """The audit log keeps its entries; where one names the person, the name is replaced."""
    names = searched_texts(person)
    if not names:
        return 0
    connection.execute("select set_config('leadstream.erasure', 'on', true)")
    changed = 0
    for name in sorted(names, key=len, reverse=True):
        changed += connection.execute(
            """update public.audit_log
               set before = replace(before, %(name)s, %(mask)s), after = replace(after, %(name)s, %(mask)s)
               where tenant = %(tenant)s and position(%(name)s in concat_ws(' ', before, after)) > 0""",
            {"name": f":{_encoded(name)}", "mask": f":{_encoded(MASK)}", "tenant": person.tenant},
        ).rowcount
    connection.execute("select set_config('leadstream.erasure', 'off', true)")
    return changed


def analytics_wait(connection: Connection, person: Person) -> bool:
    """Whether the analytics worker has still to compute these leads again."""
    row = connection.execute(
        SQL("select exists (select from {} where lead_key = any(%s))").format(
            table_name(analytics_tables.stale_leads)
        ),
        ([*person.row_keys, *person.other_row_keys],),
    ).fetchone()
    return row is not None and bool(row[0])


def vacuum_rows(connection: Connection, *, full: bool) -> None:
    """Removes deleted rows from the files, and values from the statistics of the planner. `full` writes every file anew,
    which also empties the free space of pages; readers wait meanwhile. Outside of a transaction.
    """
    for table in table_sets.ALL_TABLES.sorted_tables:
        if (
            "lead_key" in table.columns
            or "identity_key" in table.columns
            or table.name in BY_OTHER_KEYS | {"audit_log", "erasures", "event_archive"}
        ):
            connection.execute(
                SQL("vacuum ({}analyze) {}").format(SQL("full, " if full else ""), table_name(table))
            )


def _encoded(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()

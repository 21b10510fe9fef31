"""Erases a person. Every step can be repeated, and the row of the erasure says which one is next:

1. `register`: the row with the person's names and their keyed hashes, and a line in the ledger. From here on the door refuses
   later events.
2. Records: `person_erased` into every partition, from which on the folds refuse what names the person; then one record for
   each identity and lead, at which the folds forget them. They are folded and projected before the next step.
3. Rows and records: one transaction deletes the person's rows and makes stubs of the person's records in an embedded log.
4. Analytics compute the leads again, which takes them out of every sum. VACUUM removes the rows from the files, and the row
   of the erasure loses the names.

A crash between two steps leaves an erasure that the next start, or `leadstream erase --resume`, brings to its end.
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import structlog

from leadstream.console import Failure
from leadstream.operations.erased_records import (
    RecordAddress,
    changed_records,
    records_of_other_identities,
    records_of_person,
)
from leadstream.operations.erasure_ledger import add_to_ledger, read_ledger
from leadstream.operations.store_access import StoreAccess
from projections import erasures
from projections.connection import Connection, connect_watched
from projections.erased_causes import (
    ErasedNames,
    change_lead_records,
    mask_rows,
    names_of_person,
)
from projections.erasures import DONE, EMPTIED, RECORDED, REGISTERED, Erasure
from projections.person import Person, find_person, leads_with_hashes
from projections.rebuild import RebuildRunsError, only_rebuild
from projections.source import bound_source
from projections.table_definition import LIVE_SCHEMA, PUBLIC_SCHEMA, READ_OPTIONS
from projections.worker import CHANGES_CHANNEL
from schemas.activity import TimePassed
from schemas.control import IdentityErased
from schemas.decode import encode_activity, encode_source
from schemas.moment import millis
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_SCORES, lead_key
from scoring.features.identity import key_of_identity
from streams.embedded import log

MOST_ROUNDS = 5
"""Times that the records are written, if the person did something meanwhile."""
ANALYTICS_SECONDS = 120.0
"""How long an erasure waits until the sums of the tenant are without the person."""
REBUILD_SECONDS = 600.0
"""How long an erasure waits for a rebuild, which would bring rows back."""
_POLL_SECONDS = 0.1
_OPTIONS = f"-c search_path={LIVE_SCHEMA},{PUBLIC_SCHEMA} -c timezone=UTC"
"""Of a connection that changes the read models and the log."""

Report = Callable[[str], None]
"""The step that was completed."""
Remains = Callable[[Person, datetime], list[dict[str, Any]]]
"""What a log that nobody can change still has of the person."""

_log = structlog.get_logger(__name__)


def nothing_remains(_person: Person, _at: datetime) -> list[dict[str, Any]]:
    """An embedded log has stubs."""
    return []


class ErasurePreview(NamedTuple):
    person: Person
    rows: dict[str, int]
    """By table."""
    records: dict[str, int]
    """By topic of an embedded log."""


def preview_erasure(database_url: str, tenant: str, lead_id: str) -> ErasurePreview | None:
    """What an erasure would remove. None: there is no such lead."""
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        person = find_person(connection, tenant, [lead_id])
        if person is None:
            return None
        rows = erasures.count_rows(connection, person)
        records = {} if _is_on_kafka(connection) else _by_topic(_records(connection, person))
        return ErasurePreview(person, rows, records)


def register_erasure(
    database_url: str, ledger: Path, tenant: str, lead_id: str, at: datetime, requested_by: str
) -> Erasure | None:
    """Step 1. None: there is no such lead. Raises Failure."""
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        person = find_person(connection, tenant, [lead_id])
        if person is None:
            return None
        erasure = erasures.register(connection, person, at, requested_by)
        add_to_ledger(ledger, [erasure])  # before the row: a crash in between erases at the next start
        connection.commit()
    return erasure


def finish_erasure(
    store: StoreAccess,
    ledger: Path,
    erasure: Erasure,
    now: Callable[[], datetime],
    report: Report = lambda _: None,
    *,
    remains: Remains = nothing_remains,
    rewrite: bool = False,
) -> Erasure:
    """The steps from where it is. `rewrite` writes the files of the tables anew. Raises Failure."""
    if erasure.step == REGISTERED:
        _record(store, ledger, erasure, now)
        report(RECORDED)
    if erasure.step == RECORDED:
        if erasure.person is not None:
            erasure.remains = remains(erasure.person, now())
        _empty(store.database_url, erasure)
        report(EMPTIED)
    if erasure.step == EMPTIED:
        _clean_up(store.database_url, erasure, now, rewrite=rewrite)
        report(DONE)
    return erasure


def resume_erasures(
    store: StoreAccess,
    ledger: Path,
    now: Callable[[], datetime],
    report: Report = lambda _: None,
    *,
    remains: Remains = nothing_remains,
) -> int:
    """Brings to their end those that a crash has interrupted, and those that an older backup does not know. Returns how many
    there were. Raises Failure.
    """
    with connect_watched(store.database_url, options=READ_OPTIONS) as connection:
        stored = {each.erasure_id: each for each in erasures.read_erasures(connection)}
        recorded = {each.erasure_id: each for each in read_ledger(ledger)}
        missing = [each for erasure_id, each in recorded.items() if erasure_id not in stored]
        add_to_ledger(ledger, [each for erasure_id, each in stored.items() if erasure_id not in recorded])
        for each in missing:
            leads = leads_with_hashes(
                connection, each.tenant, bytes.fromhex(each.salt), list(map(bytes.fromhex, each.hashes))
            )
            each.person = find_person(connection, each.tenant, leads) if leads else None
            erasures.insert(connection, each)
        connection.commit()
        unfinished = erasures.read_erasures(connection, unfinished=True)
    for each in unfinished:
        try:
            finish_erasure(store, ledger, each, now, report, remains=remains)
        except Failure as cause:
            if each.step != EMPTIED:
                raise
            _log.warning("an erasure waits for its last step", erasure=each.erasure_id, cause=str(cause))
    return len(unfinished)


# Step 2


def _record(store: StoreAccess, ledger: Path, erasure: Erasure, now: Callable[[], datetime]) -> None:
    for _ in range(MOST_ROUNDS):
        store.append(_records_of_erasure(erasure, now()))
        store.settle(lambda _: None)
        with connect_watched(store.database_url, options=READ_OPTIONS) as connection:
            if not _has_grown(connection, ledger, erasure) and _is_forgotten(connection, erasure.person):
                erasure.step = RECORDED
                erasures.save(connection, erasure)
                return
    raise Failure(
        f"The erasure {erasure.erasure_id} is not finished: what scores has not forgotten the person yet. `leadstream doctor` "
        "shows why; then `leadstream erase --resume`."
    )


def _records_of_erasure(erasure: Erasure, at: datetime) -> list[Outgoing]:
    records = [
        record
        for publication in erasures.publications_of(erasure, at)
        for record in publication_records(publication)
    ]
    person = erasure.person
    if person is None:
        return records
    for identity in person.identities:
        erased = IdentityErased(tenant=person.tenant, recorded_at=at, identity=identity, epoch=0)
        records.append(Outgoing(EVENTS, key_of_identity(identity)[0], encode_source(erased)))
    for lead in person.leads:
        advance = TimePassed(person.tenant, lead, millis(at))
        records.append(Outgoing(LEAD_ACTIVITY, lead_key(person.tenant, lead), encode_activity(advance)))
    return records


def _has_grown(connection: Connection, ledger: Path, erasure: Erasure) -> bool:
    """Whether more is known of the person than when the records were written: events that were on their way."""
    before = erasure.person
    after = None if before is None else find_person(connection, before.tenant, before.leads)
    if before is None or after is None:
        return False
    merged = _united(before, after)
    if merged == before:
        return False
    erasure.person = merged
    hashes = {*erasure.hashes, *(each.hex() for each in merged.hashes(bytes.fromhex(erasure.salt)))}
    grown = len(hashes) > len(erasure.hashes)
    erasure.hashes = sorted(hashes)
    if grown:
        add_to_ledger(ledger, [erasure])
    erasures.save(connection, erasure)
    return True


def _united(before: Person, after: Person) -> Person:
    shared = {*before.shared_visitors, *after.shared_visitors}

    def both(name: str) -> list[str]:
        return sorted({*getattr(before, name), *getattr(after, name)})

    return Person(
        before.tenant,
        both("leads"),
        both("identities"),
        [key for key in both("visitors") if key not in shared],
        sorted(shared),
        both("emails"),
        both("phones"),
        both("shared_addresses"),
        both("merged_keys"),
        sorted({*before.other_leads, *after.other_leads} - {*before.leads, *after.leads}),
    )


def _is_forgotten(connection: Connection, person: Person | None) -> bool:
    if person is None:
        return True
    state = "live.worker_state" if _is_on_kafka(connection) else "public.state"
    row = connection.execute(
        f"select exists (select from {state} where key = any(%s))",  # noqa: S608 - one of two names
        (person.source_keys,),
    ).fetchone()
    return row is not None and not row[0]


# Step 3


def _empty(database_url: str, erasure: Erasure) -> None:
    with (
        connect_watched(database_url, options=READ_OPTIONS, autocommit=True) as guard,
        _without_rebuild(guard),
        connect_watched(database_url, options=_OPTIONS) as connection,
    ):
        person = erasure.person
        if person is not None:
            names = names_of_person(connection, person)
            if _is_on_kafka(connection):
                removed = erasures.delete_archived_events(connection, person)
            else:
                removed = _stub_records(connection, person, names)
            removed |= erasures.delete_rows(connection, person)
            mask_rows(connection, person, names)
            change_lead_records(connection, person, names)
            if masked := erasures.mask_audit_log(connection, person):
                removed["audit_log"] = masked
            erasure.removed = {
                name: erasure.removed.get(name, 0) + removed.get(name, 0)
                for name in sorted({*erasure.removed, *removed})
            }
        erasure.step = EMPTIED
        erasures.save(connection, erasure)
        connection.execute("select pg_notify(%s, '{}')", (CHANGES_CHANNEL,))  # gateways forget what they sent


@contextmanager
def _without_rebuild(connection: Connection) -> Iterator[None]:
    """Waits for a rebuild under way, which would write the person's rows again, and lets none begin."""
    deadline = time.monotonic() + REBUILD_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(only_rebuild(connection))
            except RebuildRunsError as cause:
                if time.monotonic() > deadline:
                    raise Failure(
                        f"{cause} Then `leadstream erase --resume` finishes the erasure."
                    ) from cause
                time.sleep(_POLL_SECONDS)
            else:
                break
        yield


def _stub_records(connection: Connection, person: Person, names: ErasedNames) -> dict[str, int]:
    addresses = _records(connection, person)
    changed = changed_records(connection, person.other_lead_keys, names)
    of_others = records_of_other_identities(connection, person, names)
    addresses |= {address for address, value in changed.items() if value is None}
    addresses -= of_others.keys()
    values = {address: value for address, value in changed.items() if value and address not in addresses}
    log.write_stubs(connection, addresses)
    log.write_values(connection, values)
    log.write_without_lead(connection, of_others)
    connection.execute(
        "delete from public.compacted where topic = %s and key = any(%s)", (LEAD_SCORES, person.lead_keys)
    )
    return _by_topic(addresses)


def _records(connection: Connection, person: Person) -> set[RecordAddress]:
    return records_of_person(connection, person, erasures.quoted_names(person))


def _by_topic(addresses: Collection[RecordAddress]) -> dict[str, int]:
    topics = sorted({topic for topic, _, _ in addresses})
    return {topic: sum(each[0] == topic for each in addresses) for topic in topics}


# Step 4


def _clean_up(database_url: str, erasure: Erasure, now: Callable[[], datetime], *, rewrite: bool) -> None:
    person = erasure.person
    with connect_watched(database_url, options=READ_OPTIONS, autocommit=True) as connection:
        deadline = time.monotonic() + ANALYTICS_SECONDS
        while person is not None and erasures.analytics_wait(connection, person):
            if time.monotonic() > deadline:
                raise Failure(
                    f"The erasure {erasure.erasure_id} is not finished: the person's rows are gone, but no analytics worker has "
                    "taken them out of the sums. Start `leadstream serve` (on Kafka: `leadstream project`), which finishes it."
                )
            time.sleep(_POLL_SECONDS)
        erasures.vacuum_rows(connection, full=rewrite)
        if not _is_on_kafka(connection):
            _vacuum_log(connection, full=rewrite)
        erasure.person, erasure.step, erasure.finished_at = None, DONE, now()
        erasures.save(connection, erasure)
        connection.execute(f"vacuum ({'full, ' if rewrite else ''}analyze) public.erasures".encode())
        _write_files(connection, full=rewrite)


def _vacuum_log(connection: Connection, *, full: bool) -> None:
    option = "full, " if full else ""
    names = ["records", "state", "compacted", "dues", "skips"]
    for name in names:
        connection.execute(f"vacuum ({option}analyze) public.{name}".encode())


def rewrite_files(database_url: str) -> None:
    """Writes the files of all tables with people anew, and begins a new write-ahead log: of rows that were deleted, nothing is in
    them afterwards. Readers wait meanwhile. Raises Failure.
    """
    with (
        connect_watched(database_url, options=READ_OPTIONS, autocommit=True) as connection,
        _without_rebuild(connection),
    ):
        erasures.vacuum_rows(connection, full=True)
        if not _is_on_kafka(connection):
            _vacuum_log(connection, full=True)
        connection.execute("vacuum (full, analyze) public.erasures")
        _write_files(connection, full=True)


def _write_files(connection: Connection, *, full: bool) -> None:
    """The planner's older statistics have values, too. With `full`, the files are on disk afterwards, and none of the write-ahead log
    is older. PostgreSQL lets only its own administrator do this; a server of others does it by itself, later.
    """
    try:
        connection.execute(f"vacuum ({'full' if full else 'full false'}) pg_catalog.pg_statistic".encode())
        if full:
            _begin_write_ahead_log(connection)
    except psycopg.errors.InsufficientPrivilege:
        _log.info("PostgreSQL cleans its statistics and makes its next checkpoint by itself")


def _begin_write_ahead_log(connection: Connection) -> None:
    """PostgreSQL renames old files of the log to be written again later, and so keeps their bytes. Here it deletes them, and writes
    over those that wait already.
    """
    connection.execute("alter system set wal_recycle = off")
    connection.execute("select pg_reload_conf()")
    try:
        waiting = connection.execute(
            "select count(*) from pg_ls_waldir() where length(name) = 24 and name > pg_walfile_name(pg_current_wal_lsn())"
        ).fetchone()
        for _ in range(1 + (waiting[0] if waiting else 0)):
            connection.execute("select pg_logical_emit_message(false, 'leadstream', 'erased')")
            connection.execute("select pg_switch_wal()")
        connection.execute("checkpoint")
    finally:
        connection.execute("alter system reset wal_recycle")
        connection.execute("select pg_reload_conf()")


def _is_on_kafka(connection: Connection) -> bool:
    return bound_source(connection) is not None

"""Builds a store again from what producers sent, as today's door and folds take it.

A recorded event keeps what its door decided, and a score what its folds concluded, so an upgrade changes neither. Here
every event goes through today's door again, in the recorded order, between the publications that lay between them, and
is folded into an empty store. The old store is only read, at one moment. Memory is bounded, but for the ids of leads
that today's door names differently.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import psycopg
from msgspec import structs
from psycopg.sql import SQL, Identifier
from sqlalchemy import Table

from gateway.door.addresses import EMAIL, PHONE
from gateway.door.admission import readmit
from gateway.door.resolving import (
    IDENTIFY_BY,
    KEPT_APART_FROM_FIELD,
    MADE_LEAD_ID_PREFIX,
    RESOLVED_BY_FIELD,
    AddressMatches,
    AddressQuery,
    query_of,
    with_resolved_leads,
)
from leadstream.contacts import look_up
from leadstream.operations.event_loop import BlockingLoop, event_loop
from leadstream.operations.export import StoredEvent
from leadstream.operations.recorded_log import Parts
from leadstream.settings import Settings
from leadstream.stages import STAGES
from leadstream.wiring import repeated_for_every_partition
from projections.connection import Connection, connect_watched
from projections.migrate import migrate
from projections.public_tables import (
    api_keys,
    audit_log,
    backfills,
    crm_cursors,
    crm_inbox,
    crm_records,
    enrichment_cache,
    enrichment_queue,
    enrichment_usage,
    erasures,
    execution_counts,
    model_drafts,
    notifications,
    outbox,
    removed_rows,
    user_sessions,
    users,
)
from projections.retention import remove_from_rebuilt
from projections.row_keys import hashed_key as row_key
from projections.table_definition import LIVE_SCHEMA, READ_OPTIONS
from projections.views import create_views
from projections.worker import project_records
from schemas.decode import Refusal, decode_source, encode_source, key_of
from schemas.envelope import Event
from schemas.events import LeadsMerged, MergeUndone
from schemas.publications import Publication, publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.features.identity import identity_id
from scoring.features.signals import profile_fields_of
from streams.embedded import log
from streams.embedded.writer import Writer
from streams.track_sessions import TrackSessions

CHUNK = 500
"""Events that go into the new log at once."""

CHANGES: Final = {
    "person": "bots that are people now",
    "bot": "people that are bots now",
    "channel": "channel of origin",
    "campaign": "campaign from the address",
    "email": "form of the e-mail",
    "phone": "form of the phone",
    "lead": "lead by e-mail or phone",
    "device": "device",
}
"""The kinds of changed decisions, and how reports name them."""

_CHANGES_TABLE: Final = "door_changes"
"""Kinds of changes by identity, in the new database until `finish`."""

Report = Callable[[int], None]
Owners = Callable[[Sequence[int]], Mapping[int, str]]
"""Keys of rows of `identities` -> the lead (TENANT/LEAD_ID) that has each in the recorded store."""


class RecordedItem(NamedTuple):
    """A record of the old log: the event as recorded and as today's door takes it, or bytes that are no event."""

    key: str
    value: bytes
    before: Event | None
    after: Event | None
    query: AddressQuery | None = None
    """The addresses by which today's door may look for its lead."""

    @property
    def is_open(self) -> bool:
        """Whether today's door looks for its lead; it does not for imports."""
        return (
            self.query is not None
            and self.after is not None
            and self.after.lead_id is None
            and not self.after.imported
        )


def restate(
    parts: Parts,
    partitions: int,
    url: str,
    settings: Settings,
    moment: int,
    *,
    owners: Owners,
    skipped: frozenset[tuple[str, bytes]],
    report: Report,
) -> Counter[str]:
    """Fills the empty database at `url`, and brings its leads to `moment` (ms). `skipped` are the records (key, value)
    that an operator took out of the folds. Returns by kind of `CHANGES` how many events the door takes differently.
    `report` gets the number of events so far. Raises FoldFailed.
    """
    migrate(url)
    writer = Writer(
        url,
        [stage() for stage in STAGES],
        connect=connect_watched,
        partitions=partitions,
        project=partial(project_records, deliver=False),
    )
    door = _Door(settings)
    done = 0
    try:
        with (
            event_loop() as loop,
            _opened(loop, url) as lookups,
            connect_watched(url, autocommit=True) as connection,
        ):
            create_views(
                connection, LIVE_SCHEMA
            )  # they read the log's tables, which the writer has just created
            connection.execute(
                SQL(
                    "create unlogged table public.{} (identity_key bigint not null, kind text not null)"
                ).format(Identifier(_CHANGES_TABLE))
            )
            for part in parts:
                if isinstance(part, Publication):
                    _settle(writer)
                    writer.commit(repeated_for_every_partition(publication_records(part), partitions))
                    continue
                for chunk in _chunks(map(door.read, part)):
                    if any(item.is_open for item in chunk):
                        _settle(writer)  # the read models have every lead of the events before
                        chunk = loop.run(door.decided(chunk, lookups))  # noqa: PLW2901 - the same events
                    chunk = [door.renamed(item) for item in chunk]  # noqa: PLW2901 - the same events
                    for run in _runs(chunk, owners):
                        _settle(writer)
                        _append(writer, url, run, skipped)
                    _store_changes(connection, chunk, door.changes)
                    done += len(chunk)
                    report(done)
            _settle(writer)
            _pass_time(writer, moment)
    finally:
        writer.close()
    return door.changes


@contextmanager
def _opened(loop: BlockingLoop, url: str) -> Iterator[psycopg.AsyncConnection[Any]]:
    connection = loop.run(psycopg.AsyncConnection.connect(url, autocommit=True, options=READ_OPTIONS))
    try:
        yield connection
    finally:
        loop.run(connection.close())


class _Door:
    """Today's door, for recorded events."""

    def __init__(self, settings: Settings) -> None:
        self._region = settings.default_phone_region
        self._own_sites = settings.own_sites
        self._by = [kind for kind in IDENTIFY_BY if kind in settings.identify_by.split(",")]
        self._renamed: dict[tuple[str, str], str] = {}
        """(tenant, id that an older door made of an address) -> the lead that it is now."""
        self.changes: Counter[str] = Counter()

    def read(self, record: StoredEvent) -> RecordedItem:
        try:
            before = decode_source(record.value)
        except Refusal:
            return RecordedItem(record.key, record.value, None, None)
        if not isinstance(before, Event):
            return RecordedItem(record.key, record.value, None, None)
        after = readmit(before, self._region, self._own_sites)
        is_decided = KEPT_APART_FROM_FIELD in (before.extra or {})
        query = query_of(after, self._by, self._region) if self._by and not is_decided else None
        return _item(before, after, query)

    async def decided(
        self, chunk: Sequence[RecordedItem], new_store: psycopg.AsyncConnection[Any]
    ) -> list[RecordedItem]:
        """The events with the leads that their addresses are of, by what is in the new store."""

        async def resolve(queries: Sequence[AddressQuery]) -> list[AddressMatches]:
            return await look_up(new_store, queries)

        events = [item.after for item in chunk if item.is_open and item.after is not None]
        decided = iter(await with_resolved_leads(events, resolve, by=self._by, region=self._region))
        return [_item(item.before, next(decided), item.query) if item.is_open else item for item in chunk]

    def renamed(self, item: RecordedItem) -> RecordedItem:
        """The event with today's ids of the leads that older doors named after an address. People and programs that name
        such a lead mean the person.
        """
        before, after = item.before, item.after
        if before is None or after is None:
            return item
        if before.lead_id is not None and RESOLVED_BY_FIELD in (before.extra or {}) and not before.imported:
            self._note_name(before, after)
            return item
        lead_id = self._today(after.tenant, after.lead_id)
        if isinstance(after, LeadsMerged):
            into = self._today(after.tenant, after.into)
            if lead_id == into:  # they are one without the merge
                return item
            after = structs.replace(after, into=into)
        return _item(before, structs.replace(after, lead_id=lead_id), item.query)

    def _note_name(self, before: Event, after: Event) -> None:
        old, new = before.lead_id or "", after.lead_id
        if new is not None:
            self._renamed.pop((after.tenant, new), None)
            if old != new and old.startswith(MADE_LEAD_ID_PREFIX):
                self._renamed[after.tenant, old] = new

    def _today(self, tenant: str, lead_id: str | None) -> Any:
        return self._renamed.get((tenant, lead_id or ""), lead_id)


def _item(before: Event | None, after: Event, query: AddressQuery | None) -> RecordedItem:
    return RecordedItem(key_of(after), encode_source(after), before, after, query)


def _chunks(items: Iterable[RecordedItem]) -> Iterator[list[RecordedItem]]:
    """The records in order. No chunk has two events of which one could decide the lead of the other."""
    chunk: list[RecordedItem] = []
    named: set[str] = set()
    for item in items:
        names = _names(item)
        if chunk and (len(chunk) == CHUNK or (item.is_open and not named.isdisjoint(names))):
            yield chunk
            chunk, named = [], set()
        chunk.append(item)
        named |= names
        if isinstance(item.after, LeadsMerged | MergeUndone):
            yield chunk
            chunk, named = [], set()
    if chunk:
        yield chunk


def _runs(chunk: Sequence[RecordedItem], owners: Owners) -> Iterator[list[RecordedItem]]:
    """The records in order, in runs: the writer folds a run by partition, so no run has one lead under two keys. Stages
    depend on the order of a lead's events.
    """
    owner_of = owners([_first_identity(item.key) for item in chunk])
    run: list[RecordedItem] = []
    keys: dict[str, str] = {}
    for item in chunk:
        leads = {owner_of.get(_first_identity(item.key), item.key)}
        if item.after is not None and item.after.lead_id is not None:
            leads.add(f"{item.after.tenant}/{item.after.lead_id}")
        if any(keys.get(lead, item.key) != item.key for lead in leads):
            yield run
            run, keys = [], {}
        run.append(item)
        keys.update(dict.fromkeys(leads, item.key))
    yield run


def _first_identity(key: str) -> int:
    return row_key(identity_id(key, 0))


def _names(item: RecordedItem) -> set[str]:
    """The visitor and the addresses of the event, if it may decide whose they are."""
    event, query = item.after, item.query
    if event is None or (query is None and event.lead_id is None):
        return set()
    names = {f"{event.tenant} visitor {event.visitor_id}"} if event.visitor_id else set()
    if query is not None:
        names |= {f"{event.tenant} {address}" for address in (query.email, query.phone) if address}
    return names


def _append(
    writer: Writer, url: str, chunk: Sequence[RecordedItem], skipped: frozenset[tuple[str, bytes]]
) -> None:
    if not any((item.key, item.value) in skipped for item in chunk):
        writer.commit([Outgoing(EVENTS, item.key, item.value) for item in chunk])
        return
    for item in chunk:
        outgoing = [Outgoing(EVENTS, item.key, item.value)]
        if (item.key, item.value) not in skipped:
            writer.commit(outgoing)
            continue
        _settle(writer)
        [record] = writer.commit_unfolded(outgoing)
        with connect_watched(url) as connection:
            log.write_skip(
                connection, TrackSessions.name, *record[:3], "skipped before the store was restated"
            )
        writer.reread_skips()
        _settle(writer)


def _copy_table(old: Connection, new: Connection, table: Table) -> None:
    """Copies the rows of a table in `public`, of a store of this version."""
    columns = SQL(", ").join(Identifier(column.name) for column in table.columns)
    name = Identifier("public", table.name)
    with (
        old.cursor() as reading,
        new.cursor() as writing,
        reading.copy(SQL("copy (select {} from {}) to stdout").format(columns, name)) as rows,
        writing.copy(SQL("copy {} ({}) from stdin").format(name, columns)) as copy,
    ):
        for data in rows:
            copy.write(data)


def keep_beside_log(old: Connection, new: Connection) -> None:
    """Copies what is not in the log: drafts of models, actions of workflows on their way, notifications, keys, people and the
    audit log, and which dead letters were sent again. Removes what only the comparison needed.
    """
    for table in (model_drafts, backfills, outbox, execution_counts, notifications, erasures, removed_rows):
        _copy_table(old, new, table)
    remove_from_rebuilt(new, LIVE_SCHEMA)
    for table in (crm_records, crm_cursors, crm_inbox, enrichment_queue, enrichment_cache, enrichment_usage):
        _copy_table(old, new, table)
    new.execute(
        "select setval(pg_get_serial_sequence('public.crm_inbox', 'number'), max(number)) from public.crm_inbox having max(number) > 0"
    )
    new.execute(
        "select setval(pg_get_serial_sequence('public.model_drafts', 'id'), max(id)) from public.model_drafts having max(id) > 0"
    )
    for table in (api_keys, users, user_sessions, audit_log):
        _copy_table(old, new, table)
    new.execute(
        "select setval(pg_get_serial_sequence('public.audit_log', 'entry_id'), max(entry_id)) from public.audit_log having max(entry_id) > 0"
    )
    retried = old.execute(
        """select l.topic, l.key, l.original, r.at from dead_letters l
           join public.retried_letters r using (topic, partition, position)"""
    ).fetchall()
    with new.cursor() as cursor:
        cursor.executemany(
            """insert into public.retried_letters (topic, partition, position, at)
               select topic, partition, position, %(at)s from dead_letters
               where topic = %(topic)s and key is not distinct from %(key)s and original = %(original)s
               on conflict do nothing""",
            [
                {"topic": topic, "key": key, "original": original, "at": at}
                for topic, key, original, at in retried
            ],
        )
    new.execute(SQL("drop table public.{}").format(Identifier(_CHANGES_TABLE)))


def _settle(writer: Writer) -> None:
    """Folds what is in the log."""
    while writer.has_work:
        writer.commit([])


def _pass_time(writer: Writer, moment: int) -> None:
    """Concludes what time alone changes until then."""
    writer.commit([], moment)
    while writer.more_timers or writer.has_work:
        writer.commit([], None if writer.has_work else moment)


def _store_changes(connection: Connection, chunk: Sequence[RecordedItem], changes: Counter[str]) -> None:
    rows = [
        (_first_identity(item.key), kind)
        for item in chunk
        if item.before is not None and item.after is not None
        for kind in changed(item.before, item.after)
    ]
    if rows:
        changes.update(kind for _, kind in rows)
        with (
            connection.cursor() as cursor,
            cursor.copy(SQL("copy public.{} from stdin").format(Identifier(_CHANGES_TABLE))) as copy,
        ):
            for row in rows:
                copy.write_row(row)


def changed(before: Event, after: Event) -> Iterator[str]:
    """The kinds of decisions that differ."""
    if (before.bot is None) != (after.bot is None):
        yield "person" if after.bot is None else "bot"
    if _channel(before) != _channel(after):
        yield "channel"
    if _campaign(before) != _campaign(after):
        yield "campaign"
    old, new = profile_fields_of(before), profile_fields_of(after)
    for kind in (EMAIL, PHONE):
        if old.get(kind) != new.get(kind):
            yield kind
    if before.lead_id != after.lead_id:
        yield "lead"
    if _device(before) != _device(after):
        yield "device"


def _channel(event: Event) -> object:
    origin = event.traffic_origin
    return origin and (origin.channel, origin.group, origin.source)


def _device(event: Event) -> object:
    return event.device and (event.device.type, event.device.os)


def _campaign(event: Event) -> object:
    return event.context.campaign if event.context else None

"""The archive of events from Kafka: which records go into it, and its tables, one for each month.

It takes the events of producers that stage 1 accepts. A record that cannot be read, or has another's key, is a dead
letter instead. Kafka deletes its own copy after the retention, so no rebuild changes the archive.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import psycopg
from msgspec import structs
from psycopg.sql import SQL, Identifier, Literal

from projections.public_rows import ArchivedEventRow
from projections.public_tables import event_archive
from projections.source import TopicsRecreatedError
from projections.table_definition import PUBLIC_SCHEMA
from schemas.decode import Refusal, decode_source, encode_source, key_of
from schemas.envelope import Event
from schemas.moment import happened_at, millis, moment
from schemas.record import Record
from schemas.topics import EVENTS
from schemas.validation import names_somebody
from scoring.features.erased_people import ErasedPeople

FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2099
"""Events of other years share one table at either end, so that wrong dates of a producer make few tables."""

_MAKE_MONTH_LOCK_ID = 0x6C656164_61726368  # "leadarch": advisory locks are numbered per database
_COPY = SQL("copy {} (partition, position, recorded_at, key, value) from stdin (format binary)").format(
    Identifier(PUBLIC_SCHEMA, event_archive.name)
)
_COPY_TYPES: Final = ("int4", "int8", "timestamptz", "text", "bytea")


def archived_events(records: Iterable[Record], people: ErasedPeople) -> Iterator[ArchivedEventRow]:
    """The events among records of the topic `events`, but for those of erased people, which stage 1 refuses. Their times are
    filled in as stage 1 does it.
    """
    for record in records:
        if record.unreadable is not None:
            continue
        try:
            event = decode_source(record.value or b"")
        except Refusal:
            continue
        if not isinstance(event, Event) or record.key != key_of(event) or people.is_named_in(event):
            continue
        if event.recorded_at is None and not names_somebody(event):
            continue
        yield _archived_event(record, event)


def _archived_event(record: Record, event: Event) -> ArchivedEventRow:
    value, recorded_at = record.value or b"", event.recorded_at
    if recorded_at is None:
        recorded_at = event.occurred_at if record.appended_at is None else moment(record.appended_at)
        occurred_at = happened_at(event.occurred_at, recorded_at)
        value = encode_source(structs.replace(event, recorded_at=recorded_at, occurred_at=occurred_at))
    return ArchivedEventRow(record.partition, record.position, moment(millis(recorded_at)), record.key, value)


def store_events(cursor: psycopg.Cursor[Any], rows: Sequence[ArchivedEventRow]) -> None:
    """Writes rows in the caller's transaction, which must have written nothing before: this creates tables before any
    table is locked. Raises TopicsRecreatedError if another record has the same position.
    """
    if not rows:
        return
    for year, month in sorted({(row.recorded_at.year, row.recorded_at.month) for row in rows}):
        if FIRST_YEAR <= year <= LAST_YEAR:
            _make_month_table(cursor, year, month)
    try:
        with cursor.copy(_COPY) as copy:
            copy.set_types(_COPY_TYPES)
            for row in rows:
                copy.write_row(row)
    except psycopg.errors.UniqueViolation as cause:
        first = rows[0]
        raise TopicsRecreatedError(
            EVENTS, first.partition, f"another record near position {first.position}"
        ) from cause


def _make_month_table(cursor: psycopg.Cursor[Any], year: int, month: int) -> None:
    """Creates the month's table and attaches it. Readers and other writers need not wait for that."""
    name = f"{event_archive.name}_{year}_{month:02}"
    if _table_exists(cursor, name):
        return
    cursor.execute("select pg_advisory_xact_lock(%s)", (_MAKE_MONTH_LOCK_ID,))
    if _table_exists(cursor, name):
        return
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    table, archive = Identifier(PUBLIC_SCHEMA, name), Identifier(PUBLIC_SCHEMA, event_archive.name)
    cursor.execute(SQL("create table {} (like {} including all)").format(table, archive))
    cursor.execute(
        SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
            archive, table, *(Literal(f"{y}-{m:02}-01 00:00:00+00") for y, m in ((year, month), following))
        )
    )


def _table_exists(cursor: psycopg.Cursor[Any], name: str) -> bool:
    """Reads the catalogue itself: `to_regclass` may still answer from what it saw before the lock."""
    row = cursor.execute(
        "select exists (select from pg_class where relname = %s and relnamespace = %s::regnamespace)",
        (name, PUBLIC_SCHEMA),
    ).fetchone()
    return row is not None and bool(row[0])

"""Projects records into the read models, inside the caller's transaction.

Rows and positions go in together or not at all; a record that comes again changes nothing; however
a stream of records is cut into batches, the tables end the same. Never commits. Raises
UnreadableRecordError and PositionGapError, which a retry does not mend; the caller must roll back.

`project` takes the dense positions of an embedded log, which only this program writes; `project_chunks`
what Kafka holds, where a record that somebody else wrote becomes a dead letter.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import psycopg
import structlog
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.json import set_json_dumps
from psycopg.types.numeric import Int8BinaryDumper
from sqlalchemy import Table

from projections import metrics, positions, upserts
from projections.archive import archived, store
from projections.facts import changes, dead_letter_of
from projections.rows import AppliedEvent, Change, Row, UnreadableRecordError
from projections.state_rows import stage_of
from projections.tables import APPLIED_EVENTS_KEPT, LIVE, NEWEST_BY, PROJECTED, PUBLIC, applied_events
from schemas.record import Chunk, LogPartition, Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_CHANGES

Connection = psycopg.Connection[Any]

CHANNEL: Final = "leadstream"
"""LISTEN here: one notification per batch, {"applied": [event ids]}, or {} if they do not fit."""

SINGLE_INSERTS_MOST: Final = 8
"""Up to so many rows of a table, single inserts in a pipeline are the fastest."""
ROWS_PER_STATEMENT: Final = 1_000
"""Rows per statement: larger arrays cost more per row."""

_LONGEST_PAYLOAD = 7_500
_NOTIFY = "select pg_notify(%s, %s)"
_FOLLOWED = "select topic, partition, position from public.positions where generation = any(%s)"


_log = structlog.get_logger(__name__)


def project(connection: Connection, records: Sequence[Record], *, schema: str = LIVE) -> None:
    """Every row that `records` (of any topics, in order per partition) make, and their positions."""
    _check_transaction(connection)
    wanted = [record for record in records if record.topic in PROJECTED]
    if not wanted:
        return
    with open_cursor(connection) as cursor:
        slots = sorted({(record.topic, record.partition) for record in wanted})
        new, reached = positions.new_records(wanted, positions.lock(cursor, schema, slots))
        if not new:
            return
        rows = write(connection, cursor, schema, new, reached)
        if schema == LIVE:
            cursor.execute(_NOTIFY, (CHANNEL, _payload(rows.get(applied_events, ()))))


def project_chunks(
    connection: Connection, chunks: Sequence[Chunk], *, schema: str = LIVE, strict: bool = False
) -> dict[LogPartition, int]:
    """As `project`, of chunks in order per partition: their positions may hold no record. Takes events
    and changelogs too, which an embedded log needs not; events go into the archive, whatever `schema`.
    What cannot be read becomes a dead letter, unless `strict`.

    Returns for each slot given the next position that the tables need now; it is beyond what was
    brought where another writer was ahead.
    """
    _check_transaction(connection)
    wanted = [chunk for chunk in chunks if is_followed(chunk.topic)]
    if not wanted:
        return {}
    events = [chunk for chunk in wanted if chunk.topic == EVENTS]
    others = [chunk for chunk in wanted if chunk.topic != EVENTS]
    with open_cursor(connection) as cursor:
        archive = positions.lock(cursor, PUBLIC, _slots_of(events))
        held = positions.lock(cursor, schema, _slots_of(others))
        told, told_to = positions.new_records_of_chunks(events, archive)
        new, reached = positions.new_records_of_chunks(others, held)
        if told_to:
            store(cursor, list(archived(told)))
            positions.advance(cursor, PUBLIC, told_to)
        if reached:
            rows = write(
                connection, cursor, schema, new, reached, changes if strict else _changes_or_dead_letter
            )
            if schema == LIVE:
                cursor.execute(_NOTIFY, (CHANNEL, _payload(rows.get(applied_events, ()))))
    return {slot: position + 1 for slot, position in {**archive, **held, **told_to, **reached}.items()}


def next_positions(connection: Connection, starts: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    """Where a follower of these slots goes on; one that is new to the tables begins where its log does.
    Never commits.
    """
    with open_cursor(connection) as cursor:
        for generation in (PUBLIC, LIVE):
            first = {
                slot: at - 1 for slot, at in starts.items() if (slot[0] == EVENTS) == (generation == PUBLIC)
            }
            positions.begin(cursor, generation, first)
    held = contained_positions(connection)
    return {slot: held[slot] for slot in starts}


def contained_positions(connection: Connection) -> dict[LogPartition, int]:
    """The next position that the live tables and the archive need of every partition that they know."""
    with open_cursor(connection) as cursor:
        cursor.execute(_FOLLOWED, ([LIVE, PUBLIC],))
        return {(topic, partition): position + 1 for topic, partition, position in cursor}


def skip_removed_records(
    connection: Connection, held: Mapping[LogPartition, tuple[int, int]]
) -> list[LogPartition]:
    """Lets the archive go on where the log does, given (first, next) position of each partition of
    `events`; returns those of which it will lack records. Never commits.
    """
    with open_cursor(connection) as cursor:
        archive = {slot: last + 1 for slot, last in positions.lock(cursor, PUBLIC, sorted(held)).items()}
        lost = {slot: first - 1 for slot, (first, end) in held.items() if not first <= archive[slot] <= end}
        positions.advance(cursor, PUBLIC, lost)
    return sorted(lost)


def is_followed(topic: str) -> bool:
    """Whether Kafka's topic of this name goes into any table."""
    return topic in PROJECTED or topic == EVENTS or stage_of(topic) is not None


def _slots_of(chunks: Iterable[Chunk]) -> list[LogPartition]:
    return sorted({(chunk.topic, chunk.partition) for chunk in chunks})


def _check_transaction(connection: Connection) -> None:
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise RuntimeError(
            "projecting needs a transaction, so that rows and positions stand or fall together"
        )


def open_cursor(connection: Connection) -> psycopg.Cursor[tuple[Any, ...]]:
    """A cursor that sends integers in one width, so that statements stay prepared, and JSON as it is."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.adapters.register_dumper(int, Int8BinaryDumper)
    set_json_dumps(lambda encoded: encoded, cursor)
    return cursor


def write(
    connection: Connection,
    cursor: psycopg.Cursor[Any],
    schema: str,
    records: Iterable[Record],
    reached: Mapping[LogPartition, int],
    changes_of: Callable[[Record], Iterable[Change]] = changes,
) -> dict[Table, list[Row]]:
    """What the records say, into the tables of `schema`, and how far they reach; the caller holds the
    fence.
    """
    rows, superseded = upserts.collapse(change for record in records for change in changes_of(record))
    large = [table for table, made in rows.items() if len(made) > SINGLE_INSERTS_MOST]
    for table in large:
        if NEWEST_BY not in table.info:
            with cursor.copy(upserts.copy(schema, table)) as copy:
                copy.set_types(upserts.types_of(table))
                for row in rows[table]:
                    copy.write_row(row)
    with connection.pipeline():
        for table, made in rows.items():
            if table not in large:
                cursor.executemany(upserts.insert_one(schema, table), made)
            elif NEWEST_BY in table.info:
                for start in range(0, len(made), ROWS_PER_STATEMENT):
                    chunk = upserts.transposed(made[start : start + ROWS_PER_STATEMENT])
                    cursor.execute(upserts.insert_many(schema, table), chunk)
        for table, ends in superseded.items():
            cursor.execute(upserts.delete(schema, table, len(ends[0]) - 1), upserts.transposed(ends))
        if answered := {part: at for (topic, part), at in reached.items() if topic == LEAD_CHANGES}:
            forgotten = [at - APPLIED_EVENTS_KEPT for at in answered.values()]
            cursor.execute(upserts.delete_old_applied_events(schema), (list(answered), forgotten))
        if reached:
            positions.advance(cursor, schema, reached)
    return rows


def _changes_or_dead_letter(record: Record) -> Iterable[Change]:
    """A rebuild makes the same letter. Of what the worker reads, it writes one about the same place."""
    if record.unreadable is not None:  # and skipped: else it would not have come here
        return _letter(record, record.unreadable.reason)
    try:
        return changes(record)
    except UnreadableRecordError as error:
        return _letter(record, error.reason)


def _letter(record: Record, reason: str) -> Iterable[Change]:
    _log.warning(
        "a record is none of ours",
        topic=record.topic,
        partition=record.partition,
        position=record.position,
    )
    metrics.FOREIGN.inc()
    return () if record.topic == LEAD_ACTIVITY else (dead_letter_of(record, reason),)


def _payload(applied: Iterable[Row]) -> str:
    ids = [row.event_id for row in applied if isinstance(row, AppliedEvent)]
    payload = msgspec.json.encode({"applied": ids})
    return payload.decode() if len(payload) <= _LONGEST_PAYLOAD else "{}"

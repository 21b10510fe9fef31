"""Projects records into the read models, inside the caller's transaction.

Rows and positions are written together or not at all. A record that comes twice changes nothing. The batches into which
records are cut do not change the result. Nothing here commits. UnreadableRecordError and PositionGapError are not fixed
by a retry; the caller must roll back.

`project_records` is for an embedded log, which only this program writes and whose positions have no gaps. `project_chunks` is
for Kafka, where a record that another program wrote becomes a dead letter.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, LiteralString, cast

import msgspec
import psycopg
import structlog
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier
from psycopg.types.json import set_json_dumps
from psycopg.types.numeric import Int8BinaryDumper
from sqlalchemy import Table

from projections import metrics, positions, upserts
from projections.archive import archived_events, store_events
from projections.connection import Connection
from projections.enrichment_queue import note_addresses
from projections.erased_causes import record_without
from projections.erasures import read_erased_people
from projections.facts import changes_of_record, dead_letter_of_foreign_record
from projections.outbox import add_deliveries
from projections.rows import (
    AppliedEventRow,
    EngagementRow,
    LeadRow,
    Row,
    ScoreChangeRow,
    TableChange,
    UnreadableRecordError,
)
from projections.state_rows import stage_of
from projections.table_definition import LIVE_SCHEMA, NEWEST_BY_INFO_KEY, PUBLIC_SCHEMA
from projections.tables import (
    APPLIED_EVENTS_KEPT,
    PROJECTED_TOPICS,
    applied_events,
    engagement_history,
    identity_history,
    leads,
    score_history,
    stage_history,
    workflow_executions,
)
from schemas.moment import millis
from schemas.record import Chunk, LogPartition, Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_CHANGES

NOTIFY_CHANNEL: Final = "leadstream"
"""The channel to LISTEN on: one notification for each batch, {"applied": [event ids]}, or {} if they do not fit."""
CHANGES_CHANNEL: Final = "leadstream_changes"
"""The channel with the leads that changed: {"position": of the batch, "leads": [[lead key, since in milliseconds], ...]},
several for a larger batch, and no "leads" for one that changed too many. A lead whose score and stage have not changed
has null. `delivery.notifications` notifies it of {"notification": [tenant, execution id]}.
"""

MOST_SINGLE_INSERTS: Final = 8
"""For at most so many rows of a table, single inserts in a pipeline are the fastest."""
ROWS_PER_STATEMENT: Final = 1_000
"""Larger arrays cost more for each row."""

_LONGEST_NOTIFY_PAYLOAD = 7_500
_LEADS_PER_NOTIFICATION = 150
_MOST_CHANGED_LEADS = 600
"""Of a batch; an import changes more, and readers then read everything again."""
_NOTIFY: Final[LiteralString] = """
  select pg_notify(channel, payload) from unnest(%b::text[], %b::text[]) as n (channel, payload)
"""
_MARK_STALE = """
  insert into {schema}.stale_leads (lead_key, identity_key, marked_at)
  select lead, null, now() from unnest(%b::int8[]) lead
  union all select null, identity, now() from unnest(%b::int8[]) identity
"""
_SELECT_FOLLOWED = "select topic, partition, position from public.positions where generation = any(%s)"


_log = structlog.get_logger(__name__)


def project_records(
    connection: Connection, records: Sequence[Record], *, schema: str = LIVE_SCHEMA, deliver: bool = True
) -> None:
    """Writes the rows of `records` and their positions. Records of any topics, in the order of each partition. With
    `deliver`, workflows that the live tables learn of are delivered.
    """
    _check_transaction(connection)
    projected = [record for record in records if record.topic in PROJECTED_TOPICS]
    if not projected:
        return
    with open_cursor(connection) as cursor:
        log_partitions = sorted({(record.topic, record.partition) for record in projected})
        new, reached = positions.new_records(
            projected, positions.lock_positions(cursor, schema, log_partitions)
        )
        if not new:
            return
        rows = write_rows(connection, cursor, schema, new, reached)
        if schema == LIVE_SCHEMA:
            if deliver:
                add_deliveries(cursor, rows.get(workflow_executions, ()))
                note_addresses(cursor, rows.get(engagement_history, ()))
            _notify(cursor, rows, reached)


def project_chunks(
    connection: Connection, chunks: Sequence[Chunk], *, schema: str = LIVE_SCHEMA, strict: bool = False
) -> dict[LogPartition, int]:
    """As `project_records`, of chunks in the order of each partition; some of their positions may have no record.

    It accepts events and changelogs, too, which an embedded log does not need. Events go into the archive, whatever the
    `schema`. A record that cannot be read becomes a dead letter, unless `strict`.

    Returns the next position that the tables need of each partition in `chunks`. It is after the chunks if another
    writer was ahead.
    """
    _check_transaction(connection)
    projected = [chunk for chunk in chunks if is_followed(chunk.topic)]
    if not projected:
        return {}
    events = [chunk for chunk in projected if chunk.topic == EVENTS]
    others = [chunk for chunk in projected if chunk.topic != EVENTS]
    people = read_erased_people(connection)
    with open_cursor(connection) as cursor:
        archive = positions.lock_positions(cursor, PUBLIC_SCHEMA, _log_partitions_of(events))
        contained = positions.lock_positions(cursor, schema, _log_partitions_of(others))
        archived_records, archived_to = positions.new_records_of_chunks(events, archive)
        new, reached = positions.new_records_of_chunks(others, contained)
        if people:  # Kafka keeps their records until its retention ends
            new = [left for record in new if (left := record_without(people, record)) is not None]
        if archived_to:
            store_events(cursor, list(archived_events(archived_records, people)))
            positions.advance_positions(cursor, PUBLIC_SCHEMA, archived_to)
        if reached:
            rows = write_rows(
                connection,
                cursor,
                schema,
                new,
                reached,
                changes_of_record if strict else _changes_or_dead_letter,
            )
            if schema == LIVE_SCHEMA:
                add_deliveries(cursor, rows.get(workflow_executions, ()))
                note_addresses(cursor, rows.get(engagement_history, ()))
                _notify(cursor, rows, reached)
    return {
        log_partition: position + 1
        for log_partition, position in {**archive, **contained, **archived_to, **reached}.items()
    }


def next_positions(connection: Connection, starts: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    """The positions from which a follower of these partitions goes on. A partition that the tables do not know begins at
    the start of its log. Nothing here commits.
    """
    with open_cursor(connection) as cursor:
        for generation in (PUBLIC_SCHEMA, LIVE_SCHEMA):
            first = {
                log_partition: at - 1
                for log_partition, at in starts.items()
                if (log_partition[0] == EVENTS) == (generation == PUBLIC_SCHEMA)
            }
            positions.begin_positions(cursor, generation, first)
    contained = contained_positions(connection)
    return {log_partition: contained[log_partition] for log_partition in starts}


def contained_positions(connection: Connection) -> dict[LogPartition, int]:
    """The next position that the live tables and the archive need, of every partition that they know."""
    with open_cursor(connection) as cursor:
        cursor.execute(_SELECT_FOLLOWED, ([LIVE_SCHEMA, PUBLIC_SCHEMA],))
        return {(topic, partition): position + 1 for topic, partition, position in cursor}


def skip_removed_records(
    connection: Connection, bounds: Mapping[LogPartition, tuple[int, int]]
) -> list[LogPartition]:
    """Moves the archive to the start of the log if records before it were deleted. `bounds` has the (first, next)
    position of each partition of `events`. Returns the partitions of which the archive will lack records. Nothing here
    commits.
    """
    with open_cursor(connection) as cursor:
        archive = {
            log_partition: last + 1
            for log_partition, last in positions.lock_positions(cursor, PUBLIC_SCHEMA, sorted(bounds)).items()
        }
        moved = {
            log_partition: first - 1
            for log_partition, (first, end) in bounds.items()
            if not first <= archive[log_partition] <= end
        }
        positions.advance_positions(cursor, PUBLIC_SCHEMA, moved)
    return sorted(moved)


def is_followed(topic: str) -> bool:
    """Whether records of this topic of Kafka go into any table."""
    return topic in PROJECTED_TOPICS or topic == EVENTS or stage_of(topic) is not None


def _log_partitions_of(chunks: Iterable[Chunk]) -> list[LogPartition]:
    return sorted({(chunk.topic, chunk.partition) for chunk in chunks})


def _check_transaction(connection: Connection) -> None:
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise RuntimeError(
            "projecting needs a transaction, so that rows and positions are written together or not at all"
        )


def open_cursor(connection: Connection) -> psycopg.Cursor[tuple[Any, ...]]:
    """A cursor that sends every integer in eight bytes, so that statements stay prepared, and JSON text unchanged."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.adapters.register_dumper(int, Int8BinaryDumper)
    set_json_dumps(lambda encoded: encoded, cursor)
    return cursor


def write_rows(
    connection: Connection,
    cursor: psycopg.Cursor[Any],
    schema: str,
    records: Iterable[Record],
    reached: Mapping[LogPartition, int],
    changes_of: Callable[[Record], Iterable[TableChange]] = changes_of_record,
) -> dict[Table, list[Row]]:
    """Writes the rows of the records into the tables of `schema`, and the positions `reached`, which the caller has
    locked.
    """
    rows, superseded = upserts.collapse_changes(change for record in records for change in changes_of(record))
    large = [table for table, table_rows in rows.items() if len(table_rows) > MOST_SINGLE_INSERTS]
    for table in large:
        if NEWEST_BY_INFO_KEY not in table.info:
            with cursor.copy(upserts.copy_statement(schema, table)) as copy:
                copy.set_types(upserts.postgres_types_of(table))
                for row in rows[table]:
                    copy.write_row(row)
    with connection.pipeline():
        for table, table_rows in rows.items():
            if table not in large:
                cursor.executemany(upserts.insert_one_statement(schema, table), table_rows)
            elif NEWEST_BY_INFO_KEY in table.info:
                for start in range(0, len(table_rows), ROWS_PER_STATEMENT):
                    chunk = upserts.transposed(table_rows[start : start + ROWS_PER_STATEMENT])
                    cursor.execute(upserts.insert_many_statement(schema, table), chunk)
        for table, ends in superseded.items():
            cursor.execute(
                upserts.delete_statement(schema, table, len(ends[0]) - 1), upserts.transposed(ends)
            )
        stale = _stale_leads(rows, superseded)
        if any(stale):
            cursor.execute(_mark_stale_statement(schema), [sorted(keys) for keys in stale])
        if last_changes := {part: at for (topic, part), at in reached.items() if topic == LEAD_CHANGES}:
            deleted_to = [at - APPLIED_EVENTS_KEPT for at in last_changes.values()]
            cursor.execute(
                upserts.delete_old_applied_events_statement(schema), (list(last_changes), deleted_to)
            )
        if reached:
            positions.advance_positions(cursor, schema, reached)
    return rows


def _stale_leads(
    rows: Mapping[Table, Sequence[Row]], superseded: Mapping[Table, Sequence[upserts.Values]]
) -> tuple[set[int], set[int]]:
    """(leads, identities) whose analytics the rows change. `projections.analytics_worker` looks up an identity's leads."""
    lead_keys = {
        row.lead_key
        for table in (identity_history, leads, score_history, stage_history)
        for row in cast("Sequence[LeadRow]", rows.get(table, ()))
    }
    lead_keys.update(lead_key for lead_key, _ in superseded.get(leads, ()))
    identity_keys = {
        row.identity_key
        for table in (engagement_history, identity_history)
        for row in cast("Sequence[EngagementRow]", rows.get(table, ()))
    }
    return lead_keys, identity_keys


@lru_cache
def _mark_stale_statement(schema: str) -> bytes:
    return SQL(_MARK_STALE).format(schema=Identifier(schema)).as_bytes(None)


def _changes_or_dead_letter(record: Record) -> Iterable[TableChange]:
    """The changes of a record. If it cannot be read: a dead letter, the same at every rebuild. For records of
    `lead-activity` the worker writes the dead letter.
    """
    if record.unreadable is not None:  # an operator skipped it, or it would not be here
        return _dead_letter_changes(record, record.unreadable.reason)
    try:
        return changes_of_record(record)
    except UnreadableRecordError as error:
        return _dead_letter_changes(record, error.reason)


def _dead_letter_changes(record: Record, reason: str) -> Iterable[TableChange]:
    _log.warning(
        "a record was not written by Leadstream",
        topic=record.topic,
        partition=record.partition,
        position=record.position,
    )
    metrics.UNREADABLE_FOREIGN_RECORDS.inc()
    return () if record.topic == LEAD_ACTIVITY else (dead_letter_of_foreign_record(record, reason),)


def _notify(
    cursor: psycopg.Cursor[Any], rows: Mapping[Table, Sequence[Row]], reached: Mapping[LogPartition, int]
) -> None:
    payloads = [(NOTIFY_CHANNEL, _applied_payload(rows.get(applied_events, ())))]
    payloads += [(CHANGES_CHANNEL, each) for each in _change_payloads(rows, reached)]
    cursor.execute(_NOTIFY, upserts.transposed(payloads))


def _change_payloads(rows: Mapping[Table, Sequence[Row]], reached: Mapping[LogPartition, int]) -> list[str]:
    """Which leads the rows change. All listeners hear of batches in the same order, and know them by the same position."""
    since: dict[int, int | None] = {
        row.lead_key: None for row in cast("Sequence[LeadRow]", rows.get(leads, ()))
    }
    for table in (score_history, stage_history):
        for row in cast("Sequence[ScoreChangeRow]", rows.get(table, ())):
            at, earlier = millis(row.at), since.get(row.lead_key)
            since[row.lead_key] = at if earlier is None else min(at, earlier)
    if not since:
        return []
    topic, partition = min(reached)
    position = f"{topic}.{partition}.{reached[topic, partition]}"
    if len(since) > _MOST_CHANGED_LEADS:
        return [msgspec.json.encode({"position": position}).decode()]
    return [
        msgspec.json.encode({"position": position, "leads": some}).decode()
        for some in _batches(list(since.items()))
    ]


def _batches(changed: Sequence[tuple[int, int | None]]) -> Iterator[Sequence[tuple[int, int | None]]]:
    for start in range(0, len(changed), _LEADS_PER_NOTIFICATION):
        yield changed[start : start + _LEADS_PER_NOTIFICATION]


def _applied_payload(applied: Iterable[Row]) -> str:
    ids = [row.event_id for row in applied if isinstance(row, AppliedEventRow)]
    payload = msgspec.json.encode({"applied": ids})
    return payload.decode() if len(payload) <= _LONGEST_NOTIFY_PAYLOAD else "{}"

"""Removes what is older than the retention: records of the embedded log, or Kafka's events in their archive; and rows, by
kind (`projections.retention`).

Records go from the oldest on, in small transactions, each of which notes how far it came: so a run that is killed goes on
where it was, and no position is ever given twice. Only what every fold and projection has passed is removed. The state of
the folds and the rows of the read models stay, so a restart and a rebuild need none of it. What would need it says so:
`require_whole_archive`.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import psycopg
import structlog
from msgspec import DecodeError
from psycopg.sql import SQL, Identifier

from authoring.problem import NoLongerKept
from leadstream.clock import utc_now
from projections.archive import FIRST_YEAR, LAST_YEAR
from projections.connection import Connection, connect_watched
from projections.metrics import REMOVED
from projections.rebuild import REBUILD_LOCK_ID
from projections.retention import remove_old_rows
from projections.source import embedded_log_exists
from projections.table_definition import LIVE_SCHEMA
from schemas import topics
from schemas.decode import Refusal, decode_activity, decode_dead_letter, decode_source, decode_statement
from schemas.envelope import Event
from schemas.moment import millis, moment
from schemas.record import LogPartition, Record, is_stub

REMOVED_AT_ONCE: Final = 2_000
"""Records of one transaction."""
SECONDS_BETWEEN_RUNS: Final = 3_600.0
SECONDS_BEFORE_FIRST: Final = 60.0
RECORDS: Final = "records"
ARCHIVE: Final = -1
"""In `removed_records`, the partition that stands for the whole archive of Kafka's events."""

_REMOVAL_ORDER: Final = (
    *(topic.name for topic in topics.TOPICS if not topic.compacted and topic.name != topics.DEAD_LETTERS),
    topics.DEAD_LETTERS,
)
"""A dead letter goes after the record that it is of."""

_log = structlog.get_logger(__name__)


class OldRecords(NamedTuple):
    """Records of one partition that are older than the retention: from `first` on, and none from `end` on."""

    partition: LogPartition
    first: int
    end: int


class RebuildUnderWayError(RuntimeError):
    """A rebuild reads the log now; the message says what to do."""


def old_records(connection: Connection, before: datetime) -> Iterator[OldRecords]:
    """What of the embedded log was recorded before that moment, partition by partition. Writes nothing."""
    starts = dict[LogPartition, int]()
    for partition, end_of_use in sorted(_ends_of_use(connection).items(), key=_in_removal_order):
        first = _first_position(connection, partition)
        ends = [end for end, _ in _old_ends(connection, partition, first, end_of_use, before, starts)]
        starts[partition] = position = ends[-1] if ends else first
        if position > first:
            yield OldRecords(partition, first, position)


def remove_old_records(connection: Connection, before: datetime) -> Iterator[int]:
    """Removes them; yields how many, after each transaction. The connection must be in autocommit mode. Raises
    RebuildUnderWayError.
    """
    starts = dict[LogPartition, int]()
    for partition, end_of_use in sorted(_ends_of_use(connection).items(), key=_in_removal_order):
        first = position = _first_position(connection, partition)
        for position, count in _old_ends(connection, partition, first, end_of_use, before, starts):
            with connection.transaction(), _no_rebuild(connection):
                _remove(connection, partition, position, before)
            yield count
        starts[partition] = position
    _remove_dead_letter_rows(connection, starts)


def remove_old_archive(connection: Connection, before: datetime) -> Iterator[int]:
    """Removes events that were recorded before that moment from the archive of Kafka's events; yields how many, after each
    transaction. Months that are empty then are dropped. The connection must be in autocommit mode.
    """
    while True:
        with connection.transaction():
            removed = connection.execute(
                """delete from public.event_archive where (partition, position, recorded_at) in (
                     select partition, position, recorded_at from public.event_archive
                     where recorded_at < %s limit %s)""",
                (before, REMOVED_AT_ONCE),
            ).rowcount
            if removed:
                _note_removed(connection, (topics.EVENTS, ARCHIVE), 0, before)
        if not removed:
            break
        yield removed
    _remove_letters_of_archive(connection)
    _drop_empty_months(connection, before)


def old_events_of_archive(connection: Connection, before: datetime) -> int:
    row = connection.execute(
        "select count(*) from public.event_archive where recorded_at < %s", (before,)
    ).fetchone()
    return row[0] if row else 0


def run_retention(
    database: Callable[[], str],
    days: int,
    row_days: Mapping[str, int],
    *,
    stop: threading.Event,
    now: Callable[[], datetime] = utc_now,
) -> None:
    """Removes what is older than so many days, again and again, until `stop`. 0: records stay. Never raises."""
    pause = SECONDS_BEFORE_FIRST
    while not stop.wait(pause):
        pause = SECONDS_BETWEEN_RUNS
        try:
            removed = _remove_once(database(), days, row_days, now(), stop)
        except RebuildUnderWayError:
            pause = SECONDS_BEFORE_FIRST
        except (psycopg.Error, OSError) as cause:
            _log.warning("old records could not be removed; trying again", cause=str(cause))
            pause = SECONDS_BEFORE_FIRST
        else:
            if removed:
                _log.info("old records and rows were removed", **removed)


def _remove_once(
    database_url: str, days: int, row_days: Mapping[str, int], at: datetime, stop: threading.Event
) -> dict[str, int]:
    removed = Counter[str]()
    with connect_watched(database_url, autocommit=True) as connection:
        for kind, count in remove_all_old(connection, days, row_days, at):
            removed[kind] += count
            REMOVED.labels(kind).inc(count)
            if stop.is_set():
                break
    return dict(removed)


def remove_all_old(
    connection: Connection, days: int, row_days: Mapping[str, int], at: datetime
) -> Iterator[tuple[str, int]]:
    """Records (unless `days` is 0), and rows of each kind; yields how many of which, after each transaction. Raises
    RebuildUnderWayError.
    """
    with holding_off_rebuild(connection):
        for kind, kept_days in row_days.items():
            for count in remove_old_rows(connection, kind, at - timedelta(days=kept_days)):
                yield kind, count
    if days:
        for count in remove_everything_old(connection, at - timedelta(days=days)):
            yield RECORDS, count


def remove_everything_old(connection: Connection, before: datetime) -> Iterator[int]:
    """Of the embedded log if this database has one, else of the archive."""
    remove = remove_old_records if embedded_log_exists(connection) else remove_old_archive
    yield from remove(connection, before)


# The log


def _ends_of_use(connection: Connection) -> dict[LogPartition, int]:
    """Up to which position, excluded, everything has used a partition's records: the stage that folds them, and the
    projection.
    """
    ends = dict[LogPartition, int]()
    for topic, partition, folded, projected, unprojected in connection.execute(
        """select h.topic, h.partition, c.position, p.position + 1, u.position
           from public.heads h
           left join public.checkpoints c on c.partition = h.partition and c.stage = case h.topic
             when 'events' then 'track_sessions' when 'lead-activity' then 'score_leads' end
           left join public.positions p on (p.topic, p.partition) = (h.topic, h.partition) and p.generation = %s
           left join public.unprojected u on (u.topic, u.partition) = (h.topic, h.partition)""",
        (LIVE_SCHEMA,),
    ):
        uses = [] if unprojected is None else [unprojected]
        if topic in {topics.EVENTS, topics.LEAD_ACTIVITY}:
            uses.append(folded or 0)
        if topic != topics.EVENTS:
            uses.append(projected or 0)
        if topic in _REMOVAL_ORDER:
            ends[topic, partition] = min(uses)
    return ends


def _in_removal_order(entry: tuple[LogPartition, int]) -> tuple[int, int]:
    (topic, partition), _ = entry
    return _REMOVAL_ORDER.index(topic), partition


def _first_position(connection: Connection, partition: LogPartition) -> int:
    """The end, if nothing is left."""
    row = connection.execute(
        """select coalesce((select min(r.position) from public.records r
             where (r.topic, r.partition) = (h.topic, h.partition)), h.position)
           from public.heads h where h.topic = %s and h.partition = %s""",
        partition,
    ).fetchone()
    return row[0] if row else 0


def _page(connection: Connection, partition: LogPartition, start: int, end: int) -> list[Record]:
    rows = connection.execute(
        """select topic, partition, position, key, value from public.records
           where topic = %s and partition = %s and position >= %s and position < %s order by position limit %s""",
        (*partition, start, end, REMOVED_AT_ONCE),
    )
    return [Record(*row) for row in rows.fetchall()]


def _old_ends(
    connection: Connection,
    partition: LogPartition,
    start: int,
    end: int,
    before: datetime,
    starts: dict[LogPartition, int],
) -> Iterator[tuple[int, int]]:
    """(position, records): up to which positions, excluded, a partition is old, and how many records that are since the position
    before; at most REMOVED_AT_ONCE.
    """
    timeless: list[tuple[int, int]] = []
    while page := _page(connection, partition, start, end):
        count, is_young_found = _old_prefix(page, before, starts)
        start = page[-1].position + 1
        if count:
            yield from timeless
            timeless.clear()
            yield page[count - 1].position + 1, count
        if is_young_found:
            return
        if count < len(page):
            timeless.append((start, len(page) - count))


def _old_prefix(
    page: Sequence[Record], before: datetime, starts: dict[LogPartition, int]
) -> tuple[int, bool]:
    """How many records are old, and whether a young one comes after them. One without a time goes with an old one after it."""
    limit, count = millis(before), 0
    for number, record in enumerate(page, 1):
        is_old: bool | None = None
        if is_stub(record):
            pass  # it has no time
        elif record.topic == topics.DEAD_LETTERS:
            is_old = _source_is_removed(record, starts)
        else:
            at = _recorded_at(record)
            is_old = None if at is None else at < limit
        if is_old is False:
            return count, True
        if is_old:
            count = number
    return count, False


def _recorded_at(record: Record) -> int | None:
    """None: nobody can read it, or it is a publication, which stays active when its record is removed."""
    if record.key == topics.PARTITION_WIDE_KEY:
        return None
    value = record.value or b""
    try:
        match record.topic:
            case topics.EVENTS:
                source = decode_source(value)
                at = (
                    source.recorded_at or source.occurred_at
                    if isinstance(source, Event)
                    else source.recorded_at
                )
                return millis(at)
            case topics.LEAD_ACTIVITY:
                return decode_activity(value).recorded_at
            case _:
                return millis(decode_statement(value).at)
    except (Refusal, DecodeError):
        return None


def _source_is_removed(record: Record, starts: dict[LogPartition, int]) -> bool:
    """A dead letter has no time of its own: it is as old as the record that it is of."""
    try:
        of = decode_dead_letter(record.value or b"")
    except (Refusal, DecodeError):
        return False
    return of.position < starts.get((of.topic, of.partition), 0)


@contextmanager
def holding_off_rebuild(connection: Connection) -> Iterator[None]:
    """No rebuild begins meanwhile: it would copy rows that go. Raises RebuildUnderWayError."""
    row = connection.execute("select pg_try_advisory_lock(%s)", (REBUILD_LOCK_ID,)).fetchone()
    if row is None or not row[0]:
        raise RebuildUnderWayError("A rebuild reads the log now: try again when it has ended.")
    try:
        yield
    finally:
        connection.execute("select pg_advisory_unlock(%s)", (REBUILD_LOCK_ID,))


@contextmanager
def _no_rebuild(connection: Connection) -> Iterator[None]:
    """Inside of a transaction: no rebuild runs until its end. Raises RebuildUnderWayError."""
    row = connection.execute("select pg_try_advisory_xact_lock(%s)", (REBUILD_LOCK_ID,)).fetchone()
    if row is None or not row[0]:
        raise RebuildUnderWayError("A rebuild reads the log now: try again when it has ended.")
    yield


def _remove(connection: Connection, partition: LogPartition, end: int, before: datetime) -> None:
    connection.execute(
        "delete from public.records where topic = %s and partition = %s and position < %s", (*partition, end)
    )
    _note_removed(connection, partition, end, before)


def _note_removed(connection: Connection, partition: LogPartition, position: int, before: datetime) -> None:
    connection.execute(
        """insert into public.removed_records (topic, partition, position, recorded_before, removed_at)
           values (%s, %s, %s, %s, now())
           on conflict (topic, partition) do update set position = excluded.position,
             recorded_before = greatest(excluded.recorded_before, removed_records.recorded_before),
             removed_at = excluded.removed_at""",
        (*partition, position, before),
    )


def _remove_dead_letter_rows(connection: Connection, starts: dict[LogPartition, int]) -> None:
    """What the records of dead letters were made into: it has the whole record of a person."""
    for (topic, partition), start in starts.items():
        if start:
            connection.execute(
                SQL("delete from {} where topic = %s and partition = %s and position < %s").format(
                    Identifier(LIVE_SCHEMA, "dead_letters")
                ),
                (topic, partition, start),
            )


# The archive


def _remove_letters_of_archive(connection: Connection) -> None:
    """Dead letters of events that are older than every event of their partition in the archive."""
    connection.execute(
        SQL(
            """delete from {} letter using (select partition, min(position) as first from public.event_archive group by 1) kept
               where letter.topic = %s and letter.partition = kept.partition and letter.position < kept.first
               and exists (select from public.removed_records where topic = %s)"""
        ).format(Identifier(LIVE_SCHEMA, "dead_letters")),
        (topics.EVENTS, topics.EVENTS),
    )


def _drop_empty_months(connection: Connection, before: datetime) -> None:
    """The month of `before` and later ones stay."""
    rows = connection.execute(
        """select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'public.event_archive'::regclass order by 1"""
    ).fetchall()
    for (name,) in rows:
        year, _, month = name.removeprefix("event_archive_").partition("_")
        if not (year.isdigit() and month.isdigit()) or not FIRST_YEAR <= int(year) <= LAST_YEAR:
            continue
        if (int(year), int(month)) >= (before.year, before.month):
            continue
        table = Identifier("public", name)
        with connection.transaction():
            connection.execute("set local lock_timeout = '2s'")
            try:
                with connection.transaction():
                    connection.execute(SQL("lock table {} in access exclusive mode").format(table))
                    empty = connection.execute(
                        SQL("select not exists (select from {})").format(table)
                    ).fetchone()
                    if empty == (True,):
                        connection.execute(SQL("drop table {}").format(table))
            except psycopg.errors.LockNotAvailable:
                continue  # the next run drops it


# What needs everything


class ArchiveShortened(NoLongerKept):
    """The oldest events were removed, so a replay would give wrong scores. The message says so."""


def archive_begins(connection: Connection) -> datetime | None:
    """Events that were recorded before that moment were removed; None: there are all."""
    row = connection.execute(
        "select max(recorded_before) from public.removed_records where topic = %s", (topics.EVENTS,)
    ).fetchone()
    return None if row is None or row[0] is None else moment(millis(row[0]))


def require_whole_archive(connection: Connection) -> None:
    """Raises ArchiveShortened if events are missing that a replay from the beginning needs."""
    begins = archive_begins(connection)
    if begins is not None:
        raise ArchiveShortened(
            f"events that were recorded before {begins:%Y-%m-%d %H:%M} UTC were removed (LEADSTREAM_LOG_RETENTION_DAYS), so a "
            "replay of the events would give other scores than there are. Scores, histories and the read models are whole."
        )

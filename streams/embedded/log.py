"""The log in PostgreSQL: its tables, and the statements that append to it and read it.

`records` keeps every topic except the compacted ones, of which `compacted` keeps the newest record
per key; `heads` says which position comes next, so positions stay free of gaps whatever is deleted.
Only the process with the appender's lock may write; reading needs no lock. Nothing here commits, except
`open_log`, `write_skip` and `take_appender_lock`.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import LiteralString

from psycopg.sql import SQL, Identifier, Literal

from schemas.record import ERASED_KEY, LogPartition, Record, is_stub
from schemas.topics import DEFAULT_PARTITIONS, TOPICS
from streams.embedded.rows import COPY_FROM_ROWS, Connection, copy_rows, upsert_into, upsert_rows

APPEND_ONLY_TOPICS = tuple(topic.name for topic in TOPICS if not topic.compacted)
COMPACTED_TOPICS = tuple(topic.name for topic in TOPICS if topic.compacted)

LOG_FORMAT = 1
"""Raised when tables or their meaning change; a log of a higher format is refused."""
_UPGRADES: Mapping[int, LiteralString] = {}
"""Format n -> the statements that make n + 1 of it. A log without such a step is refused."""

PAGE_RECORDS = 5_000

_APPENDER_LOCK_ID = 0x6C6561647374726D  # "leadstrm": advisory locks are numbered per database
_LOCK_SECONDS = 10.0
"""The backend of a killed appender holds its lock until it notices."""

_TABLES = """
create table format (
  only_row boolean primary key default true check (only_row),
  version integer not null,
  partitions integer not null
);
create table records (
  topic text collate "C" not null,
  partition integer not null,
  position bigint not null,
  key text collate "C" not null,
  value bytea
) partition by list (topic);
create table compacted (
  topic text collate "C" not null,
  key text collate "C" not null,
  partition integer not null,
  position bigint not null,
  value bytea not null,
  primary key (topic, key)
) with (fillfactor = 75);
create index compacted_by_position on compacted (topic, partition, position);
create table heads (
  topic text collate "C" not null,
  partition integer not null,
  position bigint not null,
  primary key (topic, partition)
) with (fillfactor = 50);
create table checkpoints (
  stage text collate "C" not null,
  partition integer not null,
  position bigint not null,
  primary key (stage, partition)
) with (fillfactor = 50);
create table unprojected (
  topic text collate "C" not null,
  partition integer not null,
  position bigint not null,
  primary key (topic, partition)
);
create table skips (
  topic text collate "C" not null,
  partition integer not null,
  position bigint not null,
  reason text not null,
  primary key (topic, partition, position)
);
create table state (
  stage text collate "C" not null,
  partition integer not null,
  key text collate "C" not null,
  part text collate "C" not null,
  value bytea not null,
  primary key (stage, partition, key, part)
) with (fillfactor = 75);
create table dues (
  stage text collate "C" not null,
  partition integer not null,
  key text collate "C" not null,
  due_at bigint not null,
  primary key (stage, partition, key)
);
create index dues_by_moment on dues (due_at);
"""

# Its own key leaves the topic out: one table is one topic.
_TOPIC_TABLE = """
create table {table} partition of records (primary key (partition, position))
  for values in ({topic}) with (autovacuum_vacuum_insert_scale_factor = 0.5);
alter table {table} alter column value set storage external;
"""

_POSITION = {"partition": "int4", "position": "int8"}
_UPSERT_HEADS = upsert_into("heads", {"topic": "text", **_POSITION}, ("topic", "partition"))
_UPSERT_UNPROJECTED = upsert_into("unprojected", {"topic": "text", **_POSITION}, ("topic", "partition"))
_UPSERT_CHECKPOINTS = upsert_into("checkpoints", {"stage": "text", **_POSITION}, ("stage", "partition"))
_UPSERT_COMPACTED = upsert_into(
    "compacted", {"topic": "text", "key": "text", **_POSITION, "value": "bytea"}, ("topic", "key")
)


class LogRefused(RuntimeError):
    """The log cannot be opened as asked; the message names the reason and the remedy."""


def take_appender_lock(connection: Connection) -> None:
    """Makes this connection the only appender until it closes. Raises LogRefused."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while not _try_lock(connection):
        if time.monotonic() > deadline:
            raise LogRefused(
                f"Another process appends to this log ({_lock_holder(connection)}): one database has one "
                "`leadstream serve` or `import` at a time. Stop the other one, or use another database."
            )
        time.sleep(0.2)


def _try_lock(connection: Connection) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s)", (_APPENDER_LOCK_ID,)).fetchone()
    connection.commit()
    return row is not None and row[0]


def _lock_holder(connection: Connection) -> str:
    row = connection.execute(
        """select a.application_name, a.client_addr, a.backend_start from pg_locks l join pg_stat_activity a using (pid)
           where l.locktype = 'advisory' and l.granted and l.database = (select oid from pg_database
           where datname = current_database()) and l.classid::bigint << 32 | l.objid::bigint = %s""",
        (_APPENDER_LOCK_ID,),
    ).fetchone()
    connection.commit()
    if row is None:
        return "which has just ended"
    name, address, since = row
    return f"{name or 'unnamed'} from {address or 'this machine'}, since {since:%Y-%m-%d %H:%M:%S %Z}"


def open_log(connection: Connection, partitions: int | None = None) -> int:
    """Makes the tables if there are none, and returns the number of partitions, fixed from then on.

    `partitions` None takes what is there. A log of an older format is upgraded, in one transaction.
    Raises LogRefused for a log of another shape.
    """
    existing = _partitions_of_current_format(connection)
    if existing is None:
        existing = partitions or DEFAULT_PARTITIONS
        _make_tables(connection, existing)
    connection.commit()
    if partitions not in {None, existing}:
        raise LogRefused(
            f"This log has {existing} partitions and cannot change to {partitions}, since the number decides where "
            f"each key's state lives: set LEADSTREAM_PARTITIONS={existing}, or migrate the events into a new "
            "database (docs/upgrading.md)."
        )
    return existing


def _partitions_of_current_format(connection: Connection) -> int | None:
    """The number of partitions of a log in today's format; None: there is none yet."""
    if not _tables_exist(connection):
        return None
    version, partitions = _stored_format_and_partitions(connection)
    if version > LOG_FORMAT:
        raise LogRefused(
            f"A newer Leadstream wrote this log (format {version}, this one reads up to {LOG_FORMAT}): upgrade Leadstream."
        )
    if not _UPGRADES.keys() >= set(range(version, LOG_FORMAT)):
        raise LogRefused(
            f"This log has format {version}, which this Leadstream can no longer upgrade: start the last version "
            "that can (the changelog names it) once, then this one."
        )
    for older in range(version, LOG_FORMAT):
        connection.execute(_UPGRADES[older])
        connection.execute("update format set version = %s", (older + 1,))
    return partitions


def _make_tables(connection: Connection, partitions: int) -> None:
    connection.execute(_TABLES)
    connection.execute("insert into format (version, partitions) values (%s, %s)", (LOG_FORMAT, partitions))
    for topic in APPEND_ONLY_TOPICS:
        name = Identifier("records_" + topic.replace("-", "_"))
        connection.execute(SQL(_TOPIC_TABLE).format(table=name, topic=Literal(topic)))


def _tables_exist(connection: Connection) -> bool:
    return connection.execute("select to_regclass('format') is not null").fetchone() == (True,)


def _stored_format_and_partitions(connection: Connection) -> tuple[int, int]:
    """(format, partitions)"""
    row = connection.execute("select version, partitions from format").fetchone()
    if row is None:
        raise LogRefused("This log does not say its format: its table `format` has no row. Restore a backup.")
    version, partitions = row
    return version, partitions


def write_records(connection: Connection, records: Sequence[Record]) -> None:
    """Appends to the topics that keep everything."""
    if len(records) < COPY_FROM_ROWS:
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into records (topic, partition, position, key, value) values (%s, %s, %s, %s, %s)",
                [record[:5] for record in records],
            )
        return
    copy_rows(
        connection,
        b"copy records (topic, partition, position, key, value) from stdin (format binary)",
        ("text", "int4", "int8", "text", "bytea"),
        [record[:5] for record in records],
    )


def write_stubs(connection: Connection, addresses: Collection[tuple[str, int, int]]) -> int:
    """Makes stubs of the records at these (topic, partition, position): the positions stay, so that every reader still
    finds the log without a gap. The folds must be behind them. Returns how many were no stubs yet.
    """
    if not addresses:
        return 0
    topics, partitions, positions = zip(*sorted(addresses), strict=True)
    return connection.execute(
        """update records r set key = %s, value = null
           from unnest(%s::text[], %s::integer[], %s::bigint[]) as a (topic, partition, position)
           where r.topic = a.topic and r.partition = a.partition and r.position = a.position
             and (r.value is not null or r.key <> %s)""",
        (ERASED_KEY, list(topics), list(partitions), list(positions), ERASED_KEY),
    ).rowcount


def write_values(connection: Connection, values: Mapping[tuple[str, int, int], bytes]) -> None:
    """Replaces the values of the records at these (topic, partition, position): by the same without an erased person. The folds
    must be behind them.
    """
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(
                "update records set value = %s where topic = %s and partition = %s and position = %s",
                [(value, *address) for address, value in values.items()],
            )


def write_without_lead(connection: Connection, values: Mapping[tuple[str, int, int], bytes]) -> None:
    """Replaces keys and values of the records at these (topic, partition, position): they concern no lead any more, and no fold
    applies them. The folds must be behind them.
    """
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(
                "update records set key = %s, value = %s where topic = %s and partition = %s and position = %s",
                [(ERASED_KEY, value, *address) for address, value in values.items()],
            )


def write_compacted(connection: Connection, records: Sequence[Record]) -> None:
    """Keeps each key's newest record; a tombstone removes the key."""
    newest = {(record.topic, record.key): record for record in records}
    removed = [topic_key for topic_key, record in newest.items() if record.value is None]
    kept = [
        (record.topic, record.key, record.partition, record.position, record.value)
        for record in newest.values()
        if record.value is not None
    ]
    if removed:
        with connection.cursor() as cursor:
            cursor.executemany("delete from compacted where topic = %s and key = %s", removed)
    upsert_rows(connection, _UPSERT_COMPACTED, kept)


def read_records(
    connection: Connection, topic: str, partition: int, from_position: int, limit: int
) -> list[Record]:
    """The records of one partition from a position on, in order; of a compacted topic those still kept."""
    table = SQL("compacted") if topic in COMPACTED_TOPICS else SQL("records")
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            SQL(
                """select topic, partition, position, key, value from {} where topic = %s and partition = %s
                   and position >= %s order by position limit %s"""
            ).format(table),
            (topic, partition, from_position, limit),
        )
        return [Record(*row) for row in cursor]


def scan_topic(connection: Connection, topic: str) -> Iterator[Record]:
    """Every record of a topic but stubs, partition by partition, in order."""
    for partition in range(partitions_of(connection)):
        position = 0
        while page := read_records(connection, topic, partition, position, PAGE_RECORDS):
            yield from (record for record in page if not is_stub(record))
            position = page[-1].position + 1


def partitions_of(connection: Connection) -> int:
    if not _tables_exist(connection):
        raise LogRefused("There is no log in this database yet: start `leadstream serve` once.")
    return _stored_format_and_partitions(connection)[1]


def read_heads(connection: Connection) -> dict[LogPartition, int]:
    """The next position of every partition that has had a record."""
    return _positions(connection, "select topic, partition, position from heads")


def read_checkpoints(connection: Connection) -> dict[LogPartition, int]:
    """(stage, partition) -> the next position that the stage folds."""
    return _positions(connection, "select stage, partition, position from checkpoints")


def read_unprojected(connection: Connection) -> dict[LogPartition, int]:
    """Where the records begin that were appended while folding was halted, and are not projected yet."""
    return _positions(connection, "select topic, partition, position from unprojected")


def _positions(connection: Connection, query: str) -> dict[LogPartition, int]:
    return {(name, partition): position for name, partition, position in connection.execute(SQL(query))}


def write_heads(connection: Connection, rows: Sequence[tuple[str, int, int]]) -> None:
    upsert_rows(connection, _UPSERT_HEADS, rows)


def write_checkpoints(connection: Connection, rows: Sequence[tuple[str, int, int]]) -> None:
    upsert_rows(connection, _UPSERT_CHECKPOINTS, rows)


def write_unprojected(connection: Connection, rows: Sequence[tuple[str, int, int | None]]) -> None:
    """Where the unprojected records of each partition begin now; None: there are none any more."""
    done = [(topic, partition) for topic, partition, position in rows if position is None]
    if done:
        with connection.cursor() as cursor:
            cursor.executemany("delete from unprojected where topic = %s and partition = %s", done)
    upsert_rows(connection, _UPSERT_UNPROJECTED, [row for row in rows if row[2] is not None])


def read_skips(connection: Connection) -> dict[tuple[str, int, int], str]:
    """(topic, partition, position) -> why to skip it."""
    rows = connection.execute("select topic, partition, position, reason from skips")
    return {(topic, partition, position): reason for topic, partition, position, reason in rows}


def write_skip(
    connection: Connection, stage: str, topic: str, partition: int, position: int, reason: str
) -> None:
    """Makes `stage` write this record of its source as a dead letter instead of folding it.

    From any process; the driver reads the skips at its next attempt. Raises LogRefused for a record that
    was folded already or does not exist. Commits.
    """
    head = read_heads(connection).get((topic, partition), 0)
    folded = read_checkpoints(connection).get((stage, partition), 0)
    if not folded <= position < head:
        connection.rollback()
        state = "was folded already" if position < folded else "does not exist"
        raise LogRefused(
            f"{topic}/{partition} at position {position} {state}: only positions {folded} to {head - 1} can be skipped."
        )
    connection.execute(
        "insert into skips (topic, partition, position, reason) values (%s, %s, %s, %s) on conflict do nothing",
        (topic, partition, position, reason),
    )
    connection.commit()

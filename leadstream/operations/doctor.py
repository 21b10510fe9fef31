"""`leadstream doctor`: one line per check, with a remedy if the check fails.

It only reads and repairs nothing. It starts the embedded PostgreSQL only if no server runs, and stops it
again. It works beside a running server.
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg

from leadstream.active_models import active_by_shard
from leadstream.console import Failure
from leadstream.embedded_postgres import (
    PostgresUnavailable,
    find_postgres,
    has_postgres,
    start_postgres,
    stop_postgres,
)
from leadstream.operations.control_socket import ServerNote, running_server
from leadstream.operations.finding import Finding, lag_finding
from leadstream.operations.open_store import settings_as_served
from leadstream.operations.store_access import server_status
from leadstream.settings import Settings, unknown_variables
from projections.connection import connect_watched
from projections.migrate import OutdatedError, check_current
from projections.source import bound_source
from projections.table_definition import LIVE_SCHEMA
from projections.tables import PROJECTED_TOPICS
from schemas.control import EVERY_TENANT
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.features.features import NewerCodec
from scoring.models.model import built_in_models
from streams.embedded import log

GIGABYTE = 2**30
LOW_DISK_BYTES = 2 * GIGABYTE
FULL_DISK_BYTES = GIGABYTE // 4


def all_findings(settings: Settings) -> Iterator[Finding]:
    yield _python_finding()
    yield from _settings_findings()
    yield _time_zones_finding()
    yield _data_directory_finding(settings.data_dir)
    yield _disk_finding(settings.data_dir)
    try:
        settings = settings_as_served(settings)
    except Failure as cause:
        yield Finding("warn", "Settings", str(cause))
    with ExitStack() as closing:
        database = _check_database(settings, closing)
        yield from database.findings
        if settings.kafka is not None:
            from leadstream.operations.doctor_kafka import kafka_findings  # noqa: PLC0415 - most need no Kafka

            yield from kafka_findings(settings, database.url)
        if database.url is not None:
            with connect_watched(database.url, autocommit=True) as connection:
                yield from _store_findings(connection, database.url, settings)


def _python_finding() -> Finding:
    version = platform.python_version()
    if sys.maxsize > 2**32:
        return Finding("ok", "Python", version)
    return Finding(
        "fail", "Python", f"{version}, 32 bit", "Use a 64-bit Python: PostgreSQL is packaged for that only."
    )


def _settings_findings() -> Iterator[Finding]:
    unknown = unknown_variables()
    for problem in unknown:
        yield Finding("warn", "Settings", problem)
    if not unknown:
        yield Finding("ok", "Settings", "every LEADSTREAM_* variable is known")


def _time_zones_finding() -> Finding:
    try:
        ZoneInfo("Europe/Berlin")
    except ZoneInfoNotFoundError:
        return Finding(
            "fail",
            "Time zones",
            "the database of time zones is missing",
            "Install the Python package tzdata.",
        )
    return Finding("ok", "Time zones", "the database of time zones is installed")


def _data_directory_finding(path: Path) -> Finding:
    if not path.exists() and os.access(_nearest_existing(path), os.W_OK):
        return Finding(
            "warn", "Data directory", f"{path} does not exist yet", "`leadstream serve` creates it."
        )
    try:
        probe = path / ".doctor"
        probe.touch()
        probe.unlink()
    except OSError as cause:
        return Finding(
            "fail",
            "Data directory",
            f"{path}: {cause.strerror}",
            "Make it writable, or choose another with --data-dir.",
        )
    return Finding("ok", "Data directory", f"{path.resolve()} is writable")


def _disk_finding(path: Path) -> Finding:
    free = shutil.disk_usage(_nearest_existing(path)).free
    state = f"{free / GIGABYTE:.1f} GB free"
    if free < FULL_DISK_BYTES:
        return Finding(
            "fail", "Disk", state, "Make room: an event takes about 4 kB, and PostgreSQL stops when full."
        )
    if free < LOW_DISK_BYTES:
        return Finding("warn", "Disk", state, "Make room soon: a million events take about 1.5 GB.")
    return Finding("ok", "Disk", state)


def _nearest_existing(path: Path) -> Path:
    """The directory, or the nearest existing one above it."""
    return next(each for each in (path.resolve(), *path.resolve().parents) if each.exists())


class _DatabaseCheck(NamedTuple):
    url: str | None
    findings: list[Finding]


def _check_database(settings: Settings, closing: ExitStack) -> _DatabaseCheck:
    """Checks the database. It starts the embedded one if necessary, and `closing` stops it."""
    note = running_server(settings.data_dir)
    server = (
        _server_findings(note)
        if note
        else [Finding("ok", "Server", f"none runs on {settings.data_dir.resolve()}")]
    )
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        return _check_connection(url, server, "Check LEADSTREAM_DATABASE_URL, and that this server runs.")
    try:
        running = find_postgres(settings.data_dir)
    except PostgresUnavailable as cause:
        return _DatabaseCheck(None, [*server, Finding("fail", "PostgreSQL", str(cause))])
    if running is not None:
        return _check_connection(running, server, "See the file postgres/log in the data directory.")
    if not has_postgres(settings.data_dir):
        return _DatabaseCheck(
            None,
            [
                *server,
                Finding("warn", "PostgreSQL", "there is no database yet", "`leadstream serve` creates it."),
            ],
        )
    try:
        url = start_postgres(settings.data_dir)
    except PostgresUnavailable as cause:
        return _DatabaseCheck(None, [*server, Finding("fail", "PostgreSQL", str(cause))])
    closing.callback(stop_postgres, settings.data_dir)
    return _check_connection(url, server, "See the file postgres/log in the data directory.")


def _server_findings(note: ServerNote) -> list[Finding]:
    runs = Finding("ok", "Server", f"runs at {note.address} (pid {note.pid})")
    try:
        status = server_status(note)
    except Failure as cause:
        return [runs, Finding("fail", "Scoring", str(cause))]
    if status.get("ready"):
        return [runs]
    if note.kafka is not None:
        return [
            runs,
            Finding("warn", "Scoring", f"waits: {status.get('reason')}", "Run this again in a moment."),
        ]
    return [
        runs,
        Finding(
            "fail",
            "Scoring",
            f"halted: {status.get('reason')}",
            "Events are still accepted. If a record is named, `leadstream skip TOPIC PARTITION POSITION --reason WHY` "
            "skips it; else see the server's log.",
        ),
    ]


def _check_connection(url: str, before: list[Finding], remedy: str) -> _DatabaseCheck:
    try:
        with connect_watched(url) as connection:
            row = connection.execute("show server_version").fetchone()
    except psycopg.OperationalError as cause:
        return _DatabaseCheck(
            None, [*before, Finding("fail", "PostgreSQL", " ".join(str(cause).split()), remedy)]
        )
    return _DatabaseCheck(url, [*before, Finding("ok", "PostgreSQL", f"{row[0] if row else '?'} answers")])


def _store_findings(connection: psycopg.Connection[Any], url: str, settings: Settings) -> Iterator[Finding]:
    if settings.kafka is None:
        yield from _log_findings(connection, settings)
        if not _has_table(connection, "public.format"):
            return
    elif not _has_table(connection, "public.log_source"):
        yield Finding("warn", "Read models", "do not exist yet", "`leadstream project` creates them.")
        return
    try:
        check_current(url)
    except OutdatedError as cause:
        yield Finding("fail", "Read models", str(cause))
        return
    yield Finding("ok", "Read models", "have the newest schema")
    if settings.kafka is None:
        yield _projection_finding(connection)
    yield from _dead_letters_findings(connection)
    yield from _models_findings(url)


def _has_table(connection: psycopg.Connection[Any], table: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", (table,)).fetchone()
    return bool(row and row[0])


def _log_findings(connection: psycopg.Connection[Any], settings: Settings) -> Iterator[Finding]:
    if (bound := bound_source(connection)) is not None:
        yield Finding(
            "fail",
            "Log",
            f"this database follows Kafka (prefix {bound.prefix!r}), which no setting names",
            "Set LEADSTREAM_KAFKA, or choose another database.",
        )
        return
    if not _has_table(connection, "public.format"):
        yield Finding("warn", "Log", "does not exist yet", "`leadstream serve` creates it.")
        return
    partitions, heads = log.partitions_of(connection), log.read_heads(connection)
    configured = settings.partitions if "partitions" in settings.model_fields_set else partitions
    if configured == partitions:
        yield Finding("ok", "Log", f"{sum(heads.values()):,} records in {partitions} partitions")
    else:
        yield Finding(
            "fail",
            "Log",
            f"has {partitions} partitions, LEADSTREAM_PARTITIONS is {configured}",
            f"Set LEADSTREAM_PARTITIONS={partitions}: the number is fixed from the first start.",
        )
    checkpoints = log.read_checkpoints(connection)
    for stage, source in (("track_sessions", "events"), ("score_leads", "lead-activity")):
        lag = sum(
            head - checkpoints.get((stage, partition), 0)
            for (topic, partition), head in heads.items()
            if topic == source
        )
        yield lag_finding(
            f"Stage {stage}",
            lag,
            "records not folded yet",
            "`leadstream serve` folds them; see its log if not.",
        )
    skips = log.read_skips(connection)
    if skips:
        yield Finding("ok", "Skips", f"{len(skips)} records are marked to be skipped")


def _projection_finding(connection: psycopg.Connection[Any]) -> Finding:
    rows = connection.execute(
        """select coalesce(sum(h.position - 1 - coalesce(p.position, -1)), 0)::bigint
           from public.heads h left join public.positions p
             on p.generation = %s and p.topic = h.topic and p.partition = h.partition
           where h.topic = any(%s)""",
        (LIVE_SCHEMA, list(PROJECTED_TOPICS)),
    ).fetchone()
    return lag_finding(
        "Projection",
        rows[0] if rows else 0,
        "records not projected yet",
        "If it does not shrink: `leadstream rebuild`.",
    )


def _dead_letters_findings(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    row = connection.execute(
        """select count(*) from live.dead_letters d where not exists (select from public.retried_letters r
           where (r.topic, r.partition, r.position) = (d.topic, d.partition, d.position))"""
    ).fetchone()
    count = row[0] if row else 0
    if count:
        yield Finding("warn", "Dead letters", f"{count:,}", "`leadstream dead-letters list` shows them.")
    else:
        yield Finding("ok", "Dead letters", "none")


def _models_findings(url: str) -> Iterator[Finding]:
    try:
        states = active_by_shard(url)
    except NewerCodec as cause:
        yield Finding("fail", "State", str(cause))
        return
    for name, text in built_in_models().items():
        versions = {state.models.get(EVERY_TENANT, {}).get(name) for state in states}
        texts = {(active.text, active.folding) if active else None for active in versions}
        if len(versions) > 1:
            yield Finding(
                "warn", f"Model {name}", "is being published: shards differ", "Run this again in a moment."
            )
        elif texts == {None} or not states:
            yield Finding(
                "warn", f"Model {name}", "is not published", f"`leadstream publish {name}` publishes it."
            )
        elif texts != {(text, NEWEST_COMPARISON.folding)} and all(
            active.version == 1 for active in versions if active
        ):
            yield Finding(
                "warn",
                f"Model {name}",
                "is the built-in one of an earlier version",
                f"`leadstream publish {name}` publishes today's.",
            )
        else:
            yield Finding(
                "ok", f"Model {name}", f"version {max(active.version for active in versions if active)}"
            )

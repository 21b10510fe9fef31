"""Restates a store in a data directory of its own, compares the leads of both, and puts one in the place of the other.

The store as recorded is read at one moment and never written. What is interrupted leaves it as it was, and the next
run begins again from nothing.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

import psycopg
from msgspec import Struct

from leadstream.clock import now_ms
from leadstream.console import Failure
from leadstream.embedded_postgres import (
    PostgresUnavailable,
    replace_postgres,
    start_postgres,
    stop_abandoned,
    stop_postgres,
)
from leadstream.operations.control_socket import running_server
from leadstream.operations.open_store import open_database_url, open_store, require_store, settings_as_served
from leadstream.operations.recorded_log import ArchivedParts, EmbeddedParts
from leadstream.operations.restate import keep_beside_log, restate
from leadstream.operations.restated_leads import LeadMoves, compare_leads
from leadstream.operations.retention import require_whole_archive
from leadstream.operations.store_access import settle_with_bar
from leadstream.serving import ensure_directory
from leadstream.settings import Settings
from leadstream.wiring import database_errors_explained
from projections.connection import Connection, connect_watched
from projections.source import bound_source
from projections.table_definition import LIVE_SCHEMA, PUBLIC_SCHEMA, READ_OPTIONS
from schemas.topics import DEFAULT_PARTITIONS
from streams.embedded import log
from streams.engine.shard import FoldFailed

RESTATING: Final = "restating"
"""Below the data directory: the restated store while it is made."""
KEPT: Final = "before-restatement-"

_OPTIONS: Final = f"-c search_path={LIVE_SCHEMA},{PUBLIC_SCHEMA} -c timezone=UTC"

Report = Callable[[float], None]
"""The share of the events that are folded."""


class Restatement(Struct):
    """The restated store beside the one as recorded."""

    events: int
    changes: dict[str, int]
    """By kind (`leadstream.operations.restate.CHANGES`), how many events today's door takes differently."""
    dead_letters: tuple[int, int]
    """Records that could not be read or applied, then and now."""
    not_scored: int
    """Records that the store as recorded had not scored yet: leads may move because of them."""
    on_kafka: bool
    leads: LeadMoves
    seconds: float


class RecordedLog(NamedTuple):
    """The log of a store at one moment."""

    parts: EmbeddedParts | ArchivedParts
    partitions: int
    events: int
    moment: int
    """Every lead is as time has left it by then (ms): the stored scores are constant until the next timer."""
    skipped: frozenset[tuple[str, bytes]]
    not_scored: int
    on_kafka: bool


@contextmanager
def recorded_store(settings: Settings) -> Iterator[str]:
    """The URL of the store's database, everything in it scored. No server can start on an embedded store meanwhile."""
    settings = settings_as_served(settings)
    require_store(settings)
    if settings.kafka is None:
        with open_store(settings) as store:
            settle_with_bar(store)
    with open_database_url(settings) as url:
        yield url


def require_replaceable(settings: Settings) -> None:
    """Raises Failure for a store that cannot be replaced in its place."""
    note = running_server(settings.data_dir)
    if note is not None:
        raise Failure(
            f"A server runs on this store at {note.address} (pid {note.pid}): stop it first, so that no event is missed. "
            "Without --apply, the command shows beside the server what would change."
        )
    if settings.database_url is not None or settings.kafka is not None:
        raise Failure(
            "--apply replaces the embedded store of a data directory. This store is in "
            f"{'Kafka' if settings.kafka else 'your own PostgreSQL'}: use --into DIRECTORY, and bring the restated store to "
            "its place as docs/upgrading.md shows."
        )


def restate_into(
    directory: Path, url: str, settings: Settings, report: Report, *, durable: bool
) -> Restatement:
    """Makes the restated store of the database at `url` in the data directory, and stops its server. What an earlier run
    left there is deleted. Raises Failure.
    """
    began = time.monotonic()
    discard(directory)
    ensure_directory(directory)
    with database_errors_explained(settings), connect_watched(url, options=_OPTIONS) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        recorded = _recorded(old, settings)
        new_url = start_postgres(directory, None if durable else {"fsync": "off"})
        try:
            changes = restate(
                recorded.parts.parts(),
                recorded.partitions,
                new_url,
                settings,
                recorded.moment,
                owners=lambda identities: _owners(old, identities),
                skipped=recorded.skipped,
                report=lambda done: report(done / max(recorded.events, 1)),
            )
            with connect_watched(new_url, options=READ_OPTIONS) as new:
                leads = compare_leads(old, new)
                dead_letters = _dead_letters(old), _dead_letters(new)
                keep_beside_log(old, new)
        except FoldFailed as cause:
            raise Failure(f"{cause}: nothing was changed. `leadstream doctor` shows more.") from cause
        finally:
            stop_postgres(directory)
    return Restatement(
        recorded.events,
        dict(changes.most_common()),
        dead_letters,
        recorded.not_scored,
        recorded.on_kafka,
        leads,
        time.monotonic() - began,
    )


def discard(directory: Path) -> None:
    """Deletes a data directory that a run of this command made. Raises Failure if another run uses it."""
    if not directory.exists():
        return
    try:
        stop_abandoned(directory)
    except PostgresUnavailable as cause:
        raise Failure(str(cause)) from cause
    shutil.rmtree(directory)


def replace_store(settings: Settings, restated: Path) -> Path:
    """Puts the restated store in the place of the recorded one. Returns the data directory of the old one."""
    directories = (settings.data_dir / f"{KEPT}{number}" for number in count(1))
    kept = next(directory for directory in directories if not directory.exists())
    with database_errors_explained(settings):
        replace_postgres(settings.data_dir, restated, kept)
    return kept


def _recorded(old: Connection, settings: Settings) -> RecordedLog:
    """Raises ArchiveShortened if the oldest events were removed."""
    require_whole_archive(old)
    on_kafka = bound_source(old) is not None
    if on_kafka:
        parts: EmbeddedParts | ArchivedParts = ArchivedParts(old)
        partitions = settings.partitions if "partitions" in settings.model_fields_set else DEFAULT_PARTITIONS
        skipped, not_scored = frozenset[tuple[str, bytes]](), 0
    else:
        partitions = log.partitions_of(old)
        parts = EmbeddedParts(old, partitions)
        skipped = frozenset(
            (key, bytes(value))
            for key, value in old.execute(
                "select key, value from records join skips using (topic, partition, position) where topic = 'events' and value is not null"
            )
        )
        heads, folded = log.read_heads(old), log.read_checkpoints(old)
        stages = {"track_sessions": "events", "score_leads": "lead-activity"}
        not_scored = sum(
            heads.get((source, partition), 0) - folded.get((stage, partition), 0)
            for stage, source in stages.items()
            for partition in range(partitions)
        )
    return RecordedLog(
        parts,
        partitions,
        _number(old, "select count(*) from event_archive"),
        _moment(old),
        skipped,
        not_scored,
        on_kafka,
    )


def _owners(old: Connection, identities: Sequence[int]) -> dict[int, str]:
    rows = old.execute(
        "select identity_key, tenant || '/' || lead_id from identities where identity_key = any(%s)",
        (list(identities),),
    )
    return dict(rows.fetchall())


def _moment(old: Connection) -> int:
    row = old.execute("select min(due_at) from lead_dues").fetchone()
    now = now_ms()
    return now if row is None or row[0] is None else min(now, row[0] - 1)


def _dead_letters(connection: Connection) -> int:
    return _number(connection, "select count(*) from dead_letters")


def _number(connection: Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else 0

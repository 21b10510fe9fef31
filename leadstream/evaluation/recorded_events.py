"""A tenant's events in the exact order of their recording, whatever their order in the log.

Events that were imported later come after younger events in the log, but were recorded before them. A
replay that stops at a moment must have read exactly the events recorded until then. This module reads a
snapshot of the archive, beside a running server, in bounded memory: it sorts on disk what does not fit.
"""

import heapq
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from typing import IO, NamedTuple

from msgspec import msgpack

from leadstream.operations.export import stored_event_of
from leadstream.operations.retention import require_whole_archive
from projections.connection import Connection
from schemas.moment import millis

EVENTS_IN_MEMORY = 100_000
"""How many events are sorted at once; an event has a few hundred bytes, and 64 KB at most."""
_PAGE_ROWS = 2_000
_LENGTH_BYTES = 4


class RecordedEvent(NamedTuple):
    at: int
    """When it was recorded (ms)."""
    log_order: int
    """Its rank in the log: it orders the events of the same moment."""
    key: str
    value: bytes


_decode = msgpack.Decoder(RecordedEvent).decode
_encode = msgpack.Encoder().encode


def count_events(connection: Connection, tenant: str) -> int:
    """How many events of the tenant the archive has. Raises ArchiveShortened if the oldest were removed: every caller
    replays them.
    """
    require_whole_archive(connection)
    row = connection.execute(
        "select count(*) from event_archive where key >= %s and key < %s", _key_range(tenant)
    ).fetchone()
    return row[0] if row else 0


def recorded_events(
    connection: Connection, tenant: str, *, in_memory: int = EVENTS_IN_MEMORY
) -> Iterator[RecordedEvent]:
    """The events without the unreadable ones, which are dead letters. The transaction must stay open. Raises
    ArchiveShortened.
    """
    require_whole_archive(connection)
    unsorted = _archived_events(connection, tenant)
    first = sorted(islice(unsorted, in_memory))
    with ExitStack() as files:
        runs = [iter(first)]
        while run := sorted(islice(unsorted, in_memory)):
            runs.append(_spilled_to_file(files.enter_context(tempfile.TemporaryFile()), run))
        yield from heapq.merge(*runs)


def _archived_events(connection: Connection, tenant: str) -> Iterator[RecordedEvent]:
    with connection.cursor(name=f"recorded_{tenant.replace('-', '_')}", binary=True) as cursor:
        cursor.itersize = _PAGE_ROWS
        cursor.execute(
            "select key, value from event_archive where key >= %s and key < %s order by partition, position",
            _key_range(tenant),
        )
        for log_order, (key, value) in enumerate(cursor):
            stored = stored_event_of(key, bytes(value or b""))
            if stored.readable:
                yield RecordedEvent(millis(stored.recorded_at), log_order, key, stored.value)


def _key_range(tenant: str) -> tuple[str, str]:
    """The range of the tenant's keys, its end excluded: `0` follows `/`."""
    return f"{tenant}/", f"{tenant}0"


def _spilled_to_file(file: IO[bytes], run: list[RecordedEvent]) -> Iterator[RecordedEvent]:
    """Writes the run at once, and reads it again event by event."""
    for each in run:
        raw = _encode(each)
        file.write(len(raw).to_bytes(_LENGTH_BYTES, "big"))
        file.write(raw)
    file.seek(0)
    return _events_in_file(file)


def _events_in_file(file: IO[bytes]) -> Iterator[RecordedEvent]:
    while length := file.read(_LENGTH_BYTES):
        yield _decode(file.read(int.from_bytes(length, "big")))

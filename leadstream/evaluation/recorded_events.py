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

from leadstream.operations.export import as_stored
from projections.connection import Connection
from schemas.moment import millis

IN_MEMORY = 100_000
"""How many events are sorted at once; an event has a few hundred bytes, and 64 KB at most."""
_PAGE = 2_000
_LENGTH = 4


class Recorded(NamedTuple):
    at: int
    """When it was recorded (ms)."""
    log_order: int
    """Its rank in the log: it orders the events of the same moment."""
    key: str
    value: bytes


_decode = msgpack.Decoder(Recorded).decode
_encode = msgpack.Encoder().encode


def events_of(connection: Connection, tenant: str) -> int:
    """How many events of the tenant the archive has."""
    row = connection.execute(
        "select count(*) from event_archive where key >= %s and key < %s", _keys(tenant)
    ).fetchone()
    return row[0] if row else 0


def recorded(connection: Connection, tenant: str, *, in_memory: int = IN_MEMORY) -> Iterator[Recorded]:
    """The events without the unreadable ones, which are dead letters. The transaction must stay open."""
    unsorted = _stored(connection, tenant)
    first = sorted(islice(unsorted, in_memory))
    with ExitStack() as files:
        runs = [iter(first)]
        while run := sorted(islice(unsorted, in_memory)):
            runs.append(_spilled(files.enter_context(tempfile.TemporaryFile()), run))
        yield from heapq.merge(*runs)


def _stored(connection: Connection, tenant: str) -> Iterator[Recorded]:
    with connection.cursor(name=f"recorded_{tenant.replace('-', '_')}", binary=True) as cursor:
        cursor.itersize = _PAGE
        cursor.execute(
            "select key, value from event_archive where key >= %s and key < %s order by partition, position",
            _keys(tenant),
        )
        for log_order, (key, value) in enumerate(cursor):
            stored = as_stored(key, bytes(value or b""))
            if stored.readable:
                yield Recorded(millis(stored.recorded_at), log_order, key, stored.value)


def _keys(tenant: str) -> tuple[str, str]:
    """The range of the tenant's keys, its end excluded: `0` follows `/`."""
    return f"{tenant}/", f"{tenant}0"


def _spilled(file: IO[bytes], run: list[Recorded]) -> Iterator[Recorded]:
    """Writes the run at once, and reads it again event by event."""
    for each in run:
        raw = _encode(each)
        file.write(len(raw).to_bytes(_LENGTH, "big"))
        file.write(raw)
    file.seek(0)
    return _read(file)


def _read(file: IO[bytes]) -> Iterator[Recorded]:
    while length := file.read(_LENGTH):
        yield _decode(file.read(int.from_bytes(length, "big")))

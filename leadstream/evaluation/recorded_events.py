"""A tenant's events exactly in the order in which they were recorded, whatever order the log has them in.

An archive that was imported later stands behind younger events in the log, but was recorded before them:
whoever asks what was known at a moment must not see one event more or less. Reads one moment of the
archive, beside a running server, in bounded memory: what does not fit is sorted on disk.
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
"""Events that are sorted at once; an event is some hundred bytes, and 64 KB at most."""
_PAGE = 2_000
_LENGTH = 4


class Recorded(NamedTuple):
    at: int
    """When it was recorded (ms)."""
    place: int
    """In the log: of one key's events of the same moment the first comes first."""
    key: str
    value: bytes


_decode = msgpack.Decoder(Recorded).decode
_encode = msgpack.Encoder().encode


def events_of(connection: Connection, tenant: str) -> int:
    """How many the archive has."""
    row = connection.execute(
        "select count(*) from event_archive where key >= %s and key < %s", _keys(tenant)
    ).fetchone()
    return row[0] if row else 0


def recorded(connection: Connection, tenant: str, *, in_memory: int = IN_MEMORY) -> Iterator[Recorded]:
    """The events; what cannot be read is a dead letter and left out. The transaction must stay open."""
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
        for place, (key, value) in enumerate(cursor):
            found = as_stored(key, bytes(value or b""))
            if found.readable:
                yield Recorded(millis(found.recorded_at), place, key, found.value)


def _keys(tenant: str) -> tuple[str, str]:
    """From the tenant's first key to behind its last: `0` follows `/`."""
    return f"{tenant}/", f"{tenant}0"


def _spilled(file: IO[bytes], run: list[Recorded]) -> Iterator[Recorded]:
    """Written at once, and read again one by one."""
    for each in run:
        raw = _encode(each)
        file.write(len(raw).to_bytes(_LENGTH, "big"))
        file.write(raw)
    file.seek(0)
    return _read(file)


def _read(file: IO[bytes]) -> Iterator[Recorded]:
    while length := file.read(_LENGTH):
        yield _decode(file.read(int.from_bytes(length, "big")))

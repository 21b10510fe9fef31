"""Exports the events of a log as lines that `import events` reads, with either kind of log.

It writes what producers sent, in the order of recording; the order within a key is kept. It reads one moment of
the archive, also beside a running server, in bounded memory.
"""

import gzip
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, LiteralString, NamedTuple

import psycopg
from msgspec import json

from leadstream.console import Failure
from projections.connection import Connection, connect_watched
from projections.table_definition import READ_OPTIONS
from schemas.record import ERASED_KEY
from streams.recorded_order import RecordedTimes, merged, recorded_times

_PAGE_ROWS = 2_000


class StoredEvent(NamedTuple):
    key: str
    value: bytes
    times: RecordedTimes

    @property
    def recorded_at(self) -> datetime:
        return self.times.recorded_at

    @property
    def readable(self) -> bool:
        return self.times.readable


class ExportCounts(NamedTuple):
    events: int
    left_out: int
    """How many records cannot be read. They are dead letters."""


def write_events(database_url: str, write: Callable[[bytes], object]) -> ExportCounts:
    """Writes every event as one line of JSON, with the time of its recording."""
    events = left_out = 0
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        numbers = connection.execute("select distinct partition from event_archive order by 1").fetchall()
        partitions = [
            stored_events(
                connection,
                "select key, value from event_archive where partition = %s order by position",
                number,
            )
            for (number,) in numbers
        ]
        for each in merged_by_recording(partitions):
            if each.readable:
                write(_on_one_line(each.value) + b"\n")
                events += 1
            else:
                left_out += 1
    return ExportCounts(events, left_out)


def stored_events(connection: Connection, query: LiteralString, partition: int) -> Iterator[StoredEvent]:
    """A partition's records as the query gives them, a page at a time; the transaction must stay open."""
    with connection.cursor(name=f"partition_{partition}") as cursor:
        cursor.itersize = _PAGE_ROWS
        cursor.execute(query, (partition,))
        for key, value in cursor:
            if key == ERASED_KEY:
                continue
            yield stored_event_of(key, bytes(value or b""))


def stored_event_of(key: str, value: bytes) -> StoredEvent:
    """A record of the archive, with the time of its recording."""
    return StoredEvent(key, value, recorded_times(value))


def merged_by_recording(partitions: "list[Iterator[StoredEvent]]") -> Iterator[StoredEvent]:
    """The records of all partitions in the order of recording, as far as their times show it, as an embedded log folds
    them. Each partition keeps its own order: a record that was imported later follows those before it.
    """
    return merged([_timed(partition) for partition in partitions])


def _timed(partition: Iterator[StoredEvent]) -> Iterator[tuple[RecordedTimes, StoredEvent]]:
    times = RecordedTimes()
    for each in partition:
        times = each.times.after(times)
        yield times, each


def _on_one_line(value: bytes) -> bytes:
    return json.format(value, indent=-1) if b"\n" in value or b"\r" in value else value


@contextmanager
def opened_output(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with path.open("wb") as plain:
            if path.suffix != ".gz":
                yield plain
                return
            # No name and no time in it: the same events give the same file.
            with gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0) as packed:
                yield packed  # type: ignore[misc] # it takes bytes like any file
    except OSError as cause:
        raise Failure(f"{path} cannot be written ({cause.strerror}).") from cause

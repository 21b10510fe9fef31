"""The store as a command finds it: beside a running server through its inlet, else opened by itself.

Commands say what to append and wait until it is scored; they never care which of the two it is.
"""

import http.client
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
from msgspec import json

from leadstream.inlet import InletError, Note, append_to, running_server
from leadstream.postgres import find_postgres
from leadstream.settings import Settings
from leadstream.show import Failure, progress
from leadstream.wiring import System, now_ms, open_system, status_port
from schemas.record import Outgoing, Record
from streams.embedded.driver import NotStored
from streams.embedded.log import LogRefused, partitions_of
from streams.embedded.waiting import Busy, Stopped

_AHEAD = 8
"""Appends that may be on their way to the disk."""
_POLL_SECONDS = 0.2


class Store(NamedTuple):
    append: Callable[[Sequence[Outgoing]], None]
    """Takes records in order; they may still be on their way when it returns."""
    settle: Callable[[Callable[[int], None]], None]
    """Returns when everything appended is durable and scored, also as of now where time alone changes a
    score; tells how many records and leads are left."""
    database_url: str
    partitions: int
    address: str | None
    """Of the running server."""


@contextmanager
def reach_store(settings: Settings) -> Iterator[Store]:
    note = running_server(settings.data_dir)
    if note is not None:
        yield _beside(note, database_beside(settings))
        return
    with open_system(settings) as system:
        yield own_store(system)


def settle(store: Store) -> None:
    """`store.settle`, with a bar."""
    most = 1

    def told(left: int) -> None:
        nonlocal most
        most = max(most, left)
        report(1 - left / most)

    with progress("Scoring", 1.0) as report:
        store.settle(told)


def database_beside(settings: Settings) -> str:
    """The database that a server on this data directory uses, for reading beside it. Raises Failure."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    url = find_postgres(settings.data_dir)
    if url is None:
        raise Failure(
            f"No database runs in {settings.data_dir}: start `leadstream serve` on it, or give --data-dir."
        )
    return url


def _beside(note: Note, database_url: str) -> Store:
    def append(records: Sequence[Outgoing]) -> None:
        try:
            append_to(note, records)
        except InletError as cause:
            raise Failure(str(cause)) from cause

    def settle(report: Callable[[int], None]) -> None:
        _wait(lambda: status_of(note), database_url, report)

    return Store(append, settle, database_url, _partitions(database_url), note.address)


def _partitions(database_url: str) -> int:
    try:
        with psycopg.connect(database_url) as connection:
            return partitions_of(connection)
    except LogRefused as cause:
        raise Failure(str(cause)) from cause
    except psycopg.OperationalError as cause:
        raise Failure(f"The database cannot be reached: {' '.join(str(cause).split())}.") from cause


def status_of(note: Note) -> Mapping[str, object]:
    """What the server says at /ready. Raises Failure."""
    try:
        with urlopen(f"{note.address}/ready", timeout=30) as answer:  # noqa: S310 - our own note, http only
            return json.decode(answer.read(), type=dict[str, object])
    except URLError as cause:
        body = getattr(cause, "read", bytes)()  # 503 tells its reason in the same shape
        try:
            return json.decode(body, type=dict[str, object])
        except ValueError:
            raise Failure(f"The server at {note.address} went away: what it had taken, it keeps.") from cause
    except (OSError, http.client.HTTPException) as cause:
        raise Failure(f"The server at {note.address} went away: what it had taken, it keeps.") from cause


def own_store(system: System) -> Store:
    under_way: deque[Future[list[Record]]] = deque()
    status = status_port(system.driver)

    def append(records: Sequence[Outgoing]) -> None:
        while len(under_way) >= _AHEAD:
            _stored(under_way.popleft())
        while True:
            try:
                under_way.append(system.driver.append(records))
            except Busy:
                time.sleep(0.05)
            except Stopped as cause:
                raise Failure(f"The log has stopped: {cause}.") from cause
            else:
                return

    def settle(report: Callable[[int], None]) -> None:
        while under_way:
            _stored(under_way.popleft())
        _wait(status, system.database_url, report)

    return Store(append, settle, system.database_url, system.driver.partitions, None)


def _stored(appended: "Future[list[Record]]") -> None:
    try:
        appended.result()
    except NotStored as cause:
        raise Failure(f"{cause}. Mend that and repeat the command: nothing is counted twice.") from cause


def _wait(
    status: Callable[[], Mapping[str, object]], database_url: str, report: Callable[[int], None]
) -> None:
    """Until nothing is left to fold, nor any lead to be looked at whose time had come when this began.

    Raises Failure when folding stands still.
    """
    begun = now_ms()
    with psycopg.connect(database_url, autocommit=True) as connection:
        while True:
            told = status()
            if told.get("ready") is False:
                raise Failure(
                    f"Scoring stands still ({told.get('reason')}); the events are stored. `leadstream doctor` says "
                    "more, and `leadstream skip` passes over a record that cannot be folded."
                )
            backlog = told.get("backlog")
            overdue = connection.execute("select count(*) from dues where due_at <= %s", (begun,)).fetchone()
            left = (backlog if isinstance(backlog, int) else 0) + (overdue[0] if overdue else 0)
            report(left)
            if left == 0:
                return
            time.sleep(_POLL_SECONDS)

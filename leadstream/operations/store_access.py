"""The store as a command finds it: beside a running server through its inlet, else opened by itself.

With settings that say Kafka and no server, it appends to Kafka itself, and workers elsewhere score.
Commands say what to append and wait until it is scored; they never care which of these it is.
"""

import http.client
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
from msgspec import json

from gateway.ports import Status
from leadstream.console import Failure, progress
from leadstream.embedded_postgres import PostgresUnavailable, find_postgres
from leadstream.operations.control_socket import ControlSocketError, ServerNote, append_to, running_server
from leadstream.settings import Settings, variable
from leadstream.wiring import System, explained, in_every_partition, now_ms, open_system, status_of_driver
from projections.connection import connect
from projections.tables import READ_OPTIONS
from schemas.record import Outgoing, Record
from schemas.topics import SHARED
from streams.embedded.driver import NotStored
from streams.embedded.waiting import Busy, Stopped

_AHEAD = 8
"""Appends that may be on their way to the disk."""
_POLL_SECONDS = 0.2
_RECOVERING_SECONDS = 60.0
"""How long parts of a system on Kafka may be away or restoring, until scoring is said to stand still."""


class StoreAccess(NamedTuple):
    append: Callable[[Sequence[Outgoing]], None]
    """Takes records in order; they may still be on their way when it returns. One that concerns whole
    shards and names no partition goes into every one, and is durable when it returns.
    """
    settle: Callable[[Callable[[int], None]], None]
    """Returns when everything appended is durable and scored, also as of now where time alone changes a
    score; tells how many records and leads are left."""
    database_url: str
    address: str | None
    """Of the running server."""


@contextmanager
def open_store(settings: Settings) -> Iterator[StoreAccess]:
    """Raises Failure."""
    note = running_server(settings.data_dir)
    with explained(settings):
        if note is not None:
            yield _beside(note, database_beside(settings))
        elif settings.kafka is not None:
            from leadstream.operations.store_access_kafka import kafka_store  # noqa: PLC0415 - most commands need no Kafka

            with kafka_store(settings, database_beside(settings)) as store:
                yield store
        else:
            with open_system(settings) as system:
                yield own_store(system)


def as_served(settings: Settings) -> Settings:
    """The settings, with Kafka where the server on the same data directory has it, if one runs. Raises
    Failure if they name another one.
    """
    note = running_server(settings.data_dir)
    if note is None or note.kafka is None:
        return settings
    where = {"kafka": note.kafka.brokers, "kafka_prefix": note.kafka.prefix, "kafka_app": note.kafka.app}
    for name, there in where.items():
        given = getattr(settings, name)
        if name in settings.model_fields_set and given != there:
            raise Failure(
                f"{variable(name)} is {given!r}, and the server at {note.address} (pid {note.pid}) has {there!r}: unset "
                "it, stop that server, or give another --data-dir."
            )
    return settings.model_copy(update=where)


def settle(store: StoreAccess) -> None:
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
    try:
        url = find_postgres(settings.data_dir)
    except PostgresUnavailable as cause:
        raise Failure(str(cause)) from cause
    if url is None:
        raise Failure(
            f"No database runs in {settings.data_dir}: start `leadstream serve"
            f"{' --kafka` (or `project` and `worker`)' if settings.kafka else '`'} on it, or give --data-dir."
        )
    return url


def _beside(note: ServerNote, database_url: str) -> StoreAccess:
    def append(records: Sequence[Outgoing]) -> None:
        try:
            append_to(note, records)
        except ControlSocketError as cause:
            raise Failure(str(cause)) from cause

    def settle(report: Callable[[int], None]) -> None:
        patience = 0.0 if note.kafka is None else _RECOVERING_SECONDS
        wait_until_scored(lambda: status_of(note), database_url, report, patience=patience)

    return StoreAccess(append, settle, database_url, note.address)


def status_of(note: ServerNote) -> Status:
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


def own_store(system: System) -> StoreAccess:
    under_way: deque[Future[list[Record]]] = deque()
    driver = system.driver

    def append(records: Sequence[Outgoing]) -> None:
        while len(under_way) >= _AHEAD:
            _stored(under_way.popleft())
        placed = in_every_partition(records, driver.partitions)
        while True:
            try:
                under_way.append(driver.append(placed))
                if any(record.key == SHARED for record in records):
                    _stored(under_way.pop())
            except Busy:
                time.sleep(0.05)
            except Stopped as cause:
                raise Failure(f"The log has stopped: {cause}.") from cause
            else:
                return

    def settle(report: Callable[[int], None]) -> None:
        while under_way:
            _stored(under_way.popleft())
        wait_until_scored(lambda: status_of_driver(driver), system.database_url, report)

    return StoreAccess(append, settle, system.database_url, None)


def _stored(appended: "Future[list[Record]]") -> None:
    try:
        appended.result()
    except NotStored as cause:
        raise Failure(f"{cause}. Mend that and repeat the command: nothing is counted twice.") from cause


def wait_until_scored(
    status: Callable[[], Status], database_url: str, report: Callable[[int], None], *, patience: float = 0.0
) -> None:
    """Until nothing is left to fold, nor any lead to be looked at whose time had come when this began.

    Raises Failure when scoring stands still, without getting on for longer than `patience`.
    """
    begun, moved_at = now_ms(), time.monotonic()
    least: int | None = None
    done = False
    with connect(database_url, autocommit=True, options=READ_OPTIONS) as connection:
        while True:
            told = status()
            left = _left(told, connection, begun)
            if left is not None and (least is None or left < least):
                least, moved_at = left, time.monotonic()
            if told.get("ready") is False and time.monotonic() - moved_at >= patience:
                raise Failure(
                    f"Scoring stands still ({told.get('reason')}); the events are stored. `leadstream doctor` says "
                    "more, and `leadstream skip` passes over a record that cannot be folded."
                )
            if left is not None:
                report(left)
            if left == 0 and done:  # twice: what one part has done may be on its way to the next
                return
            done = left == 0
            time.sleep(_POLL_SECONDS)


def _left(told: Status, connection: psycopg.Connection[Any], moment: int) -> int | None:
    """Records to be scored and leads that are overdue; None: that is not known now."""
    backlog = told.get("backlog")
    if not isinstance(backlog, int):
        return None
    row = connection.execute("select count(*) from lead_dues where due_at <= %s", (moment,)).fetchone()
    return backlog + (row[0] if row else 0)

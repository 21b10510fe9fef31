"""What a command does with a store: append records, and wait until they are scored.

The store of a running server is reached through its control socket; another one is opened in this process.
`open_store` chooses. The commands do not care which it is.
"""

import http.client
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
from msgspec import json

from gateway.ports import ReadinessStatus
from leadstream.clock import now_ms
from leadstream.console import Failure, progress_bar
from leadstream.operations.control_socket import ControlSocketError, ServerNote, append_to
from leadstream.wiring import System, repeated_for_every_partition, status_of_driver
from projections.connection import connect_watched
from projections.table_definition import READ_OPTIONS
from schemas.record import Outgoing, Record
from schemas.topics import PARTITION_WIDE_KEY
from streams.embedded.driver import NotStored
from streams.embedded.waiting import AppenderStopped, AppendQueueFull

_MOST_APPENDS_AHEAD = 8
"""Appends that may be on their way to the disk."""
_POLL_SECONDS = 0.2
_RECOVERING_SECONDS = 60.0
"""How long parts of a system on Kafka may be unavailable or restoring before scoring counts as halted."""
STALLED_SECONDS = 600.0
"""How long nothing may be stored, or scored, although every part says that it works."""


class StoreAccess(NamedTuple):
    append: Callable[[Sequence[Outgoing]], None]
    """Takes records in order; they may still be on their way when it returns. One that concerns whole
    shards and names no partition goes into every one, and is durable when it returns.
    """
    settle: Callable[[Callable[[int], None]], None]
    """Returns when everything appended is durable and scored, also as of now where time alone changes a
    score; reports how many records and leads are left."""
    database_url: str
    address: str | None
    """Of the running server."""


def settle_with_bar(store: StoreAccess) -> None:
    """`store.settle`, with a bar."""
    most = 1

    def report_share(left: int) -> None:
        nonlocal most
        most = max(most, left)
        report(1 - left / most)

    with progress_bar("Scoring", 1.0) as report:
        store.settle(report_share)


def store_of_running_server(note: ServerNote, database_url: str) -> StoreAccess:
    def append(records: Sequence[Outgoing]) -> None:
        try:
            append_to(note, records)
        except ControlSocketError as cause:
            raise Failure(str(cause)) from cause

    def settle(report: Callable[[int], None]) -> None:
        patience = 0.0 if note.kafka is None else _RECOVERING_SECONDS
        wait_until_scored(lambda: server_status(note), database_url, report, patience=patience)

    return StoreAccess(append, settle, database_url, note.address)


def server_status(note: ServerNote) -> ReadinessStatus:
    """The server's answer at /ready. Raises Failure."""
    try:
        with urlopen(f"{note.address}/ready", timeout=30) as answer:  # noqa: S310 - our own note, http only
            return json.decode(answer.read(), type=dict[str, object])
    except URLError as cause:
        body = getattr(cause, "read", bytes)()  # 503 has its reason in the same shape
        try:
            return json.decode(body, type=dict[str, object])
        except ValueError:
            raise Failure(
                f"The server at {note.address} has stopped: it keeps every event that it accepted."
            ) from cause
    except (OSError, http.client.HTTPException) as cause:
        raise Failure(
            f"The server at {note.address} has stopped: it keeps every event that it accepted."
        ) from cause


def store_of_system(system: System) -> StoreAccess:
    under_way: deque[Future[list[Record]]] = deque()
    driver = system.driver

    def append(records: Sequence[Outgoing]) -> None:
        while len(under_way) >= _MOST_APPENDS_AHEAD:
            _wait_until_stored(under_way.popleft())
        placed = repeated_for_every_partition(records, driver.partitions)
        while True:
            try:
                under_way.append(driver.append(placed))
                if any(record.key == PARTITION_WIDE_KEY for record in records):
                    _wait_until_stored(under_way.pop())
            except AppendQueueFull:
                time.sleep(0.05)
            except AppenderStopped as cause:
                raise Failure(f"The log has stopped: {cause}.") from cause
            else:
                return

    def settle(report: Callable[[int], None]) -> None:
        while under_way:
            _wait_until_stored(under_way.popleft())
        wait_until_scored(lambda: status_of_driver(driver), system.database_url, report)

    return StoreAccess(append, settle, system.database_url, None)


def _wait_until_stored(appended: "Future[list[Record]]") -> None:
    try:
        appended.result(STALLED_SECONDS)
    except TimeoutError as cause:
        raise Failure(
            f"The log has stored nothing for {STALLED_SECONDS / 60:.0f} minutes: look at PostgreSQL and its disk. Then repeat "
            "the command: nothing is counted twice."
        ) from cause
    except NotStored as cause:
        raise Failure(f"{cause}. Fix that and repeat the command: nothing is counted twice.") from cause


def wait_until_scored(
    status: Callable[[], ReadinessStatus],
    database_url: str,
    report: Callable[[int], None],
    *,
    patience: float = 0.0,
) -> None:
    """Returns when no record is left to score, nor any lead whose timer had fired when this began.

    Raises Failure when scoring is halted and makes no progress for longer than `patience`, or makes none for very long.
    """
    begun, moved_at = now_ms(), time.monotonic()
    before: int | None = None
    done = False
    with connect_watched(database_url, autocommit=True, options=READ_OPTIONS) as connection:
        while True:
            current = status()
            left = _work_left(current, connection, begun)
            if left is not None:
                moved_at = time.monotonic() if before is None or left < before else moved_at
                before = left
            if current.get("ready") is False and time.monotonic() - moved_at >= patience:
                raise Failure(
                    f"Scoring is halted ({current.get('reason')}); the events are stored. `leadstream doctor` shows "
                    "more, and `leadstream skip` skips a record that cannot be processed."
                )
            if time.monotonic() - moved_at >= STALLED_SECONDS:
                raise Failure(
                    f"Nothing was scored for {STALLED_SECONDS / 60:.0f} minutes ({_words_for(left)}); the events are stored. "
                    "`leadstream doctor` shows more, and so does the log of what scores: the server or `leadstream worker`."
                )
            if left is not None:
                report(left)
            if left == 0 and done:  # twice: what one part has done may be on its way to the next
                return
            done = left == 0
            time.sleep(_POLL_SECONDS)


def _words_for(left: int | None) -> str:
    return "how much is left is unknown" if left is None else f"{left:,} records and leads are left"


def _work_left(status: ReadinessStatus, connection: psycopg.Connection[Any], moment: int) -> int | None:
    """Records to be scored and leads that are overdue; None if that is unknown now."""
    backlog = status.get("backlog")
    if not isinstance(backlog, int):
        return None
    row = connection.execute("select count(*) from lead_dues where due_at <= %s", (moment,)).fetchone()
    return backlog + (row[0] if row else 0)

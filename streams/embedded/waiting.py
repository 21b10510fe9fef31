"""The requests that wait to be appended: a bounded queue from any thread to the appender's.

A request is never split and never reordered. Memory is bounded: a full queue rejects a request with `AppendQueueFull`
and keeps nothing of it.
"""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from schemas.record import Outgoing, Record

MOST_WAITING_RECORDS = 20_000
MOST_WAITING_BYTES = 64 * 1024 * 1024


class AppendQueueFull(Exception):
    """Too much waits to be appended; come back in `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too much waits to be appended: come back in {retry_after:.0f} s")
        self.retry_after = retry_after


class AppenderStopped(RuntimeError):
    """The appender has stopped: nothing is appended any more."""


class AppendRequest(NamedTuple):
    records: Sequence[Outgoing]
    size: int
    appended: "Future[list[Record]]"


class AppendQueue:
    def __init__(
        self, most_records: int = MOST_WAITING_RECORDS, most_bytes: int = MOST_WAITING_BYTES
    ) -> None:
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._requests: deque[AppendRequest] = deque()
        self._records = 0
        self._bytes = 0
        self._closed: str | None = None
        self._nudged = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """How many records wait."""
        return self._records

    @property
    def closed(self) -> bool:
        return self._closed is not None

    def put(self, records: Sequence[Outgoing]) -> "Future[list[Record]]":
        """Raises Busy, Stopped, or ValueError for a request that no queue could ever accept."""
        size = sum(len(record.key) + len(record.value or b"") for record in records)
        if len(records) > self._most_records or size > self._most_bytes:
            raise ValueError(
                f"one request may append {self._most_records} records of {self._most_bytes} bytes together, "
                f"not {len(records)} of {size}: split it"
            )
        request = AppendRequest(records, size, Future())
        with self._changed:
            if self._closed is not None:
                raise AppenderStopped(self._closed)
            if self._records + len(records) > self._most_records or self._bytes + size > self._most_bytes:
                raise AppendQueueFull(1.0)
            self._requests.append(request)
            self._records += len(records)
            self._bytes += size
            self._changed.notify()
        return request.appended

    def take(self, most_records: int, patience: float) -> list[AppendRequest]:
        """The requests that wait, oldest first: about `most_records` records, at least one request.

        Waits `patience` seconds for the first one; ends early when nudged or closed. Leaves out requests
        that their callers have cancelled.
        """
        with self._changed:
            if patience > 0:
                self._changed.wait_for(lambda: self._requests or self._closed or self._nudged, patience)
            self._nudged = False
            taken: list[AppendRequest] = []
            count = 0
            while self._requests and count < most_records:
                request = self._requests.popleft()
                self._records -= len(request.records)
                self._bytes -= request.size
                if request.appended.set_running_or_notify_cancel():
                    taken.append(request)
                    count += len(request.records)
            return taken

    def nudge(self) -> None:
        """Ends a wait: there is work besides appending."""
        with self._changed:
            self._nudged = True
            self._changed.notify()

    def close(self, reason: str) -> None:
        """Rejects new requests; those that wait can still be taken."""
        with self._changed:
            self._closed = self._closed or reason
            self._changed.notify()

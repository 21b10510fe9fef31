"""The embedded driver: one thread that appends the records of producers and folds them, transaction by transaction.

A future is resolved only when its records are on disk. A fold or a projection that fails halts folding,
loudly, and is tried again every few seconds; meanwhile records are appended all the same. The driver waits
for an unavailable database and looks a commit in doubt up in the log, so nothing is lost or appended twice.
Folds never see this thread's clocks: the time comes from `now`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import psycopg
import structlog

from schemas.record import LogPartition, Outgoing, Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, PARTITION_WIDE_KEY
from streams.embedded import log
from streams.embedded.waiting import AppendQueue, AppendRequest
from streams.embedded.writer import AnyStage, ConnectToDatabase, ProjectRecords, Writer
from streams.engine.shard import FoldFailed

MOST_RECORDS_PER_COMMIT = 2_000
"""Records appended in one transaction, about."""
TICK_SECONDS = 1.0
RETRY_SECONDS = 3.0

_log = structlog.get_logger(__name__)


class NotStored(RuntimeError):
    """The records were not appended; nothing of them is in the log."""


@dataclass(frozen=True)
class FoldingHalt:
    """Why folding is halted. `record` is the one that a fold failed on, if a fold failed."""

    cause: str
    since: int
    record: Record | None = None


@dataclass(frozen=True)
class DriverStatus:
    alive: bool
    """Whether appends are accepted; once False, it stays so."""
    partitions: int
    positions: dict[LogPartition, int]
    """(topic, partition) -> the next position."""
    backlog: dict[str, int]
    """Stage -> records it has yet to fold."""
    waiting: int
    """Records accepted that are not yet on disk."""
    last_commit_at: int | None
    failing: FoldingHalt | None


class Driver:
    """`database` gives the URL, again after every loss; `now` is the wall clock in milliseconds.

    `genesis` is appended to an empty log; a record in it without a partition goes to every one.
    """

    def __init__(
        self,
        database: Callable[[], str],
        stages: Sequence[AnyStage],
        *,
        now: Callable[[], int],
        partitions: int | None = None,
        genesis: Sequence[Outgoing] = (),
        project: ProjectRecords | None = None,
        connect: ConnectToDatabase = psycopg.connect,
    ) -> None:
        self._database = database
        self._stages = {stage.source: stage for stage in stages}
        self._now = now
        self._genesis = genesis
        self._project = project
        self._connect = connect
        self._partitions = partitions
        self._waiting = AppendQueue()
        self._writer: Writer | None = None
        self._taken: list[AppendRequest] = []
        self._doubt: list[Record] = []
        """The records of the taken requests as they are in the log, if the interrupted commit was done."""
        self._failing: FoldingHalt | None = None
        self._retry_at = 0.0
        self._tick_at = 0.0
        self._last_commit_at: int | None = None
        self._positions: dict[LogPartition, int] = {}
        self._backlog: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="appender", daemon=True)

    def start(self) -> None:
        """Opens the log and begins. Raises LogRefused, or psycopg's error if there is no database."""
        self._writer = self._open()
        self._thread.start()

    def append(self, records: Sequence[Outgoing]) -> "Future[list[Record]]":
        """From any thread. The records stay together and in order; the result has their positions.

        Raises Busy, Stopped, or ValueError for what the log could never contain.
        """
        for record in records:
            self._check(record)
        return self._waiting.put(records)

    def publish(self, events_value: bytes, activity_value: bytes) -> "Future[list[Record]]":
        """Appends a control record to every partition of both sources, all or none."""
        partitions = range(self.partitions)
        return self.append(
            [
                Outgoing(topic, PARTITION_WIDE_KEY, value, partition)
                for topic, value in ((EVENTS, events_value), (LEAD_ACTIVITY, activity_value))
                for partition in partitions
            ]
        )

    def skip(self, topic: str, partition: int, position: int, reason: str) -> None:
        """Makes the record a dead letter instead of folding it, and tries again at once.

        Raises LogRefused for a record that can no longer be skipped.
        """
        stage = self._stages.get(topic)
        if stage is None:
            raise log.LogRefused(f"No stage folds {topic}: there is nothing to skip.")
        with self._connect(self._database()) as connection:
            log.write_skip(connection, stage.name, topic, partition, position, reason)
        self._retry_at = 0.0
        self._waiting.nudge()

    def status(self) -> DriverStatus:
        return DriverStatus(
            alive=self._thread.is_alive(),
            partitions=self.partitions,
            positions=self._positions,
            backlog=self._backlog,
            waiting=len(self._waiting),
            last_commit_at=self._last_commit_at,
            failing=self._failing,
        )

    @property
    def partitions(self) -> int:
        if self._partitions is None:
            raise RuntimeError("the driver was not started")
        return self._partitions

    def stop(self, patience: float = 30.0) -> None:
        """Rejects new requests, stores those that wait, and ends. The next start folds what is not folded yet."""
        self._waiting.close("Leadstream is stopping")
        if self._thread.ident is not None:
            self._thread.join(patience)

    def _check(self, record: Outgoing) -> None:
        if record.topic not in log.APPEND_ONLY_TOPICS and record.topic not in log.COMPACTED_TOPICS:
            raise ValueError(f"there is no topic {record.topic!r}")
        if record.partition is not None and not 0 <= record.partition < self.partitions:
            raise ValueError(f"there is no partition {record.partition}: there are {self.partitions}")
        if "\0" in record.key:
            raise ValueError("a key cannot contain the character NUL")
        record.key.encode()  # raises UnicodeEncodeError, a ValueError, for lone surrogates

    def _open(self) -> Writer:
        writer = Writer(
            self._database(),
            list(self._stages.values()),
            partitions=self._partitions,
            genesis=self._genesis,
            project=self._project,
            connect=self._connect,
        )
        self._partitions = writer.partitions
        self._observe(writer)
        return writer

    def _run(self) -> None:
        try:
            while not (self._waiting.closed and not len(self._waiting) and not self._taken):
                self._step()
        except BaseException as error:  # noqa: BLE001 - whatever it is, no caller may wait for a dead thread
            _log.critical("the appender died", exc_info=error)
            self._failing = FoldingHalt(f"the appender died: {error!r}", self._now())
        finally:
            self._waiting.close("the appender has ended")
            self._taken += self._waiting.take(len(self._waiting), 0)
            self._refuse(NotStored("Leadstream stopped before these records were stored"))
            if self._writer is not None:
                self._writer.close()

    def _step(self) -> None:
        writer = self._writer or self._reopen()
        if writer is None:
            return
        if not self._taken:
            self._taken = self._waiting.take(MOST_RECORDS_PER_COMMIT, self._patience(writer))
        outgoing = [record for request in self._taken for record in request.records]
        try:
            if self._failing is not None and time.monotonic() < self._retry_at:
                appended = writer.commit_unfolded(outgoing) if outgoing else []
            else:
                appended = self._commit(writer, outgoing)
        except Exception as error:  # noqa: BLE001 - a fold may raise anything, and appending must go on
            if writer.unavailable:
                self._wait_for_database(writer, outgoing, error)
            else:
                self._fail(error)
                self._append_alone(writer, outgoing, error)
        else:
            self._resolve(appended)
            self._observe(writer)

    def _commit(self, writer: Writer, outgoing: Sequence[Outgoing]) -> list[Record]:
        if self._failing is not None:
            writer.reread_skips()
        now = None
        if not writer.has_work and time.monotonic() >= self._tick_at:
            now = self._now()
        appended = writer.commit(outgoing, now) if outgoing or writer.has_work or now is not None else []
        if now is not None:
            self._tick_at = 0.0 if writer.more_timers else time.monotonic() + TICK_SECONDS
        if self._failing is not None and not self._halted_before(writer):
            _log.info("folding goes on", after=self._failing.cause)
            self._failing = None
        return appended

    def _halted_before(self, writer: Writer) -> bool:
        """Whether the record that failed is still to be folded: a short commit may not have reached it."""
        record = self._failing.record if self._failing is not None else None
        return record is not None and writer.has_position_of(record) and not writer.folded(record)

    def _patience(self, writer: Writer) -> float:
        """How long to wait for requests before doing something else."""
        if self._failing is not None:
            return max(0.0, self._retry_at - time.monotonic())
        if writer.has_work:
            return 0.0
        return max(0.0, self._tick_at - time.monotonic())

    def _append_alone(self, writer: Writer, outgoing: Sequence[Outgoing], failure: Exception) -> None:
        """Keeps the records of producers. If a fold failed on a record that this very transaction made, the
        stages before it fold once more, so that the record is in the log and can be skipped.
        """
        is_new = isinstance(failure, FoldFailed) and not writer.has_position_of(failure.record)
        if not outgoing and not is_new:
            return
        try:
            if isinstance(failure, FoldFailed) and is_new:
                appended = writer.commit(outgoing, before=failure.stage)
                self._retry_at = 0.0
            else:
                appended = writer.commit_unfolded(outgoing)
        except Exception as error:  # noqa: BLE001 - every waiting caller gets it
            if writer.unavailable:
                self._wait_for_database(writer, outgoing, error)
                return
            _log.exception("records could not be stored", records=len(outgoing))
            self._refuse(NotStored(f"the log cannot store records: {error}"))
        else:
            self._resolve(appended)
            self._observe(writer)

    def _fail(self, error: Exception) -> None:
        record = error.record if isinstance(error, FoldFailed) else None
        cause = f"{error}: {error.__cause__!r}" if error.__cause__ is not None else f"{error!r}"
        if self._failing is None or self._failing.cause != cause:
            _log.error("folding is halted; records are accepted", cause=cause, exc_info=error)
            self._failing = FoldingHalt(cause, self._now(), record)
        self._retry_at = time.monotonic() + RETRY_SECONDS

    def _wait_for_database(self, writer: Writer, outgoing: Sequence[Outgoing], error: Exception) -> None:
        _log.error("the database is unavailable; waiting for it", cause=str(error))
        self._failing = FoldingHalt(f"the database is unavailable: {error}", self._now())
        self._doubt = writer.as_appended(outgoing)
        self._writer = None
        self._retry_at = 0.0
        writer.close()

    def _reopen(self) -> Writer | None:
        """The new writer, or None after a pause; while stopping, not a second time."""
        try:
            writer = self._open()
            done = bool(self._doubt) and writer.contains(self._doubt[0])
        except Exception as error:  # noqa: BLE001 - every waiting caller gets it
            since = self._now() if self._failing is None else self._failing.since
            self._failing = FoldingHalt(f"the database is unavailable: {error}", since)
            if self._waiting.closed:
                self._taken += self._waiting.take(len(self._waiting), 0)
                self._refuse(NotStored(f"the database is unavailable: {error}"))
            else:
                time.sleep(0.5)
            return None
        if done:
            self._resolve(self._doubt)
        self._doubt = []
        self._writer = writer
        return writer

    def _resolve(self, appended: list[Record]) -> None:
        """Answers the taken requests with their records as appended."""
        taken, self._taken, begin = self._taken, [], 0
        for request in taken:
            end = begin + len(request.records)
            request.appended.set_result(appended[begin:end])
            begin = end

    def _refuse(self, error: Exception) -> None:
        taken, self._taken = self._taken, []
        for request in taken:
            request.appended.set_exception(error)

    def _observe(self, writer: Writer) -> None:
        positions = writer.heads
        if positions != self._positions:
            self._last_commit_at = self._now()
        self._positions, self._backlog = positions, writer.backlog

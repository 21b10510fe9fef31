"""Builds Kafka mode: the topics, the gateway's append to Kafka, and the projection.

The gateway also opens while Kafka and Postgres are unavailable, and reports that. Each part waits for what is
unavailable; a part that fails ends the process. The worker is in `all_in_one`, because it needs Faust, which
takes long to load.
"""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import NamedTuple

import structlog
from aiokafka.errors import KafkaError

from gateway.ports import AppendRecords, LogUnavailable, Ports, ReadinessStatus
from leadstream.clock import utc_now
from leadstream.console import Failure
from leadstream.contacts import with_address_lookup
from leadstream.delivering import OpenAppend
from leadstream.operations.kafka_projection import run_projection
from leadstream.operations.lag import PROJECTION_STEP, Backlog, LagMeter, open_lag_meter
from leadstream.operations.projection_pages import serve_pages
from leadstream.settings import Settings
from leadstream.stages import SOURCE_BY_STAGE
from leadstream.wiring import analytics_running, genesis, make_ports, retention_running
from projections.metrics import UnprojectedRecords, exposition
from projections.migrate import OutdatedError
from projections.positions import PositionGapError
from projections.rows import UnreadableRecordError
from projections.source import SourceError
from schemas.record import LogUnreadableError, Outgoing
from schemas.topics import PARTITION_WIDE_KEY
from streams.kafka.append import KafkaAppend
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.following import PositionOutOfRange
from streams.kafka.journal import Journal, most_starts_and_fencings
from streams.kafka.topics import (
    TopicsMissing,
    TopicsRefused,
    create_topics,
    partition_count_of,
    publish_records,
)

_DATABASE_SECONDS = 1.0
"""How long to wait for Postgres: /ready must answer within two seconds."""
_ANSWER_SECONDS = 4.0
"""How long to wait for Kafka before it counts as unavailable."""

_log = structlog.get_logger(__name__)


class PartFailed(Failure):
    """A part of the process has failed, so the process ends: a supervisor starts it again."""

    code = 3


@contextmanager
def kafka_errors_explained() -> Iterator[None]:
    """Turns errors of Kafka that the user can fix into a Failure that names the fix."""
    try:
        yield
    except (
        KafkaUnavailable,
        TopicsRefused,
        PositionOutOfRange,
        PositionGapError,
        UnreadableRecordError,
        LogUnreadableError,
    ) as cause:
        raise Failure(str(cause)) from cause
    except (KafkaError, TimeoutError) as cause:
        raise Failure(
            f"Kafka does not answer properly ({cause!r}). `leadstream doctor` shows more."
        ) from cause


async def make_topics(settings: Settings, creating: Callable[[], None] = lambda: None) -> list[str]:
    """Creates the missing topics and the first records of the log. Returns the names of the new topics. Calls
    `creating` before, if there are no topics at all.

    Without a setting, existing topics keep their number of partitions. Raises KafkaUnavailable, TopicsRefused.
    """
    cluster, partitions = settings.cluster, settings.partitions
    try:
        existing = await partition_count_of(cluster)
    except TopicsMissing:
        creating()
    else:
        partitions = partitions if "partitions" in settings.model_fields_set else existing
    return await create_topics(
        cluster, partitions=partitions, replication=settings.kafka_replication, genesis=genesis(utc_now())
    )


# The gateway


def append_port_on_kafka(append: KafkaAppend, cluster: Cluster) -> AppendRecords:
    """Appends events; records for whole shards go into every partition in one transaction."""

    async def append_or_publish(records: Sequence[Outgoing]) -> None:
        try:
            if any(record.key == PARTITION_WIDE_KEY for record in records):
                await publish_records(cluster, records)
            else:
                await append(records)
        except KafkaUnavailable as cause:
            raise LogUnavailable(str(cause), retry_after_s=cause.retry_after) from cause
        except TopicsRefused as cause:
            raise LogUnavailable(str(cause)) from cause

    return append_or_publish


def kafka_append(settings: Settings) -> OpenAppend:
    """Opens an append to Kafka of its own, on the event loop that uses it."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AppendRecords]:
        append = KafkaAppend(settings.cluster)
        await append.start()
        try:
            yield append_port_on_kafka(append, settings.cluster)
        finally:
            await append.stop()

    return opened


class MeasuredBacklog(NamedTuple):
    backlog: Backlog
    restarts: Mapping[str, int]
    """Recent restarts by process, and how many were fenced."""
    halt_reason: str | None
    """Why no process works on the backlog, if none does."""


class SharedBacklog:
    """Measures the backlog for all callers: calls that come during a measurement share the next one."""

    def __init__(self, cluster: Cluster, database_url: str) -> None:
        self._cluster = cluster
        self._database_url = database_url
        self._open = AsyncExitStack()
        self._lag: LagMeter | None = None
        self._running: asyncio.Task[MeasuredBacklog | None] | None = None
        self._next: asyncio.Task[MeasuredBacklog | None] | None = None

    async def __call__(self) -> MeasuredBacklog | None:
        """None while Kafka does not answer."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running), name="measure the backlog")
        return await asyncio.shield(self._next)

    async def _after(self, running: "asyncio.Task[MeasuredBacklog | None] | None") -> MeasuredBacklog | None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._lag is None:
                    self._lag = await self._open.enter_async_context(
                        open_lag_meter(
                            self._cluster,
                            SOURCE_BY_STAGE,
                            self._database_url,
                            database_seconds=_DATABASE_SECONDS,
                        )
                    )
                backlog = await self._lag.measure()
                recent = most_starts_and_fencings(await self._lag.journal(), int(time.time()))
                return MeasuredBacklog(backlog, recent, await self._lag.halt_reason(backlog))
        except (KafkaError, TimeoutError):
            await self.close()
            return None

    async def close(self) -> None:
        self._lag = None
        with suppress(KafkaError, TimeoutError):
            await self._open.aclose()


@asynccontextmanager
async def kafka_ports(
    settings: Settings, database_url: str, missing: Callable[[], Sequence[str]] | None = None
) -> AsyncIterator[Ports]:
    """The ports of the gateway.

    `missing` returns why other parts of this process are not ready. Without it, other processes do the work,
    and the status reports whether they are there.
    """
    cluster = settings.cluster
    append, shared_backlog = KafkaAppend(cluster), SharedBacklog(cluster, database_url)

    async def status() -> ReadinessStatus:
        measured = None if append.unavailable else await shared_backlog()
        reasons = (
            [append.unavailable or f"Kafka at {cluster.brokers} does not answer"] if measured is None else []
        )
        if missing is not None:
            reasons += missing()
        elif measured is not None and measured.halt_reason:
            reasons.append(measured.halt_reason)
        behind = measured and measured.backlog
        return {
            "ready": not reasons,
            "reason": "; ".join(reasons) or None,
            "backlog": behind.total if behind else None,
            "behind": None if behind is None else {**behind.stages, PROJECTION_STEP: behind.projection},
            "ages": None if behind is None else dict(behind.ages),
            "unowned": None if behind is None else dict(behind.unowned),
            "restarts": measured and dict(measured.restarts),
        }

    await append.start()
    try:
        made = make_ports(settings, append_port_on_kafka(append, cluster), database_url, status)
        async with with_address_lookup(made, settings) as ports:
            yield ports
    finally:
        await append.stop()
        await shared_backlog.close()


# The projection

_FIXABLE_ERRORS = (SourceError, PositionOutOfRange, OutdatedError, PositionGapError, UnreadableRecordError)


class ProjectionThread:
    """`run_projection` on a thread. `reason` is why it is paused; `failed` is the error that ended it."""

    def __init__(self, settings: Settings, database: Callable[[], str]) -> None:
        self._settings = settings
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projection", daemon=True)
        self._analytics_stop = threading.Event()
        self._pages = ExitStack()
        self._waiting = UnprojectedRecords()
        self._journal = Journal(
            settings.cluster,
            "projection",
            settings.worker_id or f"{socket.gethostname()}:{settings.projection_port}",
        )
        self.reason: str | None = "the read models are being opened"
        self.failed: BaseException | None = None
        self._paused = False

    def start(self) -> None:
        """Raises Failure if the port is taken."""
        if port := self._settings.projection_port:
            host = self._settings.projection_host
            self._pages.enter_context(serve_pages(host, port, self._metrics, lambda: self.reason))
        self._journal.started()
        self._analytics_stop = self._pages.enter_context(analytics_running(self._database))
        self._pages.enter_context(
            retention_running(self._database, self._settings.log_retention_days, self._settings.row_days)
        )
        self._thread.start()

    def _metrics(self) -> bytes:
        return exposition(self._waiting.oldest_age_seconds())

    def begin_stopping(self) -> None:
        self._stop.set()
        self._analytics_stop.set()

    def stop(self, timeout: float) -> None:
        self._stop.set()
        self._thread.join(timeout)
        self._pages.close()

    def wait(self, follows: Callable[[], None]) -> None:
        """Waits until the projection ends; calls `follows` once, when it first follows the log. Raises Failure or
        Broken if the projection failed.
        """
        announced = False
        while self._thread.is_alive():
            self._thread.join(0.2)
            if self.reason is None and not announced:
                announced = True
                follows()
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        if isinstance(self.failed, _FIXABLE_ERRORS):
            raise Failure(str(self.failed)) from self.failed
        if self.failed is not None:
            raise PartFailed(f"The projection has failed ({self.failed!r}).") from self.failed

    def _run(self) -> None:
        try:
            run_projection(
                self._settings.cluster,
                self._database,
                stop=self._stop,
                failing=self._set_reason,
                waiting=self._waiting,
                member=self._settings.worker_id,
            )
        except BaseException as error:  # noqa: BLE001 - reported by `raise_if_failed`
            if not isinstance(error, _FIXABLE_ERRORS):
                _log.critical("the projection has failed", exc_info=error)
            self._journal.ended("ended", str(error))
            self.failed = error

    def _set_reason(self, reason: str | None) -> None:
        if reason is not None or self._paused:
            self._journal.note("resumed" if reason is None else "paused", reason or "")
        self._paused = reason is not None
        self.reason = reason

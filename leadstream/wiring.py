"""The composition root: where log, folds, read models and gateway are put together, and nowhere else.

Embedded mode: one process, one PostgreSQL (its own, or any by URL); and what Kafka mode shares with it.
What is opened here is closed in the opposite order, also when the process is told to stop. The clock is
read here and handed in.
"""

import asyncio
import gc
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

import psycopg

from gateway.access import Rate
from gateway.answers import RequestProblem
from gateway.ports import Append, Ports, Status, Unavailable
from leadstream.active_models import published_port, shards_port
from leadstream.console import Failure
from leadstream.contacts import with_contacts
from leadstream.embedded_postgres import PostgresUnavailable, start_postgres, stop_postgres
from leadstream.evaluation.what_if import what_if_port
from leadstream.experiments_folder import active_experiments
from leadstream.settings import Settings
from projections.connection import connect
from projections.migrate import OutdatedError, migrate
from projections.source import SourceError, refuse_embedded, refuse_kafka
from projections.tables import LIVE
from projections.views import create_views
from projections.worker import project
from schemas.control import EVERY_TENANT, ModelPublished, SettingsPublished
from schemas.publications import Publication, publication_records
from schemas.record import Outgoing
from schemas.topics import PARTITION_WIDE_KEY
from scoring.lifecycle.lifecycle import built_in_lifecycle
from scoring.models.model import built_in_models
from streams.embedded.driver import Driver, Failing, NotStored
from streams.embedded.log import LogRefused
from streams.embedded.waiting import Busy, Stopped
from streams.score_leads.stage import ScoreLeads
from streams.track_sessions import TrackSessions

STAGES = (TrackSessions, ScoreLeads)
APPEND_SECONDS = 10.0
"""How long a request waits at most until its events are on disk: longer than the server takes to start a database
that was killed."""


@dataclass(frozen=True)
class System:
    """A running embedded system, without its gateway."""

    driver: Driver
    database_url: str


def utc_now() -> datetime:
    return datetime.now(UTC)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def genesis(now: datetime) -> list[Outgoing]:
    """What an empty log begins with, in every partition: settings and models, so that no result ever
    depends on a default in the code.
    """
    published: list[Publication] = [
        SettingsPublished(tenant=EVERY_TENANT, recorded_at=now, version=1, lifecycle=built_in_lifecycle()),
        *(
            ModelPublished(tenant=EVERY_TENANT, recorded_at=now, model=name, version=1, text=text)
            for name, text in built_in_models().items()
        ),
    ]
    return [record for said in published for record in publication_records(said)]


def in_every_partition(records: Iterable[Outgoing], partitions: int) -> list[Outgoing]:
    """The records, each one of a whole shard once for every partition that there is."""
    return [
        each
        for record in records
        for each in (
            [record._replace(partition=partition) for partition in range(partitions)]
            if record.key == PARTITION_WIDE_KEY and record.partition is None
            else [record]
        )
    ]


@contextmanager
def database_server(
    settings: Settings, server: Mapping[str, str] | None = None
) -> Iterator[Callable[[], str]]:
    """The database; what is yielded gives its URL, again after every loss.

    `server` are settings for an embedded PostgreSQL. Raises Failure for what the user can mend.
    """

    def database() -> str:
        if settings.database_url is not None:
            return settings.database_url.get_secret_value()
        return start_postgres(settings.data_dir, server)

    try:
        with explained(settings):
            database()
        yield database
    finally:
        if settings.database_url is None:
            stop_postgres(settings.data_dir)


@contextmanager
def open_database(settings: Settings, server: Mapping[str, str] | None = None) -> Iterator[Callable[[], str]]:
    """`database_server`, with its tables current."""
    with database_server(settings, server) as database:
        with explained(settings):
            migrate(database())
        yield database


@contextmanager
def open_system(settings: Settings, server: Mapping[str, str] | None = None) -> Iterator[System]:
    """Everything but the gateway, running."""
    gc.set_threshold(
        50_000, 20, 50
    )  # folds make many small lasting objects: fewer rounds cost a tenth less CPU
    with open_database(settings, server) as database:
        with explained(settings):
            refuse_follower(database())
            driver = Driver(
                database,
                [stage() for stage in STAGES],
                now=now_ms,
                partitions=settings.partitions if "partitions" in settings.model_fields_set else None,
                genesis=genesis(utc_now()),
                project=project,
                connect=connect,
            )
            driver.start()
            with connect(database()) as connection:
                create_views(connection, LIVE)  # of the log's tables, which a first start has just made
        try:
            yield System(driver, database())
        finally:
            driver.stop()


def refuse_follower(database_url: str) -> None:
    """No embedded log where the read models are made from Kafka. Raises SourceError."""
    with connect(database_url) as connection:
        refuse_kafka(connection)


def refuse_log(database_url: str) -> None:
    """No read models from Kafka where an embedded log is. Raises SourceError. A database that is away, or starts, is
    waited for by the projection, which looks at this first, too.
    """
    with suppress(psycopg.OperationalError), connect(database_url) as connection:
        refuse_embedded(connection)


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """What goes wrong with the database and can be mended becomes a Failure that says how."""
    try:
        yield
    except (PostgresUnavailable, LogRefused, OutdatedError, SourceError) as cause:
        raise Failure(str(cause)) from cause
    except psycopg.errors.LockNotAvailable as cause:
        raise Failure(
            f"The database is in use ({cause.diag.message_primary}): somebody reads or changes its tables for long. Try "
            "again when that is done."
        ) from cause
    except psycopg.OperationalError as cause:
        where = "LEADSTREAM_DATABASE_URL" if settings.database_url else str(settings.data_dir)
        raise Failure(
            f"The database ({where}) cannot be reached: {' '.join(str(cause).split()).rstrip('.?')}. "
            "Check that it runs and that the address is right."
        ) from cause
    except psycopg.errors.InsufficientPrivilege as cause:
        raise Failure(
            f"The database user lacks a right: {cause.diag.message_primary}. Leadstream makes its own tables: "
            "give its user the database, or the right to create in it."
        ) from cause


def append_port(driver: Driver) -> Append:
    """The driver's append for asyncio: it returns once the records are on disk, or gives up in time. What
    the database says of itself, its paths among it, is for the log alone.
    """

    async def append(records: Sequence[Outgoing]) -> None:
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                await asyncio.wrap_future(driver.append(in_every_partition(records, driver.partitions)))
        except Busy as busy:
            raise Unavailable(str(busy), retry_after_s=busy.retry_after) from busy
        except ValueError as too_much:
            raise RequestProblem(413, str(too_much), field="events") from too_much
        except Stopped as cause:
            raise Unavailable("Leadstream is stopping") from cause
        except (NotStored, TimeoutError) as cause:
            raise Unavailable(
                "the log does not take records now; the server's own log says why", retry_after_s=2
            ) from cause

    return append


class Ages:
    """For how long the oldest record that is not folded has been in the log, about: looked at every few seconds, it
    remembers when the log was how long.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: deque[tuple[float, int]] = deque()
        """(when, records in the log then), of looks after which something has yet to be folded."""

    def age(self, end: int, left: int) -> float:
        """`end` records are in the log, and `left` of them are not folded."""
        now = self._now()
        while self._seen and self._seen[0][1] <= end - left:
            self._seen.popleft()
        if not left:
            return 0.0
        if not self._seen or end > self._seen[-1][1]:
            self._seen.append((now, end))
        if len(self._seen) > _MOST_LOOKS:
            self._seen = deque(list(self._seen)[::2])
        return now - self._seen[0][0]


_MOST_LOOKS = 1_000


def status_of_driver(driver: Driver, ages: Mapping[str, Ages] = MappingProxyType({})) -> Status:
    now = driver.status()
    reason = "the log has stopped; the server's own log says why" if not now.alive else None
    if now.failing is not None:
        reason = _standing_still(now.failing)
    ends = {
        stage.name: sum(end for (topic, _), end in now.positions.items() if topic == stage.source)
        for stage in STAGES
    }
    return {
        "ready": now.alive and now.failing is None,
        "reason": reason,
        "backlog": now.waiting + sum(now.backlog.values()),
        "behind": now.backlog,
        "ages": {
            stage: each.age(ends[stage], now.backlog[stage])
            for stage, each in ages.items()
            if stage in now.backlog
        },
    }


def _standing_still(failing: Failing) -> str:
    """To anybody who asks; what a fold or the database said stands in the log."""
    if failing.record is None:
        return "scoring is interrupted; the server's own log says why"
    at = failing.record
    return (
        f"scoring fails on {at.topic}/{at.partition} at position {at.position}; the server's own log says why"
    )


def ports_of(system: System, settings: Settings) -> Ports:
    ages = {stage.name: Ages() for stage in STAGES}

    async def status() -> Status:
        return status_of_driver(system.driver, ages)

    return make_ports(settings, append_port(system.driver), system.database_url, status)


@asynccontextmanager
async def ports_open(system: System, settings: Settings) -> AsyncIterator[Ports]:
    """`ports_of`, for `run_gateway`, and addresses are looked up."""
    async with with_contacts(ports_of(system, settings), settings) as ports:
        yield ports


def make_ports(
    settings: Settings, append: Append, database_url: str, status: Callable[[], Awaitable[Status]]
) -> Ports:
    return Ports(
        append=append,
        database_url=database_url,
        access=settings.access,
        status=status,
        published=published_port(database_url),
        shards=shards_port(database_url),
        what_if=what_if_port(database_url, now_ms),
        public_url=settings.public_url or settings.address,
        rate=Rate(settings.events_per_second, 5 * settings.events_per_second),
        max_body_bytes=settings.max_body_bytes,
        max_batch=settings.max_batch,
        experiments=active_experiments(settings.experiments),
        phone_region=settings.default_phone_region,
    )

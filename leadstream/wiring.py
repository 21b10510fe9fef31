"""The composition root: the only place that connects the log, the folds, the read models and the gateway.

It builds embedded mode, which is one process with one PostgreSQL (its own, or any by URL), and the parts that
Kafka mode shares with it. It closes everything in the opposite order of opening, also when the process is
stopped. It reads the clock and passes it to the parts that need it.
"""

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import MappingProxyType

import psycopg

from delivery.crm.crm_worker import inbound_channels
from gateway.access import RateLimit
from gateway.answers import RequestProblem
from gateway.ports import AppendRecords, LogUnavailable, Ports, ReadinessStatus
from leadstream.active_models import analytics_settings, door_settings, published_port, shards_port
from leadstream.clock import now_ms, utc_now
from leadstream.console import Failure
from leadstream.contacts import with_address_lookup
from leadstream.delivery_configuration import delivery_configuration, trial_port
from leadstream.embedded_postgres import PostgresUnavailable, start_postgres, stop_postgres
from leadstream.evaluation.backtest_port import backtest_port
from leadstream.evaluation.fire_preview import MOST_LEADS_BEFORE_PUBLISHING, fire_preview_port
from leadstream.evaluation.what_if import what_if_port
from leadstream.evaluation.workflow_preview import preview_port
from leadstream.experiments_folder import initial_texts
from leadstream.operations.retention import run_retention
from leadstream.past_leads import PAST_LEADS
from leadstream.published_experiments import experiments_port
from leadstream.settings import Settings
from leadstream.stages import STAGES
from projections.analytics_worker import run_analytics
from projections.connection import connect_watched
from projections.migrate import OutdatedError, migrate
from projections.source import SourceError, refuse_embedded, refuse_kafka
from projections.table_definition import LIVE_SCHEMA
from projections.views import create_views
from projections.worker import project_records
from schemas.control import EVERY_TENANT, ModelPublished, SettingsPublished
from schemas.publications import Publication, publication_records
from schemas.record import Outgoing
from schemas.topics import PARTITION_WIDE_KEY
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.lifecycle.lifecycle import built_in_lifecycle
from scoring.models.model import built_in_models
from streams.embedded.driver import Driver, FoldingHalt, NotStored
from streams.embedded.log import LogRefused
from streams.embedded.waiting import AppenderStopped, AppendQueueFull

APPEND_SECONDS = 10.0
"""The longest time that a request waits until its events are on disk. It is longer than the server takes to
restart a killed database."""

RETENTION_STOPPING_SECONDS = 5.0
"""How long a stop waits for the transaction under way."""
ANALYTICS_STOPPING_SECONDS = 1.0
"""How long a stop waits for the analytics under way. What has not committed by then is computed after the next start."""


@dataclass(frozen=True)
class System:
    """A running embedded system, without its gateway."""

    driver: Driver
    database_url: str


def genesis(now: datetime) -> list[Outgoing]:
    """The first records of every partition of an empty log: the settings and the built-in models, so that no
    result ever depends on a default in the code.
    """
    publications: list[Publication] = [
        SettingsPublished(tenant=EVERY_TENANT, recorded_at=now, version=1, lifecycle=built_in_lifecycle()),
        *(
            ModelPublished(
                tenant=EVERY_TENANT,
                recorded_at=now,
                model=name,
                version=1,
                text=text,
                folding=NEWEST_COMPARISON.folding,
            )
            for name, text in built_in_models().items()
        ),
    ]
    return [record for publication in publications for record in publication_records(publication)]


def repeated_for_every_partition(records: Iterable[Outgoing], partitions: int) -> list[Outgoing]:
    """The records; a record for whole shards is repeated for every partition."""
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
    """Starts the database. Yields a function that returns its URL and restarts an embedded server that has died.

    `server` has settings for an embedded PostgreSQL. Raises Failure for what the user can fix.
    """

    def database() -> str:
        if settings.database_url is not None:
            return settings.database_url.get_secret_value()
        return start_postgres(settings.data_dir, server)

    try:
        with database_errors_explained(settings):
            database()
        yield database
    finally:
        if settings.database_url is None:
            stop_postgres(settings.data_dir)


@contextmanager
def open_database(settings: Settings, server: Mapping[str, str] | None = None) -> Iterator[Callable[[], str]]:
    """`database_server`, with its tables migrated."""
    with database_server(settings, server) as database:
        with database_errors_explained(settings):
            migrate(database())
        yield database


@contextmanager
def open_system(settings: Settings, server: Mapping[str, str] | None = None) -> Iterator[System]:
    """Everything but the gateway, running."""
    gc.set_threshold(
        50_000, 20, 50
    )  # folds make many small, long-lived objects: rarer collections save a tenth of the CPU
    with open_database(settings, server) as database:
        with database_errors_explained(settings):
            refuse_database_following_kafka(database())
            driver = Driver(
                database,
                [stage() for stage in STAGES],
                now=now_ms,
                partitions=settings.partitions if "partitions" in settings.model_fields_set else None,
                genesis=genesis(utc_now()),
                project=project_records,
                connect=connect_watched,
            )
            driver.start()
            with connect_watched(database()) as connection:
                create_views(
                    connection, LIVE_SCHEMA
                )  # they read the log's tables, which the first start has just created
        try:
            with (
                analytics_running(database),
                retention_running(database, settings.log_retention_days, settings.row_days),
            ):
                yield System(driver, database())
        finally:
            driver.stop()


@contextmanager
def analytics_running(database: Callable[[], str]) -> Iterator[threading.Event]:
    """Computes the analytics of leads on a thread; the event stops it. `database` returns the URL, and is called once: only
    one thread may restart a database that has died.
    """
    stop = threading.Event()
    thread = threading.Thread(
        target=run_analytics,
        args=(cache(database), analytics_settings),
        kwargs={"stop": stop},
        name="analytics",
        daemon=True,
    )
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(ANALYTICS_STOPPING_SECONDS)


@contextmanager
def retention_running(database: Callable[[], str], days: int, row_days: Mapping[str, int]) -> Iterator[None]:
    """Removes what is older than so many days on a thread; 0 and no kind of rows: everything is kept."""
    stop = threading.Event()
    if not days and not row_days:
        yield
        return
    thread = threading.Thread(
        target=run_retention,
        args=(cache(database), days, row_days),
        kwargs={"stop": stop},
        name="retention",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(RETENTION_STOPPING_SECONDS)


def refuse_database_following_kafka(database_url: str) -> None:
    """Refuses a database whose read models come from Kafka. Raises SourceError."""
    with connect_watched(database_url) as connection:
        refuse_kafka(connection)


def refuse_database_with_log(database_url: str) -> None:
    """Refuses a database that has an embedded log. Raises SourceError.

    An unavailable database passes: the projection waits for it, and then makes the same check first.
    """
    with suppress(psycopg.OperationalError), connect_watched(database_url) as connection:
        refuse_embedded(connection)


@contextmanager
def database_errors_explained(settings: Settings) -> Iterator[None]:
    """Turns errors of the database that the user can fix into a Failure that names the fix."""
    try:
        yield
    except (PostgresUnavailable, LogRefused, OutdatedError, SourceError) as cause:
        raise Failure(str(cause)) from cause
    except psycopg.errors.LockNotAvailable as cause:
        raise Failure(
            f"The database is in use ({cause.diag.message_primary}): another process has locked its tables for a long "
            "time. Try again when it has finished."
        ) from cause
    except psycopg.OperationalError as cause:
        where = "LEADSTREAM_DATABASE_URL" if settings.database_url else str(settings.data_dir)
        raise Failure(
            f"The database ({where}) cannot be reached: {' '.join(str(cause).split()).rstrip('.?')}. "
            "Check that it runs and that the address is right."
        ) from cause
    except psycopg.errors.InsufficientPrivilege as cause:
        raise Failure(
            f"The database user lacks a privilege: {cause.diag.message_primary}. Leadstream creates its own tables: "
            "make its user the owner of the database, or grant the right to create in it."
        ) from cause


def append_port_of_driver(driver: Driver) -> AppendRecords:
    """The driver's append for asyncio: it returns once the records are on disk, or raises Unavailable in time.

    Messages of the database, which can name paths, go only to the server's own log.
    """

    async def append(records: Sequence[Outgoing]) -> None:
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                await asyncio.wrap_future(
                    driver.append(repeated_for_every_partition(records, driver.partitions))
                )
        except AppendQueueFull as busy:
            raise LogUnavailable(str(busy), retry_after_s=busy.retry_after) from busy
        except ValueError as too_much:
            raise RequestProblem(413, str(too_much), field="events") from too_much
        except AppenderStopped as cause:
            raise LogUnavailable("Leadstream is stopping") from cause
        except (NotStored, TimeoutError) as cause:
            raise LogUnavailable(
                "the log accepts no records now; the server's own log says why", retry_after_s=2
            ) from cause

    return append


class BacklogAgeEstimate:
    """The approximate age of the oldest record that is not folded yet.

    It remembers how long the log was at each call, and expects a call every few seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: deque[tuple[float, int]] = deque()
        """(time, records in the log then) of the calls after which some record is not folded yet."""

    def age(self, end: int, left: int) -> float:
        """The age in seconds, if `end` records are in the log and `left` of them are not folded."""
        now = self._now()
        while self._seen and self._seen[0][1] <= end - left:
            self._seen.popleft()
        if not left:
            return 0.0
        if not self._seen or end > self._seen[-1][1]:
            self._seen.append((now, end))
        if len(self._seen) > _MOST_CALLS_REMEMBERED:
            self._seen = deque(list(self._seen)[::2])
        return now - self._seen[0][0]


_MOST_CALLS_REMEMBERED = 1_000


def status_of_driver(
    driver: Driver, ages: Mapping[str, BacklogAgeEstimate] = MappingProxyType({})
) -> ReadinessStatus:
    now = driver.status()
    reason = "the log has stopped; the server's own log says why" if not now.alive else None
    if now.failing is not None:
        reason = _halted_reason(now.failing)
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


def _halted_reason(failing: FoldingHalt) -> str:
    """The public reason; messages of a fold or of the database go only to the server's own log."""
    if failing.record is None:
        return "scoring is interrupted; the server's own log says why"
    at = failing.record
    return (
        f"scoring fails on {at.topic}/{at.partition} at position {at.position}; the server's own log says why"
    )


def ports_of(system: System, settings: Settings) -> Ports:
    ages = {stage.name: BacklogAgeEstimate() for stage in STAGES}

    async def status() -> ReadinessStatus:
        return status_of_driver(system.driver, ages)

    return make_ports(settings, append_port_of_driver(system.driver), system.database_url, status)


@asynccontextmanager
async def ports_open(system: System, settings: Settings) -> AsyncIterator[Ports]:
    """`ports_of` with the lookup of addresses, as `run_gateway` opens it."""
    async with with_address_lookup(ports_of(system, settings), settings) as ports:
        yield ports


def make_ports(
    settings: Settings,
    append: AppendRecords,
    database_url: str,
    status: Callable[[], Awaitable[ReadinessStatus]],
) -> Ports:
    consent_required_since, unique_fields = door_settings(database_url)
    return Ports(
        append=append,
        database_url=database_url,
        access=settings.served_access,
        status=status,
        published=published_port(database_url),
        consent_required_since=consent_required_since,
        unique_fields=unique_fields,
        shards=shards_port(database_url),
        what_if=what_if_port(database_url, now_ms),
        backtest=backtest_port(database_url),
        fire_preview=fire_preview_port(database_url, now_ms),
        fire_on_publication=fire_preview_port(database_url, now_ms, most_leads=MOST_LEADS_BEFORE_PUBLISHING),
        preview_workflows=preview_port(database_url, now_ms),
        past_leads=PAST_LEADS,
        send_trial=trial_port(settings, database_url),
        public_url=settings.public_url or settings.address,
        rate=RateLimit(settings.events_per_second, 5 * settings.events_per_second),
        request_rate=RateLimit(settings.requests_per_second, 5 * settings.requests_per_second),
        cors_origins=settings.cors_origins,
        cors_credentials=settings.cors_credentials == "on",
        session_times=settings.session_times,
        oidc=settings.oidc,
        identity_secrets=settings.signed_identities,
        max_body_bytes=settings.max_body_bytes,
        max_batch=settings.max_batch,
        experiments=experiments_port(database_url, initial_texts(settings.experiments)),
        initial_experiments=initial_texts(settings.experiments),
        phone_region=settings.default_phone_region,
        own_sites=settings.own_sites,
        ip_truncation=settings.ip_truncation,
        mask_for_viewers=settings.mask_for_viewers == "on",
        telegram_bots=settings.bots,
        telegram_api=settings.telegram_api,
        whatsapp_numbers=settings.whatsapp_numbers,
        link_keys=settings.signing_keys,
        link_cookie=settings.link_cookie == "on",
        chats=settings.chat_accounts,
        crms=inbound_channels(delivery_configuration(settings)),
        enrichment=delivery_configuration(settings).enrichment,
    )

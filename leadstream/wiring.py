"""The composition root: where log, folds, read models and gateway are put together, and nowhere else.

Embedded mode: one process, one PostgreSQL (its own, or any by URL). What is opened here is closed in
the opposite order, also when the process is told to stop. The clock is read here and handed in.
"""

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import uvicorn

from gateway.access import Rate
from gateway.app import create_app
from gateway.ports import Append, Ports, Unavailable
from leadstream.in_force import published_port
from leadstream.inlet import remove_note, with_inlet, write_note
from leadstream.postgres import PostgresUnavailable, start_postgres, stop_postgres
from leadstream.settings import Settings
from leadstream.show import Failure
from projections.migrate import OutdatedError, migrate
from projections.tables import LIVE
from projections.views import create_views
from projections.worker import project
from schemas.activity import ModelChanged, SettingsChanged
from schemas.control import EVERY_TENANT, ModelPublished, SettingsPublished
from schemas.decode import encode_activity, encode_source
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY
from scoring.model import shipped_models
from streams.embedded.driver import Driver, NotStored
from streams.embedded.log import LogRefused
from streams.embedded.waiting import Busy, Stopped
from streams.engine.shard import SHARED
from streams.score_leads import ScoreLeads
from streams.track_sessions import TrackSessions

STOPPING_SECONDS = 5
"""For requests under way, of the ten seconds that a supervisor gives before it kills."""
STAGES = (TrackSessions, ScoreLeads)


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
    settings = SettingsPublished(tenant=EVERY_TENANT, recorded_at=now, version=1)
    return [
        *settings_records(settings),
        *(
            record
            for name, text in shipped_models().items()
            for record in model_records(
                ModelPublished(tenant=EVERY_TENANT, recorded_at=now, model=name, version=1, text=text)
            )
        ),
    ]


def settings_records(said: SettingsPublished) -> list[Outgoing]:
    """The publication as each stage reads it."""
    changed = SettingsChanged(
        said.tenant, "", millis(said.recorded_at), said.version, said.time_zone, said.idle_minutes
    )
    return _control(encode_source(said), encode_activity(changed))


def model_records(said: ModelPublished) -> list[Outgoing]:
    """As `settings_records`, of a model."""
    changed = ModelChanged(
        said.tenant, "", millis(said.recorded_at), said.model, said.version, said.text, said.fire
    )
    return _control(encode_source(said), encode_activity(changed))


def _control(source: bytes, activity: bytes) -> list[Outgoing]:
    return [Outgoing(EVENTS, SHARED, source), Outgoing(LEAD_ACTIVITY, SHARED, activity)]


def in_every_partition(records: Sequence[Outgoing], partitions: int) -> list[Outgoing]:
    return [record._replace(partition=partition) for record in records for partition in range(partitions)]


@contextmanager
def open_database(settings: Settings, server: Mapping[str, str] | None = None) -> Iterator[Callable[[], str]]:
    """The database with its tables current; what is yielded gives its URL, again after every loss.

    `server` are settings for an embedded PostgreSQL. Raises Failure for what the user can mend.
    """

    def database() -> str:
        if settings.database_url is not None:
            return settings.database_url.get_secret_value()
        return start_postgres(settings.data_dir, server)

    try:
        with explained(settings):
            migrate(database())
        yield database
    finally:
        if settings.database_url is None:
            stop_postgres(settings.data_dir)


@contextmanager
def open_system(settings: Settings, server: Mapping[str, str] | None = None) -> Iterator[System]:
    """Everything but the gateway, running."""
    gc.set_threshold(
        50_000, 20, 50
    )  # folds make many small lasting objects: fewer rounds cost a tenth less CPU
    with open_database(settings, server) as database:
        with explained(settings):
            driver = Driver(
                database,
                [stage() for stage in STAGES],
                now=now_ms,
                partitions=settings.partitions if "partitions" in settings.model_fields_set else None,
                genesis=genesis(utc_now()),
                project=project,
            )
            driver.start()
            with psycopg.connect(database()) as connection:
                create_views(connection, LIVE)  # of the log's tables, which a first start has just made
        try:
            yield System(driver, database())
        finally:
            driver.stop()


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """What goes wrong with the database and can be mended becomes a Failure that says how."""
    try:
        yield
    except (PostgresUnavailable, LogRefused, OutdatedError) as cause:
        raise Failure(str(cause)) from cause
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
    """The driver's append for asyncio: it returns once the records are on disk."""

    async def append(records: Sequence[Outgoing]) -> None:
        try:
            await asyncio.wrap_future(driver.append(records))
        except Busy as busy:
            raise Unavailable(str(busy), retry_after_s=busy.retry_after) from busy
        except (Stopped, NotStored) as cause:
            raise Unavailable(str(cause)) from cause

    return append


def status_port(driver: Driver) -> Callable[[], Mapping[str, object]]:
    def status() -> Mapping[str, object]:
        now = driver.status()
        reason = now.failing.cause if now.failing else None if now.alive else "the log has stopped"
        return {
            "ready": now.alive and now.failing is None,
            "reason": reason,
            "backlog": now.waiting + sum(now.backlog.values()),
        }

    return status


def ports_of(system: System, settings: Settings) -> Ports:
    return Ports(
        append=append_port(system.driver),
        database_url=system.database_url,
        access=settings.access,
        status=status_port(system.driver),
        published=published_port(system.database_url),
        public_url=settings.public_url or settings.address,
        rate=Rate(settings.events_per_second, 5 * settings.events_per_second),
        max_body_bytes=settings.max_body_bytes,
        max_batch=settings.max_batch,
        phone_region=settings.default_phone_region,
    )


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The port, taken before anything slow begins; who comes early is answered once all is up."""
    try:
        family, *_, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, socket.SOCK_STREAM)
    except OSError as cause:
        raise Failure(f"LEADSTREAM_HOST: {settings.host} is no address of this machine ({cause}).") from cause
    with taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(address)
            taken.listen(2048)
        except OSError as cause:
            raise Failure(
                f"Port {settings.port} on {settings.host} cannot be opened ({cause.strerror}): "
                "choose another with --port or LEADSTREAM_PORT."
            ) from cause
        yield taken


Beside = Callable[[Append], Awaitable[None]]
"""What runs beside the server, once it answers."""


def run_gateway(system: System, settings: Settings, port: socket.socket, beside: Beside) -> None:
    """Serves until told to stop (SIGINT, SIGTERM), then lets running requests end."""
    ports = ports_of(system, settings)
    note = write_note(settings.data_dir, settings.address)
    try:
        app = create_app(ports)
        config = uvicorn.Config(
            with_inlet(app, note.secret, ports.append),
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=STOPPING_SECONDS,
        )
        server = uvicorn.Server(config)
        asyncio.run(_serve(server, port, lambda: beside(ports.append), app.state.end_waiting))
    finally:
        remove_note(settings.data_dir)


async def _serve(
    server: uvicorn.Server,
    port: socket.socket,
    beside: Callable[[], Awaitable[None]],
    end_waiting: Callable[[], None],
) -> None:
    async def once_started() -> None:
        while not server.started:  # noqa: ASYNC110 - uvicorn says it no other way
            await asyncio.sleep(0.02)
        await beside()

    async def once_told_to_stop() -> None:
        while not server.should_exit:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
        end_waiting()

    companion = asyncio.create_task(once_started(), name="beside the server")
    companion.add_done_callback(lambda task: _stop_if_broken(task, server))
    release = asyncio.create_task(once_told_to_stop(), name="let waiting callers go")
    try:
        await server.serve(sockets=[port])
    finally:
        for task in (companion, release):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _stop_if_broken(task: "asyncio.Task[None]", server: uvicorn.Server) -> None:
    if not task.cancelled() and task.exception() is not None:
        server.should_exit = True


def ensure_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise Failure(
            f"The data directory {path} cannot be made ({cause.strerror}): choose another with --data-dir."
        ) from cause

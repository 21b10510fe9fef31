"""The gateway as a server: it listens on a port of this machine and serves until the process is stopped.

It is the same in every mode; its parts come in as ports. When the process is stopped, it answers waiting
callers at once, and lets running requests end within the time that a supervisor allows.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import uvicorn

from authoring.schedule import keep_schedule
from gateway.app import create_app
from gateway.ports import AppendRecords, Ports
from gateway.server.http_server import HttpServer, limits_within_open_files
from leadstream.console import Failure
from leadstream.nightly import keep_recalculating
from leadstream.operations.control_socket import (
    KafkaAddress,
    ServerNote,
    remove_note,
    with_control_socket,
    write_note,
)
from leadstream.operations.counting_past import keep_counting
from leadstream.settings import Settings

STOPPING_SECONDS = 5
"""How long running requests may take, of the ten seconds that a supervisor allows before it kills."""


@contextmanager
def open_listener(settings: Settings) -> Iterator[socket.socket]:
    """Opens the port before anything slow begins; early callers get their answer when everything runs."""
    try:
        family, *_, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Names the protocol: asyncio sets TCP_NODELAY only on sockets whose protocol is TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as cause:
        raise Failure(
            f"LEADSTREAM_HOST: {settings.host} is not an address of this machine ({cause})."
        ) from cause
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(2048)
        except OSError as cause:
            raise Failure(
                f"Port {settings.port} on {settings.host} cannot be opened ({cause.strerror}): "
                "choose another with --port or LEADSTREAM_PORT."
            ) from cause
        yield listener


OpenPorts = Callable[[], AbstractAsyncContextManager[Ports]]
"""Opens the ports of the gateway, on the loop that it runs on."""
RunBeside = Callable[[AppendRecords], Awaitable[None]]
"""A coroutine that runs beside the server once that answers. If it raises, the server and the process stop."""


def run_gateway(
    settings: Settings,
    port: socket.socket,
    opening: OpenPorts,
    beside: RunBeside,
    *,
    inlet: bool = True,
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serves until SIGINT or SIGTERM, then calls `stopping` and lets running requests end.

    With an `inlet`, the server has a control socket: commands on this machine find it by the note in the data
    directory.
    """
    note = write_note(settings.data_dir, settings.address, _kafka_address_of(settings)) if inlet else None
    try:
        asyncio.run(_run_server(settings, port, opening, beside, note, stopping))
    finally:
        if note is not None:
            remove_note(settings.data_dir)


def _kafka_address_of(settings: Settings) -> KafkaAddress | None:
    if settings.kafka is None:
        return None
    return KafkaAddress(settings.kafka, settings.kafka_prefix, settings.kafka_app)


async def _run_server(
    settings: Settings,
    port: socket.socket,
    opening: OpenPorts,
    beside: RunBeside,
    note: ServerNote | None,
    stopping: Callable[[], None],
) -> None:
    limits = limits_within_open_files(settings.connection_limits)
    async with opening() as ports:
        app = create_app(ports)

        def begin_stopping() -> None:
            app.state.end_waiting()
            stopping()

        config = uvicorn.Config(
            app if note is None else with_control_socket(app, note.secret, ports.append),
            lifespan="on",
            http="httptools",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.idle_seconds,
            timeout_graceful_shutdown=STOPPING_SECONDS,
        )
        companions = (
            lambda: beside(ports.append),
            lambda: keep_schedule(app.state.authoring),
            lambda: keep_recalculating(ports.database_url),
            lambda: keep_counting(ports.database_url, ports.append),
        )
        server = HttpServer(config, port, limits, settings.access.trusted_proxies)
        await _serve_with_companions(server, companions, begin_stopping)


async def _serve_with_companions(
    server: uvicorn.Server,
    companions: Iterable[Callable[[], Awaitable[None]]],
    begin_stopping: Callable[[], None],
) -> None:
    async def once_started(companion: Callable[[], Awaitable[None]]) -> None:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
        await companion()

    async def once_stopping() -> None:
        while not server.should_exit:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)
        begin_stopping()

    beside = [asyncio.create_task(once_started(each), name="beside the server") for each in companions]
    for task in beside:
        task.add_done_callback(lambda task: _stop_if_broken(task, server))
    release = asyncio.create_task(once_stopping(), name="answer waiting callers")
    try:
        await server.serve()
    finally:
        for task in (*beside, release):
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
            f"The data directory {path} cannot be created ({cause.strerror}): choose another with --data-dir."
        ) from cause

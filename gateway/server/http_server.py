"""uvicorn's server on a listening socket, with an accept loop of our own.

asyncio's tries two thousand times in a row to accept what no file descriptor is left for, and logs each.
This one closes an idle connection, waits a moment and goes on.
"""

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Sequence

import structlog
import uvicorn

from gateway.access import Network
from gateway.server.connections import ConnectionLimits, ConnectionRegister, address_to_count
from gateway.server.http_protocol import LimitedHttp

ACCEPTS_AT_ONCE = 64
"""Connections accepted before requests have their turn."""
PAUSE_SECONDS = 0.1
EXHAUSTED_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
FILES_FOR_OTHERS = 200
"""File descriptors kept for the database, the log and files."""
_BUSY_BODY = b'{"error":{"field":null,"reason":"too many connections"}}'
BUSY_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BUSY_BODY), _BUSY_BODY)
)

log = structlog.get_logger("gateway")


class HttpServer(uvicorn.Server):
    """Serves on `port`, which listens and does not block, within `limits`."""

    def __init__(
        self,
        config: uvicorn.Config,
        port: socket.socket,
        limits: ConnectionLimits,
        trusted: Sequence[Network] = (),
    ) -> None:
        super().__init__(config)
        self._port = port
        self._trusted = tuple(trusted)
        self._connections = ConnectionRegister(limits, trusted)
        self._accepted: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets or [])
        self._port.setblocking(False)
        self._watching = asyncio.create_task(self._connections.watch(), name="watch connections")
        self._listen()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().remove_reader(self._port)
        self._port.close()
        self._connections.stopping = True
        try:
            await super().shutdown(sockets)
        finally:
            if self._watching is not None:
                self._watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._watching

    def _listen(self) -> None:
        if self._port.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._port, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                accepted, peer = self._port.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as cause:
                if cause.errno not in EXHAUSTED_ERRNOS:
                    raise
                if not self._connections.exhausted():
                    self._pause()
                return
            self._take(accepted, peer[0])

    def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._port)
        loop.call_later(PAUSE_SECONDS, self._listen)

    def _take(self, accepted: socket.socket, host: str) -> None:
        accepted.setblocking(False)
        address = address_to_count(host, self._trusted)
        connection = LimitedHttp(
            self.config, self.server_state, self.lifespan.state, self._connections, address
        )
        if not self._connections.admit(connection):
            with contextlib.suppress(OSError):
                accepted.send(BUSY_ANSWER)
            accepted.close()
            return
        task = asyncio.create_task(self._connect(connection, accepted))
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)

    async def _connect(self, connection: LimitedHttp, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted)
        except OSError:
            self._connections.remove(connection)
            accepted.close()


def limits_within_open_files(limits: ConnectionLimits) -> ConnectionLimits:
    """Lets this process open as many files as it may, and no more connections than that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = limits.connections + FILES_FOR_OTHERS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    most = max(1, soft - FILES_FOR_OTHERS)
    log.warning(
        "fewer connections than LEADSTREAM_MAX_CONNECTIONS: this process may open too few files (ulimit -n)",
        connections=most,
        open_files=soft,
    )
    return limits._replace(connections=most)

"""Opens PostgreSQL for every process. No connection, statement or read waits without limit for an unavailable server.

A dead path may stay silent forever: a proxy or a stopped server still acknowledges what is sent, so neither keepalives
nor tcp_user_timeout end the wait. A connection that receives nothing for a while therefore asks, over a second
connection, whether the server still works on its statement. Long statements and waits for locks go on. Every other
wait ends with an OperationalError that names the reason.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

Connection = psycopg.Connection[Any]
"""The type of a synchronous connection, for every package that may import projections; `streams.embedded.rows`
has its own."""

T = TypeVar("T")

CONNECT_SECONDS: Final = 5
SILENCE_SECONDS: Final = 5.0
"""A connection that receives nothing for this long asks the server what it does."""
_PROBE_SECONDS: Final = 3
_CHECK_SECONDS: Final = 1.0

KEEPALIVE_OPTIONS: Final = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""The options of every connection, unless its address sets them."""

_SERVER_PROCESS_STATE: Final = "select state, wait_event_type from pg_stat_activity where pid = %s"
_RESOURCES_ERROR_CLASS: Final = "53"
"""SQLSTATE class of a server that answers, but has no room for another connection."""


def connection_parameters(url: str, **options: Any) -> dict[str, Any]:
    """The arguments of a connection to `url`: `options`, and those of ALIVE that `url` does not set itself."""
    of_url = conninfo_to_dict(url)
    return {name: value for name, value in KEEPALIVE_OPTIONS.items() if name not in of_url} | options


def connect_watched(url: str, *, autocommit: bool = False, **options: Any) -> "WatchedConnection":
    """As `psycopg.connect`."""
    connection = WatchedConnection.connect(url, autocommit=True, **connection_parameters(url, **options))
    try:
        connection.watch(url)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


class WatchedConnection(psycopg.Connection[Any]):
    """A connection for statements that may take long; `connect_watched` makes it."""

    _address: str | None = None
    """With the password, which psycopg does not keep."""
    _server_process = 0

    def watch(self, address: str) -> None:
        self._address = address
        # The server itself answers this: a pooler in between invents the number that it sends at the start.
        ((self._server_process,),) = self.execute("select pg_backend_pid()").fetchall()

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Overrides the method that every statement and read of psycopg goes through. A caller that passes a timeout
        wants to wait in silence.
        """
        if options.get("timeout") is None:
            gen = _run_watched(gen, self.pgconn, SILENCE_SECONDS, self._reason_to_end)
        return super().wait(gen, *arguments, **options)

    def _reason_to_end(self) -> str | None:
        """Why no answer will come. None: the server works on the statement, or waits for a lock."""
        silent = _silence_text(SILENCE_SECONDS)
        if self._address is None:
            return silent
        try:
            options = connection_parameters(self._address, connect_timeout=_PROBE_SECONDS, autocommit=True)
            with _ProbeConnection.connect(self._address, **options) as probe:
                activity = probe.execute(_SERVER_PROCESS_STATE, (self._server_process,)).fetchone()
        except psycopg.OperationalError as cause:
            if (cause.sqlstate or "").startswith(_RESOURCES_ERROR_CLASS):
                return None
            return (
                f"{silent}, and does not answer a second connection either ({' '.join(str(cause).split())})"
            )
        if activity is None:
            return f"{silent}, and no longer knows this connection"
        state, waits_for = activity
        if state == "disabled" or (state == "active" and waits_for != "Client"):
            return None
        return f"{silent} and waits for this program ({state}): something in between drops the messages"


class _ProbeConnection(psycopg.Connection[Any]):
    """A second connection, for one short statement."""

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        gen = _run_watched(gen, self.pgconn, _PROBE_SECONDS, lambda: _silence_text(_PROBE_SECONDS))
        return super().wait(gen, *arguments, **options)


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """For short statements, which the server itself ends in time: without an answer for `patience` seconds, it fails."""

    patience = SILENCE_SECONDS

    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("timeout") is None:
            patience = self.patience
            gen = _run_watched(gen, self.pgconn, patience, lambda: _silence_text(patience))
        return await super().wait(gen, *arguments, **options)


async def check_connection(connection: psycopg.AsyncConnection[Any]) -> None:
    """A pool of bounded connections calls this before it lends one. Raises OperationalError within about a second."""
    if not isinstance(connection, BoundedAsyncConnection):
        raise TypeError(f"{connection!r} is not bounded")
    usual, connection.patience = connection.patience, _CHECK_SECONDS
    try:
        await AsyncConnectionPool.check_connection(connection)
    finally:
        connection.patience = usual


def _run_watched(
    gen: Generator[Any, Any, T], pgconn: Any, patience: float, reason_to_end: Callable[[], str | None]
) -> Generator[Any, Any, T]:
    """Runs `gen`. If the connection is silent and `reason_to_end` gives a reason, closes the connection and raises; an
    answer that came during that check still counts.
    """
    ready, reason = None, None
    deadline = time.monotonic() + patience
    while True:
        try:
            awaited = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # psycopg's generators are untyped here
        ready = yield awaited
        if ready:
            reason, deadline = None, time.monotonic() + patience
        elif reason is not None:
            pgconn.finish()
            raise psycopg.OperationalError(reason)
        elif time.monotonic() >= deadline:
            reason, deadline = reason_to_end(), time.monotonic() + patience


def _silence_text(seconds: float) -> str:
    return f"PostgreSQL has sent nothing for {seconds:g} s"

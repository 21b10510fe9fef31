"""How every process opens PostgreSQL: no connection, statement or read waits without bound for a server that is gone.

A dead path may stay silent for ever: a proxy or a stopped server still acknowledges what is sent, so that neither
keepalives nor tcp_user_timeout end the wait. A connection that hears nothing for a while therefore asks over a second
one whether the server still works on its statement. Long statements and waits for locks go on; the rest ends with an
OperationalError that says why.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

T = TypeVar("T")

CONNECT_SECONDS: Final = 5
SILENCE_SECONDS: Final = 5.0
"""Without a byte, until the server is asked what it does."""
_ASK_SECONDS: Final = 3
_CHECK_SECONDS: Final = 1.0

ALIVE: Final = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""What a connection is opened with, unless its address says otherwise."""

_STATE: Final = "select state, wait_event_type from pg_stat_activity where pid = %s"
_FULL: Final = "53"
"""SQLSTATE class of a server that answers, but has no room for another connection."""


def parameters(url: str, **given: Any) -> dict[str, Any]:
    """The arguments of a connection to `url`: those given, those of ALIVE, but none that `url` sets itself."""
    of_url = conninfo_to_dict(url)
    return {name: value for name, value in ALIVE.items() if name not in of_url} | given


def connect(url: str, *, autocommit: bool = False, **given: Any) -> "WatchedConnection":
    """As `psycopg.connect`."""
    connection = WatchedConnection.connect(url, autocommit=True, **parameters(url, **given))
    try:
        connection.watch(url)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


class WatchedConnection(psycopg.Connection[Any]):
    """Made by `connect`: for statements that may take long."""

    _address: str | None = None
    """With the password, which psycopg does not keep."""
    _server_process = 0

    def watch(self, address: str) -> None:
        self._address = address
        # Asked of the server itself: a pooler in between makes up the number that it gave at the start.
        ((self._server_process,),) = self.execute("select pg_backend_pid()").fetchall()

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """As psycopg's, which every statement and read goes through. A caller with a timeout of its own means to
        wait in silence.
        """
        if options.get("timeout") is None:
            gen = _watched(gen, self.pgconn, SILENCE_SECONDS, self._lost)
        return super().wait(gen, *arguments, **options)

    def _lost(self) -> str | None:
        """Why no answer is to be expected; None: the server works on the statement, or waits for a lock."""
        silent = _silent(SILENCE_SECONDS)
        if self._address is None:
            return silent
        try:
            options = parameters(self._address, connect_timeout=_ASK_SECONDS, autocommit=True)
            with _ProbeConnection.connect(self._address, **options) as asking:
                found = asking.execute(_STATE, (self._server_process,)).fetchone()
        except psycopg.OperationalError as cause:
            if (cause.sqlstate or "").startswith(_FULL):
                return None
            return (
                f"{silent}, and does not answer a second connection either ({' '.join(str(cause).split())})"
            )
        if found is None:
            return f"{silent}, and no longer knows this connection"
        state, waits_for = found
        if state == "disabled" or (state == "active" and waits_for != "Client"):
            return None
        return f"{silent} and waits for us ({state}): what is between us passes nothing on"


class _ProbeConnection(psycopg.Connection[Any]):
    """Asks one short question."""

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        gen = _watched(gen, self.pgconn, _ASK_SECONDS, lambda: _silent(_ASK_SECONDS))
        return super().wait(gen, *arguments, **options)


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """For short questions, whose statements the server itself ends in time: it hears something within `patience`."""

    patience = SILENCE_SECONDS

    async def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("timeout") is None:
            patience = self.patience
            gen = _watched(gen, self.pgconn, patience, lambda: _silent(patience))
        return await super().wait(gen, *arguments, **options)


async def check(connection: psycopg.AsyncConnection[Any]) -> None:
    """For a pool of these, before it gives one away. Raises OperationalError within a second or so."""
    if not isinstance(connection, BoundedAsyncConnection):
        raise TypeError(f"{connection!r} is not bounded")
    usual, connection.patience = connection.patience, _CHECK_SECONDS
    try:
        await AsyncConnectionPool.check_connection(connection)
    finally:
        connection.patience = usual


def _watched(
    gen: Generator[Any, Any, T], pgconn: Any, patience: float, lost: Callable[[], str | None]
) -> Generator[Any, Any, T]:
    """`gen`, ended with its connection once that is silent and `lost` says why. What has come while that was found
    out is still taken.
    """
    ready, doubt = None, None
    deadline = time.monotonic() + patience
    while True:
        try:
            wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # psycopg's generators are untyped here
        ready = yield wanted
        if ready:
            doubt, deadline = None, time.monotonic() + patience
        elif doubt is not None:
            pgconn.finish()
            raise psycopg.OperationalError(doubt)
        elif time.monotonic() >= deadline:
            doubt, deadline = lost(), time.monotonic() + patience


def _silent(seconds: float) -> str:
    return f"PostgreSQL has sent nothing for {seconds:g} s"

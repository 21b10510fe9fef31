"""The connection of a worker, on a thread of its own: the event loop never waits for the database."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from projections.connection import Connection, connect_watched

T = TypeVar("T")


class DatabaseThread:
    def __init__(
        self,
        name: str,
        database: Callable[[], str],
        options: str,
        connected: Callable[[], None] = lambda: None,
    ) -> None:
        """`database` returns the URL. `connected` is called before each connection: locks of the last one are gone."""
        self._name = name
        self._database = database
        self._options = options
        self._connected = connected
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, f"{name}-database")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work(connection, ...)` on the thread, which connects when it needs to. Raises psycopg.Error."""

        def run() -> T:
            if self._connection is None or self._connection.closed:
                self._connected()
                self._connection = connect_watched(
                    self._database(),
                    options=self._options,
                    autocommit=True,
                    application_name=f"leadstream {self._name}",
                )
            return work(self._connection, *arguments)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    def close(self) -> None:
        self._thread.submit(self._disconnect).result()
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()

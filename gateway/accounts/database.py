"""Connections for keys, people, sessions and the audit log: few, short, and bounded in time.

Each call is one transaction. While Postgres is unavailable it raises RequestProblem 503.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from gateway.answers import RequestProblem
from projections.connection import BoundedAsyncConnection, check_connection, connection_parameters
from projections.table_definition import PUBLIC_SCHEMA

STATEMENT_SECONDS = 5
POOL_SECONDS = 3.0
"""How long a call waits for a connection."""
MOST_CONNECTIONS = 4
MOST_WAITING_CALLS = 200
UNAVAILABLE_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.UndefinedTable)
"""The database is unavailable, has no tables yet, or every connection is busy."""
_OPTIONS = f"-c search_path={PUBLIC_SCHEMA} -c timezone=UTC -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout=3s"

AccountsConnection = psycopg.AsyncConnection[DictRow]


class _AccountsConnection(BoundedAsyncConnection):
    patience = STATEMENT_SECONDS + 2.0


def accounts_parameters(database_url: str) -> dict[str, Any]:
    """The arguments of a connection, also of a command's own."""
    return connection_parameters(
        database_url, row_factory=dict_row, options=_OPTIONS, application_name="leadstream accounts"
    )


class AccountsDatabase:
    """Open it before the first call."""

    def __init__(self, database_url: str) -> None:
        self._pool: AsyncConnectionPool[AccountsConnection] = AsyncConnectionPool(
            database_url,
            connection_class=_AccountsConnection,
            kwargs=accounts_parameters(database_url),
            min_size=0,
            max_size=MOST_CONNECTIONS,
            max_waiting=MOST_WAITING_CALLS,
            check=check_connection,
            open=False,
        )

    async def open(self) -> None:
        """Returns at once, also while the database is unavailable."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close(timeout=1)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AccountsConnection]:
        try:
            async with self._pool.connection(timeout=POOL_SECONDS) as connection:
                yield connection
        except UNAVAILABLE_ERRORS as error:
            raise RequestProblem(
                503, "the database does not answer; events are still taken", retry_after_s=2
            ) from error

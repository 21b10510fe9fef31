"""The gateway's way into the read models: pooled connections that can only read, and give up in time.

While Postgres is away every question raises Problem 503; nothing is cached in its stead.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import Select, literal, select

from gateway.answers import Problem
from projections.queries import compiled
from projections.tables import READ_OPTIONS

STATEMENT_SECONDS = 15
POOL_SECONDS = 4.0
"""How long a question waits for a connection."""
CONNECTIONS = 12
QUEUE = 200
OPTIONS = f"{READ_OPTIONS} -c default_transaction_read_only=on -c statement_timeout={STATEMENT_SECONDS}s"
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)
"""The database is away, or every connection busy; a statement that took too long counts, too."""

Row = Mapping[str, Any]
Ask = Callable[[Select[Any]], Awaitable[Sequence[Row]]]
Connection = psycopg.AsyncConnection[DictRow]


class Missing(Problem):
    """What is asked for has no table or view in this database."""

    def __init__(self) -> None:
        super().__init__(503, "the tables are not made yet", retry_after_s=2)


class Store:
    """Open it before asking; closed, it answers nothing more."""

    def __init__(self, database_url: str) -> None:
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            database_url,
            connection_class=psycopg.AsyncConnection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "options": OPTIONS,
                "connect_timeout": 5,
                "application_name": "leadstream gateway",
            },
            min_size=1,
            max_size=CONNECTIONS,
            max_waiting=QUEUE,
            configure=_configure,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    async def open(self) -> None:
        """Returns at once, also while the database is away."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def moment(self, patience: float = POOL_SECONDS) -> AsyncIterator[Ask]:
        """A way to ask several questions of one and the same moment."""
        try:
            async with self._pool.connection(timeout=patience) as connection:

                async def ask(question: Select[Any]) -> Sequence[Row]:
                    text, parameters = compiled(question)
                    return await (await connection.execute(text.encode(), parameters)).fetchall()

                yield ask
        except psycopg.errors.UndefinedTable as error:
            raise Missing from error
        except AWAY as error:
            raise Problem(
                503, "the database does not answer; events are still taken", retry_after_s=2
            ) from error

    async def rows(self, question: Select[Any]) -> Sequence[Row]:
        async with self.moment() as ask:
            return await ask(question)

    async def answers(self) -> bool:
        """Whether the database can be asked anything."""
        try:
            async with self.moment(patience=1) as ask:
                await ask(select(literal(1)))
        except Problem:
            return False
        return True


async def _configure(connection: Connection) -> None:
    await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)

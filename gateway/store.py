"""The gateway's way into the read models: pooled connections that can only read, and give up in time.

While Postgres is unavailable every query raises Problem 503; no answer is cached instead.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import Compiled, Select, TextClause, literal, select
from sqlalchemy.dialects.postgresql import psycopg as dialect

from gateway.answers import RequestProblem
from projections.connection import BoundedAsyncConnection, check_connection, connection_parameters
from projections.table_definition import READ_OPTIONS

STATEMENT_SECONDS = 15
ANSWER_SECONDS = 1.5
"""After these the database counts as unavailable."""
POOL_SECONDS = 4.0
"""How long a query waits for a connection."""
MOST_CONNECTIONS = 12
MOST_WAITING_QUERIES = 200
ROWS_AT_ONCE = 200
"""So many rows are read in one step on the event loop."""
SORT_MEMORY = "16MB"
"""Of each sort and hash of a report; more goes to disk."""
CONNECTION_OPTIONS = (
    f"{READ_OPTIONS} -c default_transaction_read_only=on -c statement_timeout={STATEMENT_SECONDS}s "
    f"-c work_mem={SORT_MEMORY} -c plan_cache_mode=force_custom_plan"
)
"""A plan for any values would not know how small a page is, or how many leads a filter matches."""
UNAVAILABLE_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError)
"""The database is unavailable, or every connection busy; a statement that took too long counts, too."""

Row = Mapping[str, Any]
Question = Select[Any] | TextClause
Connection = psycopg.AsyncConnection[DictRow]


class ReadConnection(BoundedAsyncConnection):
    patience = STATEMENT_SECONDS + 2.0


_DIALECT = dialect.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call] # SQLAlchemy leaves its dialects untyped
_compiled: dict[Any, Compiled] = {}
"""Each form of question, without its values; the code has a fixed number of them."""


class TableMissing(RequestProblem):
    """A table or view of the query is not there in this database."""

    def __init__(self) -> None:
        super().__init__(503, "the tables are not made yet", retry_after_s=2)


@dataclass(frozen=True)
class StoreSnapshot:
    """Runs queries in one transaction, all of the same moment."""

    connection: Connection

    async def __call__(self, question: Question) -> Sequence[Row]:
        (rows,) = await self.all(question)
        return rows

    async def all(self, *questions: Question) -> list[Sequence[Row]]:
        """The rows of several queries, sent together."""
        async with self.connection.pipeline():
            cursors = [
                await self.connection.execute(*_sql_and_parameters(question)) for question in questions
            ]
            return [await _fetched(each) for each in cursors]

    async def stream(self, question: Question) -> AsyncIterator[Sequence[Row]]:
        """The rows of a query, ROWS_AT_ONCE at a time: for more rows than memory should have."""
        async with self.connection.cursor("stream") as cursor:
            await cursor.execute(*_sql_and_parameters(question))
            while some := await cursor.fetchmany(ROWS_AT_ONCE):
                yield some


async def _fetched(cursor: psycopg.AsyncCursor[DictRow]) -> Sequence[Row]:
    """All rows; between some of them other requests have their turn."""
    rows: list[Row] = []
    while some := await cursor.fetchmany(ROWS_AT_ONCE):
        rows += some
        await asyncio.sleep(0)
    return rows


def _sql_and_parameters(question: Question) -> tuple[bytes, Mapping[str, Any]]:
    """SQL text and parameters. Compiling costs far more than looking up the form."""
    form = question._generate_cache_key()  # noqa: SLF001 - what SQLAlchemy's own engine finds compiled text by
    if form is None:
        raise TypeError("a query without a cache key would be compiled each time")
    compiled = _compiled.get(form.key)
    if compiled is None:
        compiled = _compiled[form.key] = question.compile(dialect=_DIALECT, cache_key=form)
    return str(compiled).encode(), compiled.construct_params(extracted_parameters=form.bindparams) or {}


class ReadStore:
    """Open it before the first query; after `close` every query fails."""

    def __init__(self, database_url: str) -> None:
        self._looking: asyncio.Task[bool] | None = None
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            database_url,
            connection_class=ReadConnection,
            kwargs=connection_parameters(
                database_url,
                row_factory=dict_row,
                options=CONNECTION_OPTIONS,
                application_name="leadstream gateway",
            ),
            min_size=1,
            max_size=MOST_CONNECTIONS,
            max_waiting=MOST_WAITING_QUERIES,
            configure=_configure_connection,
            check=check_connection,
            open=False,
        )

    async def open(self) -> None:
        """Returns at once, also while the database is unavailable."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def snapshot(self, patience: float = POOL_SECONDS) -> AsyncIterator[StoreSnapshot]:
        """Several queries of one and the same moment."""
        try:
            async with self._pool.connection(timeout=patience) as connection:
                yield StoreSnapshot(connection)
        except psycopg.errors.UndefinedTable as error:
            raise TableMissing from error
        except UNAVAILABLE_ERRORS as error:
            raise RequestProblem(
                503, "the database does not answer; events are still taken", retry_after_s=2
            ) from error

    async def rows(self, question: Question) -> Sequence[Row]:
        async with self.snapshot() as ask:
            return await ask(question)

    async def answers(self) -> bool:
        """Whether the database answers, within ANSWER_SECONDS. Concurrent callers share one query, because a query
        to a server that hangs cannot be cancelled in time.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._answers(), name="check the database")
        done, _ = await asyncio.wait({self._looking}, timeout=ANSWER_SECONDS)
        return bool(done) and self._looking.result()

    async def _answers(self) -> bool:
        try:
            async with self.snapshot(patience=ANSWER_SECONDS) as ask:
                await ask(select(literal(1)))
        except RequestProblem:
            return False
        return True


async def _configure_connection(connection: Connection) -> None:
    await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)

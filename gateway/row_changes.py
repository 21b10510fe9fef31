"""The gateway's changes of rows that no record makes: who has read a message, what is delivered again. Everything else that
it writes is in the log, or belongs to authoring.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import psycopg

from gateway.answers import RequestProblem
from gateway.store import UNAVAILABLE_ERRORS, TableMissing
from projections.connection import Connection, connect_watched

T = TypeVar("T")

_OPTIONS: Final = "-c timezone=UTC -c search_path=live -c statement_timeout=10s -c lock_timeout=5s"


async def change_rows(database_url: str, change: Callable[[Connection], T]) -> T:
    """What the change returns, over a connection of its own. Raises RequestProblem while the database does not answer."""
    return await asyncio.to_thread(_change, database_url, change)


def _change(database_url: str, change: Callable[[Connection], T]) -> T:
    try:
        with connect_watched(database_url, options=_OPTIONS) as connection:
            return change(connection)
    except psycopg.errors.UndefinedTable as error:
        raise TableMissing from error
    except UNAVAILABLE_ERRORS as error:
        raise RequestProblem(
            503, "the database does not answer; nothing was changed", retry_after_s=2
        ) from error

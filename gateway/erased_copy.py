"""Keeps the copy of erased people in memory fresh, so that the door refuses events about them without a database.

Another process knows of an erasure after REFRESH_SECONDS at most, the one that began it at once. What comes in between is
refused by the folds. While the database does not answer, the copy is used as it is.
"""

import asyncio

import psycopg
import structlog

from gateway.accounts.database import AccountsConnection, AccountsDatabase
from gateway.answers import RequestProblem
from scoring.features.erased_people import ErasedPeople

REFRESH_SECONDS = 5.0
FIRST_READ_SECONDS = 2.0
"""So long a start waits for them."""
_STATE = "select count(*) as erasures, coalesce(sum(jsonb_array_length(hashes)), 0) as hashes from erasures"
_READ = "select tenant, salt, hashes from erasures order by requested_at, erasure_id"

_log = structlog.get_logger(__name__)


class ErasedCopy:
    def __init__(self, database: AccountsDatabase, people: ErasedPeople) -> None:
        self._database = database
        self._people = people
        self._state: tuple[int, int] = (0, 0)

    async def refresh(self) -> bool:
        """False: the database does not answer."""
        try:
            async with self._database.transaction() as connection:
                await self._read(connection)
        except (RequestProblem, psycopg.Error) as error:
            if isinstance(error, psycopg.Error):
                _log.exception("the erasures cannot be read")
            return False
        return True

    async def _read(self, connection: AccountsConnection) -> None:
        """Reads all of them only if there are more than before: none is ever taken back."""
        row = await (await connection.execute(_STATE)).fetchone()
        state = (0, 0) if row is None else (row["erasures"], row["hashes"])
        if state == self._state:
            return
        async for each in await connection.execute(_READ):
            self._people.remember(
                each["tenant"], bytes.fromhex(each["salt"]), map(bytes.fromhex, each["hashes"])
            )
        self._state = state

    async def read_first(self) -> None:
        try:
            async with asyncio.timeout(FIRST_READ_SECONDS):
                await self.refresh()
        except TimeoutError:
            _log.warning("the database does not answer: people who were erased are not known yet")

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.refresh()

"""Keeps the copy of the keys in memory fresh, and writes when keys were last used.

A revoked key, and one that has expired early by rotation, is refused after REFRESH_SECONDS at most; in the process that
revoked it, at once. While the database does not answer, the copy is used for `gateway.access.COPY_SECONDS`.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

import psycopg
import structlog

from gateway.access import StoredKeys
from gateway.accounts.database import AccountsDatabase
from gateway.accounts.keys import read_snapshot, write_uses
from gateway.answers import RequestProblem

REFRESH_SECONDS = 5.0
USES_SECONDS = 60.0
"""How often the last use of a key is written."""
FAILURE_SECONDS = 1.0
"""So long nobody asks again after a failure: callers that wait share it."""
FIRST_READ_SECONDS = 2.0
"""So long a start waits for the keys."""

_log = structlog.get_logger(__name__)


class KeyCopy:
    def __init__(self, database: AccountsDatabase, stored: StoredKeys, now: Callable[[], datetime]) -> None:
        self._database = database
        self._stored = stored
        self._now = now
        self._uses_written_at = time.monotonic()
        self._refreshing = asyncio.Lock()
        self._failed_at = -FAILURE_SECONDS

    async def refresh(self) -> bool:
        """Reads the keys. False: the database does not answer, or did not a moment ago."""
        async with self._refreshing:
            clock = time.monotonic()
            if clock - self._failed_at < FAILURE_SECONDS:
                return False
            try:
                async with self._database.transaction() as connection:
                    self._stored.snapshot = await read_snapshot(connection, self._now(), clock)
            except (RequestProblem, psycopg.Error) as error:
                if isinstance(error, psycopg.Error):
                    _log.exception("the keys cannot be read")
                self._failed_at = time.monotonic()
                return False
            return True

    async def read_first(self) -> None:
        """Reads the keys at a start, in time or later."""
        try:
            async with asyncio.timeout(FIRST_READ_SECONDS):
                await self.refresh()
        except TimeoutError:
            _log.warning("the database does not answer: keys that were made are not known yet")

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            if await self.refresh() and time.monotonic() - self._uses_written_at >= USES_SECONDS:
                await self.write_uses()

    async def write_uses(self) -> None:
        """Writes the last use of each key that was used since the last time; later, if the database does not answer."""
        self._uses_written_at = time.monotonic()
        uses, self._stored.uses = self._stored.uses, {}
        if not uses:
            return
        try:
            async with self._database.transaction() as connection:
                await write_uses(connection, list(uses.items()))
        except (RequestProblem, psycopg.Error):
            self._stored.uses = uses | self._stored.uses

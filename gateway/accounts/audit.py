"""The audit log: who changed what, signed in or was refused, when and from where.

Rows are only added (a trigger refuses all else) and name nobody: of what a caller sent for a lead, only the names of the
fields are kept, and of the lead's id a hash; of other changes, the values with e-mail addresses and phone numbers masked. Before an answer to a change goes
out, its row is written, or waits in memory while the database is unavailable. Refusals are listed up to a rate, and then
counted, so that strangers cannot fill the table.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple, overload

import psycopg
import structlog
from msgspec import DecodeError, json

from gateway.access import AccessDenied, RateLimit, TokenBuckets
from gateway.accounts.database import AccountsConnection, AccountsDatabase
from gateway.answers import RequestProblem
from gateway.masking import MASK, mask_text, masked_value

DONE, REFUSED, FAILED = "done", "refused", "failed"
OUTCOMES = (DONE, REFUSED, FAILED)
WRITE_SECONDS = 1.0
"""So long an answer waits for its row."""
RETRY_SECONDS = 2.0
MOST_WAITING = 10_000
"""Rows that wait for the database; the oldest ones are dropped, and the server's log says so."""
ROWS_AT_ONCE = 200
LONGEST_TEXT = 500
"""Characters of what was before, and is after."""
REFUSALS_LISTED = RateLimit(0.2, 20)
"""Of one address: 12 a minute."""
ALL_REFUSALS_LISTED = RateLimit(5, 100)
EVERYBODY = "*"

_log = structlog.get_logger(__name__)


class AuditEntry(NamedTuple):
    tenant: str
    at: datetime
    actor: str
    action: str
    target: str | None = None
    before: str | None = None
    after: str | None = None
    address: str | None = None
    outcome: str = DONE


_INSERT = """insert into audit_log (tenant, at, actor, action, target, before, after, address, outcome)
             values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_SELECT = """select entry_id, at, actor, action, target, before, after, address, outcome from audit_log
             where tenant = any(%(tenants)s)
               and (%(before_id)s::bigint is null or entry_id < %(before_id)s)
               and (%(actor)s::text is null or actor = %(actor)s)
               and (%(action)s::text is null or starts_with(action, %(action)s))
               and (%(target)s::text is null or target = %(target)s)
               and (%(outcome)s::text is null or outcome = %(outcome)s)
               and (%(since)s::timestamptz is null or at >= %(since)s)
               and (%(until)s::timestamptz is null or at < %(until)s)
             order by entry_id desc limit %(limit)s"""


async def write_entries(connection: AccountsConnection, entries: Sequence[AuditEntry]) -> None:
    """In the caller's transaction."""
    async with connection.cursor() as cursor:
        await cursor.executemany(_INSERT, [_storable(each) for each in entries])


async def read_entries(connection: AccountsConnection, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Newest first."""
    cursor = await connection.execute(_SELECT, filters)
    return await cursor.fetchall()


def _storable(entry: AuditEntry) -> AuditEntry:
    return entry._replace(
        action=_plain(entry.action),
        target=_plain(entry.target),
        before=_plain(entry.before),
        after=_plain(entry.after),
    )


@overload
def _plain(text: str) -> str: ...
@overload
def _plain(text: None) -> None: ...
def _plain(text: str | None) -> str | None:
    """Masked, short, and such that PostgreSQL can store it."""
    if text is None:
        return None
    return mask_text(text.replace("\0", "").encode(errors="replace").decode())[:LONGEST_TEXT]


def hashed_id(tenant: str, value: str) -> str:
    """What stands for the id of a person in the log: the same for the same id, so that rows can be filtered by it."""
    return blake2b(f"{tenant}/{value}".encode(errors="replace"), digest_size=8).hexdigest()


def short_text(values: Mapping[str, Any]) -> str:
    """Values as short JSON, with what names people masked."""
    return json.encode(masked_value(None, values)).decode()[:LONGEST_TEXT]


def text_of_body(body: bytes, *, names_only: bool) -> str | None:
    """A request's body for the log. None: there is none. What is no object, or is long, shows only its size."""
    if not body:
        return None
    try:
        content = json.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return f"{len(body)} bytes or more"
    return short_text(dict.fromkeys(content, MASK) if names_only else content)


class AuditLog:
    """Writes rows in the background, in the order in which they came."""

    def __init__(self, database: AccountsDatabase) -> None:
        self._database = database
        self._waiting: deque[tuple[AuditEntry, asyncio.Event]] = deque()
        self._wake = asyncio.Event()
        self._of_address = TokenBuckets(REFUSALS_LISTED)
        self._of_all = TokenBuckets(ALL_REFUSALS_LISTED)
        self._unlisted = 0
        self._is_writing = False
        """Whether the rows before were written: else nobody waits for the next ones."""

    async def record(self, entry: AuditEntry) -> None:
        """Returns when the row is written, or after WRITE_SECONDS: then it is written later."""
        written = self._add(entry)
        if not self._is_writing:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await written.wait()
        except TimeoutError:
            _log.warning("the audit log's database does not answer; rows wait", waiting=len(self._waiting))

    def record_refusal(self, entry: AuditEntry) -> None:
        """Lists a refusal, unless there are too many: then it is counted into the next one that is listed."""
        try:
            self._of_address.take(entry.address or "", 1, time.monotonic())
            self._of_all.take("", 1, time.monotonic())
        except AccessDenied:
            self._unlisted += 1
            return
        if self._unlisted:
            entry = entry._replace(
                after=f"{entry.after or ''} ({self._unlisted} more are not listed)".strip()
            )
            self._unlisted = 0
        self._add(entry)

    def _add(self, entry: AuditEntry) -> asyncio.Event:
        written = asyncio.Event()
        if len(self._waiting) >= MOST_WAITING:
            _log.error("a row of the audit log is dropped", dropped=self._waiting.popleft()[0]._asdict())
        self._waiting.append((entry, written))
        self._wake.set()
        return written

    async def run(self) -> None:
        """Until it is cancelled."""
        self._is_writing = True
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                try:
                    await self.write_waiting()
                except (RequestProblem, psycopg.Error):
                    self._is_writing = False
                    _log.exception("the audit log cannot be written; rows wait", waiting=len(self._waiting))
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    self._is_writing = True

    async def write_waiting(self) -> None:
        """Raises RequestProblem while the database is unavailable."""
        rows = [self._waiting.popleft() for _ in range(min(ROWS_AT_ONCE, len(self._waiting)))]
        if not rows:
            return
        try:
            async with self._database.transaction() as connection:
                await write_entries(connection, [entry for entry, _ in rows])
        except BaseException:
            self._waiting.extendleft(reversed(rows))
            raise
        for _, written in rows:
            written.set()

"""Whom an e-mail or phone belongs to, looked up in the read models for the door.

It answers in a quarter of a second or not at all: events are taken while Postgres is away or slow. After a
question that was not answered, nobody asks for a moment. It only reads, and says nothing it does not know:
what was recorded milliseconds ago may not show yet.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool

from gateway.door.resolving import IDENTIFY_BY, AddressMatches, AddressQuery
from gateway.ports import Ports
from leadstream.settings import Settings
from projections.connection import BoundedAsyncConnection, check, parameters
from projections.tables import IDENTIFIED_AND_UNMERGED, READ_OPTIONS, key_of
from schemas.topics import visitor_key
from scoring.features.identity import identity_id, is_anonymous

SECONDS = 0.25
"""For all questions of a request."""
PAUSE_SECONDS = 2.0
"""Without questions, after one that was not answered."""
CONNECTIONS = 4
QUEUE = 200
AT_ONCE = 500
"""Questions in one statement: what is answered when time is up, counts."""
MOST = 4
"""So many leads of one address are several: no more are looked at."""
UNAVAILABLE_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.UndefinedTable)
"""The database is away or too slow, every connection is busy, or it has no tables yet."""

OPTIONS: Final = (
    f"{READ_OPTIONS} -c default_transaction_read_only=on -c statement_timeout={round(SECONDS * 1000)}ms"
)
BY_EMAIL: Final = f"""
    select number, lead_id from unnest(%s::bigint[], %s::text[], %s::text[]) as asked(number, tenant, email),
    lateral (select lead_id from leads l where l.tenant = asked.tenant and l.email = asked.email and {IDENTIFIED_AND_UNMERGED}
             limit {MOST}) found"""  # noqa: S608 - made of constants
BY_PHONE: Final = f"""
    select number, lead_id
    from unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) as asked(number, tenant, phone, email),
    lateral (select lead_id from leads l where l.tenant = asked.tenant and l.phone = asked.phone and {IDENTIFIED_AND_UNMERGED}
             and (asked.email is null or l.email is null or l.email = asked.email) limit {MOST}) found"""  # noqa: S608 - as above
HOMES: Final = "select identity_key, home, lead_id from identities where identity_key = any(%s)"

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_log = structlog.get_logger(__name__)


class Contacts:
    """Open it before asking."""

    def __init__(self, database_url: str) -> None:
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            database_url,
            connection_class=BoundedAsyncConnection,
            kwargs=parameters(
                database_url, autocommit=True, options=OPTIONS, application_name="leadstream door"
            ),
            min_size=1,
            max_size=CONNECTIONS,
            max_waiting=QUEUE,
            check=check,
            open=False,
        )
        self._silent_until = 0.0
        self._asking: set[asyncio.Task[list[AddressMatches]]] = set()

    async def open(self) -> None:
        """Returns at once, also while the database is away."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        for task in self._asking:
            task.cancel()
        await self._pool.close(timeout=1)

    async def resolve(self, asked: Sequence[AddressQuery]) -> Sequence[AddressMatches | None]:
        """In order; None for each that was not answered in time."""
        until = time.monotonic() + SECONDS
        answers: list[AddressMatches | None] = []
        for begin in range(0, len(asked), AT_ONCE):
            if not self._silent_until <= time.monotonic() < until:
                break
            found = await self._in_time(asked[begin : begin + AT_ONCE], until)
            if found is None:
                if begin == 0:  # else the request was long, and the database well
                    self._silent_until = time.monotonic() + PAUSE_SECONDS
                break
            answers += found
        return answers + [None] * (len(asked) - len(answers))

    async def _in_time(self, asked: Sequence[AddressQuery], until: float) -> list[AddressMatches] | None:
        """A question to a server that hangs cannot be taken back in time: it is left behind."""
        left = max(0.0, until - time.monotonic())
        task = asyncio.create_task(self._ask(asked, left), name="look up addresses")
        self._asking.add(task)
        task.add_done_callback(self._asked)
        done, _ = await asyncio.wait([task], timeout=left)
        return task.result() if done and not task.cancelled() and task.exception() is None else None

    def _asked(self, task: "asyncio.Task[list[AddressMatches]]") -> None:
        self._asking.discard(task)
        if (
            not task.cancelled()
            and (failed := task.exception()) is not None
            and not isinstance(failed, UNAVAILABLE_ERRORS)
        ):
            _log.error("addresses could not be looked up", exc_info=failed)

    async def _ask(self, asked: Sequence[AddressQuery], seconds: float) -> list[AddressMatches]:
        async with self._pool.connection(timeout=seconds) as connection, connection.pipeline():
            emails = [(n, a.tenant, a.email) for n, a in enumerate(asked) if a.email is not None]
            phones = [(n, a.tenant, a.phone, a.email) for n, a in enumerate(asked) if a.phone is not None]
            keys = [key_of(identity_id(visitor_key(a.tenant, a.visitor_id), 0)) for a in asked]
            by_email = await connection.execute(BY_EMAIL, _columns(emails, 3))
            by_phone = await connection.execute(BY_PHONE, _columns(phones, 4))
            homes = await connection.execute(HOMES, [list(set(keys))])
            found_by_email = _grouped(await by_email.fetchall())
            found_by_phone = _grouped(await by_phone.fetchall())
            at_home = {key: (home, owner) for key, home, owner in await homes.fetchall()}
        return [
            AddressMatches(*_known_home(at_home.get(key)), tuple(found_by_email[n]), tuple(found_by_phone[n]))
            for n, key in enumerate(keys)
        ]


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[at] for row in rows] for at in range(width)]


def _grouped(rows: Iterable[tuple[int, str]]) -> defaultdict[int, list[str]]:
    found: defaultdict[int, list[str]] = defaultdict(list)
    for number, lead_id in rows:
        found[number].append(lead_id)
    return found


def _known_home(found: tuple[str, str] | None) -> tuple[str | None, str | None]:
    """Home and owner of the first person behind a key, whom every claim so far was about; none, if no
    claim ever was.
    """
    return (None, None) if found is None or is_anonymous(found[0]) else found


@asynccontextmanager
async def with_contacts(ports: Ports, settings: Settings) -> AsyncIterator[Ports]:
    """The same ports, and addresses are looked up, if the settings say so."""
    by = [kind for kind in IDENTIFY_BY if kind in settings.identify_by.split(",")]
    if not by:
        yield ports
        return
    contacts = Contacts(ports.database_url)
    await contacts.open()
    try:
        yield replace(ports, resolve=contacts.resolve, identify_by=by)
    finally:
        await contacts.close()

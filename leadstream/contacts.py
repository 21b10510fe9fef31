"""Looks up for the door which leads an e-mail address or a phone number belongs to, in the read models.

A lookup takes a quarter of a second at most, because events are accepted while Postgres is unavailable or slow.
After a lookup that failed, there are no lookups for two seconds. It only reads. It may miss a lead that was
recorded milliseconds ago.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool

from delivery.crm.crm_worker import CrmContact, FindLeads, FoundLead
from delivery.outcomes import DeliveryFailedError
from gateway.door.addresses import EMAIL, PHONE, email_of_one_person, phone_of_one_person
from gateway.door.resolving import (
    IDENTIFY_BY,
    AddressMatches,
    AddressQuery,
    leads_of_address,
    resolve_lead,
)
from gateway.ports import Ports
from leadstream.settings import Settings
from projections.connection import BoundedAsyncConnection, check_connection, connection_parameters
from projections.row_keys import hashed_key, lead_row_key
from projections.table_definition import READ_OPTIONS
from projections.tables import IDENTIFIED_AND_UNMERGED
from schemas.topics import visitor_key
from scoring.features.identity import LONGEST_PATH, identity_id, is_anonymous, owner_by_redirects
from scoring.features.unique_identifiers import Identifiers, identifiers_in

LOOKUP_SECONDS = 0.25
"""For all lookups of a request."""
PAUSE_AFTER_FAILURE_SECONDS = 2.0
"""How long there are no lookups after one that failed."""
MOST_CONNECTIONS = 4
MOST_WAITING_LOOKUPS = 200
QUERIES_AT_ONCE = 500
"""Lookups in one statement. When the time is up, the results of the finished statements count."""
MOST_LEADS_PER_ADDRESS = 4
"""How many leads of one address are read. More make no difference: the address is ambiguous."""
UNAVAILABLE_ERRORS = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.UndefinedTable)
"""The database is unavailable or too slow, has no tables yet, or every connection is busy."""

CONNECTION_OPTIONS: Final = f"{READ_OPTIONS} -c default_transaction_read_only=on -c statement_timeout={round(LOOKUP_SECONDS * 1000)}ms"
# Sorted, so that the planner counts on reading all matches: else it may walk a tenant's leads for the first few of them.
_OTHER_ADDRESS = "l.other_addresses @> jsonb_build_array({})"
SELECT_LEADS_BY_EMAIL: Final = f"""
    select number, lead_id, own from unnest(%s::bigint[], %s::text[], %s::text[]) as query(number, tenant, email),
    lateral ((select lead_id, true as own from leads l
              where l.tenant = query.tenant and l.email = query.email and {IDENTIFIED_AND_UNMERGED} limit {MOST_LEADS_PER_ADDRESS})
             union all
             (select lead_id, false from leads l where l.tenant = query.tenant
                and {_OTHER_ADDRESS.format("query.email")} and {IDENTIFIED_AND_UNMERGED}
              order by lead_id limit {MOST_LEADS_PER_ADDRESS})) matching"""  # noqa: S608 - made of constants
_FITS_EMAIL = f"(query.email is null or l.email is null or l.email = query.email or {_OTHER_ADDRESS.format('query.email')})"
SELECT_LEADS_BY_PHONE: Final = f"""
    select number, lead_id, own
    from unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) as query(number, tenant, phone, email),
    lateral ((select lead_id, true as own from leads l where l.tenant = query.tenant and l.phone = query.phone
                and {_FITS_EMAIL} and {IDENTIFIED_AND_UNMERGED} limit {MOST_LEADS_PER_ADDRESS})
             union all
             (select lead_id, false from leads l where l.tenant = query.tenant and {_OTHER_ADDRESS.format("query.phone")}
                and {_FITS_EMAIL} and {IDENTIFIED_AND_UNMERGED} order by lead_id limit {MOST_LEADS_PER_ADDRESS})) matching"""  # noqa: S608 - as above
SELECT_IDENTIFIERS: Final = (
    "select lead_id, redirect, identities, fields, other_addresses from leads where lead_key = any(%s)"
)
SELECT_HOME_LEADS: Final = "select identity_key, home, lead_id from identities where identity_key = any(%s)"

T = TypeVar("T")
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_log = structlog.get_logger(__name__)


class AddressLookup:
    """A pool of connections for lookups. Call `open` first."""

    def __init__(self, database_url: str) -> None:
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            database_url,
            connection_class=BoundedAsyncConnection,
            kwargs=connection_parameters(
                database_url, autocommit=True, options=CONNECTION_OPTIONS, application_name="leadstream door"
            ),
            min_size=1,
            max_size=MOST_CONNECTIONS,
            max_waiting=MOST_WAITING_LOOKUPS,
            check=check_connection,
            open=False,
        )
        self._paused_until = 0.0
        self._lookups: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Returns at once, even if the database is unavailable."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        for task in self._lookups:
            task.cancel()
        await self._pool.close(timeout=1)

    async def resolve(self, queries: Sequence[AddressQuery]) -> Sequence[AddressMatches | None]:
        """A result for each query, in order; None for each that was not answered in time."""
        until = time.monotonic() + LOOKUP_SECONDS
        answers: list[AddressMatches | None] = []
        for begin in range(0, len(queries), QUERIES_AT_ONCE):
            if not self._paused_until <= time.monotonic() < until:
                break
            matches = await self._in_time(
                partial(look_up, queries=queries[begin : begin + QUERIES_AT_ONCE]), until
            )
            if matches is None:
                if begin == 0:  # later, only the request was long: the database answers
                    self._paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
                break
            answers += matches
        return answers + [None] * (len(queries) - len(answers))

    async def look_up_identifiers(
        self, tenant: str, lead_ids: Sequence[str], fields: Sequence[str]
    ) -> Mapping[str, Identifiers] | None:
        """None if there was no answer in time."""
        if time.monotonic() < self._paused_until:
            return None
        ask = partial(look_up_identifiers, tenant=tenant, lead_ids=lead_ids, fields=fields)
        identifiers = await self._in_time(ask, time.monotonic() + LOOKUP_SECONDS)
        if identifiers is None:
            self._paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
        return identifiers

    async def _in_time(self, ask: Callable[[Connection], Awaitable[T]], until: float) -> T | None:
        """None if it takes too long or fails. A lookup on a server that hangs is abandoned, since cancelling it could hang."""
        left = max(0.0, until - time.monotonic())
        task = asyncio.create_task(self._look_up(ask, left), name="look up addresses")
        self._lookups.add(task)
        task.add_done_callback(self._lookup_done)
        done, _ = await asyncio.wait([task], timeout=left)
        return task.result() if done and not task.cancelled() and task.exception() is None else None

    def _lookup_done(self, task: "asyncio.Task[Any]") -> None:
        self._lookups.discard(task)
        if (
            not task.cancelled()
            and (failed := task.exception()) is not None
            and not isinstance(failed, UNAVAILABLE_ERRORS)
        ):
            _log.error("addresses could not be looked up", exc_info=failed)

    async def _look_up(self, ask: Callable[[Connection], Awaitable[T]], seconds: float) -> T:
        async with self._pool.connection(timeout=seconds) as connection:
            return await ask(connection)


async def look_up(connection: Connection, queries: Sequence[AddressQuery]) -> list[AddressMatches]:
    """The matches of each query, in order. The connection has the search path of `READ_OPTIONS`."""
    emails = [(n, a.tenant, a.email) for n, a in enumerate(queries) if a.email is not None]
    phones = [(n, a.tenant, a.phone, a.email) for n, a in enumerate(queries) if a.phone is not None]
    keys = [hashed_key(identity_id(visitor_key(a.tenant, a.visitor_id), 0)) for a in queries]
    async with connection.pipeline():
        by_email = await connection.execute(SELECT_LEADS_BY_EMAIL, _columns(emails, 3))
        by_phone = await connection.execute(SELECT_LEADS_BY_PHONE, _columns(phones, 4))
        home_leads = await connection.execute(SELECT_HOME_LEADS, [list(set(keys))])
        leads_by_email = leads_by_number(await by_email.fetchall())
        leads_by_phone = leads_by_number(await by_phone.fetchall())
        assignments = {key: (home_lead, owner) for key, home_lead, owner in await home_leads.fetchall()}
    return [
        AddressMatches(
            *_home_lead_and_owner(assignments.get(key)), leads_by_email.get(n, ()), leads_by_phone.get(n, ())
        )
        for n, key in enumerate(keys)
    ]


async def look_up_identifiers(
    connection: Connection, tenant: str, lead_ids: Sequence[str], fields: Sequence[str]
) -> dict[str, Identifiers]:
    """The values of these profile fields that each lead has, or the lead that it was merged into."""
    redirects: dict[str, str | None] = {}
    identifiers: dict[str, Identifiers] = {}
    missing = set(lead_ids)
    while missing and len(redirects) <= LONGEST_PATH * len(lead_ids):
        keys = [lead_row_key(tenant, lead_id) for lead_id in sorted(missing)]
        redirects |= dict.fromkeys(missing)
        for lead_id, redirect, identities, stored, others in await (
            await connection.execute(SELECT_IDENTIFIERS, [keys])
        ).fetchall():
            redirects[lead_id] = redirect if identities == 0 else None
            identifiers[lead_id] = _identifiers_of_lead(stored, others or (), fields)
        missing = {redirect for redirect in redirects.values() if redirect is not None} - redirects.keys()
    return {lead_id: identifiers.get(owner_by_redirects(lead_id, redirects.get), {}) for lead_id in lead_ids}


def _identifiers_of_lead(
    stored: Mapping[str, Any], others: Iterable[str], fields: Sequence[str]
) -> Identifiers:
    identifiers = identifiers_in(stored, fields)
    for address in others:
        kind = EMAIL if "@" in address else PHONE
        if kind in fields:
            identifiers[kind] = identifiers.get(kind, frozenset()) | {address}
    return identifiers


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[at] for row in rows] for at in range(width)]


def leads_by_number(rows: Iterable[tuple[int, str, bool]]) -> dict[int, tuple[str, ...]]:
    """The leads of each query, of rows of (its number, lead, whether the lead shows the address)."""
    own: defaultdict[int, list[str]] = defaultdict(list)
    others: defaultdict[int, list[str]] = defaultdict(list)
    for number, lead_id, shown in rows:
        (own if shown else others)[number].append(lead_id)
    return {number: leads_of_address(own[number], others[number]) for number in {*own, *others}}


def _home_lead_and_owner(assignment: tuple[str, str] | None) -> tuple[str | None, str | None]:
    """The home lead and the owner of a visitor's first identity; (None, None) while no event has claimed
    the visitor for a lead.
    """
    return (None, None) if assignment is None or is_anonymous(assignment[0]) else assignment


@asynccontextmanager
async def lead_finder(settings: Settings, database_url: str) -> AsyncIterator[FindLeads]:
    """Finds the leads of a CRM's contacts, by the rules by which the door finds those of events."""
    by = [kind for kind in IDENTIFY_BY if kind in settings.identify_by.split(",")]
    contacts = AddressLookup(database_url)
    is_open = False

    async def find(tenant: str, these: Sequence[CrmContact]) -> Sequence[FoundLead | None]:
        nonlocal is_open
        if not is_open:  # most systems read no CRM, and need no connections for it
            await contacts.open()
            is_open = True
        region = settings.default_phone_region
        queries = [_address_query(tenant, each, by, region) for each in these]
        usable = [each for each in queries if each is not None]
        matches = iter(await contacts.resolve(usable) if usable else ())
        leads: list[FoundLead | None] = []
        for query in queries:
            match = None if query is None else next(matches)
            if query is not None and match is None:
                raise DeliveryFailedError("the read models do not answer", channel_fails=False)
            leads.append(None if query is None or match is None else _found_lead(query, match))
        return leads

    try:
        yield find
    finally:
        if is_open:
            await contacts.close()


def _address_query(
    tenant: str, contact: CrmContact, by: Sequence[str], region: str | None
) -> AddressQuery | None:
    email = email_of_one_person(contact.email) if contact.email and EMAIL in by else None
    phone = phone_of_one_person(contact.phone, region, "crm") if contact.phone and PHONE in by else None
    if email is None and phone is None:
        return None
    return AddressQuery(tenant, contact.visitor_id, email, phone)


def _found_lead(query: AddressQuery, matches: AddressMatches) -> FoundLead | None:
    lead = resolve_lead(query, matches)
    if lead is None:
        return None
    addresses = {EMAIL: query.email, PHONE: query.phone}
    return FoundLead(
        lead.lead_id,
        bool(matches.by_email or matches.by_phone),
        {kind: address for kind, address in addresses.items() if address is not None},
    )


@asynccontextmanager
async def with_address_lookup(ports: Ports, settings: Settings) -> AsyncIterator[Ports]:
    """The same ports, with a lookup of unique identifiers, and of addresses if the settings ask for one."""
    by = [kind for kind in IDENTIFY_BY if kind in settings.identify_by.split(",")]
    contacts = AddressLookup(ports.database_url)
    await contacts.open()
    ports = replace(ports, look_up_identifiers=contacts.look_up_identifiers)
    try:
        yield replace(ports, resolve=contacts.resolve, identify_by=by) if by else ports
    finally:
        await contacts.close()

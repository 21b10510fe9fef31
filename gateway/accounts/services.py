"""What recognises callers and keeps the audit log, one set per application: a handler finds it through its request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from gateway.access import TokenBuckets, client_address
from gateway.accounts.audit import AuditLog
from gateway.accounts.database import AccountsDatabase
from gateway.accounts.key_copy import KeyCopy
from gateway.accounts.keys import Author
from gateway.accounts.passwords import PasswordChecks
from gateway.accounts.sessions import is_https
from gateway.answers import RequestProblem
from gateway.erased_copy import ErasedCopy
from gateway.ports import Ports

if TYPE_CHECKING:
    from gateway.accounts.oidc import OidcClient

LAST_ROWS_SECONDS = 2.0
"""So long a stop waits for the database, for the last rows of the audit log."""


@dataclass(frozen=True)
class AccountServices:
    ports: Ports
    database: AccountsDatabase
    audit: AuditLog
    keys: KeyCopy | None
    """None: only settings have keys."""
    erased: ErasedCopy
    passwords: PasswordChecks
    oidc: "OidcClient | None"
    request_buckets: TokenBuckets
    refusal_buckets: TokenBuckets

    def author(self, request: Request, actor: str) -> Author:
        return Author(actor, self.ports.now(), client_address(request, self.ports.access))

    def is_secure(self, request: Request) -> bool:
        return is_https(request, self.ports.access, self.ports.public_url)


def make_account_services(ports: Ports) -> AccountServices:
    database = AccountsDatabase(ports.database_url)
    stored = ports.access.stored
    return AccountServices(
        ports,
        database,
        AuditLog(database),
        None if stored is None else KeyCopy(database, stored, ports.now),
        ErasedCopy(database, ports.erased),
        PasswordChecks(),
        _oidc_client(ports),
        TokenBuckets(ports.request_rate, "this key may make {} requests a second"),
        TokenBuckets(ports.refusal_rate, "this address was refused too often: {} times a second are allowed"),
    )


def _oidc_client(ports: Ports) -> "OidcClient | None":
    if ports.oidc is None:
        return None
    from gateway.accounts.oidc import OidcClient  # noqa: PLC0415 - its libraries take a second to load, and few need them

    return OidcClient(ports.oidc)


def accounts_of(request: Request) -> AccountServices:
    services: AccountServices = request.app.state.accounts
    return services


def stored_accounts(services: AccountServices) -> AccountServices:
    """Raises RequestProblem where keys and people are only in the settings."""
    if services.keys is None:
        raise RequestProblem(503, "this gateway keeps no keys and no people")
    return services


async def refreshed_keys(services: AccountServices) -> None:
    """What was changed counts in this process at once."""
    if services.keys is not None:
        await services.keys.refresh()


@contextlib.asynccontextmanager
async def running_accounts(services: AccountServices) -> AsyncIterator[None]:
    """Keys are fresh, and the audit log is written, as long as this is open."""
    await services.database.open()
    await services.erased.read_first()
    tasks = [
        asyncio.create_task(services.audit.run(), name="write the audit log"),
        asyncio.create_task(services.erased.run(), name="refresh the erasures"),
    ]
    if services.keys is not None:
        await services.keys.read_first()
        tasks.append(asyncio.create_task(services.keys.run(), name="refresh the keys"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with contextlib.suppress(Exception):  # the database may be gone; there is nobody left to tell
            async with asyncio.timeout(LAST_ROWS_SECONDS):
                await services.audit.write_waiting()
                if services.keys is not None:
                    await services.keys.write_uses()
        await services.database.close()

"""Before every handler: who calls, whether the route's scope allows it, and whether it is too often.

Routes of the door (`collect`) check their callers themselves, since pages of other sites must be able to read the refusal.
A refusal here is a row of the audit log.
"""

import time

from starlette.requests import Request

from gateway.access import (
    AccessDenied,
    Caller,
    allowed,
    any_caller,
    bearer_token,
    client_address,
    operator_caller,
)
from gateway.accounts.audit import EVERYBODY, REFUSED, AuditEntry
from gateway.accounts.lock_out import address_subject
from gateway.accounts.services import AccountServices, accounts_of
from gateway.accounts.sessions import (
    COOKIE,
    CSRF_HEADER,
    UserSession,
    cookie_value,
    is_csrf_token,
    session_of,
)
from gateway.local_access import READING_METHODS
from gateway.scopes import (
    ANY_CALLER,
    COLLECT_OR_READ,
    COLLECT_SCOPE,
    METRICS_OR_READ,
    NO_KEY,
    scope_of_route,
)

CHECKED_ELSEWHERE = frozenset({NO_KEY, COLLECT_SCOPE, COLLECT_OR_READ})


async def authorize_request(request: Request) -> None:
    """A dependency of every route. Raises AccessDenied; else `request.state.caller` is the caller."""
    needed = scope_of_route(request.method, request.scope["route"].path)
    if needed in CHECKED_ELSEWHERE:
        return
    services = accounts_of(request)
    caller: Caller | None = None
    try:
        await _read_keys_first(services, needed)
        await _recognise_person(request, services)
        if needed == METRICS_OR_READ:
            operator_caller(request, services.ports.access)
            return
        caller = any_caller(request, services.ports.access)
        services.request_buckets.take(caller.key, 1, time.monotonic())
        if needed != ANY_CALLER:
            allowed(caller, needed)
    except AccessDenied as denied:
        raise _recorded(request, services, caller, denied) from None
    request.state.caller = caller


async def _read_keys_first(services: AccountServices, needed: str) -> None:
    """Until the database has answered once, nobody can tell whether this server has keys."""
    stored = services.ports.access.stored
    if stored is None or stored.snapshot is not None or needed == METRICS_OR_READ or services.keys is None:
        return
    if not await services.keys.refresh():
        raise AccessDenied(503, "the database does not answer; events are still taken", retry_after_s=2)


async def _recognise_person(request: Request, services: AccountServices) -> None:
    """Sets the caller that the session's cookie names. A token in the request wins."""
    if services.ports.access.is_open or bearer_token(request) is not None:
        return
    session = await session_of_request(request, services)
    if session is None:
        return
    if request.method not in READING_METHODS and not is_csrf_token(
        session.token, request.headers.get(CSRF_HEADER, "")
    ):
        raise AccessDenied(
            403, "a change by a signed-in browser needs the header X-CSRF-Token, which /api/session shows"
        )
    request.state.signed_in_caller = session.caller
    request.state.user_session = session


async def session_of_request(request: Request, services: AccountServices) -> UserSession | None:
    """Raises RequestProblem while the database does not answer, or for an address that has guessed too often."""
    token = cookie_value(request, COOKIE, secure=services.is_secure(request))
    if token is None:
        return None
    network = _network_of(request, services)
    services.refusal_buckets.require(network, time.monotonic())
    async with services.database.transaction() as connection:
        session = await session_of(connection, token, services.ports.now(), services.ports.session_times)
    if session is None:  # a lookup for nobody
        services.refusal_buckets.take(network, 1, time.monotonic())
    return session


def _network_of(request: Request, services: AccountServices) -> str:
    return address_subject(client_address(request, services.ports.access))


def _recorded(
    request: Request, services: AccountServices, caller: Caller | None, denied: AccessDenied
) -> AccessDenied:
    """The refusal, of which the audit log has a row; too many of one address are refused as such."""
    if denied.status == 503:
        return denied
    address = client_address(request, services.ports.access)
    entry = AuditEntry(
        tenant=(caller and caller.tenant) or EVERYBODY,
        at=services.ports.now(),
        actor=caller.actor if caller else "nobody",
        action=f"{request.method} {request.scope['route'].path}",
        after=f"{denied.status}: {denied.reason}",
        address=address,
        outcome=REFUSED,
    )
    if denied.status != 401 or request.headers.get("authorization") or request.cookies:
        services.audit.record_refusal(entry)  # a request that claims nothing is not worth a row
    if denied.status == 401:
        try:
            services.refusal_buckets.take(address_subject(address), 1, time.monotonic())
        except AccessDenied as too_often:
            return too_often
    return denied

"""Around every change through the API: a row of the audit log, written before the answer goes out.

What records itself, in the transaction of the change, says so by `request.state.audited`.
"""

from collections.abc import Mapping

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access import Caller, client_address
from gateway.accounts.audit import DONE, FAILED, AuditEntry, hashed_id, text_of_body
from gateway.accounts.services import AccountServices
from gateway.local_access import READING_METHODS
from gateway.scopes import ADMIN_SCOPE, AUTHOR_SCOPE, WRITE_SCOPE, scope_of_route
from schemas.envelope import DEFAULT_TENANT

CHANGING_SCOPES = frozenset({WRITE_SCOPE, AUTHOR_SCOPE, ADMIN_SCOPE})
API_PREFIX = "/api/"
LARGEST_BODY_SHOWN = 4_096
IDS_OF_PEOPLE = frozenset({"lead_id", "session_id", "visitor_id", "event_id", "token"})
"""Parameters of paths of which only a hash is kept."""
ROUTES_ABOUT_PEOPLE = frozenset({"/api/erasures", "/api/person-exports"})
"""Whose bodies name a person: only the names of their fields are kept."""


def with_audit(app: ASGIApp) -> ASGIApp:
    async def audited(scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] in READING_METHODS
            or not scope["path"].startswith(API_PREFIX)
        ):
            await app(scope, receive, send)
            return
        body = bytearray()

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                body.extend(message.get("body", b"")[: LARGEST_BODY_SHOWN + 1 - len(body)])
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                await _record(scope, bytes(body), message["status"])
            await send(message)

        await app(scope, receiving, sending)

    return audited


async def _record(scope: Scope, body: bytes, status: int) -> None:
    state = scope.get("state", {})
    caller: Caller | None = state.get("caller")
    if caller is None or state.get("audited") or 400 <= status < 500:
        return
    route = scope["route"].path
    needed = scope_of_route(scope["method"], route)
    if needed not in CHANGING_SCOPES:
        return
    services: AccountServices = scope["app"].state.accounts
    tenant = caller.tenant or DEFAULT_TENANT
    entry = AuditEntry(
        tenant=tenant,
        at=services.ports.now(),
        actor=caller.actor,
        action=f"{scope['method']} {route}",
        target=_target(tenant, scope.get("path_params", {})),
        after=text_of_body(
            body, names_only=needed == WRITE_SCOPE or route.rstrip("/") in ROUTES_ABOUT_PEOPLE
        ),
        address=client_address(HTTPConnection(scope), services.ports.access),
        outcome=DONE if status < 400 else FAILED,
    )
    await services.audit.record(entry)


def _target(tenant: str, parameters: Mapping[str, object]) -> str | None:
    return (
        " ".join(
            f"{name}={hashed_id(tenant, str(value)) if name in IDS_OF_PEOPLE else value}"
            for name, value in parameters.items()
        )
        or None
    )

"""Cross-origin requests to the API: only of the origins that a setting names. The door, which takes events from pages of all
sites, answers for itself (`gateway.door.cors`), and looks at no cookie.
"""

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.scopes import COLLECT_OR_READ, COLLECT_SCOPE, ROUTE_SCOPES

API_PREFIX = "/api/"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = ("Authorization", "Content-Type", "If-None-Match", "X-CSRF-Token", "X-Tenant")
SHOWN_HEADERS = ("ETag", "Link", "Retry-After")
PREFLIGHT_SECONDS = 600
DOOR_PREFIXES = tuple(
    route.partition(" ")[2].partition("{")[0]
    for route, scope in ROUTE_SCOPES.items()
    if scope in {COLLECT_SCOPE, COLLECT_OR_READ}
)
"""Addresses that answer pages of all sites by themselves."""


def with_api_cors(app: ASGIApp, origins: Collection[str], *, credentials: bool) -> ASGIApp:
    if not origins:
        return app
    readable = CORSMiddleware(
        app,
        allow_origins=tuple(origins),
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=SHOWN_HEADERS,
        allow_credentials=credentials,
        max_age=PREFLIGHT_SECONDS,
    )

    async def chosen(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        of_api = (
            scope["type"] == "http" and path.startswith(API_PREFIX) and not path.startswith(DOOR_PREFIXES)
        )
        await (readable if of_api else app)(scope, receive, send)

    return chosen

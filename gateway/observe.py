"""Around every request: it is counted, timed and logged, carries the security headers, and whatever
breaks is answered with a plain 500 and logged with its trace, which the caller never sees.

Query strings are not logged: they may carry a write key.
"""

import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import metrics
from gateway.answers import RequestProblem, answer_to_problem

COUNTED_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNLOGGED_PATHS = frozenset({"/health", "/ready", "/metrics"})
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Pages load nothing from elsewhere and run no inline script, so no data can become one."""

UNLOGGED_PARAMETER = "{token}"
"""Of a route's path: with what stands there in a request, anybody could follow the link of a mail as its lead."""

log = structlog.get_logger("gateway")


def with_observation(app: ASGIApp) -> ASGIApp:
    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await app(scope, receive, sending)
        except Exception:
            log.exception("request failed", method=scope["method"], path=_logged_path(scope))
            if status:
                raise
            await answer_to_problem(RequestProblem(500, "something broke here; the log says what"))(
                scope, receive, sending
            )
        finally:
            _record_request(scope, status, time.perf_counter() - started)

    return watched


def _logged_path(scope: Scope) -> str:
    route = getattr(scope.get("route"), "path", "")
    return str(route if UNLOGGED_PARAMETER in route else scope["path"])


def _record_request(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "other")
    method = scope["method"] if scope["method"] in COUNTED_METHODS else "other"
    metrics.REQUESTS.labels(method, route, str(status)).inc()
    metrics.REQUEST_SECONDS.labels(route).observe(seconds)
    if scope["path"] not in UNLOGGED_PATHS:
        log.debug(
            "request", method=method, path=_logged_path(scope), status=status, ms=round(seconds * 1000, 1)
        )

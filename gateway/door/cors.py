"""Cross-origin requests: pages of any site may send events and read the answers, by the CORS protocol of the Fetch
standard (https://fetch.spec.whatwg.org/#http-cors-protocol).

`navigator.sendBeacon` always sends with credentials, and then a browser accepts no wildcard: the answer names the
page's origin. That gives a page nothing: no answer depends on cookies, and every request needs a key of its own.
"""

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from gateway.door.services import door_of

_SAFE_HEADER_NAMES = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z, ]{1,2048}")
_USUAL_HEADERS = "authorization, content-type, content-encoding, x-write-key, x-sent-at, x-tenant"


def cors_headers(request: Request) -> Mapping[str, str]:
    """The headers of an answer that a page of another site may read."""
    readable = {
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Access-Control-Expose-Headers": "Retry-After",
        "Vary": "Origin",
    }
    origin = request.headers.get("origin")
    if origin is None:
        return {**readable, "Access-Control-Allow-Origin": "*"}
    return {
        **readable,
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
    }


async def answer_preflight(request: Request) -> Response:
    """Allows every header that the page wants to send: tracing libraries add their own to all requests.

    A page of a public site may call a server on this machine only if the server has keys.
    """
    requested = request.headers.get("access-control-request-headers", "")
    headers = {
        **cors_headers(request),
        "Access-Control-Allow-Methods": "POST, OPTIONS",
        "Access-Control-Allow-Headers": requested
        if _SAFE_HEADER_NAMES.fullmatch(requested)
        else _USUAL_HEADERS,
        "Access-Control-Max-Age": "86400",
        "Vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
    }
    private = request.headers.get("access-control-request-private-network") == "true"
    if private and not door_of(request).ports.access.is_open:
        headers["Access-Control-Allow-Private-Network"] = "true"
    return Response(status_code=204, headers=headers)

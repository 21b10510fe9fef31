"""GET /track.js: the script that reports visits (docs/track-js.md). GET /chat.js: the chat for web pages (docs/chat-widget.md).

Both are short and compressed. They contain no data and are the same for everybody, so they need no key, and a page of any site
may load them.
"""

import gzip
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.producers.minified import minified

MEDIA_TYPE = "text/javascript"
KEEP_SECONDS = 3600
"""So long a browser uses its copy without a question."""
SHARED = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": f"public, max-age={KEEP_SECONDS}",
    "Vary": "Accept-Encoding",
}

router = APIRouter(tags=["events"])


class PageScript(NamedTuple):
    plain: bytes
    packed: bytes
    """With gzip."""
    etag: str
    """Weak, since both encodings have it."""


@cache
def page_script(name: str) -> PageScript:
    plain = minified((files("gateway.producers") / name).read_text(encoding="utf-8")).encode()
    return PageScript(
        plain, gzip.compress(plain, 9, mtime=0), f'W/"{blake2b(plain, digest_size=12).hexdigest()}"'
    )


def _documented(name: str) -> dict[int | str, dict[str, Any]]:
    line = f'<script async src="https://HOST/{name}" data-key="WRITE_KEY"></script>'
    return {
        200: {
            "description": f"The script. A page loads it by one line: `{line}`",
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": "(()=>{ ... })();"}},
        },
        304: {"description": "The browser's copy, named by `If-None-Match`, is still the same."},
    }


@router.head("/track.js", include_in_schema=False)
@router.head("/track.js/", include_in_schema=False)
@router.get("/track.js/", include_in_schema=False)
@router.get(
    "/track.js",
    summary="The tracking script for web pages",
    responses=_documented("track.js"),
    response_class=Response,
)
def track_js(request: Request) -> Response:
    return _script_response(request, page_script("track.js"))


@router.head("/chat.js", include_in_schema=False)
@router.head("/chat.js/", include_in_schema=False)
@router.get("/chat.js/", include_in_schema=False)
@router.get(
    "/chat.js",
    summary="The chat for web pages",
    responses=_documented("chat.js"),
    response_class=Response,
)
def chat_js(request: Request) -> Response:
    return _script_response(request, page_script("chat.js"))


def _script_response(request: Request, script: PageScript) -> Response:
    headers = {**SHARED, "ETag": script.etag}
    cached = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    if "*" in cached or script.etag in cached or script.etag.removeprefix("W/") in cached:
        return Response(status_code=304, headers=headers)
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(script.packed, media_type=MEDIA_TYPE, headers={**headers, "Content-Encoding": "gzip"})
    return Response(script.plain, media_type=MEDIA_TYPE, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether `Accept-Encoding` allows gzip: named, and not with the weight 0."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.replace(" ", "").partition(";")
        if coding in {"gzip", "*"}:
            return weight not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False

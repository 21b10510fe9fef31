"""GET /track.js: the script that reports visits (docs/track-js.md), short and compressed.

It contains no data and is the same for everybody, so it needs no key, and a page of any site may load it.
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
EXAMPLE = '<script async src="https://HOST/track.js" data-key="WRITE_KEY"></script>'
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"The script. A page loads it by one line: `{EXAMPLE}`",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": "(()=>{ ... })();"}},
    },
    304: {"description": "The browser's copy, named by `If-None-Match`, is still the same."},
}

router = APIRouter(tags=["events"])


class TrackingScript(NamedTuple):
    plain: bytes
    packed: bytes
    """With gzip."""
    etag: str
    """Weak, since both encodings have it."""


@cache
def tracking_script() -> TrackingScript:
    plain = minified((files("gateway.producers") / "track.js").read_text(encoding="utf-8")).encode()
    return TrackingScript(
        plain, gzip.compress(plain, 9, mtime=0), f'W/"{blake2b(plain, digest_size=12).hexdigest()}"'
    )


@router.head("/track.js", include_in_schema=False)
@router.head("/track.js/", include_in_schema=False)
@router.get("/track.js/", include_in_schema=False)
@router.get(
    "/track.js", summary="The tracking script for web pages", responses=DOCUMENTED, response_class=Response
)
def track_js(request: Request) -> Response:
    script = tracking_script()
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

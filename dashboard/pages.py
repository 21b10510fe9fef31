"""The pages, the API's description at /docs, and their files.

The files contain no data and are the same for everybody; their data comes from the API, which requires a token or a
session. Nothing is loaded from other hosts, so the pages work offline.

`dashboard/app` has the sources of the pages, and its `build.py` builds them into `static/dist`. Names of built files
contain a hash of what is in them, so browsers keep them for good.
"""

import gzip
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

MEDIA_TYPE_BY_SUFFIX: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
BUILT_PAGE: Final = "dist/index.html"
NOT_BUILT: Final = (
    "The pages are not built: run `make setup` (or `python dashboard/app/build.py`) in the source folder, and start the server "
    "again.\nThe API works without them: its description is at /docs.\n"
)
HASHED_FOLDER: Final = "dist/assets/"
FOR_GOOD: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "no-cache"
LEAST_COMPRESSED_BYTES: Final = 1_000


def _files_under(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _files_under(each, f"{prefix}{each.name}/")
        elif each.name.rpartition(".")[2] in MEDIA_TYPE_BY_SUFFIX:
            yield f"{prefix}{each.name}", each.read_bytes()


_CONTENT_BY_NAME: Final = dict(_files_under(files("dashboard") / "static"))

router = APIRouter(include_in_schema=False)


@router.get("/")
@router.get("/inbox")
@router.get("/leads/{lead_id:path}")
@router.get("/lead-analytics")
@router.get("/models")
@router.get("/models/{name:path}")
@router.get("/workflows")
@router.get("/workflows/{number}")
@router.get("/experiments")
@router.get("/experiments/{name}")
@router.get("/inspector")
@router.get("/operations")
@router.get("/flows")
@router.get("/flows/{name}")
@router.get("/admin")
@router.get("/admin/{path:path}")
def built_page(request: Request) -> Response:
    """The page of every address that `dashboard/app/src/pages.ts` lists."""
    if BUILT_PAGE not in _CONTENT_BY_NAME:
        return Response(NOT_BUILT, 503, media_type="text/plain")
    return _file_response(request, BUILT_PAGE)


@router.get("/demo")
@router.get("/demo/{page}")
def demo_shop(request: Request) -> Response:
    """Its clicks are events, so it is not where events of customers are."""
    if not request.app.state.has_shop:
        return Response("The shop is part of `leadstream demo`.\n", 404, media_type="text/plain")
    return built_page(request)


@router.get("/docs")
def docs_page(request: Request) -> Response:
    return _file_response(request, "docs.html")


@router.get("/static/{name:path}")
def static_file(request: Request, name: str) -> Response:
    return _file_response(request, name)


def _file_response(request: Request, name: str) -> Response:
    """The file of that name: only those that were there at the start, so no name leads elsewhere."""
    if name not in _CONTENT_BY_NAME:
        return Response("Not found", 404, media_type="text/plain")
    content = _CONTENT_BY_NAME[name]
    headers = {
        "Cache-Control": FOR_GOOD if name.startswith(HASHED_FOLDER) else ASK_AGAIN,
        "Vary": "Accept-Encoding",
    }
    if len(content) >= LEAST_COMPRESSED_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        content = _compressed(name)
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=MEDIA_TYPE_BY_SUFFIX[name.rpartition(".")[2]], headers=headers)


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress(_CONTENT_BY_NAME[name], mtime=0)

"""The pages: the live board at /, the API's description at /docs, and their static files.

The files contain no data and are the same for everybody; their data comes from the API, which requires a
token. Nothing is loaded from other hosts, so the pages work offline.
"""

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

_MEDIA_TYPE_BY_SUFFIX = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
_STATIC_FOLDER = files("dashboard") / "static"
_CONTENT_BY_NAME = {
    each.name: (each.read_bytes(), _MEDIA_TYPE_BY_SUFFIX[each.name.rpartition(".")[2]])
    for each in _STATIC_FOLDER.iterdir()
    if each.name.rpartition(".")[2] in _MEDIA_TYPE_BY_SUFFIX
}


router = APIRouter(include_in_schema=False)


@router.get("/")
def board_page() -> Response:
    return _answer_with_file("board.html")


@router.get("/docs")
def docs_page() -> Response:
    return _answer_with_file("docs.html")


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    return _answer_with_file(name)


def _answer_with_file(name: str) -> Response:
    if name not in _CONTENT_BY_NAME:
        return Response("Not found", 404, media_type="text/plain")
    content, media_type = _CONTENT_BY_NAME[name]
    return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

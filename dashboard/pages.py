"""The pages: the live board at /, the API's description at /docs, and their static files.

The files contain no data and are the same for everybody; their data comes from the API, which requires a
token. Nothing is loaded from other hosts, so the pages work offline.
"""

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOLDER = files("dashboard") / "static"
_CONTENT_BY_NAME = {
    each.name: (each.read_bytes(), _TYPES[each.name.rpartition(".")[2]])
    for each in _FOLDER.iterdir()
    if each.name.rpartition(".")[2] in _TYPES
}


router = APIRouter(include_in_schema=False)


@router.get("/")
def board() -> Response:
    return _file("board.html")


@router.get("/docs")
def docs() -> Response:
    return _file("docs.html")


@router.get("/static/{name}")
def static(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    if name not in _CONTENT_BY_NAME:
        return Response("Not found", 404, media_type="text/plain")
    content, media_type = _CONTENT_BY_NAME[name]
    return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

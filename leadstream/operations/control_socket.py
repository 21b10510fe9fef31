"""A running server's control socket for the command line on the same machine, and the note that names it.

The server writes its address and a fresh secret into `server.json` in its data directory. Only its own user
can read that file. The secret allows a command to append any record, so that imports and publications run
beside a server. Requests without the secret are rejected.
"""

import contextlib
import hmac
import http.client
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import DecodeError, Struct, json, msgpack
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.answers import JsonAnswer, RequestProblem, answer_to_problem
from schemas.record import Outgoing

APPEND_PATH = "/internal/append"
NOTE_FILE_NAME = "server.json"
LARGEST_APPEND_BYTES = 64_000_000
_REQUEST_SECONDS = 120.0
_RETRY_FOR_SECONDS = 60.0
"""How long a request to a busy server is repeated."""

_read_records = msgpack.Decoder(list[Outgoing]).decode


class KafkaAddress(Struct, frozen=True):
    """Where the server's log is, without credentials."""

    brokers: str
    prefix: str
    app: str


class ServerNote(Struct, frozen=True):
    address: str
    secret: str
    pid: int
    kafka: KafkaAddress | None = None
    """None if its log is in its database."""


class ControlSocketError(RuntimeError):
    """The running server did not accept the records; the message names the reason and the remedy."""


class AppendAnswer(NamedTuple):
    status: int
    reason: str


def write_note(data_dir: Path, address: str, kafka: KafkaAddress | None = None) -> ServerNote:
    note = ServerNote(address, secrets.token_urlsafe(32), os.getpid(), kafka)
    path = data_dir / NOTE_FILE_NAME
    draft = data_dir / f".{NOTE_FILE_NAME}.{note.pid}"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(json.encode(note))
    draft.replace(path)
    return note


def remove_note(data_dir: Path) -> None:
    (data_dir / NOTE_FILE_NAME).unlink(missing_ok=True)


def running_server(data_dir: Path) -> ServerNote | None:
    """The server that runs on this data directory, if it accepts the secret."""
    try:
        note = json.decode((data_dir / NOTE_FILE_NAME).read_bytes(), type=ServerNote)
    except (OSError, DecodeError):
        return None
    try:
        answer = _post(note, [])
    except (OSError, http.client.HTTPException):
        return None
    return note if answer.status in {200, 503} else None


def append_to(note: ServerNote, records: Sequence[Outgoing]) -> None:
    """Returns when the server's log has the records. Requests to a busy server are repeated for a while."""
    deadline = time.monotonic() + _RETRY_FOR_SECONDS
    while True:
        try:
            answer = _post(note, records)
        except (OSError, http.client.HTTPException) as cause:
            raise ControlSocketError(
                f"The server at {note.address} stopped in the middle ({cause}): start it again and repeat "
                "this command; records that it had stored already are not counted twice."
            ) from cause
        if answer.status == 200:
            return
        if answer.status != 503 or time.monotonic() > deadline:
            raise ControlSocketError(
                f"The server at {note.address} refused ({answer.status}): {answer.reason}"
            )
        time.sleep(0.5)


def _post(note: ServerNote, records: Sequence[Outgoing]) -> AppendAnswer:
    parts = urlsplit(note.address)
    connection = http.client.HTTPConnection(
        parts.hostname or "127.0.0.1", parts.port, timeout=_REQUEST_SECONDS
    )
    with contextlib.closing(connection):
        connection.request(
            "POST", APPEND_PATH, msgpack.encode(records), {"Authorization": f"Bearer {note.secret}"}
        )
        response = connection.getresponse()
        return AppendAnswer(response.status, response.read(2_000).decode("utf-8", "replace"))


def with_control_socket(
    app: ASGIApp, secret: str, append: Callable[[Sequence[Outgoing]], Awaitable[None]]
) -> ASGIApp:
    """`app` with the control socket beside it."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != APPEND_PATH:
            await app(scope, receive, send)
            return
        try:
            answer: Response = await _append_records(Request(scope, receive), secret, append)
        except RequestProblem as problem:
            answer = answer_to_problem(problem)
        await answer(scope, receive, send)

    return routed


async def _append_records(
    request: Request, secret: str, append: Callable[[Sequence[Outgoing]], Awaitable[None]]
) -> Response:
    authorization = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(authorization, f"Bearer {secret}".encode()):
        raise RequestProblem(404, "Not Found")
    if request.method != "POST":
        raise RequestProblem(405, "POST records here")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_APPEND_BYTES:
            raise RequestProblem(413, f"at most {LARGEST_APPEND_BYTES} bytes at a time")
    try:
        records = _read_records(bytes(body))
    except DecodeError as cause:
        raise RequestProblem(422, f"no list of records: {cause}") from cause
    if records:
        await append(records)
    return JsonAnswer({"appended": len(records)})

"""The inlet by which commands reach a running server: only with its secret, whole or not at all."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
import uvicorn
from msgspec import msgpack
from starlette.responses import PlainTextResponse

from gateway.ports import LogUnavailable
from leadstream.operations import control_socket as inlet
from leadstream.operations.control_socket import (
    ControlSocketError,
    ServerNote,
    append_to,
    running_server,
    with_control_socket,
    write_note,
)
from schemas.record import Outgoing
from tests.ports import free_port

SECRET = "only-for-this-test"


class Server:
    def __init__(self, address: str) -> None:
        self.address = address
        self.taken: list[Outgoing] = []
        self.refusals: list[Exception] = []

    async def append(self, records: Sequence[Outgoing]) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.taken += records


@pytest.fixture
def server() -> Iterator[Server]:
    port = free_port()
    told = Server(f"http://127.0.0.1:{port}")
    app = with_control_socket(PlainTextResponse("the app"), SECRET, told.append)
    running = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield told
    running.should_exit = True
    thread.join()


RECORDS = [
    Outgoing("events", "k", b"{}"),
    Outgoing("lead-activity", "~", b"\x00\xff", 3),
    Outgoing("events", "k", None),
]


def test_records_arrive_as_they_were_sent(server: Server):
    append_to(ServerNote(server.address, SECRET, 1), RECORDS)
    assert server.taken == RECORDS


def test_without_the_secret_there_is_nothing_there(server: Server):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {SECRET}"}):
        answer = httpx.post(
            server.address + inlet.APPEND_PATH, headers=headers, content=msgpack.encode(RECORDS)
        )
        assert answer.status_code == 404
    assert server.taken == []


@pytest.mark.parametrize("body", [b"", b"junk", msgpack.encode([["events"]]), msgpack.encode({"a": 1})])
def test_what_are_no_records_is_refused_as_a_whole(server: Server, body: bytes):
    answer = httpx.post(
        server.address + inlet.APPEND_PATH, headers={"Authorization": f"Bearer {SECRET}"}, content=body
    )
    assert answer.status_code == 422
    assert server.taken == []


def test_a_busy_server_is_asked_again(server: Server):
    server.refusals = [LogUnavailable("busy"), LogUnavailable("busy")]
    append_to(ServerNote(server.address, SECRET, 1), RECORDS)
    assert server.taken == RECORDS


def test_a_server_that_stays_busy_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inlet, "_RETRY_FOR_SECONDS", 0.0)
    server.refusals = [LogUnavailable("the disk is full")] * 3
    with pytest.raises(ControlSocketError, match="the disk is full"):
        append_to(ServerNote(server.address, SECRET, 1), RECORDS)


def test_everything_else_is_the_app_s(server: Server):
    assert httpx.get(server.address + "/").text == "the app"


def test_a_running_server_is_found_by_its_note(server: Server, tmp_path: Path):
    note = ServerNote(server.address, SECRET, 1)
    (tmp_path / inlet.NOTE_FILE_NAME).write_bytes(inlet.json.encode(note))
    assert running_server(tmp_path) == note


def test_a_note_of_somebody_else_or_of_nobody_is_not_believed(server: Server, tmp_path: Path):
    """After a kill the note stays behind, and its port may be another program's by now."""
    assert running_server(tmp_path) is None
    write_note(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert running_server(tmp_path) is None
    write_note(tmp_path, server.address)
    assert running_server(tmp_path) is None
    (tmp_path / inlet.NOTE_FILE_NAME).write_text("{")
    assert running_server(tmp_path) is None


def test_the_note_is_for_its_owner_only_and_each_has_a_new_secret(tmp_path: Path):
    secrets = {write_note(tmp_path, "http://127.0.0.1:1").secret for _ in range(3)}
    assert len(secrets) == 3
    assert (tmp_path / inlet.NOTE_FILE_NAME).stat().st_mode & 0o777 == 0o600

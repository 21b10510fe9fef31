"""Real servers on this machine that misbehave as they are told: an HTTP server, and an SMTP server."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from aiosmtpd.controller import Controller

from tests.ports import free_port

SILENT = "silent"
"""The server takes the request and never answers."""
CUT = "cut"
"""The server takes the request and resets the connection."""


class ReceivedRequest(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b"{}"


class HttpReceiver:
    """Answers each request by the next of `answers`; when there is none left, by `otherwise`."""

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []
        self.answers: list[Answer | str] = []
        self.otherwise: Answer | Callable[[ReceivedRequest], Answer] = Answer(200)
        self._released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _take(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(length)
                if len(body) < length:  # the sender was killed
                    self.close_connection = True
                    return
                request = ReceivedRequest(self.command, self.path, headers, body)
                receiver.requests.append(request)
                answer = receiver.answers.pop(0) if receiver.answers else receiver.otherwise
                if answer == SILENT:
                    receiver._released.wait(20)
                    self.close_connection = True
                    return
                if answer == CUT:
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                    self.close_connection = True
                    return
                if callable(answer):
                    answer = answer(request)
                assert isinstance(answer, Answer)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PATCH = _take  # noqa: N815 - names of http.server

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (OSError, ValueError):  # the test has cut the connection
                    self.close_connection = True

            def finish(self) -> None:
                with suppress(OSError, ValueError):
                    super().finish()

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


class MailServer:
    """Answers each message by the next of `answers`; when there is none left, it takes the message."""

    def __init__(self, **options: Any) -> None:
        self.messages: list[bytes] = []
        self.recipients: list[list[str]] = []
        self.answers: list[str] = []
        self.recipient_answers: list[str] = []
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port(), **options)

    @property
    def port(self) -> int:
        return self._controller.port

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - aiosmtpd's name
        if self.recipient_answers:
            return self.recipient_answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer == CUT:
            server.transport.abort()
            return "250 OK"
        if answer.startswith("250"):
            self.messages.append(envelope.content)
            self.recipients.append(envelope.rcpt_tos)
        return answer

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

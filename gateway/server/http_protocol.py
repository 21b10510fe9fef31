"""HTTP/1.1 by uvicorn and httptools, with bounds on everything that comes before a key is read.

The request line, each header, their number and the whole head are bounded, trailers and chunk extensions
with them; so are requests sent ahead of their answers. Each phase of a connection has its time. What is
refused is answered 400, 414 or 431 and the connection closed; what takes too long is cut.
"""

import asyncio
import math
from http import HTTPStatus
from typing import Any

import httptools
from msgspec import json
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.server.connections import ConnectionRegister

LONGEST_REQUEST_LINE = 8_192
"""Bytes of the request's target, and of each header."""
MOST_HEADERS = 100
MOST_REQUESTS_AHEAD = 16
"""Requests that a client may send before the first is answered."""
PIECE_BYTES = 16_384
"""So much is parsed before limits are looked at again."""
LINGER_SECONDS = 5.0
"""After a refusal, or an answer given before the body was there: until the client has read it."""
LAST_BODY_SECONDS = 1.0
"""For a body that is not there yet when the server has to stop."""


class LimitedHttp(HttpToolsProtocol):
    """A connection. Phases: head, body, answer, idle, rest (of a body that nobody needs), closing."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        connections: ConnectionRegister,
        address: str,
    ) -> None:
        super().__init__(config, server_state, app_state)
        limits = connections.limits
        self.address = address
        self._connections = connections
        self._head_bytes = limits.head_bytes
        self._seconds = {
            "head": limits.head_seconds,
            "body": limits.body_seconds,
            "answer": math.inf,
            "idle": limits.idle_seconds + LINGER_SECONDS,
            "rest": LINGER_SECONDS,
            "closing": LINGER_SECONDS,
        }
        self._stalled_seconds = limits.stalled_seconds
        self._phase: tuple[str, int] = ("", 0)
        self._deadline = self._stalled_at = math.inf
        self._requests = 0
        self._in_head = self._in_body = self._deaf = self._refused = self._cut = False
        self._size = self._fields = self._unparsed = 0
        self._progress = False
        self._refusal = (400, "this is no HTTP request")
        self._running: RequestResponseCycle | None = None

    def overdue(self, now: float) -> str | None:
        if now >= self._stalled_at:
            return "stalled"
        return self._phase[0] if now >= self._deadline else None

    def cut(self) -> None:
        self._cut = True
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._enter()
        if self._cut:  # made room for another meanwhile
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # uvicorn reports only the last of several
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        for start in range(0, len(data), PIECE_BYTES):
            if self._deaf or self.transport.is_closing():
                return
            self._feed(data[start : start + PIECE_BYTES])
        self._enter()

    def _feed(self, piece: bytes) -> None:
        self._progress = False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: the request is answered, and what follows it is not HTTP/1.1.
            self.cycle.keep_alive = False
            self._deaf = True
            return
        except httptools.HttpParserError:
            self._refuse(*self._refusal)
            return
        # What the parser keeps to itself: an unfinished header, or what no limit below sees.
        self._unparsed = 0 if self._progress else self._unparsed + len(piece)
        if self._unparsed > self._head_bytes:
            self._refuse(431, f"the request's head has at most {self._head_bytes} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._requests += 1
        self._in_head = self._progress = True
        self._size = self._fields = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._grow(len(url))
        if len(self.url) > LONGEST_REQUEST_LINE:
            self._stop_parsing(414, f"the address has at most {LONGEST_REQUEST_LINE} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._grow(len(name) + len(value) + 4)
        if self._fields > MOST_HEADERS:
            self._stop_parsing(431, f"a request has at most {MOST_HEADERS} headers")
        if len(name) + len(value) > LONGEST_REQUEST_LINE:
            self._stop_parsing(431, f"a header has at most {LONGEST_REQUEST_LINE} bytes")
        if not self._in_body:  # trailers are counted and let go
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body, self._progress = False, True, True
        if not self.url.startswith(
            (b"/", b"*")
        ):  # it names a server, as a proxy's client does (RFC 9112, 3.2.2)
            self.headers.append((b"host", self.url))
        super().on_headers_complete()
        if len(self.pipeline) > MOST_REQUESTS_AHEAD:
            self._stop_parsing(400, f"at most {MOST_REQUESTS_AHEAD} requests ahead of their answers")

    def on_body(self, body: bytes) -> None:
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body, self._progress = False, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._enter()

    def shutdown(self) -> None:
        super().shutdown()
        if self._in_body:
            self._deadline = min(self._deadline, self.loop.time() + LAST_BODY_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_at = self.loop.time() + self._stalled_seconds

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_at = math.inf

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._head_bytes:
            self._stop_parsing(431, f"the request's head has at most {self._head_bytes} bytes")

    def _stop_parsing(self, status: int, reason: str) -> None:
        self._refusal = (status, reason)
        raise ValueError(reason)  # ends feed_data

    def _answering(self) -> bool:
        return self._running is not None and (bool(self.pipeline) or not self._running.response_complete)

    def _enter(self) -> None:
        """Begins the phase that the connection is in now, unless it is in it already."""
        if self._refused:
            name = "closing"
        elif self._in_body:
            name = "body" if self._answering() else "rest"
        elif self._answering():
            name = "answer"
        else:
            name = "head" if self._in_head or self._running is None else "idle"
        if self._phase == (name, self._requests):
            return
        self._phase = (name, self._requests)
        seconds = self._seconds[name]
        if self._connections.stopping and name != "answer":  # it came in the last moment
            seconds = min(seconds, LAST_BODY_SECONDS)
        self._deadline = self.loop.time() + seconds
        if name in {"head", "idle"}:
            self._connections.mark_idle(self)
        else:
            self._connections.mark_busy(self)

    def _refuse(self, status: int, reason: str) -> None:
        self._deaf = self._refused = True
        if self._answering():  # an answer now would be taken for that of an earlier request
            self.transport.abort()
            return
        body = json.encode({"error": {"field": None, "reason": reason}})
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        self._enter()

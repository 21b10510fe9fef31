"""A small HTTP server for the status of a projection or a delivery: /metrics and /ready. It shows no personal data, requires no
key, and serves a few requests at a time: it is for Prometheus and the doctor, not for the public.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import json
from prometheus_client import CONTENT_TYPE_LATEST

from leadstream.console import Failure

_MOST_CALLERS = 8
_REQUEST_SECONDS = 5.0
"""How long a caller may take to send its request and to read the answer."""


class _PagesServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._capacity = threading.BoundedSemaphore(_MOST_CALLERS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._capacity.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        ending = threading.Timer(_REQUEST_SECONDS, self.shutdown_request, [request])
        ending.daemon = True
        ending.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            ending.cancel()
            self._capacity.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Does nothing: the caller closed the connection."""


@contextmanager
def serve_pages(
    host: str,
    port: int,
    metrics: Callable[[], bytes],
    unready: Callable[[], str | None],
    *,
    process: str = "projection",
) -> Iterator[None]:
    """Raises Failure if the port is in use; `process` names the process, and its settings. `unready` returns why the process is not ready, or None."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, metrics())
                case "/ready":
                    reason = unready()
                    body = json.encode({"ready": reason is None, "reason": reason})
                    self._answer(503 if reason else 200, "application/json", body)
                case _:
                    self._answer(404, "text/plain", b"/metrics and /ready are here\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Does nothing: there is a request every few seconds."""

    try:
        server = _PagesServer((host, port), Pages)
    except OSError as cause:
        raise Failure(
            f"The pages of a {process} cannot listen on {host}:{port} ({cause.strerror}): set "
            f"LEADSTREAM_{process.upper()}_PORT to a free port (each {process} of a machine needs its own), or to 0 for none."
        ) from cause
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()

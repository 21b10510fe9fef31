"""What the benchmark of latencies does with a server that is too slow, or away for a while."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from bench import latency
from bench.latency import MeasuredRate
from bench.processes import Failed


@contextmanager
def answering(*statuses: int | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives these answers, one after the other (None: it hangs up), and the bodies that it got."""
    left, bodies = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            status = left.pop(0)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("retry-after", "0")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def posted(address: str) -> tuple[float, float | None, int]:
    async with httpx.AsyncClient(base_url=address, timeout=10) as client:
        return await latency.post(client, b"{}")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "AGAIN_SECONDS", 0.01)


def test_what_is_turned_away_or_not_answered_is_sent_again_and_counted():
    with answering(503, 429, None, 503, 200) as (address, bodies):
        _, answered, again = asyncio.run(posted(address))
    assert answered is not None
    assert again == 4
    assert bodies == [b"{}"] * 5


def test_a_server_that_never_takes_it_ends_no_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latency, "PATIENCE_SECONDS", 0.2)
    with answering(*[503] * 10_000) as (address, _):
        _, answered, again = asyncio.run(posted(address))
    assert answered is None
    assert again > 0


def test_a_refusal_is_a_failure_that_names_the_answer():
    with answering(422) as (address, _), pytest.raises(Failed, match="422"):
        asyncio.run(posted(address))


def test_a_run_in_which_nothing_showed_is_reported_like_any_other(capsys: pytest.CaptureFixture[str]):
    latency._print_results(
        [MeasuredRate("kafka", 5_000, [1.0, 2.0], [], missing=2, again=17, behind=3.0, cores=0.5)]
    )
    told = capsys.readouterr().out
    assert "no: 3 s behind, 2 missing" in told
    assert '"sent_again": 17' in told

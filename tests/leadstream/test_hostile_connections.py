"""`leadstream serve` under connections that send nothing, too slowly or too much, with the 1,024 open files that
many machines allow.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from command_line import Server, serving_once

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

FEW_FILES = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)); "
    "from leadstream.cli.root import main; main()"
)
EVENT = {"type": "page_viewed", "visitor_id": "browser-1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_once(tmp_path_factory, program=("-c", FEW_FILES), LEADSTREAM_HEAD_SECONDS="600") as running:
        yield running


def connect(server: Server, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.client.base_url.port), 60, (source, 0))


def memory(server: Server) -> int:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("addresses", [1, 200])
def test_a_thousand_silent_connections_stop_nobody_and_fill_no_log(server: Server, addresses: int):
    logged = server.said.stat().st_size
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with ExitStack() as opened:
        client = opened.enter_context(
            httpx.Client(base_url=server.client.base_url, transport=elsewhere, timeout=60)
        )
        for number in range(1_100):
            opened.enter_context(connect(server, f"127.0.1.{number % addresses + 1}"))
            if number % 100 == 0:
                assert client.post("/v1/events", json=EVENT).status_code == 200
        assert client.get("/api/leads").status_code == 200
        closed = client.get("/metrics").text
    reason = "address" if addresses == 1 else "all"
    assert float(re.findall(rf'connections_closed_total{{reason="{reason}"}} (\S+)', closed)[0]) >= 200
    assert server.said.stat().st_size - logged < 2_000


def test_sixty_megabytes_of_headers_cost_no_memory(server: Server):
    before = memory(server)
    for _ in range(3):
        with connect(server, "127.0.0.1") as connection, suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nX: ")
            for _ in range(20):
                connection.sendall(b"a" * 1_000_000)
    assert server.client.get("/health").status_code == 200
    assert memory(server) - before < 20_000_000


def test_being_told_to_stop_it_waits_for_nobody_who_is_silent_or_slow(server: Server):
    """Their time would be ten minutes; `stop` waits for one."""
    with ExitStack() as opened:
        begun = (b"", b"GET /", b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        slow = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        for number in range(300):
            connection = opened.enter_context(connect(server, "127.0.0.1"))
            connection.sendall((*begun, slow)[number % 4])
        assert server.stop() == 0

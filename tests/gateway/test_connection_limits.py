"""A real server process, attacked over loopback by raw sockets."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway.access import read_access
from gateway.server.connections import ConnectionLimits, ConnectionRegister, address_to_count
from tests.forked_programs import Program

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("limited_server.py")
PATIENCE = 60
MEGABYTE = 1_000_000


class Attacked:
    """The server of `limited_server.py`, and what it logged."""

    def __init__(self, log, **limits):
        self._log = log
        with log.open("wb") as errors:
            self.process = Program(
                [sys.executable, PROGRAM, json.dumps(limits)],
                env=os.environ,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.port = int(self.process.stdout.readline())

    def connect(self, source="127.0.0.1", **options):
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE, (source, 0), **options)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, request=b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", source="127.0.0.1"):
        with self.connect(source) as connection:
            return answer_to(connection, request)

    @property
    def memory(self):
        return (
            int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) * 1024
        )

    @property
    def log(self):
        return self._log.read_text()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@contextmanager
def attacked(**limits):
    with tempfile.TemporaryDirectory() as directory:
        server = Attacked(Path(directory) / "log", **limits)
        try:
            yield server
        finally:
            server.close()


@pytest.fixture(scope="module")
def server():
    with attacked(head_seconds=600, idle_seconds=600, stalled_seconds=600, body_seconds=600) as running:
        yield running


@pytest.fixture(scope="module")
def impatient():
    with attacked(head_seconds=1, idle_seconds=1, stalled_seconds=1, body_seconds=1) as running:
        yield running


def send(connection, *parts):
    """As much as the server takes."""
    with contextlib.suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)


def rest_of(connection):
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            received += part
    return received


def answer_to(connection, *request):
    send(connection, *request)
    return rest_of(connection)


def status(answer):
    return int(answer.split(b" ", 2)[1])


def good(server, source="127.0.0.1"):
    return status(server.ask(source=source)) == 200


BEGIN = b"GET / HTTP/1.1\r\nHost: h\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "address": (b"GET /", b"a", 414),
    "query": (b"GET /?", b"a=b&", 414),
    "header value": (BEGIN + b"X: ", b"a", 431),
    "header name": (BEGIN, b"a", 431),
    "headers": (BEGIN, b"X: 1\r\n", 431),
    "long headers": (BEGIN, b"X: %s\r\n" % (b"a" * 8_000), 431),
    "lines before the request": (b"", b"\r\n", 431),
    "chunk extension": (CHUNKED + b"1;", b"a", 431),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", b"X: 1\r\n", 431),
    "trailer value": (CHUNKED + b"1\r\na\r\n0\r\nX: ", b"a", 431),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_before_the_key_is_refused_and_costs_no_memory(server, kind):
    begin, again, expected = ENDLESS[kind]
    assert good(server)
    before = server.memory
    block = again * (MEGABYTE // len(again))
    with server.connect() as connection:
        send(connection, begin)
        connection.settimeout(PATIENCE)
        answer = answer_to(connection, *[block] * 60)
    assert server.memory - before < 10 * MEGABYTE
    if expected == 414 or not begin.startswith(b"POST"):  # else the request is being answered already
        assert status(answer) == expected
    assert good(server)


@pytest.mark.parametrize("piece", [1, 7, 1_000, 100_000])
@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /%s HTTP/1.1\r\nHost: h\r\n" % (b"a" * 8_000), 200),
        (b"GET /%s HTTP/1.1\r\nHost: h\r\n" % (b"a" * 8_192), 414),
        (BEGIN + b"X: %s\r\n" % (b"a" * 8_000), 200),
        (BEGIN + b"X: %s\r\n" % (b"a" * 8_192), 431),
        (BEGIN + b"X: 1\r\n" * 97, 200),
        (BEGIN + b"X: 1\r\n" * 100, 431),
        (BEGIN + (b"X: %s\r\n" % (b"a" * 8_000)) * 4, 200),
        (BEGIN + (b"X: %s\r\n" % (b"a" * 8_000)) * 5, 431),
    ],
    ids=["address", "long address", "header", "long header", "headers", "many headers", "head", "large head"],
)
def test_a_head_is_taken_or_refused_by_its_size_however_it_is_cut(server, request_, expected, piece):
    if piece == 1 and len(request_) > 20_000:
        pytest.skip("the others say as much")
    whole = request_ + b"Connection: close\r\n\r\n"
    with server.connect() as connection:
        answer = answer_to(connection, *(whole[i : i + piece] for i in range(0, len(whole), piece)))
    assert status(answer) == expected
    if expected != 200:
        assert b'{"error":{"field":null,"reason":' in answer
        assert b"connection: close" in answer


def test_trailers_do_not_become_headers(server):
    body = b"5\r\nhello\r\n0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
    answer = server.ask(CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told == {"path": "/", "headers": {"host": 1, "transfer-encoding": 7, "connection": 5}, "body": 5}


def test_a_body_in_tiny_chunks_is_taken(server):
    begin = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = server.ask(begin + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["body"] == 50_000


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"G",
        BEGIN,
        BEGIN + b"X: a",
        b"\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
        b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
        CHUNKED + b"1;",
        BEGIN + b"\r\n",
        BEGIN + b"\r\nGET",
    ],
    ids=[
        "silent",
        "letter",
        "head",
        "header",
        "line",
        "body",
        "body of no use",
        "chunk",
        "idle",
        "second head",
    ],
)
def test_who_is_slow_or_silent_is_cut(impatient, begin):
    with impatient.connect() as connection:
        send(connection, begin)
        rest_of(connection)  # comes to an end


@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"GET / HTTP/1.1\r\nX: ", b"a"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n", b"a"),
        (CHUNKED, b"1\r\na\r\n"),
        (b"", b"\r\n"),
    ],
    ids=["head", "body", "chunks", "lines"],
)
def test_a_drop_now_and_then_does_not_keep_a_connection(impatient, begin, drop):
    with impatient.connect() as connection:
        connection.sendall(begin)
        with pytest.raises(ConnectionError):
            drip(connection, drop)


def drip(connection, drop):
    for _ in range(PATIENCE * 10):
        connection.sendall(drop)
        time.sleep(0.1)


def test_who_does_not_read_the_answer_is_cut(impatient):
    before = impatient.memory
    with ExitStack() as opened:
        unread = [opened.enter_context(impatient.connect()) for _ in range(5)]
        for connection in unread:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            send(connection, b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n" * 10)
        for connection in unread:
            deadline = time.monotonic() + PATIENCE
            while peers_state(connection) == "established":
                assert time.monotonic() < deadline, "a client that reads nothing is served for ever"
                time.sleep(0.1)
    assert good(impatient)
    assert impatient.memory - before < 60 * MEGABYTE


def peers_state(connection):
    """Of the server's end, from the kernel's list."""
    (ours, theirs) = (
        f"0100007F:{address[1]:04X}" for address in (connection.getsockname(), connection.getpeername())
    )
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return "established" if any(line.split()[1:4] == [theirs, ours, "01"] for line in lines) else "gone"


def test_a_server_that_the_request_line_names_is_its_host_too(server):
    """RFC 9112, 3.2.2: what decides by Host must not overlook it."""
    target = b"http://rebound.example/"
    request = b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b'"host": %d' % len(target) in server.ask(request)


def test_several_requests_ahead_are_answered_in_their_order(server):
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(10))
    with server.connect() as connection:
        answer = answer_to(connection, requests + b"GET /10 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert re.findall(rb'"path": "/(\d+)"', answer) == [b"%d" % n for n in range(11)]


def test_a_flood_of_requests_ahead_is_cut_and_costs_no_memory(server):
    assert good(server)
    before = server.memory
    with ExitStack() as opened:
        flood = [opened.enter_context(server.connect()) for _ in range(20)]
        for connection in flood:
            send(connection, *[b"GET / HTTP/1.1\r\n\r\n" * 50_000] * 2)
        for connection in flood:
            rest_of(connection)
    assert server.memory - before < 30 * MEGABYTE
    assert good(server)


def test_another_protocol_is_declined_and_the_request_answered(server):
    upgrade = BEGIN + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with server.connect() as connection:
        answer = answer_to(connection, upgrade + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    assert status(answer) == 200
    assert b"connection: close" in answer
    assert b"smuggled" not in answer


def test_nonsense_is_refused_and_logged_once_in_a_while(server):
    before = len(server.log)
    for number in range(300):
        assert status(server.ask(b"\x16\x03\x01 %d\r\n\r\n" % number)) == 400
    assert len(server.log) - before < 2_000


def test_a_crowd_of_one_address_makes_room_for_itself_and_costs_nobody_else(server):
    with ExitStack() as opened:
        for _ in range(1_100):
            opened.enter_context(server.connect())
        assert good(server, source="127.0.0.2")
        assert good(server)


def test_a_crowd_of_many_addresses_stops_nobody():
    with attacked(connections=100, head_seconds=600) as server, ExitStack() as opened:
        for number in range(300):
            opened.enter_context(server.connect(f"127.0.1.{number % 250}"))
        assert good(server, source="127.0.0.2")


def test_requests_under_way_are_not_given_up_for_newcomers():
    with attacked(connections=10, body_seconds=600) as server, ExitStack() as opened:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1\r\n"
        slow = [opened.enter_context(server.connect()) for _ in range(10)]
        for connection in slow:
            send(connection, head + b"Expect: 100-continue\r\n\r\n")
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        refused = server.ask()
        assert status(refused) == 503
        assert b'{"error":{"field":null,"reason":"too many connections"}}' in refused
        for connection in slow:
            assert status(answer_to(connection, b"a")) == 200
        assert good(server)


def test_without_file_descriptors_it_goes_on_and_the_log_stays_small():
    """More connections than open files: asyncio's own loop logs each failure, thousands a second."""
    with attacked(connections=10_000, per_address=10_000, open_files=64, head_seconds=600) as server:
        with ExitStack() as opened:
            for _ in range(200):
                opened.enter_context(server.connect())
            assert good(server, source="127.0.0.2")
            time.sleep(1)
            assert good(server, source="127.0.0.2")
        assert len(server.log) < 5_000, server.log[:2_000]


class Client:
    def __init__(self, host, trusted=()):
        self.address = address_to_count(host, trusted)
        self.open = True

    def overdue(self, _now):
        return None

    def cut(self):
        self.open = False


def admitted(connections, hosts, trusted=()):
    """Each begins a request at once."""
    clients = [Client(host, trusted) for host in hosts]
    taken = []
    for client in clients:
        taken.append(connections.admit(client))
        connections.mark_busy(client)
    return clients, taken


def test_an_ipv6_network_counts_as_one_address_and_a_mapped_one_as_what_it_maps():
    connections = ConnectionRegister(ConnectionLimits(per_address=2))
    _, taken = admitted(connections, [f"2001:db8::{number}" for number in range(3)])
    assert taken == [True, True, False]
    _, taken = admitted(connections, ["2001:db8:0:1::1", "fe80::1%eth0"])
    assert taken == [True, True]
    assert address_to_count("::ffff:203.0.113.9") == address_to_count("203.0.113.9")


@pytest.mark.parametrize("proxy", ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"])
def test_a_trusted_proxy_speaks_for_many_but_all_are_counted(proxy):
    trusted = read_access(["acme:a-write-key"], trusted_proxies=["10.0.0.0/8", "fd00::1"]).trusted_proxies
    connections = ConnectionRegister(ConnectionLimits(connections=7, per_address=2), trusted)
    assert admitted(connections, [proxy] * 3, trusted)[1] == [True] * 3
    assert admitted(connections, ["fd00::2", "fd00::3", "fd00::4"], trusted)[1] == [True, True, False]
    assert admitted(connections, ["203.0.113.9"] * 3, trusted)[1] == [True, True, False]
    assert admitted(connections, [proxy], trusted)[1] == [False]


def test_the_connection_that_has_been_idle_longest_makes_room():
    connections = ConnectionRegister(ConnectionLimits(connections=3))
    clients, _ = admitted(connections, ["203.0.113.1", "203.0.113.2", "203.0.113.3"])
    for client in (clients[1], clients[2], clients[1]):
        connections.mark_idle(client)
    newcomer = Client("203.0.113.4")
    assert connections.admit(newcomer)
    assert [client.open for client in clients] == [True, True, False]
    connections.mark_busy(clients[1])
    assert connections.admit(Client("203.0.113.5"))
    assert not newcomer.open
    assert len(connections) == 3

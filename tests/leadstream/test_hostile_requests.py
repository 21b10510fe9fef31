"""No request that a stranger can build is answered with a 500: hostile paths, queries, headers and bodies,
drawn from a seed, on every route of a real server with a real store.
"""

import json
import random
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from command_line import Server, serving_once
from starlette.routing import BaseRoute, Route

from gateway.door.signed_links import QrLink, read_link_keys, seal_link
from tests.gateway.route_table import app_without_store, openapi

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SEED = 20_300_131
PER_ROUTE = 3
"""Requests for each method and path."""

LINK_KEY = "a-key-for-links-of-24-characters"
LINK = seal_link(QrLink(target="https://acme.example/", qr_id="stand-7"), read_link_keys([LINK_KEY]))

KNOWN = [
    LINK,
    "ada",
    "browser-1",
    "visit-1",
    "rules",
    "temperature",
    "1",
    "greeting_message",
    "e1",
    "anon:browser-2",
]
"""What is there: beyond it, a request gets far."""
HOSTILE_TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\u202e\u0007\r\n",
    "é" * 200,
    "𝕏" * 40,
    "9" * 5_000,
    "-1",
    "9223372036854775808",
    "1e999999999",
    "-1e400",
    "NaN",
    "Infinity",
    "0x" + "f" * 4_000,
    "null",
    "'; drop table leads; --",
    "%",
    "../../etc/passwd",
    "a" * 4_000,
    "2030-02-30T25:61:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "[" * 300,
    "1..99999999999999999999",
]
HOSTILE_PATHS = [
    b"%00",
    b"%ff%fe",
    b"%ED%A0%80",
    b"\xff\xfe",
    b"%",
    b"%zz",
    b"..",
    b"%2e%2e%2f",
    b"a" * 3_000,
    b"%0d%0a",
    b"9" * 400,
]
HOSTILE_HEADERS: list[tuple[bytes, bytes]] = [
    (b"Origin", b"http://[::1"),
    (b"Origin", b"http://["),
    (b"Origin", b"null"),
    (b"Origin", "http://é".encode()),
    (b"Origin", "http://a\u2100b".encode()),
    (b"Origin", b"http://localhost:99999999"),
    (b"Host", b"["),
    (b"Host", b"[::1"),
    (b"Host", b"]"),
    (b"Host", b"[v1.x]"),
    (b"Host", b"\xff"),
    (b"Host", b"localhost:x"),
    (b"Host", b""),
    (b"Authorization", "Basic é".encode()),
    (b"Authorization", b"Basic /////w=="),
    (b"Authorization", b"Basic ="),
    (b"Authorization", "Bearer é".encode()),
    (b"Authorization", b"Bearer \xff\xfe"),
    (b"Authorization", b"Bearer"),
    (b"X-Write-Key", b"\xff"),
    (b"X-Write-Key", "é".encode()),
    (b"X-Tenant", b"\xff"),
    (b"X-Tenant", b"other"),
    (b"X-Sent-At", b"\xff\xfe"),
    (b"X-Sent-At", b"9999-12-31T23:59:59-14:00"),
    (b"X-Sent-At", b"0001-01-01T00:00:00+14:00"),
    (b"X-Forwarded-For", b"[::1"),
    (b"Forwarded", b"for=["),
    (b"Content-Type", b"application/x-ndjson"),
    (b"Content-Type", b"\xff/;;;charset=\xff"),
    (b"Content-Encoding", b"gzip"),
    (b"Content-Encoding", b"\xff"),
    (b"Accept", b"application/x-ndjson"),
    (b"Accept", b"\xff"),
    (b"If-None-Match", b"\xff"),
    (b"User-Agent", b"Mozilla/5.0 \xff" + b"(" * 1_500),
    (b"Cookie", b"\xff=\xff"),
]
HOSTILE_VALUES: list[Any] = [
    *HOSTILE_TEXTS,
    None,
    True,
    -1,
    0,
    2**53,
    2**63,
    10**400,
    1e308,
    0.1 + 0.2,
    [],
    {},
    [None],
    {"": ""},
    [[[[[[[[[[[1]]]]]]]]]]],
    {"a": {"b": {"c": {"d": {}}}}},
    ["a"] * 2_000,
    {str(number): number for number in range(200)},
]
RULES_TEXT = 'model = "rules"\n[groups.all]\nrules = [{{ name = "Base", base = {} }}]\n'
BODIES = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"7",
    b'"',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'{"a":' * 2_000,
    b"[" * 50_000,
    b"NaN",
    b'{"a": 1e999999999}',
    b'{"lead_id": ' + b"9" * 5_000 + b"}",
    b'{"userId": "\\ud800"}',
    b'{"sessionId": "\\u0000"}',
    b'["' + b'\\"' * 5_000,
    b"\x1f\x8b\x08\x00",
    *(
        json.dumps({"text": RULES_TEXT.format(number)}).encode()
        for number in (
            "1e999999999",
            "nan",
            "inf",
            "0x" + "f" * 5_000,
            "1" * 4_000,
            "1." + "1" * 5_000,
            "1e-999999999",
        )
    ),
    json.dumps({"text": 'model = "rules"\nmin = 1e999999999\nmax = -1e999999999\n'}).encode(),
    json.dumps({"text": "a." * 3_000 + "b = 1"}).encode(),
    json.dumps({"text": "\ud800"}).encode(),
]


KEYS = {
    "LEADSTREAM_WRITE_KEYS": "default:a-public-key",
    "LEADSTREAM_API_TOKENS": "default:read+write:a-secret-token",
    "LEADSTREAM_LINK_KEYS": LINK_KEY,
}
BEARER = "Bearer a-secret-token"


@pytest.fixture(scope="module", params=[{}, KEYS], ids=["open", "with keys"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_once(tmp_path_factory, **request.param) as running:
        running.client.headers["Authorization"] = BEARER
        known = {"visitor_id": "browser-1", "session_id": "visit-1"}
        events = [
            {"type": "session_started", "event_id": "e1", **known},
            {"type": "page_viewed", "event_id": "e2", "url": "/pricing", **known},
            {"type": "lead_identified", "event_id": "e3", "lead_id": "ada", **known},
            {"type": "page_viewed", "event_id": "e4", "visitor_id": "browser-2"},
        ]
        answer = running.client.post("/v1/events", params={"wait": 10}, json=events)
        assert answer.json()["accepted"] == len(events)
        yield running


def walked(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """The routes of the application and of the routers that it includes."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        yield from walked(getattr(getattr(route, "original_router", None), "routes", ()))


def routes() -> list[tuple[str, str, Any]]:
    """Method, path and an example body of every route that the application has."""
    app = app_without_store()
    documented = openapi()["paths"]
    found = []
    for route in walked(app.routes):
        for method in sorted(route.methods or ()):
            said = documented.get(re.sub(r":\w+}", "}", route.path), {}).get(method.lower(), {})
            content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
            found.append((method, route.path, content.get("example")))
    return found


def path_of(chance: random.Random, template: str) -> bytes:
    path = b""
    for part in template.encode().split(b"/")[1:]:
        named = part.startswith(b"{")
        path += b"/" + (chance.choice([*HOSTILE_PATHS, *map(str.encode, KNOWN)]) if named else part)
    return path


def query_of(chance: random.Random) -> bytes:
    names = [
        "wait",
        "limit",
        "offset",
        "cursor",
        "after",
        "as_of",
        "model",
        "sort",
        "band",
        "q",
        "diff",
        "before",
        "stage",
        "by",
        "force",
        "write_key",
        "since",
        "until",
        "at",
    ]
    pairs = []
    for name in chance.sample(names, chance.randrange(4)):
        value = chance.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")[:4_000]
        pairs.append(name.encode() + b"=" + b"".join(b"%%%02x" % byte for byte in value[:1_000]))
    return b"?" + b"&".join(pairs) if pairs else b""


def body_of(chance: random.Random, example: Any) -> bytes:
    if not isinstance(example, dict) or chance.random() < 0.4:
        return chance.choice(BODIES)
    body = dict(example)
    for name in chance.sample(sorted(body), min(len(body), chance.randrange(1, 3))):
        body[name] = chance.choice([*HOSTILE_VALUES, *KNOWN])
    return json.dumps(body).encode()


def request(line: bytes, body: bytes, *hostile: tuple[bytes, bytes]) -> bytes:
    usual = {
        b"Host": b"localhost",
        b"Connection": b"close",
        b"Content-Length": b"%d" % len(body),
        b"Authorization": BEARER.encode(),
    }
    head = b"".join(b"%s: %s\r\n" % header for header in {**usual, **dict(hostile)}.items())
    return b"%s HTTP/1.1\r\n%s\r\n%s" % (line, head, body)


def requests(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for method, template, example in routes():
        for _ in range(PER_ROUTE):
            body = body_of(chance, example) if method in {"POST", "PUT", "PATCH"} else b""
            headers = chance.sample(HOSTILE_HEADERS, chance.choice([0, 0, 1, 2]))
            target = path_of(chance, template) + query_of(chance)
            yield request(b"%s %s" % (method.encode(), target), body, *headers)
    for header in HOSTILE_HEADERS:
        for line in (b"POST /v1/events", b"GET /api/leads", b"POST /api/ab-test/conversion"):
            yield request(line, b"{}", header)


def answered(server: Server, sent: bytes) -> tuple[int, bytes]:
    address = (server.client.base_url.host, server.client.base_url.port)
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(sent)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 "), (sent[:300], answer)
    return int(answer[9:12]), answer


def test_no_hostile_request_breaks_anything(server: Server):
    statuses = Counter()
    broken = []
    for each in requests(SEED):
        status, answer = answered(server, each)
        statuses[status] += 1
        if status >= 500:
            broken.append((status, each[:400], answer[-200:]))
    assert not broken, broken[:5]
    assert sum(statuses.values()) > 500
    assert statuses[200] > 50, "most of them get no further than the door"
    assert server.client.get("/ready").status_code == 200

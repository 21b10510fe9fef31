"""Pages of other sites, through a browser that follows the Fetch standard: https://fetch.spec.whatwg.org/"""

import json
from dataclasses import dataclass

import httpx
import pytest

from gateway.access import Access, read_access
from gateway.app import create_app
from gateway.ports import Ports

pytestmark = pytest.mark.anyio

KEYS = read_access(["acme:acme-write-key"], ["acme:read+write:acme-token"])
EVENT = json.dumps({"type": "page_viewed", "event_id": "e1", "visitor_id": "v1"})
SAFELISTED_TYPES = {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}
ORIGINS = [
    "https://shop.example",
    "http://localhost:3000",
    "null",
    "capacitor://localhost",
    "chrome-extension://abcdefghijklmnop",
]


@dataclass
class Outcome:
    sent: bool
    """The request itself, after any preflight."""
    readable: bool
    preflight: httpx.Response | None = None
    response: httpx.Response | None = None


class Browser:
    """Fetch, as far as it concerns CORS."""

    def __init__(self, http: httpx.AsyncClient, origin: str) -> None:
        self.http = http
        self.origin = origin

    async def beacon(self, path: str, content_type: str) -> Outcome:
        """`navigator.sendBeacon`: https://www.w3.org/TR/beacon/#sendbeacon-method, with cookies of the server's site."""
        return await self.fetch(
            path, {"content-type": content_type}, credentials=True, cors=not _safelisted(content_type)
        )

    async def fetch(
        self, path: str, headers: dict[str, str], *, credentials: bool = False, cors: bool = True
    ) -> Outcome:
        unsafe = sorted(
            name.lower()
            for name, value in headers.items()
            if name.lower() != "content-type" or not _safelisted(value)
        )
        preflight = None
        if cors and unsafe:
            preflight = await self.http.options(
                path,
                headers={
                    "origin": self.origin,
                    "access-control-request-method": "POST",
                    "access-control-request-headers": ",".join(unsafe),
                },
            )
            if not self._preflight_passes(preflight, unsafe, credentials=credentials):
                return Outcome(sent=False, readable=False, preflight=preflight)
        cookies = {"cookie": "session=of-somebody"} if credentials else {}
        response = await self.http.post(
            path, content=EVENT, headers={**headers, **cookies, "origin": self.origin}
        )
        readable = cors and self._allowed(response, credentials=credentials)
        return Outcome(sent=True, readable=readable, preflight=preflight, response=response)

    def _allowed(self, response: httpx.Response, *, credentials: bool) -> bool:
        """https://fetch.spec.whatwg.org/#concept-cors-check"""
        allowed = response.headers.get("access-control-allow-origin")
        if allowed == "*" and not credentials:
            return True
        if allowed != self.origin:
            return False
        return not credentials or response.headers.get("access-control-allow-credentials") == "true"

    def _preflight_passes(self, response: httpx.Response, unsafe: list[str], *, credentials: bool) -> bool:
        """https://fetch.spec.whatwg.org/#cors-preflight-fetch, step 7. POST is a safelisted method."""
        if not (response.is_success and self._allowed(response, credentials=credentials)):
            return False
        names = _names(response.headers.get("access-control-allow-headers", ""))
        wildcard = "*" in names and not credentials
        return all(name in names or (wildcard and name != "authorization") for name in unsafe)


def _safelisted(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() in SAFELISTED_TYPES


def _names(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",")}


class Server:
    def __init__(self, access: Access) -> None:
        self.records: list[object] = []
        self.app = create_app(Ports(self.append, "postgresql://nobody@/nothing?host=/nowhere", access))

    async def append(self, records: object) -> None:
        self.records.append(records)

    def open(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost:8000")


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json;charset=UTF-8", "application/x-ndjson"]
)
async def test_a_beacon_with_a_json_blob_passes_its_preflight(origin: str, content_type: str):
    server = Server(KEYS)
    async with server.open() as http:
        outcome = await Browser(http, origin).beacon("/v1/events?write_key=acme-write-key", content_type)
    assert outcome.preflight is not None
    assert outcome.sent
    assert outcome.readable
    assert len(server.records) == 1


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "text/plain"])
async def test_a_beacon_with_a_text_needs_no_preflight(content_type: str):
    server = Server(KEYS)
    async with server.open() as http:
        outcome = await Browser(http, ORIGINS[0]).beacon("/v1/events?write_key=acme-write-key", content_type)
    assert (outcome.sent, outcome.preflight, len(server.records)) == (True, None, 1)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("credentials", [False, True])
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Write-Key": "acme-write-key"},
        {"Authorization": "Basic YWNtZS13cml0ZS1rZXk6"},
        {"Authorization": "Bearer acme-token"},
        {"X-Write-Key": "acme-write-key", "Traceparent": "00-0af7-b7ad-01", "X-Requested-With": "Fetch"},
        {"X-Write-Key": "acme-write-key", "X-Sent-At": "2030-01-31T12:00:00Z"},
    ],
)
async def test_a_fetch_of_another_site_passes_and_may_be_read(
    origin: str, *, credentials: bool, headers: dict[str, str]
):
    server = Server(KEYS)
    async with server.open() as http:
        outcome = await Browser(http, origin).fetch(
            "/v1/events", {"Content-Type": "application/json", **headers}, credentials=credentials
        )
    assert (outcome.sent, outcome.readable) == (True, True)
    assert outcome.response is not None
    assert outcome.response.status_code == 200


@pytest.mark.parametrize("path", ["/api/ab-test/variant/flow", "/api/ab-test/conversion"])
async def test_experiments_are_open_to_pages_of_other_sites_too(path: str):
    async with Server(KEYS).open() as http:
        outcome = await Browser(http, ORIGINS[0]).fetch(
            path, {"Content-Type": "application/json", "X-Write-Key": "acme-write-key"}, credentials=True
        )
    assert (outcome.sent, outcome.readable) == (True, True)


async def test_a_refusal_may_be_read_and_cookies_open_nothing():
    server = Server(KEYS)
    async with server.open() as http:
        outcome = await Browser(http, ORIGINS[0]).beacon("/v1/events?write_key=guess", "application/json")
    assert outcome.readable
    assert outcome.response is not None
    assert outcome.response.status_code == 401
    assert "retry-after" in _names(outcome.response.headers["access-control-expose-headers"])
    assert server.records == []


async def test_the_api_is_closed_to_pages_of_other_sites():
    async with Server(KEYS).open() as http:
        outcome = await Browser(http, ORIGINS[0]).fetch("/api/leads", {"Authorization": "Bearer acme-token"})
    assert (outcome.sent, outcome.readable) == (False, False)


async def test_no_cache_gives_the_answer_for_one_site_to_another():
    async with Server(KEYS).open() as http:
        outcome = await Browser(http, ORIGINS[0]).beacon(
            "/v1/events?write_key=acme-write-key", "application/json"
        )
        without = await http.post("/v1/events?write_key=acme-write-key", content=EVENT)
    for response in (outcome.preflight, outcome.response, without):
        assert response is not None
        assert "origin" in _names(response.headers["vary"])
    assert without.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in without.headers


@pytest.mark.parametrize(("access", "allowed"), [(KEYS, "true"), (Access(), None)])
async def test_a_public_page_may_call_this_machine_only_if_the_server_has_keys(
    access: Access, allowed: str | None
):
    """https://wicg.github.io/private-network-access/#private-network-request-heading"""
    async with Server(access).open() as http:
        answer = await http.options(
            "/v1/events", headers={"origin": ORIGINS[0], "access-control-request-private-network": "true"}
        )
        unasked = await http.options("/v1/events", headers={"origin": ORIGINS[0]})
    assert answer.headers.get("access-control-allow-private-network") == allowed
    assert "access-control-allow-private-network" not in unasked.headers


@pytest.mark.parametrize("requested", ["x" * 3000, "a\u00e9", "<b>", ""])
async def test_odd_header_names_are_not_repeated(requested: str):
    async with Server(KEYS).open() as http:
        answer = await http.options(
            "/v1/events",
            headers=[(b"origin", b"null"), (b"access-control-request-headers", requested.encode())],
        )
    assert answer.status_code == 204
    assert "content-type" in _names(answer.headers["access-control-allow-headers"])

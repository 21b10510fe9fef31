"""The collector over HTTP. The log is a list: `append` is a function argument of the gateway."""

import gzip
import json
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI

from gateway.access import RateLimit, read_access
from gateway.answers import RequestProblem, answer_to_problem
from gateway.door import collect
from gateway.door.body import gunzip, split_batch, split_broken_list
from gateway.door.services import open_door
from gateway.observe import with_observation
from gateway.ports import EventKey, EventOutcome, LogUnavailable, Ports
from schemas.decode import decode_source
from schemas.topics import EVENTS

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
ONE = {"type": "page_viewed", "event_id": "e1", "occurred_at": "2030-01-31T11:59:00Z", "visitor_id": "v1"}


class House:
    """A gateway with nothing but the collector, and what it wrote."""

    def __init__(self, **ports):
        self.log = []
        self.applied = {}
        self.failure = None
        self.asked = []
        self.ports = Ports(append=self.append, database_url="", now=lambda: NOW, **ports)
        self.app = FastAPI()
        open_door(self.app, self.ports, self.wait)
        self.app.include_router(collect.router)
        self.app.add_middleware(with_observation)

    async def append(self, records):
        if self.failure:
            raise self.failure
        self.log.extend(records)

    async def wait(self, events, seconds):
        self.asked.append((list(events), seconds))
        return self.applied

    @property
    def events(self):
        return [decode_source(record.value) for record in self.log]

    async def send(self, content, *, client=("127.0.0.1", 1), path="/v1/events", **headers):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            if not isinstance(content, bytes):
                content = json.dumps(content).encode()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await http.post(path, content=content, headers=named)


def result_of(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture
def house():
    return House()


def answer(response):
    return response.status_code, response.json()


@pytest.mark.anyio
@pytest.mark.parametrize(("length", "status"), [(b"9" * 5_000, 413), (b"\xb2", 200), (b"-1", 200)])
async def test_a_length_that_is_no_number_of_pythons_is_no_fault(house, length, status):
    """What counts is what comes. A small two is a digit to some, and no number."""
    assert (await house.send(ONE, content_length=length)).status_code == status


@pytest.mark.anyio
async def test_one_event_is_in_the_log_under_its_visitor(house):
    response = await house.send(ONE)
    assert answer(response) == (
        200,
        {"accepted": 1, "refused": 0, "events": [{"index": 0, "event_id": "e1", "status": "accepted"}]},
    )
    assert [(record.topic, record.key) for record in house.log] == [(EVENTS, "default/v/v1")]
    assert house.events[0].recorded_at == NOW


@pytest.mark.anyio
async def test_a_list_a_wrapper_and_lines_say_the_same():
    two = [ONE, {**ONE, "event_id": "e2"}]
    bodies = [
        (json.dumps(two).encode(), "application/json"),
        (json.dumps({"events": two}).encode(), "application/json"),
        (b"\n".join(json.dumps(each).encode() for each in two), "application/x-ndjson"),
        (b"\r\n".join(json.dumps(each).encode() for each in two) + b"\r\n\r\n", "text/plain"),
        (b"\xef\xbb\xbf" + json.dumps(two).encode(), ""),
        (b"\n".join(b"\xef\xbb\xbf" + json.dumps(each).encode() for each in two), "application/x-ndjson"),
        (gzip.compress(json.dumps(two).encode()), "gzip"),
        (b"".join(gzip.compress(json.dumps(each).encode() + b"\n") for each in two), "gzip"),
    ]
    logs = []
    for content, kind in bodies:
        house = House()
        headers = {"content_encoding": "gzip"} if kind == "gzip" else {"content_type": kind}
        assert (await house.send(content, **headers)).status_code == 200
        logs.append(house.log)
    assert len(logs[0]) == 2
    assert all(log == logs[0] for log in logs)


@pytest.mark.anyio
async def test_a_batch_loses_only_its_bad_events(house):
    response = await house.send(
        [ONE, {**ONE, "type": "page_view"}, {**ONE, "visitor_id": ""}, {**ONE, "event_id": "e4"}]
    )
    status, said = answer(response)
    assert (status, said["accepted"], said["refused"]) == (207, 2, 2)
    assert [(each["index"], each["status"], each.get("field")) for each in said["events"]] == [
        (0, "accepted", None),
        (1, "refused", "type"),
        (2, "refused", "visitor_id"),
        (3, "accepted", None),
    ]
    assert [event.event_id for event in house.events] == ["e1", "e4"]


@pytest.mark.anyio
async def test_a_batch_of_only_bad_events_is_422_and_writes_nothing(house):
    response = await house.send([{"type": "nonsense"}, 7])
    assert response.status_code == 422
    assert [each["status"] for each in response.json()["events"]] == ["refused", "refused"]
    assert house.log == []


@pytest.mark.anyio
async def test_the_answer_names_the_bot_without_a_wait_and_says_nothing_of_people(house):
    headless = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/130.0.0.0 Safari/537.36"
    browser = headless.replace("Headless", "")
    named = (await house.send([ONE, ONE | {"event_id": "e2"}], user_agent=headless)).json()["events"]
    assert [each["bot"] for each in named] == ["HeadlessChrome", "HeadlessChrome"]
    assert (await house.send(ONE, user_agent=browser)).json()["events"] == [
        {"index": 0, "event_id": "e1", "status": "accepted"}
    ]


@pytest.mark.anyio
async def test_an_event_that_is_taken_may_carry_a_hint(house):
    status, said = answer(await house.send({**ONE, "occurredAt": "2030-01-31T11:59:00Z"}))
    assert status == 200
    assert said["events"][0]["hint"] == "occurredAt is not read, perhaps occurred_at is meant"


@pytest.mark.anyio
async def test_an_empty_list_is_fine(house):
    assert answer(await house.send([])) == (200, {"accepted": 0, "refused": 0, "events": []})


@pytest.mark.anyio
async def test_an_event_without_an_id_gets_one_and_is_told_it(house):
    response = await house.send({"type": "qr_scanned", "lead_id": "ahmad"})
    told = response.json()["events"][0]["event_id"]
    assert response.status_code == 200
    assert told == house.events[0].event_id
    assert house.events[0].occurred_at == NOW


@pytest.mark.anyio
async def test_events_without_ids_in_one_batch_are_different_events(house):
    await house.send([{"type": "qr_scanned", "lead_id": "ahmad"}] * 2)
    assert len({event.event_id for event in house.events}) == 2


DEEP = b"[" * 10_000 + b"]" * 10_000


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content", "headers", "status", "field"),
    [
        (b"", {}, 400, "body"),
        (b"   ", {}, 400, "body"),
        (b"hello", {}, 400, "body"),
        (b'{"type": "page_viewed"', {}, 400, "body"),
        (b"[1, 2", {}, 400, "body"),
        (b'{"events": 7}', {}, 400, "events"),
        (b"\x00\x01\x02", {}, 400, "body"),
        (b"\xff\xfe{\x00}\x00", {}, 400, "body"),
        (DEEP[:-1], {}, 400, "body"),
        (b'{"events": ' + DEEP + b"}", {}, 400, "body"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, {}, 400, "body"),
        (b" " * 10_000_000, {}, 413, "body"),
        (b"[" + b"1," * 10_000 + b"1]", {}, 413, "events"),
        (gzip.compress(b" " * 50_000_000, mtime=0), {"content_encoding": "gzip"}, 413, "body"),
        (b"not gzip", {"content_encoding": "gzip"}, 400, "Content-Encoding"),
        (gzip.compress(b"{}", mtime=0)[:-4], {"content_encoding": "gzip"}, 400, "Content-Encoding"),
        (b"{}", {"content_encoding": "br"}, 415, "Content-Encoding"),
        (gzip.compress(b"{}", mtime=0), {}, 400, "Content-Encoding"),
        (b"{}", {"x_sent_at": "yesterday"}, 400, "X-Sent-At"),
        (b'{"sent_at": 1796032800000, "events": []}', {}, 400, "sent_at"),
        (b'{"sent_at": "2030-01-31T12:00:00", "events": []}', {}, 400, "sent_at"),
        (b'{"events": {"type": "page_viewed"}}', {}, 400, "events"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused_as_a_whole(house, content, headers, status, field):
    response = await house.send(content, **headers)
    assert (response.status_code, response.json()["error"]["field"]) == (status, field)
    assert house.log == []


CUT = rb'{"type":"message_received","visitor_id":"v","text":"Price please \ud83d","title":"a, b","n":1}'
LATIN = CUT.replace(rb"\ud83d", b"\xe9")
DEMO = rb'{"type":"demo_requested","visitor_id":"v","text":"\u0000"}'
NDJSON = {"content_type": "application/x-ndjson"}


@pytest.mark.anyio
@pytest.mark.parametrize("cut", [CUT, LATIN])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"%s\n%s\n", NDJSON),
        (b"%s\r\n%s", NDJSON),
        (b"%s\n%s\n", {}),
        (b"[%s,%s]", {}),
        (b'{"events":[%s,%s]}', {}),
        (b'{"sent_at":"2030-01-31T12:00:00Z","own":"\\ud83d","events":[%s,%s]}', {}),
    ],
)
async def test_half_an_emoji_costs_no_event_whatever_the_form_of_the_body(house, cut, body, headers):
    response = await house.send(body % (cut, DEMO), **headers)
    assert (response.status_code, response.json()["accepted"]) == (200, 2)
    assert [event.text for event in house.events] == ["Price please \ufffd", "\ufffd"]
    assert house.events[0].extra == {"title": "a, b", "n": 1}


@pytest.mark.anyio
async def test_half_an_emoji_costs_no_single_event(house):
    response = await house.send(CUT)
    assert response.status_code == 200
    assert house.events[0].text == "Price please \ufffd"


@pytest.mark.anyio
async def test_a_broken_id_in_a_wrapped_batch_costs_only_its_event(house):
    broken = DEMO.replace(b'"v"', rb'"v\ud83d"')
    response = await house.send(b'{"events":[%s,%s]}' % (broken, DEMO))
    assert response.status_code == 207
    assert response.json()["events"][0]["field"] == "visitor_id"


@pytest.mark.anyio
async def test_a_body_without_a_declared_length_is_stopped_at_the_limit(house):
    async def endless():
        for _ in range(1_000):
            yield b" " * 10_000

    transport = httpx.ASGITransport(house.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        response = await http.post("/v1/events", content=endless())
    assert response.status_code == 413


def test_a_bomb_is_never_unpacked_beyond_the_limit():
    with pytest.raises(RequestProblem) as refused:
        result_of(gunzip(gzip.compress(b" " * 10_000_000, mtime=0), 1_000))
    assert refused.value.status == 413


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (
            b'{"type":"page_viewed","event_id":"e","occurred_at":"2030-01-01T00:00:00Z","visitor_id":"\\ud800"}',
            "visitor_id",
        ),
        (
            b'{"type":"page_viewed","event_id":"e","occurred_at":"0000-01-01T00:00:00Z","visitor_id":"v"}',
            "occurred_at",
        ),
        (
            b'{"type":"page_viewed","event_id":"e","occurred_at":"10000-01-01T00:00:00Z","visitor_id":"v"}',
            "occurred_at",
        ),
        (
            b'{"type":"purchase_made","event_id":"e","occurred_at":"2030-01-01T00:00:00Z","visitor_id":"v","value":1e999,"currency":"EUR"}',
            "value",
        ),
        (
            b'{"type":"page_viewed","event_id":"e","occurred_at":"2030-01-01T00:00:00Z","visitor_id":"v","n":'
            + b"9" * 5000
            + b"}",
            "n",
        ),
        (
            b'{"type":"page_viewed","event_id":"e","occurred_at":"2030-01-01T00:00:00Z","visitor_id":"v","x":'
            + b"[" * 9
            + b"]" * 9
            + b"}",
            "x",
        ),
        (
            b'{"type":"page_viewed","event_id":"e","occurred_at":"2030-01-01T00:00:00Z","visitor_id":"null"}',
            "visitor_id",
        ),
    ],
)
async def test_a_hostile_event_is_refused_naming_the_field_and_its_neighbours_are_taken(house, raw, field):
    response = await house.send(b"[" + raw + b"," + json.dumps(ONE).encode() + b"]")
    said = response.json()
    assert response.status_code == 207
    assert (said["accepted"], said["refused"]) == (1, 1)
    if field is not None:
        assert said["events"][0]["field"].startswith(field)
    assert said["events"][0]["reason"]
    assert len(response.content) < 2_000


@pytest.mark.anyio
@pytest.mark.parametrize("bad", [DEEP, b'{"a":"\\ud800"}', b"{broken}", b"nul", b""])
async def test_one_broken_element_does_not_take_its_list_with_it(house, bad):
    one = json.dumps(ONE).encode()
    response = await house.send(b"[" + one + b", " + bad + b" ," + one.replace(b"e1", b"e2") + b"]")
    assert [each["status"] for each in response.json()["events"]] == ["accepted", "refused", "accepted"]
    assert [event.event_id for event in house.events] == ["e1", "e2"]


def test_a_list_is_cut_only_at_its_own_commas():
    assert result_of(split_broken_list(b'[1,{"a":[2,3],"b":"x,]\\","},[4,5] , "]"]', 9)) == [
        b"1",
        b'{"a":[2,3],"b":"x,]\\","}',
        b"[4,5] ",
        b' "]"',
    ]
    assert result_of(split_broken_list(b"[1,2", 9)) is None
    assert result_of(split_broken_list(b"[1]2", 9)) is None


@pytest.mark.parametrize(
    "hostile",
    [b"[" * 1_000_000, b"[" + b'"' * 999_999, b'["' + b"\\" * 999_997, b"[" + b"," * 999_998 + b"]"],
)
def test_a_body_that_is_all_structure_is_refused(hostile):
    with pytest.raises(RequestProblem):
        result_of(split_batch(hostile, "", 10_000))


@pytest.mark.anyio
async def test_nothing_is_answered_2xx_that_the_log_did_not_take(house):
    house.failure = LogUnavailable("the log is away", retry_after_s=2.2)
    response = await house.send(ONE)
    assert answer(response) == (503, {"error": {"field": None, "reason": "the log is away"}})
    assert response.headers["Retry-After"] == "3"


@pytest.mark.anyio
async def test_whatever_breaks_the_caller_sees_a_plain_500(house):
    house.failure = RuntimeError("secret detail")
    response = await house.send(ONE)
    assert answer(response) == (
        500,
        {"error": {"field": None, "reason": "something broke here; the log says what"}},
    )
    assert "secret" not in response.text
    assert "Traceback" not in response.text


# Access


@pytest.mark.anyio
async def test_without_keys_only_this_machine_is_served(house):
    response = await house.send(ONE, client=("203.0.113.9", 1))
    assert response.status_code == 403
    assert "LEADSTREAM_WRITE_KEYS" in response.json()["error"]["reason"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_for": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
        {"host": "rebound.example"},
        {"origin": "https://foreign.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"x_real_ip": "203.0.113.9"},
    ],
)
async def test_without_keys_nobody_gets_in_through_a_proxy_or_a_browser(house, headers):
    assert (await house.send(ONE, **headers)).status_code == 403
    assert house.log == []


@pytest.mark.anyio
async def test_without_keys_ones_own_page_and_tenant_are_welcome(house):
    response = await house.send(ONE, origin="http://localhost", x_tenant="acme")
    assert response.status_code == 200
    assert house.events[0].tenant == "acme"


KEYS = read_access(
    ["acme:acme-write-key", "globex:globex-write-key"], ["acme:read:acme-reader", "acme:read+write:acme-both"]
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"x_write_key": "acme-write-key"}, "/v1/events"),
        ({"authorization": "Basic YWNtZS13cml0ZS1rZXk6"}, "/v1/events"),
        ({}, "/v1/events?write_key=acme-write-key"),
        ({"authorization": "Bearer acme-both"}, "/v1/events"),
    ],
)
async def test_a_write_key_opens_the_door_of_its_tenant_from_anywhere(headers, path):
    house = House(access=KEYS)
    response = await house.send(ONE, client=("203.0.113.9", 1), path=path, **headers)
    assert response.status_code == 200
    assert house.events[0].tenant == "acme"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "kind", ["leads_merged", "merge_undone", "stage_changed", "lead_erased", "note_added"]
)
async def test_what_colleagues_decide_needs_a_token_and_no_public_key(kind):
    said = {"type": kind, "lead_id": "ada", "into": "bob", "stage": "lost", "text": "x", "event_id": "s1"}
    house = House(access=KEYS)
    refused = await house.send(said, x_write_key="acme-write-key")
    assert refused.status_code == 422
    assert refused.json()["events"][0]["field"] == "type"
    taken = await house.send(said, authorization="Bearer acme-both")
    assert taken.status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x_write_key": "guess"}, 401),
        ({"authorization": "Basic !!!"}, 401),
        ({"authorization": "Basic /w=="}, 401),
        ({"authorization": "Bearer acme-reader"}, 403),
        ({"authorization": "Bearer guess"}, 401),
        ({"x_tenant": "acme"}, 401),
    ],
)
async def test_no_key_or_a_wrong_one_stays_outside(headers, status):
    house = House(access=KEYS)
    response = await house.send(ONE, **headers)
    assert response.status_code == status
    assert house.log == []
    assert "guess" not in response.text


@pytest.mark.anyio
async def test_a_key_cannot_write_for_another_tenant():
    house = House(access=KEYS)
    response = await house.send({**ONE, "tenant": "acme"}, x_write_key="globex-write-key")
    assert (response.status_code, response.json()["events"][0]["field"]) == (422, "tenant")


@pytest.mark.anyio
async def test_a_flood_is_told_when_to_come_back_and_others_are_served():
    house = House(access=KEYS, rate=RateLimit(per_second=0.1, burst=3))
    batch = [{**ONE, "event_id": str(number)} for number in range(3)]
    assert (await house.send(batch, x_write_key="acme-write-key")).status_code == 200
    refused = await house.send(ONE, x_write_key="acme-write-key")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert (await house.send(ONE, x_write_key="globex-write-key")).status_code == 200


@pytest.mark.anyio
async def test_a_browser_of_another_site_may_send_events_and_read_the_refusal():
    house = House(access=KEYS)
    refused = await house.send(ONE, origin="https://shop.example")
    taken = await house.send(ONE, origin="https://shop.example", x_write_key="acme-write-key")
    assert {each.headers["Access-Control-Allow-Origin"] for each in (refused, taken)} == {
        "https://shop.example"
    }
    assert taken.status_code == 200


@pytest.mark.anyio
async def test_a_beacon_of_another_site_is_taken_with_a_key():
    """As `navigator.sendBeacon(address, text)` sends it."""
    beacon = {
        "origin": "https://shop.example",
        "content_type": "text/plain;charset=UTF-8",
        "sec_fetch_site": "cross-site",
        "sec_fetch_mode": "no-cors",
    }
    house = House(access=KEYS)
    taken = await house.send(ONE, path="/v1/events?write_key=acme-write-key", **beacon)
    assert taken.status_code == 200
    assert taken.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.anyio
async def test_without_keys_a_beacon_of_an_own_page_is_taken(house):
    beacon = {"content_type": "text/plain;charset=UTF-8", "sec_fetch_site": "same-origin"}
    assert (await house.send(ONE, origin="http://localhost", **beacon)).status_code == 200


# Waiting


APPLIED = EventOutcome("applied", "anon:v1", {"temperature": 23.0})


@pytest.mark.anyio
async def test_a_caller_that_waits_is_told_outcome_and_scores(house):
    house.applied = {EventKey("default", "default/v/v1", "e1"): APPLIED}
    status, said = answer(await house.send(ONE, path="/v1/events?wait=2.5"))
    assert status == 200
    assert said["events"][0] == {
        "index": 0,
        "event_id": "e1",
        "status": "accepted",
        "outcome": "applied",
        "lead_id": "anon:v1",
        "scores": {"temperature": 23.0},
    }
    assert house.asked == [([EventKey("default", "default/v/v1", "e1")], 2.5)]
    assert house.events[0].reply


@pytest.mark.anyio
async def test_what_does_not_show_yet_is_202_with_where_to_look(house):
    status, said = answer(await house.send(ONE, path="/v1/events?wait=1"))
    assert (status, said["events"][0]["location"]) == (202, "/api/events/e1?visitor_id=v1")


@pytest.mark.anyio
async def test_nobody_waits_who_did_not_ask(house):
    await house.send(ONE)
    assert house.asked == []
    assert not house.events[0].reply


@pytest.mark.anyio
async def test_a_public_write_key_learns_no_score():
    house = House(access=KEYS)
    house.applied = {EventKey("acme", "acme/v/v1", "e1"): APPLIED}
    said = (await house.send(ONE, path="/v1/events?wait=1", x_write_key="acme-write-key")).json()
    assert said["events"][0] == {"index": 0, "event_id": "e1", "status": "accepted", "outcome": "applied"}


@pytest.mark.anyio
@pytest.mark.parametrize("wait", ["-1", "11", "soon", "nan", "inf"])
async def test_a_wrong_wait_is_refused_before_anything_is_written(house, wait):
    response = await house.send(ONE, path=f"/v1/events?wait={wait}")
    assert (response.status_code, response.json()["error"]["field"]) == (422, "wait")
    assert house.log == []


def test_a_problem_names_field_and_reason():
    response = answer_to_problem(RequestProblem(400, "broken", field="body"))
    assert json.loads(response.body) == {"error": {"field": "body", "reason": "broken"}}

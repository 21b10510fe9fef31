"""Assignment and recording over HTTP. The log is a list, and there is no database at all."""

import json
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI

from authoring.experiment_texts import active_experiments
from gateway.access import RateLimit, read_access
from gateway.answers import RequestProblem, answer_to_problem
from gateway.api import ab_test
from gateway.door.services import open_door
from gateway.ports import LogUnavailable, Ports
from schemas.decode import decode_source
from schemas.events import ConversionRecorded, ExperimentExposed
from scoring.editing.experiment_edits import text_with_status
from scoring.experiments.assignment import assign_variant, built_in_experiments
from scoring.experiments.experiment_text import compile_experiment

pytestmark = pytest.mark.anyio

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
MODELS = """
name = "scoring-model"
unit = "lead"
[variants.champion]
config = { model = "temperature" }
[variants.challenger]
config = { model = "fit_engagement" }
[goals.bought]
event = "purchase_made"
"""
GREETING_TEXT = built_in_experiments()["greeting_message"]
GREETING = compile_experiment(GREETING_TEXT)


class House:
    def __init__(self, texts=None, **ports):
        """`texts`: of the experiments that are active."""
        self.log = []
        self.failure = None

        async def experiments(_tenant):
            return active_experiments(texts, [])

        named = {} if texts is None else {"experiments": experiments}
        self.ports = Ports(append=self.append, database_url="", now=lambda: NOW, **named, **ports)
        self.app = FastAPI()
        open_door(self.app, self.ports, None)
        self.app.include_router(ab_test.router)
        self.app.add_exception_handler(RequestProblem, lambda _, problem: answer_to_problem(problem))

    async def append(self, records):
        if self.failure:
            raise self.failure
        self.log.extend(records)

    @property
    def events(self):
        return [decode_source(record.value) for record in self.log]

    async def ask(self, path, body, *, method="POST", **headers):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await http.request(method, f"/api/ab-test/{path}", content=content, headers=named)


@pytest.fixture
def house():
    return House()


async def test_a_visitor_is_told_its_variant_and_the_exposure_is_in_the_log(house):
    answer = await house.ask("variant/greeting_message", {"session_id": "sess_123"})
    variant = assign_variant(GREETING, "sess_123", NOW).variant
    assert answer.status_code == 200
    assert answer.json() == {
        "test_name": "greeting_message",
        "variant": variant.name,
        "config": variant.config,
        "in_experiment": True,
    }
    (event,) = house.events
    assert isinstance(event, ExperimentExposed)
    assert (event.visitor_id, event.experiment, event.variant) == (
        "sess_123",
        "greeting_message",
        variant.name,
    )
    assert (event.occurred_at, event.recorded_at, event.tenant) == (NOW, NOW, "default")


async def test_asking_again_gives_the_same_variant_and_the_same_event(house):
    answers = [await house.ask("variant/question_flow", {"session_id": "s"}) for _ in range(3)]
    assert len({answer.content for answer in answers}) == 1
    assert len({event.event_id for event in house.events}) == 1
    for session in ("s", *(f"s{n}" for n in range(9))):
        for name in ("greeting_message", "question_flow"):
            await house.ask(f"variant/{name}", {"session_id": session})
    seen = {(event.visitor_id, event.experiment): event.event_id for event in house.events}
    assert len(seen) == len(set(seen.values())) == 20


async def test_every_address_has_a_form_with_a_slash(house):
    variants = [await house.ask(f"variant/question_flow{end}", {"session_id": "s"}) for end in ("", "/")]
    assert variants[0].json() == variants[1].json()
    goal = {"session_id": "s", "test_name": "question_flow", "conversion_type": "demo_request"}
    assert (await house.ask("conversion/", goal)).status_code == 200
    assert (await house.ask("conversion/", {}, method="OPTIONS")).status_code == 204


async def test_a_known_person_is_named_in_the_exposure(house):
    await house.ask("variant/greeting_message", {"session_id": "s"})
    await house.ask("variant/greeting_message", {"session_id": "s", "lead_id": "lead-1"})
    before, after = house.events
    assert (before.lead_id, after.lead_id) == (None, "lead-1")
    assert before.event_id != after.event_id


async def test_who_is_not_covered_sees_the_control_and_is_not_exposed():
    house = House({"greeting_message": GREETING_TEXT.replace("coverage = 1.0", "coverage = 0.0")})
    answer = (await house.ask("variant/greeting_message", {"session_id": "s"})).json()
    assert (answer["variant"], answer["in_experiment"]) == ("A", False)
    assert answer["config"] == {"text": "Hi! Welcome to YouShop!"}
    assert house.log == []


async def test_a_stopped_experiment_shows_its_winner_and_exposes_nobody():
    house = House({"greeting_message": text_with_status(GREETING_TEXT, "stopped", "B")})
    answer = (await house.ask("variant/greeting_message", {"session_id": "s"})).json()
    assert (answer["variant"], answer["in_experiment"], house.log) == ("B", False, [])


async def test_an_experiment_of_models_assigns_leads():
    experiment = compile_experiment(MODELS)
    house = House({"scoring-model": MODELS})
    answer = (await house.ask("variant/scoring-model", {"lead_id": "lead-7"})).json()
    assert answer["config"] == assign_variant(experiment, "lead-7", NOW).variant.config
    assert (house.events[0].lead_id, house.events[0].visitor_id) == ("lead-7", None)
    refused = await house.ask("variant/scoring-model", {"session_id": "s"})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "lead_id")


async def test_a_conversion_is_recorded_with_what_counts_it(house):
    said = {
        "session_id": "s",
        "test_name": "greeting_message",
        "conversion_type": "demo_request",
        "conversion_id": "7",
        "value": 12.5,
        "currency": "EUR",
        "event_id": "mine-1",
    }
    answer = await house.ask("conversion", said)
    assert (answer.status_code, answer.json()["goals"]) == (200, ["demo_request"])
    (event,) = house.events
    assert isinstance(event, ConversionRecorded)
    assert (event.event_id, event.visitor_id, event.conversion_type) == ("mine-1", "s", "demo_request")
    assert (event.conversion_id, float(event.value), event.currency) == ("7", 12.5, "EUR")
    assert (event.context.source_type, event.context.source_id) == ("experiment", "greeting_message")


async def test_conversions_without_an_id_are_events_of_their_own(house):
    """The second may be the one that counts: the first can have come before the first exposure."""
    said = {"session_id": "s", "test_name": "greeting_message", "conversion_event": "demo_request"}
    for _ in range(2):
        assert (await house.ask("conversion", said)).json()["conversion_type"] == "demo_request"
    assert len({event.event_id for event in house.events}) == 2


async def test_a_conversion_that_no_goal_counts_is_recorded_with_a_hint(house):
    said = {"session_id": "s", "test_name": "greeting_message", "conversion_type": "demo"}
    answer = (await house.ask("conversion", said)).json()
    assert answer["goals"] == []
    assert "no goal" in answer["hint"]
    assert len(house.log) == 1


CONVERSION = {"session_id": "s", "test_name": "greeting_message", "conversion_type": "demo_request"}


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("variant/greting", {"session_id": "s"}, 404, "test_name"),
        ("variant/greeting_message", {}, 422, "session_id"),
        ("variant/greeting_message", {"session_id": " s"}, 422, "session_id"),
        ("variant/greeting_message", {"session_id": 7}, 422, "body"),
        ("variant/greeting_message", b"{", 400, "body"),
        ("variant/greeting_message", b"\xff", 400, "body"),
        ("variant/greeting_message", {"session_id": "s", "x": "y" * 10_000}, 413, "body"),
        ("conversion", {**CONVERSION, "test_name": "greting"}, 404, "test_name"),
        ("conversion", {**CONVERSION, "session_id": None}, 422, "session_id"),
        ("conversion", {**CONVERSION, "conversion_type": None}, 422, "conversion_type"),
        ("conversion", {**CONVERSION, "value": -1}, 422, "value"),
        ("conversion", {**CONVERSION, "currency": "euro"}, 422, "currency"),
        ("conversion", {**CONVERSION, "event_id": "a b"}, 422, "event_id"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_recorded(house, path, body, status, field):
    answer = await house.ask(path, body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
    assert house.log == []


async def test_a_log_that_takes_nothing_is_503_with_the_time_to_wait(house):
    house.failure = LogUnavailable("full", retry_after_s=3)
    answer = await house.ask("variant/greeting_message", {"session_id": "s"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


async def test_write_keys_and_tokens_that_write_may_ask_and_decide_the_tenant():
    access = read_access(["acme:browser-key"], ["acme:write:server-token", "acme:read:reading-token"])
    house = House(access=access)
    body = {"session_id": "s"}
    told = {}
    for name, headers in {
        "key": {"x_write_key": "browser-key"},
        "token": {"authorization": "Bearer server-token"},
        "reader": {"authorization": "Bearer reading-token"},
        "nobody": {},
    }.items():
        told[name] = (await house.ask("variant/greeting_message", body, **headers)).status_code
    assert told == {"key": 200, "token": 200, "reader": 403, "nobody": 401}
    assert {event.tenant for event in house.events} == {"acme"}


async def test_a_key_may_not_flood():
    house = House(rate=RateLimit(1, 2))
    told = [(await house.ask("variant/greeting_message", {"session_id": "s"})).status_code for _ in range(4)]
    assert told[:2] == [200, 200]
    assert told[3] == 429


async def test_a_crawler_is_marked_as_one(house):
    await house.ask("variant/greeting_message", {"session_id": "a"}, user_agent=BROWSER)
    crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    await house.ask("variant/greeting_message", {"session_id": "b"}, user_agent=crawler)
    person, robot = house.events
    assert person.bot is None
    assert robot.bot


async def test_a_page_of_another_site_may_ask_in_the_browser(house):
    for path in ("variant/greeting_message", "conversion"):
        preflight = await house.ask(path, b"", method="OPTIONS")
        assert preflight.status_code == 204
        assert "POST" in preflight.headers["access-control-allow-methods"]
        refused = await house.ask(path, b"{")
        assert refused.headers["access-control-allow-origin"] == "*"
    answer = await house.ask("variant/greeting_message", {"session_id": "s"})
    assert answer.headers["access-control-allow-origin"] == "*"

"""/api/inspector/events, in a whole embedded system: what a developer sees of a producer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.app import create_app
from gateway.door.recent_events import MOST_EVENTS, MOST_TENANTS, RecentEvents
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from scoring.features.erased_people import ErasedPeople, PersonName, hash_of_name

NOBODY = ErasedPeople()
DEMO = {"type": "demo_requested", "event_id": "e1", "visitor_id": "v1", "lead_id": "ada"}


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(database_url=database_url, partitions=2)
    with open_system(settings) as system:
        app = create_app(ports_of(system, settings))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            yield http


async def listed(http: httpx.AsyncClient, **asked: object) -> dict:
    answer = await http.get("/api/inspector/events", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.postgres
@pytest.mark.anyio
async def test_a_developer_sees_why_an_event_was_refused_and_what_another_did(database_url):
    async with opened(database_url) as http:
        bad = {**DEMO, "event_id": "e0", "occurred_at": "yesterday", "lead_signature": "top secret"}
        refused = await http.post("/v1/events", json=bad)
        taken = await http.post("/v1/events", params={"wait": 10}, json=DEMO)
        again = await http.post("/v1/events", params={"wait": 10}, json=DEMO)
        crawled = await http.post(
            "/v1/events", params={"wait": 10}, json={"type": "page_viewed", "visitor_id": "crawler"},
            headers={"user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
        )  # fmt: skip
        broken = await http.post("/v1/events", content=b"{", headers={"content-type": "application/json"})
        assert [each.status_code for each in (refused, taken, again, crawled, broken)] == [
            422,
            200,
            200,
            200,
            400,
        ]

        answer = await listed(http)
        assert answer["counts"] == {"taken": 3, "refused": 2, "not_stored": 0}
        body, bot, repeated, first, wrong = answer["events"]
        assert (wrong["outcome"], wrong["field"], wrong["type"]) == (
            "refused",
            "occurred_at",
            "demo_requested",
        )
        reason = refused.json()["events"][0]["reason"]
        assert wrong["reason"] == reason
        assert wrong["sent"] == {name: value for name, value in bad.items() if name != "lead_signature"}
        assert "top secret" not in str(answer)

        assert (first["outcome"], first["effect"]["state"], first["effect"]["lead_id"]) == (
            "taken", "counted", "ada",
        )  # fmt: skip
        card = (await http.get("/api/leads/ada")).json()
        totals = {model: score["rounded"] for model, score in card["scores"].items() if score["total"]}
        by_model = {each["model"]: each for each in first["effect"]["scores"]}
        assert {model: each["total"] for model, each in by_model.items()}.items() <= {
            model: card["scores"][model]["total"] for model in by_model
        }.items()
        assert "temperature" in by_model, totals
        assert repeated["effect"]["state"] == "repeated"
        assert bot["bot"] is not None
        assert bot["effect"] == {"state": "bot", "lead_id": None, "late": False, "scores": [], "stages": []}
        assert (body["outcome"], body["type"], body["sent"]) == ("refused", None, None)
        assert body["reason"] == broken.json()["error"]["reason"]


@pytest.mark.postgres
@pytest.mark.anyio
async def test_events_are_chosen_and_turned_page_by_page(database_url):
    async with opened(database_url) as http:
        batch = [
            {"type": "page_viewed", "visitor_id": f"v{number % 3}", "event_id": f"p{number}"}
            for number in range(7)
        ]
        await http.post("/v1/events", json=[*batch, {"type": "page_veiwed", "visitor_id": "v1"}])
        await http.post("/v1/events", json=batch, headers={"x-tenant": "other"})
        assert (await listed(http))["kept"] == 8
        assert [each["event_id"] for each in (await listed(http, id="v1", outcome="taken"))["events"]] == [
            "p4",
            "p1",
        ]
        assert [each["type"] for each in (await listed(http, outcome="refused"))["events"]] == ["page_veiwed"]
        assert len((await listed(http, type="page_viewed", source="web"))["events"]) == 7
        first = await listed(http, limit=5, type="page_viewed")
        rest = await listed(http, limit=5, type="page_viewed", before=first["before"])
        assert rest["before"] is None
        both = [each["event_id"] for each in first["events"] + rest["events"]]
        assert both == [f"p{number}" for number in reversed(range(7))]
        wrong = await http.get("/api/inspector/events", params={"outcome": "lost"})
        assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "outcome")


def test_memory_is_bounded_by_tenants_and_events():
    recent = RecentEvents()
    for number in range(MOST_TENANTS + 5):
        recent.refuse(f"t{number}", b"{}", None, "no")
    for number in range(MOST_EVENTS + 5):
        recent.refuse("t200", b"x" * 1_000_000, None, str(number))
    assert recent.of("t0", NOBODY) == []
    kept = recent.of("t200", NOBODY)
    assert len(kept) == MOST_EVENTS
    assert (kept[0].reason, kept[0].sent) == (str(MOST_EVENTS + 4), None)


def test_secrets_are_not_kept_wherever_they_stand():
    recent = RecentEvents()
    secret = '{"Token": "s", "fields": {"password": "s", "list": [{"write_key": "s"}], "company": "Firm"}}'
    recent.refuse("t", secret.encode(), None, "no")
    (kept,) = recent.of("t", NOBODY)
    assert kept.sent == {"fields": {"list": [{}], "company": "Firm"}}


def test_what_refused_events_said_goes_with_the_next_erasure():
    recent, erased, salt = RecentEvents(), ErasedPeople(), b"salt"
    recent.refuse("t", b'{"text": "call ada@firm.example please"}', "type", "missing")
    recent.refuse("other", b'{"text": "call ada@firm.example please"}', "type", "missing")
    assert recent.of("t", erased)[0].sent == {"text": "call ada@firm.example please"}
    erased.remember("t", salt, [hash_of_name(salt, PersonName("email", "ada@firm.example"))])
    assert [(each.field, each.sent) for each in recent.of("t", erased)] == [("type", None)]
    assert recent.of("other", erased)[0].sent is not None
    recent.refuse("t", b'{"text": "later"}', "type", "missing")
    assert recent.of("t", erased)[0].sent == {"text": "later"}


def test_a_refused_event_of_any_depth_is_kept_up_to_a_level():
    recent = RecentEvents()
    for depth in (5, 900, 1_900):
        recent.refuse("t", b'{"a": ' + b"[" * depth + b"]" * depth + b"}", None, "no")
    shown = [str(each.sent) for each in reversed(recent.of("t", NOBODY))]
    assert shown[0] == "{'a': [[[[[]]]]]}"
    assert max(map(len, shown)) < 100

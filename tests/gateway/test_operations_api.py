"""/api/operations and /api/dead-letters, in a whole embedded system."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import psycopg
import pytest

from gateway.access import read_access
from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import encode_source
from schemas.moment import moment
from schemas.record import Outgoing
from schemas.topics import EVENTS

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

TOKENS = {tenant: f"a-secret-token-of-{tenant}" for tenant in ("red", "blue")}


def broken_event(tenant: str, event_id: str = "d1") -> bytes:
    fields = {
        "type": "demo_requested",
        "tenant": tenant,
        "event_id": event_id,
        "visitor_id": "v1",
        "occurred_at": "x",
    }
    return json.dumps(fields).encode()


def mended(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), "occurred_at": "2030-01-31T12:00:00Z", **changes})


@asynccontextmanager
async def opened(
    database_url: str, *values: tuple[str, bytes], tenants: tuple[str, ...] = ("red",)
) -> AsyncIterator[httpx.AsyncClient]:
    """A system whose log has these records, each under the key of a tenant."""
    settings = Settings(database_url=database_url, partitions=2)
    tokens = [f"{tenant}:admin:{TOKENS[tenant]}" for tenant in tenants]
    with open_system(settings) as system:
        system.driver.append([Outgoing(EVENTS, f"{tenant}/v/v1", value) for tenant, value in values]).result()
        while any(system.driver.status().backlog.values()):
            pass
        app = create_app(replace(ports_of(system, settings), access=read_access([], tokens)))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=transport, base_url="http://localhost", headers=as_admin_of(tenants[0])
            ) as http,
        ):
            yield http


def as_admin_of(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[tenant]}"}


async def asked(http: httpx.AsyncClient, path: str, **options: Any) -> dict[str, Any]:
    answer = await http.get(path, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def address_of(dead_letter: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {name: dead_letter[name] for name in ("topic", "partition", "position")} | more


async def test_a_dead_letter_is_corrected_sent_again_counts_and_goes(database_url):
    async with opened(database_url, ("red", broken_event("red")), ("red", b"\xff\x00")) as http:
        before = await asked(http, "/api/operations")
        assert (before["ready"], before["backlog"], before["rebuild"]) == (True, 0, None)
        assert sum(each["count"] for each in before["dead_letters"]) == 2
        letters = {each["bytes"]: each for each in (await asked(http, "/api/dead-letters"))["dead_letters"]}
        binary, wrong = letters[2], letters[len(broken_event("red"))]
        assert binary["text"] is None
        assert (wrong["field"], wrong["key"]) == ("occurred_at", "red/v/v1")

        as_it_is = await http.post("/api/dead-letters/retry", json={"dead_letters": [address_of(wrong)]})
        assert as_it_is.json()["sent"] == 0
        assert as_it_is.json()["problems"][0]["field"] == "occurred_at"

        corrected = address_of(wrong, replacement=mended(wrong["text"]))
        nowhere = address_of(wrong) | {"position": 999}
        sent = await http.post("/api/dead-letters/retry", json={"dead_letters": [corrected, nowhere]})
        assert (sent.status_code, sent.json()["sent"]) == (200, 1)
        assert [each["position"] for each in sent.json()["problems"]] == [999]
        left = (await asked(http, "/api/dead-letters"))["dead_letters"]
        assert [each["bytes"] for each in left] == [2]
        waited = await http.post(
            "/v1/events", params={"wait": 10}, json={"type": "page_viewed", "visitor_id": "v1"}
        )
        assert waited.status_code == 200
        lead = await asked(http, "/api/leads/anon:v1")
        assert "demo_requested" in {each["type"] for each in lead["engagements"]}


async def test_dead_letters_come_page_by_page(database_url):
    async with opened(database_url, *(("red", broken_event("red", f"e{n}")) for n in range(5))) as http:
        first = await asked(http, "/api/dead-letters", params={"limit": 3})
        rest = await asked(http, "/api/dead-letters", params={"limit": 3, "after": first["after"]})
        assert rest["after"] is None
        texts = [
            json.loads(each["text"])["event_id"] for each in first["dead_letters"] + rest["dead_letters"]
        ]
        assert texts == [f"e{n}" for n in range(5)]


async def test_a_tenant_sees_and_sends_only_its_own(database_url):
    values = [
        ("red", broken_event("red")),
        ("blue", broken_event("blue")),
        ("redder", broken_event("redder")),
    ]
    async with opened(database_url, *values, tenants=("red", "blue")) as http:
        (own,) = (await asked(http, "/api/dead-letters"))["dead_letters"]
        assert own["key"] == "red/v/v1"
        (others,) = (await asked(http, "/api/dead-letters", headers=as_admin_of("blue")))["dead_letters"]
        counted = (await asked(http, "/api/operations"))["dead_letters"]
        assert sum(each["count"] for each in counted) == 1

        stolen = address_of(others, replacement=mended(others["text"], tenant="red"))
        smuggled = address_of(own, replacement=mended(own["text"], tenant="blue"))
        for tried in (stolen, smuggled):
            answer = await http.post("/api/dead-letters/retry", json={"dead_letters": [tried]})
            assert (answer.status_code, answer.json()["sent"]) == (200, 0), answer.text


async def test_nobody_publishes_by_a_dead_letter(database_url):
    published = ModelPublished(tenant=EVERY_TENANT, recorded_at=moment(0), model="rules", version=99, text="")
    async with opened(database_url, ("red", broken_event("red"))) as http:
        (own,) = (await asked(http, "/api/dead-letters"))["dead_letters"]
        tried = address_of(own, replacement=encode_source(published).decode())
        answer = await http.post("/api/dead-letters/retry", json={"dead_letters": [tried]})
        assert (answer.status_code, answer.json()["sent"]) == (200, 0)
        assert "control record" in answer.json()["problems"][0]["reason"]


async def test_a_rebuild_says_how_far_it_is(database_url):
    async with opened(database_url, ("red", broken_event("red"))) as http:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "insert into public.positions select 'shadow', topic, partition, 0 from public.positions where generation = 'live'"
            )
            live = connection.execute(
                "select sum(position + 1), count(*) from public.positions where generation = 'live'"
            ).fetchone()
        rebuild = (await asked(http, "/api/operations"))["rebuild"]
        assert rebuild == {"done": live[1], "of": max(live)}

"""A lead that objects to profiling, and what nobody has consented to, on a whole embedded system: what every answer, view and
table shows.
"""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from schemas.control import SettingsPublished
from schemas.publications import publication_records

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]
UNSEEN = "zq7-unconsented"
ADDRESS = "203.0.113.77"


@asynccontextmanager
async def serving(url):
    settings = Settings(database_url=url, partitions=2, ip_truncation="last_octet")
    with open_system(settings) as system:
        ports = ports_of(system, settings)
        app = create_app(ports)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            yield http, ports


async def send(http, *events):
    answer = await http.post("/v1/events?wait=10", json=list(events))
    assert answer.status_code == 200, answer.text
    return answer.json()


def warm(lead_id, **fields):
    return [
        {"type": "page_viewed", "visitor_id": f"v-{lead_id}", "lead_id": lead_id, "context": {"ip": ADDRESS}},
        {"type": "demo_requested", "visitor_id": f"v-{lead_id}", "lead_id": lead_id},
        {
            "type": "profile_updated",
            "lead_id": lead_id,
            "source": "crm",
            "fields": {"phone": "+4930123456", **fields},
        },
        {"type": "session_started", "lead_id": lead_id, "visitor_id": f"v-{lead_id}", "source": "chatbot"},
    ]


def tables_with(url, text):
    """Every table of the database that has the text, also in bytes."""
    tables = []
    with psycopg.connect(url) as connection:
        for schema, name in connection.execute(
            "select schemaname, tablename from pg_tables where schemaname in ('public', 'live')"
        ).fetchall():
            query = SQL("select count(*) from {} t where t::text like %s or t::text like %s")
            row = connection.execute(
                query.format(Identifier(schema, name)), (f"%{text}%", f"%{text.encode().hex()}%")
            ).fetchone()
            if row[0]:
                tables.append(name)
    return tables


async def test_a_lead_that_objects_is_scored_nowhere_and_comes_back_with_its_agreement(read_models_url):
    async with serving(read_models_url) as (http, _ports):
        await send(http, *warm("1"), *warm("2"))
        before = {each["lead_id"]: each for each in (await http.get("/api/leads")).json()["leads"]}
        assert before["1"]["lead_score"] == before["2"]["lead_score"] > 0
        history = (await http.get("/api/leads/1")).json()["ledger"]
        at = history[0]["at"]
        objection = {"type": "consent_changed", "lead_id": "1", "source": "crm", "profiling": False}
        assert (await send(http, objection))["events"][0]["scores"] == {}

        shown = (await http.get("/api/leads/1")).json()
        assert (shown["scores"], shown["lead"]["lead_score"], shown["lead"]["do_not_score"]) == (
            {},
            None,
            True,
        )
        assert {entry["total"] for entry in shown["ledger"][:4]} == {0}
        assert [entry["removed"] for entry in shown["ledger"]] == [True] * 4 + [False] * (
            len(shown["ledger"]) - 4
        )
        rules = (await http.get("/api/lead-qualification/lead-scores/history?lead_id=1")).json()
        assert [entry["removed"] for entry in rules] == [True] + [False] * (len(rules) - 1)
        board = (await http.get("/api/leads")).json()["leads"]
        assert [(each["lead_id"], each["do_not_score"]) for each in board] == [("2", False), ("1", True)]
        later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
        assert (await http.get("/api/leads/1", params={"as_of": later})).json()["scores"] == {}
        past = (await http.get("/api/leads/1", params={"as_of": at})).json()["scores"]
        assert past["rules"]["total"] > 0, "what was recorded by then is the past"
        every = (await http.get("/api/tenants/default/leads")).json()
        assert [(each["id"], each["lead_score"], each["temperature"]) for each in every][1] == (1, None, None)
        assert (await http.get("/api/tenants/default/leads?temperature=cold")).json() == []
        rules = (await http.get("/api/lead-qualification/lead-scores/")).json()
        assert [each["lead"] for each in rules] == [2]
        spread = (await http.get("/api/lead-qualification/lead-scores/distribution/")).json()
        assert sum(count for name, count in spread.items() if name != "avg_score") == 1
        for method, path, body in (
            ("POST", "/api/lead-qualification/lead-scores/calculate/", {"lead_id": 1}),
            ("POST", "/api/lead-score/user", {"userId": "1"}),
            ("GET", "/api/lead-tracking/scoring/1", None),
        ):
            answer = await http.request(method, path, json=body)
            assert (answer.status_code, "does not wish to be scored" in answer.text) == (409, True), path
        everybody = await http.post(
            "/api/lead-qualification/lead-scores/bulk_calculate/", json={"recalculate_all": True}
        )
        assert (everybody.json()["failed"], everybody.json()["changed"]) == (0, 0)
        with psycopg.connect(read_models_url) as connection:
            row = connection.execute(
                "select lead_score, temperature, chatbot_score, qualification_stage from reports.leads where lead_id = '1'"
            ).fetchone()
            assert row == (None, None, None, None)

        await send(http, objection | {"profiling": True})
        after = {each["lead_id"]: each for each in (await http.get("/api/leads")).json()["leads"]}
        assert after["1"]["lead_score"] == after["2"]["lead_score"]
        assert after["1"]["temperature"] == after["2"]["temperature"]


async def test_no_value_that_nobody_consented_to_is_in_any_table(read_models_url):
    async with serving(read_models_url) as (http, ports):
        seen = {"type": "page_viewed", "visitor_id": "seen-visitor", "context": {"ip": ADDRESS}}
        await send(http, seen)
        unseen = seen | {"visitor_id": UNSEEN, "lead_id": UNSEEN, "url": f"https://shop.test/{UNSEEN}"}
        answered = await send(http, unseen | {"tracking_consent": False})
        assert (answered["accepted"], answered["not_stored"]) == (0, 1)
        now = datetime.now(UTC)
        required = SettingsPublished(tenant="default", recorded_at=now, version=1, consent_required_since=now)
        await ports.append(publication_records(required))
        # The door learns of it within a second or two; until then the folds keep to it.
        answer = {}
        while answer.get("not_stored") != 1:
            probe = {"type": "page_viewed", "visitor_id": "probe"}
            answer = (await http.post("/v1/events", json=[probe])).json()
        answered = await send(http, unseen)
        assert (answered["accepted"], answered["not_stored"]) == (0, 1)
        agreed = await send(http, seen | {"visitor_id": "agreed-visitor", "tracking_consent": True})
        assert agreed["accepted"] == 1
    assert tables_with(read_models_url, UNSEEN) == []
    assert tables_with(read_models_url, ADDRESS) == []
    assert "records_events" in tables_with(read_models_url, "agreed-visitor")
    assert "engagement_history" in tables_with(read_models_url, "203.0.113.0")

"""Events in through the collector, scores out through the API: the whole system, nothing left out."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest

from gateway.answers import RequestProblem
from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from schemas.record import Outgoing
from schemas.topics import EVENTS

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

NOW = datetime.now(UTC)


@asynccontextmanager
async def gateway(database_url):
    settings = Settings(database_url=database_url, partitions=4)
    with open_system(settings) as system:
        app = create_app(ports_of(system, settings))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
        ):
            yield http


def ago(**span):
    return (NOW - timedelta(**span)).isoformat()


async def test_when_the_database_does_not_come_back_a_request_gives_up_and_tells_nobody_its_paths(
    database_url, monkeypatch
):
    async with gateway(database_url) as http:

        def gone(self, *_, **__):
            self._connection.close()
            raise psycopg.OperationalError("PANIC: could not write to /var/lib/secret/pg_wal")

        monkeypatch.setattr("leadstream.wiring.APPEND_SECONDS", 0.5)
        monkeypatch.setattr("streams.embedded.writer.Writer.commit", gone)
        monkeypatch.setattr("streams.embedded.driver.Writer", gone)
        sent = await http.post("/v1/events", json={"type": "qr_scanned", "lead_id": "ahmad"})
        ready = await http.get("/ready")
    assert (sent.status_code, sent.headers["Retry-After"]) == (503, "2")
    assert ready.status_code == 503
    for answer in (sent, ready):
        assert "secret" not in answer.text
        assert "PANIC" not in answer.text
        assert "the server's own log says why" in answer.text


async def test_more_than_the_log_can_take_at_once_is_refused(database_url):
    settings = Settings(database_url=database_url, partitions=4)
    with open_system(settings) as system, pytest.raises(RequestProblem) as refused:
        await ports_of(system, settings).append([Outgoing(EVENTS, "default/v/v", b"{}")] * 20_001)
    assert refused.value.status == 413


async def test_a_scan_shows_with_evidence_and_has_cooled_in_four_days(database_url):
    async with gateway(database_url) as http:
        sent = await http.post(
            "/v1/events?wait=10", json={"type": "qr_scanned", "lead_id": "ahmad", "source": "telegram"}
        )
        assert sent.status_code == 200
        assert sent.json()["events"][0]["scores"]["temperature"] == 23
        now = (await http.get("/api/leads/ahmad")).json()
        later = (
            await http.get("/api/leads/ahmad", params={"as_of": (NOW + timedelta(days=4)).isoformat()})
        ).json()
    lines = {line["rule"]: (line["points"], line["text"]) for line in now["scores"]["temperature"]["lines"]}
    assert lines["QR scans"] == (3, "QR scans: 1 x 3 points")
    assert lines["Last interaction"][0] == 20
    assert now["ledger"][0]["event"]["type"] == "qr_scanned"
    assert later["scores"]["temperature"]["total"] == 3


async def test_web_session_scoring_golden_values(database_url):
    """480 s, 4 pages, 3 clicks and an important one."""

    def act(type_, seconds, **fields):
        return {
            "type": type_,
            "event_id": f"{type_}-{seconds}",
            "occurred_at": ago(hours=2, seconds=-seconds),
            "visitor_id": "browser-7",
            "session_id": "visit-1",
            **fields,
        }

    acts = [
        *(act("page_viewed", second, url="https://shop.example/") for second in (0, 100, 200, 300)),
        *(act("element_clicked", second, text="More") for second in (310, 320, 330)),
        act("element_clicked", 340, text=" get a DEMO "),
        act("session_ended", 480),
    ]
    async with gateway(database_url) as http:
        sent = await http.post("/v1/events?wait=10", json=[*acts, acts[0]])
        assert sent.status_code == 200
        assert {event["outcome"] for event in sent.json()["events"]} == {"applied", "duplicate"}
        analytics = (await http.get("/api/lead-score/session/visit-1")).json()
        updated = (await http.post("/api/lead-score/session/update", json={"sessionId": "visit-1"})).json()
        user = (await http.post("/api/lead-score/user", json={"userId": "browser-7"})).json()
    assert analytics == {
        "success": True,
        "session_id": "visit-1",
        "analytics": {
            "duration_seconds": 480,
            "page_views_count": 4,
            "regular_clicks": 3,
            "important_clicks": 1,
        },
        "score_breakdown": {
            "duration_score": "35/40",
            "page_score": "20/30",
            "click_score": "11/30",
            "total_score": "66/100",
        },
    }
    assert updated["lead_score"] == 66
    assert user == {"success": True, "user_id": "browser-7", "lead_score": 66}


async def test_what_changes_no_total_is_in_the_breakdown_all_the_same(database_url):
    """Ten messages count; the ledger is silent about the two more, and the lines still say twelve."""
    said = [
        {
            "type": "message_received",
            "event_id": f"m{number}",
            "lead_id": "ahmad",
            "occurred_at": ago(minutes=1),
        }
        for number in range(12)
    ]
    async with gateway(database_url) as http:
        assert (await http.post("/v1/events?wait=10", json=said)).status_code == 200
        score = (await http.get("/api/leads/ahmad")).json()["scores"]["temperature"]
    lines = {(line["rule"], line["kind"]): (line["points"], line["text"]) for line in score["lines"]}
    assert lines["Messages", "points"] == (12, "Messages: 12 x 1 point, capped at 10")
    assert lines["Messages", "rule cap"][0] == -2
    assert sum(points for points, _ in lines.values()) == score["total"] == 30


async def test_an_updated_user_has_the_mean_of_the_visits_that_ended_by_now(database_url):
    """The visit has been idle for two hours, and no timer has said so yet."""
    seen = {"type": "page_viewed", "event_id": "p", "visitor_id": "browser-8", "occurred_at": ago(hours=2)}
    async with gateway(database_url) as http:
        assert (await http.post("/v1/events?wait=10", json=seen)).status_code == 200
        updated = await http.post("/api/lead-score/user/update", json={"userId": "browser-8"})
        calculated = await http.post("/api/lead-score/user", json={"userId": "browser-8"})
    assert (updated.status_code, updated.json()["lead_score"]) == (200, 10)
    assert calculated.json() == updated.json()


async def test_a_crawler_is_taken_and_not_scored(database_url):
    async with gateway(database_url) as http:
        sent = await http.post(
            "/v1/events?wait=10",
            json={
                "type": "page_viewed",
                "visitor_id": "spider",
                "context": {
                    "user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
                },
            },
        )
        leads = (await http.get("/api/leads?include_anonymous=true")).json()["leads"]
    assert sent.json()["events"][0]["outcome"] == "bot"
    assert leads == []

"""The API over read models that were projected from hand-made records, on a real PostgreSQL."""

import asyncio
import re
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from authoring.active_models import built_in_rules
from gateway.access import read_access
from gateway.app import create_app
from gateway.ports import EventKey, Ports, location_of_outcome
from projections.worker import project_records
from schemas.activity import IdentityAttached, IdentityDelta, SessionPut
from schemas.decode import decode_activity, encode_activity, encode_source, encode_statement
from schemas.events import MessageReceived, QrScanned
from schemas.moment import millis
from schemas.record import Record
from schemas.statements import (
    EventApplied,
    LeadScored,
    Line,
    ModelScore,
    ScoreChanged,
    SessionScored,
    StageEntered,
)
from schemas.topics import LEAD_ACTIVITY, LEAD_CHANGES, LEAD_SCORES, SCORE_CHANGED, SESSION_SCORES, lead_key

PAGES = Path(__file__).parents[2] / "dashboard" / "app" / "src"
pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

T0 = datetime(2030, 1, 31, 10, 0, tzinfo=UTC)
NOW = T0 + timedelta(hours=2)
TOPICS = {ScoreChanged: SCORE_CHANGED, LeadScored: LEAD_SCORES, SessionScored: SESSION_SCORES}


def at(minutes):
    return T0 + timedelta(minutes=minutes)


class House:
    """A gateway over a database that records are projected into."""

    def __init__(self, url, access=None):
        self.url = url
        self.positions = Counter()
        self.appended = []
        named = {} if access is None else {"access": access}
        self.ports = Ports(append=self.append, database_url=url, now=lambda: NOW, **named)

    async def append(self, records):
        self.appended.extend(records)

    def write(self, *said):
        records = []
        for each in said:
            topic = TOPICS.get(type(each), LEAD_CHANGES)
            value = encode_statement(each) if hasattr(each, "statement_id") else encode_activity(each)
            topic = topic if hasattr(each, "statement_id") else LEAD_ACTIVITY
            records.append(
                Record(topic, 0, self.positions[topic], lead_key(each.tenant, each.lead_id), value)
            )
            self.positions[topic] += 1
        with psycopg.connect(self.url) as connection:
            project_records(connection, records)

    @asynccontextmanager
    async def visited(self, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        app = create_app(self.ports)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=named) as http,
        ):
            yield http


@pytest.fixture
def house(database_url):
    return House(database_url)


def lead(lead_id, total, *, band="cold", tenant="default", **fields):
    told = {
        "identified": not lead_id.startswith("anon:"),
        "created_at": T0,
        "identities": 1,
        "stage": "new",
        "last_interaction_at": at(25),
        "scores": {
            "temperature": ModelScore(
                version=1, total=total, bands={"temperature": band}, as_of=at(25), next_due=at(85)
            )
        },
    } | fields
    return LeadScored(
        statement_id=f"l:{lead_id}", tenant=tenant, lead_id=lead_id, at=at(25), caused_by="event:x", **told
    )


def changed(lead_id, total, previous, lines, *, minutes, caused_by, band="cold", number=1):
    return ScoreChanged(
        statement_id=f"c:{lead_id}:{minutes}:{number}",
        tenant="default",
        lead_id=lead_id,
        at=at(minutes),
        caused_by=caused_by,
        model="temperature",
        version=1,
        total=total,
        previous=previous,
        change=total - previous,
        bands={"temperature": band},
        lines=[Line(*line) for line in lines],
    )


def attached(lead_id, identity, event=None, sessions=(), tenant="default"):
    return IdentityAttached(
        tenant,
        lead_id,
        millis(T0),
        identity,
        1,
        lead_id,
        b"",
        event=None if event is None else encode_source(event),
        event_id=None if event is None else event.event_id,
        sessions=list(sessions),
    )


def delta(lead_id, identity, event):
    return IdentityDelta(
        "default",
        lead_id,
        millis(at(10)),
        identity,
        1,
        event=encode_source(event),
        event_id=event.event_id,
        lift=b"",
    )


AHMAD = "default/v/chat-1#0"
SCAN = QrScanned(event_id="e1", occurred_at=T0, recorded_at=T0, visitor_id="chat-1", source="telegram")
WORDS = MessageReceived(
    event_id="e2",
    occurred_at=at(10),
    recorded_at=at(10),
    visitor_id="chat-1",
    source="telegram",
    text="2BR <b>please</b>",
)


def ahmad(house):
    """A scan (3 + 20), then a message (+1): 24; then an hour passes (-5): 19."""
    house.write(
        attached("ahmad", AHMAD, SCAN),
        delta("ahmad", AHMAD, WORDS),
        changed(
            "ahmad",
            23,
            0,
            [("engagement", "QR scans", "points", 3), ("recency", "Last interaction", "points", 20)],
            minutes=0,
            caused_by="event:e1",
        ),
        changed("ahmad", 24, 23, [("engagement", "Messages", "points", 1)], minutes=10, caused_by="event:e2"),
        changed(
            "ahmad", 19, 24, [("recency", "Last interaction", "points", -5)], minutes=70, caused_by="due:1"
        ),
        lead(
            "ahmad",
            19,
            counts={"qr_scanned": 3, "catalog_viewed": 2, "message_received": 5, "interaction": 11},
            fields={"name": "Ahmad Rezaei", "phone": "+971501234567"},
        ),
        StageEntered(
            statement_id="s",
            tenant="default",
            lead_id="ahmad",
            at=at(10),
            caused_by="event:e2",
            stage="contacted",
            previous="new",
            reason="a reply",
        ),
    )


# The board


async def test_the_board_shows_the_hottest_first_with_their_counts(house):
    ahmad(house)
    house.write(lead("berta", 85, band="burning"), lead("carl", 55.5, band="hot"))
    async with house.visited() as http:
        said = (await http.get("/api/leads")).json()
    assert [(row["lead_id"], row["lead_score"], row["temperature"]) for row in said["leads"]] == [
        ("berta", 85, "burning"),
        ("carl", 56, "hot"),
        ("ahmad", 19, "cold"),
    ]
    last = said["leads"][2]
    assert {
        name: last[name]
        for name in ("qr_scan_count", "catalog_views", "messages_count", "total_interactions")
    } == {
        "qr_scan_count": 3,
        "catalog_views": 2,
        "messages_count": 5,
        "total_interactions": 10,
    }
    assert (last["name"], last["phone"]) == ("Ahmad Rezaei", "+971501234567")
    assert last["scores"]["temperature"]["total"] == 19
    assert said["models"][0] == "temperature"


async def test_anonymous_visitors_are_left_out_unless_asked_for(house):
    house.write(lead("anon:v1", 40), lead("berta", 30))
    async with house.visited() as http:
        named = (await http.get("/api/leads")).json()["leads"]
        everybody = (await http.get("/api/leads?include_anonymous=true")).json()["leads"]
    assert [row["lead_id"] for row in named] == ["berta"]
    assert [row["lead_id"] for row in everybody] == ["anon:v1", "berta"]


async def test_the_board_shows_anonymous_visitors_while_nobody_is_identified_yet(house):
    async def board(query=""):
        async with house.visited() as http:
            page = (await http.get(f"/api/leads{query}")).json()
        return [row["lead_id"] for row in page["leads"]], page["includes_anonymous"]

    assert await board() == ([], True)
    house.write(lead("anon:v1", 40))
    assert await board() == (["anon:v1"], True)
    assert await board("?include_anonymous=false") == ([], False)
    house.write(lead("berta", 30))
    assert await board() == (["berta"], False)


async def test_the_board_is_narrowed_by_band_stage_and_search(house):
    ahmad(house)
    house.write(lead("berta", 85, band="burning", stage="customer", fields={"email": "b_100%@x.example"}))
    async with house.visited() as http:

        async def found(query):
            return [row["lead_id"] for row in (await http.get(f"/api/leads?{query}")).json()["leads"]]

        assert await found("band=burning") == ["berta"]
        assert await found("band=temperature:cold") == ["ahmad"]
        assert await found("stage=customer") == ["berta"]
        assert await found("q=REZAEI") == ["ahmad"]
        assert await found("q=97150") == ["ahmad"]
        assert await found("q=100%25") == ["berta"]
        assert await found("q=%25") == ["berta"]
        assert await found("q=00971%20(0)50%20123-4567") == ["ahmad"]
        assert await found("q=Berta%20%3CB_100%25@X.example%3E;") == ["berta"]
        assert await found("q=Berta%20%3Cb@x.example%3E") == []
        assert await found("q=%27%20or%201%3D1--") == []


async def test_pages_of_the_board_meet_without_gap_or_overlap(house):
    house.write(*(lead(f"l{number}", number) for number in range(5)))
    seen, offset = [], 0
    async with house.visited() as http:
        while offset is not None:
            said = (await http.get(f"/api/leads?limit=2&offset={offset}")).json()
            seen += [row["lead_id"] for row in said["leads"]]
            offset = said["next_offset"]
        whole = (await http.get("/api/leads?limit=5")).json()
    assert seen == ["l4", "l3", "l2", "l1", "l0"]
    assert whole["next_offset"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("offset=-1", "offset"),
        ("sort=DROP%20TABLE", "sort"),
        ("sort=temprature", "sort"),
        ("band=boiling", "band"),
        ("q=a%00b", "q"),
        (f"q={'a' * 321}", "q"),
    ],
)
async def test_a_wrong_parameter_is_named(house, query, field):
    async with house.visited() as http:
        response = await http.get(f"/api/leads?{query}")
    assert (response.status_code, response.json()["error"]["field"]) == (422, field)


# One lead


async def test_every_point_of_a_lead_has_its_line_and_its_cause(house):
    ahmad(house)
    async with house.visited() as http:
        said = (await http.get("/api/leads/ahmad")).json()
    score = said["scores"]["temperature"]
    assert {(line["group"], line["rule"], line["points"]) for line in score["lines"]} == {
        ("engagement", "Messages", 1),
        ("engagement", "QR scans", 3),
        ("recency", "Last interaction", 15),
    }
    assert sum(line["points"] for line in score["lines"]) == score["total"] == 19
    assert [(entry["change"], entry["total"], entry["caused_by"]) for entry in said["ledger"]] == [
        (-5, 19, "due:1"),
        (1, 24, "event:e2"),
        (23, 23, "event:e1"),
    ]
    assert said["ledger"][0]["event"] is None
    assert said["ledger"][1]["event"]["type"] == "message_received"
    assert said["ledger"][1]["event"]["about"] == "2BR <b>please</b>"
    assert said["profile"] == {"name": "Ahmad Rezaei", "phone": "+971501234567"}
    assert [(each["kind"], each["name"]) for each in said["identities"]] == [("visitor", "chat-1")]
    assert [each["type"] for each in said["engagements"]] == ["message_received", "qr_scanned"]
    assert [each["stage"] for each in said["stages"]] == ["contacted"]


@pytest.mark.parametrize(
    ("minutes", "total", "entries"), [(5, 23, 1), (10, 24, 2), (69.9, 24, 2), (90, 19, 3)]
)
async def test_the_past_is_what_the_history_says(house, minutes, total, entries):
    ahmad(house)
    async with house.visited() as http:
        said = (await http.get("/api/leads/ahmad", params={"as_of": at(minutes).isoformat()})).json()
    score = said["scores"]["temperature"]
    assert (score["total"], said["lead"]["lead_score"], len(said["ledger"])) == (total, total, entries)
    assert sum(line["points"] for line in score["lines"]) == total
    told = [*(each["occurred_at"] for each in said["engagements"]), *(each["at"] for each in said["stages"])]
    assert all(datetime.fromisoformat(each) <= at(minutes) for each in told)


async def test_who_asks_again_is_told_that_nothing_changed_until_something_did(house):
    ahmad(house)
    async with house.visited() as http:
        first = await http.get("/api/leads/ahmad")
        again = await http.get("/api/leads/ahmad", headers={"If-None-Match": first.headers["ETag"]})
        house.write(lead("ahmad", 77))
        later = await http.get("/api/leads/ahmad", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (later.status_code, later.json()["lead"]["lead_score"]) == (200, 77)
    assert later.headers["ETag"] != first.headers["ETag"]


async def test_before_its_first_event_a_lead_had_no_score(house):
    ahmad(house)
    async with house.visited() as http:
        said = (await http.get("/api/leads/ahmad?as_of=2029-01-01T00:00:00Z")).json()
    assert (said["scores"], said["ledger"], said["lead"]["lead_score"]) == ({}, [], 0)


async def test_the_future_is_not_guessed_without_features(house):
    ahmad(house)
    async with house.visited() as http:
        response = await http.get("/api/leads/ahmad?as_of=2031-01-01T00:00:00Z")
    assert (response.status_code, response.json()["error"]["field"]) == (422, "as_of")


async def test_a_lead_that_was_merged_away_says_into_whom(house):
    house.write(lead("old", 0, redirect="new", identities=0))
    async with house.visited() as http:
        said = (await http.get("/api/leads/old")).json()
    assert said["merged_into"] == "new"


@pytest.mark.parametrize("lead_id", ["nobody", "a/b", "%00", "..%2f..%2fetc", "a" * 3000, "%F0%9F%94%A5"])
async def test_an_unknown_lead_is_404(house, lead_id):
    async with house.visited() as http:
        for path in (f"/api/leads/{lead_id}", f"/api/leads/{lead_id}/ledger"):
            response = await http.get(path)
            assert (response.status_code, response.json()["error"]["field"]) == (404, "lead_id")


async def test_a_lead_id_may_hold_a_slash(house):
    house.write(lead("crm/17", 5))
    async with house.visited() as http:
        said = (await http.get("/api/leads/crm%2F17")).json()
    assert said["lead"]["lead_id"] == "crm/17"


async def test_the_ledger_is_read_page_by_page(house):
    ahmad(house)
    totals, cursor = [], None
    async with house.visited() as http:
        for _ in range(3):
            query = {"limit": 1, "model": "temperature"} | ({"cursor": cursor} if cursor else {})
            said = (await http.get("/api/leads/ahmad/ledger", params=query)).json()
            totals += [entry["total"] for entry in said["ledger"]]
            cursor = said["next_cursor"]
        wrong = await http.get("/api/leads/ahmad/ledger?cursor=x")
    assert (totals, cursor) == ([19, 24, 23], None)
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "cursor")


async def test_tenants_never_see_each_other(database_url):
    access = read_access([], ["acme:read:acme-reader", "globex:read:globex-reader"])
    house = House(database_url, access)
    house.write(lead("ada", 50, tenant="acme"))
    async with house.visited(authorization="Bearer globex-reader") as http:
        assert (await http.get("/api/leads")).json()["leads"] == []
        assert (await http.get("/api/leads/ada")).status_code == 404
    async with house.visited(authorization="Bearer acme-reader") as http:
        assert [row["lead_id"] for row in (await http.get("/api/leads")).json()["leads"]] == ["ada"]
        assert (await http.post("/api/lead-score/user/update", json={"userId": "ada"})).status_code == 403
    async with house.visited() as http:
        assert (await http.get("/api/leads")).status_code == 401
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("tokens", "status"),
    [
        (["acme:read:the-token"], 200),
        (["acme:read:the-token", "acme:write:acme-writes"], 200),
        (["acme:read:the-token", "globex:read:globex-reads"], 403),
        (["acme:metrics:the-token", "globex:read:globex-reads"], 200),
        (["acme:read+metrics:the-token", "globex:read:globex-reads"], 200),
        (["acme:metrics:the-token"], 200),
        (["acme:write:the-token"], 403),
    ],
)
async def test_what_is_counted_over_every_tenant_is_shown_to_none_of_several(house, tokens, status):
    house.ports = replace(house.ports, access=read_access([], tokens))
    async with house.visited(authorization="Bearer the-token") as http:
        assert (await http.get("/metrics")).status_code == status


async def test_a_write_key_of_another_tenant_makes_it_several(house):
    access = read_access(["globex:globex-key"], ["acme:read:the-token"])
    house.ports = replace(house.ports, access=access)
    async with house.visited(authorization="Bearer the-token") as http:
        assert (await http.get("/metrics")).status_code == 403


# Web sessions, in the shapes of their requirement


def visit(house, *, seconds=480, pages=4, clicks=3, important=1, lead_id="anon:v1", score=66.0, lines=()):
    put = SessionPut(
        "s-canonical",
        1,
        millis(T0),
        millis(T0) + seconds * 1000,
        closed=True,
        pages=pages,
        clicks=clicks,
        important_clicks=important,
        producer_id="their-own-id",
    )
    house.write(
        attached(lead_id, "default/v/v1#0", sessions=[put]),
        SessionScored(
            statement_id="ss",
            tenant="default",
            lead_id=lead_id,
            at=at(9),
            caused_by="event:x",
            identity="default/v/v1#0",
            session_id="s-canonical",
            producer_id="their-own-id",
            model="web_session",
            version=1,
            score=score,
            lines=[Line(*line) for line in lines],
            ended=True,
            started_at=T0,
            last_at=T0 + timedelta(seconds=seconds),
            pages=pages,
            clicks=clicks,
            important_clicks=important,
        ),
        lead(
            lead_id,
            0,
            scores={"web_session": ModelScore(version=1, total=score, bands={}, as_of=at(9), next_due=None)},
        ),
    )


@pytest.mark.parametrize("session_id", ["their-own-id", "s-canonical"])
async def test_session_analytics_have_the_shape_of_the_requirement(house, session_id):
    visit(house)
    async with house.visited() as http:
        response = await http.get(f"/api/lead-score/session/{session_id}")
    assert response.json() == {
        "success": True,
        "session_id": session_id,
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


@pytest.mark.parametrize(
    ("seconds", "pages", "clicks", "important", "breakdown"),
    [
        (720, 6, 5, 2, ("40/40", "30/30", "20/30", "90/100")),
        (45, 1, 1, 0, ("5/40", "5/30", "2/30", "12/100")),
        (9_000, 60, 90, 20, ("40/40", "30/30", "30/30", "100/100")),
    ],
)
async def test_the_requirements_other_visits(house, seconds, pages, clicks, important, breakdown):
    visit(house, seconds=seconds, pages=pages, clicks=clicks, important=important)
    async with house.visited() as http:
        said = (await http.get("/api/lead-score/session/s-canonical")).json()["score_breakdown"]
    assert tuple(said.values()) == breakdown


async def test_session_and_user_scores_are_calculated(house):
    visit(house)
    async with house.visited() as http:
        session = await http.post("/api/lead-score/session", json={"sessionId": "their-own-id"})
        users = [
            (await http.post("/api/lead-score/user", json={"userId": user})).json()
            for user in ("v1", "anon:v1")
        ]
    assert session.json() == {"success": True, "session_id": "their-own-id", "lead_score": 66}
    assert [user["lead_score"] for user in users] == [66, 66]
    assert house.appended == []


async def test_a_visitor_that_became_known_is_found_by_the_visitors_id(house):
    visit(house, lead_id="berta")
    async with house.visited() as http:
        said = (await http.post("/api/lead-score/user", json={"userId": "v1"})).json()
    assert said == {"success": True, "user_id": "v1", "lead_score": 66}


async def test_an_update_answers_with_what_is_stored_once_the_log_was_folded(house):
    visit(house, score=40.0)

    async def folded(records):
        """What stage 2 would say: the session has ended meanwhile, and here is the answer asked for."""
        await House.append(house, records)
        noted = decode_activity(records[0].value)
        score = ModelScore(version=1, total=66.4, bands={}, as_of=NOW)
        house.write(
            lead("anon:v1", 0, scores={"web_session": score}),
            EventApplied(
                statement_id="u",
                tenant="default",
                lead_id=noted.lead_id,
                at=NOW,
                caused_by=f"event:{noted.event_id}",
                event_id=noted.event_id,
                outcome=noted.outcome,
                scores={},
                key=noted.key,
            ),
        )

    house.ports = replace(house.ports, append=folded)
    async with house.visited() as http:
        session = await http.post("/api/lead-score/session/update", json={"sessionId": "s-canonical"})
        user = await http.post("/api/lead-score/user/update", json={"userId": "v1"})
    assert session.json() == {"success": True, "session_id": "s-canonical", "lead_score": 66}
    assert user.json() == {"success": True, "user_id": "v1", "lead_score": 66}
    assert (session.status_code, user.status_code) == (200, 200)
    assert [(record.topic, record.key) for record in house.appended] == [
        (LEAD_ACTIVITY, "default/l/anon:v1")
    ] * 2
    noted = decode_activity(house.appended[0].value)
    assert (noted.lead_id, noted.recorded_at) == ("anon:v1", millis(NOW))


async def test_an_update_that_is_not_folded_in_time_is_202_with_what_is_stored(house, monkeypatch):
    monkeypatch.setattr("gateway.api.lead_score.UPDATE_SECONDS", 0.2)
    visit(house, score=40.0)
    async with house.visited() as http:
        user = await http.post("/api/lead-score/user/update/", json={"userId": "v1"})
        session = await http.post("/api/lead-score/session/update", json={"sessionId": "s-canonical"})
        looked = [(await http.get(each.json()["location"])).status_code for each in (user, session)]
    assert (user.status_code, user.json()["lead_score"]) == (202, 40)
    assert session.status_code == 202
    assert looked == [200, 200]
    assert len(house.appended) == 2


async def test_a_visitor_whose_lead_does_not_show_yet_is_looked_up_again(house, monkeypatch):
    """The identity is projected before the lead that it has come to."""
    monkeypatch.setattr("gateway.api.lead_score.CLAIM_PAUSE", 0.01)
    house.write(attached("berta", AHMAD, SCAN))
    async with house.visited() as http:
        asked = asyncio.create_task(http.post("/api/lead-score/user", json={"userId": "chat-1"}))
        early = await asked
        monkeypatch.setattr("gateway.api.lead_score.CLAIM_LOOKS", 1_000)
        asked = asyncio.create_task(http.post("/api/lead-score/user", json={"userId": "chat-1"}))
        await asyncio.sleep(0.1)
        house.write(lead("berta", 30))
        late = await asked
    assert (early.status_code, early.json()["success"]) == (503, False)
    assert (late.status_code, late.json()["user_id"]) == (200, "chat-1")


async def test_a_token_that_may_only_write_is_not_told_a_score(database_url):
    house = House(
        database_url, access=read_access((), ["default:write:only-writes", "default:read:only-reads"])
    )
    visit(house)
    writer, reader = ({"Authorization": f"Bearer {token}"} for token in ("only-writes", "only-reads"))
    async with house.visited() as http:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.api.lead_score.UPDATE_SECONDS", 0.05)
            user = await http.post("/api/lead-score/user/update", json={"userId": "v1"}, headers=writer)
        assert user.status_code == 202
        assert user.json() == {"success": True, "user_id": "v1", "location": "/api/leads/anon%3Av1"}
        for token, status in ((writer, 403), (reader, 200)):
            answer = await http.post("/api/lead-score/user", json={"userId": "v1"}, headers=token)
            assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("session", b'{"sessionId": "nobody"}', 404),
        ("session/update", b'{"sessionId": "nobody"}', 404),
        ("user", b'{"userId": "nobody"}', 404),
        ("user/update", b'{"userId": 17}', 404),
        ("session", b"{}", 422),
        ("session", b'{"sessionId": null}', 422),
        ("user", b'{"userId": "a\\u0000b"}', 422),
        ("user", b'{"userId": ["x"]}', 422),
        ("user", b"", 400),
        ("user", b"[" * 5000, 400),
    ],
)
async def test_what_is_not_there_is_said_in_the_requirements_way(house, path, body, status):
    async with house.visited() as http:
        response = await http.post(f"/api/lead-score/{path}", content=body)
    assert response.status_code == status
    assert response.json()["success"] is False
    assert response.json()["error"]
    assert house.appended == []


async def test_an_unknown_session_has_no_analytics(house):
    async with house.visited() as http:
        for session_id in ("nobody", "a/b", "a%00b"):
            response = await http.get(f"/api/lead-score/session/{session_id}")
            assert (response.status_code, response.json()) == (
                404,
                {"success": False, "error": "Session not found"},
            )


async def test_of_models_that_were_retired_everything_says_so_and_nothing_breaks(house):
    everything = await built_in_rules("default")
    kept = everything._replace(
        models={name: model for name, model in everything.models.items() if name == "rules"}
    )

    async def published(_tenant):
        return kept

    visit(house, lead_id="L")
    house.write(lead("L", 0, scores={}))
    house.ports = replace(house.ports, published=published)
    async with house.visited() as http:
        board = (await http.get("/api/leads")).json()
        assert board["models"] == ["rules"]
        assert [(each["lead_score"], each["temperature"]) for each in board["leads"]] == [(0, None)]
        assert (await http.get("/api/leads/L")).json()["scores"] == {}
        for query, reason in (
            ({"band": "hot"}, "no model temperature is active, so nobody is in a band of it"),
            ({"sort": "web_session"}, "no such model; active are rules"),
        ):
            refused = await http.get("/api/leads", params=query)
            assert (refused.status_code, refused.json()["error"]["reason"]) == (422, reason)
        gone = {"success": False, "error": "no model web_session is active"}
        for path, body in (("session", {"sessionId": "s-canonical"}), ("user", {"userId": "L"})):
            for each in (path, f"{path}/update"):
                answer = await http.post(f"/api/lead-score/{each}", json=body)
                assert (answer.status_code, answer.json()) == (404, gone)
        answer = await http.get("/api/lead-score/session/s-canonical")
        assert (answer.status_code, answer.json()) == (404, gone)
    assert house.appended == []


# Events, probes, pages


async def test_an_applied_event_can_be_looked_up(house):
    house.write(
        EventApplied(
            statement_id="a",
            tenant="default",
            lead_id="ahmad",
            at=T0,
            caused_by="event:e1",
            event_id="e1",
            outcome="applied",
            scores={"temperature": 23.0},
        )
    )
    async with house.visited() as http:
        found = await http.get("/api/events/e1")
        missing = await http.get("/api/events/e2")
    assert found.json() == {
        "event_id": "e1",
        "outcome": "applied",
        "lead_id": "ahmad",
        "scores": {"temperature": 23},
    }
    assert (missing.status_code, missing.json()["error"]["field"]) == (404, "event_id")


def applied(key: str, lead_id: str, score: float, *, event_id: str = "7", n: int = 0) -> EventApplied:
    return EventApplied(
        statement_id=f"{lead_id}:{n}",
        tenant="default",
        lead_id=lead_id,
        at=T0 + timedelta(seconds=n),
        caused_by=f"event:{event_id}",
        event_id=event_id,
        outcome="applied",
        scores={"rules": score},
        key=key,
    )


async def test_an_event_id_of_several_visitors_and_leads_is_looked_up_by_whose_it_is(house):
    house.write(
        applied("default/v/chat a", "anon:chat a", 10),
        applied("default/v/chat/b", "ahmad", 35),
        applied("default/l/7", "7", 1),
    )
    async with house.visited() as http:
        unclear = await http.get("/api/events/7")
        chosen = [(await http.get(choice)).json() for choice in unclear.json()["choices"]]
        of_lead = await http.get("/api/events/7", params={"lead_id": "ahmad"})
        of_nobody = await http.get("/api/events/7", params={"visitor_id": "chat"})
        hostile = await http.get("/api/events/7", params={"visitor_id": "\0"})
    assert unclear.status_code == 409
    assert unclear.json() == {
        "error": {
            "field": "event_id",
            "reason": "several visitors or leads have an event with this id: add visitor_id or lead_id",
        },
        "choices": [
            "/api/events/7?lead_id=7",
            "/api/events/7?visitor_id=chat%2Fb",
            "/api/events/7?visitor_id=chat+a",
        ],
    }
    assert [(each["lead_id"], each["scores"]["rules"]) for each in chosen] == [
        ("7", 1),
        ("ahmad", 35),
        ("anon:chat a", 10),
    ]
    assert of_lead.json() == chosen[1]
    assert (of_nobody.status_code, hostile.status_code) == (404, 422)


async def test_events_of_one_lead_with_the_same_id_in_two_chats_are_two(house):
    house.write(applied("default/v/a", "ahmad", 10), applied("default/v/b", "ahmad", 20, n=1))
    async with house.visited() as http:
        of_lead = await http.get("/api/events/7?lead_id=ahmad")
        of_chat = await http.get("/api/events/7?visitor_id=a")
    assert of_lead.json()["choices"] == ["/api/events/7?visitor_id=a", "/api/events/7?visitor_id=b"]
    assert of_chat.json()["scores"] == {"rules": 10}


async def test_every_event_id_can_be_looked_up_by_its_location(house):
    """Event ids are any visible ASCII characters."""
    key = EventKey("default", "default/v/a", "/a?b#c%2F&")
    house.write(applied(key.key, "ahmad", 1, event_id=key.event_id))
    async with house.visited() as http:
        found = await http.get(location_of_outcome(key))
    assert found.json()["event_id"] == key.event_id


async def test_health_and_readiness_with_the_database(house):
    async with house.visited() as http:
        health, ready, metrics = [await http.get(path) for path in ("/health", "/ready", "/metrics")]
    assert health.json() == {
        "status": "healthy",
        "database": "connected",
        "timestamp": "2030-01-31T12:00:00Z",
    }
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reason": None, "backlog": 0})
    assert "leadstream_ready 1.0" in metrics.text
    assert "leadstream_analytics_lag_seconds" in metrics.text
    assert "leadstream_analytics_failed_leads_total" in metrics.text


async def test_without_the_database_it_lives_takes_events_and_says_so(tmp_path):
    appended = []

    async def append(records):
        appended.extend(records)

    nowhere = f"postgresql://nobody@/nothing?host={tmp_path}"
    app = create_app(Ports(append=append, database_url=nowhere, now=lambda: NOW))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
    ):
        sent = await http.post("/v1/events?wait=0.3", json={"type": "qr_scanned", "lead_id": "ahmad"})
        health, ready, board = [await http.get(path) for path in ("/health", "/ready", "/api/leads")]
    assert (sent.status_code, len(appended)) == (202, 1)
    assert (health.status_code, health.json()["database"]) == (200, "disconnected")
    assert (ready.status_code, ready.json()["reason"]) == (503, "the database does not answer")
    assert (board.status_code, board.headers["Retry-After"]) == (503, "2")


async def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(house):
    async with house.visited() as http:
        page = await http.get("/")
        docs = await http.get("/docs")
        parts = {
            name: await http.get(f"/static/{name}")
            for name in ("plain.css", "docs.css", "docs.js", "icon.svg")
        }
        hidden = await http.get("/static/..%2fpages.py")
    for html in (page, docs):
        assert html.headers["Content-Type"].startswith("text/html")
        assert "script-src 'self'" in html.headers["Content-Security-Policy"]
        assert "unsafe" not in html.headers["Content-Security-Policy"]
        assert "//" not in html.text.replace("<!doctype", "")
    assert {part.status_code for part in parts.values()} == {200}
    assert "http" not in parts["plain.css"].text
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted(PAGES.rglob("*.ts*")))
    assert [each for each in ("innerHTML", "dangerouslySet", "http://", "eval(") if each in sources] == []
    assert hidden.status_code == 404


@pytest.mark.parametrize(
    ("kind", "typed", "linked"),
    [
        ("phone", "+971501234567", True),
        ("phone", "+97150*21*1234#", False),
        ("phone", "+971501234567;ext=1", False),
        ("phone", "call me", False),
        ("email", "ada.obi+crm@example.com", True),
        ("email", "ada@example.com?bcc=me@example.org", False),
        ("email", "ada@example.com&body=x", False),
        ("email", "a%0a@example.com", False),
        ("email", "ada@example.com,bob@example.com", False),
        ("email", "javascript:alert(1)", False),
    ],
)
async def test_only_a_whole_address_becomes_a_link_on_the_board(kind, typed, linked):
    script = (PAGES / "leads" / "lead.ts").read_text(encoding="utf-8")
    [form] = re.findall(rf"{kind}: {{ form: /\^(.*)\$/, scheme: ", script)
    assert (re.fullmatch(form, typed) is not None) == linked
    assert script.count("way.scheme + value") == 1


async def test_the_api_describes_itself_with_examples(house):
    async with house.visited() as http:
        openapi = (await http.get("/openapi.json")).json()
    assert {"/v1/events", "/api/leads", "/api/lead-score/session", "/health", "/ready", "/metrics"} <= set(
        openapi["paths"]
    )
    sent = openapi["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert sent["simplest"]["value"]["type"] == "page_viewed"


async def test_every_answer_to_a_wrong_path_or_method_has_the_one_shape(house):
    async with house.visited() as http:
        missing = await http.get("/nothing")
        wrong = await http.delete("/api/leads")
        slash = await http.post("/v1/events/", json={})
    assert (missing.status_code, missing.json()["error"]["reason"]) == (
        404,
        "nothing is here: /docs lists every address",
    )
    assert (wrong.status_code, wrong.json()["error"]["reason"]) == (405, "only GET here: see /docs")
    assert slash.status_code == 404

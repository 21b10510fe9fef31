"""A bot's updates in by its webhook, an agent's leads out: the whole system, and a Telegram of our own."""

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_open
from tests.gateway.fake_telegram import SECRET, TOKEN, VOICE, fake_telegram

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

FILE_ID = "AwADBAADbXXXXXXXXXXXGBdhD2l6_XX"
READER = {"Authorization": "Bearer reader-of-one"}
STRANGER = {"Authorization": "Bearer reader-of-two"}
AHMAD = {"id": 1111111, "is_bot": False, "first_name": "Ahmad", "last_name": "Rezaei"}
CHAT = {"id": 1111111, "type": "private"}


@asynccontextmanager
async def gateway(database_url, **more):
    settings = Settings(
        database_url=database_url,
        partitions=4,
        api_tokens="1:read:reader-of-one,2:read:reader-of-two,1:write:writer-of-one",
        telegram_bots=f"1:realty:{SECRET}:{TOKEN}",
        **more,
    )
    with open_system(settings) as system:
        async with ports_open(system, settings) as ports:
            app = create_app(ports)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
            ):
                yield http


class Talk:
    """One person's talk with the bot."""

    def __init__(self, http, person=AHMAD):
        self.http = http
        self.person = person
        self.number = 10_000

    async def update(self, **content):
        self.number += 1
        body = {"update_id": self.number, **content}
        answer = await self.http.post(
            "/v1/telegram/realty", json=body, headers={"X-Telegram-Bot-Api-Secret-Token": SECRET}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def sends(self, minutes_ago, **content):
        chat = {**CHAT, "id": self.person["id"]}
        at = int(time.time()) - 60 * minutes_ago
        message = {"message_id": self.number, "date": at, "chat": chat, "from": self.person, **content}
        return await self.update(message=message)

    async def presses(self, data):
        return await self.update(
            callback_query={"id": "4382", "from": self.person, "message": {"chat": CHAT}, "data": data}
        )


async def lead_at(http, score):
    """The first lead, as soon as it has this score."""
    leads = []
    for _ in range(200):
        leads = (await http.get("/api/tenants/1/leads", headers=READER)).json()
        if leads and leads[0]["lead_score"] == score:
            return leads[0]
        await asyncio.sleep(0.05)
    raise AssertionError(f"no lead with {score}: {leads}")


async def test_the_talk_of_the_expo_visitor(database_url):
    """3 + 20 for the scan, then 2, 1, 10, 10, 15, and 5 + 1 for the voice message."""
    async with gateway(database_url) as http:
        talk = Talk(http)
        await talk.sends(25, text="/start qr_stand-7")
        lead = await lead_at(http, 23)
        assert (lead["temperature"], lead["name"], lead["phone"]) == ("cold", "Ahmad Rezaei", None)
        await talk.presses("catalog:towers")
        assert (await lead_at(http, 25))["temperature"] == "warm"
        await talk.sends(15, text="I'm interested in 2BR")
        await lead_at(http, 26)
        await talk.sends(
            15, contact={"phone_number": "971501234567", "first_name": "Ahmad", "user_id": AHMAD["id"]}
        )
        assert (await lead_at(http, 36))["phone"] == "+971501234567"
        await talk.presses("budget_max:2000000")
        assert (await lead_at(http, 46))["temperature"] == "warm"
        for data in ("property_type:Living", "location:Dubai Marina", "transaction_type:Buy"):
            await talk.presses(data)
        assert (await lead_at(http, 61))["temperature"] == "hot"
        await talk.sends(0, voice={"file_id": FILE_ID, "duration": 12, "mime_type": "audio/ogg"})
        lead = await lead_at(http, 67)
        again = await http.get("/api/tenants/1/leads/", headers=READER)
    assert again.json() == [lead]
    assert "Link" not in again.headers
    created, last = lead.pop("created_at"), lead.pop("last_interaction_at")
    assert created < last
    assert lead.pop("id").startswith("c-")
    flags = [(flag["colour"], flag["name"]) for flag in lead.pop("flags")]
    assert flags == [
        ("red", "phone_without_follow_up"),
        ("red", "voice_without_response"),
        ("green", "ready_to_close"),
    ]
    assert lead == {
        "name": "Ahmad Rezaei",
        "phone": "+971501234567",
        "email": None,
        "budget": None,
        "budget_min": None,
        "budget_max": 2_000_000,
        "transaction_type": "Buy",
        "property_type": "Living",
        "bedrooms": None,
        "location": "Dubai Marina",
        "payment_method": None,
        "lead_score": 67,
        "temperature": "hot",
        "qr_scan_count": 1,
        "catalog_views": 1,
        "messages_count": 2,
        "total_interactions": 4,
        "voice_transcript": None,
        "voice_seconds": 12,
        "voice_url": f"/v1/telegram/realty/files/{FILE_ID}",
        "stage": "new",
        "qualification_override": None,
    }


async def test_an_update_that_comes_twice_counts_once(database_url):
    async with gateway(database_url) as http:
        talk = Talk(http)
        await talk.sends(1, text="Hello")
        talk.number -= 1
        await talk.sends(1, text="Hello")
        await talk.sends(0, text="Anybody there?")
        assert (await lead_at(http, 22))["messages_count"] == 2


async def test_pages_filters_and_other_tenants(database_url):
    async with gateway(database_url, public_url="https://leads.example") as http:
        for number, messages in enumerate((1, 3, 3, 6), 1):
            talk = Talk(http, {"id": number, "first_name": f"Person {number}"})
            await talk.sends(5 - number, text="/start")
            for _ in range(messages):
                await talk.sends(5 - number, text="Hello")
            await asyncio.sleep(0.01)
        await lead_at(http, 26)
        leads = []
        while sorted(lead["lead_score"] for lead in leads) != [21, 23, 23, 26]:
            leads = (await http.get("/api/tenants/1/leads", headers=READER)).json()
        assert [lead["name"] for lead in leads] == ["Person 4", "Person 3", "Person 2", "Person 1"]
        page = await http.get("/api/tenants/1/leads?limit=2&q=Person", headers=READER)
        link = page.headers["Link"]
        address = re.fullmatch(
            r'<https://leads\.example(/api/tenants/1/leads\?limit=2&q=Person&after=[-_0-9]+)>; rel="next"',
            link,
        )
        second = await http.get(address[1], headers=READER)
        assert page.json() + second.json() == leads
        counted = await http.get("/api/tenants/1/leads?limit=2&q=Person&offset=2", headers=READER)
        assert counted.json() == second.json()
        assert "Link" not in second.headers
        warm = await http.get("/api/tenants/1/leads?temperature=warm", headers=READER)
        assert [lead["name"] for lead in warm.json()] == ["Person 4"]
        best = await http.get("/api/tenants/1/leads?min_score=23&stage=new", headers=READER)
        assert [lead["lead_score"] for lead in best.json()] == [26, 23, 23]
        known = await http.get("/api/tenants/1/leads?include_anonymous=false", headers=READER)
        assert known.json() == []
        for path in ("/api/tenants/1/leads", f"/v1/telegram/realty/files/{FILE_ID}"):
            assert (await http.get(path, headers=STRANGER)).status_code == 404
            assert (await http.get(path)).status_code == 401
            writer = {"Authorization": "Bearer writer-of-one"}
            assert (await http.get(path, headers=writer)).status_code == 403
        assert (await http.get("/api/tenants/2/leads", headers=STRANGER)).json() == []
        wrong = await http.get("/api/tenants/1/leads?temperature=tepid", headers=READER)
        assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "temperature")


async def test_only_the_secret_lets_updates_in(database_url):
    async with gateway(database_url) as http:
        body = {"update_id": 1, "message": {"text": "Hello", "chat": CHAT, "from": AHMAD}}
        url = "/v1/telegram/realty"
        secret = {"X-Telegram-Bot-Api-Secret-Token": SECRET}
        assert (await http.post(url, json=body)).status_code == 401
        wrong = await http.post(url, json=body, headers={"X-Telegram-Bot-Api-Secret-Token": SECRET + "x"})
        assert wrong.status_code == 401
        assert SECRET not in wrong.text
        assert (await http.post("/v1/telegram/other", json=body, headers=secret)).status_code == 404
        broken = await http.post(url, content=b'{"update_id": 1', headers=secret)
        assert (broken.status_code, broken.json()["error"]["field"]) == (400, "body")
        deep = await http.post(url, content=b"[" * 100_000, headers=secret)
        assert deep.status_code == 400
        large = await http.post(url, content=json.dumps({"x": "x" * 300_000}).encode(), headers=secret)
        assert large.status_code == 413
        skipped = await http.post(url, json={"update_id": 1, "poll": {}}, headers=secret)
        assert (skipped.status_code, skipped.json()) == (200, {"events": [], "skipped": "other_kind"})
        half = b'{"update_id": 9, "message": {"text": "\\ud83d", "chat": {"id": 7}, "from": {"id": 7}}}'
        taken = await http.post(url, content=half, headers=secret)
        assert taken.json() == {"events": ["telegram-9"], "skipped": None}
        metrics = await http.get("/metrics", headers=READER)
    assert metrics.status_code in {200, 403}


async def test_the_press_of_a_button_is_answered(database_url):
    async with gateway(database_url) as http:
        answer = await Talk(http).presses("more")
    assert answer["method"] == "answerCallbackQuery"
    assert answer["callback_query_id"] == "4382"


async def test_a_recording_comes_without_the_bots_token(database_url):
    with fake_telegram() as telegram, capture_logs() as logs:
        async with gateway(database_url, telegram_api=telegram.address) as http:
            voice = await http.get(f"/v1/telegram/realty/files/{FILE_ID}", headers=READER)
            page = await http.get("/v1/telegram/realty/files/page", headers=READER)
            missing = await http.get("/v1/telegram/realty/files/unknown", headers=READER)
            telegram.errors = [{"ok": False, "error_code": 401, "description": "Unauthorized"}]
            refused = await http.get(f"/v1/telegram/realty/files/{FILE_ID}", headers=READER)
    assert (voice.status_code, voice.content) == (200, VOICE)
    assert voice.headers["Content-Type"] == "audio/ogg"
    assert page.headers["Content-Type"] == "application/octet-stream"
    assert page.headers["Content-Disposition"] == "attachment"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert (missing.status_code, missing.json()["error"]["field"]) == (404, "file_id")
    assert refused.status_code == 502
    for answer in (voice, page, missing, refused):
        assert TOKEN not in answer.text + str(answer.headers)
    assert TOKEN not in str(logs)

"""A bot asks the questions of the flow: the whole system, and a Telegram of our own that keeps to the published contract."""

import asyncio
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.app import create_app
from gateway.door.telegram_bots import read_bots, with_replies
from gateway.door.telegram_flow import message_of, reply_of, turn_events, turn_of
from leadstream.settings import SettingError, Settings, read_settings
from leadstream.wiring import open_system, ports_open
from scoring.chat.conversation import ChatEvent, Conversation
from scoring.chat.replies import language_of, next_reply, reply_to_offer
from scoring.models.model import built_in_models, compile_model
from tests.gateway.fake_telegram import SECRET, TOKEN, fake_telegram

ADA = {"id": 77, "is_bot": False, "first_name": "Ada", "language_code": "en"}
BOT = f"default:realty:{SECRET}:{TOKEN}"
FLOW = compile_model(built_in_models()["chatbot"]).flow
BILINGUAL = compile_model(
    """
model = "chatbot"
[groups.g]
rules = [{ name = "Answers", each = "answer", points = 1 }]
[signals]
answer = { event = "question_answered", source = "chatbot" }
[flow]
languages = ["en", "pt-BR", "hi"]
thanks = { en = "Thanks!", pt-BR = "Obrigado!", hi = "धन्यवाद!" }
[flow.greeting]
id = 0
text = { en = "Hello!", pt-BR = "Olá!", hi = "नमस्ते!" }
[[flow.questions]]
id = 1
text = { en = "Which day?", pt-BR = "Que dia?", hi = "कौन सा दिन?" }
options = { en = ["Today", "Tomorrow"], pt-BR = ["Hoje", "Amanhã"], hi = ["आज", "कल"] }
[flow.contact]
id = 2
text = { en = "Your phone?", pt-BR = "Seu telefone?", hi = "आपका फ़ोन?" }
"""
).flow


KEYS = [
    "update_id",
    "message",
    "callback_query",
    "from",
    "id",
    "text",
    "date",
    "contact",
    "user_id",
    "phone_number",
    "data",
    "reply_markup",
]


# What the chat writes next


def having(*types):
    return Conversation(tuple(ChatEvent(str(n), kind, about) for n, (kind, about) in enumerate(types)))


def test_the_next_reply_follows_from_what_is_recorded():
    opened = having(("session_started", None))
    first = next_reply(FLOW, opened, opened.answered(), "en", greets=True)
    assert first.text == "Hi! Welcome to YouShop!\n\nWhat type of business do you run?"
    assert first.question.id == 1
    some = having(("session_started", None), ("question_answered", "2"), ("question_answered", "1"))
    assert next_reply(FLOW, some, some.answered(), "en").question.id == 3
    answers = [("question_answered", str(number)) for number in range(1, 6)]
    complete = having(*answers, ("questions_completed", None))
    assert next_reply(FLOW, complete, complete.answered(), "en").asks_contact
    for kind in ("contact_shared", "profile_updated"):
        done = having(*answers, ("questions_completed", None), (kind, None))
        reply = next_reply(FLOW, done, done.answered(), "en")
        assert (reply.text, reply.offers) == (FLOW.thanks["en"], (*FLOW.products, *FLOW.ctas))
    before = having(("profile_updated", None), *answers, ("questions_completed", None))
    assert next_reply(FLOW, before, before.answered(), "en").asks_contact


def test_a_product_is_explained_and_a_call_to_action_is_thanked_for():
    product = reply_to_offer(FLOW, FLOW.products[0], "en")
    assert (product.text, product.offers) == ("Bills and taxes in one place.", FLOW.ctas)
    assert reply_to_offer(FLOW, FLOW.ctas[0], "en") == (FLOW.thanks["en"], None, False, ())


@pytest.mark.parametrize(
    ("code", "language"),
    [("hi", "hi"), ("pt-br", "pt-BR"), ("pt", "pt-BR"), ("pt_PT", "pt-BR"), ("de", "en"), (None, "en"), ("", "en")],
)  # fmt: skip
def test_the_language_is_the_nearest_of_the_flow(code, language):
    assert language_of(BILINGUAL, code) == language


def test_buttons_keep_to_the_limits_of_the_bot_api():
    flow = FLOW._replace(products=(FLOW.products[0]._replace(id="p" * 64),), ctas=())
    complete = having(
        *[("question_answered", str(number)) for number in range(1, 6)], ("contact_shared", None)
    )
    message = message_of(next_reply(flow, complete, complete.answered(), "en"), flow, 7, "en")
    ((button,),) = message["reply_markup"]["inline_keyboard"]
    assert len(button["callback_data"]) == 64


@pytest.mark.parametrize(
    "content",
    [
        {"edited_message": {"from": ADA, "text": "Retail", "date": 1}},
        {"message": {"from": ADA, "text": "Retail", "date": 1, "forward_date": 1}},
        {"message": {"from": ADA, "text": "/help", "date": 1}},
        {"message": {"from": ADA, "voice": {"file_id": "x"}, "date": 1}},
        {"message": {"from": ADA, "contact": {"user_id": 5, "phone_number": "1"}, "date": 1}},
        {"callback_query": {"from": ADA, "data": "catalog:towers"}},
        {"message": {"text": "Retail"}},
        {"message": "strange"},
    ],
)
def test_what_is_no_turn_of_the_flow(content):
    assert turn_of({"update_id": 1, **content}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(
    json_values, json_values, st.sampled_from(["flow:q:1:0", "flow:q:5:9", "flow:p:billing", "flow:c:x", "x"])
)
def test_no_update_breaks_a_turn(strange, part, data):
    for update in (
        strange,
        {"update_id": 1, "message": {"from": ADA, "text": part, "contact": part, "date": part}},
        {"update_id": 1, "callback_query": {"from": ADA, "data": data, "message": part, "id": part}},
    ):
        turn = turn_of(update)
        for before in (having(), having(("session_started", None), ("question_answered", "5"))):
            if turn is not None:
                done = turn_events(turn, FLOW, before, {"5": "Billing"}, 1.0)
                assert len({each["event_id"] for each in done.events}) == len(done.events)
                reply_of(turn, FLOW, before, before, done, "en")


def test_only_bots_of_the_settings_reply():
    assert read_settings(telegram_bots=BOT, telegram_replies="realty").bots["realty"].replies
    assert not read_settings(telegram_bots=BOT).bots["realty"].replies
    with pytest.raises(
        SettingError, match=r"LEADSTREAM_TELEGRAM_REPLIES: .* no bot 'other': it lists realty"
    ):
        read_settings(telegram_bots=BOT, telegram_replies="realty,other")
    with pytest.raises(ValueError, match="it is not set"):
        with_replies(read_bots([]), ["realty"])


# The whole system


@asynccontextmanager
async def gateways(database_url, telegram, number=1):
    """So many gateways on one store."""
    settings = Settings(
        database_url=database_url,
        partitions=2,
        telegram_bots=BOT,
        telegram_replies="realty",
        telegram_api=telegram.address,
    )
    with open_system(settings) as system:
        async with ports_open(system, settings) as ports:
            apps = [create_app(ports) for _ in range(number)]
            async with _all(*(app.router.lifespan_context(app) for app in apps)):
                clients = [
                    httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
                    for app in apps
                ]
                for client, app in zip(clients, apps, strict=True):
                    client.replies = app.state.telegram_replies
                async with _all(*clients):
                    yield clients


@asynccontextmanager
async def _all(*contexts):
    if not contexts:
        yield
        return
    async with contexts[0], _all(*contexts[1:]):
        yield


class Talk:
    def __init__(self, http, telegram, person=ADA, update_id=500):
        self.http, self.telegram, self.person, self.update_id = http, telegram, person, update_id

    async def post(self, http=None, update_id=None, **content):
        if update_id is None:
            self.update_id += 1
        body = {"update_id": update_id or self.update_id, **content}
        answer = await (http or self.http).post(
            "/v1/telegram/realty", json=body, headers={"X-Telegram-Bot-Api-Secret-Token": SECRET}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def message(self, seconds_ago=0, **content):
        chat = {"id": self.person["id"], "type": "private"}
        at = int(time.time()) - seconds_ago
        return {"message_id": 1, "date": at, "chat": chat, "from": self.person, **content}

    async def sends(self, **content):
        return await self.post(message=self.message(**content))

    async def presses(self, data, markup=None, **more):
        shown = self.message() | ({"reply_markup": markup} if markup else {})
        query = {"id": f"q{self.update_id}", "from": self.person, "message": shown, "data": data}
        return await self.post(callback_query=query, **more)

    async def reply(self, number):
        """The message of this number that the person has got."""
        until = time.monotonic() + 20
        while len(self.telegram.sent) < number:
            assert time.monotonic() < until, self.telegram.sent
            await asyncio.sleep(0.01)
        return self.telegram.sent[number - 1]

    async def no_reply_beyond(self, number, *others):
        for http in (self.http, *others):
            await http.replies.settled()
        assert [each["text"] for each in self.telegram.sent[number:]] == []


def labels(message):
    return [each["text"] for row in message["reply_markup"]["inline_keyboard"] for each in row]


def data_of(message, label):
    (data,) = [
        each["callback_data"]
        for row in message["reply_markup"]["inline_keyboard"]
        for each in row
        if each["text"] == label
    ]
    return data


def answered_presses(telegram):
    return [call["callback_query_id"] for method, call in telegram.calls if method == "answerCallbackQuery"]


@pytest.mark.postgres
@pytest.mark.anyio
async def test_a_bot_asks_the_flow_and_the_score_follows(database_url):
    """Opened 5, greeting 5, five answers 25, all of them 10, contact 10, product 5, demo 15; each answer came within two
    minutes 25; detailed are "Service Business" and "Billing, Reports" 10: 110.
    """
    with fake_telegram() as telegram:
        async with gateways(database_url, telegram) as (http,):
            talk = Talk(http, telegram)
            await talk.sends(text="/start")
            first = await talk.reply(1)
            assert first["text"] == "Hi! Welcome to YouShop!\n\nWhat type of business do you run?"
            assert labels(first)[2] == "Service Business"
            answer = await talk.presses(data_of(first, "Service Business"), first["reply_markup"])
            assert "method" not in answer
            second = await talk.reply(2)
            assert (second["text"], "reply_markup" in second) == ("Where is your business?", False)
            await talk.sends(text="Mumbai")
            third = await talk.reply(3)
            await talk.presses(data_of(third, "2–5"), third["reply_markup"])
            fourth = await talk.reply(4)
            await talk.sends(text="₹50K–₹2L")
            fifth = await talk.reply(5)
            assert fifth["text"] == "Which features interest you?"
            await talk.presses(data_of(fifth, "Billing"), fifth["reply_markup"])
            contact = await talk.reply(6)
            ((button,),) = contact["reply_markup"]["keyboard"]
            assert button == {"text": "Share my phone number", "request_contact": True}
            await talk.presses(data_of(fifth, "Reports"), fifth["reply_markup"])
            await talk.no_reply_beyond(6)
            await talk.sends(
                contact={"phone_number": "971501234567", "first_name": "Ada", "user_id": ADA["id"]}
            )
            thanks = await talk.reply(7)
            assert thanks["text"] == "Thank you! We have what we need and will call you soon."
            assert labels(thanks) == [
                *("Billing", "QR Payments", "Inventory", "Online Store"),
                *("Book a free demo", "Talk to our team", "Start a free trial"),
            ]
            await talk.presses(data_of(thanks, "QR Payments"))
            about = await talk.reply(8)
            assert about["text"] == "Customers scan and pay."
            await talk.presses(data_of(about, "Book a free demo"))
            assert (await talk.reply(9))["text"] == thanks["text"]
            await talk.sends(text="When do you call?")
            await talk.no_reply_beyond(9)
            await talk.presses(data_of(fourth, "Above ₹10L"), fourth["reply_markup"])
            score, until = {}, time.monotonic() + 20
            while (
                score.get("lead_score") != 110 or len(answered_presses(telegram)) < 7
            ) and time.monotonic() < until:
                score = (await http.get("/api/score/telegram-realty-77")).json()
            summary = (await http.get("/api/lead/summary/telegram-realty-77")).json()
    assert score["lead_score"] == 110
    lead = summary["lead_data"]
    assert (lead["phone"], lead["business_type"], lead["location"], lead["staff_size"]) == (
        "+971501234567",
        "Service Business",
        "Mumbai",
        "2–5",
    )
    assert (lead["features_interested"], lead["monthly_sales"]) == ("Billing, Reports", "Above ₹10L")
    pressed = answered_presses(telegram)
    assert len(pressed) == len(set(pressed)) == 7


@pytest.mark.postgres
@pytest.mark.anyio
async def test_an_update_that_comes_twice_gets_one_reply_from_all_gateways(database_url):
    with fake_telegram() as telegram:
        async with gateways(database_url, telegram, 2) as (one, other):
            talk = Talk(one, telegram)
            start = talk.message(text="/start")
            await asyncio.gather(talk.post(one, 501, message=start), talk.post(other, 501, message=start))
            await talk.no_reply_beyond(1, other)
            assert len(telegram.sent) == 1
            answer = talk.message(text="Retail")
            await talk.post(one, 502, message=answer)
            assert (await talk.reply(2))["text"] == "Where is your business?"
            for http in (one, other):
                await talk.post(http, 502, message=answer)
            await talk.no_reply_beyond(2, other)
            await talk.post(other, 503, message=talk.message(text="Mumbai"))
            assert (await talk.reply(3))["text"] == "How many people work there?"
            summary = (await one.get("/api/lead/summary/telegram-realty-77")).json()
    assert (summary["lead_data"]["business_type"], summary["lead_data"]["location"]) == ("Retail", "Mumbai")


@pytest.mark.postgres
@pytest.mark.anyio
async def test_a_talk_goes_on_after_a_restart(database_url):
    with fake_telegram() as telegram:
        async with gateways(database_url, telegram) as (http,):
            talk = Talk(http, telegram)
            await talk.sends(text="/start qr_stand-7")
            await talk.reply(1)
            await talk.sends(text="Retail")
            await talk.reply(2)
        async with gateways(database_url, telegram) as (http,):
            talk = Talk(http, telegram, update_id=900)
            await talk.sends(text="/start")
            again = await talk.reply(3)
            assert again["text"] == "Hi! Welcome to YouShop!\n\nWhere is your business?"
            await talk.sends(text="Mumbai")
            assert (await talk.reply(4))["text"] == "How many people work there?"


@pytest.mark.postgres
@pytest.mark.anyio
async def test_nobody_answers_backlog_groups_edits_and_old_buttons(database_url):
    with capture_logs() as logs, fake_telegram() as telegram:
        async with gateways(database_url, telegram) as (http,):
            talk = Talk(http, telegram)
            await talk.sends(text="/start")
            await talk.reply(1)
            await talk.sends(text="Hello?", seconds_ago=600)
            await talk.post(edited_message=talk.message(text="Retail"))
            await talk.post(message=talk.message(text="Retail") | {"chat": {"id": -5, "type": "group"}})
            await talk.post(
                message=talk.message(text="Retail") | {"from": {"id": 9, "is_bot": True, "first_name": "B"}}
            )
            telegram.old_queries.add(f"q{talk.update_id}")
            await talk.presses("flow:q:1:0")
            await talk.no_reply_beyond(1)
            await talk.sends(text="Mumbai")
            assert (await talk.reply(2))["text"] == "How many people work there?"
            lead = (await http.get("/api/lead/summary/telegram-realty-77")).json()["lead_data"]
            leads = (await http.get("/api/tenants/default/leads")).json()
    assert (lead["business_type"], lead["location"]) == ("Restaurant", "Mumbai")
    assert not [each for each in logs if each["log_level"] == "warning"]
    assert leads[0]["messages_count"] == 2


@pytest.mark.postgres
@pytest.mark.anyio
async def test_an_update_is_recorded_whatever_is_wrong_with_the_talk(database_url, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.api.telegram_replies.turn_events", broken)
    with capture_logs() as logs, fake_telegram() as telegram:
        async with gateways(database_url, telegram) as (http,):
            answer = await Talk(http, telegram).sends(text="Hello")
    assert answer == {"events": ["telegram-501"], "skipped": None}
    assert [each["event"] for each in logs if each["log_level"] == "error"] == [
        "a turn of a talk cannot be read"
    ]


@pytest.mark.postgres
@pytest.mark.anyio
async def test_whatever_telegram_answers_the_update_is_recorded(database_url):
    flood = {
        "ok": False,
        "error_code": 429,
        "description": "Too Many Requests: retry after 1",
        "parameters": {"retry_after": 1},
    }
    long = flood | {"parameters": {"retry_after": 3600}}
    with capture_logs() as logs, fake_telegram() as telegram:
        async with gateways(database_url, telegram) as (http,):
            talk = Talk(http, telegram)
            telegram.errors = [flood]
            await talk.sends(text="/start")
            await talk.reply(1)
            telegram.errors = [long]
            await talk.sends(text="Retail")
            await talk.no_reply_beyond(1)
            telegram.blocked_by.add(ADA["id"])
            await talk.sends(text="Mumbai")
            await talk.no_reply_beyond(1)
            telegram.blocked_by.clear()
            telegram.errors = [{"ok": False, "error_code": 502, "description": f"Bad Gateway {TOKEN}"}]
            await talk.sends(text="2–5")
            await talk.no_reply_beyond(1)
            await talk.sends(text="₹2L–₹10L")
            assert (await talk.reply(2))["text"] == "Which features interest you?"
            lead = (await http.get("/api/lead/summary/telegram-realty-77")).json()["lead_data"]
    assert (lead["business_type"], lead["location"], lead["staff_size"]) == ("Retail", "Mumbai", "2–5")
    warned = [each for each in logs if each["log_level"] == "warning"]
    assert [each["event"] for each in warned] == ["Telegram refuses a reply"] * 2
    assert TOKEN not in str(logs)
    assert "Mumbai" not in str(logs)

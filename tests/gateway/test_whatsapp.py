"""Messages of a WhatsApp number, in the shapes that Meta documents."""

import asyncio
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import create_app
from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from gateway.door.whatsapp_messages import events_of
from gateway.door.whatsapp_numbers import read_numbers
from gateway.ports import Ports
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_open
from schemas.decode import read_event
from schemas.envelope import tag_of

NOW = datetime(2030, 1, 31, 10, 30, tzinfo=UTC)
APP_SECRET = "0123456789abcdef0123456789abcdef"
NUMBER = f"default:sales:verify-me:{APP_SECRET}"


def notification(*messages, **value):
    content = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "16505553333", "phone_number_id": "27681414235104944"},
        "contacts": [{"profile": {"name": "Kerry Fisher"}, "wa_id": "16315551234"}],
        "messages": [
            {"from": "16315551234", "id": f"wamid.{number}", "timestamp": "1603059201", **message}
            for number, message in enumerate(messages)
        ],
        **value,
    }
    changes = [{"field": "messages", "value": content}]
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": "8856996819413533", "changes": changes}],
    }


def recorded(*messages):
    """The events of the messages as the door records them, without the profiles."""
    raws = events_of("sales", notification(*messages)).events
    events = [
        admit_event(
            read_producer_event(json.dumps(raw).encode(), raw["event_id"], NOW), RequestFacts("default"), NOW
        )
        for raw in raws
    ]
    assert [tag_of(type(each)) for each in events[::2]] == ["profile_updated"] * len(messages)
    return events[1::2]


def test_a_text_identifies_its_sender():
    body = notification({"type": "text", "text": {"body": "Hola"}})
    profile, message = events_of("sales", body).events
    assert profile["fields"] == {"phone": "16315551234", "name": "Kerry Fisher"}
    assert (message["type"], message["text"]) == ("message_received", "Hola")
    assert message["occurred_at"].startswith("2020-10-18T22:13:21")
    assert "16315551234" not in message["visitor_id"] + message["event_id"]
    (again, _) = events_of("sales", body).events
    assert again["event_id"] == profile["event_id"]


@pytest.mark.parametrize(
    ("message", "kind", "fields"),
    [
        (
            {"type": "audio", "audio": {"id": "2754859441498128", "voice": True}},
            "message_received",
            {"kind": "voice", "file_id": "2754859441498128"},
        ),
        (
            {"type": "text", "text": {"body": "qr_stand-7"}},
            "qr_scanned",
            {"qr_id": "stand-7"},
        ),
        (
            {
                "type": "interactive",
                "interactive": {
                    "type": "list_reply",
                    "list_reply": {"id": "location:Dubai Marina", "title": "Dubai Marina"},
                },
            },
            "question_answered",
            {"profile_field": "location", "text": "Dubai Marina"},
        ),
        (
            {
                "type": "interactive",
                "interactive": {
                    "type": "button_reply",
                    "button_reply": {"id": "cancel-button", "title": "Cancel"},
                },
            },
            "element_clicked",
            {"element_id": "cancel-button", "text": "Cancel"},
        ),
        (
            {"type": "button", "button": {"payload": "catalog:towers", "text": "Towers"}},
            "catalog_viewed",
            {"catalog_id": "towers", "title": "Towers"},
        ),
        (
            {
                "type": "interactive",
                "interactive": {
                    "type": "nfm_reply",
                    "nfm_reply": {"name": "flow", "body": "Sent", "response_json": '{"budget_max": 7}'},
                },
            },
            "form_submitted",
            {"fields": {"budget_max": 7}},
        ),
        (
            {"type": "image", "image": {"id": "1"}},
            "custom",
            {"properties": {"kind": "image"}},
        ),
    ],
)
def test_what_a_message_means(message, kind, fields):
    (event,) = recorded(message)
    assert tag_of(type(event)) == kind
    assert {name: getattr(event, name) for name in fields} == fields


def test_statuses_and_system_messages_mean_no_event():
    statuses = [{"id": "wamid.1", "status": "delivered", "recipient_id": "16315551234"}]
    assert events_of("sales", notification(statuses=statuses)) == ([], 1, 0)
    assert events_of("sales", notification({"type": "system"})) == ([], 0, 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["entry", "changes", "value", "messages", "contacts", "text", "from", "id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values, json_values)
def test_no_notification_breaks_the_reading(strange, message):
    events_of("sales", strange)
    events_of("sales", notification(messages=[message], contacts=strange))


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([NUMBER.replace("default", "Default")], "begin with its tenant"),
        ([NUMBER.replace("sales", "Sales")], "the name is"),
        ([NUMBER.replace("verify-me", "short")], "the verify token is"),
        ([NUMBER[:-1]], "the app secret is"),
        ([NUMBER + ":x"], "four parts"),
        ([NUMBER, NUMBER], "of this name already"),
    ],
)
def test_a_wrong_number_is_refused_without_its_secrets(texts, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        read_numbers(texts)
    assert APP_SECRET[:20] not in str(refused.value)


@pytest.fixture
async def door():
    appended = []

    async def append(records):
        appended.extend(records)

    ports = Ports(append, "postgresql://nobody@127.0.0.1:1/x", whatsapp_numbers=read_numbers([NUMBER]))
    transport = httpx.ASGITransport(create_app(ports))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http, appended


@pytest.mark.anyio
async def test_meta_verifies_the_address(door):
    http, _ = door
    asked = {"hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "1158201444"}
    answer = await http.get("/v1/whatsapp/sales", params=asked)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["Content-Type"].startswith("text/plain")
    wrong = await http.get("/v1/whatsapp/sales", params={**asked, "hub.verify_token": "verify-you"})
    assert wrong.status_code == 403
    assert (await http.get("/v1/whatsapp/other", params=asked)).status_code == 404


@pytest.mark.anyio
async def test_only_what_meta_has_signed_is_taken(door):
    http, appended = door
    body = json.dumps(notification({"type": "text", "text": {"body": "Hola ñ"}})).encode()
    signature = "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    for headers in ({}, {"X-Hub-Signature-256": "sha256=" + "0" * 64}):
        refused = await http.post("/v1/whatsapp/sales", content=body, headers=headers)
        assert refused.status_code == 401
    assert not appended
    taken = await http.post("/v1/whatsapp/sales", content=body, headers={"X-Hub-Signature-256": signature})
    assert taken.status_code == 200
    assert taken.json()["events"] == [read_event(record.value).event_id for record in appended]
    changed = await http.post(
        "/v1/whatsapp/sales", content=body + b" ", headers={"X-Hub-Signature-256": signature}
    )
    assert changed.status_code == 401


@pytest.mark.anyio
async def test_a_message_makes_a_lead_with_the_senders_phone(database_url):
    """1 for the message, 10 for the phone, 20 for being recent; the notification comes twice."""
    settings = Settings(database_url=database_url, partitions=4, whatsapp=NUMBER)
    body = json.dumps(
        notification({"type": "text", "text": {"body": "Hola"}, "timestamp": str(int(time.time()))})
    ).encode()
    signature = "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    with open_system(settings) as system:
        async with ports_open(system, settings) as ports:
            app = create_app(ports)
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
            ):
                for _ in range(2):
                    taken = await http.post(
                        "/v1/whatsapp/sales", content=body, headers={"X-Hub-Signature-256": signature}
                    )
                    assert taken.status_code == 200
                leads = []
                for _ in range(200):
                    leads = (await http.get("/api/tenants/default/leads")).json()
                    if leads and leads[0]["lead_score"] == 31:
                        break
                    await asyncio.sleep(0.05)
    (lead,) = leads
    assert (lead["name"], lead["phone"]) == ("Kerry Fisher", "+16315551234")
    assert (lead["lead_score"], lead["temperature"], lead["messages_count"]) == (31, "warm", 1)
    assert lead["voice_url"] is None

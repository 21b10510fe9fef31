"""Webhooks of CRMs: what proves them, what they report, and that it is stored before they are answered."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from crm_readings import SECRET, channel, empty
from fake_crms import TOKEN
from hypothesis import given
from hypothesis import strategies as st
from outboxes import configured
from standardwebhooks import Webhook

from delivery.crm.crm_worker import inbound_channels
from delivery.crm.reported import WebhookRequest, is_from_hubspot, reported_keys, reported_records
from gateway.app import create_app
from gateway.ports import Ports

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
STAMP = str(int(NOW.timestamp() * 1_000))
PUBLIC = "https://leads.example.com"
OTHER = """
[channels.close]
type = "crm_webhook"
secret = "env:SECRET"
each = "event.data"
proof = { header = "Close-Sig-Hash", prefix = "v1=", signed = "{Close-Sig-Timestamp}{body}" }
[channels.close.record]
id = "id"
kind = "'deal'"
status = "status_type"
value = "value"
currency = "value_currency"
email = "contact.email"
changed_at = "date_updated"
[channels.close.inbound]
statuses = { active = "open" }
"""


def channels(text):
    return inbound_channels(configured(text, TOKEN=TOKEN, SECRET=SECRET))


VENDORS = {
    kind: channels(channel(kind, "http://127.0.0.1:9"))["crm"] for kind in ("hubspot", "pipedrive", "odoo")
}
CLOSE = channels(OTHER)["close"]


def hubspot_signature(url, body, stamp=STAMP):
    """As developers.hubspot.com describes version 3."""
    signed = b"POST" + url.encode() + body + stamp.encode()
    return base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()


def hubspot_request(body=b"[]", stamp=STAMP, signature=None, url=f"{PUBLIC}/v1/crm/crm"):
    headers = {
        "x-hubspot-request-timestamp": stamp,
        "x-hubspot-signature-v3": signature or hubspot_signature(url, body, stamp),
    }
    return WebhookRequest("POST", url, headers, body)


def test_only_what_hubspot_has_signed_within_five_minutes_is_proven():
    assert is_from_hubspot(SECRET, hubspot_request(), NOW)
    assert not is_from_hubspot(SECRET, hubspot_request()._replace(body=b"[{}]"), NOW)
    assert not is_from_hubspot(SECRET, hubspot_request()._replace(url=f"{PUBLIC}/v1/crm/other"), NOW)
    assert not is_from_hubspot("another secret", hubspot_request(), NOW)
    for stamp in (str(int(STAMP) - 301_000), str(int(STAMP) + 301_000), "", "-1", "٣", "9" * 40):
        assert not is_from_hubspot(SECRET, hubspot_request(stamp=stamp), NOW)
    encoded = f"{PUBLIC}/v1/crm/crm?to=a%40b%2Cc%20d"
    decoded = f"{PUBLIC}/v1/crm/crm?to=a@b,c%20d"  # only the characters of HubSpot's table
    request = hubspot_request(url=encoded, signature=hubspot_signature(decoded, b"[]"))
    assert is_from_hubspot(SECRET, request, NOW)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda more: st.lists(more, max_size=3) | st.dictionaries(st.sampled_from(["_id", "_model", "meta", "entity", "data", "id", "objectId", "subscriptionType", "event", "associationType"]), more, max_size=4), max_leaves=9))  # fmt: skip
def test_no_body_breaks_a_reader(body):
    for vendor in VENDORS.values():
        reported_keys(vendor, body)
    reported_records(CLOSE, body, NOW)


def test_the_vendors_webhooks_say_which_record_has_changed():
    def keys(kind, body):
        return reported_keys(VENDORS[kind], body)

    hubspot = [
        {"subscriptionType": "deal.propertyChange", "objectId": 9811, "propertyName": "dealstage"},
        {"subscriptionType": "object.propertyChange", "objectTypeId": "0-1", "objectId": 512},
        {"subscriptionType": "deal.creation", "objectId": 9811},
        {
            "subscriptionType": "object.associationChange", "associationType": "CONTACT_TO_DEAL", "fromObjectId": 5,
            "toObjectId": 77,
        },
        {"subscriptionType": "company.creation", "objectId": 1},
    ]  # fmt: skip
    assert keys("hubspot", hubspot) == [("deal", "9811"), ("contact", "512"), ("deal", "77")]
    pipedrive = {
        "meta": {"action": "change", "entity": "deal", "entity_id": "17", "version": "2.0"},
        "data": {"id": 17},
    }
    assert keys("pipedrive", pipedrive) == [("deal", "17")]
    assert keys("pipedrive", {"meta": {"entity": "note", "entity_id": "17"}}) == []
    odoo = {"_model": "crm.lead", "_id": 4, "_action": "Tell Leadstream(#612)", "stage_id": 3}
    assert keys("odoo", odoo) == [("deal", "4")]
    assert keys("odoo", {**odoo, "_model": "res.partner"}) == []


def test_another_crms_records_are_mapped():
    body = {"event": {"data": [
        {"id": "oppo_1", "status_type": "won", "value": 50000, "value_currency": "USD", "contact": {"email": "a@b.example"},
         "date_updated": "2026-03-02T11:00:00Z"},
        {"id": "oppo_2", "status_type": "active"},
        {"id": "oppo_3", "status_type": "some other word"},
        {"status_type": "won"},
    ]}}  # fmt: skip
    (won, open_), skipped = reported_records(CLOSE, body, NOW)
    assert (won.record_id, won.values["status"], won.values["value"], won.email) == (
        "oppo_1", "won", "50000", "a@b.example",
    )  # fmt: skip
    assert (open_.values["status"], open_.changed_at, skipped) == ("open", NOW, 2)


@pytest.mark.postgres
def test_a_report_is_stored_before_it_is_answered_and_one_without_proof_is_refused(outbox):
    empty(outbox)

    async def append(_records):
        raise AssertionError

    ports = Ports(append, outbox.url, public_url=PUBLIC, crms={**VENDORS, "close": CLOSE}, now=lambda: NOW)
    app = create_app(ports)

    def post(path, body, **headers):
        async def send():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
                return await http.post(path, content=body, headers=headers)

        return asyncio.run(send())

    def basic(user, password):
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    hub = json.dumps([{"subscriptionType": "deal.creation", "objectId": 9}]).encode()
    signature = hubspot_signature(f"{PUBLIC}/v1/crm/hubspot", hub)
    signed = {"x-hubspot-request-timestamp": STAMP, "x-hubspot-signature-v3": signature}
    pipe = json.dumps({"meta": {"entity": "person", "entity_id": "3"}}).encode()
    odoo = json.dumps({"_model": "crm.lead", "_id": 4}).encode()
    other = json.dumps({"event": {"data": {"id": "o1", "status_type": "won"}}}).encode()
    digest = hmac.new(SECRET.encode(), b"1700" + other, hashlib.sha256).hexdigest()
    close = {"close-sig-timestamp": "1700", "close-sig-hash": f"v1={digest}"}
    refused = [
        post("/v1/crm/hubspot", hub),
        post("/v1/crm/hubspot", hub + b" ", **signed),
        post("/v1/crm/pipedrive", pipe, authorization=basic("leadstream", "wrong")),
        post("/v1/crm/odoo?token=wrong", odoo),
        post("/v1/crm/odoo", odoo),
        post("/v1/crm/close", other, **{**close, "close-sig-timestamp": "1701"}),
    ]
    assert [each.status_code for each in refused] == [401] * 6
    assert post("/v1/crm/nothing", hub).status_code == 404
    assert not outbox.rows("select * from public.crm_inbox")
    taken = [
        post("/v1/crm/hubspot", hub, **signed),
        post("/v1/crm/hubspot", hub, **signed),
        post("/v1/crm/pipedrive", pipe, authorization=basic("leadstream", SECRET)),
        post(f"/v1/crm/odoo?token={SECRET}", odoo),
        post("/v1/crm/close", other, **close),
    ]
    assert [(each.status_code, each.json()) for each in taken] == [(200, {"records": 1, "skipped": 0})] * 5
    rows = outbox.rows("select crm, kind, record_id, record from public.crm_inbox order by number")
    assert [(row["crm"], row["kind"], row["record_id"], row["record"] is None) for row in rows] == [
        ("hubspot", "deal", "9", True),
        ("pipedrive", "contact", "3", True),
        ("odoo", "deal", "4", True),
        ("close", "deal", "o1", False),
    ]


def test_a_copy_of_a_webhook_counts_once_and_an_old_one_not_at_all(outbox):
    empty(outbox)
    timed = OTHER.replace('{body}" }', '{body}", timestamp = "Close-Sig-Timestamp" }')
    standard = re.sub(r"proof = .*", 'proof = { method = "standard_webhooks" }', OTHER)
    whsec = "whsec_" + base64.b64encode(b"k" * 32).decode()
    crms = {
        "close": channels(timed)["close"],
        "standard": inbound_channels(configured(standard, TOKEN=TOKEN, SECRET=whsec))["close"],
    }

    async def append(_records):
        raise AssertionError

    now = datetime.now(UTC)
    app = create_app(Ports(append, outbox.url, public_url=PUBLIC, crms=crms, now=lambda: now))

    def post(path, body, **headers):
        async def send():
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
                return await http.post(path, content=body, headers=headers)

        answer = asyncio.run(send())
        return answer.json().get("records", answer.status_code)

    def body(number):
        return json.dumps({"event": {"data": {"id": f"o{number}", "status_type": "won"}}}).encode()

    def close(number, seconds, unit=1):
        stamp = str(int((now.timestamp() + seconds) * unit))
        digest = hmac.new(SECRET.encode(), stamp.encode() + body(number), hashlib.sha256).hexdigest()
        headers = {"close-sig-timestamp": stamp, "close-sig-hash": f"v1={digest}"}
        return post("/v1/crm/close", body(number), **headers)

    def signed(number, name, seconds=0):
        at = now + timedelta(seconds=seconds)
        headers = {
            "webhook-id": name,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": f"v1,{base64.b64encode(bytes(32)).decode()} {Webhook(whsec).sign(name, at, body(number).decode())}",
        }
        return post("/v1/crm/standard", body(number), **headers)

    assert [close(1, 0), close(1, 0), close(2, -290), close(2, -290, 1_000)] == [1, 0, 1, 1]
    assert [close(3, -310), close(3, 310)] == [401, 401]
    assert [signed(4, "msg_1"), signed(4, "msg_1", 5), signed(4, "msg_2"), signed(5, "msg_3", -400)] == [
        1,
        0,
        1,
        401,
    ]
    assert post("/v1/crm/standard", body(4)) == 401
    kept = outbox.rows("select record_id from public.crm_inbox order by number")
    assert [row["record_id"] for row in kept] == ["o1", "o2", "o2", "o4", "o4"]


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        ('{ header = "X-S", timestamp = "X-T" }', "proof.timestamp: proof.signed must contain {X-T}"),
        (
            '{ header = "X-S", signed = "{X-T}{body}", timestamp = "X-T", id = "X-I" }',
            "proof.id: proof.signed must",
        ),
        ('{ method = "standard_webhooks" }', "secret: is not whsec_ and the Base64"),
    ],
)
def test_a_proof_that_anybody_could_change_is_refused_at_the_start(proof, reason):
    with pytest.raises(Exception, match=re.escape(reason)):
        channels(re.sub(r"proof = .*", f"proof = {proof}", OTHER))

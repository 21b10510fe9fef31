"""Signed lead ids: what a public key may say of leads."""

import asyncio
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import read_access
from gateway.accounts.account_settings import read_identity_secrets
from gateway.app import create_app
from gateway.door.lead_signatures import is_right_signature, lead_signature
from gateway.ports import Ports

SECRET = "of-our-own-server-only-0123456789"
NEXT = "the-next-secret-of-our-own-server"
KEY = "public-key-of-acme"
TOKEN = "secret-token-of-acme"


def test_the_signature_is_hmac_sha256_in_hex():
    """RFC 4231, test case 2."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert lead_signature("Jefe", "what do ya want for nothing?") == expected


@given(lead=st.text(min_size=1, max_size=40), other=st.text(min_size=1, max_size=40))
def test_a_signature_is_right_for_its_lead_and_its_secrets_only(lead, other):
    signature = lead_signature(SECRET, lead)
    assert is_right_signature([NEXT, SECRET], lead, signature)
    assert is_right_signature([SECRET], lead, signature.upper())
    assert not is_right_signature([NEXT], lead, signature)
    assert is_right_signature([SECRET], other, signature) == (lead == other)


@pytest.mark.parametrize("signature", [None, 7, "", "é", "0" * 64, "0" * 200, {"a": 1}, ["x"], True])
def test_what_is_no_signature_is_not_right(signature):
    assert not is_right_signature([SECRET], "lead-1", signature)


def sent(body, *, path="/v1/events", headers=None, tenant="acme"):
    """The answer, and the events that the log has got."""
    log = []

    async def append(records):
        log.extend(json.loads(record.value) for record in records)

    ports = Ports(
        append=append,
        database_url="",
        access=read_access([f"{tenant}:{KEY}"], [f"{tenant}:write:{TOKEN}"]),
        identity_secrets=read_identity_secrets([f"acme:{NEXT}", f"acme:{SECRET}"]),
    )

    async def ask():
        transport = httpx.ASGITransport(create_app(ports), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://leads.example") as http:
            return await http.post(path, json=body, headers=headers or {"X-Write-Key": KEY})

    return asyncio.run(ask()), log


def page_view(**more):
    return {"type": "page_viewed", "visitor_id": "browser-1", "lead_id": "lead-1", **more}


def test_a_signed_lead_id_is_taken_and_the_signature_is_not_stored():
    answer, [event] = sent(page_view(lead_signature=lead_signature(SECRET, "lead-1")))
    assert answer.status_code == 200
    assert event["lead_id"] == "lead-1"
    assert "lead_signature" not in json.dumps(event)


@pytest.mark.parametrize(
    "more", [{}, {"lead_signature": lead_signature(SECRET, "lead-2")}, {"lead_signature": 7}]
)
def test_an_event_with_an_unsigned_lead_is_its_visitors_alone(more):
    answer, [event] = sent(page_view(**more))
    [told] = answer.json()["events"]
    assert (answer.status_code, told["status"]) == (200, "accepted")
    assert "lead_signature is missing or not right" in told["hint"]
    assert event.get("lead_id") is None
    assert event["visitor_id"] == "browser-1"
    assert "lead_signature" not in json.dumps(event)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "page_viewed", "lead_id": "lead-1"},
        {"type": "lead_identified", "lead_id": "lead-1", "visitor_id": "browser-1"},
    ],
)
def test_an_event_that_is_about_an_unsigned_lead_only_is_refused(event):
    answer, log = sent(event)
    [told] = answer.json()["events"]
    assert (answer.status_code, told["field"]) == (422, "lead_signature")
    assert not log


def test_a_secret_key_needs_no_signature_and_no_tenant_without_a_secret():
    assert sent(page_view(), headers={"Authorization": f"Bearer {TOKEN}"})[1][0]["lead_id"] == "lead-1"
    assert sent(page_view(), tenant="globex")[1][0]["lead_id"] == "lead-1"


def test_an_experiment_takes_leads_alike():
    body = {
        "test_name": "greeting_message",
        "session_id": "browser-1",
        "lead_id": "lead-1",
        "conversion_type": "x",
    }
    _, [event] = sent(body, path="/api/ab-test/conversion")
    assert event.get("lead_id") is None
    signed = body | {"lead_signature": lead_signature(NEXT, "lead-1")}
    _, [event] = sent(signed, path="/api/ab-test/conversion")
    assert event["lead_id"] == "lead-1"


@pytest.mark.parametrize("text", ["acme", "acme:short", ":0123456789012345678901234", "Acme:" + "x" * 30])
def test_a_wrong_identity_secret_is_refused_and_not_shown(text):
    with pytest.raises(ValueError, match="identity secret 1: give TENANT:SECRET") as wrong:
        read_identity_secrets([text])
    assert "0123456789012345678901234" not in str(wrong.value)

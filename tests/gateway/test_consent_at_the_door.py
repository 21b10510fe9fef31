"""What nobody has consented to never reaches the log: every value of such an event is searched for in all that is written."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_collect import NOW, House

from schemas.decode import encode_source
from schemas.moment import millis

pytestmark = pytest.mark.anyio
LONG_AGO = millis(datetime(2029, 1, 1, tzinfo=UTC))


def view(number=1, **fields):
    return {
        "type": "page_viewed", "event_id": f"e{number}", "visitor_id": f"v{number}",
        "context": {"url": f"https://shop.test/secret-{number}", "ip": "203.0.113.77"},
    } | fields  # fmt: skip


async def since_long_ago(tenant):
    return LONG_AGO if tenant == "default" else None


def required():
    return House(consent_required_since=since_long_ago)


def written(house):
    return b" ".join(record.key.encode() + record.value for record in house.log)


async def test_an_event_that_says_no_is_not_stored_and_the_answer_says_so():
    house = House()
    answer = await house.send([view(1, tracking_consent=False), view(2)])
    assert answer.status_code == 200
    body = answer.json()
    assert (body["accepted"], body["refused"], body["not_stored"]) == (1, 0, 1)
    assert body["events"][0] == {
        "index": 0, "event_id": "e1", "status": "not_stored",
        "reason": "the visitor has not consented to being tracked (tracking_consent)",
    }  # fmt: skip
    assert b"secret-2" in written(house)
    assert not any(trace in written(house) for trace in (b"secret-1", b"v1", b"e1"))


async def test_where_consent_is_required_silence_is_no_consent():
    house = required()
    await house.send([view(1), view(2, tracking_consent=True), view(3, source="telegram")])
    assert [event.event_id for event in house.events] == ["e2", "e3"]
    assert (await house.send(view(4))).json()["accepted"] == 0


async def test_each_tenant_has_its_own_rule():
    house = required()
    await house.send([view(1, tenant="acme"), view(2)])
    assert [event.tenant for event in house.events] == ["acme"]


async def test_a_refusal_is_stored_without_address_page_and_device():
    house = required()
    refusal = view(1, type="consent_changed", tracking=False)
    await house.send(refusal, user_agent="Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120.0")
    [event] = house.events
    assert (event.tracking, event.context, event.device) == (False, None, None)
    assert b"secret-1" not in written(house)
    assert b"203.0.113.77" not in written(house)


EVENTS = st.lists(
    st.tuples(st.sampled_from([None, True, False]), st.sampled_from(["web", "chatbot", "crm"])), max_size=12
)


@settings(max_examples=30, deadline=None)
@given(EVENTS, st.booleans())
async def test_no_value_of_an_event_without_consent_is_written(cases, is_required):
    house = required() if is_required else House()
    batch = [
        view(n, source=source, **({} if word is None else {"tracking_consent": word}))
        for n, (word, source) in enumerate(cases)
    ]
    if not batch:
        return
    await house.send(batch)
    stored = {
        f"e{n}"
        for n, (word, source) in enumerate(cases)
        if word or (word is None and not (is_required and source == "web"))
    }
    assert {event.event_id for event in house.events} == stored
    bytes_of = b" ".join(encode_source(event) for event in house.events)
    assert all((f'/secret-{n}"'.encode() in bytes_of) == (f"e{n}" in stored) for n in range(len(cases)))
    assert all(event.recorded_at == NOW for event in house.events)

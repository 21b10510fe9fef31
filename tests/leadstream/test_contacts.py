"""Addresses are looked up in real read models; where there are none to ask, events are taken all the same."""

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest

from gateway.app import create_app
from gateway.door.resolving import AddressMatches, AddressQuery
from leadstream.contacts import (
    CONNECTION_OPTIONS,
    LOOKUP_SECONDS,
    PAUSE_AFTER_FAILURE_SECONDS,
    SELECT_LEADS_BY_EMAIL,
    SELECT_LEADS_BY_PHONE,
    AddressLookup,
)
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_open
from projections.migrate import migrate

ANN, PHONE = "ann@acme.io", "+971501234567"
KEYS = {
    "write_keys": ("default:public-write-key",),
    "api_tokens": ("default:read+write:secret-token",),
}
PUBLIC, STAFF = {"x-write-key": "public-write-key"}, {"authorization": "Bearer secret-token"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def house(database_url, **settings):
    settings = Settings(
        database_url=database_url, partitions=2, default_phone_region="AE", **KEYS, **settings
    )
    with open_system(settings) as system:
        async with ports_open(system, settings) as ports:
            app = create_app(ports)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
            ):
                yield http


async def send(http, *events, headers=STAFF, wait=10):
    sent = await http.post(f"/v1/events?wait={wait}", json=list(events), headers=headers)
    assert sent.status_code == 200, sent.text
    return sent.json()["events"]


def shared(visitor_id, **fields):
    return {"type": "contact_shared", "visitor_id": visitor_id, **fields}


def page(visitor_id):
    return {"type": "page_viewed", "visitor_id": visitor_id}


def profile(lead_id, **fields):
    return {"type": "profile_updated", "lead_id": lead_id, "source": "crm", "fields": fields}


def asked(*, email=None, phone=None, visitor="nobody", tenant="default"):
    return AddressQuery(tenant, visitor, email, phone)


@pytest.mark.postgres
@pytest.mark.anyio
async def test_a_visitor_who_gives_a_known_address_is_that_lead_and_no_answer_tells_it(database_url):
    async with house(database_url) as http:
        await send(
            http,
            profile("crm-1", email=ANN, phone="050 123 4567"),
            profile("crm-2", email="two@acme.io"),
            profile("crm-3", email="two@acme.io"),
            profile("crm-4", email="gone@acme.io"),
            profile("crm-5", phone="050 765 4321"),
        )
        await send(http, {"type": "leads_merged", "lead_id": "crm-4", "into": "crm-5"})
        contacts = AddressLookup(database_url)
        await contacts.open()
        try:
            assert await contacts.resolve(
                [
                    asked(email=ANN),
                    asked(phone=PHONE),
                    asked(email="new@acme.io", phone=PHONE),
                    asked(email="gone@acme.io"),
                    asked(email=ANN, tenant="other"),
                ]
            ) == [
                AddressMatches(by_email=("crm-1",)),
                AddressMatches(by_phone=("crm-1",)),
                AddressMatches(),
                AddressMatches(by_email=("crm-5",)),
                AddressMatches(),
            ]
            (both,) = await contacts.resolve([asked(email="two@acme.io")])
            assert sorted(both.by_email) == ["crm-2", "crm-3"]

            known = await send(http, page("v-1"), shared("v-1", email="Ann@Acme.io"), headers=PUBLIC)
            unknown = await send(http, page("v-2"), shared("v-2", email="new@acme.io"), headers=PUBLIC)
            several = await send(http, page("v-3"), shared("v-3", email="two@acme.io"), headers=PUBLIC)
            for answers in (known, unknown, several):
                assert [sorted(each) for each in answers] == [["event_id", "index", "outcome", "status"]] * 2
                assert [each["outcome"] for each in answers] == ["applied"] * 2

            found = await contacts.resolve([asked(visitor=visitor) for visitor in ("v-1", "v-2", "v-3")])
            made = found[1].home_lead
            assert found == [AddressMatches("crm-1", "crm-1"), AddressMatches(made, made), AddressMatches()]
            assert made.startswith("c-")
        finally:
            await contacts.close()
        everybody = (await http.get("/api/leads?include_anonymous=true", headers=STAFF)).json()["leads"]
    assert {each["lead_id"] for each in everybody} >= {"crm-1", made, "anon:v-3"}
    assert not {"anon:v-1", "anon:v-2"} & {each["lead_id"] for each in everybody}


@pytest.mark.postgres
@pytest.mark.anyio
async def test_devices_that_give_a_new_address_one_right_after_the_other_are_one_lead(database_url):
    async with house(database_url) as http:
        await send(http, page("phone"), page("laptop"))
        first = http.post("/v1/events", json=shared("phone", email=ANN), headers=STAFF)
        second = http.post("/v1/events", json=shared("laptop", email=ANN), headers=STAFF)
        await asyncio.gather(first, second)
        (told,) = await send(http, shared("tablet", email=ANN))
    assert told["lead_id"].startswith("c-")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select identity, lead_id from live.identities order by identity"
        ).fetchall()
        (raw,) = connection.execute(
            "select convert_from(value, 'UTF8') from records where topic = 'events' and key = 'default/v/tablet'"
        ).fetchone()
    assert rows == [(f"default/v/{name}#0", told["lead_id"]) for name in ("laptop", "phone", "tablet")]
    assert json.loads(raw)["extra"] == {"resolved_by": "email"}


@pytest.mark.postgres
@pytest.mark.anyio
async def test_a_person_is_one_lead_whatever_writes_the_number_and_the_address(database_url):
    """A number of Germany at a server in the Emirates; each spelling comes from a device of its own."""
    async with house(database_url) as http:
        (first,) = await send(http, shared("web", phone="+49 151 12345678"))
        others = await send(
            http,
            shared("chat", phone="4915112345678", source="telegram"),
            shared("bot", phone="4915112345678@c.us", source="whatsapp"),
            {
                "type": "form_submitted",
                "visitor_id": "crm",
                "source": "crm",
                "fields": {"phone": 4915112345678},
            },
            shared("call", phone="00\u202a49 (0)151 12345678\u202c"),
        )
        assert {each["lead_id"] for each in others} == {first["lead_id"]}
        (lead,) = (await http.get("/api/leads?q=011%2049%20151%2012345678", headers=STAFF)).json()["leads"]
        assert (lead["lead_id"], lead["phone"]) == (first["lead_id"], "+4915112345678")
        (jo,) = await send(http, shared("mail", email="jo@acme.io"))
        same = await send(
            http,
            shared("paste", email="\u200bJo Doe <JO@Acme.io>;"),
            {
                "type": "question_answered",
                "visitor_id": "answer",
                "question_id": "q",
                "profile_field": "email",
                "text": "jo @acme.io.",
            },
        )
        assert {each["lead_id"] for each in same} == {jo["lead_id"]}
        (other,) = await send(http, shared("tag", email="jo+news@acme.io"))
        assert other["lead_id"] != jo["lead_id"]


@pytest.mark.postgres
@pytest.mark.anyio
async def test_an_address_of_a_merged_lead_is_of_the_lead_that_stayed_over_any_chain_and_back(database_url):
    async with house(database_url) as http:
        await send(
            http,
            profile("a", email=ANN, phone="050 123 4567"),
            profile("b", email="b@acme.io", phone="050 765 4321"),
            profile("c", email="c@acme.io"),
        )
        merge = {"type": "leads_merged", "source": "crm"}
        await send(http, merge | {"lead_id": "a", "into": "b"}, merge | {"lead_id": "b", "into": "c"})
        mail, phone, both, known = await send(
            http,
            shared("by-mail", email="Ann@Acme.io"),
            shared("by-phone", phone="050 123 4567"),
            shared("by-either", email="b@acme.io", phone="050 999 8877"),
            profile("a", company="Acme"),
        )
        assert [each["lead_id"] for each in (mail, phone, both, known)] == ["c"] * 4
        everybody = (await http.get("/api/leads", headers=STAFF)).json()["leads"]
        assert [each["lead_id"] for each in everybody] == ["c"]
        for text in (ANN, "+971501234567", "b@acme.io", "c@acme.io"):
            found = (await http.get("/api/leads", params={"q": text}, headers=STAFF)).json()["leads"]
            assert [each["lead_id"] for each in found] == ["c"], text
        for merged, owner in (("a", "c"), ("b", "c"), ("c", None)):
            answer = (await http.get(f"/api/leads/{merged}", headers=STAFF)).json()
            assert answer["merged_into"] == owner
        await send(http, {"type": "merge_undone", "lead_id": "b", "source": "crm"})
        (back,) = await send(http, shared("again", phone="050 765 4321"))
        assert back["lead_id"] == "b"
        assert (await http.get("/api/leads/a", headers=STAFF)).json()["merged_into"] == "b"


@pytest.mark.postgres
@pytest.mark.anyio
async def test_switched_off_a_visitor_stays_anonymous(database_url):
    async with house(database_url, identify_by="none") as http:
        (told,) = await send(http, shared("v-1", email=ANN))
    assert told["lead_id"] == "anon:v-1"


@pytest.mark.postgres
def test_looking_up_needs_no_scan_of_all_leads(database_url):
    migrate(database_url)
    with psycopg.connect(database_url, options=CONNECTION_OPTIONS, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute("set statement_timeout = 0")
        connection.execute(
            """insert into leads (lead_key, tenant, lead_id, identified, created_at, stage, identities, as_of, email, phone, counts,
                                  fields, position, other_addresses)
               select n, 'default', 'l' || n, true, now(), 'new', 1, now(), n || '@acme.io', '+' || n, '{}', '{}', n,
                 case when n % 500 = 0 then jsonb_build_array('old' || n || '@acme.io') end
               from generate_series(1, 20000) as n"""
        )
        connection.execute("analyze leads")
        for question, index, given in (
            (SELECT_LEADS_BY_EMAIL, "leads_email", [[0], ["default"], [ANN]]),
            (SELECT_LEADS_BY_PHONE, "leads_phone", [[0], ["default"], [PHONE], [None]]),
        ):
            plan = "\n".join(line for (line,) in connection.execute(f"explain {question}", given).fetchall())
            assert f"using {index} " in plan, plan
            assert "Scan on leads_other_addresses" in plan, plan
            assert "Seq Scan on leads" not in plan, plan


@pytest.mark.anyio
async def test_a_database_that_hangs_costs_a_moment_once_and_then_none():
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        contacts = AddressLookup(f"postgresql://x@127.0.0.1:{hanging.getsockname()[1]}/x")
        await contacts.open()
        try:
            begun = time.monotonic()
            assert await contacts.resolve([asked(email=ANN)] * 3) == [None] * 3
            assert time.monotonic() - begun < PAUSE_AFTER_FAILURE_SECONDS
            begun = time.monotonic()
            for _ in range(40):
                assert await contacts.resolve([asked(email=ANN)]) == [None]
            assert time.monotonic() - begun < 40 * LOOKUP_SECONDS / 2
        finally:
            await contacts.close()

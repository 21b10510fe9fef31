"""Leads with different values of a unique field stay two, whoever asks for one."""

from datetime import UTC, datetime

import pytest

from gateway.door.merge_checks import NOT_CHECKED_REASON, merge_refusals
from gateway.ports import Ports
from schemas.events import LeadsMerged
from tests.leadstream.command_line import leadstream
from tests.leadstream.test_contacts import STAFF, house, page, profile, send, shared

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
ANN, PHONE = "ann@acme.io", "050 123 4567"


@pytest.fixture
def anyio_backend():
    return "asyncio"


def merge(lead_id, into):
    return {"type": "leads_merged", "lead_id": lead_id, "into": into, "source": "crm"}


@pytest.fixture
def unique_crm_id(database_url):
    """A store whose tenant has declared that a person has one crm_id."""
    made = leadstream(
        "publish-settings",
        "--tenant",
        "default",
        "--unique",
        "crm_id",
        LEADSTREAM_DATABASE_URL=database_url,
        LEADSTREAM_PARTITIONS="2",
    )
    assert "one value of crm_id" in made.stdout.decode()
    return database_url


async def sent(http, *events):
    answer = await http.post("/v1/events?wait=10", json=list(events), headers=STAFF)
    return answer.status_code, answer.json()["events"]


async def leads(http):
    found = (await http.get("/api/leads", headers=STAFF)).json()["leads"]
    return {each["lead_id"] for each in found}


@pytest.mark.postgres
@pytest.mark.anyio
async def test_a_merge_of_two_people_is_refused_with_409_and_one_of_the_same_person_is_made(unique_crm_id):
    async with house(unique_crm_id) as http:
        await send(
            http,
            profile("a", crm_id="1"),
            profile("b", crm_id="2"),
            profile("same", crm_id="1"),
            profile("blank-1", crm_id="N/A"),
            profile("c", email=ANN),
        )
        status, (refused,) = await sent(http, merge("a", "b"))
        assert status == 409
        assert (refused["status"], refused["field"]) == ("refused", "into")
        assert "they differ in crm_id, of which a person has one value" in refused["reason"]
        assert not {"1", "2"} & set(
            refused["reason"].split()
        )  # a token that may only write is shown no value
        status, (taken, also_refused) = await sent(http, page("v"), merge("a", "b"))
        assert (status, taken["status"], also_refused["status"]) == (207, "accepted", "refused")
        assert {"a", "b"} <= await leads(http)
        status, answers = await sent(http, merge("same", "a"), merge("blank-1", "a"), merge("c", "a"))
        assert (status, {each["status"] for each in answers}) == (200, {"accepted"})
        assert await leads(http) == {"a", "b"}


@pytest.mark.postgres
@pytest.mark.anyio
async def test_neither_a_detour_nor_one_request_makes_two_people_one(unique_crm_id):
    async with house(unique_crm_id) as http:
        await send(http, profile("a", crm_id="1"), profile("b", crm_id="2"), profile("m", company="Acme"))
        assert (await sent(http, merge("a", "m")))[0] == 200
        assert (await sent(http, merge("m", "b")))[0] == 409
        assert (await sent(http, merge("a", "b")))[0] == 409  # it belongs to m
        status, answers = await sent(
            http,
            profile("n", company="Acme"),
            profile("o", crm_id="3"),
            merge("n", "o"),
            merge("n", "b"),
            merge("b", "n"),
        )
        assert status == 207
        assert [each["status"] for each in answers] == ["accepted"] * 3 + ["refused"] * 2
        assert await leads(http) == {"m", "b", "o"}


@pytest.mark.postgres
@pytest.mark.anyio
async def test_an_address_identifies_nobody_who_has_another_crm_id_and_the_lead_says_why(unique_crm_id):
    async with house(unique_crm_id) as http:
        await send(http, profile("a", crm_id="1", email=ANN, phone=PHONE))
        form = {"type": "form_submitted", "visitor_id": "other", "fields": {"email": ANN, "crm_id": "2"}}
        (other,) = await send(http, form)
        assert other["lead_id"] == "anon:other"
        await send(http, {"type": "form_submitted", "visitor_id": "before", "fields": {"crm_id": "2"}})
        (before,) = await send(http, shared("before", phone=PHONE))
        assert before["lead_id"] == "anon:before"
        same, silent = await send(
            http,
            {"type": "form_submitted", "visitor_id": "same", "fields": {"email": ANN, "crm_id": 1}},
            shared("silent", email=ANN),
        )
        assert (same["lead_id"], silent["lead_id"]) == ("a", "a")
        (identity,) = (await http.get("/api/leads/anon:other", headers=STAFF)).json()["identities"]
        (apart,) = identity["kept_apart"]
        assert (apart["lead_id"], apart["by"], apart["event_id"]) == ("a", "crm_id", other["event_id"])
        for each in (await http.get("/api/leads/a", headers=STAFF)).json()["identities"]:
            assert each["kept_apart"] == []


@pytest.mark.postgres
@pytest.mark.anyio
async def test_people_of_one_request_stay_apart_too(unique_crm_id):
    async with house(unique_crm_id) as http:
        one = {"type": "form_submitted", "visitor_id": "one", "fields": {"email": ANN, "crm_id": "1"}}
        two = {"type": "form_submitted", "visitor_id": "two", "fields": {"email": ANN, "crm_id": "2"}}
        first, second = await send(http, one, two)
        assert first["lead_id"].startswith("c-")
        assert second["lead_id"] == "anon:two"


@pytest.mark.postgres
@pytest.mark.anyio
async def test_without_unique_fields_people_are_joined_as_before(database_url):
    async with house(database_url) as http:
        await send(http, profile("a", crm_id="1", email=ANN), profile("b", crm_id="2"))
        (other,) = await send(
            http, {"type": "form_submitted", "visitor_id": "other", "fields": {"email": ANN, "crm_id": "2"}}
        )
        assert other["lead_id"] == "a"
        assert (await sent(http, merge("a", "b")))[0] == 200
        assert await leads(http) == {"b"}


@pytest.mark.postgres
def test_unique_fields_are_published_like_other_settings(database_url):
    where = {"LEADSTREAM_DATABASE_URL": database_url}
    made = leadstream("publish-settings", "--unique", "email", "--unique", "crm_id", **where)
    assert "one value of crm_id, email" in made.stdout.decode()
    assert (
        "one value of crm_id, email"
        in leadstream("publish-settings", "--idle-minutes", "20", **where).stdout.decode()
    )
    wrong = leadstream("publish-settings", "--unique", "CRM Id", **where)
    assert wrong.returncode == 1
    assert "crm_id" in wrong.stderr.decode()
    assert "one value" not in leadstream("publish-settings", "--unique", "none", **where).stdout.decode()


@pytest.mark.anyio
async def test_while_the_store_does_not_answer_no_merge_is_made():
    async def unique_fields(tenant):
        return ["crm_id"]

    events = [LeadsMerged(event_id="m", occurred_at=NOW, lead_id="a", into="b")]
    ports = Ports(append=None, database_url="", unique_fields=unique_fields)
    assert await merge_refusals(events, ports) == [NOT_CHECKED_REASON]

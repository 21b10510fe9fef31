"""/api/call-list: why to call a lead, and how many are in each band, over a real database."""

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.api.lead_counts import MOST_KEPT, KeptCounts
from schemas.activity import SessionPut
from schemas.events import Custom, NoteAdded, PageViewed
from schemas.moment import millis
from tests.gateway.test_api import T0, House, at, attached, changed, lead

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]


async def test_a_reason_has_the_last_gain_what_is_missing_and_the_line_of_the_score(database_url):
    house = House(database_url)
    wishes = {"budget_min": 1, "budget_max": "2500000", "location": "Dubai Marina", "bedrooms": 2}
    house.write(
        changed("ada", 20, 0, [("recency", "Last interaction", "points", 20)], minutes=1, caused_by="event:a"),
        changed("ada", 15, 20, [("recency", "Last interaction", "points", -5)], minutes=2, caused_by="due:1"),
        changed(
            "ada", 38, 15,
            [("engagement", "QR scans", "points", 3), ("qualification", "Phone", "points", 20)],
            minutes=3, caused_by="event:b",
        ),
        changed("ada", 33, 38, [("recency", "Last interaction", "points", -5)], minutes=4, caused_by="due:2"),
        lead("ada", 33, fields=wishes),
        lead("bob", 80, band="burning"),
        lead("ada", 1, tenant="other"),
    )  # fmt: skip
    async with house.visited() as http:
        answer = (await http.get("/api/call-list/reasons?lead_id=ada&lead_id=bob&lead_id=nobody")).json()
        wrong = await http.get("/api/call-list/reasons?lead_id=ada&model=none")
    ada, bob = answer["reasons"]["ada"], answer["reasons"]["bob"]
    assert list(answer["reasons"]) == ["ada", "bob"]
    assert [each["total"] for each in ada["totals"]] == [20, 15, 38, 33]
    assert ada["gain"] == {
        "change": 23, "rule": "Phone", "at": at(3).isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    assert ada["missing"] == {"band": "hot", "points": 17}, "hot begins at 50"
    assert (ada["budget"], ada["property"]) == (2_500_000, "2, Dubai Marina")
    assert (ada["event"], bob["event"], bob["gain"]) == (None, None, None)
    assert bob["missing"] is None, "burning is the best band"
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "model")


async def test_bands_and_stages_are_counted_of_ones_own_leads(database_url):
    house = House(database_url)
    house.write(
        lead("ada", 80, band="burning"),
        lead("bob", 30, band="warm", stage="customer"),
        lead("carl", 26, band="warm"),
        lead("merged", 90, band="burning", identities=0),
        lead("anon:v", 3),
        lead("theirs", 80, band="burning", tenant="other"),
    )
    async with house.visited() as http:
        counted = (await http.get("/api/call-list/counts")).json()
    assert counted["scale"] == "temperature"
    assert counted["identified"] == {
        "leads": 3, "bands": {"burning": 1, "warm": 2}, "stages": {"new": 2, "customer": 1},
    }  # fmt: skip
    assert counted["anonymous"] == {"leads": 1, "bands": {"cold": 1}, "stages": {"new": 1}}


async def test_a_lead_that_was_put_off_is_hidden_and_comes_back_by_itself(database_url):
    house = House(database_url)
    later, over = (moment.isoformat() for moment in (at(180), at(60)))  # the house's clock is at 120
    house.write(
        lead("ada", 80, band="burning", fields={"snoozed_until": later}),
        lead("bob", 30, band="warm", fields={"snoozed_until": over}),
        lead("carl", 26, band="warm", fields={"snoozed_until": "some day"}),
        lead("theirs", 80, band="burning", tenant="other", fields={"snoozed_until": later}),
    )

    async def listed(http, asked):
        answer = (await http.get("/api/leads", params=asked)).json()
        return [each["lead_id"] for each in answer["leads"]], answer["next_waking"]

    async with house.visited() as http:
        waking = at(180).isoformat().replace("+00:00", "Z")
        assert await listed(http, {}) == (["ada", "bob", "carl"], waking)
        assert await listed(http, {"snoozed": "false"}) == (["bob", "carl"], waking)
        assert await listed(http, {"snoozed": "true", "q": "ada"}) == (["ada"], waking)
        counted = (await http.get("/api/call-list/counts")).json()
        one = (await http.get("/api/leads/ada")).json()["lead"]["snoozed_until"]
    assert counted["snoozed"] == 1
    assert counted["identified"] == {"leads": 2, "bands": {"warm": 2}, "stages": {"new": 2}}
    assert one == waking
    house.ports = replace(house.ports, now=lambda: at(181))
    async with house.visited() as http:
        assert await listed(http, {"snoozed": "false"}) == (["ada", "bob", "carl"], None)
        counted = (await http.get("/api/call-list/counts")).json()
    assert (counted["snoozed"], counted["identified"]["bands"]) == (0, {"burning": 1, "warm": 2})


async def test_a_search_finds_everything_that_a_row_says(database_url):
    house = House(database_url)
    fields = {
        "name": "Änne Öz", "email": "anne@x.de", "phone": "+4912", "company": "Nordwind GmbH", "assigned_to": "maria.keller",
        "budget_max": 2500000.0, "property_type": "apartment", "location": "Dubai Marina",
    }  # fmt: skip
    house.write(
        lead("l-7", 10, fields=fields, stage="opportunity", last_event="demo_requested"),
        lead("l-8", 20, fields={"name": "Bob"}, last_event="custom:trial_begun"),
    )
    found = {
        "änne": ["l-7"], "nordwind": ["l-7"], "KELLER": ["l-7"], "opportun": ["l-7"], "2500000": ["l-7"], "apart": ["l-7"],
        "marina": ["l-7"], "demo requested": ["l-7"], "l-7": ["l-7"], "trial begun": ["l-8"], "requested marina öz": ["l-7"],
        "bob demo": [], "l-": ["l-8", "l-7"], "%": [], "  ": ["l-8", "l-7"], "\n": ["l-8", "l-7"],
    }  # fmt: skip
    async with house.visited() as http:
        for words, ids in found.items():
            answer = (await http.get("/api/leads", params={"q": words})).json()
            assert [each["lead_id"] for each in answer["leads"]] == ids, words


async def test_counting_takes_a_tenth_of_the_time_however_many_ask():
    clock, asked = [0.0], []

    class SlowStore:
        @asynccontextmanager
        async def snapshot(self):
            asked.append(clock[0])
            clock[0] += 3.0  # a count of very many leads

            class Nobody:
                async def all(self, *_):
                    return [], [], []

            yield Nobody()

    counts = KeptCounts(lambda: clock[0])
    for _ in range(400):
        await counts.of("default", "temperature", SlowStore(), T0)
        clock[0] += 0.5
    assert asked == [33.0 * n for n in range(len(asked))], "3 s, and 30 s until the next"
    for number in range(MOST_KEPT + 9):
        await counts.of(f"t{number}", "temperature", SlowStore(), T0)
    assert len(counts._kept) == len(counts._counting) == MOST_KEPT


async def test_the_reason_is_no_work_of_staff_and_a_visitor_has_a_session(database_url):
    house = House(database_url)
    visit = SessionPut("s", 1, millis(at(0)), millis(at(7)), True, 5, 2, 1)
    house.write(
        attached("anon:v", "default/v/v#0", PageViewed(event_id="a", visitor_id="v", occurred_at=at(0), title="Prices"), [visit]),
        lead("anon:v", 12),
        attached("ada", "default/l/ada#0", Custom(name="trial_begun", event_id="b", lead_id="ada", occurred_at=at(1))),
        attached("ada", "default/l/ada#1", NoteAdded(text="called", event_id="c", lead_id="ada", occurred_at=at(2))),
        lead("ada", 12),
    )  # fmt: skip
    async with house.visited() as http:
        reasons = (await http.get("/api/call-list/reasons?lead_id=ada&lead_id=anon:v")).json()["reasons"]
    assert (reasons["ada"]["event"]["type"], reasons["ada"]["event"]["name"]) == ("custom", "trial_begun")
    assert reasons["ada"]["session"] is None
    assert reasons["anon:v"]["event"]["about"] == "Prices"
    session = reasons["anon:v"]["session"]
    assert (session["duration_seconds"], session["pages"], session["clicks"], session["score"]) == (
        420,
        5,
        3,
        None,
    )

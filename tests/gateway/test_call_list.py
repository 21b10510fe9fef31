"""/api/call-list: why to call a lead, and how many are in each band, over a real database."""

import pytest

from tests.gateway.test_api import House, at, changed, lead

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

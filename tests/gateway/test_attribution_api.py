"""/api/lead-tracking/attribution over both real stages and a real PostgreSQL."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from test_lifecycle_api import DAY, T0, House

from schemas.decode import encode_source, key_of
from schemas.envelope import Context, TrafficOrigin
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.attribution.rules import TOUCH_MODELS
from scoring.features.signals import EVENT_TYPE_BY_TAG

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

PREFIX = "/api/lead-tracking/attribution"


@pytest.fixture
def house(database_url):
    return House(database_url)


def late(house, kind, day, recorded, **fields):
    """An event that is recorded days after it occurred."""
    house.clock = T0 + recorded * DAY
    event = EVENT_TYPE_BY_TAG[kind](
        event_id=f"late-{kind}-{day}",
        occurred_at=T0 + day * DAY,
        recorded_at=house.clock,
        **{"lead_id": "1001", "source": "email", **fields},
    )
    house.fold([Outgoing(EVENTS, key_of(event), encode_source(event))])


async def told(answer, status=200):
    answer = await answer
    assert answer.status_code == status, answer.text
    return json.loads(answer.text, parse_float=Decimal)


def eight_touches(house):
    """As in the requirement: from an e-mail campaign to a sequence, 45 days before the conversion."""
    campaign = Context(source_type="campaign", source_name="Email Campaign")
    sequence = Context(source_type="sequence", source_name="Outreach Sequence")
    house.tell("email_clicked", 0, context=campaign)
    for day in range(5, 35, 5):
        house.tell("form_submitted", day, context=Context(source_name="Contact Form"))
    house.tell("email_sent", 36)  # sales did it
    house.tell("email_replied", 44, context=sequence)
    house.clock = T0 + 45 * DAY


async def test_the_example_of_the_requirement_is_answered_as_it_prints_it(house):
    eight_touches(house)
    body = {"conversion_type": "customer", "conversion_value": 5000.00, "attribution_model": "u_shaped"}
    async with house.visited() as http:
        answer = await told(http.post(f"{PREFIX}/1001/calculate", json=body))
    assert (answer["lead_id"], answer["applied"]) == (1001, True)
    found = answer["attribution"]
    assert found["conversion_type"] == "customer"
    assert found["conversion_value"] == 5000
    assert found["attribution_model"] == "u_shaped"
    assert found["total_touchpoints"] == 8
    assert found["journey_duration_days"] == 45
    assert {name: found["first_touch"][name] for name in ("source", "name", "weight")} == {
        "source": "campaign",
        "name": "Email Campaign",
        "weight": Decimal("0.4"),
    }
    assert {name: found["last_touch"][name] for name in ("source", "name", "weight")} == {
        "source": "sequence",
        "name": "Outreach Sequence",
        "weight": Decimal("0.4"),
    }
    touchpoints = found["touchpoints"]
    first = {name: touchpoints[0][name] for name in ("type", "name", "engagement_type", "weight")}
    assert first == {
        "type": "campaign",
        "name": "Email Campaign",
        "engagement_type": "email_clicked",
        "weight": Decimal("0.4"),
    }
    for middle in touchpoints[1:-1]:
        assert abs(middle["weight"] - Decimal("0.2") / 6) <= Decimal("1e-9")
    assert sum(each["weight"] for each in touchpoints) == 1
    assert [each["credit"]["XXX"] for each in touchpoints] == [
        2000,
        *[Decimal("166.67")] * 4,
        *[Decimal("166.66")] * 2,
        2000,
    ]
    assert found["primary_touchpoint"] == found["first_touch"]
    assert found["secondary_touchpoint"] == found["last_touch"]


async def test_calculating_again_records_nothing_and_another_value_updates_the_conversion(house):
    eight_touches(house)
    path = f"{PREFIX}/1001/calculate"
    async with house.visited() as http:
        body = {"conversion_type": "customer", "conversion_value": "100.00", "currency": "EUR"}
        first = await told(http.post(path, json=body))
        again = await told(http.post(path, json={**body, "attribution_model": "last_touch"}))
        without = await told(http.post(path, json={"conversion_type": "customer"}))
        house.clock += timedelta(hours=1)
        more = await told(http.post(path, json={**body, "conversion_value": 120}))
        history = await told(http.get(f"{PREFIX}/1001?model=linear"))
    assert first["event_id"]
    assert (again["event_id"], without["event_id"]) == (None, None)
    assert again["attribution"]["touchpoints"][-1]["weight"] == 1
    assert without["attribution"]["conversion_value"] == 100
    assert more["attribution"]["conversion_value"] == 120
    assert more["attribution"]["conversion_date"] == first["attribution"]["conversion_date"]
    assert [(each["conversion_type"], each["conversion_value"]) for each in history["history"]] == [
        ("lead_created", None),
        ("customer", 120),
    ]
    (restated,) = history["restatements"]
    assert (restated["reason"], restated["event_id"]) == ("conversion", more["event_id"])
    assert (restated["before"]["conversion_value"], restated["after"]["conversion_value"]) == (100, 120)


async def test_the_history_has_every_conversion_by_every_model(house):
    eight_touches(house)
    house.tell("purchase_made", 46, value=Decimal("99.99"), currency="EUR", order_id="o-1")
    house.tell("purchase_refunded", 47, value=Decimal(10), currency="EUR", order_id="o-1")
    late(house, "email_clicked", 45.5, 48)
    async with house.visited() as http:
        history = await told(http.get(f"{PREFIX}/1001"))
        page = await told(http.get(f"{PREFIX}/1001/?limit=1&cursor=1&conversion_type=customer"))
    customer = [each for each in history["history"] if each["conversion_type"] == "customer"]
    assert [each["attribution_model"] for each in customer] == list(TOUCH_MODELS)
    for each in customer:
        assert each["conversion_value"] == Decimal("89.99")
        assert sum(touch["weight"] for touch in each["touchpoints"]) == 1
        assert sum(touch["credit"]["EUR"] for touch in each["touchpoints"]) == Decimal("89.99")
    assert history["total_conversions"] == 2
    assert [
        (each["reason"], each["before"]["conversion_value"], each["after"]["conversion_value"])
        for each in reversed(history["restatements"])
    ] == [
        ("refund", Decimal("99.99"), Decimal("89.99")),
        ("touchpoint", Decimal("89.99"), Decimal("89.99")),
    ]
    newest = history["restatements"][0]
    assert newest["before"]["weights"]["linear"] == {"Email": Decimal("0.25"), "Sales": Decimal("0.75")}
    assert newest["after"]["weights"]["last_touch"] == {"Email": 1}
    assert (newest["before"]["total_touchpoints"], newest["after"]["total_touchpoints"]) == (8, 9)
    assert (page["total_conversions"], page["history"]) == (1, [])


async def test_a_merge_restates_the_credits_of_the_lead_that_stays(house):
    house.tell("ad_clicked", 1, lead_id="other", traffic_origin=TrafficOrigin(group="Paid Search"))
    house.tell("form_submitted", 2)
    house.tell("purchase_made", 3, value=Decimal(50), currency="EUR")
    house.tell("leads_merged", 4, lead_id="other", into="1001")
    async with house.visited() as http:
        whole = await told(http.get(f"{PREFIX}/1001?model=first_touch&conversion_type=customer"))
        merged = await told(http.get(f"{PREFIX}/other"))
        refused = await told(http.post(f"{PREFIX}/other/calculate", json={"conversion_type": "x"}), 409)
    (found,) = whole["history"]
    assert [each["channel"] for each in found["touchpoints"]] == ["Paid Search", "Sales"]
    (restated,) = whole["restatements"]
    assert restated["reason"] == "merge"
    assert restated["before"]["weights"]["first_touch"] == {"Sales": 1}
    assert restated["after"]["weights"]["first_touch"] == {"Paid Search": 1}
    assert (merged["merged_into"], merged["history"]) == (1001, [])
    assert "1001" in refused["error"]["reason"]


async def test_an_anonymous_lead_can_convert(house):
    house.tell("ad_clicked", 1, visitor_id="v-1")
    house.clock = T0 + 2 * DAY
    async with house.visited() as http:
        answer = await told(http.post(f"{PREFIX}/anon:v-1/calculate", json={"conversion_type": "signup"}))
    assert answer["lead_id"] == "anon:v-1"
    assert answer["attribution"]["total_touchpoints"] == 1
    assert answer["attribution"]["conversion_value"] is None


WRONG_REQUESTS = [
    ({"conversion_type": "customer", "attribution_model": "z"}, "attribution_model", "first_touch, last_touch"),
    ({"attribution_model": "linear"}, "conversion_type", "missing"),
    ({"conversion_type": ""}, "conversion_type", ""),
    ({"conversion_type": "customer", "conversion_value": -1}, "conversion_value", ""),
    ({"conversion_type": "customer", "conversion_value": 1e30}, "conversion_value", ""),
    ({"conversion_type": "customer", "conversion_value": "much"}, "conversion_value", ""),
    ({"conversion_type": "customer", "conversion_value": 5, "currency": "euro"}, "currency", ""),
    ({"conversion_type": "customer", "currency": "EUR"}, "conversion_value", "a currency needs a value"),
    ([], None, "must be an object"),
]  # fmt: skip


async def test_a_wrong_request_is_refused_with_its_field(house):
    house.tell("form_submitted", 1)
    async with house.visited() as http:
        for body, field, reason in WRONG_REQUESTS:
            answer = await told(http.post(f"{PREFIX}/1001/calculate", json=body), 422)
            assert answer["error"]["field"] == field, body
            assert reason in answer["error"]["reason"]


async def test_an_unknown_lead_or_model_is_refused(house):
    house.tell("form_submitted", 1)
    async with house.visited() as http:
        assert (await told(http.get(f"{PREFIX}/nobody"), 404))["error"]["field"] == "lead_id"
        await told(http.post(f"{PREFIX}/nobody/calculate", json={"conversion_type": "x"}), 404)
        refused = await told(http.get(f"{PREFIX}/1001?model=markov"), 422)
    assert "w_shaped" in refused["error"]["reason"]


async def test_a_value_without_a_currency_has_none(house):
    """XXX is the code of ISO 4217 for no currency; what producers send without one counts as it, too."""
    house.tell("form_submitted", 1, form_name="Trial form")
    house.tell("conversion_recorded", 2, conversion_type="trial", value=Decimal("12.50"))
    async with house.visited() as http:
        (found,) = (await told(http.get(f"{PREFIX}/1001?model=linear&conversion_type=trial")))["history"]
    assert (found["first_touch"]["source"], found["first_touch"]["name"]) == ("form", "Trial form")
    assert (found["conversion_value"], found["currency"]) == (Decimal("12.50"), "XXX")

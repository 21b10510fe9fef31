"""/api/lead-tracking/attribution/stats/summary over both real stages, the analytics worker and a real PostgreSQL."""

import json
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import psycopg
import pytest
from attribution_oracle import shares_by_orders, touch_weights
from test_lifecycle_api import DAY, T0, House

from authoring.active_models import built_in_rules
from projections.analytics_worker import compute_every_stale_lead, no_settings
from projections.table_definition import LIVE_SCHEMA
from schemas.envelope import Campaign, Context, TrafficOrigin
from scoring.attribution.attribution_text import compile_attribution
from scoring.attribution.rules import TOUCH_MODELS, built_in_attribution

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

PATH = "/api/lead-tracking/attribution/stats/summary"
CHANNELS = {"A": "Paid Search", "B": "Email", "C": "Organic Search", "D": "Referral", "E": "Paid Social"}
JOURNEYS = [
    ("AB", 100_00, "EUR"),
    ("A", 20_01, "EUR"),
    ("ACB", 33_33, "EUR"),
    ("DCE", 70_00, "USD"),
    ("E", 5_55, "EUR"),
    ("", 9_99, "EUR"),
    ("AB", None, None),
    ("C", None, None),
    ("EDCBA", 1_00, "EUR"),
    ("BB", None, None),
]
"""Of each lead: the channels of its clicks on one day, and what it bought on the next one, if anything."""


def stage_fed(url):
    house = House(url)
    for number, (channels, minor, currency) in enumerate(JOURNEYS):
        lead = f"L{number}"
        house.tell("page_viewed", 0, lead_id=lead)
        for step, each in enumerate(channels):
            house.tell(
                "ad_clicked",
                10 + step / 1_000_000,
                lead_id=lead,
                traffic_origin=TrafficOrigin(group=CHANNELS[each]),
                context=Context(campaign=Campaign(name=f"campaign {each}")),
            )
        if minor is not None:
            value = Decimal(minor).scaleb(-2)
            house.tell("purchase_made", 11, lead_id=lead, value=value, currency=currency, order_id="o")
    house.clock = T0 + 20 * DAY
    compute(url)
    return house


def compute(url):
    with psycopg.connect(url) as connection:
        compute_every_stale_lead(connection, no_settings, LIVE_SCHEMA)


async def summary(http, **asked):
    answer = await http.get(PATH, params=asked)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


BOUGHT = [(channels, minor, currency) for channels, minor, currency in JOURNEYS if minor is not None]


async def test_the_summary_is_what_a_plain_count_of_the_journeys_gives(database_url):
    house = stage_fed(database_url)
    async with house.visited() as http:
        seen = await summary(http, days=30)
        with_intervals = await summary(http, days=30, intervals="true")
        again = await summary(http, days=30, intervals="true")
        before = await summary(http, **{"from": "2029-12-01", "to": "2030-01-12"})
        new = await summary(http, days=30, conversion_type="lead_created")

    assert seen["total_conversions"] == len(JOURNEYS) + len(BOUGHT)
    revenue = seen["total_revenue"]
    assert revenue == {"EUR": Decimal("169.88"), "USD": 70}

    by_type = {each["conversion_type"]: each for each in seen["conversions_by_type"]}
    assert by_type["lead_created"]["conversions"] == len(JOURNEYS)
    customers = by_type["customer"]
    assert (customers["conversions"], customers["without_touchpoints"]) == (7, 1)
    euro = customers["values"]["EUR"]
    assert (euro["conversions"], euro["value"], euro["avg_value"]) == (6, Decimal("169.88"), Decimal("28.31"))
    assert customers["avg_journey_duration_days"] == 1
    assert customers["touchpoints_to_conversion"]["mean"] == Decimal("2.5")  # (2 + 1 + 3 + 3 + 1 + 5) / 6

    lines = {each["channel"]: each for each in seen["channels"]}
    for model in TOUCH_MODELS:
        right = Counter()
        for channels, _, _ in BOUGHT:
            right.update(
                touch_weights([CHANNELS[each] for each in channels], model) if channels else {"(none)": 1}
            )
        for channel, line in lines.items():
            # Clicks of one lead are a tenth of a second apart, which time decay sees.
            assert abs(Fraction(line["conversions"][model]) - right[channel]) < Fraction(1, 10**5), model
        assert sum(line["conversions"][model] for line in lines.values()) == 7

    for model in seen["models"]:
        assert sum(line["conversions"][model] for line in lines.values()) == 7
        for currency, total in revenue.items():
            credited = [
                line["values"][currency][model] for line in lines.values() if currency in line["values"]
            ]
            assert sum(credited) == total, (model, currency)

    paths = [([CHANNELS[each] for each in channels], 1) for channels, *_ in BOUGHT if channels]
    for channel, share in shares_by_orders(paths, list(CHANNELS.values())).items():
        assert abs(Fraction(lines[channel]["conversions"]["shapley"]) - share) < Fraction(1, 10**8)
    assert seen["markov"]["converting_paths"] == 6
    assert seen["markov"]["open_paths"] == 3
    assert lines["(none)"]["conversions"] == dict.fromkeys(seen["models"], 1)

    (social,) = [each for each in seen["sources"] if each["name"] == "campaign E"]
    assert (social["type"], social["channel"]) == ("campaign", "Paid Social")
    assert social["conversions"] == {
        model: lines["Paid Social"]["conversions"][model] for model in TOUCH_MODELS
    }

    assert with_intervals == again
    for line in with_intervals["channels"]:
        for model, (low, high) in line["intervals"].items():
            assert low <= line["conversions"][model] <= high, (line["channel"], model)
    assert {line["channel"]: line["conversions"] for line in with_intervals["channels"]} == {
        line["channel"]: line["conversions"] for line in seen["channels"]
    }

    assert before["total_conversions"] == len(JOURNEYS)  # created on 1 January, customers on 12 January
    assert before["channels"] == []
    assert [line["channel"] for line in new["channels"]] == ["(none)"]


async def test_late_facts_are_in_the_summary_once_they_are_computed(database_url):
    house = House(database_url)
    house.tell("ad_clicked", 1, traffic_origin=TrafficOrigin(group="Paid Search"))
    house.tell("purchase_made", 2, value=Decimal(100), currency="EUR", order_id="o")
    compute(database_url)
    house.tell("purchase_refunded", 3, value=Decimal(30), currency="EUR", order_id="o")
    house.tell("email_clicked", 4, lead_id="other")
    house.tell("leads_merged", 5, lead_id="other", into="1001")
    compute(database_url)
    async with house.visited() as http:
        seen = await summary(http, days=30)
    assert seen["total_revenue"] == {"EUR": 70}
    (line,) = seen["channels"]
    assert line["values"]["EUR"]["shapley"] == 70
    with psycopg.connect(database_url) as connection:
        stored = connection.execute(
            "select reason, before -> 'values', after -> 'values' from live.credit_restatements order by number"
        ).fetchall()
    assert stored == [("refund", [["EUR", 10000]], [["EUR", 7000]])]


async def test_revenue_in_the_reporting_currency_leaves_out_what_has_no_rate(database_url):
    house = House(database_url)
    text = built_in_attribution() + '\nreporting_currency = "EUR"\nrates = { USD = 0.92 }\n'
    rules = compile_attribution(text)

    async def published(tenant):
        return (await built_in_rules(tenant))._replace(attribution=rules)

    house.ports = house.ports.__class__(**{**vars(house.ports), "published": published})
    for lead, currency in (("a", "EUR"), ("b", "USD"), ("c", "JPY")):
        house.tell("purchase_made", 1, lead_id=lead, value=Decimal(100), currency=currency)
    compute(database_url)
    async with house.visited() as http:
        seen = await summary(http, days=30)
    assert seen["reporting"] == {"currency": "EUR", "total_revenue": 192, "without_rate": ["JPY"]}
    assert list(seen["total_revenue"]) == ["EUR", "JPY", "USD"]


async def test_visitors_without_an_identity_count_only_if_asked_for(database_url):
    house = House(database_url)
    house.tell("ad_clicked", 1, visitor_id="v")
    compute(database_url)
    async with house.visited() as http:
        without = await summary(http, days=30)
        with_them = await summary(http, days=30, include_anonymous="true")
        wrong = await http.get(PATH, params={"markov_order": 4})
    assert (without["total_conversions"], with_them["total_conversions"]) == (0, 1)
    assert wrong.status_code == 422

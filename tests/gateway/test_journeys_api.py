"""/api/lead-tracking: scoring, engagement, journey and summaries over both real stages and a real PostgreSQL."""

import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import httpx
import psycopg
import pytest
from test_lifecycle_api import DAY, T0, House

from authoring.active_models import ActiveRules
from gateway.api import journeys
from gateway.api.composite_scoring import components_json
from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from projections.analytics_worker import compute_every_stale_lead
from projections.table_definition import LIVE_SCHEMA
from schemas.events import PageViewed
from schemas.moment import millis
from scoring.analytics.settings import AnalyticsSettings
from scoring.features.calendar import DAY_MS, calendar
from scoring.features.features import Features, evolve
from scoring.features.signals import SignalCatalogue
from scoring.lifecycle.lifecycle import built_in_lifecycle
from scoring.models.model import Subject, built_in_models, compile_model

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

PREFIX = "/api/lead-tracking"
NOW_MS = millis(T0)
COMPONENTS = {"demographic": 85, "behavioral": 72, "firmographic": 65, "engagement": 90, "intent": 68}


@pytest.fixture
def anyio_backend():
    return "asyncio"


def model_with(components):
    """The built-in model with its weights and bands, its components given as they are."""
    text = built_in_models()["composite"]
    groups = [
        f"[groups.{group.name}]\nweight = {group.weight / 1000}\nmax = 100\n"
        f'rules = [{{ name = "given", base = {components[group.name]} }}]'
        for group in compile_model(text).groups
    ]
    return compile_model(text[: text.index("[groups.")] + "\n".join(groups))


def rules_in(zone, models=None):
    models = models or {"composite": compile_model(built_in_models()["composite"])}

    async def published(_tenant):
        return ActiveRules(models, calendar(zone), 1_800_000, built_in_lifecycle())

    return published


def compute(house, zone="UTC"):
    with psycopg.connect(house.url) as connection:
        compute_every_stale_lead(connection, lambda _: {"*": AnalyticsSettings(zone)}, LIVE_SCHEMA)


async def read(http, path, status=200):
    answer = await http.get(f"{PREFIX}/{path}")
    assert answer.status_code == status, answer.text
    return answer.json()


async def send(http, path, status=200, **body):
    answer = await http.post(f"{PREFIX}/{path}", json=body) if body else await http.post(f"{PREFIX}/{path}")
    assert answer.status_code == status, answer.text
    return answer.json()


# Scoring


async def test_a_score_is_shown_as_the_requirement_prints_it_and_decays_beside_whole_components():
    """85 x .20 + 72 x .25 + 65 x .15 + 90 x .25 + 68 x .15 = 77.45; 25 inactive days take 2.5."""
    model = model_with(COMPONENTS)
    active = await rules_in("UTC", {"composite": model})("default")
    viewed = SignalCatalogue.of([model]).feature_delta_of(
        PageViewed(event_id="e", occurred_at=T0, visitor_id="v"), NOW_MS, 0
    )
    features = Features()
    evolve(features, viewed)
    subject = Subject(features)
    weights = {
        "demographic": 0.2,
        "behavioral": 0.25,
        "firmographic": 0.15,
        "engagement": 0.25,
        "intent": 0.15,
    }
    assert components_json(active, model, subject, NOW_MS) == {
        "total_score": 77.45,
        "grade": "B+",
        "temperature": "hot",
        "components": COMPONENTS,
        "score_factors": COMPONENTS | {"weights": weights},
        "decay": 0,
    }
    later = components_json(active, model, subject, NOW_MS + 25 * DAY_MS)
    assert (later["total_score"], later["decay"], later["components"]) == (74.95, -2.5, COMPONENTS)


async def test_a_score_is_that_of_now_and_has_the_components_of_what_the_lead_did(database_url):
    """Demographic 10+10+15+10+20+10+10 = 85; behavioral 50+15+5+1 and one active day = 72; firmographic 50+20+5+10 = 85;
    engagement: contact 40, consent 30, customer 100, at most 100; intent: three acts of 15. 17+18+12.75+25+6.75 = 79.5
    """
    profile = {"first_name": "A", "last_name": "B", "phone": "+971501234567", "location": "Dubai"}
    profile |= {"customer_type": "athlete", "sport_type": "run", "interests": ["bikes"]}
    settings = Settings(database_url=database_url, partitions=1)
    with open_system(settings) as system:
        app = create_app(ports_of(system, settings))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            events = [{"type": kind} for kind in ("form_submitted", "email_clicked", "page_viewed")]
            events += [
                {"type": "profile_updated", "fields": profile},
                {"type": "consent_changed", "email": True},
            ]
            events += [{"type": "purchase_made", "value": 10, "currency": "EUR"}]
            sent = [each | {"lead_id": "123", "source": "crm"} for each in events]
            await http.post("/v1/events?wait=10", json=sent)
            calculated = await send(http, "scoring/123/calculate/")
            current = await read(http, "scoring/123/")
            every = await send(http, "scoring/bulk-calculate")
    score = current["score"]
    assert (current["lead_id"], calculated["calculated"], calculated["score"]) == (123, True, score)
    assert score["components"]["demographic"] == 85
    assert score["components"]["behavioral"] == 72
    assert score["components"]["engagement"] == 100
    weighed = sum(
        score["components"][name] * share for name, share in score["score_factors"]["weights"].items()
    )
    assert score["total_score"] == pytest.approx(weighed)
    assert (every["status"], every["calculated"]) == ("done", 1)


async def test_scores_of_all_leads_are_calculated_without_a_body_and_of_some_by_name(database_url):
    house = House(database_url)
    for lead in ("1", "2", "3"):
        house.tell("email_opened", 0, lead_id=lead)
    house.clock = T0 + 40 * DAY  # contact and activity have faded
    async with house.visited() as http:
        await send(http, "scoring/nobody/calculate", status=404)
        named = await send(http, "scoring/bulk-calculate", lead_ids=[1, "nobody"])
        every = await send(http, "scoring/bulk-calculate")
        again = await read(http, f"scoring/bulk-calculate/{every['id']}")
        refused = await send(http, "scoring/bulk-calculate", status=422, lead_ids=[1], recalculate_all=True)
    assert (named["calculated"], named["failed"], every["total"], every["calculated"]) == (1, 1, 3, 3)
    assert again == every
    assert refused["error"]["field"] == "lead_ids"


# Engagement


async def test_an_engagement_keeps_revenue_currency_and_device_of_every_type(database_url):
    house = House(database_url)
    form = {
        "engagement_type": "form_submitted",
        "engagement_channel": "web",
        "source_type": "form",
        "source_id": 456,
        "source_name": "Contact Form",
        "title": "Contact Form Submission",
        "engagement_value": 85,
        "device_type": "desktop",
    }
    async with house.visited() as http:
        recorded = await send(http, "engagement/123", **form)
        house.clock += timedelta(hours=1)
        await send(
            http, "engagement/123/", engagement_type="meeting_scheduled", revenue="1200.50", currency="EUR"
        )
        house.clock += timedelta(hours=1)
        order = {"order_id": "A1"}
        await send(
            http,
            "engagement/123",
            engagement_type="purchase_made",
            revenue=5000,
            currency="JPY",
            device_type="mobile",
            details=order,
        )
        house.clock += timedelta(hours=1)
        await send(http, "engagement/123", engagement_type="custom:webinar", metadata={"room": "b"})
        newest = await read(http, "engagement/123/history?limit=3")
        older = await read(http, f"engagement/123/history?limit=3&cursor={newest['next_cursor']}")
        paid = await read(http, "engagement/123/history?with_revenue=true")
        forms = await read(
            http,
            "engagement/123/history?engagement_type=form_submitted&engagement_type=sms_sent&source_id=456",
        )
        none = await read(http, "engagement/123/history?to=2030-01-01")
        either = "engagement/123/history?engagement_type=custom:webinar&engagement_type=meeting_scheduled"
        own, other = await read(http, either), await read(http, f"{either.partition('&')[0]}s")
        wrong = [
            await read(http, f"engagement/123/history?{filter_}", status=422)
            for filter_ in ("engagement_type=form", "engagement_type=custom", "engagement_channel=pigeon")
        ]
        revenue = (await http.get("/api/leads/123")).json()["revenue"]
    assert (recorded["lead_id"], recorded["engagement_type"], recorded["applied"]) == (
        123,
        "form_submitted",
        True,
    )
    shown = newest["engagements"] + older["engagements"]
    assert [each["engagement_type"] for each in shown] == [
        "custom:webinar",
        "purchase_made",
        "meeting_scheduled",
        "form_submitted",
    ]
    assert {name: shown[3][name] for name in form} == form
    assert [(each["revenue"], each["currency"], each["device_type"]) for each in paid["engagements"]] == [
        (5000, "JPY", "mobile"),
        (1200.5, "EUR", None),
    ]
    assert shown[0]["metadata"] == {"room": "b"}
    assert [each["engagement_type"] for each in own["engagements"]] == ["custom:webinar", "meeting_scheduled"]
    assert other["engagements"] == []
    assert [each["error"]["field"] for each in wrong] == [
        "engagement_type",
        "engagement_type",
        "engagement_channel",
    ]
    assert "did you mean form_submitted?" in wrong[0]["error"]["reason"]
    assert [each["source_id"] for each in forms["engagements"]] == [456]
    assert none["engagements"] == []
    assert older["next_cursor"] is None
    assert revenue == {"JPY": 5000}, "only purchases are revenue of the lead"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"engagement_type": "meeting"}, "engagement_type"),
        ({"engagement_type": "custom"}, "engagement_type"),
        ({"engagement_type": "form_submitted", "engagement_channel": "pigeon"}, "engagement_channel"),
        ({"engagement_type": "form_submitted", "revenue": 1}, "currency"),
        ({"engagement_type": "form_submitted", "currency": "EUR"}, "revenue"),
        ({"engagement_type": "form_submitted", "revenue": -1, "currency": "EUR"}, "revenue"),
        ({"engagement_type": "form_submitted", "revenue": 1e13, "currency": "EUR"}, "revenue"),
        ({"engagement_type": "purchase_made"}, "revenue"),
        ({"engagement_type": "form_submitted", "engagement_value": 101}, "engagement_value"),
        ({"title": "no type"}, "engagement_type"),
        ({"engagement_type": "email_sent", "details": {"message_id": 7}}, "details.message_id"),
        ({"engagement_type": "form_submitted", "engagement_valeu": 85}, "engagement_valeu"),
    ],
)
async def test_a_wrong_engagement_is_refused_by_its_field_and_not_recorded(database_url, body, field):
    house = House(database_url)
    async with house.visited() as http:
        refused = await send(http, "engagement/123", status=422, **body)
        await read(http, "engagement/123/history", status=404)
    assert refused["error"]["field"] == field


@pytest.mark.parametrize("report", ["stats/summary", "stats/summary/", "123/history", "123/history/"])
async def test_a_post_to_the_address_of_a_report_records_nothing(database_url, report):
    async with House(database_url).visited() as http:
        refused = await http.post(f"{PREFIX}/engagement/{report}", json={"engagement_type": "qr_scanned"})
        await read(http, f"engagement/{report.removesuffix('/')}/history", status=404)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


# Journeys


async def test_a_journey_by_hand(database_url):
    """Form on day 0, e-mail to the lead on day 1, its reply on day 3, an order of 100.00 on day 20, refunded by 40.00
    on day 30. Now is day 50: the last interaction, the order, is 30 days ago.
    """
    house = House(database_url)
    house.tell("form_submitted", 0)
    house.tell("email_sent", 1)
    house.tell("email_replied", 3)
    house.tell("purchase_made", 20, value=Decimal(100), currency="EUR", order_id="A1")
    house.tell("purchase_refunded", 30, value=Decimal(40), currency="EUR", order_id="A1")
    house.clock = T0 + 50 * DAY
    async with house.visited() as http:
        answer = await read(http, "journey/1001?limit=2")
        journey = answer["journey"]
        await read(http, "journey/nobody", status=404)
    assert answer["lead_id"] == 1001
    assert (journey["journey_start_date"], journey["last_activity_date"], journey["duration_days"]) == (
        "2030-01-01T12:00:00Z",
        "2030-01-21T12:00:00Z",
        20,
    )
    assert (journey["current_stage"], journey["completed_stages"]) == ("customer", ["new", "contacted"])
    assert journey["milestones"]["first_contact"] == "2030-01-02T12:00:00Z"
    assert journey["milestones"]["customer"] == "2030-01-21T12:00:00Z"
    counts = ("total_engagements", "total_touchpoints", "email_engagements", "form_submissions", "purchases")
    assert [journey[name] for name in counts] == [3, 4, 1, 1, 1]
    assert journey["time_between_touches"] == {
        "average_hours": 240,
        "median_hours": 240,
        "longest_hours": 408,
    }
    assert (journey["engagement_trend"], journey["days_since_last_activity"]) == ("stable", 30)
    assert (journey["risk_of_churn"], journey["high_churn_risk"], journey["activity_status"]) == (
        0.3333,
        False,
        "active",
    )
    assert (journey["lifetime_value"], journey["total_revenue"]) == (60, 100)
    assert len(answer["timeline"]) == 2
    assert answer["next_cursor"]


async def test_a_merged_lead_names_the_one_to_ask_for_and_a_timeline_pages_to_its_beginning(database_url):
    house = House(database_url)
    house.tell("form_submitted", 0, lead_id="A")
    house.tell("email_opened", 1, lead_id="B")
    house.tell("leads_merged", 2, lead_id="B", into="A")
    async with house.visited() as http:
        refused = await read(http, "journey/B", status=409)
        items, cursor = [], ""
        while cursor is not None:
            page = await read(http, f"journey/A?limit=2{cursor and f'&cursor={cursor}'}")
            items += page["timeline"]
            cursor = page["next_cursor"]
        whole = (await read(http, "journey/A?limit=500"))["timeline"]
    assert "merged into A" in refused["error"]["reason"]
    assert items == whole
    assert [each["from_lead"] for each in items if each["kind"] == "merged"] == ["B"]
    events = [each["type"] for each in items if each["kind"] == "event"]
    assert events[-2:] == ["email_opened", "form_submitted"]


async def all_pages(http, path, entries, limit):
    """(the first answer without its list, every entry)"""
    found, cursor = [], ""
    while cursor is not None:
        answer = await read(
            http, f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor and f'&cursor={cursor}'}"
        )
        found += answer.pop(entries)
        cursor = answer.pop("next_cursor")
    return answer, found


async def test_a_lead_with_many_events_has_the_same_answers_from_what_is_stored(database_url, monkeypatch):
    """The numbers from the worker's tables, the timeline page by page from the facts: as computed of all facts at once."""
    chance = random.Random(5)
    house = House(database_url)
    kinds = ("page_viewed", "email_sent", "email_clicked", "call_made", "form_submitted")
    for number in range(30):
        lead_id = chance.choice("AB")
        house.tell(
            chance.choice(kinds), chance.choice([-60, -40, -20, -9, -1]) + number % 3 / 2, lead_id=lead_id
        )
    house.tell("purchase_made", -3, lead_id="A", order_id="o1", value=100, currency="EUR")
    house.tell("purchase_refunded", -2, lead_id="A", order_id="o1", value=40, currency="EUR")
    house.tell("leads_merged", 0, lead_id="B", into="A")
    compute(house)
    paths = [
        ("journey/A", "timeline", (1, 3, 500)),
        ("summaries/A", "summaries", (1, 4, 300)),
        ("summaries/A?period=weekly", "summaries", (1, 300)),
        ("summaries/A?period=monthly", "summaries", (1, 300)),
        ("summaries/A?days=30&period=weekly", "summaries", (2,)),
    ]
    answers = {}
    async with house.visited() as http:
        for most in (500, 0):
            monkeypatch.setattr(journeys, "COMPUTED_FACTS", most)
            answers[most] = [
                await all_pages(http, path, entries, limit)
                for path, entries, limits in paths
                for limit in limits
            ]
    assert answers[0] == answers[500]
    assert len(answers[0][0][1]) > 40


async def test_a_wrong_cursor_is_refused_in_words(database_url):
    house = House(database_url)
    house.tell("form_submitted", 0, lead_id="A")
    async with house.visited() as http:
        for path in (
            "journey/A?cursor=x",
            f"journey/A?cursor={10**19 - 1}_0_0_0_0",
            "summaries/A?cursor=x",
            "summaries/A?cursor=2030-13-01",
            "engagement/A/history?cursor=x",
        ):
            error = (await read(http, path, status=422))["error"]
            assert error == {"field": "cursor", "reason": "must be the cursor that the page before gave"}


async def test_without_a_window_the_overview_is_of_all_leads_however_old(database_url):
    house = House(database_url)
    house.tell("form_submitted", -40 * 365, lead_id="A")
    compute(house)
    async with house.visited() as http:
        of_all = await read(http, "journey/stats/overview")
        until = await read(http, "journey/stats/overview?to=1960-01-01")
    assert of_all["total_journeys"] == 1
    assert until["total_journeys"] == 0


def random_company(house, seed):
    chance = random.Random(seed)
    kinds = ["page_viewed", "form_submitted", "email_sent", "email_opened", "call_made", "purchase_made"]
    moments = sorted(chance.random() * 120 for _ in range(60))
    for number, day in enumerate(moments):
        kind = chance.choice(kinds)
        fields = {"lead_id": f"{1 + chance.randrange(6)}"}
        if kind == "purchase_made":
            fields |= {
                "value": Decimal(chance.randrange(1, 500)),
                "currency": chance.choice(["EUR", "USD"]),
                "order_id": f"o{number}",
            }
        house.tell(kind, day, **fields)
    house.clock = T0 + 125 * DAY


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_overview_and_summaries_of_all_are_the_sum_of_those_of_each(database_url, seed):
    """What SQL reads of stored rows, against what each lead's page computes of its facts; across a change of clocks."""
    zone = "America/New_York"
    house = House(database_url, published=rules_in(zone))
    random_company(house, seed)
    compute(house, zone)
    async with house.visited() as http:
        overview = await read(http, "journey/stats/overview")
        leads = [each["lead_id"] for each in (await http.get("/api/leads?limit=100")).json()["leads"]]
        journeys = [(await read(http, f"journey/{lead}"))["journey"] for lead in leads]
        for period in ("daily", "weekly", "monthly"):
            every = await read(http, f"summaries?period={period}&days=200")
            of_each = [
                (await read(http, f"summaries/{lead}?period={period}&days=200&limit=400"))["summaries"]
                for lead in leads
            ]
            totals, revenue, active = {}, {}, Counter()
            for summary in (summary for of_lead in of_each for summary in of_lead):
                name = summary["period"]
                counts = {
                    key: value for key, value in summary.items() if type(value) is int and "score" not in key
                }
                totals.setdefault(name, Counter()).update(counts)
                revenue.setdefault(name, Counter()).update(summary["revenue"])
                active[name] += summary["total_engagements"] > 0
            assert [each["period"] for each in every["summaries"]] == sorted(totals, reverse=True)
            for each in every["summaries"]:
                name = each["period"]
                assert {key: each[key] for key in totals[name]} == totals[name]
                assert each["revenue"] == pytest.approx(revenue[name])
                assert each["active_leads"] == active[name]
            assert sum(each["new_leads"] for each in every["summaries"]) == len(leads)
    assert overview["total_journeys"] == len(leads) == 6
    trends = Counter(each["engagement_trend"] for each in journeys)
    assert {name: count for name, count in overview["engagement_trends"].items() if count} == trends
    activity = Counter(each["activity_status"] for each in journeys)
    assert {name: count for name, count in overview["activity"].items() if count} == activity
    assert overview["high_churn_risk_count"] == sum(each["high_churn_risk"] for each in journeys)
    risk = sum(each["risk_of_churn"] for each in journeys) / len(journeys)
    assert overview["avg_risk_of_churn"] == pytest.approx(risk, abs=0.006)
    days = sum(each["duration_days"] for each in journeys) / len(journeys)
    assert overview["avg_duration_days"] == pytest.approx(days, abs=0.01)
    for currency, row in overview["revenue"].items():
        net = [
            each["revenue"][currency]["lifetime_value"] for each in journeys if currency in each["revenue"]
        ]
        assert row["total_lifetime_value"] == pytest.approx(sum(net))


async def test_a_late_event_corrects_its_day_and_a_refund_the_day_of_the_order(database_url):
    house = House(database_url, published=rules_in("Asia/Kolkata"))
    house.tell("purchase_made", 0, value=Decimal(100), currency="EUR", order_id="A1")
    async with house.visited() as http:
        before = await read(http, "summaries/1001?days=60")
        house.tell("purchase_refunded", 20, value=Decimal(30), currency="EUR", order_id="A1")
        house.clock = T0 + 20 * DAY
        await send(
            http, "engagement/1001", engagement_type="email_opened", occurred_at="2030-01-01T18:30:00Z"
        )
        after = await read(http, "summaries/1001?days=60")
    (first,) = before["summaries"]
    assert (first["period"], first["revenue"]) == ("2030-01-01", {"EUR": 100})
    days = {each["period"]: each for each in after["summaries"]}
    assert days["2030-01-01"]["revenue"] == {"EUR": 70}
    assert (days["2030-01-02"]["emails_opened"], days["2030-01-02"]["total_engagements"]) == (1, 1)

"""/api/lead-tracking/analytics and engagement/stats over a real PostgreSQL: equal to plain loops over the same rows, and
to numbers calculated by hand.
"""

import asyncio
import json
import random
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from analytics_oracle import (
    CENTS,
    ENGAGEMENTS,
    FUNNEL,
    GRADES,
    SIDE,
    Company,
    Oracle,
    local_midnight,
    minor,
    percentile,
    previous_month,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authoring.active_models import built_in_rules
from gateway import documented
from gateway.app import create_app
from gateway.ports import Ports
from projections.analytics_worker import compute_every_stale_lead
from projections.facts import keys_of_bands
from projections.migrate import migrate
from projections.row_keys import lead_row_key
from projections.table_definition import LIVE_SCHEMA
from projections.table_sets import ANALYTICS_TABLES
from scoring.analytics.settings import AnalyticsSettings
from scoring.features.calendar import calendar

pytestmark = pytest.mark.postgres

PREFIX = "/api/lead-tracking"
EMPTY_LEAD = {"as_of": datetime(2030, 1, 1, tzinfo=UTC), "counts": "{}", "fields": "{}"}


class House:
    """What the gateway is told of a company: its time zone and the moment."""

    company = None

    def now(self):
        return self.company.now

    async def published(self, tenant):
        return (await built_in_rules(tenant))._replace(zone=calendar(self.company.zone.key))


async def nothing_is_appended(_records):
    raise AssertionError("reports write nothing")


@asynccontextmanager
async def visited(url, house):
    app = create_app(
        Ports(append=nothing_is_appended, database_url=url, now=house.now, published=house.published)
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
    ):
        yield http


async def report(http, path, **asked):
    answer = await http.get(f"{PREFIX}/{path}", params=asked)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text, parse_float=Decimal)


def store(url, company, *, restated=False):
    """The company's rows and nothing else, and what the analytics worker makes of them; or of what changed since."""
    keys = {each["lead_key"]: lead_row_key(each["tenant"], f"L{each['lead_key']}") for each in company.leads}

    def keyed(rows):
        return [each | {"lead_key": keys[each["lead_key"]]} for each in rows]

    of_key = {each["lead_key"]: each for each in keyed(company.leads)}

    def bought(event):
        if event["type"] != "purchase_made":
            return {}
        return {"revenue_minor": minor(event["details"]), "currency": event["details"]["currency"]}

    tables = {
        "leads": [
            EMPTY_LEAD | each | {"lead_id": f"L{number}", "position": 0}
            for number, each in zip(keys, keyed(company.leads), strict=True)
        ],
        "identities": [
            each
            | {"identity": str(each["identity_key"]), "lead_id": "", "epoch": 1}
            | {"home": "", "attached_at": company.now}
            for each in keyed(company.identities)
        ],
        "stage_history": [each | {"reason": "", "caused_by": ""} for each in keyed(company.stages)],
        "score_history": [
            each
            | {"model": "composite", "version": 1, "change": each["total"] - each["previous"]}
            | {"bands": "{}", "lines": "[]", "caused_by": "", "removed": False}
            for each in keyed(company.ledger)
        ],
        "lead_scores": [
            each
            | {"model": "composite", "version": 1, "bands": json.dumps(each["bands"]), "position": 0}
            | {"as_of": company.now, "band_keys": keys_of_bands(each["bands"])}
            | {name: lead[name] for name in ("tenant", "identified", "created_at", "stage")}
            | {"listed": lead["identities"] > 0}
            for each in keyed(company.scores)
            for lead in [of_key[each["lead_key"]]]
        ],
        "engagement_history": [
            each
            | {"partition": 0, "source": "web", "recorded_at": each["occurred_at"], "late": False}
            | {"imported": False, "details": json.dumps(each["details"])}
            | bought(each)
            for each in company.events
        ],
    }
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for table in () if restated else ANALYTICS_TABLES:
            cursor.execute(f"truncate live.{table.name}")
        for table, rows in tables.items():
            cursor.execute(f"truncate live.{table}")
            if rows:
                names = ", ".join(rows[0])
                values = ", ".join(f"%({name})s" for name in rows[0])
                cursor.executemany(f"insert into live.{table} ({names}) values ({values})", rows)
        in_zone = {"*": AnalyticsSettings(company.zone.key)}
        mark = "insert into live.stale_leads (lead_key, marked_at) select lead_key, now() from live.leads"
        cursor.execute(mark)
        compute_every_stale_lead(connection, lambda _: in_zone, LIVE_SCHEMA)


def share(part, whole):
    return round(Decimal(part) / whole, 4) if whole else None


def close(shown, exact, digits=4):
    """Equal to the digits that are shown."""
    if exact is None or shown is None:
        assert shown is exact is None
    else:
        assert abs(Decimal(str(exact)) - shown) <= Decimal("0.501").scaleb(-digits)


def test_every_report_equals_plain_loops_over_the_rows(database_url, monkeypatch):
    monkeypatch.setattr("gateway.store.ROWS_AT_ONCE", 3)  # a lead's orders come in several parts
    migrate(database_url)
    house = House()

    @given(seed=st.integers(0, 2**32), anonymous=st.booleans())
    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    def compare_company(seed, anonymous):
        company = house.company = Company(seed)
        store(database_url, company)
        runner.run(compare(http, Oracle(company, anonymous=anonymous), anonymous))
        company.restate(random.Random(seed))
        store(database_url, company, restated=True)
        runner.run(compare(http, Oracle(company, anonymous=anonymous), anonymous))

    with asyncio.Runner() as runner:
        visit = visited(database_url, house)
        http = runner.run(visit.__aenter__())
        try:
            compare_company()
        finally:
            runner.run(visit.__aexit__(None, None, None))


async def compare(http, oracle, anonymous):
    asked = {"include_anonymous": "true"} if anonymous else {}
    await compare_funnel(http, oracle, asked)
    await compare_cohorts(http, oracle, asked)
    await compare_quality(http, oracle, asked)
    await compare_engagement(http, oracle, asked)
    await compare_conversions(http, oracle, asked)
    await compare_speed(http, oracle, asked)
    await compare_summaries(http, oracle, asked)


def window_of(oracle, days):
    last = oracle.day(oracle.now) + timedelta(days=1)
    return last - timedelta(days=days), last


async def compare_funnel(http, oracle, asked):
    for days in (1, 90, 365):
        reached, current, stays = oracle.funnel(*window_of(oracle, days))
        shown = await report(http, "analytics/funnel", days=days, **asked)
        assert shown["total_leads"] == reached[0]
        assert [each["reached"] for each in shown["stages"]] == reached
        assert [each["stage"] for each in shown["stages"]] == FUNNEL
        assert [each["stage"] for each in shown["outside"]] == SIDE
        for number, each in enumerate([*shown["stages"], *shown["outside"]]):
            assert each["current"] == current[each["stage"]]
            seconds = stays[each["stage"]]
            assert each["stays"] == len(seconds)
            close(each["avg_duration_days"], sum(seconds) / len(seconds) / 86_400 if seconds else None)
            close(each["median_duration_days"], percentile(seconds, 0.5) / 86_400 if seconds else None)
            close(each["p90_duration_days"], percentile(seconds, 0.9) / 86_400 if seconds else None)
            if number < 5:
                onward = reached[number + 1]
                assert each["drop_off"] == reached[number] - onward
                close(each["conversion_rate"], share(onward, reached[number]))
        assert [
            (each["from"], each["to"], each["target"], each["leads"], each["converted"], each["meets_target"])
            for each in shown["conversions"]
        ] == [
            (start, to, target, leads, converted, converted >= target * leads if leads else None)
            for start, to, target in (
                ("new", "contacted", Decimal("0.7")),
                ("contacted", "qualified", Decimal("0.4")),
                ("qualified", "opportunity", Decimal("0.3")),
                ("opportunity", "customer", Decimal("0.25")),
            )
            for leads, converted in [(reached[FUNNEL.index(start)], reached[FUNNEL.index(to)])]
        ]


async def compare_cohorts(http, oracle, asked):
    for cohort_type in ("monthly", "weekly"):
        shown = await report(http, "analytics/cohort", cohort_type=cohort_type, **asked)
        assert len(shown["cohorts"]) == 12
        by_name = {each["cohort"]: each for each in shown["cohorts"]}
        cohorts, orders = defaultdict(list), list(oracle.orders())
        for key, lead in oracle.leads.items():
            day = oracle.day(lead["created_at"])
            week = "{}-W{:02}".format(*day.isocalendar()[:2])
            cohorts[week if cohort_type == "weekly" else f"{day:%Y-%m}"].append(key)
        for name, each in by_name.items():
            keys = cohorts[name]
            assert each["leads"] == len(keys)
            assert each["customers"] == sum(oracle.step(key) == 5 for key in keys)
            close(each["conversion_rate"], share(each["customers"], len(keys)))
            points = [oracle.score[key]["rounded"] for key in keys]
            close(each["average_score"], sum(points) / len(points) if points else None, digits=2)
            assert each["revenue"] == revenue(order for order in orders if order[0] in keys)
        assert shown["total"]["leads"] == sum(each["leads"] for each in shown["cohorts"])


async def compare_quality(http, oracle, asked):
    shown = await report(http, "analytics/lead-quality", days=90, interval="monthly", **asked)
    scores = [oracle.score[key] for key in oracle.leads]
    grades = Counter(each["bands"]["grade"] for each in scores)
    heat = Counter(each["bands"]["temperature"] for each in scores)
    assert {each["grade"]: each["leads"] for each in shown["by_grade"]} == {
        name: grades[name] for name, _ in GRADES
    }
    assert [each["grade"] for each in shown["by_grade"]] == [name for name, _ in GRADES]
    assert {each["temperature"]: each["leads"] for each in shown["by_temperature"]} == {
        name: heat[name] for name in ("hot", "warm", "cold")
    }
    now = sum(each["rounded"] for each in scores) / len(scores) if scores else None
    close(shown["average_score"], now, digits=2)
    assert shown["total_leads"] == len(scores)
    close(shown["a_b_share"], share(sum(grades[name] for name in ("A+", "A", "B+", "B")), len(scores)))

    def average(at):
        points, leads = oracle.average_at(at)
        return points / leads if leads else None

    cut = {"from": (oracle.now - timedelta(days=33, seconds=7)).isoformat(), "to": oracle.now.isoformat()}
    for window in ({"days": 90, "interval": "monthly"}, cut):
        trend = (await report(http, "analytics/lead-quality", **window, **asked))["trend"]
        assert trend
        for each in trend:
            end = datetime.fromisoformat(each["to"])
            close(each["average_score"], average(end) if end <= oracle.now else now, digits=2)
    this_month = oracle.day(oracle.now).replace(day=1)
    before = average(local_midnight(this_month, oracle.zone))
    improvement = shown["score_improvement"]
    assert improvement["month"] == f"{this_month:%Y-%m}"
    assert improvement["previous_month"] == f"{previous_month(this_month):%Y-%m}"
    close(improvement["previous_average_score"], before, digits=2)
    ends = improvement["average_score"], improvement["previous_average_score"]
    assert improvement["change"] == (None if None in ends else ends[0] - ends[1])

    shown = await report(http, "analytics/distribution", **asked)
    ranges = Counter(min(each["rounded"] // 20, 4) for each in scores)
    assert [each["leads"] for each in shown["distribution"]] == [ranges[number] for number in range(5)]


async def compare_engagement(http, oracle, asked):
    midnights = [local_midnight(day, oracle.zone) for day in window_of(oracle, 60)]
    await compare_engagement_within(http, oracle, *midnights, asked | {"days": 60})
    cut = [oracle.now - timedelta(days=50, seconds=11_111), oracle.now - timedelta(seconds=1)]
    names = {"from": cut[0].isoformat(), "to": cut[1].isoformat()}
    await compare_engagement_within(http, oracle, *cut, asked | names)


async def compare_engagement_within(http, oracle, begin, end, asked):
    shown = await report(http, "engagement/stats/summary", interval="daily", **asked)
    inside = [
        each for each in oracle.events if each["type"] in ENGAGEMENTS and begin <= each["occurred_at"] < end
    ]
    orders = [each for each in oracle.orders() if begin <= each[1] < end]
    leads = sum(lead["created_at"] < end for lead in oracle.leads.values())
    assert shown["total_engagements"] == len(inside)
    assert shown["total_leads"] == leads
    close(shown["engagement_rate"], len(inside) / leads if leads else None, digits=2)
    earned = [each for each in inside if each["currency"] and each["type"] != "purchase_made"]
    money_is_right(shown, len(inside), orders, earned)
    for column in ("type", "channel"):
        counts = Counter(each[column] for each in inside)
        rows = {each[f"engagement_{column}"]: each for each in shown[f"by_{column}"]}
        assert {name: each["engagements"] for name, each in rows.items() if each["engagements"]} == counts
        for name, each in rows.items():
            sold = [
                o
                for o in orders
                if name in ("purchase_made", o[2]) and (column == "channel") == (name == o[2])
            ]
            money_is_right(each, counts[name], sold, [e for e in earned if e[column] == name])
    daily = Counter(oracle.day(each["occurred_at"]).isoformat() for each in inside)
    assert {
        each["period"]: each["engagements"] for each in shown["by_period"] if each["engagements"]
    } == daily
    last_day = oracle.day(end - timedelta(milliseconds=1))
    assert len(shown["by_period"]) == (last_day - oracle.day(begin)).days + 1
    for each in shown["by_period"]:
        of_day = [
            [one for one in among if oracle.day(at(one)).isoformat() == each["period"]]
            for among, at in ((orders, lambda o: o[1]), (earned, lambda e: e["occurred_at"]))
        ]
        money_is_right(each, daily[each["period"]], *of_day)
    before = sum(
        begin - (end - begin) <= each["occurred_at"] < begin
        for each in oracle.events
        if each["type"] in ENGAGEMENTS
    )
    assert shown["trend"]["previous_engagements"] == before
    steady = abs(len(inside) - before) <= before / 5
    assert shown["trend"]["direction"] == (
        "stable" if steady else "increasing" if len(inside) > before else "declining"
    )


def money_is_right(shown, engagements, orders, earned):
    assert shown["revenue"] == revenue(orders)
    assert shown["revenue_per_engagement"] == {
        currency: (amount / engagements).quantize(Decimal(1).scaleb(-CENTS[currency]), ROUND_HALF_EVEN)
        for currency, amount in revenue(orders).items()
        if engagements
    }
    assert shown["engagement_revenue"] == revenue(
        [(None, None, None, each["currency"], each["revenue_minor"]) for each in earned]
    )


async def compare_summaries(http, oracle, asked):
    """Weeks and months that the window cuts count only what is inside."""
    for days, period in ((3, "weekly"), (45, "daily"), (45, "weekly"), (45, "monthly"), (200, "monthly")):
        first, last = window_of(oracle, days)
        shown = await report(http, "summaries", days=days, period=period, **asked)
        expected = defaultdict(list)
        for lead, at in oracle.interactions():
            if oracle.within(at, first, last):
                expected[period_name(period, oracle.day(at))].append(lead)
        rows = {each["period"]: each for each in shown["summaries"]}
        assert expected.keys() <= rows.keys()
        created = Counter(
            period_name(period, oracle.day(oracle.leads[key]["created_at"]))
            for key in oracle.created(first, last)
        )
        for name, row in rows.items():
            assert row["total_engagements"] == len(expected[name])
            assert row["active_leads"] == len(set(expected[name]))
            assert row["new_leads"] == created[name]


def period_name(period, on):
    week = "{}-W{:02}".format(*on.isocalendar()[:2])
    return {"daily": on.isoformat(), "weekly": week, "monthly": f"{on:%Y-%m}"}[period]


def revenue(orders):
    money = Counter()
    for _, _, _, currency, amount in orders:
        money[currency] += Decimal(amount).scaleb(-CENTS[currency])
    return dict(money)


async def compare_conversions(http, oracle, asked):
    first, last = window_of(oracle, 365)
    shown = await report(http, "analytics/deciles", days=365, **asked)
    outcomes = []
    for key in oracle.created(first, last):
        at = oracle.converted_at(key)
        points = oracle.score[key]["rounded"]
        if at is not None:
            earlier = [c for c in oracle.company.ledger if c["lead_key"] == key and c["at"] < at]
            latest = max(earlier, key=lambda each: (each["at"], each["position"]), default=None)
            points = 0 if latest is None else int((latest["total"] * 2 + 1) // 2)
        outcomes.append((points, at is not None))
    assert (shown["total_leads"], shown["customers"]) == (len(outcomes), sum(won for _, won in outcomes))
    ends = [len(outcomes) * number // 10 for number in range(11)]
    # Among equal scores every order is equally likely, so each counts as the rate of its score.
    rates = {points: [won for each, won in outcomes if each == points] for points, _ in outcomes}
    expected = [
        sum(rates[points]) / len(rates[points]) for points, _ in sorted(outcomes, key=lambda each: -each[0])
    ]
    for number, decile in enumerate(shown["deciles"]):
        among = expected[ends[number] : ends[number + 1]]
        assert decile["leads"] == len(among)
        close(decile["customers"], sum(among), digits=2)

    shown = await report(http, "analytics/touchpoints-to-conversion", days=365, **asked)
    touches = [
        sum(
            each["lead_key"] == key and each["type"] in ENGAGEMENTS and each["occurred_at"] <= at
            for each in oracle.events
        )
        for key in oracle.leads
        if (at := oracle.converted_at(key)) is not None and oracle.within(at, first, last)
    ]
    assert shown["customers"] == len(touches) == sum(each["customers"] for each in shown["distribution"])
    close(shown["median_touchpoints"], percentile(touches, 0.5) if touches else None)
    close(shown["p90_touchpoints"], percentile(touches, 0.9) if touches else None)
    close(shown["avg_touchpoints"], sum(touches) / len(touches) if touches else None, digits=2)


async def compare_speed(http, oracle, asked):
    shown = await report(http, "analytics/speed-to-contact", days=365, **asked)
    waits, unreached = [], 0
    for key in oracle.created(*window_of(oracle, 365)):
        contacts = [
            each["occurred_at"]
            for each in oracle.events
            if each["lead_key"] == key and each["type"] in {"email_sent", "sms_sent", "call_made"}
        ]
        if contacts:
            waits.append((min(contacts) - oracle.leads[key]["created_at"]).total_seconds())
        else:
            unreached += 1
    inbound = [each for each in waits if each > 0]
    assert (shown["contacted"], shown["outbound"]) == (len(inbound), len(waits) - len(inbound))
    assert shown["total_leads"] == len(inbound) + unreached
    for name, limit in (("within_5_minutes", 300), ("within_1_hour", 3_600), ("within_1_day", 86_400)):
        close(shown[name], share(sum(each <= limit for each in inbound), shown["total_leads"]))
    close(shown["median_seconds"], percentile(inbound, 0.5) if inbound else None, digits=1)


# By hand


def day(number, hour=0, minute=0, month=3):
    return datetime(2030, month, number, hour, minute, tzinfo=UTC)


class FourLeads:
    """Lead 1 became a customer in March for 600 EUR, of which 100 were paid back. Leads 2 and 3 of March are contacted and
    new, lead 4 is of February.
    """

    def __init__(self):
        self.zone, self.now = ZoneInfo("UTC"), day(31, 12)
        created = {1: day(1, 9), 2: day(2, 9), 3: day(5), 4: day(20, month=2)}
        stage = {1: "customer", 2: "contacted", 3: "new", 4: "contacted"}
        self.leads = [
            {
                "lead_key": n,
                "tenant": "default",
                "identified": True,
                "created_at": created[n],
                "identities": 1,
            }
            | {"stage": stage[n]}
            for n in created
        ]
        self.identities = [{"identity_key": 10 * n, "lead_key": n, "tenant": "default"} for n in created]
        entries = [
            (1, day(1, 10), "new", "contacted"),
            (1, day(3, 10), "contacted", "qualified"),
            (1, day(7, 10), "qualified", "opportunity"),
            (1, day(11, 10), "opportunity", "customer"),
            (2, day(2, 9, 4), "new", "contacted"),
            (4, day(21, month=2), "new", "contacted"),
        ]
        self.stages = [
            {"lead_key": n, "at": at, "position": position, "previous": previous, "stage": stage}
            for position, (n, at, previous, stage) in enumerate(entries)
        ]
        changes = [
            (1, day(1, 9), 0, 40),
            (1, day(7, 10), 40, 70),
            (1, day(11, 10), 70, 82),
            (2, day(2, 9), 0, 55),
            (3, day(5), 0, 30),
            (4, day(20, month=2), 0, 50),
            (4, day(10), 50, 76),
        ]
        self.ledger = [
            {"lead_key": n, "at": at, "position": position, "previous": previous, "total": total}
            for position, (n, at, previous, total) in enumerate(changes)
        ]
        bands = {1: ("A", "hot", 82), 2: ("C+", "warm", 55), 3: ("D", "cold", 30), 4: ("B+", "hot", 76)}
        self.scores = [
            {"lead_key": n, "total": total, "rounded": total, "bands": {"grade": grade, "temperature": heat}}
            for n, (grade, heat, total) in bands.items()
        ]
        sold = {"value": 600, "currency": "EUR", "order_id": "o1"}
        earned = {"form_submitted": (12_000, "EUR")}
        events = [
            (1, day(1, 9), "page_viewed", "web", {}),
            (1, day(1, 10), "email_sent", "email", {}),
            (1, day(3), "page_viewed", "web", {}),
            (1, day(11, 10), "purchase_made", "sales", sold),
            (1, day(12), "purchase_refunded", "sales", sold | {"value": 100}),
            (2, day(2, 9), "form_submitted", "web", {}),
            (2, day(2, 9, 4), "sms_sent", "sms", {}),
            (3, day(5), "page_viewed", "web", {}),
            (4, day(20, month=2), "page_viewed", "web", {}),
            (4, day(21, month=2), "call_made", "phone", {}),
            (4, day(10), "page_viewed", "web", {}),
        ]
        self.events = [
            {"identity_key": 10 * n, "tenant": "default", "event_id": f"e{position}", "position": position}
            | {"occurred_at": at, "type": kind, "channel": channel, "details": details}
            | dict(zip(("revenue_minor", "currency"), earned.get(kind, (None, None)), strict=True))
            for position, (n, at, kind, channel, details) in enumerate(events)
        ]


MARCH = {"from": "2030-03-01", "to": "2030-04-01"}
SINCE_FEBRUARY = {"from": "2030-02-01", "to": "2030-04-01"}


def visit(database_url, company, ask):
    async def run():
        async with visited(database_url, house) as http:
            return await ask(http)

    house = House()
    house.company = company
    migrate(database_url)
    return asyncio.run(run())


def test_the_examples_of_the_documents_are_those_numbers(database_url):
    examples = json.loads(
        Path(documented.__file__).parent.joinpath("examples/analytics.json").read_text("utf-8")
    )
    monthly = {"interval": "monthly"}

    async def ask(http):
        store(database_url, FourLeads())
        answers = {
            "funnel": await http.get(f"{PREFIX}/analytics/funnel", params=MARCH),
            "cohort": await http.get(f"{PREFIX}/analytics/cohort", params=SINCE_FEBRUARY),
            "lead_quality": await http.get(
                f"{PREFIX}/analytics/lead-quality/", params=SINCE_FEBRUARY | monthly
            ),
            "distribution": await http.get(f"{PREFIX}/analytics/distribution"),
            "deciles": await http.get(f"{PREFIX}/analytics/deciles", params=MARCH),
            "engagement": await http.get(f"{PREFIX}/engagement/stats/summary/", params=MARCH | monthly),
            "touchpoints": await http.get(f"{PREFIX}/analytics/touchpoints-to-conversion", params=MARCH),
            "speed": await http.get(f"{PREFIX}/analytics/speed-to-contact", params=MARCH),
        }
        return {name: answer.json() for name, answer in answers.items()}

    answers = visit(database_url, FourLeads(), ask)
    assert answers.keys() == examples.keys()
    for name, answer in answers.items():
        assert answer == examples[name], name


def test_nothing_gives_zeros_and_nulls(database_url):
    async def ask(http):
        empty = {"from": "2020-01-01", "to": "2020-01-01"}
        funnel = await report(http, "analytics/funnel", **empty)
        assert [each["reached"] for each in funnel["stages"]] == [0] * 6
        assert {each["conversion_rate"] for each in funnel["conversions"]} == {None}
        assert {each["meets_target"] for each in funnel["conversions"]} == {None}
        cohorts = await report(http, "analytics/cohort", **empty)
        assert cohorts["cohorts"] == []
        assert cohorts["total"]["conversion_rate"] is None
        quality = await report(http, "analytics/lead-quality", **empty)
        assert (quality["total_leads"], quality["average_score"], quality["trend"]) == (0, None, [])
        engagement = await report(http, "engagement/stats/summary", **empty)
        assert (engagement["total_engagements"], engagement["revenue"]) == (0, {})
        assert engagement["engagement_rate"] is None
        deciles = await report(http, "analytics/deciles", **empty)
        assert {each["conversion_rate"] for each in deciles["deciles"]} == {None}
        touches = await report(http, "analytics/touchpoints-to-conversion", **empty)
        assert (touches["customers"], touches["avg_touchpoints"]) == (0, None)
        speed = await report(http, "analytics/speed-to-contact", **empty)
        assert (speed["total_leads"], speed["median_seconds"]) == (0, None)

    visit(database_url, FourLeads(), ask)


WINDOWED = [
    "analytics/funnel",
    "analytics/cohort",
    "analytics/lead-quality",
    "analytics/deciles",
    "analytics/touchpoints-to-conversion",
    "analytics/speed-to-contact",
    "engagement/stats/summary",
    "attribution/stats/summary",
    "journey/stats/overview",
    "summaries",
]


@pytest.mark.parametrize("zone", ["America/Adak", "Pacific/Kiritimati"])
def test_windows_at_the_ends_of_the_calendar_are_answered(database_url, zone):
    """The trend looks at the window before: before year 1 there is none."""
    company = FourLeads()
    company.zone = ZoneInfo(zone)

    async def ask(http):
        for path in WINDOWED:
            for asked in (
                {"to": "0001-01-01"},
                {"to": "0001-01-01T00:00:00-14:00"},
                {"from": "9999-12-31"},
                {"from": "9999-12-31T23:59:59.999-14:00", "to": "9999-12-31"},
                {"from": "0001-01-01", "to": "9999-12-31"},
            ):
                answer = await http.get(f"{PREFIX}/{path}", params=asked)
                assert answer.status_code in {200, 422}, (path, asked, answer.text)

    visit(database_url, company, ask)


WRONG_REQUESTS = [
    ("funnel", {"days": 7, "from": "2030-01-01"}, "days", "not both"),
    ("funnel", {"from": "2030-02-30"}, "from", "must be a date"),
    ("funnel", {"to": "tomorrow"}, "to", "must be a date"),
    ("funnel", {"from": "2030-02-01", "to": "2030-01-01"}, "from", "from is after to"),
    ("funnel", {"days": 0}, "days", "must be at least 1"),
    ("funnel", {"days": "week"}, "days", "must be a whole number"),
    ("funnel", {"days": 4000}, "days", "must be at most 3660"),
    ("funnel", {"include_anonymous": "some"}, "include_anonymous", "must be true or false"),
    ("cohort", {"cohort_type": "yearly"}, "cohort_type", "must be one of monthly, weekly"),
    ("lead-quality", {"interval": "daily", "from": "0001-01-01"}, None, "more than 400 periods"),
    ("distribution", {"model": "warmth"}, "model", "no such model is active; active are"),
    ("deciles", {"model": "warmth"}, "model", "no such model is active; active are"),
]


def test_a_wrong_request_is_refused_with_the_remedy(database_url):
    async def ask(http):
        for path, asked, field, reason in WRONG_REQUESTS:
            answer = await http.get(f"{PREFIX}/analytics/{path}", params=asked)
            assert answer.status_code == 422
            assert answer.json()["error"]["field"] == field
            assert reason in answer.json()["error"]["reason"]

    visit(database_url, FourLeads(), ask)

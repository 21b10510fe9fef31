"""Experiments and their results over read models that were projected from real records, on a real PostgreSQL."""

import random
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest

from gateway.access import read_access
from gateway.app import create_app
from gateway.ports import Ports
from leadstream.evaluation.experiment_report import results_of
from projections.migrate import migrate
from projections.worker import project_records
from schemas.activity import IdentityAttached, IdentityDelta
from schemas.decode import encode_activity, encode_source
from schemas.events import ContactShared, ConversionRecorded, Custom, DemoRequested, ExperimentExposed
from schemas.moment import millis
from schemas.record import Record
from schemas.topics import LEAD_ACTIVITY, lead_key
from scoring.experiments.experiment_text import built_in_experiments_by_name, compile_experiment
from scoring.experiments.results import Exposure, GoalConversion, experiment_results

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

T0 = datetime(2030, 1, 31, 10, 0, tzinfo=UTC)
NOW = T0 + timedelta(days=100)
NAME = "greeting_message"


def at(days):
    return T0 + timedelta(days=days)


class House:
    """A gateway over a database that identities and their events are projected into."""

    def __init__(self, url):
        migrate(url)
        self.url = url
        self.position = 0
        self.epochs = Counter()
        self.access = {}

    async def append(self, records):
        raise AssertionError(f"reading appends nothing, not {records}")

    def write(self, *said):
        records = []
        for each in said:
            key = lead_key(each.tenant, each.lead_id)
            records.append(Record(LEAD_ACTIVITY, 0, self.position, key, encode_activity(each)))
            self.position += 1
        with psycopg.connect(self.url) as connection:
            project_records(connection, records)

    def attach(self, identity, lead_id, tenant="default"):
        """The identity is this lead's from now on: another lead's before, that is a merge or a split."""
        key = f"{tenant}/v/{identity}#0"
        self.epochs[key] += 1
        self.write(IdentityAttached(tenant, lead_id, millis(T0), key, self.epochs[key], lead_id, b""))

    def happened(self, identity, event, tenant="default"):
        key = f"{tenant}/v/{identity}#0"
        raw = encode_source(event)
        self.write(IdentityDelta(tenant, "whoever", millis(NOW), key, 1, raw, event.event_id, b""))

    async def get(self, path, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        app = create_app(Ports(append=self.append, database_url=self.url, now=lambda: NOW, **self.access))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=named) as http,
        ):
            return await http.get(path)


@pytest.fixture
def house(database_url):
    return House(database_url)


def event(kind, identity, days, event_id, tenant="default", **fields):
    moment = at(days)
    return kind(
        event_id=event_id,
        occurred_at=moment,
        recorded_at=moment,
        tenant=tenant,
        visitor_id=identity,
        **fields,
    )


def exposure(identity, variant, days=0.0, *, experiment=NAME, tenant="default"):
    return event(
        ExperimentExposed,
        identity,
        days,
        f"x-{days}-{variant}",
        tenant,
        experiment=experiment,
        variant=variant,
    )


def demo(identity, days, tenant="default"):
    return event(DemoRequested, identity, days, f"d-{days}", tenant)


def counts(answer, goal="demo_request"):
    shown = answer.json()["results"]["variants"]
    return {each["variant"]: (each["goals"][goal]["converted"], each["exposed"]) for each in shown}


async def test_results_follow_late_exposures_and_merges(house):
    for visitor in "pqr":
        house.attach(visitor, f"anon:{visitor}")
    house.happened("p", exposure("p", "A", 1))
    house.happened("p", demo("p", 0.5))
    house.happened("q", demo("q", 2))
    house.happened("r", exposure("r", "B", 1))
    house.happened("r", event(ContactShared, "r", 1, "c", email="r@x.example", name="demo_request"))
    answer = await house.get(f"/api/experiments/{NAME}")
    assert counts(answer) == {"A": (0, 1), "B": (0, 1)}
    assert counts(answer, "contact_shared") == {"A": (0, 1), "B": (1, 1)}

    house.happened("p", exposure("p", "A", 0.25))  # late: it came before the demo
    answer = await house.get(f"/api/experiments/{NAME}")
    assert counts(answer) == {"A": (1, 1), "B": (0, 1)}
    assert answer.json()["results"]["since"] == at(0.25).isoformat().replace("+00:00", "Z")

    house.attach("q", "anon:r")  # whoever asked for a demo as q is the lead that was exposed as r
    answer = await house.get(f"/api/experiments/{NAME}")
    assert counts(answer) == {"A": (1, 1), "B": (1, 1)}

    house.attach("p", "anon:r")  # and now one lead saw both, A first
    answer = await house.get(f"/api/experiments/{NAME}")
    assert counts(answer) == {"A": (1, 1), "B": (0, 0)}
    shown = answer.json()["results"]
    assert (shown["saw_several"], shown["variants"][0]["saw_several"]) == (1, 1)
    goal = shown["variants"][0]["goals"]["demo_request"]
    assert (goal["saw_several"], goal["rate"], goal["pure_rate"]) == (1, 1, None)

    house.attach("p", "anon:p")  # the merge is undone
    answer = await house.get(f"/api/experiments/{NAME}")
    assert counts(answer) == {"A": (1, 1), "B": (1, 1)}
    only = await house.get(f"/api/experiments/{NAME}?since=2030-02-01T00:00:00Z&lift=0.5")
    assert counts(only) == {"A": (0, 0), "B": (1, 1)}
    assert only.json()["results"]["needed"]["demo_request"]["lift"] == 0.5


async def test_a_browsers_clock_may_be_five_minutes_slow(house):
    for visitor, minutes in {"p": 5, "q": 6}.items():
        house.attach(visitor, f"anon:{visitor}")
        house.happened(visitor, exposure(visitor, "A", 1))
        house.happened(visitor, demo(visitor, 1 - minutes / 24 / 60))
    assert counts(await house.get(f"/api/experiments/{NAME}")) == {"A": (1, 2), "B": (0, 0)}


async def test_definitions_are_listed_wrong_questions_named_and_tenants_kept_apart(house):
    house.attach("p", "lead-1")
    house.happened("p", exposure("p", "A"))
    house.attach("p", "lead-1", "other")
    house.happened("p", exposure("p", "B", tenant="other"), "other")
    house.happened("p", demo("p", 1, "other"), "other")
    listed = (await house.get("/api/experiments")).json()["experiments"]
    assert [each["name"] for each in listed] == ["greeting_message", "question_flow"]
    assert listed[0]["variants"][0] == {
        "name": "A",
        "weight": 0.5,
        "config": {"text": "Hi! Welcome to YouShop!"},
    }
    assert listed[1]["goals"][0]["counts"] == [{"event": "questions_completed", "named": None}]

    assert (await house.get("/api/experiments/greting")).status_code == 404
    for query, field in {
        "lift=0": "lift",
        "since=2030-01-31T10:00:00": "since",
        "until=never": "until",
    }.items():
        refused = await house.get(f"/api/experiments/{NAME}?{query}")
        assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)

    house.access = {"access": read_access(["other:browser-key"], ["other:read:reading-token"])}
    theirs = await house.get(f"/api/experiments/{NAME}", authorization="Bearer reading-token")
    assert counts(theirs) == {"A": (0, 0), "B": (1, 1)}
    assert (await house.get("/api/experiments", x_write_key="browser-key")).status_code == 401


async def test_the_leads_of_a_variant_are_those_that_its_numbers_count(house):
    for visitor in "pqr":
        house.attach(visitor, f"lead-{visitor}")
        house.happened(visitor, exposure(visitor, "B" if visitor == "q" else "A", ord(visitor) - ord("p")))
    house.happened("r", demo("r", 3))
    house.attach("p", "theirs", "other")
    house.happened("p", exposure("p", "A", tenant="other"), "other")

    path = f"/api/experiments/{NAME}/leads"
    of_a = (await house.get(f"{path}?variant=A")).json()
    assert [(each["lead_id"], each["goals"]) for each in of_a["leads"]] == [
        ("lead-r", ["demo_request"]),
        ("lead-p", []),
    ]
    assert of_a["leads"][0]["exposed_at"] == at(2).isoformat().replace("+00:00", "Z")
    reached = (await house.get(f"{path}?goal=demo_request")).json()
    assert [each["lead_id"] for each in reached["leads"]] == ["lead-r"]
    first = (await house.get(f"{path}?limit=2")).json()
    assert ([each["lead_id"] for each in first["leads"]], first["count"], first["next_offset"]) == (
        ["lead-r", "lead-q"],
        3,
        2,
    )
    rest = (await house.get(f"{path}?limit=2&offset=2")).json()
    assert ([each["lead_id"] for each in rest["leads"]], rest["next_offset"]) == (["lead-p"], None)
    for query, field in {"variant=Z": "variant", "goal=z": "goal", "since=never": "since"}.items():
        refused = await house.get(f"{path}?{query}")
        assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)
    assert (await house.get("/api/experiments/none/leads")).status_code == 404

    house.access = {"access": read_access([], ["other:read:reading-token"])}
    theirs = (await house.get(path, authorization="Bearer reading-token")).json()
    assert [each["lead_id"] for each in theirs["leads"]] == ["theirs"]


MIXED = compile_experiment("""
name = "mixed"
window_days = 5
[variants.A]
[variants.B]
[goals.custom]
event = "custom:trial"
[goals.converted]
conversion = "trial"
[goals.any]
event = "conversion_recorded"
""")
GREETING = built_in_experiments_by_name()[NAME]


def any_event(chance, identity, number):
    """One of everything that may decide, or only looks as if it did."""
    days = chance.randint(-20, 20) / 2
    told = chance.choice(("trial", "other"))
    match chance.randrange(7):
        case 0 | 1:
            return exposure(identity, chance.choice("AAAAABC"), days, experiment="mixed")
        case 2:
            return exposure(identity, chance.choice("AB"), days)
        case 3:
            return event(Custom, identity, days, f"e{number}", name=told)
        case 4:
            return event(ConversionRecorded, identity, days, f"e{number}", conversion_type=told)
        case 5:
            return event(ContactShared, identity, days, f"e{number}", name=told, email="a@b.example")
        case _:
            return demo(identity, days)


def facts(happened, experiment, lead_of):
    """The same history as the statistics read it, told without a database."""
    exposures, conversions = [], []
    for identity, each in happened:
        lead = lead_of[identity]
        match each:
            case ExperimentExposed(experiment=experiment.name):
                exposures.append(Exposure(lead, each.variant, each.occurred_at, each.event_id))
            case ConversionRecorded():
                conversions.append(
                    GoalConversion(lead, "conversion_recorded", each.conversion_type, each.occurred_at)
                )
            case Custom():
                conversions.append(GoalConversion(lead, "custom", each.name, each.occurred_at))
            case DemoRequested():
                conversions.append(GoalConversion(lead, "demo_requested", None, each.occurred_at))
            case ContactShared():
                conversions.append(GoalConversion(lead, "contact_shared", None, each.occurred_at))
    return experiment_results(experiment, exposures, conversions)


def test_what_the_database_says_is_what_the_whole_history_says(house):
    """Sixty visitors of forty leads, half of them moved to another lead afterwards."""
    chance = random.Random(11)
    visitors = [f"v{n}" for n in range(60)]
    lead_of = {}
    happened = []
    for visitor in visitors:
        lead_of[visitor] = f"lead-{chance.randrange(40)}"
        house.attach(visitor, lead_of[visitor])
    for number in range(400):
        visitor = chance.choice(visitors)
        happened.append((visitor, any_event(chance, visitor, number)))
    keys = {visitor: f"default/v/{visitor}#0" for visitor in visitors}
    house.write(
        *(
            IdentityDelta(
                "default", "whoever", millis(NOW), keys[visitor], 1, encode_source(each), each.event_id, b""
            )
            for visitor, each in happened
        )
    )
    for _ in range(2):
        for experiment in (MIXED, GREETING):
            expected = facts(happened, experiment, lead_of)
            assert expected.exposed > 3
            assert expected.saw_several > 0
            assert any(reached.converted for each in expected.variants for reached in each.goals.values())
            assert asdict(results_of(house.url, "default", experiment)) == asdict(expected)
        for visitor in visitors[::2]:
            lead_of[visitor] = f"lead-{chance.randrange(40)}"
            house.attach(visitor, lead_of[visitor])

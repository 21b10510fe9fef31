"""Every address of one lead says as of a moment that is over what it said at that moment: the oracle is the answer of then, of a
store that had nothing later. Histories are random: visits, identifications, orders, refunds, moves, merges, late events.
"""

import random
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest

from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

STARTED = datetime.now(UTC)
LEADS = ("ada", "byron", "curie")
VISITORS = ("phone", "laptop")
STEPS = 14
ADDRESSES = (
    "/api/leads/{}",
    "/api/leads/{}/ledger",
    "/api/lead-tracking/scoring/{}",
    "/api/lead-tracking/attribution/{}",
    "/api/lead-tracking/engagement/{}/history",
    "/api/lead-tracking/journey/{}",
    "/api/lead-tracking/summaries/{}",
    "/api/lead-tracking/lifecycle/{}/history",
    "/api/lead-tracking/lifecycle/{}/current",
    "/api/lead-qualification/lead-scores/?lead_id={}",
    "/api/lead-qualification/lead-scores/history/?lead_id={}",
    "/api/call-list/reasons?lead_id={}",
)
WITHOUT_MOMENT = {
    "/api/audit": "a list of what callers did, by their own moments",
    "/api/notifications": "an inbox, which is of its reader",
    "/api/questions": "what a chat asks next",
    "/api/call-list/reasons": "beside a list, which has the past only, as it was recorded (`as_of`)",
    "/api/events/{event_id}": "what became of one event, which is not a state of the lead",
    "/api/lead-qualification/workflow-executions/": "a list of executions by their own moments (`from`, `to`)",
    "/api/lead-score/session/{session_id}": "one session; those of a lead at a moment are in /api/leads/ID?as_of=",
    "/api/lead/summary/{session_id}": "one chat, as its client knows it; the lead's page has every moment",
    "/api/lead/export/{session_id}": "what a CRM takes over now",
    "/api/score/{session_id}": "the score that the chat shows now",
}
"""Addresses that name a lead or a session and are of now only, each with the reason."""
OF_OTHER_LEADS = ("usual", "usual_share", "deviation", "predicted_value")
"""Of a journey: what other leads were then is not kept."""


class Clock:
    """The gateway's. It stands still while the answers of one moment are read."""

    at = None

    def __call__(self):
        return self.at or datetime.now(UTC)


@asynccontextmanager
async def gateway(database_url, clock):
    settings = Settings(database_url=database_url, partitions=2)
    with open_system(settings) as system:
        app = create_app(replace(ports_of(system, settings), now=clock))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60
            ) as http,
        ):
            yield http


async def test_every_address_of_one_lead_takes_a_moment(database_url):
    async with gateway(database_url, Clock()) as http:
        described = (await http.get("/openapi.json")).json()["paths"]
    of_now = set()
    for path, methods in described.items():
        if "get" not in methods:
            continue
        names = {each["name"] for each in methods["get"].get("parameters", ())}
        if names & {"lead_id", "session_id"} and not {"as_of", "known"} <= names:
            of_now.add(path)
    assert of_now == set(WITHOUT_MOMENT)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 40))]
)
async def test_the_answer_of_a_moment_is_that_of_a_store_which_ended_then(database_url, seed):
    chance, clock = random.Random(seed), Clock()
    answered = []
    async with gateway(database_url, clock) as http:
        for step in range(STEPS):
            events = [random_event(chance, f"{step}-{number}") for number in range(chance.randint(1, 3))]
            sent = await http.post("/v1/events?wait=10", json=events)
            assert sent.status_code == 200, sent.text
            clock.at = datetime.now(UTC)
            for lead in LEADS:
                for address in (each.format(lead) for each in ADDRESSES):
                    then = await http.get(address)
                    answered.append((clock.at, address, then))
            clock.at = None
        compared = 0
        for moment, address, then in answered:
            again = await http.get(as_of(address, moment))
            if then.status_code == 404 and address.startswith("/api/leads/") and "ledger" not in address:
                assert again.json()["history"] == "not_yet_recorded"
                continue
            assert again.status_code == then.status_code, (address, moment, then.text, again.text)
            if then.status_code == 200:
                assert differences(comparable(address, then.json()), comparable(address, again.json())) == []
                compared += 1
        assert compared > STEPS * len(ADDRESSES)


def random_event(chance, number):
    """Some are late, some name a visitor who turns out to be one of the leads, some merge leads or undo it."""
    lead, visitor = chance.choice(LEADS), chance.choice(VISITORS)
    late = chance.random() < 0.3
    common = {"event_id": number, "source": "crm"}
    if late:
        common["occurred_at"] = (STARTED - timedelta(hours=chance.randint(1, 200))).isoformat()
    by_lead = common | {"lead_id": lead}
    order = f"order-{chance.randint(1, 3)}"
    match chance.randint(0, 11):
        case 0 | 1:
            return {
                **common,
                "type": "page_viewed",
                "visitor_id": visitor,
                "source": "web",
                "url": "https://shop.example/pricing",
            }
        case 2:
            return {
                **common,
                "type": "form_submitted",
                "visitor_id": visitor,
                "source": "web",
                "lead_id": lead,
                "form_name": "contact",
            }
        case 3:
            return {**by_lead, "type": "email_opened"}
        case 4:
            return {**by_lead, "type": chance.choice(["call_made", "email_sent"])}
        case 5:
            worth = {"value": chance.randint(1, 900), "currency": "EUR", "order_id": order}
            return {**by_lead, "type": "purchase_made", **worth}
        case 6:
            worth = {"value": chance.randint(1, 90), "currency": "EUR", "order_id": order}
            return {**by_lead, "type": "purchase_refunded", **worth}
        case 7:
            stage = chance.choice(["qualified", "lost", "opportunity", "contacted"])
            return {**by_lead, "type": "stage_changed", "stage": stage, "reason": "talked", "by": "kim"}
        case 8:
            fields = {"company": chance.choice(["Engines", "Analytical"]), "budget": chance.randint(1, 9)}
            return {**by_lead, "type": "profile_updated", "fields": fields}
        case 9:
            into = chance.choice([each for each in LEADS if each != lead])
            return {**by_lead, "type": "leads_merged", "into": into}
        case 10:
            return {**by_lead, "type": "merge_undone"}
        case _:
            worth = {"value": chance.randint(1, 90), "currency": "EUR"}
            return {**by_lead, "type": "conversion_recorded", "conversion_type": "trial", **worth}


def as_of(address, moment):
    return f"{address}{'&' if '?' in address else '?'}as_of={quote(moment.isoformat())}"


def differences(then, again, path=""):
    """(path, value of then, value as of then)."""
    if isinstance(then, dict) and isinstance(again, dict) and then.keys() == again.keys():
        return [each for key in then for each in differences(then[key], again[key], f"{path}.{key}")]
    if isinstance(then, list) and isinstance(again, list) and len(then) == len(again):
        pairs = enumerate(zip(then, again, strict=True))
        return [each for n, (old, new) in pairs for each in differences(old, new, f"{path}.{n}")]
    return [] if then == again else [(path, then, again)]


def comparable(address, answer):
    """Without what an answer about a moment leaves out, as its description says."""
    if "/journey/" in address:
        journey = dict(answer["journey"])
        journey["path"] = {"stages": journey["path"]["stages"]}
        journey["revenue"] = {
            currency: {name: each for name, each in amounts.items() if name not in OF_OTHER_LEADS}
            for currency, amounts in journey["revenue"].items()
        }
        return answer | {
            "journey": {name: each for name, each in journey.items() if name not in OF_OTHER_LEADS}
        }
    if address.startswith("/api/leads/") and "ledger" not in address[-7:]:
        # A merge carries the clock to the first contact along; the histories do not say which one it was.
        return answer | {
            "lead": {name: each for name, each in answer["lead"].items() if name != "speed_to_lead"}
        }
    if "/reasons" in address:
        # Of now, the score of a visit is that which the lead itself recorded; none, if the visit came with a merge.
        return {
            lead: reason | {"session": reason["session"] and reason["session"] | {"score": None}}
            for lead, reason in answer["reasons"].items()
        }
    if "lead-scores/?" in address:
        return [{name: each for name, each in score.items() if name != "calculated_at"} for score in answer]
    if "/engagement/" in address:
        return {name: each for name, each in answer.items() if name != "as_of"}
    return answer

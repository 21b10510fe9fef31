"""What clients of the documented systems do at a gateway of either mode, and what their documents say of it.

Scores are added up by hand. Each talk returns all answers, without what differs from run to run, so that those of
two modes can be compared.
"""

import asyncio
import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from gateway.app import create_app
from gateway.ports import Ports

REQUIREMENTS = Path(__file__).parents[3] / "shared" / "requirements"
SECONDS = 300.0
"""So long a talk waits for a loaded machine."""
SHORT = ("Retail", "Mumbai", "2–5", "₹50K–₹2L", "Billing")
"""Answers of at most ten characters, so that none is detailed."""
LEAD_SCORES = "/api/lead-qualification/lead-scores/"
RULES = """
model = "rules"
min = 0
max = 100
bands = { stage = { hot = 80, sql = 65, mql = 40, none = 0 } }
highest_rule_id = 5
highest_criterion_id = 0

[groups.demographic]
rules = [ { id = 1, name = "Director", value = "profile.title", contains = "director", points = 15 } ]
[groups.behavioral]
rules = [ { id = 2, name = "Form", value = "form_submitted", greater_or_equal = 1, points = 20 } ]
[groups.firmographic]
rules = [
  { id = 3, name = "Industry", value = "profile.industry", in_list = ["SaaS"], points = 15 },
  { id = 4, name = "Size", value = "profile.company_size", in_list = ["500+"], points = 3 },
]
[groups.engagement]
rules = [ { id = 5, name = "New", value = "days_since_creation", less_than = 30, points = 15 } ]
"""
Answers = dict[str, Any]


class Clock:
    """Today, or later."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@asynccontextmanager
async def visited(ports: Ports, clock: Clock | None = None, **headers: str):
    """A client of a gateway in this process."""
    app = create_app(ports if clock is None else replace(ports, now=clock))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers, timeout=SECONDS
        ) as http,
    ):
        yield http


async def sent(http: httpx.AsyncClient, path: str, status: int = 200, **body: Any) -> Any:
    """The answer once the scores show what was sent: a client looks where a 202 names, then asks again."""
    deadline = time.monotonic() + SECONDS
    while (answer := await http.post(f"/api/{path}", json=body)).status_code == 202 != status:
        assert time.monotonic() < deadline, answer.text
        if "session_id" not in body:
            body["session_id"] = answer.json()["session_id"]
        await applied(http, answer.json()["location"], deadline)
    assert answer.status_code == status, answer.text
    return answer.json()


async def applied(http: httpx.AsyncClient, location: str, deadline: float) -> None:
    while (found := await http.get(location)).status_code == 404:
        assert time.monotonic() < deadline, found.text
        await asyncio.sleep(0.1)
    assert found.status_code == 200, found.text


async def shown(http: httpx.AsyncClient, path: str, status: int = 200) -> Any:
    answer = await http.get(f"/api/{path}")
    assert answer.status_code == status, answer.text
    return answer.json()


async def asked(http: httpx.AsyncClient, session_id: str, answers: Any, times: Any) -> Any:
    """The last answer's answer; `times` are seconds from each question to its answer."""
    for number, (text, seconds) in enumerate(zip(answers, times, strict=True), 1):
        taken = {} if seconds is None else {"time_taken": seconds}
        last = await sent(
            http, "answer", session_id=session_id, question_id=number, answer_text=text, **taken
        )
    return last


async def whole_session(http: httpx.AsyncClient) -> Answers:
    """The capture bot's journey. Opened 5, five questions 25, all of them 10, contact 10, demo 15, three replies under
    two minutes 15: 80. The second answer is changed, which adds nothing.
    """
    answers: Answers = {"start": await sent(http, "session/start", utm_source="google")}
    session = answers["start"]["session_id"]
    for path in ("questions", "product-menu", "cta-options"):
        answers[path] = await shown(http, path)
    assert [each["id"] for each in answers["questions"]["questions"]] == [1, 2, 3, 4, 5]
    answers["first"] = await asked(http, session, ["Retail", "Pune"], (5, 30))
    assert answers["first"]["lead_score"] == 5 + 2 * 5 + 2 * 5
    answers["open"] = await shown(http, f"questions?session_id={session}")
    assert (answers["open"]["answered"], answers["open"]["next_question"]["id"]) == ([1, 2], 3)
    answers["resumed"] = await sent(http, "session/start", session_id=session)
    assert answers["resumed"]["message"] == "Session resumed"
    answers["last"] = await asked(http, session, SHORT, (5, 30, 119, 120, None))
    assert (answers["last"]["completed"], answers["last"]["lead_score"]) == (True, 55)
    assert answers["last"]["classification"] == "MQL"
    contact = {"name": "John Doe", "email": "john@restaurant.com"}
    answers["profile"] = await sent(http, "lead/profile", session_id=session, profile_data=contact)
    answers["scrolled"] = await sent(http, "behavior", session_id=session, action="scrolled")
    answers["demo"] = await sent(http, "behavior", session_id=session, action="clicked_demo", metadata={})
    for path in ("score", "lead/summary", "lead/export"):
        answers[path] = await shown(http, f"{path}/{session}")
    answers["analytics"] = await shown(http, "analytics/leads")
    assert_golden_80(answers)
    return without_moments(answers, session)


def assert_golden_80(answers: Answers) -> None:
    points = [
        {"action": "session_opened", "score": 5},
        {"action": "answered_question", "score": 25},
        {"action": "answered_all_questions", "score": 10},
        {"action": "shared_contact", "score": 10},
        {"action": "demo_requested", "score": 15},
        {"action": "quick_reply", "score": 15},
        {"action": "scrolled", "score": 0},
    ]
    for name in ("demo", "score"):
        assert (answers[name]["lead_score"], answers[name]["classification"]) == (80, "SQL")
    assert answers["score"]["score_breakdown"] == answers["lead/summary"]["behaviors"] == points
    lead = answers["lead/summary"]["lead_data"]
    assert (lead["lead_score"], lead["classification"], lead["utm_source"]) == (80, "SQL", "google")
    assert (lead["location"], lead["email"]) == ("Mumbai", "john@restaurant.com")
    export = answers["lead/export"]
    assert len(export) == 14
    assert {name: value for name, value in export.items() if name != "session_start_time"} == {
        "name": "John Doe",
        "location": "Mumbai",
        "business_type": "Retail",
        "staff_size": "2–5",
        "monthly_sales": "₹50K–₹2L",
        "features_interested": ["Billing"],
        "contact_info": "john@restaurant.com",
        "email": "john@restaurant.com",
        "phone": None,
        "lead_score": 80,
        "lead_type": "SQL",
        "utm_source": "google",
        "assigned_to": "CTL-Team",
    }
    totals = answers["analytics"]
    assert (totals["total_sessions"], totals["completed_sessions"]) == (1, 1)
    assert totals["leads"] == {"SQL": 1, "MQL": 0, "Unqualified": 0}
    assert (totals["conversion_rate"], totals["completion_rate"], totals["average_score"]) == (1, 1, 80)
    assert totals["average_response_time"] == (5 + 30 + 30 + 119 + 120) / 5


async def expo_visitor(http: httpx.AsyncClient, tenant: str) -> Answers:
    """The property agent's timeline: 3 + 20 for the scan, then 2, 1, 10, 10, 15, and 5 + 1 for the voice message."""
    steps: list[tuple[dict[str, Any], int, str]] = [
        ({"type": "qr_scanned"}, 23, "cold"),
        ({"type": "catalog_viewed"}, 25, "warm"),
        ({"type": "message_received", "text": "I'm interested in 2BR"}, 26, "warm"),
        ({"type": "contact_shared", "phone": "+971501234567", "name": "Ahmad Rezaei"}, 36, "warm"),
        ({"type": "profile_updated", "fields": {"budget_max": 2_000_000}}, 46, "warm"),
        (
            {
                "type": "profile_updated",
                "fields": {
                    "property_type": "Living",
                    "location": "Dubai Marina",
                    "transaction_type": "Buy",
                },
            },
            61,
            "hot",
        ),
        ({"type": "message_received", "kind": "voice", "duration_s": 12}, 67, "hot"),
    ]
    for step, score, temperature in steps:
        await recorded(http, {"visitor_id": "1111111", "source": "telegram", **step})
        [lead] = await shown(http, f"tenants/{tenant}/leads")
        assert (lead["lead_score"], lead["temperature"]) == (score, temperature)
    assert {name: lead[name] for name in ("name", "phone", "budget_max", "voice_seconds")} == {
        "name": "Ahmad Rezaei",
        "phone": "+971501234567",
        "budget_max": 2_000_000,
        "voice_seconds": 12,
    }
    counters = ("qr_scan_count", "catalog_views", "messages_count", "total_interactions")
    assert [lead[name] for name in counters] == [1, 1, 2, 4]
    assert await shown(http, f"tenants/{tenant}/leads?temperature=burning") == []
    return without_moments({"leads": [lead]}, lead["id"])


async def qualified_lead(http: httpx.AsyncClient, clock: Clock) -> Answers:
    """The rules' document: 15 for the title, 15 + 3 for the company, 20 for the form, 15 for being new: 45, then 68;
    a month later 53 and 15.
    """
    published = await http.post("/api/models/rules/publish", json={"text": RULES})
    assert published.status_code in {200, 201, 202}, published.text
    profile = {"name": "John Doe", "title": "Sales director", "industry": "SaaS"}
    await recorded(http, {"lead_id": "123", "type": "profile_updated", "fields": profile})
    await scored(http, "123", 45)
    form = {"lead_id": "123", "type": "form_submitted", "fields": {"company_size": "500+"}}
    await recorded(http, form)
    await recorded(http, {"lead_id": "124", "type": "profile_updated", "fields": {"industry": "SaaS"}})
    await scored(http, "123", 68)
    await scored(http, "124", 30)
    answers: Answers = {"calculated": await calculated(http, "123")}
    answers["distribution"] = await shown_scores(http, "distribution/")
    clock.ahead = timedelta(days=31)
    answers["later"] = await calculated(http, "123", 53)
    answers["history"] = await shown_scores(http, "history/?lead_id=123")
    answers["several"] = await calculated_in_bulk(http, lead_ids=[123, 124, 125])
    answers["all"] = await calculated_in_bulk(http, recalculate_all=True)
    answers["list"] = await shown_scores(http, "")

    names = ["score_0_20", "score_20_40", "score_40_60", "score_60_80", "score_80_100", "avg_score"]
    assert answers["distribution"] == dict(zip(names, [0, 1, 0, 1, 0, 49], strict=True))
    first = answers["calculated"]
    assert (first["lead"], first["lead_name"], first["qualification_stage"]) == (123, "John Doe", "sql")
    assert (first["score"], first["previous_score"], first["score_change"]) == (68, 45, 23)
    assert first["score_breakdown"] == {
        "demographic": 15,
        "behavioral": 20,
        "firmographic": 18,
        "engagement": 15,
    }
    assert [each["score"] for each in answers["history"]][:3] == [53, 68, 45]
    several = answers["several"]
    assert (several["calculated"], several["changed"], several["failed"]) == (2, 1, 1), (
        several,
        answers["later"],
    )
    assert several["errors"] == [{"lead_id": 125, "reason": "no lead has this id"}]
    assert (answers["all"]["calculated"], answers["all"]["changed"]) == (2, 0)
    assert [(each["lead"], each["score"]) for each in answers["list"]] == [(123, 53), (124, 15)]
    return without_moments(answers, "")


WORKFLOWS = "/api/lead-qualification/workflows/"
EXECUTIONS = "/api/lead-qualification/workflow-executions/"
HOT_RULES = RULES.replace(
    "[groups.firmographic]",
    """[groups.behavioral_demo]
rules = [ { id = 6, name = "Demo", value = "demo_requested", greater_or_equal = 1, points = 20 } ]
[groups.firmographic]""",
).replace("highest_rule_id = 5", "highest_rule_id = 6")


async def hot_lead_workflows(http: httpx.AsyncClient) -> Answers:
    """The four workflows of the rules' document, printed bodies as they are. The lead has 45 points, then 68, which passes 60
    and 65, then 88, which passes 75 and 80; a second demo passes nothing.
    """
    published = await http.post("/api/models/rules/publish", json={"text": HOT_RULES})
    assert published.status_code == 200, published.text
    for body in printed_workflows():
        made = await http.post(WORKFLOWS, json=body)
        assert made.status_code == 201, made.text
        assert {name: made.json()[name] for name in body} == body
    profile = {"name": "John Doe", "title": "Sales director", "industry": "SaaS"}
    await recorded(http, {"lead_id": "123", "type": "profile_updated", "fields": profile})
    await scored(http, "123", 45)
    assert await executed(http, 0) == []
    form = {"lead_id": "123", "type": "form_submitted", "fields": {"company_size": "500+"}}
    await recorded(http, form | {"event_id": "form-1"})
    two = await executed(http, 2)
    await recorded(http, {"lead_id": "123", "type": "demo_requested", "event_id": "demo-1"})
    four = await executed(http, 4)
    await recorded(http, {"lead_id": "123", "type": "demo_requested", "event_id": "demo-2"})
    tried = await http.post(f"{WORKFLOWS}1/test/", json={"lead_id": 123})
    ran = await http.post(f"{WORKFLOWS}3/run/", json={"lead_id": 123, "by": "ada"})
    deadline = time.monotonic() + SECONDS
    while ran.status_code == 202:
        assert time.monotonic() < deadline, ran.text
        await applied(http, ran.json()["location"], deadline)
        ran = await http.post(f"{WORKFLOWS}3/run/", json={"lead_id": 123, "by": "ada"})
    five = await executed(http, 5)
    answers: Answers = {
        "workflows": (await http.get(WORKFLOWS)).json(),
        "executions": five[1:],  # the newest was run under an id of its own
        "tried": tried.json(),
        "statistics": (await http.get(f"{WORKFLOWS}statistics/")).json(),
        "history": (await http.get(f"{WORKFLOWS}1/history/")).json(),
    }
    assert {each["workflow_name"] for each in two} == {"Follow up on SQL", "Move to qualified status"}
    assert {each["workflow_name"] for each in four} - {each["workflow_name"] for each in two} == {
        "Assign hot leads to senior rep",
        "Notify on hot lead",
    }
    [owner] = [each for each in four if each["action_type"] == "assign_owner"]
    assert (owner["lead"], owner["lead_name"], owner["action_config"]) == (123, "John Doe", {"owner_id": 5})
    assert owner["reason"] == "rules rose from 68 to 88, through 75"
    assert (answers["tried"]["would_fire"], answers["tried"]["action"]["text"]) == (
        True,
        "assigns the lead to owner 5",
    )
    numbers = answers["statistics"]
    assert (numbers["total_workflows"], numbers["active_workflows"]) == (4, 4)
    assert (numbers["total_executions"], numbers["failed_executions"]) == (5, 0)
    assert (await shown(http, "leads/123"))["lead"]["assigned_to"] == "5"
    [message] = [
        each for each in (await shown(http, "notifications"))["notifications"] if each["workflow"] == 3
    ][:1]
    assert message["message"] == "🔥 Hot lead! Score increased to 80+"
    return without_moments(answers, "")


def printed_workflows() -> list[dict[str, Any]]:
    """The workflows that the rules' document prints."""
    text = (REQUIREMENTS / "4-rule-based-qualification.md").read_text(encoding="utf-8")
    found = [json.loads(each) for each in re.findall(r"```json\n(\{.*?^\})", text, re.MULTILINE | re.DOTALL)]
    workflows = [each for each in found if "trigger_type" in each]
    assert len(workflows) == 4
    return workflows


async def executed(http: httpx.AsyncClient, count: int) -> Any:
    """The executions, once there are so many and every action was carried out."""
    deadline = time.monotonic() + SECONDS
    while True:
        answer = await http.get(EXECUTIONS)
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        assert len(shown) <= count
        if len(shown) == count and all(each["status"] == "delivered" for each in shown):
            return shown
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.1)


async def recorded(http: httpx.AsyncClient, event: dict[str, Any]) -> None:
    event = {"event_id": f"{event['type']}-{time.monotonic_ns()}", **event}
    deadline = time.monotonic() + SECONDS
    while (answer := await http.post("/v1/events?wait=10", json=event)).status_code == 202:
        assert time.monotonic() < deadline, answer.text
    assert answer.status_code == 200, answer.text


async def shown_scores(http: httpx.AsyncClient, path: str) -> Any:
    answer = await http.get(LEAD_SCORES + path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def scored(http: httpx.AsyncClient, lead_id: str, score: int) -> None:
    """Returns once the lead is listed with the score: a publication is swept in the background."""
    deadline = time.monotonic() + SECONDS
    while [each["score"] for each in await shown_scores(http, f"?lead_id={lead_id}")] != [score]:
        assert time.monotonic() < deadline, f"{lead_id} never has {score}"
        await asyncio.sleep(0.05)


async def calculated(http: httpx.AsyncClient, lead_id: str, score: int | None = None) -> Any:
    answer = await http.post(f"{LEAD_SCORES}calculate/", json={"lead_id": lead_id})
    if answer.status_code == 202:  # as after 200, once it shows
        assert score is not None
        await scored(http, lead_id, score)
        answer = await http.post(f"{LEAD_SCORES}calculate/", json={"lead_id": lead_id})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def calculated_in_bulk(http: httpx.AsyncClient, **leads: Any) -> Any:
    answer = await http.post(f"{LEAD_SCORES}bulk_calculate/", json=leads)
    deadline = time.monotonic() + SECONDS
    while answer.status_code == 202 or answer.json()["status"] != "done":
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.1)
        answer = await http.get(answer.json()["location"])
    assert answer.status_code == 200, answer.text
    return answer.json()


MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|[0-9a-f]{32}")
PLACES = {"id"}
"""Numbers that follow from where a change is in its log."""


def without_moments(value: Any, name: str) -> Any:
    """The answers without times, the name of what was made here, and ids of changes and calculations."""
    match value:
        case dict():
            return {
                key: "ID"
                if key in PLACES and isinstance(each, int) and each > 100
                else without_moments(each, name)
                for key, each in value.items()
            }
        case list():
            return [without_moments(each, name) for each in value]
        case str():
            return MOMENT.sub("AT", value.replace(name, "NAME") if name else value)
        case _:
            return value

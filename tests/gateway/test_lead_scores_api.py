"""/api/lead-qualification/lead-scores on a whole embedded system: the document's examples, keys and types as printed."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from gateway.access import read_access
from gateway.api import bulk_scores
from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

SCORES = "/api/lead-qualification/lead-scores/"
MODEL = """
model = "rules"
min = 0
max = 100
bands = { stage = { hot = 80, sql = 65, mql = 40, none = 0 } }
highest_rule_id = 6
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
rules = [
  { id = 5, name = "New", value = "days_since_creation", less_than = 30, points = 15 },
  { id = 6, name = "Demo", value = "demo_requested", greater_or_equal = 1, points = 90 },
]
"""


class Clock:
    def __init__(self):
        self.ahead = timedelta(0)

    def __call__(self):
        return datetime.now(UTC) + self.ahead


@asynccontextmanager
async def serving(url, text=MODEL, clock=None, **access):
    settings = Settings(database_url=url, partitions=2)
    with open_system(settings) as system:
        ports = ports_of(system, settings)
        if clock is not None:
            object.__setattr__(ports, "now", clock)
        if access:
            object.__setattr__(ports, "access", read_access(**access))
        app = create_app(ports)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            if text is not None:
                published = await http.post("/api/models/rules/publish", json={"text": text})
                assert published.status_code in {200, 201, 202}, published.text
            yield http


async def record(http, *events, **headers):
    answer = await http.post(
        "/v1/events?wait=10", json=[{"lead_id": "123", **event} for event in events], headers=headers
    )
    assert answer.status_code == 200, answer.text


async def scored(http, lead_id, score):
    """The listed score, once it is that (a publication is swept in the background)."""
    for _ in range(300):
        listed = (await http.get(SCORES, params={"lead_id": lead_id})).json()
        if listed and listed[0]["score"] == score:
            return listed[0]
        await asyncio.sleep(0.05)
    raise AssertionError(listed)


async def john(http):
    """45 points, then 68: 15 for the title, 15 + 3 for the company, 20 for the form, 15 for being new."""
    profile = {"name": "John Doe", "title": "Sales director", "industry": "SaaS"}
    await record(http, {"type": "profile_updated", "fields": profile})
    await scored(http, "123", 45)
    await record(http, {"type": "form_submitted", "fields": {"company_size": "500+"}})
    return await scored(http, "123", 68)


async def test_calculate_answers_with_the_documents_example(database_url):
    async with serving(database_url) as http:
        await john(http)
        answers = [
            await http.post(f"{SCORES}calculate/", json={"lead_id": 123}),
            await http.post(f"{SCORES}calculate", json={"lead_id": "123"}),
        ]
        history = (await http.get(f"{SCORES}history/?lead_id=123")).json()
        same = (await http.get(f"{SCORES}history", params={"lead_id": "123"})).json()
    assert [each.status_code for each in answers] == [200, 200]
    shown = answers[0].json()
    assert list(shown) == [
        "id",
        "lead",
        "lead_name",
        "score",
        "previous_score",
        "score_change",
        "score_breakdown",
        "qualification_stage",
        "calculated_at",
    ]
    assert shown | {"id": 0, "calculated_at": ""} == {
        "id": 0,
        "lead": 123,
        "lead_name": "John Doe",
        "score": 68,
        "previous_score": 45,
        "score_change": 23,
        "score_breakdown": {"demographic": 15, "behavioral": 20, "firmographic": 18, "engagement": 15},
        "qualification_stage": "sql",
        "calculated_at": "",
    }
    assert isinstance(shown["id"], int)
    assert 0 < shown["id"] < 2**53
    assert shown["calculated_at"].endswith("Z")
    assert answers[1].json()["id"] == shown["id"], "nothing changed in between"

    assert history == same
    assert [(each["score"], each["previous_score"], each["score_change"]) for each in history][:2] == [
        (68, 45, 23),
        (45, history[1]["previous_score"], 45 - history[1]["previous_score"]),
    ]
    assert history[0]["id"] == shown["id"]
    assert history[1]["score_breakdown"] == {
        "demographic": 15,
        "behavioral": 0,
        "firmographic": 15,
        "engagement": 15,
    }
    assert [each["qualification_stage"] for each in history][:2] == ["sql", "mql"]


async def test_a_clamped_breakdown_shows_the_clamp_as_its_own_line(database_url):
    async with serving(database_url) as http:
        await john(http)
        await record(http, {"type": "demo_requested"})
        shown = await scored(http, "123", 100)
    assert shown["score_breakdown"] == {
        "demographic": 15,
        "behavioral": 20,
        "firmographic": 18,
        "engagement": 105,
        "limit": -58,
    }
    assert shown["qualification_stage"] == "hot"


async def test_calculate_stores_what_time_alone_changed(database_url):
    clock = Clock()
    async with serving(database_url, clock=clock) as http:
        before = await john(http)
        clock.ahead = timedelta(days=31)
        stale = (await http.get(SCORES, params={"lead_id": "123"})).json()
        calculated = (await http.post(f"{SCORES}calculate/", json={"lead_id": 123})).json()
        listed = (await http.get(SCORES, params={"lead_id": "123"})).json()
        entries = len((await http.get(f"{SCORES}history/?lead_id=123")).json())
        await http.post(f"{SCORES}calculate/", json={"lead_id": 123})
        again = len((await http.get(f"{SCORES}history/?lead_id=123")).json())
    assert stale == [before]
    assert (calculated["score"], calculated["previous_score"], calculated["score_change"]) == (53, 68, -15)
    assert calculated["qualification_stage"] == "mql"
    assert listed[0] | {"calculated_at": ""} == calculated | {"calculated_at": ""}
    assert again == entries, "what does not differ is not appended"


async def test_the_list_has_pages_and_filters(database_url):
    async with serving(database_url) as http:
        await john(http)
        for number in (124, 125):
            await record(
                http, {"lead_id": str(number), "type": "profile_updated", "fields": {"industry": "SaaS"}}
            )
            await scored(http, str(number), 30)
        await record(
            http, {"lead_id": None, "visitor_id": "v", "type": "page_viewed", "url": "https://a.example/"}
        )
        first = await http.get(SCORES, params={"limit": 2})
        second = await http.get(first.links["next"]["url"])
        bare = await http.get(SCORES.rstrip("/"))
        stage = (await http.get(SCORES, params={"qualification_stage": "sql"})).json()
        least = (await http.get(SCORES, params={"min_score": 31})).json()
        everybody = (await http.get(SCORES, params={"include_anonymous": "true"})).json()
        unknown = await http.get(SCORES, params={"qualification_stage": "cold"})
        page = await http.get(f"{SCORES}history/?lead_id=123&limit=1")
        older = await http.get(page.links["next"]["url"])
    assert [each["lead"] for each in first.json()] == [123, 125], "of equal scores the newest lead first"
    assert [each["lead"] for each in second.json()] == [124]
    assert "next" not in second.links
    assert [each["lead"] for each in bare.json()] == [123, 125, 124]
    assert [each["lead"] for each in stage] == [each["lead"] for each in least] == [123]
    assert [each["lead"] for each in everybody][-1] == "anon:v"
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (422, "qualification_stage")
    assert "hot, sql, mql, none" in unknown.json()["error"]["reason"]
    assert (page.json()[0]["score"], older.json()[0]["score"]) == (68, 45)


async def test_the_distribution_has_the_documents_ranges(database_url):
    async with serving(database_url) as http:
        none = (await http.get(f"{SCORES}distribution/")).json()
        await john(http)
        await record(http, {"lead_id": "124", "type": "profile_updated", "fields": {"industry": "SaaS"}})
        await scored(http, "124", 30)
        await record(
            http, {"lead_id": None, "visitor_id": "v", "type": "page_viewed", "url": "https://a.example/"}
        )
        shown = (await http.get(f"{SCORES}distribution")).json()
    names = ["score_0_20", "score_20_40", "score_40_60", "score_60_80", "score_80_100", "avg_score"]
    assert list(none) == list(shown) == names
    assert none == dict.fromkeys(names, 0)
    assert shown == dict(zip(names, [0, 1, 0, 1, 0, 49], strict=True))


async def test_several_leads_and_all_leads_are_calculated(database_url):
    clock = Clock()
    async with serving(database_url, clock=clock) as http:
        await john(http)
        await record(http, {"lead_id": "124", "type": "profile_updated", "fields": {"industry": "SaaS"}})
        await scored(http, "124", 30)
        clock.ahead = timedelta(days=31)
        several = await http.post(f"{SCORES}bulk_calculate/", json={"lead_ids": [123, 125, "123"]})
        progress = await http.get(several.json()["location"])
        everybody = await http.post(f"{SCORES}bulk_calculate", json={"recalculate_all": True})
        again = await http.post(f"{SCORES}bulk_calculate/")
        listed = (await http.get(SCORES)).json()
        neither = await http.post(f"{SCORES}bulk_calculate/", json={})
        both = await http.post(f"{SCORES}bulk_calculate/", json={"lead_ids": [1], "recalculate_all": True})
        missing = await http.get(f"{SCORES}bulk_calculate/{'0' * 32}/")
    shown = several.json()
    assert (several.status_code, shown["status"], shown["total"]) == (200, "done", 2)
    assert (shown["calculated"], shown["changed"], shown["pending"], shown["failed"]) == (1, 1, 0, 1)
    assert shown["errors"] == [{"lead_id": 125, "reason": "no lead has this id"}]
    assert progress.json() == shown
    assert everybody.json() | {"id": 0, "location": 0} == shown | {
        "id": 0,
        "location": 0,
        "calculated": 2,
        "failed": 0,
        "errors": [],
    }
    assert (again.json()["calculated"], again.json()["changed"]) == (2, 0)
    assert [(each["lead"], each["score"]) for each in listed] == [(123, 53), (124, 15)]
    assert [each.status_code for each in (neither, both)] == [422, 422]
    assert missing.status_code == 404


async def test_every_enrichment_field_is_a_profile_field_that_rules_read(database_url):
    fields = {
        "company_revenue": "10M-50M",
        "job_level": "executive",
        "technologies": ["Kafka", "Python"],
        "social_profiles": ["https://social.example/ada"],
    }
    async with serving(database_url, text=None) as http:
        await record(http, {"type": "profile_updated", "fields": fields})
        lead = (await http.get("/api/leads/123")).json()
        tried = [
            await http.post(
                "/api/lead-qualification/scoring-rules/test_rule/",
                json={
                    "lead_id": 123,
                    "name": name,
                    "rule_type": "firmographic",
                    "field_name": name,
                    "operator": "contains",
                    "value": value,
                    "points": 5,
                },
            )
            for name, value in {
                "company_revenue": "10M",
                "job_level": "executive",
                "technologies": "Kafka",
                "social_profiles": "social.example",
            }.items()
        ]
    assert {name: lead["profile"][name] for name in fields} == fields
    assert [(each.json()["points_awarded"], each.json()["rule_applied"]) for each in tried] == [(5, True)] * 4


async def test_wrong_requests_name_the_field_and_other_tenants_are_not_there(database_url):
    access = {
        "write_keys": ["default:a-write-key", "other:another-key"],
        "tokens": [
            "default:read+write:own-token",
            "other:read+write:foreign-token",
            "default:write:blind-token",
        ],
    }
    own, foreign, blind = ({"authorization": f"Bearer {each}-token"} for each in ("own", "foreign", "blind"))
    async with serving(database_url, text=None, **access) as http:
        await record(http, {"type": "demo_requested"}, **{"x-write-key": "a-write-key"})
        calculate = f"{SCORES}calculate/"
        answers = [
            await http.post(calculate, json={"lead_id": 123}, headers=foreign),
            await http.post(calculate, json={"lead_id": 9}, headers=own),
            await http.post(calculate, json={"lead_id": True}, headers=own),
            await http.post(calculate, json={}, headers=own),
            await http.post(calculate, content=b"{", headers=own),
            await http.post(calculate, json=[], headers=own),
            await http.get(f"{SCORES}history/", headers=own),
            await http.get(f"{SCORES}history/?lead_id=123", headers=foreign),
            await http.get(SCORES, headers=blind),
            await http.get(SCORES),
        ]
        listed = (await http.get(SCORES, headers=foreign)).json()
        unseen = await http.post(calculate, json={"lead_id": 123}, headers=blind)
        many = await http.post(
            f"{SCORES}bulk_calculate/", json={"lead_ids": list(range(10_001))}, headers=own
        )
        others = await http.post(f"{SCORES}bulk_calculate/", json={"lead_ids": [123]}, headers=foreign)
        spied = await http.get(others.json()["location"], headers=own)
    assert [each.status_code for each in answers] == [404, 404, 422, 422, 400, 422, 422, 404, 403, 401]
    assert {each.json()["error"]["field"] for each in answers[:4]} == {"lead_id"}
    assert listed == []
    assert unseen.json() == {"lead": 123, "calculated": True}
    assert (many.status_code, many.json()["error"]["field"]) == (422, "lead_ids")
    assert others.json()["errors"][0]["reason"] == "no lead has this id"
    assert spied.status_code == 404


async def test_a_score_that_does_not_show_in_time_is_answered_with_where_to_look(database_url, monkeypatch):
    clock = Clock()
    async with serving(database_url, clock=clock) as http:
        before = await john(http)
        clock.ahead = timedelta(days=31)
        monkeypatch.setattr(bulk_scores, "UPDATE_SECONDS", 0.0)
        answer = await http.post(f"{SCORES}calculate/", json={"lead_id": 123})
        location = answer.json()["location"]
        for _ in range(100):
            [shown] = (await http.get(location)).json()
            if shown["score"] == 53:
                break
            await asyncio.sleep(0.05)
    assert answer.status_code == 202
    assert before["score"] == 68
    assert answer.json()["score"] in {68, 53}, "as the fold was faster or slower than the answer"
    assert shown["score"] == 53


async def test_a_qualification_set_by_hand_and_the_time_to_contact_are_shown(database_url):
    """In the list, in the history from the moment on that it was set, and on the lead's page at any moment."""
    clock, until = Clock(), (datetime.now(UTC) + timedelta(days=3)).isoformat()
    by_hand = {
        "qualification_override": "hot",
        "qualification_override_by": "workflow 3",
        "qualification_override_until": until,
    }
    async with serving(database_url, clock=clock) as http:
        await john(http)
        before = datetime.now(UTC).isoformat()
        await record(http, {"type": "profile_updated", "fields": by_hand})
        [listed] = (await http.get(SCORES, params={"lead_id": "123"})).json()
        shown = (await http.get("/api/leads/123")).json()["lead"]
        past = (await http.get("/api/leads/123", params={"as_of": before})).json()["lead"]
        later = (datetime.now(UTC) + timedelta(days=4)).isoformat()
        future = (await http.get("/api/leads/123", params={"as_of": later})).json()["lead"]
        board = (await http.get("/api/leads")).json()["leads"]
        of_agent = (await http.get("/api/tenants/default/leads")).json()
        clock.ahead = timedelta(minutes=6)
        waiting = (await http.get("/api/leads/123")).json()["lead"]["speed_to_lead"]
        clock.ahead = timedelta(0)
        await record(http, {"type": "call_made"})
        contacted = (await http.get("/api/leads/123")).json()["lead"]["speed_to_lead"]
        clock.ahead = timedelta(days=3, seconds=1)  # no timer has fired yet
        [ended] = (await http.get(SCORES, params={"lead_id": "123"})).json()
        clock.ahead = timedelta(0)
        await record(http, {"type": "profile_updated", "fields": {"qualification_override": None}})
        [removed] = (await http.get(SCORES, params={"lead_id": "123"})).json()
    override = listed["qualification_override"]
    assert listed["qualification_stage"] == "sql"
    assert (override["band"], override["by"]) == ("hot", "workflow 3")
    assert datetime.fromisoformat(override["until"]) == datetime.fromisoformat(until).replace(
        microsecond=datetime.fromisoformat(until).microsecond // 1000 * 1000
    )
    assert shown["qualification_override"] == override == board[0]["qualification_override"]
    assert of_agent[0]["qualification_override"] == override
    assert past["qualification_override"] is future["qualification_override"] is None
    assert "qualification_override" not in ended
    assert "qualification_override" not in removed
    # Qualified by its 45 points, with the built-in limit of five minutes.
    begun = datetime.fromisoformat(waiting["qualified_at"])
    assert datetime.fromisoformat(waiting["limit_at"]) - begun == timedelta(minutes=5)
    assert (waiting["first_contacted_at"], waiting["minutes_to_contact"], waiting["breached"]) == (
        None,
        None,
        True,
    )
    assert begun <= datetime.fromisoformat(contacted["first_contacted_at"])
    assert (contacted["minutes_to_contact"] < 5, contacted["breached"]) == (True, False)
    assert past["speed_to_lead"]["first_contacted_at"] is None


TO_PUBLISH = MODEL.replace("points = 15 }", "points = 50 }", 1)
"""A director has 35 points more: 80 instead of 45."""
WORKFLOW = """
[[workflow]]
name    = "Call"
trigger = { type = "score_threshold", score = 75 }
action  = { type = "create_task", title = "Call" }
"""


async def test_an_editor_is_told_what_is_wrong_what_an_edit_makes_and_what_a_lead_would_get(database_url):
    edit = {"action": "change", "id": 1, "fields": {"points": 50}}
    async with serving(database_url) as http:
        profile = {"name": "John Doe", "title": "Sales director", "industry": "SaaS"}
        await record(http, {"type": "profile_updated", "fields": profile})
        await scored(http, "123", 45)
        checked = (await http.post("/api/models/rules/check", json={"text": MODEL, "edit": edit})).json()
        wrong = (await http.post("/api/models/rules/check", json={"text": "model = 5"})).json()
        refused = await http.post(
            "/api/models/rules/check",
            json={"text": MODEL, "edit": {**edit, "fields": {"operator": "like"}}},
        )
        unreadable = await http.post("/api/models/rules/check", json={"text": "model =", "edit": edit})
        tested = (
            await http.post("/api/models/rules/test", json={"text": checked["text"], "lead_id": 123})
        ).json()
        nobody = await http.post("/api/models/rules/test", json={"text": MODEL, "lead_id": "nobody"})
        await http.post("/api/models/rules/publish", json={"text": checked["text"], "note": "a try"})
        difference = (await http.get("/api/models/rules/versions?diff=2..3")).json()
    assert checked["problem"] is None
    assert [each["points"] for each in checked["rules"] if each["id"] == 1] == [50]
    before, after = MODEL.split("\n"), checked["text"].split("\n")
    # The criteria that the bands make get their numbers with the first edit.
    assert [line.partition(" = ")[0] for line in before if line not in after] == [
        "highest_criterion_id",
        "rules",
    ]
    [line] = [each["line"] for each in checked["rules"] if each["id"] == 1]
    assert after[line - 1] == before[9].replace("points = 15", "points = 50")
    assert (wrong["problem"]["line"], wrong["rules"]) == (1, [])
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "operator")
    assert (unreadable.status_code, unreadable.json()["error"]["field"]) == (409, "text")
    assert (tested["active"]["total"], tested["draft"]["total"]) == (45, 80)
    director = [each["points"] for each in tested["draft"]["lines"] if each["rule"] == "Director"]
    assert director == [50]
    assert (nobody.status_code, nobody.json()["error"]["field"]) == (404, "lead_id")
    points = {"field": "points", "before": "15", "after": "50"}
    assert [(each["name"], each["fields"]) for each in difference["changes"]] == [("Director", [points])]


async def test_a_publication_shows_before_and_after_what_it_sets_off(database_url):
    async with serving(database_url) as http:
        published = await http.post("/api/workflows/publish", json={"text": WORKFLOW})
        assert published.status_code == 200, published.text
        profile = {"name": "John Doe", "title": "Sales director", "industry": "SaaS"}
        await record(http, {"type": "profile_updated", "fields": profile})
        await scored(http, "123", 45)
        preview = (await http.post("/api/models/rules/preview", json={"text": TO_PUBLISH})).json()
        tried = (await http.post("/api/models/rules/what-if", json={"text": TO_PUBLISH})).json()
        wrong = await http.post("/api/models/rules/preview", json={"text": "model = 5"})
        fired = (await http.post("/api/models/rules/publish", json={"text": TO_PUBLISH, "fire": True})).json()
        await scored(http, "123", 80)
        executions = (await http.get("/api/lead-qualification/workflow-executions/")).json()
    call = {
        "workflow_id": 1,
        "workflow": "Call",
        "trigger": "score_threshold",
        "action": "create_task",
        "leads": 1,
        "anonymous": 0,
        "first": [{"lead_id": "123", "reason": "rules rose from 45 to 80, through 75"}],
    }
    assert preview == {"model": "rules", "tenant": "default", "compared": 1, "workflows": [call]}
    assert tried["workflows"] == fired["workflows"] == [call]
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "text")
    assert len(executions if isinstance(executions, list) else executions["executions"]) == 1

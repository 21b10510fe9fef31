"""/api/lead-qualification/workflows on a whole embedded system: as the user guide writes them, and as people edit them."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.access import read_access
from gateway.app import create_app
from leadstream.delivering import delivery_beside
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from tests.leadstream.systems_doors import hot_lead_workflows
from tests.scoring.test_workflow_edits import FOLLOW_UP, HOT, NOTIFY, STATUS, UNNUMBERED

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

WORKFLOWS = "/api/lead-qualification/workflows/"
EXECUTIONS = "/api/lead-qualification/workflow-executions/"
DEFAULTS = {"conditions": [], "priority": 0, "anonymous": False}
DEMO = {
    "name": "Demo",
    "trigger_type": "event",
    "trigger_config": {"event": "demo_requested"},
    "action_type": "send_notification",
    "action_config": {"message": "A demo"},
    "conditions": [{"field_name": "industry", "operator": "equals", "value": "SaaS"}],
}


@asynccontextmanager
async def serving(url, **access):
    settings = Settings(database_url=url, partitions=2)
    with open_system(settings) as system, delivery_beside(system, settings):
        ports = ports_of(system, settings)
        if access:
            object.__setattr__(ports, "access", read_access(**access))
        app = create_app(ports)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http,
        ):
            yield http


async def tell(http, *events, lead="123"):
    answer = await http.post("/v1/events?wait=10", json=[{"lead_id": lead, **event} for event in events])
    assert answer.status_code == 200, answer.text


def error(answer):
    return answer.status_code, answer.json()["error"]["field"]


async def made(http, *bodies):
    answers = [await http.post(WORKFLOWS, json=body) for body in bodies]
    assert {each.status_code for each in answers} == {201}, [each.text for each in answers]
    return [each.json() for each in answers]


async def test_workflows_are_created_changed_switched_and_deleted(database_url):
    async with serving(database_url) as http:
        assert (await http.get(WORKFLOWS)).json() == []
        created = await made(http, HOT, FOLLOW_UP, NOTIFY, STATUS)
        for number, (workflow, body) in enumerate(
            zip(created, (HOT, FOLLOW_UP, NOTIFY, STATUS), strict=True), 1
        ):
            moment = workflow.pop("created_at")
            assert moment.endswith("Z")
            assert workflow == DEFAULTS | body | {"id": number}
        listed = await http.get(WORKFLOWS.rstrip("/"))
        assert [each["id"] for each in listed.json()] == [1, 2, 3, 4]
        assert listed.headers["etag"] == '"4"'

        patched = (await http.patch(f"{WORKFLOWS}3", json={"priority": 20})).json()
        assert (patched["priority"], patched["name"]) == (20, NOTIFY["name"])
        assert [each["id"] for each in (await http.get(WORKFLOWS)).json()] == [3, 1, 2, 4]
        assert (await http.post(f"{WORKFLOWS}3/deactivate/")).json()["is_active"] is False
        assert (await http.post(f"{WORKFLOWS}3/activate")).json()["is_active"] is True
        put = (await http.put(f"{WORKFLOWS}3/", json=DEMO)).json()
        assert {key: put[key] for key in DEMO} == DEMO
        assert (put["priority"], put["id"]) == (0, 3)

        assert (await http.delete(f"{WORKFLOWS}4/")).status_code == 204
        assert error(await http.get(f"{WORKFLOWS}4/")) == (404, "id")
        assert (await made(http, STATUS))[0]["id"] == 5, "no id is given twice"
        history = (await http.get(f"{WORKFLOWS}3/history/")).json()
        gone = (await http.get(f"{WORKFLOWS}4/history")).json()
        assert error(await http.get(f"{WORKFLOWS}6/history/")) == (404, "id")
    assert [each["change"] for each in history] == [
        "changed",
        "activated",
        "deactivated",
        "changed",
        "created",
    ]
    assert (history[3]["before"], history[3]["after"]) == ({"priority": 0}, {"priority": 20})
    assert {each["by"] for each in history} == {"open"}
    assert [each["change"] for each in gone] == ["deleted", "created"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"trigger_type": "phase_of_the_moon"}, "trigger_type"),
        ({"trigger_config": {"score": "high"}}, "trigger_config.score"),
        ({"trigger_config": {"score": 75, "model": "astrology"}}, "trigger_config.model"),
        ({"action_type": "explode"}, "action_type"),
        ({"action_config": {}}, "action_config.owner_id"),
        (
            {"conditions": [{"field_name": "industry", "operator": "like", "value": "S"}]},
            "conditions.0.operator",
        ),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_field_is_named_with_what_may_stand_there(shared_http, change, field):
    answer = await shared_http.post(WORKFLOWS, json=HOT | change)
    assert error(answer) == (422, field)
    assert (await shared_http.get(WORKFLOWS)).json() == [], "nothing has changed"


@pytest.fixture
async def shared_http(database_url):
    async with serving(database_url) as http:
        yield http


async def test_a_dry_run_names_the_condition_that_fails_and_changes_nothing(database_url):
    async with serving(database_url) as http:
        await made(http, DEMO, HOT | {"trigger_config": {"score": 1}, "is_active": False})
        await tell(
            http, {"type": "profile_updated", "fields": {"industry": "Farming", "company": "Acme Corp"}}
        )
        tried = (await http.post(f"{WORKFLOWS}1/test/", json={"lead_id": 123})).json()
        assert (tried["workflow"], tried["lead"], tried["lead_id"]) == ("Demo", "Acme Corp", 123)
        assert (tried["would_fire"], tried["trigger"]["met"]) == (False, None)
        assert "Farming" in tried["failed_condition"]
        await tell(http, {"type": "profile_updated", "fields": {"industry": "SaaS"}})
        tried = (await http.post(f"{WORKFLOWS}1/test", json={"lead_id": "123"})).json()
        assert (tried["would_fire"], tried["failed_condition"]) == (True, None)
        off = (await http.post(f"{WORKFLOWS}2/test/", json={"lead_id": 123})).json()
        assert (off["would_fire"], off["is_active"]) == (False, False)
        assert off["action"]["text"] == "assigns the lead to owner 5"
        assert error(await http.post(f"{WORKFLOWS}3/test/", json={"lead_id": 123})) == (404, "id")
        assert error(await http.post(f"{WORKFLOWS}1/test/", json={"lead_id": 7})) == (404, "lead_id")
        assert error(await http.post(f"{WORKFLOWS}1/test/", json={})) == (422, "lead_id")
        assert (await http.get(EXECUTIONS)).json() == []


async def test_a_run_by_hand_is_an_execution_with_its_reason(database_url):
    async with serving(database_url) as http:
        await made(http, DEMO)
        await tell(http, {"type": "profile_updated", "fields": {"industry": "Farming", "name": "John Doe"}})
        refused = (await http.post(f"{WORKFLOWS}1/run/", json={"lead_id": 123, "by": "ada"})).json()
        assert (refused["applied"], refused["execution"]) == (True, None), "its condition does not hold"
        await tell(http, {"type": "profile_updated", "fields": {"industry": "SaaS"}})
        ran = (await http.post(f"{WORKFLOWS}1/run/", json={"lead_id": 123, "by": "ada"})).json()
        execution = ran["execution"]
        assert (execution["workflow"], execution["lead"], execution["lead_name"]) == (1, 123, "John Doe")
        assert execution["trigger_type"] == "manual"
        assert (await http.get(f"{EXECUTIONS}{execution['id']}/")).json()["reason"] == execution["reason"]
        await http.post(f"{WORKFLOWS}1/deactivate/")
        assert error(await http.post(f"{WORKFLOWS}1/run/", json={"lead_id": 123})) == (409, "id")
        assert error(await http.post(f"{WORKFLOWS}9/run/", json={"lead_id": 123})) == (404, "id")


async def test_executions_are_listed_by_pages_and_filters_and_counted(database_url):
    async with serving(database_url) as http:
        await made(http, DEMO | {"conditions": []}, STATUS)
        for number in range(1, 6):
            await tell(http, {"type": "demo_requested"}, lead=str(number))
        await http.post(f"{WORKFLOWS}2/run/", json={"lead_id": 3})
        address, pages = f"{EXECUTIONS}?limit=2", []
        while address:
            answer = await http.get(address)
            pages.append(answer.json())
            address = answer.links.get("next", {}).get("url")
        assert [len(page) for page in pages] == [2, 2, 2]
        everything = [each for page in pages for each in page]
        assert len({each["id"] for each in everything}) == 6
        moments = [each["executed_at"] for each in everything]
        assert moments == sorted(moments, reverse=True)
        recent = (await http.get(f"{EXECUTIONS}recent/?limit=3")).json()
        assert [each["id"] for each in recent] == [each["id"] for each in everything[:3]]

        async def counted(**query):
            return len((await http.get(EXECUTIONS, params=query)).json())

        assert await counted(lead_id="3") == 2
        assert await counted(workflow_id=2) == 1
        assert await counted(trigger="manual") == 1
        assert await counted(trigger="event", lead_id="3") == 1
        assert await counted(status="dead") == 0
        assert await counted(to="2000-01-01") == 0
        assert await counted(**{"from": "2000-01-01"}) == 6
        assert error(await http.get(EXECUTIONS, params={"status": "lost"})) == (422, "status")
        assert error(await http.get(f"{EXECUTIONS}77/")) == (404, "id")
        numbers = (await http.get(f"{WORKFLOWS}statistics/")).json()
        assert {key: numbers[key] for key in ("total_workflows", "active_workflows", "total_executions")} == {
            "total_workflows": 2,
            "active_workflows": 2,
            "total_executions": 6,
        }
        assert numbers.keys() == {
            "total_workflows", "active_workflows", "total_executions", "successful_executions", "failed_executions",
        }  # fmt: skip
        assert (await http.get(f"{WORKFLOWS}statistics?days=1")).json()["total_executions"] == 6


async def test_a_whole_text_is_published_drafted_previewed_and_rolled_back(database_url):
    async with serving(database_url) as http:
        empty = (await http.get("/api/workflows")).json()
        assert (empty["version"], empty["text"], empty["workflows"]) == (0, "", [])
        assert empty["built_in"]
        assert error(await http.get("/api/workflows/versions")) == (404, None)
        published = (
            await http.post("/api/workflows/publish", json={"text": UNNUMBERED, "note": "first"})
        ).json()
        assert (published["version"], published["state"], published["change"]) == (
            1,
            "published",
            "workflow_created 1, 2",
        )
        again = (await http.post("/api/workflows/publish", json={"text": UNNUMBERED})).json()
        assert (again["version"], again["state"]) == (1, "unchanged")
        text = (await http.get("/api/workflows")).json()["text"]

        draft = await http.post(
            "/api/workflows/drafts", json={"text": text.replace("Hello", "Hi"), "by": "ada"}
        )
        assert draft.status_code == 201, draft.text
        number = draft.json()["id"]
        assert [each["id"] for each in (await http.get("/api/workflows/drafts")).json()["drafts"]] == [number]
        assert "Hi" in (await http.get(f"/api/workflows/drafts/{number}")).json()["text"]
        noted = await http.put(f"/api/workflows/drafts/{number}", json={"note": "friendlier"})
        assert noted.json()["note"] == "friendlier"
        done = (await http.post(f"/api/workflows/drafts/{number}/publish", json={})).json()
        assert (done["state"], done["version"]) == ("published", 2)
        assert (await http.get("/api/workflows")).json()["workflows"][1]["action_config"] == {"message": "Hi"}

        broken = text.replace("score = 75", "score = -1")
        wrong = await http.post("/api/workflows/publish", json={"text": broken})
        assert error(wrong) == (422, "text")
        assert "Call" in wrong.json()["error"]["reason"]
        late = await http.post("/api/workflows/publish", json={"text": text, "based_on": 1})
        assert error(late) == (409, "based_on")
        assert "/api/workflows/versions?diff=1..2" in late.json()["error"]["reason"]
        assert error(await http.post("/api/workflows/publish", json={"text": text, "fire": True}))[0] == 422

        rolled = (await http.post("/api/workflows/rollback", json={"version": 1})).json()
        assert rolled["version"] == 3
        diff = (await http.get("/api/workflows/versions?diff=2..3")).json()["diff"]
        assert "+action" in diff
        versions = (await http.get("/api/workflows/versions")).json()["versions"]
        assert [each["change"] for each in versions] == [
            "rolled back to version 1",
            "workflow_changed 2",
            "workflow_created 1, 2",
        ]
        models = (await http.get("/api/models")).json()["models"]
        assert not [each for each in models if "workflows" in each["model"]], "workflows are no model"


async def test_a_preview_counts_what_the_recorded_events_would_have_set_off(database_url):
    async with serving(database_url) as http:
        await tell(http, {"type": "demo_requested"}, {"type": "demo_requested"}, lead="1")
        await tell(http, {"type": "demo_requested"}, lead="2")
        await tell(http, {"type": "qr_scanned"}, lead="3")
        text = (
            '[[workflow]]\nname = "Demo"\ntrigger = { type = "event", event = "demo_requested" }\n'
            'action = { type = "send_notification", message = "A demo" }\n'
        )
        shown = (await http.post("/api/workflows/preview", json={"text": text, "days": 7})).json()
        assert (shown["days"], shown["events"], shown["fired"], shown["leads"]) == (7, 4, 3, 2)
        (workflow,) = shown["workflows"]
        assert (workflow["name"], workflow["fired"], workflow["leads"], workflow["silent"]) == (
            "Demo",
            3,
            2,
            0,
        )
        assert {each["lead"] for each in workflow["latest"]} == {1, 2}
        assert error(await http.post("/api/workflows/preview", json={"text": "["})) == (422, "text")
        assert (await http.post("/api/workflows/preview", json={})).json()["workflows"] == []
        assert (await http.get(EXECUTIONS)).json() == [], "nothing was done"


async def test_messages_are_read_by_somebody_and_counted(database_url):
    async with serving(database_url) as http:
        await made(http, DEMO | {"conditions": []})
        for lead in ("1", "2", "3"):
            await tell(http, {"type": "demo_requested"}, lead=lead)
        deadline = asyncio.get_running_loop().time() + 60
        while (found := (await http.get("/api/notifications")).json())["unread"] < 3:
            assert asyncio.get_running_loop().time() < deadline, found
            await asyncio.sleep(0.2)
        messages = found["notifications"]
        assert {each["lead"] for each in messages} == {1, 2, 3}
        assert {each["message"] for each in messages} == {"A demo"}
        first = messages[0]["id"]
        read = (await http.post(f"/api/notifications/{first}/read", json={"by": "ada"})).json()
        assert (read["read"], read["read_by"]) == (True, "ada")
        again = (await http.post(f"/api/notifications/{first}/read/", json={"by": "ben"})).json()
        assert again["read_by"] == "ada", "the first reader stays"
        assert (await http.get("/api/notifications?unread=true")).json()["unread"] == 2
        unread = (await http.post(f"/api/notifications/{first}/unread")).json()
        assert (unread["read"], unread["read_by"]) == (False, None)
        assert (await http.post("/api/notifications/read", json={})).json() == {"marked": 3}
        assert (await http.get("/api/notifications?unread=true")).json() == {"notifications": [], "unread": 0}
        page = await http.get("/api/notifications?limit=2")
        rest = (await http.get(page.links["next"]["url"])).json()["notifications"]
        assert len(rest) == 1
        assert error(await http.post("/api/notifications/1/read")) == (404, "id")
        deadline = asyncio.get_running_loop().time() + 60
        while (await http.get(f"{WORKFLOWS}statistics/")).json()["successful_executions"] < 3:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.2)


async def test_the_workflows_of_the_user_guide_act_on_a_hot_lead(database_url):
    async with serving(database_url) as http:
        await hot_lead_workflows(http)


async def test_a_test_message_goes_to_people_and_never_changes_a_lead(database_url):
    async with serving(database_url) as http:
        await made(http, NOTIFY | {"action_config": {"message": "Hot: {{ lead.name }}"}}, HOT)
        slack = NOTIFY | {"name": "Slack", "action_config": {"message": "Hot", "channels": ["slack"]}}
        await made(http, slack)
        await tell(http, {"type": "profile_updated", "fields": {"name": "John Doe"}})
        sent = (await http.post(f"{WORKFLOWS}1/test-send/", json={"lead_id": 123, "by": "ada"})).json()
        assert sent == {"sent": True, "channels": [{"channel": "notifications", "sent": True, "error": None}]}
        (message,) = (await http.get("/api/notifications")).json()["notifications"]
        assert (message["message"], message["lead"]) == ("Hot: John Doe", 123)
        assert message["title"].startswith("Test: Notify on hot lead")
        invented = (await http.post(f"{WORKFLOWS}1/test-send", json={})).json()
        assert invented["sent"] is True
        refused = await http.post(f"{WORKFLOWS}2/test-send/", json={})
        assert error(refused) == (422, "id")
        assert "assign_owner sends no message" in refused.json()["error"]["reason"]
        half = (await http.post(f"{WORKFLOWS}3/test-send/", json={})).json()
        assert (half["sent"], [each["sent"] for each in half["channels"]]) == (False, [True, False])
        assert "slack" in half["channels"][1]["error"]
        assert (await http.get(EXECUTIONS)).json() == []


async def test_a_dead_execution_is_tried_again_and_others_are_not(database_url):
    webhook = DEMO | {"action_type": "send_webhook", "action_config": {"channel": "crm"}, "conditions": []}
    async with serving(database_url) as http:
        await made(http, webhook, NOTIFY)
        ran = [
            (await http.post(f"{WORKFLOWS}{number}/run/", json={"lead_id": 123})).status_code
            for number in (1, 2)
        ]
        assert ran == [404, 404], "the lead is not there yet"
        await tell(http, {"type": "qr_scanned"})
        dead, sent = [
            (await http.post(f"{WORKFLOWS}{number}/run/", json={"lead_id": 123})).json()["execution"]["id"]
            for number in (1, 2)
        ]

        async def ended(number, status):
            deadline = asyncio.get_running_loop().time() + 60
            while (row := (await http.get(f"{EXECUTIONS}{number}")).json())["status"] != status:
                assert asyncio.get_running_loop().time() < deadline, row
                await asyncio.sleep(0.1)
            return row

        assert "crm" in (await ended(dead, "dead"))["error"], "no such channel is configured"
        await ended(sent, "delivered")
        assert (await http.get(EXECUTIONS, params={"status": "dead"})).json()[0]["id"] == dead
        assert (await http.get(f"{WORKFLOWS}statistics/")).json() == {
            "total_workflows": 2,
            "active_workflows": 2,
            "total_executions": 2,
            "successful_executions": 1,
            "failed_executions": 1,
        }
        again = await http.post(f"{EXECUTIONS}{dead}/retry/")
        assert (again.status_code, again.json()["id"]) == (200, dead)
        await ended(dead, "dead")
        refused = await http.post(f"{EXECUTIONS}{sent}/retry")
        assert error(refused) == (409, "status")
        assert "carried out already" in refused.json()["error"]["reason"]
        assert error(await http.post(f"{EXECUTIONS}7/retry/")) == (404, "id")


async def test_what_a_late_event_sets_off_is_listed_as_silent_and_nothing_is_done(database_url):
    async with serving(database_url) as http:
        await made(http, DEMO | {"conditions": []})
        old = {"type": "demo_requested", "occurred_at": "2026-01-01T00:00:00Z"}
        await tell(http, old)
        (silent,) = (await http.get(EXECUTIONS)).json()
        assert (silent["status"], silent["silenced_by"], silent["channel"]) == ("silent", "late", None)
        assert (await http.get(f"{WORKFLOWS}statistics/")).json()["total_executions"] == 0
        refused = await http.post(f"{EXECUTIONS}{silent['id']}/retry/")
        assert error(refused) == (409, "status")
        assert "silently" in refused.json()["error"]["reason"]


async def test_a_lead_shows_which_workflows_were_triggered_why_and_with_what_outcome(database_url):
    async with serving(database_url) as http:
        half = DEMO["action_config"] | {"channels": ["slack"]}
        await made(
            http, DEMO | {"conditions": []}, DEMO | {"name": "Half", "conditions": [], "action_config": half}
        )
        await tell(http, {"type": "demo_requested", "event_id": "old", "occurred_at": "2026-01-01T00:00:00Z"})
        before = await http.get("/api/leads/123")
        await tell(http, {"type": "demo_requested", "event_id": "new"})
        deadline = asyncio.get_running_loop().time() + 60
        while {"waiting", "delivering"} & {
            each["status"] for each in (await http.get("/api/leads/123")).json()["workflows"]
        }:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)
        ended = await http.get("/api/leads/123", headers={"if-none-match": before.headers["etag"]})
        shown = {
            (each["workflow_name"], each["caused_by"]): each["outcome"] for each in ended.json()["workflows"]
        }
        assert shown == {
            ("Demo", "event:old"): "nothing is done: the event came more than 24 hours late",
            ("Half", "event:old"): "nothing is done: the event came more than 24 hours late",
            ("Demo", "event:new"): "carried out",
            (
                "Half",
                "event:new",
            ): "given up: there is no channel 'slack' for this tenant: LEADSTREAM_DELIVERY names the file that defines channels",
        }
        assert {each["reason"] for each in ended.json()["workflows"]} == {"the event demo_requested came"}
        same = await http.get("/api/leads/123", headers={"if-none-match": ended.headers["etag"]})
        assert same.status_code == 304
        assert (await http.get("/api/leads/123?as_of=2020-01-01T00:00:00Z")).json()["workflows"] == []

        # an execution of several channels is one, everywhere
        listed = (await http.get(EXECUTIONS, params={"limit": 3})).json()
        assert [each["status"] for each in listed[:2]] in (["delivered", "dead"], ["dead", "delivered"])
        assert len((await http.get(EXECUTIONS)).json()) == 4
        numbers = (await http.get(f"{WORKFLOWS}statistics/")).json()
        assert (numbers["total_executions"], numbers["failed_executions"]) == (2, 1)

        newest, *_ = (await http.get("/api/lead-qualification/lead-scores/history/?lead_id=123")).json()
        assert {each["caused_by"] for each in newest["workflows"]} == {"event:new"}
        assert len(newest["workflows"]) == 2
        timeline = (await http.get("/api/lead-tracking/journey/123")).json()["timeline"]
        of_workflows = [each["execution"] for each in timeline if each["kind"] == "workflow"]
        assert {each["id"] for each in of_workflows} == {each["id"] for each in ended.json()["workflows"]}
        assert len(of_workflows) == 4

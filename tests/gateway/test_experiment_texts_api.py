"""/api/experiments on a whole embedded system: written, started, counted, stopped and brought back."""

import asyncio

import pytest

from tests.gateway.test_workflows_api import error, serving

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

FORM = {
    "about": "Which button?",
    "coverage": 1.0,
    "variants": [
        {"name": "old", "weight": 0.5, "config": {"label": "Buy"}},
        {"name": "new", "weight": 0.5, "config": {"label": "Get it"}},
    ],
    "goals": [{"name": "demo", "event": "demo_requested"}],
}
AT = "/api/experiments/button"


async def published(http, path, body):
    answer = await http.post(f"{AT}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def variant(http, visitor, status=200):
    """The gateway assigns by a new text within a second."""
    answer = await http.post("/api/ab-test/variant/button", json={"session_id": visitor})
    assert answer.status_code == status, answer.text
    return answer.json()


async def eventually(check):
    for _ in range(100):
        if await check():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen within 5 seconds")


async def test_an_experiment_is_created_started_counted_stopped_and_brought_back(database_url):
    async with serving(database_url) as http:
        assert error(await http.get(AT)) == (404, "name")
        created = await published(
            http, "publish", {"form": FORM, "note": "first", "by": "ada", "based_on": 0}
        )
        assert (created["version"], created["change"], created["experiment"]) == (1, "created", "button")
        read = (await http.get(AT)).json()
        assert (read["experiment"]["status"], read["experiment"]["phase"]) == ("draft", "draft")
        assert (read["experiment"]["by"], read["experiment"]["note"]) == ("ada", "first")

        async def is_known():
            return (
                await http.post("/api/ab-test/variant/button", json={"session_id": "v"})
            ).status_code == 200

        await eventually(is_known)
        assert await variant(http, "v") == {
            "test_name": "button",
            "variant": "old",
            "config": {"label": "Buy"},
            "in_experiment": False,
        }

        assert (await published(http, "start", {"by": "eve"}))["change"] == "started"

        async def assigns():
            return (await variant(http, "v"))["in_experiment"]

        await eventually(assigns)
        tried = (await http.post(f"{AT}/try", json={"visitor_id": "v"})).json()
        assert tried["assignments"] == [
            {"id": "v", "variant": (await variant(http, "v"))["variant"], "in_experiment": True}
        ]

        async def is_counted():
            return (await http.get(AT)).json()["results"]["exposed"] == 1

        await eventually(is_counted)

        moved = {**FORM, "variants": [{**each, "weight": w} for each, w in zip(FORM["variants"], (0.3, 0.7), strict=True)]}  # fmt: skip
        assert error(await http.post(f"{AT}/publish", json={"form": moved})) == (409, "variants")
        checked = (await http.post(f"{AT}/check", json={"form": moved})).json()
        assert checked["refused"]["field"] == "variants"
        assert "new name" in checked["refused"]["reason"]
        less = await published(http, "publish", {"form": FORM | {"coverage": 0.5}, "based_on": 2})
        assert (less["version"], less["change"]) == (3, "changed")
        assert error(await http.post(f"{AT}/publish", json={"form": FORM, "based_on": 2})) == (
            409,
            "based_on",
        )

        assert error(await http.post(f"{AT}/stop", json={"winner": "other"})) == (422, "winner")
        assert (await published(http, "stop", {"winner": "new", "note": "won"}))["change"] == "stopped"

        async def shows_the_winner():
            return (await variant(http, "v"))["variant"] == "new"

        await eventually(shows_the_winner)
        assert (await http.get(AT)).json()["results"]["exposed"] == 1

        assert error(await http.post(f"{AT}/rollback", json={"version": 1})) == (409, "status")
        back = await published(http, "rollback", {"version": 3, "note": "again"})
        assert (back["version"], back["change"]) == (5, "rolled back to version 3")
        listed = (await http.get(f"{AT}/versions")).json()
        assert [(each["version"], each["by"], each["change"]) for each in listed["versions"]] == [
            (5, "open", "rolled back to version 3"),
            (4, "open", "stopped"),
            (3, "open", "changed"),
            (2, "eve", "started"),
            (1, "ada", "created"),
        ]
        diff = (await http.get(f"{AT}/versions?diff=1..2")).json()["diff"]
        assert '-status = "draft"\n+status = "running"\n' in diff


async def test_an_initial_text_is_version_0_until_the_tenant_publishes_its_own(database_url):
    async with serving(database_url) as http:
        before = (await http.get("/api/experiments/greeting_message")).json()
        assert (before["experiment"]["version"], before["experiment"]["phase"]) == (0, "running")
        form = (await http.post("/api/experiments/greeting_message/check", json={})).json()["form"]
        form["about"] = "Ours."
        changed = await http.post("/api/experiments/greeting_message/publish", json={"form": form})
        assert (changed.json()["version"], changed.json()["change"]) == (1, "changed")
        after = (await http.get("/api/experiments/greeting_message")).json()
        assert after["experiment"]["about"] == "Ours."
        assert "# The first variant is the control" in after["text"], "comments stay"
        versions = (await http.get("/api/experiments/greeting_message/versions")).json()["versions"]
        assert [each["version"] for each in versions] == [1, 0]
        form["variants"][0]["weight"], form["variants"][1]["weight"] = 0.4, 0.6
        refused = await http.post("/api/experiments/greeting_message/publish", json={"form": form})
        assert error(refused) == (409, "variants"), "the initial text was running"
        back = await http.post("/api/experiments/greeting_message/rollback", json={"version": 0})
        assert back.json()["version"] == 2
        assert (await http.get("/api/experiments/greeting_message")).json()["text"] == before["text"]


async def test_a_mistake_has_its_place_and_models_do_not_list_experiments(database_url):
    async with serving(database_url) as http:
        await published(http, "publish", {"form": FORM})
        wrong = {**FORM, "variants": [FORM["variants"][0], {"name": "new", "weight": 0.6}]}
        checked = (await http.post(f"{AT}/check", json={"form": wrong})).json()
        assert checked["problem"]["field"] == "variants.new.weight"
        line = checked["text"].split("\n")[checked["problem"]["line"] - 1]
        assert line == "weight = 0.6"
        assert checked["form"] is None
        assert error(await http.post(f"{AT}/publish", json={"form": wrong})) == (422, "text")
        assert error(await http.post(f"{AT}/publish", json={"text": "name = "})) == (422, "text")
        assert error(await http.post(f"{AT}/check", json={"text": "name = ", "form": FORM})) == (409, "text")
        assert error(await http.post(f"{AT}/publish", json={})) == (422, "text")
        other = (await http.get("/api/experiments/greeting_message")).json()["text"]
        assert error(await http.post(f"{AT}/publish", json={"text": other})) == (422, "text")
        models = (await http.get("/api/models")).json()
        assert "button" not in str(models)


async def test_a_lead_is_tried_by_its_visitors_or_by_its_own_id(database_url):
    async with serving(database_url) as http:
        events = [{"type": "page_viewed", "visitor_id": name, "lead_id": "lead-1", "event_id": name} for name in ("w1", "w2")]  # fmt: skip
        answer = await http.post("/v1/events?wait=10", json=events)
        assert answer.status_code == 200, answer.text
        await published(http, "publish", {"form": FORM})
        tried = (await http.post(f"{AT}/try", json={"lead_id": "lead-1"})).json()
        assert sorted(each["id"] for each in tried["assignments"]) == ["w1", "w2"]
        text = (await http.get(AT)).json()["text"]
        by_lead = {"lead_id": "lead-1", "text": f'unit = "lead"\n{text}'}
        tried = (await http.post(f"{AT}/try", json=by_lead)).json()
        assert [each["id"] for each in tried["assignments"]] == ["lead-1"]
        assert error(await http.post(f"{AT}/try", json={"lead_id": "nobody"})) == (404, "lead_id")
        assert error(await http.post(f"{AT}/try", json={})) == (422, "visitor_id")

"""/api/lead-qualification on a whole embedded system: rules and criteria as their users know them."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.access import read_access
from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

RULES, CRITERIA = "/api/lead-qualification/scoring-rules/", "/api/lead-qualification/qualification-criteria/"
INDUSTRY = {
    "name": "High-value industry",
    "rule_type": "firmographic",
    "field_name": "industry",
    "operator": "in_list",
    "value": '["Technology", "Finance", "Healthcare"]',
    "points": 15,
    "is_active": True,
    "priority": 10,
}
MQL = {
    "name": "Marketing Qualified Lead",
    "stage": "mql",
    "minimum_score": 40,
    "required_fields": ["email", "company", "phone"],
    "required_actions": ["email_opened", "form_submitted"],
    "time_constraint_days": 90,
    "is_active": True,
}


@asynccontextmanager
async def serving(url, **access):
    settings = Settings(database_url=url, partitions=2)
    with open_system(settings) as system:
        ports = ports_of(system, settings)
        if access:
            object.__setattr__(ports, "access", read_access(**access))
        app = create_app(ports)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            yield http


async def tell(http, *events):
    answer = await http.post("/v1/events?wait=10", json=[{"lead_id": "123", **event} for event in events])
    assert answer.status_code == 200, answer.text


def error(answer):
    return answer.status_code, answer.json()["error"]["field"]


async def test_rules_are_created_changed_switched_tried_and_deleted(database_url):
    async with serving(database_url) as http:
        made = await http.post(RULES, json=INDUSTRY)
        assert made.status_code == 201, made.text
        rule = made.json()
        assert (rule["id"], rule["editable"]) == (9, True)
        assert {key: rule[key] for key in INDUSTRY} == INDUSTRY
        listed = await http.get(RULES.rstrip("/"))
        assert listed.json()[0] == rule, "the highest priority comes first"
        assert [each["id"] for each in listed.json()] == [9, 1, 2, 3, 4, 5, 6, 7, 8]
        assert listed.headers["etag"] == '"2"', "the first of the tenant's own"

        await tell(
            http,
            {"type": "profile_updated", "fields": {"industry": "finance", "company": "Acme Corp"}},
        )
        tried = (await http.post(f"{RULES}9/test_rule/", json={"lead_id": 123})).json()
        assert (tried["rule"], tried["lead"], tried["lead_id"]) == ("High-value industry", "Acme Corp", 123)
        assert (tried["points_awarded"], tried["rule_applied"]) == (15, True)

        patched = (await http.patch(f"{RULES}9", json={"points": 20})).json()
        assert patched == rule | {"points": 20}
        off = (await http.post(f"{RULES}9/deactivate/")).json()
        assert off["is_active"] is False
        still = (await http.post(f"{RULES}9/test_rule/", json={"lead_id": "123"})).json()
        assert still["points_awarded"] == 20, "also while it is switched off"
        other = {"lead_id": 123, "rule": INDUSTRY | {"operator": "equals", "value": "SaaS", "points": -5}}
        unsaved = (await http.post(f"{RULES}test_rule", json=other)).json()
        assert (unsaved["points_awarded"], unsaved["rule_applied"]) == (0, False)

        assert (await http.delete(f"{RULES}9/")).status_code == 204
        assert error(await http.get(f"{RULES}9/")) == (404, "id")
        again = (await http.post(RULES, json=INDUSTRY)).json()
        assert again["id"] == 10, "no number is given twice"
        history = (await http.get(f"{RULES}history/")).json()
    assert [each["change"] for each in history] == [
        "rule_created 10",
        "rule_deleted 9",
        "rule_deactivated 9",
        "rule_changed 9",
        "rule_created 9",
        None,
    ], "and before that, as it came with Leadstream"
    assert {each["by"] for each in history[:-1]} == {"open"}


async def test_the_catalogue_has_the_built_in_fields_with_their_types(database_url):
    async with serving(database_url) as http:
        answer = await http.get("/api/lead-qualification/profile-fields")
    types = {each["name"]: (each["type"], each["built_in"]) for each in answer.json()["profile_fields"]}
    assert types["company"] == ("text", True)
    assert types["budget"] == ("money", True)
    assert types["email_consent"] == ("flag", True)
    assert "manual_stage" not in types


async def test_a_rule_counts_as_soon_as_its_publication_is_folded(database_url):
    async with serving(database_url) as http:
        await tell(http, {"type": "profile_updated", "fields": {"industry": "Finance"}})
        before = (await http.get("/api/leads/123")).json()["scores"]["rules"]["total"]
        await http.post(RULES, json=INDUSTRY)
        for _ in range(600):
            score = (await http.get("/api/leads/123")).json()["scores"]["rules"]
            if score["version"] == 2:
                break
            await asyncio.sleep(0.1)
    assert score["total"] == before + 15


async def test_changes_at_the_same_moment_all_take_effect(database_url):
    async with serving(database_url) as http:
        made = await asyncio.gather(
            *(http.post(RULES, json=INDUSTRY | {"name": f"Industry {n}"}) for n in range(5))
        )
        names = {each["name"] for each in (await http.get(RULES)).json()}
    assert sorted(each.json()["id"] for each in made) == [9, 10, 11, 12, 13]
    assert names >= {f"Industry {n}" for n in range(5)}


async def test_criteria_are_edited_and_say_what_a_lead_lacks(database_url):
    async with serving(database_url) as http:
        given = (await http.get(f"{CRITERIA}1")).json()
        assert given == MQL | {"id": 1}
        await tell(
            http,
            {"type": "profile_updated", "fields": {"email": "ada@example.com", "company": "Acme Corp"}},
            {"type": "email_opened"},
        )
        lacks = (await http.post(f"{CRITERIA}1/check/", json={"lead_id": 123})).json()
        # New lead, 10 points: 30 are missing; nobody knows a phone, no form was sent.
        assert (lacks["qualifies"], lacks["score"], lacks["minimum_score"]) == (False, 10, 40)
        assert lacks["missing"] == ["30 points", "phone", "form_submitted"]
        assert [(each["action"], each["met"]) for each in lacks["actions"]] == [
            ("email_opened", True),
            ("form_submitted", False),
        ]
        easier = {"minimum_score": 10, "required_fields": [], "required_actions": ["email_opened"]}
        changed = await http.patch(f"{CRITERIA}1/", json=easier)
        assert changed.status_code == 200, changed.text
        assert (await http.post(f"{CRITERIA}1/check", json={"lead_id": 123})).json()["qualifies"] is True
        made = await http.post(CRITERIA, json=MQL | {"name": "Or much score", "minimum_score": 60})
        assert (made.status_code, made.json()["id"]) == (201, 4)
        assert [each["id"] for each in (await http.get(CRITERIA)).json()] == [1, 4, 2, 3]
        assert (await http.delete(f"{CRITERIA}4")).status_code == 204


async def test_a_token_that_may_only_write_reads_no_rule(database_url):
    async with serving(database_url, tokens=["default:write:only-to-write"]) as http:
        http.headers["authorization"] = "Bearer only-to-write"
        made = await http.post(RULES, json=INDUSTRY)
        changed = await http.patch(f"{RULES}1/", json={})
        switched = await http.post(f"{CRITERIA}1/activate/")
        assert (made.status_code, made.json().keys()) == (201, {"id"})
        assert (changed.json(), switched.json()) == ({"id": 1}, {"id": 1})
        assert (await http.get(RULES)).status_code == 403


async def test_what_is_wrong_is_refused_by_field_and_changes_nothing(database_url):
    tokens = ["default:read:only-to-read", "default:read+write:to-read-and-write"]
    async with serving(database_url, tokens=tokens) as http:
        assert (await http.get(RULES)).status_code == 401
        http.headers["authorization"] = "Bearer only-to-read"
        assert (await http.post(RULES, json=INDUSTRY)).status_code == 403
        assert (await http.get(RULES)).status_code == 200
        http.headers["authorization"] = "Bearer to-read-and-write"
        for field, wrong in {
            "operator": "is_like",
            "points": "many",
            "field_name": "no_such_field",
            "value": '["unclosed',
            "rule_type": "Not A Name",
            "name": "",
            "is_active": "yes",
            "colour": "red",
        }.items():
            assert error(await http.post(RULES, json=INDUSTRY | {field: wrong})) == (422, field)
        assert error(await http.put(f"{RULES}77/", json=INDUSTRY)) == (404, "id")
        assert (await http.post(RULES, content=b"{")).status_code == 400
        assert error(await http.post(f"{RULES}1/test_rule/", json={"lead_id": 99})) == (404, "lead_id")
        assert error(await http.post(f"{RULES}1/test_rule/", json={})) == (422, "lead_id")
        assert error(await http.post(CRITERIA, json=MQL | {"minimum_score": "lots"})) == (
            422,
            "minimum_score",
        )
        assert error(await http.post(CRITERIA, json=MQL | {"required_actions": ["flown"]})) == (
            422,
            "required_actions",
        )
        versions = (await http.get(f"{RULES}history")).json()
        assert [each["version"] for each in versions] == [1], "as it came with Leadstream"
        (await http.post(RULES, json=INDUSTRY)).raise_for_status()
        assert (await http.get(f"{RULES}history")).json()[0]["by"].startswith("token ")

        counting = ", ".join(f'{{ name = "R{n}", each = "qr_scanned", points = 1 }}' for n in range(200))
        full = f'model = "rules"\n[groups.firmographic]\nrules = [{counting}]\n'
        (await http.post("/api/models/rules/publish", json={"text": full})).raise_for_status()
        too_many = await http.post(RULES, json=INDUSTRY)
        assert (too_many.status_code, "at most 200 rules" in too_many.text) == (409, True)
        other_shape = await http.patch(f"{RULES}200", json={"operator": "equals"})
        assert (other_shape.status_code, "in the text of the model" in other_shape.text) == (409, True)
        assert (await http.patch(f"{RULES}200", json={"points": 2})).json()["points"] == 2

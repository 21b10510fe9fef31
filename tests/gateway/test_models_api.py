"""/api/models over a real PostgreSQL: what an author sees, does, and is refused."""

from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import psycopg
import pytest
from authors import START, Desks, text

from authoring.active_models import built_in_shards
from authoring.schedule import publish_scheduled
from gateway.access import read_access
from gateway.app import create_app
from gateway.ports import Ports
from scoring.models.active import ActiveModels, ModelVersion, SweepState
from scoring.models.model import built_in_models, optional_models

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]


@pytest.fixture
def desks(database_url):
    return Desks(database_url)


@asynccontextmanager
async def visiting(desks, *, access=None, shards=built_in_shards, **headers):
    named = {} if access is None else {"access": access}
    app = create_app(Ports(desks.append, desks.url, now=desks.now, shards=shards, **named))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as http,
    ):
        yield http


def problem(answer):
    return answer.status_code, answer.json()["error"]["field"]


async def test_models_are_listed_with_those_that_may_be_published(desks):
    async with visiting(desks) as http:
        before = (await http.get("/api/models")).json()
        assert [each["model"] for each in before["models"]] == sorted(built_in_models())
        assert all(each["shared"] and each["version"] == 1 and each["about"] for each in before["models"])
        assert [each["model"] for each in before["optional"]] == sorted(optional_models())
        [optional] = optional_models()
        published = (
            await http.post(
                f"/api/models/{optional}/publish", json={"shipped": True, "by": "ada", "note": "try"}
            )
        ).json()
        assert (published["version"], published["state"], published["by"]) == (1, "published", "ada")
        after = (await http.get("/api/models")).json()
        assert after["optional"] == []
        [mine] = [each for each in after["models"] if each["model"] == optional]
    assert (mine["shared"], mine["since"], mine["by"], mine["note"]) == (
        False,
        "2030-01-31T10:00:00Z",
        "ada",
        "try",
    )


async def test_a_model_is_shown_with_its_text_and_the_text_as_data(desks):
    async with visiting(desks) as http:
        await http.post("/api/models/house/publish", json={"text": text(2.5)})
        shown = (await http.get("/api/models/house")).json()
        assert (await http.get("/api/models/nowhere")).status_code == 404
    assert shown["text"] == text(2.5)
    assert shown["outline"] == {
        "model": "house",
        "about": "Ours.",
        "groups": [{"name": "g", "rules": [{"name": "Scan", "each": "qr_scanned", "points": 2.5}]}],
    }


async def test_the_history_says_what_changed_and_an_earlier_version_comes_back(desks):
    async with visiting(desks) as http:
        await http.post("/api/models/house/publish", json={"text": text(1), "by": "ada", "note": "first"})
        desks.pass_time(hours=1)
        await http.post("/api/models/house/publish", json={"text": text(2), "by": "ben"})
        back = (await http.post("/api/models/house/rollback", json={"version": 1, "by": "ada"})).json()
        assert (back["version"], back["change"]) == (3, "rolled back to version 1")
        told = (await http.get("/api/models/house/versions")).json()["versions"]
        diff = (await http.get("/api/models/house/versions?diff=1..2")).json()["diff"]
        assert problem(await http.get("/api/models/house/versions?diff=1-2")) == (422, "diff")
        assert problem(await http.get("/api/models/house/versions?diff=1..9")) == (404, "version")
        assert problem(await http.post("/api/models/house/rollback", json={"version": 9})) == (404, "version")
    assert [(each["version"], each["by"], each["note"], each["at"]) for each in told] == [
        (3, "ada", None, "2030-01-31T11:00:00Z"),
        (2, "ben", None, "2030-01-31T11:00:00Z"),
        (1, "ada", "first", "2030-01-31T10:00:00Z"),
    ]
    assert [line for line in diff.splitlines() if line[:1] in "+-"] == [
        "--- house version 1, 2030-01-31 10:00:00Z, by ada: first",
        "+++ house version 2, 2030-01-31 11:00:00Z, by ben",
        '-rules = [{ name = "Scan", each = "qr_scanned", points = 1 }]',
        '+rules = [{ name = "Scan", each = "qr_scanned", points = 2 }]',
    ]


async def test_versions_are_told_a_few_at_a_time(desks):
    async with visiting(desks) as http:
        for points in (1, 2, 3):
            await http.post("/api/models/house/publish", json={"text": text(points)})

        async def page(query):
            told = (await http.get(f"/api/models/house/versions?{query}")).json()
            return [each["version"] for each in told["versions"]], told["next_offset"]

        assert await page("") == ([3, 2, 1], None)
        assert await page("limit=2") == ([3, 2], 2)
        assert await page("limit=2&offset=2") == ([1], None)
        assert problem(await http.get("/api/models/house/versions?limit=0")) == (422, "limit")


async def test_of_many_drafts_the_newest_are_listed_and_older_ones_from_there(desks):
    async with visiting(desks) as http:
        await http.post("/api/models/house/drafts", json={"text": text(1)})
        with psycopg.connect(desks.url) as connection:
            connection.execute(
                """insert into model_drafts (tenant, model, state, text, fire, created_at, changed_at)
                   select tenant, model, state, text, fire, created_at, changed_at from model_drafts, generate_series(1, 52)"""
            )
        first = (await http.get("/api/models/house/drafts")).json()["drafts"]
        assert [each["id"] for each in first] == list(range(53, 3, -1))
        rest = (await http.get("/api/models/house/drafts?before=4")).json()["drafts"]
        assert [each["id"] for each in rest] == [3, 2, 1]


async def test_a_text_that_is_in_force_already_is_unchanged(desks):
    async with visiting(desks) as http:
        said = [
            (await http.post("/api/models/house/publish", json={"text": text(1)})).json() for _ in range(2)
        ]
    assert [(each["version"], each["state"]) for each in said] == [(1, "published"), (1, "unchanged")]


async def test_the_shipped_text_replaces_the_tenants_own_only_if_it_is_asked_for(desks):
    ours = built_in_models()["rules"] + "# ours\n"
    async with visiting(desks) as http:
        await http.post("/api/models/rules/publish", json={"text": ours})
        for asked in ({"note": "no text"}, {"shipped": True, "text": ours}):
            refused = await http.post("/api/models/rules/publish", json=asked)
            assert problem(refused) == (422, "text")
            assert '"shipped": true' in refused.json()["error"]["reason"]
        assert (await http.get("/api/models/rules")).json()["text"] == ours
        await http.post("/api/models/rules/publish", json={"shipped": True})
        assert (await http.get("/api/models/rules")).json()["text"] == built_in_models()["rules"]


async def test_a_draft_goes_its_way_to_a_scheduled_publication(desks):
    moment = START + timedelta(days=1)
    async with visiting(desks) as http:
        draft = (await http.post("/api/models/house/drafts", json={"text": text(1), "by": "ada"})).json()
        where = f"/api/models/house/drafts/{draft['id']}"
        assert (draft["state"], draft["based_on"]) == ("draft", 0)
        assert (await http.put(where, json={"text": text(4), "note": "more"})).json()["note"] == "more"
        assert (await http.get(where)).json()["text"] == text(4)
        later = await http.post(f"{where}/publish", json={"effective_from": moment.isoformat()})
        assert (later.status_code, later.json()["state"]) == (202, "scheduled")
        [listed] = (await http.get("/api/models/house/drafts")).json()["drafts"]
        assert (listed["id"], listed["effective_from"]) == (draft["id"], "2030-02-01T10:00:00Z")
        assert (await http.get("/api/models/house")).status_code == 404
        desks.pass_time(days=1)
        await publish_scheduled(desks.authoring())
        shown = (await http.get("/api/models/house")).json()
        assert (shown["version"], shown["text"], shown["since"]) == (1, text(4), "2030-02-01T10:00:00Z")
        assert problem(await http.put(where, json={"note": "late"})) == (409, "id")


async def test_a_draft_of_a_text_that_was_overtaken_while_it_was_written_is_refused(desks):
    async with visiting(desks) as http:
        for points in (1, 2):
            await http.post("/api/models/house/publish", json={"text": text(points)})
        late = await http.post("/api/models/house/drafts", json={"text": text(3), "based_on": 1})
        assert problem(late) == (409, "based_on")
        written = await http.post("/api/models/house/drafts", json={"text": text(3), "based_on": 2})
        assert (written.status_code, written.json()["based_on"]) == (201, 2)


async def test_the_second_of_two_who_change_a_draft_at_once_is_refused(desks):
    async with visiting(desks) as http:
        draft = (await http.post("/api/models/house/drafts", json={"text": text(1), "by": "ada"})).json()
        where = f"/api/models/house/drafts/{draft['id']}"
        desks.pass_time(seconds=1)
        first = await http.put(where, json={"text": text(2), "changed_at": draft["changed_at"]})
        assert (first.status_code, first.json()["by"]) == (200, "open"), "who changed it, not who began it"
        late = await http.put(where, json={"text": text(3), "changed_at": draft["changed_at"]})
        assert problem(late) == (409, "changed_at")
        assert (await http.get(where)).json()["text"] == text(2)
        again = await http.put(where, json={"text": text(3), "changed_at": first.json()["changed_at"]})
        assert again.status_code == 200


async def test_a_discarded_draft_is_published_no_more(desks):
    async with visiting(desks) as http:
        draft = (await http.post("/api/models/house/drafts", json={"text": text(1)})).json()
        where = f"/api/models/house/drafts/{draft['id']}"
        assert (await http.delete(where)).json()["state"] == "discarded"
        assert problem(await http.post(f"{where}/publish", json={})) == (409, "id")
    assert desks.events == []


async def test_an_overtaken_text_is_refused_with_what_to_do(desks):
    async with visiting(desks) as http:
        await http.post("/api/models/house/publish", json={"text": text(1)})
        draft = (await http.post("/api/models/house/drafts", json={"text": text(2)})).json()
        await http.post("/api/models/house/publish", json={"text": text(3), "based_on": 1})
        stale = await http.post("/api/models/house/publish", json={"text": text(4), "based_on": 1})
        assert problem(stale) == (409, "based_on")
        overtaken = await http.post(f"/api/models/house/drafts/{draft['id']}/publish", json={})
        assert problem(overtaken) == (409, "based_on")
        assert "/api/models/house/versions?diff=1..2" in overtaken.json()["error"]["reason"]
        forced = await http.post(f"/api/models/house/drafts/{draft['id']}/publish", json={"force": True})
        assert (forced.status_code, forced.json()["version"]) == (200, 3)


async def test_refusals_name_the_place(desks):
    wrong = text('"many"')
    async with visiting(desks) as http:
        refused = await http.post("/api/models/house/publish", json={"text": wrong})
        assert problem(refused) == (422, "text")
        reason = refused.json()["error"]["reason"]
        assert "line 4" in reason
        assert "'Scan'" in reason
        assert problem(await http.post("/api/models/house/publish", json={})) == (422, "text")
        assert problem(await http.post("/api/models/house/publish", json={"txt": ""})) == (422, "body")
        assert problem(await http.post("/api/models/house/publish", content=b"{")) == (400, "body")
        assert problem(await http.post("/api/models/house/publish", json={"note": "\0"})) == (422, "body")
        assert problem(await http.get("/api/models/No-Name")) == (422, "name")
        assert problem(await http.delete("/api/models/rules")) == (409, "force")
        assert (await http.delete("/api/models/rules?force=true&note=enough")).json()["note"] == "enough"
        retired = (await http.get("/api/models/rules")).json()
    assert (retired["retired"], retired["text"], retired["outline"]) == (True, None, None)


async def test_tenants_and_scopes_are_kept_apart_and_the_author_is_the_token(desks):
    access = read_access(
        [], ["acme:read+write:acme-author", "acme:read:acme-reader", "globex:read+write:globex-one"]
    )
    async with visiting(desks, access=access, authorization="Bearer acme-author") as http:
        said = (await http.post("/api/models/house/publish", json={"text": text(1)})).json()
        draft = (await http.post("/api/models/house/drafts", json={"text": text(2)})).json()
    assert said["by"].startswith("token ")
    assert len(said["by"]) == len("token 1a2b")
    where = f"/api/models/house/drafts/{draft['id']}"
    async with visiting(desks, access=access, authorization="Bearer acme-reader") as http:
        assert (await http.get(where)).status_code == 200
        for refused in (
            await http.post("/api/models/house/publish", json={"text": text(1)}),
            await http.post("/api/models/house/drafts", json={"text": text(1)}),
            await http.post("/api/models/house/rollback", json={"version": 1}),
            await http.put(where, json={"note": "x"}),
            await http.delete(where),
            await http.post(f"{where}/publish", json={}),
            await http.delete("/api/models/house"),
        ):
            assert refused.status_code == 403
    async with visiting(desks, access=access, authorization="Bearer globex-one") as http:
        assert (await http.get("/api/models/house")).status_code == 404
        assert (await http.get(where)).status_code == 404
        assert (await http.get("/api/models/house/drafts")).json()["drafts"] == []
        assert (await http.post(f"{where}/publish", json={})).status_code == 404
        assert (await http.get("/api/models/house/progress")).status_code == 404


async def test_a_token_that_may_only_write_reads_no_text(desks):
    access = read_access([], ["acme:read+write:acme-author", "acme:write:acme-writer"])
    async with visiting(desks, access=access, authorization="Bearer acme-author") as http:
        draft = (await http.post("/api/models/house/drafts", json={"text": text(2), "note": "secret"})).json()
    where = f"/api/models/house/drafts/{draft['id']}"
    async with visiting(desks, access=access, authorization="Bearer acme-writer") as http:
        answers = [
            await http.put(where, json={}),
            await http.put(where, content=b""),
            await http.post("/api/models/house/drafts", json={"text": text(3)}),
            await http.post(f"{where}/publish", json={}),
            await http.delete(f"/api/models/house/drafts/{draft['id'] + 1}"),
        ]
        for refused in (await http.get(where), await http.get("/api/models/house")):
            assert refused.status_code == 403
    assert [each.status_code for each in answers] == [200, 200, 201, 200, 200]
    for each in answers:
        assert each.json().keys() == {"id", "model", "state", "version"}


async def test_progress_counts_partitions_and_estimates_leads_without_naming_those_of_others(desks):
    """Four leads of this tenant, a to d, and one of another. A partition that has come to the key of c has
    left a and b behind, half of its share of two.
    """
    with psycopg.connect(desks.url) as connection:
        for key, (tenant, lead) in enumerate([*(("default", lead) for lead in "abcd"), ("acme", "a")]):
            connection.execute(
                """insert into live.leads (lead_key, tenant, lead_id, identified, created_at, stage, identities, as_of,
                     counts, fields, position) values (%s, %s, %s, true, now(), 'new', 1, now(), '{}', '{}', 1)""",
                (key, tenant, lead),
            )
    state = []

    async def shards(_wanted):
        return state

    def shard(version, sweep=None):
        return ActiveModels({"*": {"rules": ModelVersion(version, "text")}}, sweep=sweep)

    async with visiting(desks, shards=shards) as http:
        state[:] = [shard(2), shard(2, SweepState("what", "default/l/c", "*", "rules"))]
        told = (await http.get("/api/models/rules/progress")).json()
        assert (told["version"], told["complete"]) == (2, False)
        assert told["partitions"] == {"done": 1, "of": 2}
        assert told["leads"] == {"visited": 3, "of": 4}
        assert told["by_partition"][1] == {
            "partition": 1,
            "version": 2,
            "state": "sweeping",
            "cursor": "default/l/c",
        }
        state[1] = shard(2, SweepState("what", "acme/l/a", "*", "rules"))
        told = (await http.get("/api/models/rules/progress")).json()
        assert told["by_partition"][1]["cursor"] is None
        state[1] = shard(2)
        told = (await http.get("/api/models/rules/progress")).json()
        assert (told["complete"], told["leads"]) == (True, None)


async def test_every_address_is_documented_with_an_example(desks):
    async with visiting(desks) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
    found = [
        (path, method) for path in paths for method, told in paths[path].items() if told["tags"] == ["models"]
    ]
    assert len(found) >= 13
    for path, method in found:
        told = paths[path][method]
        assert told["summary"]
        answers = [each for status, each in told["responses"].items() if status.startswith("2")]
        assert any(
            {"example", "examples"} & each["content"]["application/json"].keys() for each in answers
        ), (path, method)
        if method in {"post", "put"}:
            assert told["requestBody"]["content"]["application/json"]["example"]

"""Drafts tried on a real store: at the command line and over the API, without publishing them."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import psycopg
import pytest
from command_line import leadstream_here
from msgspec import structs

from gateway.access import read_access
from gateway.app import create_app
from gateway.ports import Ports
from leadstream.clock import now_ms
from leadstream.embedded_postgres import create_database
from leadstream.evaluation.backtest_port import backtest_port
from leadstream.evaluation.recorded_events import recorded_events
from leadstream.evaluation.what_if import what_if, what_if_port
from leadstream.operations import recalculation
from leadstream.operations.recalculation import (
    begin_recalculation,
    differing_leads_of_all,
    recalculate,
    recalculate_what_is_due,
)
from projections.table_definition import READ_OPTIONS
from scoring.models.model import built_in_models
from streams.score_leads.lead_state import LeadState

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC).replace(microsecond=0)
BEGIN = NOW - timedelta(days=100)
TEMPERATURE = built_in_models()["temperature"]
WARMER = TEMPERATURE.replace("points = 3, max = 15", "points = 13, max = 60").replace(
    "max = 40", "max = 60", 1
)
COUNTING = """
model = "quarter"
bands = { rank = { many = 2 } }
[signals]
north = { event = "custom:visit", field = "side", equals = "north" }
[groups.g]
rules = [{ name = "North", each = "north", points = 1 }]
"""
LEADS = 12


def events():
    """Lead n scans n codes and visits n times; every third buys on the 50th day. And a crawler, a stranger."""
    number = 0
    for lead in range(LEADS):
        who = {"lead_id": f"lead{lead:02}", "source": "crm"}
        yield {"type": "profile_updated", "fields": {"name": f"Name {lead}"}} | who, timedelta()
        for scan in range(lead):
            number += 1
            yield {"type": "qr_scanned"} | who, timedelta(days=1, minutes=number)
            side = "north" if scan % 2 else "south"
            yield (
                {"type": "custom", "name": "visit", "properties": {"side": side}} | who,
                timedelta(days=2, hours=scan),
            )
        if lead % 3 == 2:
            yield {"type": "purchase_made", "value": 5, "currency": "EUR"} | who, timedelta(days=50)
    yield {"type": "qr_scanned", "visitor_id": "stranger", "source": "web"}, timedelta(days=3)
    yield {"type": "page_viewed", "lead_id": "lead00", "source": "web"}, timedelta(days=99)


def lines():
    for number, (event, after) in enumerate(events()):
        yield (
            json.dumps(event | {"event_id": f"e{number}", "occurred_at": (BEGIN + after).isoformat()}) + "\n"
        )


@pytest.fixture(scope="module")
def store(postgres_url, tmp_path_factory):
    """(command, url) of a store with a hundred days in it."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(create_database("trying"))
    url = postgres_url.replace("/leadstream?", "/trying?")
    folder = tmp_path_factory.mktemp("trying")

    def run(*arguments, code=0, aside=False):
        """What it writes to standard output; to standard error, if it fails or `aside` is asked for."""
        done = leadstream_here(
            *arguments,
            LEADSTREAM_DATABASE_URL=url,
            LEADSTREAM_DATA_DIR=str(folder),
            LEADSTREAM_PARTITIONS="2",
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return (done.stderr if code or aside else done.stdout).decode()

    archive = folder / "events.jsonl"
    archive.write_text("".join(lines()), encoding="utf-8")
    run("import", "events", archive)
    yield run, url
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("drop database trying with (force)")


def written(folder: Path, text: str) -> Path:
    file = folder / "draft.toml"
    file.write_text(text, encoding="utf-8")
    return file


def totals(url, model):
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        return dict(
            connection.execute(
                """select lead_id, total::float from lead_scores join leads using (lead_key)
                   where model = %s and identities > 0 and leads.identified""",
                (model,),
            ).fetchall()
        )


def test_a_draft_that_counts_something_new_says_so_and_a_replay_counts_it(store, tmp_path):
    command, _ = store
    draft = written(tmp_path, COUNTING)
    told = json.loads(command("what-if", draft, "--json"))
    assert told["needs_replay"]["signals"] == ["north"]
    assert told["needs_replay"]["events"] == sum(1 for _ in events())
    assert told["needs_replay"]["seconds"] > 0
    assert (told["leads"]["leads"], told["leads"]["up"]) == (LEADS, 0)
    warned = command("what-if", draft, aside=True)
    assert "No active model counts north" in warned
    assert "counted as zero here" in warned
    told = json.loads(command("what-if", draft, "--json", "--replay"))
    assert told["needs_replay"] is None
    # Lead n visits n times, every second time from the north.
    north = [lead // 2 for lead in range(LEADS)]
    assert told["leads"]["up"] == sum(count > 0 for count in north)
    assert told["leads"]["fires"] == [{"scale": "rank", "band": "many", "leads": sum(n >= 2 for n in north)}]
    assert told["leads"]["movers"][0] == {
        "tenant": "default",
        "lead_id": "lead11",
        "name": "Name 11",
        "before": 0,
        "after": 5,
        "change": 5,
        "bands": [{"scale": "rank", "from": None, "to": "many"}],
        "lines": [{"group": "g", "rule": "North", "kind": "points", "points": 5}],
    }


def test_a_replay_without_new_signals_says_what_the_stored_leads_say(store, tmp_path):
    command, _ = store
    draft = written(tmp_path, WARMER)
    stored, replayed = (json.loads(command("what-if", draft, "--json", *more)) for more in ([], ["--replay"]))
    assert stored["leads"]["up"] == LEADS - 1
    assert stored["anonymous"]["leads"] == replayed["anonymous"]["leads"] == 1
    assert stored["leads"] == replayed["leads"]


def test_a_report_for_people_names_who_moves_why_and_what_would_fire(store, tmp_path):
    command, _ = store
    told = command("what-if", written(tmp_path, WARMER))
    assert "that rise: 11\n" in told
    # Four scans were worth 12, and are worth 52; five and more reach the cap of 60.
    [row] = [line for line in told.splitlines() if "Name 4 " in line]
    assert re.split(r"\s{2,}", row.strip()) == [
        "Name 4",
        "12",
        "52",
        "cold to hot",
        "+40 QR scans",
    ]
    assert "temperature hot: for 8 leads\n" in told  # leads 4 to 11
    assert "temperature warm: for 10 leads\n" in told  # leads 2 to 11


def test_what_cannot_be_tried_is_refused_with_the_remedy(store, tmp_path):
    command, _ = store
    assert "nor a built-in model" in command("what-if", "nothing", code=1)
    assert "line 1" in command("what-if", written(tmp_path, "model = 5"), code=1)
    assert "name the tenant" in command("what-if", "temperature", "--tenant", "*", code=1)
    assert "two different models" in command("backtest", "rules", "--against", "rules", code=1)


def test_a_backtest_of_two_models_on_the_store(store, tmp_path):
    command, _ = store
    options = ["--every", "40d", "--horizon", "20d", "--capacity", "4"]
    draft = written(tmp_path, COUNTING)
    told = json.loads(command("backtest", draft, "--against", "temperature", *options, "--json"))
    [cutoff] = told["cutoffs"]
    assert datetime.fromisoformat(cutoff["at"]) == BEGIN + timedelta(days=40)
    # Leads 2, 5, 8 and 11 buy; by visits from the north 11 and 10 lead (five each), then 9 and 8 (four each).
    found = told["pooled"]["draft.toml"]
    assert (found["leads"], found["converted"], found["capacity"]["converted"]) == (LEADS, 4, 2)
    assert found["capacity"]["precision"] == 0.5
    # By QR scans five and more are worth the same 15: seven leads, of whom three buy.
    assert told["pooled"]["temperature"]["capacity"]["converted"] == pytest.approx(4 * 3 / 7)
    assert told["more_converted_than"] == {"temperature": pytest.approx(2 - 12 / 7)}
    shown = command("backtest", draft, "--against", "temperature", *options)
    assert "draft.toml finds 0.3 conversions more than temperature." in shown
    assert "shorter --every or --horizon" in command("backtest", "temperature", "--horizon", "90d", code=1)
    assert "is not a conversion" in command("backtest", "temperature", "--conversion", "luck", code=1)
    assert "12h, 30d or 4w" in command("backtest", "temperature", "--every", "soon", code=2)


def test_over_the_api_a_backtest_says_the_same_and_what_became_of_the_leads_of_each_rule(store):
    _, url = store

    async def append(_records):
        raise AssertionError("a backtest writes nothing")

    access = read_access(tokens=["default:read+author:secret-token"])
    ports = Ports(append=append, database_url=url, access=access, backtest=backtest_port(url))
    wishes = {
        "text": COUNTING,
        "against": ["temperature"],
        "every_days": 40,
        "horizon_days": 20,
        "capacity": 4,
    }

    async def asked():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(ports)),
            base_url="http://127.0.0.1",
            headers={"Authorization": "Bearer secret-token"},
        ) as client:
            path = "/api/models/quarter/backtest"
            return [
                await client.post(path, json=wishes),
                await client.post(path, json=wishes, headers={"Accept": "application/x-ndjson"}),
                await client.post(path, json={**wishes, "conversion": "luck"}),
                await client.post(path, json={**wishes, "against": ["nothing"]}),
                await client.post(path, json={**wishes, "text": "model = 5"}),
                await client.post("/api/models/quarter/backtest", json={}),
            ]

    whole, streamed, luck, nothing, wrong, not_active = anyio.run(asked)
    result = whole.json()
    by_name = {each["model"]: each for each in result["models"]}
    # The same leads, conversions and choices as on the command line, above.
    assert (by_name["draft"]["leads"], by_name["draft"]["converted"], result["cutoffs"]) == (LEADS, 4, 1)
    assert by_name["draft"]["capacity"]["converted"] == 2
    assert by_name["temperature"]["capacity"]["converted"] == pytest.approx(4 * 3 / 7)
    assert result["more_converted_than"] == [{"model": "temperature", "leads": pytest.approx(2 - 12 / 7)}]
    # Lead n has n // 2 visits from the north: ten leads have some, and all four buyers are among them.
    [north] = result["rules"]
    assert (north["rule"], north["leads"], north["converted"], north["other_leads"], north["other_rate"]) == (
        "North",
        10,
        4,
        2,
        0,
    )
    assert (north["verdict"], north["suggested_points"]) == ("too_few", None)
    *progress, last = map(json.loads, streamed.text.splitlines())
    assert last == result
    assert progress[0]["done"] == 0
    assert progress[0]["of"] == sum(1 for _ in events())
    assert (luck.status_code, luck.json()["error"]["field"]) == (422, "conversion")
    assert "--" not in luck.json()["error"]["reason"], "fields are named, not options"
    assert (nothing.status_code, nothing.json()["error"]["field"]) == (404, "against")
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "text")
    assert not_active.status_code == 404


def test_the_archive_comes_in_the_order_of_its_recording_also_when_sorted_on_disk(store):
    _, url = store
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        whole = list(recorded_events(connection, "default"))
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        spilled = list(recorded_events(connection, "default", in_memory=7))
        assert list(recorded_events(connection, "defaul")) == []
    assert spilled == whole
    assert [each.at for each in whole] == sorted(each.at for each in whole)
    assert len(whole) == sum(1 for _ in events())


def test_over_the_api_a_draft_is_tried_with_progress_and_nothing_is_changed(store):
    _, url = store
    access = read_access(tokens=["default:read:secret-token", "other:read:other-token"])

    async def append(_records):
        raise AssertionError("a what-if writes nothing")

    ports = Ports(append=append, database_url=url, access=access, what_if=what_if_port(url, now_ms))

    async def asked():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(ports)), base_url="http://127.0.0.1"
        ) as client:
            path, told = "/api/models/temperature/what-if", {"Authorization": "Bearer secret-token"}
            other = {"Authorization": "Bearer other-token"}
            draft = {"text": WARMER}
            return [
                await client.post(path, json=draft, headers=told),
                await client.post(path, json=draft, headers=told | {"Accept": "application/x-ndjson"}),
                await client.post(path, json=draft, headers=other),
                await client.post(path, json=draft),
                await client.post(path, json={"text": "model = 5"}, headers=told),
                await client.post("/api/models/rules/what-if", json=draft, headers=told),
                await client.post(path, content=b"{", headers=told),
                await client.post(path, json={}, headers=told),
            ]

    whole, streamed, others, stranger, wrong, misnamed, broken, empty = anyio.run(asked)
    assert whole.status_code == 200
    assert whole.json()["leads"]["up"] == LEADS - 1
    *progress, last = map(json.loads, streamed.text.splitlines())
    assert streamed.headers["content-type"] == "application/x-ndjson"
    assert progress[-1] == {"done": LEADS + 1, "of": LEADS + 1}
    assert last["leads"] == whole.json()["leads"]
    assert others.json()["leads"]["leads"] == 0
    assert (stranger.status_code, wrong.status_code, misnamed.status_code) == (401, 422, 422)
    assert wrong.json()["error"] == {
        "field": "text",
        "reason": "line 1, model: 5 is not a name of small letters, digits and _",
    }
    assert "'temperature', not of 'rules'" in misnamed.json()["error"]["reason"]
    assert (broken.status_code, empty.status_code) == (400, 422)


def test_a_lead_whose_head_is_not_there_yet_is_left_out_and_said(store):
    """As beside Kafka, where an older version projected no heads."""
    _, url = store
    rename = "update public.state set part = %s where stage = 'score_leads' and key = 'default/l/lead07' and part = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(rename, ("later", "head"))
        try:
            *_, told = what_if(url, "default", "temperature", WARMER, now_ms())
        finally:
            connection.execute(rename, ("head", "later"))
    assert (told["not_readable_yet"], told["leads"]["leads"]) == (1, LEADS - 1)


def test_publishing_does_what_was_said_before(store, tmp_path):
    """After those that try a draft, since it publishes."""
    command, url = store
    draft = written(tmp_path, WARMER)
    *_, told = what_if(url, "default", "temperature", WARMER, now_ms())
    command("publish", draft, "--fire")
    after = totals(url, "temperature")
    moved = {mover["lead_id"]: mover["after"] for mover in told["leads"]["movers"]}
    assert len(moved) == LEADS - 1
    assert {lead: after[lead] for lead in moved} == moved
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        fired = dict(
            connection.execute(
                """select band_crossed, count(*) from band_changes join leads using (lead_key),
                   jsonb_array_elements_text(crossed) band_crossed
                   where model = 'temperature' and version = 2 and identified and not silent group by 1"""
            ).fetchall()
        )
    assert fired == {each["band"]: each["leads"] for each in told["leads"]["fires"]}
    assert fired


def test_a_tenant_with_its_own_model_and_no_leads_is_told_both(store):
    command, _ = store
    command("publish", "temperature", "--tenant", "elsewhere")
    told = command("what-if", "temperature", "--tenant", "elsewhere", aside=True)
    assert "only a publication with --tenant elsewhere changes" in told
    assert "elsewhere has no leads to compare" in told
    told = command("what-if", "temperature", aside=True)
    assert "its own" not in told
    assert "no leads" not in told


def test_a_backtest_says_what_its_figures_cannot_tell(store):
    command, _ = store
    options = ["--every", "10d", "--horizon", "20d", "--capacity", "50"]
    told = command("backtest", "temperature", *options, aside=True)
    assert "At 7 of 7 cutoffs there are no more leads than --capacity" in told
    assert "one conversion counts at several cutoffs" in told


# Recalculating


def stored_state(connection):
    return connection.execute(
        "select partition, key, part, value from lead_parts order by 1, 2, 3"
    ).fetchall()


def begun(url, at, tenant="default"):
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        begin_recalculation(connection, tenant, at, "test", at)


def test_a_recalculation_of_every_lead_finds_nothing_and_changes_nothing(store, monkeypatch):
    """In pages; broken off after the first one, it goes on behind it. A page that another process has is left to it."""
    command, url = store
    monkeypatch.setattr(recalculation, "PAGE_LEADS", 5)
    at = datetime.now(UTC)
    begun(url, at)
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        before = stored_state(connection)
        first = next(recalculate(url, "default", at, at))
        assert (first.checked, first.ended_at) == (5, None)
        connection.execute("select * from public.recalculations for update")
        assert list(recalculate(url, "default", at, at)) == []
        connection.rollback()
        *_, last = recalculate(url, "default", at, at)
        assert (last.checked, last.differing, last.ended_at > at) == (LEADS + 1, 0, True)
        assert list(recalculate(url, "default", at, at)) == []
        assert stored_state(connection) == before
    assert json.loads(command("recalculate", "--json"))["checked"] == LEADS + 1


def test_a_recalculation_names_the_lead_and_the_lines_that_differ(store):
    """A stored score that somebody has changed: 10 points more than the lead's events give."""
    command, url = store
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        [(value,)] = connection.execute(
            "select value from lead_parts where key = 'default/l/lead05' and part = 'head'"
        ).fetchall()
        state = LeadState("default/l/lead05", {"head": bytes(value)})
        emitted = state.head.emitted["temperature"]
        vector = [emitted.vector[0] + 10_000_000, *emitted.vector[1:]]
        state.head.emitted["temperature"] = structs.replace(
            emitted, total=emitted.total + 10_000_000, vector=vector
        )
        state.mark_head_changed()
        wrong = state.changes()["head"]
        found = replaced(connection, bytes(value), wrong)
    try:
        at = datetime.now(UTC)
        begun(url, at)
        *_, status = recalculate(url, "default", at, at)
        assert (found, status.differing) == (1, 1)
        [difference] = status.differences
        assert (difference["lead_id"], difference["what"]) == ("lead05", "temperature")
        stored, right = (int(difference[name].partition(",")[0]) for name in ("stored", "recalculated"))
        assert stored == right + 10
        assert [line["points"] for line in difference["lines"]] == [-10]
        assert differing_leads_of_all(url) == 1
        command("recalculate", code=1)
    finally:
        with psycopg.connect(url, options=READ_OPTIONS) as connection:
            replaced(connection, wrong, bytes(value))
    begun(url, datetime.now(UTC))
    command("recalculate")
    assert differing_leads_of_all(url) == 0


def replaced(connection, old, new):
    changed = connection.execute("update public.state set value = %s where value = %s", (new, old)).rowcount
    connection.commit()
    return changed


def test_every_night_at_two_of_the_tenants_clocks_a_recalculation_begins_once(store):
    _, url = store
    since = datetime(2040, 3, 1, 12, tzinfo=UTC)
    night = datetime(2040, 3, 2, 2, tzinfo=UTC)
    for now in (since, night - timedelta(seconds=1), night, night + timedelta(hours=3)):
        recalculate_what_is_due(url, now, since)
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        nights = connection.execute(
            "select tenant, scheduled_for, started_at, ended_at is not null, checked from public.recalculations where started_by = 'schedule'"
        ).fetchall()
    assert nights == [("default", night, night, True, LEADS + 1)]


def test_a_recalculation_that_is_stopped_goes_on_behind_its_last_page(store, monkeypatch):
    _, url = store
    monkeypatch.setattr(recalculation, "PAGE_LEADS", 2)
    since, night = datetime(2041, 3, 1, 12, tzinfo=UTC), datetime(2041, 3, 2, 2, tzinfo=UTC)

    def last():
        with psycopg.connect(url, options=READ_OPTIONS) as connection:
            return connection.execute(
                "select checked, ended_at is not null from public.recalculations order by scheduled_for desc limit 1"
            ).fetchone()

    recalculate_what_is_due(url, night, since, lambda: True)
    assert last() == (2, False)
    recalculate_what_is_due(url, night, since)
    assert last() == (LEADS + 1, True)

"""Restating: an older store as today's door and folds take its events; today's store as it is."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from command_line import environment, leadstream, serving
from psycopg.rows import dict_row

from leadstream.embedded_postgres import (
    REPLACING,
    _finish_replacing,
    replace_postgres,
    start_postgres,
    stop_postgres,
)
from tests.forked_programs import Program
from tests.written.older_door import AS_RECORDED, MADE, NOTE, PHONE, REGION, RESTATED, SENT, recorded_at
from tests.written.stores import FILES, load_embedded

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

OLDER_DOOR = FILES / "0.1-older-door.sql.xz"
LEADS = 25
KINDS = ("profile_updated", "email_opened", "form_submitted", "meeting_scheduled")
SETTINGS = {"LEADSTREAM_DEFAULT_PHONE_REGION": REGION}


@contextmanager
def database(data_dir: Path) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    url = start_postgres(data_dir, {"fsync": "off"})
    try:
        with psycopg.connect(
            url, row_factory=dict_row, options="-c search_path=live,public -c timezone=UTC"
        ) as connection:
            yield connection
    finally:
        stop_postgres(data_dir)


@pytest.fixture(scope="module")
def older_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("older") / "store"
    load_embedded(OLDER_DOOR, start_postgres(data_dir, {"fsync": "off"}))
    stop_postgres(data_dir)
    return data_dir


@pytest.fixture
def store(older_store: Path, tmp_path: Path) -> Path:
    """The store that the older version wrote, to be changed by one test."""
    return shutil.copytree(older_store, tmp_path / "store")


def command(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[bytes]":
    done = leadstream(*arguments, **SETTINGS)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done


def preview(data_dir: Path) -> dict[str, Any]:
    return json.loads(command("restate", "--json", "--data-dir", data_dir).stdout)


def temperatures(db: psycopg.Connection[dict[str, Any]]) -> dict[str, int]:
    rows = db.execute(
        """select lead_id, rounded from leads join lead_scores using (lead_key)
           where model = 'temperature' and leads.identified and identities > 0"""
    )
    return {row["lead_id"]: row["rounded"] for row in rows}


def test_the_preview_says_who_would_move_and_why_and_changes_nothing(store: Path):
    restated = preview(store)
    assert restated["events"] == len(SENT) + 1, "with the bytes that nobody can read"
    assert restated["dead_letters"] == [1, 1]
    assert restated["changes"]["person"] == 1
    assert restated["changes"]["phone"] == 1
    assert restated["changes"]["lead"] == 2, "of the contact, and of the scan under the id made of the phone"
    leads = restated["leads"]
    assert leads["merged_examples"] == [MADE]
    assert leads["new"] == 0
    assert leads["models"]["temperature"]["rise"] == 2
    assert leads["models"]["temperature"]["fall"] == 0
    movers = {mover["lead_id"]: mover for mover in leads["movers"] if mover["identified"]}
    assert {lead: (AS_RECORDED[lead], RESTATED[lead]) for lead in ("ada", "bob")} == {
        lead: (mover["before"], mover["after"])
        for lead, mover in movers.items()
        if mover["model"] == "temperature"
    }
    assert movers["bob"]["reasons"]["person"] == 1
    assert ["QR scans", 4.0] in movers["bob"]["lines"]
    with database(store) as db:
        assert temperatures(db) == AS_RECORDED
    assert sorted(path.name for path in store.iterdir()) == ["lock", "postgres"]


def test_applied_the_store_has_the_scores_of_todays_rules_and_the_old_one_is_kept(store: Path):
    with database(store) as db:
        db.execute(
            """insert into model_drafts (tenant, model, state, text, fire, created_at, changed_at, note)
               values ('default', 'temperature', 'draft', 'x', false, now(), now(), 'mine')"""
        )
        db.execute("insert into retried_letters select topic, partition, position, now() from dead_letters")
        recorded = {row["event_id"]: row for row in db.execute("select * from engagement_history")}
        publications = db.execute("select * from publications order by tenant, model, version").fetchall()
    printed = command("restate", "--apply", "--yes", "--data-dir", store).stdout.decode()
    kept = store / "before-restatement-1"
    assert f"The old one is in {kept}." in " ".join(printed.split())
    with database(store) as db:
        assert temperatures(db) == RESTATED
        [ada] = db.execute("select fields from leads where lead_id = 'ada'").fetchall()
        assert ada["fields"]["phone"] == PHONE
        restated = db.execute("select * from publications order by tenant, model, version").fetchall()
        assert [{**before, "folding": 1} for before in publications] == restated
        assert [row["note"] for row in db.execute("select note from model_drafts where state = 'draft'")] == [
            "mine"
        ]
        assert db.execute("select count(*) as n from retried_letters").fetchone() == {"n": 1}
        restated = {row["event_id"]: row for row in db.execute("select * from engagement_history")}
        for event_id, row in recorded.items():
            for column in ("occurred_at", "recorded_at", "imported", "late"):
                assert restated[event_id][column] == row[column], (event_id, column)
        assert restated["e8"]["channel_group"] == "AI Assistants"
        assert restated["e10"]["occurred_at"] == recorded_at(10), "corrected once"
        [model] = db.execute("select by, note from publications where model = 'temperature' and version = 2")
        assert model == NOTE
        silent = {
            row["silent"]
            for row in db.execute(
                "select silent from band_changes join leads using (lead_key) where lead_id = 'dora'"
            )
        }
        assert silent == {True}
        assert db.execute("select to_regclass('public.door_changes') as t").fetchone() == {"t": None}
    with database(kept) as db:
        assert temperatures(db) == AS_RECORDED
    assert preview(store)["leads"]["moving"] == 0, "restated again, nobody moves"
    with serving(store, **SETTINGS) as server:
        scan = {"type": "qr_scanned", "lead_id": "ada", "source": "qr", "event_id": "after"}
        [event] = server.client.post("/v1/events", params={"wait": 10}, json=scan).json()["events"]
        assert event["scores"]["temperature"] == 10 + 15 + 20, "scans give 15 at most; a scan just now 20"


def test_a_store_of_this_version_with_leads_by_e_mail_and_phone_moves_nobody(tmp_path: Path):
    simulated = leadstream(
        "simulate", "--leads", 20, "--days", 20, "--seed", 7, "--until", "2026-06-01T00:00:00Z"
    )
    events = [json.loads(line) for line in simulated.stdout.splitlines()]
    with serving(tmp_path / "store", **SETTINGS) as server:
        for begin in range(0, len(events), 50):
            batch = [live(event) for event in events[begin : begin + 50]]
            assert server.client.post("/v1/events", json=batch).status_code == 200
        restated = preview(tmp_path / "store")
        refused = command("restate", "--apply", "--data-dir", tmp_path / "store", code=1)
        assert b"A server runs on this store" in refused.stderr
        assert b"stop it first" in refused.stderr
    assert restated["events"] == len(events)
    assert restated["changes"] == {}
    leads = restated["leads"]
    assert (leads["moving"], leads["new"], leads["merged"]) == (0, 0, 0), leads


def test_an_import_scores_a_leads_events_in_their_order_so_that_restated_nobody_moves(tmp_path: Path):
    """Title 15, industry 20 and new 10 are 45, and with the e-mail and the form they qualify. The meeting comes after that, under
    another key, and makes an opportunity; before it, it would make nothing.
    """
    lines = []
    for minute, kind in enumerate(KINDS):
        for number in range(LEADS):
            event: dict[str, Any] = {"type": kind, "lead_id": f"lead-{number}"}
            if kind != "meeting_scheduled":
                event["visitor_id"] = f"visitor-{number}"
            if kind == "profile_updated":
                event["fields"] = {
                    "email": f"lead{number}@acme-homes.ae",
                    "phone": f"+97150123{number:04}",
                    "company": "Acme",
                    "title": "Director",
                    "industry": "SaaS",
                }
            at = f"2026-03-02T09:{minute:02}:{number:02}Z"
            lines.append(json.dumps({**event, "event_id": f"{kind}-{number}", "occurred_at": at}))
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(lines))
    command("import", "events", file, "--data-dir", tmp_path / "store")
    with database(tmp_path / "store") as db:
        stages = db.execute("select stage, count(*) as n from leads group by stage").fetchall()
    assert stages == [{"stage": "opportunity", "n": LEADS}]
    restated = preview(tmp_path / "store")
    assert restated["events"] == len(lines)
    assert (restated["leads"]["moving"], restated["leads"]["new"], restated["leads"]["merged"]) == (0, 0, 0)


def live(event: dict[str, Any]) -> dict[str, Any]:
    """As a form of a site sends it, which does not know the lead."""
    kept = {name: value for name, value in event.items() if name not in {"imported", "recorded_at"}}
    if event.get("visitor_id") and event["type"] in {"form_submitted", "contact_shared"}:
        kept.pop("lead_id", None)
    return kept


def test_with_a_postgresql_of_ones_own_the_restated_store_comes_into_a_new_directory(
    database_url: str, tmp_path: Path
):
    load_embedded(OLDER_DOOR, database_url)
    own = {**SETTINGS, "LEADSTREAM_DATABASE_URL": database_url, "LEADSTREAM_DATA_DIR": str(tmp_path / "data")}
    refused = leadstream("restate", "--apply", "--yes", **own)
    assert refused.returncode == 1
    assert b"use --into DIRECTORY" in refused.stderr
    done = leadstream("restate", "--into", tmp_path / "restated", **own)
    assert done.returncode == 0, done.stderr.decode()
    assert b"ada" in done.stdout
    with database(tmp_path / "restated") as db:
        assert temperatures(db) == RESTATED
    with psycopg.connect(database_url, row_factory=dict_row, options="-c search_path=live") as db:
        assert temperatures(db) == AS_RECORDED
    again = leadstream("restate", "--into", tmp_path / "restated", **own)
    assert again.returncode == 1
    assert b"exists: name a new directory" in again.stderr


def test_a_mistyped_directory_is_no_new_store(tmp_path: Path):
    refused = command("restate", "--data-dir", tmp_path / "mistyped", code=1)
    assert b"There is no store in" in refused.stderr
    assert not (tmp_path / "mistyped").exists()


KILLED_AT = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95) if "CHAOS_TURNS" in os.environ else (0.4, 0.9)
"""Parts of the time that a whole restatement takes here."""


def test_killed_at_any_moment_the_store_is_the_old_one_or_the_restated_one(older_store: Path, tmp_path: Path):
    """Killed again and again, with what the kills before it have left; and then not killed."""

    def begun(data_dir: Path) -> Program:
        return Program(
            [sys.executable, "-m", "leadstream", "restate", "--apply", "--yes", "--data-dir", str(data_dir)],
            env=environment(**SETTINGS),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    store = shutil.copytree(older_store, tmp_path / "store-0")
    began = time.monotonic()
    assert begun(store).wait(300) == 0
    seconds = time.monotonic() - began
    with database(store) as db:
        assert temperatures(db) == RESTATED

    stores = (shutil.copytree(older_store, tmp_path / f"store-{number}") for number in itertools.count(1))
    store = next(stores)
    for part in KILLED_AT:
        process = begun(store)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds * part)
        process.kill()
        process.wait()
        with database(store) as db:
            found = set(
                temperatures(db)
            )  # only the leads: of the old store's scores, time may not be concluded yet
        assert found in (set(AS_RECORDED), set(RESTATED))
        if found == set(RESTATED):
            store = next(stores)
    command("restate", "--apply", "--yes", "--data-dir", store)
    with database(store) as db:
        assert temperatures(db) == RESTATED
    assert not (store / "restating").exists()


@pytest.mark.parametrize("old_is_gone", [False, True])
def test_a_replacement_that_was_interrupted_is_completed_or_dropped_at_the_next_start(
    tmp_path: Path, *, old_is_gone: bool
):
    (tmp_path / REPLACING / "postgres").mkdir(parents=True)
    (tmp_path / REPLACING / "postgres" / "new").touch()
    if not old_is_gone:
        (tmp_path / "postgres").mkdir()
    _finish_replacing(tmp_path)
    assert (tmp_path / "postgres" / "new").exists() == old_is_gone
    assert (tmp_path / "postgres").exists()
    assert not (tmp_path / REPLACING).exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("step", "is_new"), [(1, False), (2, True), (3, True)])
def test_killed_between_the_steps_of_a_replacement_the_next_start_has_one_of_both_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, *, is_new: bool
):
    store, restated, kept = tmp_path / "store", tmp_path / "store" / "restating", tmp_path / "store" / "kept"
    for data_dir in (store, restated):
        with database(data_dir) as db:
            db.execute("create table public.is_new as select %s as value", (data_dir == restated,))
    steps = iter(range(1, 9))

    def killed(*_: Path) -> None:
        if next(steps) == step:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("leadstream.embedded_postgres._sync", killed)
        with pytest.raises(Killed):
            replace_postgres(store, restated, kept)
    with database(store) as db:
        assert db.execute("select value from public.is_new").fetchone() == {"value": is_new}
    assert not (store / REPLACING).exists()
    assert (kept / "postgres").exists() == is_new

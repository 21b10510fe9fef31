"""Every command of docs/backup.md: dump, kill, restore on an empty machine, equal scores."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from command_line import environment, leadstream, leadstream_here, serving
from psycopg.sql import SQL, Identifier

from leadstream.embedded_postgres import _PROGRAMS_FOLDER as PROGRAMS
from leadstream.embedded_postgres import create_database, start_postgres, stop_postgres

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs/backup.md"
SCAN = 23
"""Points that the temperature model gives for a first scan in a chat."""


def commands(section: str) -> list[str]:
    """The lines to type of one section of the page."""
    (text,) = re.findall(
        rf"^## {section}$(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def typed(line: str, where: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """As somebody types it whose PATH has Leadstream and PostgreSQL's programs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), str(PROGRAMS), os.environ["PATH"]])
    done = subprocess.run(
        line,
        shell=True,
        cwd=where,
        env=environment(**settings) | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, (line, done.stderr)
    return done


def scan(number: int) -> dict[str, Any]:
    return {
        "type": "qr_scanned",
        "lead_id": f"lead-{number}",
        "source": "telegram",
        "event_id": f"scan-{number}",
    }


def scores(server: Any) -> dict[str, dict[str, Any]]:
    """Per lead what its page shows, but for the moment of asking."""
    found = server.client.get("/api/leads", params={"limit": 100}).json()["leads"]
    pages = [server.client.get(f"/api/leads/{lead['lead_id']}").json() for lead in found]
    for page in pages:
        page["as_of"] = None
        page["scores"] = {name: {**score, "as_of": None} for name, score in page["scores"].items()}
    return {page["lead"]["lead_id"]: page for page in pages}


def temperature(server: Any, number: int) -> int:
    """Sends the scan, again if the answer takes long, and gives what the model says of the lead then."""
    for _ in range(20):
        answer = server.client.post("/v1/events", params={"wait": 10}, json=scan(number))
        [event] = answer.json()["events"]
        if event.get("scores"):
            return event["scores"]["temperature"]
    raise AssertionError(answer.text)


@pytest.mark.parametrize(
    ("section", "make", "back"),
    [("A dump of the store", 1, ["restore", "serve"]), ("A copy of the files", 1, ["serve"])],
)
def test_killed_and_restored_on_an_empty_machine_the_scores_are_equal(
    tmp_path: Path, section: str, make: int, back: list[str]
):
    machine, empty = tmp_path / "machine", tmp_path / "empty"
    machine.mkdir()
    empty.mkdir()
    lines = commands(section)
    backed_up, restored = lines[:make], lines[make:]
    assert [line.split()[1] for line in restored] == back
    with serving(machine / "store") as server:
        for number in range(5):
            assert temperature(server, number) == SCAN
        before = scores(server)
        for line in backed_up:
            typed(line, machine, LEADSTREAM_DATA_DIR=str(machine / "store"))
        temperature(server, 5)
        server.kill()
    (made,) = (path for path in machine.iterdir() if path.name.startswith(("store.dump", "copied")))
    assert not stat.S_IMODE(made.stat().st_mode) & 0o066, "nobody else may read it"
    made.rename(empty / made.name)
    shutil.rmtree(machine, ignore_errors=True)  # its PostgreSQL may still be dying in it
    for line in restored[:-1]:
        typed(line, empty)
    data_dir = empty / shlex.split(restored[-1])[-1]
    with serving(data_dir) as server:
        assert len(before) == 5
        assert scores(server) == before
        assert temperature(server, 0) == SCAN, "what was sent before counts once"
        assert temperature(server, 5) == SCAN, "what came after the backup is sent again and counts"


def test_the_programs_of_a_server_of_one_s_own(postgres_url: str, database_url: str, tmp_path: Path):
    settings = {"LEADSTREAM_DATABASE_URL": database_url, "LEADSTREAM_PARTITIONS": "2"}
    events = b'{"type":"qr_scanned","lead_id":"ahmad","source":"telegram","event_id":"s1",'
    events += b'"occurred_at":"2026-03-01T09:00:00Z"}\n'
    done = leadstream("import", "events", "-", "--data-dir", tmp_path, stdin=events, **settings)
    assert done.returncode == 0, done.stderr
    name = f"{database_url.rpartition('/')[2].partition('?')[0]}_restored"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(create_database(name))
    try:
        empty = postgres_url.replace("/leadstream?", f"/{name}?")
        lines = commands("With a PostgreSQL of your own")
        assert [line.split()[0] for line in lines] == ["pg_dump", "pg_restore", "pg_basebackup"]
        for line in lines:
            typed(line, tmp_path, EMPTY_DATABASE_URL=empty, **settings)
        assert totals(empty) == totals(database_url)
        assert ("ahmad", "temperature") in {row[:2] for row in totals(empty)}
        (tmp_path / "own").mkdir()
        shutil.move(tmp_path / "base", tmp_path / "own/postgres")
        for lock in (tmp_path / "own/postgres").glob(".s.PGSQL*"):  # a server of one's own keeps it elsewhere
            lock.unlink()
        restored = start_postgres(tmp_path / "own")
        try:
            database = database_url.rpartition("/")[2].partition("?")[0]
            assert totals(restored.replace("/leadstream?", f"/{database}?")) == totals(database_url)
        finally:
            stop_postgres(tmp_path / "own")
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(SQL("drop database {} with (force)").format(Identifier(name)))


def totals(url: str) -> set[tuple[str, str, int]]:
    with psycopg.connect(url) as connection:
        return set(
            connection.execute(
                "select lead_id, model, rounded from live.lead_scores join live.leads using (lead_key)"
            ).fetchall()
        )


def refused(done: "subprocess.CompletedProcess[bytes]") -> str:
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


def test_a_backup_overwrites_nothing_and_leaves_nothing_half_done(database_url: str, tmp_path: Path):
    there = tmp_path / "there"
    there.write_bytes(b"yesterday's")
    given = {"LEADSTREAM_DATABASE_URL": database_url, "LEADSTREAM_DATA_DIR": str(tmp_path)}
    assert "exists: name another" in refused(leadstream_here("backup", there, **given))
    assert "no directory" in refused(leadstream_here("backup", tmp_path / "none/dump", **given))
    gone = given | {"LEADSTREAM_DATABASE_URL": "postgresql://nobody:secret-word@127.0.0.1:1/none"}
    told = refused(leadstream_here("backup", tmp_path / "new", **gone))
    assert "secret-word" not in told
    assert "pg_basebackup" in refused(leadstream_here("backup", "--base", tmp_path / "new", **given))
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert there.read_bytes() == b"yesterday's"


def test_a_restore_takes_a_whole_dump_and_an_empty_store_only(database_url: str, tmp_path: Path):
    given = {"LEADSTREAM_DATABASE_URL": database_url, "LEADSTREAM_DATA_DIR": str(tmp_path)}
    for name, held in {"text": b"select 1;", "nothing": b""}.items():
        (tmp_path / name).write_bytes(held)
        assert "is no dump" in refused(leadstream_here("restore", tmp_path / name, **given))
    assert "is no dump" in refused(leadstream_here("restore", tmp_path, **given))
    with psycopg.connect(database_url) as connection:
        connection.execute("create table mine (number integer)")
        connection.execute("insert into mine select generate_series(1, 1000)")
    dumped = tmp_path / "dump"
    assert leadstream_here("backup", dumped, **given).returncode == 0
    assert "not empty" in refused(leadstream_here("restore", dumped, **given))
    with psycopg.connect(database_url) as connection:
        connection.execute("drop table mine")
    cut = tmp_path / "cut"
    cut.write_bytes(dumped.read_bytes()[:-200])
    assert "pg_restore" in refused(leadstream_here("restore", cut, **given))
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select to_regclass('public.mine')").fetchone() == (None,)
    assert leadstream_here("restore", dumped, **given).returncode == 0
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select count(*) from mine").fetchone() == (1000,)


def test_every_command_of_the_page_is_run_by_a_test():
    sections = ("A dump of the store", "A copy of the files", "With a PostgreSQL of your own")
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        for line in block.splitlines()
    ]
    run: Callable[[str], list[str]] = commands
    assert lines == [line for section in sections for line in run(section)]


def test_a_copy_of_the_files_is_served_beside_the_server_that_it_was_made_of(tmp_path: Path):
    with serving(tmp_path / "store") as server:
        assert temperature(server, 1) == SCAN
        done = leadstream(
            "backup", "--base", tmp_path / "copied", LEADSTREAM_DATA_DIR=str(tmp_path / "store")
        )
        assert done.returncode == 0, done.stderr
        with serving(tmp_path / "copied") as copied:
            assert scores(copied) == scores(server)
            assert temperature(copied, 2) == SCAN
        assert set(scores(server)) == {"lead-1"}

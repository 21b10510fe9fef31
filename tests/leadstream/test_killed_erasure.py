"""`leadstream serve` is killed (SIGKILL) while it erases a person, again and again: the next start goes on, and afterwards no
table and no file of the store has anything of the person, the write-ahead log included.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import LiteralString

import psycopg
import pytest
from command_line import Server, leadstream, serving_once
from erasable_person import LEAD, VALUES, add_rows_of_delivery, found_values, of_others, of_person
from psycopg.sql import SQL

from leadstream.embedded_postgres import find_postgres

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SECONDS = 60.0
RANDOM_KILLS = int(os.environ.get("CHAOS_TURNS", "1"))


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_once(tmp_path_factory) as running:
        yield running


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def url_of(server: Server) -> str:
    until(lambda: find_postgres(server.data_dir) is not None)
    url = find_postgres(server.data_dir)
    assert url is not None
    return url


def step(server: Server) -> str:
    with psycopg.connect(url_of(server)) as connection:
        (row,) = connection.execute("select step from public.erasures").fetchall()
    return str(row[0])


@contextmanager
def locked(server: Server, table: LiteralString, mode: LiteralString) -> Iterator[Callable[[], bool]]:
    """Locks a table, so that the erasure waits there. Yields whether it does."""
    with psycopg.connect(url_of(server)) as connection:
        connection.execute(SQL(f"lock table {table} in {mode} mode"))

        def waits() -> bool:
            row = connection.execute(
                SQL("select exists (select from pg_locks where relation = %s::regclass and not granted)"),
                (table,),
            ).fetchone()
            return row is not None and row[0]

        yield waits
        connection.rollback()


def values_in_store(server: Server) -> dict[str, set[str]]:
    """File -> the values in its bytes: tables, indexes, statistics, write-ahead log, logs, notes and the ledger."""
    files = [path for path in server.data_dir.parent.rglob("*") if path.is_file()]
    assert any(path.parent.name == "pg_wal" for path in files)
    texts = ((str(path), path.read_bytes()) for path in files)
    found = {name: {value for value in VALUES if value.encode() in text} for name, text in texts}
    return {name: values for name, values in found.items() if values}


def test_an_erasure_whose_server_is_killed_at_any_moment_ends_with_nothing_left(server: Server):
    chance = Random(14)
    for number, event in enumerate([*of_person(), *of_others()]):
        answer = server.client.post("/v1/events", json={"event_id": f"e{number}", **event})
        assert answer.status_code == 200, answer.text
    until(lambda: server.client.get("/ready").json()["backlog"] == 0)
    with psycopg.connect(url_of(server)) as connection:
        add_rows_of_delivery(connection)
    assert {value for values in found_values(url_of(server)).values() for value in values} == set(VALUES)

    # While the records are appended that make the folds forget the person.
    with locked(server, "public.records", "exclusive") as waits:
        begun = server.client.post("/api/erasures", json={"lead_id": LEAD})
        assert begun.status_code == 202
        until(waits)
        server.kill()
    assert step(server) == "registered"

    # While rows and records are deleted, in a transaction.
    with locked(server, "public.enrichment_cache", "exclusive") as waits:
        server.launch()
        until(waits)
        server.kill()
    assert step(server) == "recorded"
    assert found_values(url_of(server))

    # At random moments of starts, which go on; then while the rows leave the files.
    with locked(server, "public.enrichment_cache", "share update exclusive") as waits:
        for _ in range(RANDOM_KILLS):
            server.launch()
            time.sleep(chance.uniform(0.5, 3.0))
            server.kill()
        server.launch()
        until(lambda: step(server) == "emptied" and waits())
        server.kill()
    assert step(server) == "emptied"

    server.launch()
    server.wait_until_ready()
    until(lambda: server.client.get(begun.json()["location"]).json()["done"])
    assert found_values(url_of(server)) == {}
    leads = server.client.get("/api/leads").json()
    assert LEAD not in str(leads)
    assert "lead-brother" in str(leads)
    refused = server.client.post("/v1/events", json={"type": "page_viewed", "visitor_id": "browser-zq-1"})
    assert "was erased" in refused.text

    # The bytes in the files, which no query shows: the store itself says how to remove them.
    done = leadstream("erase", "--rewrite", "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr.decode()
    assert values_in_store(server) == {}
    assert Path(f"{server.data_dir}-erasures.jsonl").read_text().count("\n") >= 1

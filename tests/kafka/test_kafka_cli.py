"""The commands for Kafka, each as a process of its own: topics, worker, project, gateway, and what carries a
log from an embedded store into Kafka; and what an operator is told when something is missing.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
import pytest

from leadstream.console import Failure
from leadstream.operations import migrate_to_kafka
from leadstream.operations import store_access_kafka as reach_kafka
from leadstream.operations.open_store import open_store
from leadstream.settings import Settings
from projections.table_definition import READ_OPTIONS
from schemas.record import Outgoing
from schemas.topics import EVENTS
from tests.forked_programs import Program
from tests.leadstream.command_line import environment, leadstream, leadstream_here
from tests.ports import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SECONDS = 180.0
"""Nothing here is about speed: a process may take a minute to start on a busy machine."""
AT_ONCE = 10.0
"""Far below the wait for a Kafka that does not answer."""
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
MODELS = Path(__file__).parents[2] / "scoring/models"


@pytest.fixture
def settings(cluster) -> dict[str, str]:
    return {
        "LEADSTREAM_KAFKA": cluster.brokers,
        "LEADSTREAM_KAFKA_PREFIX": cluster.prefix,
        "LEADSTREAM_PARTITIONS": "2",
        "LEADSTREAM_WORKER_PORT": str(free_port()),
    }


@contextmanager
def running(*command: str, said: Path, ended_by: int = signal.SIGTERM, **settings: str) -> Iterator[Program]:
    """The command as a script starts a job in the background: SIGINT is ignored, until the program says otherwise. It runs until it is told to stop, which it does without an error and in time."""
    with said.open("wb") as file:
        process = Program(
            [sys.executable, "-m", "leadstream", *command],
            stdout=file,
            stderr=file,
            env=environment(**settings),
            ignored=[signal.SIGINT],
        )
    try:
        yield process
        assert process.poll() is None, said.read_text()
        process.send_signal(ended_by)
        assert process.wait(10) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()


def done(*arguments: object, code: int = 0, stdin: bytes = b"", **settings: str) -> str:
    """What the command says: all of it."""
    ended = (
        leadstream(*arguments, stdin=stdin, **settings) if stdin else leadstream_here(*arguments, **settings)
    )
    told = ended.stdout.decode() + ended.stderr.decode()
    assert ended.returncode == code, told
    assert "Traceback" not in told
    return told


def scan(lead_id: str, number: int) -> dict[str, str]:
    return {
        "type": "qr_scanned",
        "lead_id": lead_id,
        "event_id": f"{lead_id}-{number}",
        "occurred_at": f"2026-05-0{number}T00:00:00Z",
    }


def ndjson(*events: dict[str, str]) -> bytes:
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def answers(http: httpx.Client, path: str, status: int) -> httpx.Response:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            answer = http.get(path)
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.status_code == status:
            return answer
        assert time.monotonic() < deadline, answer and answer.text
        time.sleep(0.1)


def publications_in(database_url: str) -> list[tuple[object, ...]]:
    return _rows(
        database_url, "select tenant, model, version, text, change from publications order by 1, 2, 3"
    )


def scores_in(database_url: str) -> list[tuple[object, ...]]:
    """Current scores, and that each ledger sums to its score."""
    return _rows(
        database_url,
        """select l.lead_id, l.identities, s.model, s.version, s.total, s.bands::text,
                  s.total = coalesce(sum(h.change), 0)
           from leads l join lead_scores s using (lead_key) left join score_history h using (lead_key, model)
           group by l.lead_id, l.identities, s.model, s.version, s.total, s.bands order by 1, 3""",
    )


def history_in(database_url: str, lead_id: str) -> list[tuple[object, ...]]:
    return _rows(
        database_url,
        """select h.model, h.version, h.at, h.caused_by, h.previous, h.total from score_history h
           join leads l using (lead_key) where l.lead_id = %s order by h.model, h.at, h.position""",
        lead_id,
    )


def _rows(database_url: str, query: LiteralString, *parameters: object) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url, options=READ_OPTIONS) as connection:
        return connection.execute(query, parameters).fetchall()


def test_topics_are_made_once_and_checked(settings):
    told = done("topics", "check", code=1, **settings)
    assert "events is missing: `leadstream topics create` creates it." in told
    made = done("topics", "create", **settings)
    assert f"{settings['LEADSTREAM_KAFKA_PREFIX']}events\n" in made
    assert "Created 10 topics." in made
    assert "All topics exist already." in done("topics", "create", **settings)
    assert "topics are correct" in done("topics", "check", **settings)
    other = settings | {"LEADSTREAM_PARTITIONS": "5"}
    assert "set LEADSTREAM_PARTITIONS=2" in done("topics", "create", code=1, **other)
    unsaid = {name: value for name, value in settings.items() if name != "LEADSTREAM_PARTITIONS"}
    assert "All topics exist already." in done("topics", "create", **unsaid)


@pytest.mark.postgres
def test_each_part_runs_as_a_process_and_commands_need_no_server(settings, database_url: str, tmp_path: Path):
    """The parts are ended by SIGINT, which was ignored when they were started."""
    settings |= {"LEADSTREAM_DATABASE_URL": database_url, "LEADSTREAM_DATA_DIR": str(tmp_path / "data")}
    done("topics", "create", **settings)
    told = done("doctor", code=1, **settings)
    assert "fail Workers: the group" in told
    assert "fail Projections: the group" in told
    assert told.count("has no members") == 2
    assert "leadstream worker" in told
    port = str(free_port())
    with (
        running("project", said=tmp_path / "project", ended_by=signal.SIGINT, **settings),
        running("worker", said=tmp_path / "worker", ended_by=signal.SIGINT, **settings),
        running("gateway", "--port", port, said=tmp_path / "gateway", ended_by=signal.SIGINT, **settings),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):
        answers(http, "/ready", 200)
        answers(http, "/api/leads", 200)
        told = done(
            "import", "events", "-", stdin=ndjson(scan("ada", 1), scan("ada", 2), scan("bo", 1)), **settings
        )
        assert "Events imported: 3" in told
        assert "New leads: 2" in told
        assert {lead["lead_id"] for lead in http.get("/api/leads").json()["leads"]} == {"ada", "bo"}
        answer = http.post("/v1/events", params={"wait": 10}, json=scan("ada", 3))
        assert answer.json()["events"][0]["outcome"] == "applied", answer.text
        assert "version 2, is active" in done("publish", "temperature", **settings)
        told = done("doctor", **settings)
        assert "ok   Workers: 1 in the group" in told
        assert "ok   Worker here: is ready" in told
        assert "fail" not in told


@pytest.mark.postgres
def test_a_gateway_takes_events_while_postgres_is_away(settings, tmp_path: Path):
    done("topics", "create", **settings)
    settings |= {"LEADSTREAM_DATABASE_URL": NOWHERE}
    port = str(free_port())
    with (
        running("gateway", "--port", port, said=tmp_path / "said", **settings),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):
        answers(http, "/health", 200)
        answer = http.post("/v1/events", json=scan("ada", 1))
        assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
        waited = http.post("/v1/events", params={"wait": 6}, json=scan("ada", 2))
        assert (waited.status_code, waited.json()["accepted"]) == (202, 1)
        assert waited.json()["events"][0]["location"].startswith("/api/events/")
        ready = answers(http, "/ready", 503).json()
        assert "the database does not answer" in ready["reason"]
        assert "Kafka" not in ready["reason"]
        away = http.get("/api/leads")
        assert (away.status_code, "retry-after" in away.headers) == (503, True)


def test_a_gateway_without_kafka_says_so_at_once(tmp_path: Path):
    port, nowhere = str(free_port()), f"127.0.0.1:{free_port()}"
    settings = {"LEADSTREAM_KAFKA": nowhere, "LEADSTREAM_DATABASE_URL": NOWHERE}
    with (
        running("gateway", "--port", port, said=tmp_path / "said", **settings),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):
        answers(http, "/health", 200)
        began = time.monotonic()
        answer = http.post("/v1/events", json=scan("ada", 1))
        assert time.monotonic() - began < AT_ONCE
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        reason = answers(http, "/ready", 503).json()["reason"]
        assert nowhere in reason
        assert "the database does not answer" in reason


@pytest.mark.postgres
def test_an_embedded_log_is_carried_with_its_publications_and_scores_the_same(
    settings, database_url: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    embedded = {"LEADSTREAM_DATABASE_URL": database_url, "LEADSTREAM_DATA_DIR": str(tmp_path / "here")}
    changed = tmp_path / "temperature.toml"
    shipped = (MODELS / "temperature.toml").read_text(encoding="utf-8")
    changed.write_text(shipped.replace("points = 3, max = 15", "points = 4, max = 15"), encoding="utf-8")
    merged = {
        "type": "leads_merged",
        "lead_id": "bo",
        "into": "ada",
        "event_id": "m",
        "occurred_at": "2026-05-03T00:00:00Z",
    }
    for events in (ndjson(scan("ada", 1), scan("bo", 2), merged), None, ndjson(scan("bo", 4), scan("cy", 5))):
        if events is None:
            done("publish", changed, **embedded)
        else:
            done("import", "events", "-", stdin=events, **embedded)
    with monkeypatch.context() as patched:
        patched.setattr(migrate_to_kafka, "STALLED_SECONDS", 0.5)
        elsewhere = settings | {"LEADSTREAM_KAFKA_PREFIX": f"{settings['LEADSTREAM_KAFKA_PREFIX']}stalled-"}
        told = done("export", "--to-kafka", code=1, **elsewhere, **embedded)
    assert "Version 2 of the model temperature was published when 3 events were recorded." in told
    assert "stalled-leadstream: start `leadstream worker`" in told
    there = settings | {"LEADSTREAM_DATA_DIR": str(tmp_path / "there")}
    with (
        psycopg.connect(postgres_url, autocommit=True) as connection,
        _database(connection, f"{database_url.rpartition('/')[2].partition('?')[0]}_there") as name,
    ):
        there["LEADSTREAM_DATABASE_URL"] = postgres_url.replace("/leadstream?", f"/{name}?")
        with (tmp_path / "carried").open("wb") as said:
            carrying = Program(
                [sys.executable, "-m", "leadstream", "export", "--to-kafka"],
                stdout=said,
                stderr=said,
                env=environment(**settings, **embedded),
            )
        deadline = time.monotonic() + SECONDS
        while "start `leadstream worker`" not in (tmp_path / "carried").read_text():
            assert time.monotonic() < deadline, (tmp_path / "carried").read_text()
            time.sleep(0.1)
        with (
            running("worker", said=tmp_path / "worker", **there),
            running("project", said=tmp_path / "project", **there),
        ):
            assert carrying.wait(SECONDS) == 0, (tmp_path / "carried").read_text()
            assert "5 events are in Kafka." in (tmp_path / "carried").read_text()
            with open_store(
                Settings(
                    kafka=settings["LEADSTREAM_KAFKA"],
                    kafka_prefix=settings["LEADSTREAM_KAFKA_PREFIX"],
                    database_url=there["LEADSTREAM_DATABASE_URL"],
                    data_dir=tmp_path / "there",
                )
            ) as store:
                deadline = time.monotonic() + SECONDS
                while not _has_tables(store.database_url):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                store.settle(lambda _: None)
            here, carried = database_url, store.database_url
            assert publications_in(carried) == publications_in(here)
            scores = scores_in(here)
            assert ("ada", "temperature", 2) in {
                (lead, model, version) for lead, _, model, version, *_ in scores
            }
            assert all(sums for *_, sums in scores)
            assert scores_in(carried) == scores
            # Of merged leads, changes in between depend on how far the timers are when the identity arrives.
            assert history_in(carried, "cy") == history_in(here, "cy") != []
            told = done("export", "--to-kafka", code=1, **settings, **embedded)
            assert "already" in told


@contextmanager
def _database(connection, name: str) -> Iterator[str]:
    from leadstream.embedded_postgres import create_database

    connection.execute(create_database(name))
    try:
        yield name
    finally:
        connection.execute(
            psycopg.sql.SQL("drop database {} with (force)").format(psycopg.sql.Identifier(name))
        )


def _has_tables(database_url: str) -> bool:
    with psycopg.connect(database_url) as connection:
        return connection.execute("select to_regclass('live.lead_dues') is not null").fetchone() == (True,)


@pytest.mark.postgres
def test_who_waits_for_scores_is_told_when_nobody_makes_them(
    settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from leadstream.wiring import open_database

    monkeypatch.setattr(reach_kafka, "_APPEND_SECONDS", 1.0)
    done("topics", "create", **settings)
    mine = Settings(
        kafka=settings["LEADSTREAM_KAFKA"],
        kafka_prefix=settings["LEADSTREAM_KAFKA_PREFIX"],
        database_url=database_url,
        data_dir=tmp_path,
    )
    with open_database(mine), open_store(mine) as store:
        store.append([Outgoing(EVENTS, "default/l/ada", json.dumps(scan("ada", 1)).encode())])
        with pytest.raises(Failure, match="leadstream worker"):
            store.settle(lambda _: None)


@pytest.mark.parametrize(
    "command",
    [("topics", "check"), ("topics", "create"), ("serve", "--kafka"), ("import", "events", "-")],
    ids=lambda words: words[0],
)
@pytest.mark.postgres
def test_without_a_broker_a_command_names_the_address_and_the_remedy(
    command, database_url: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("leadstream.all_in_one.BROKER_SECONDS", 0.0)
    nowhere = f"127.0.0.1:{free_port()}"
    told = leadstream_here(
        *command,
        LEADSTREAM_KAFKA=nowhere,
        LEADSTREAM_DATA_DIR=str(tmp_path),
        LEADSTREAM_DATABASE_URL=database_url,
        LEADSTREAM_PORT=str(free_port()),
    )
    said = told.stderr.decode()
    assert told.returncode == 1
    assert nowhere in said
    assert "Traceback" not in said


@pytest.mark.postgres
def test_a_start_that_waits_for_a_broker_says_so_again_and_again(
    database_url: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("leadstream.all_in_one.BROKER_SECONDS", 5.0)
    monkeypatch.setattr("leadstream.console._REPORT_SECONDS", 1.0)
    nowhere = f"127.0.0.1:{free_port()}"
    told = leadstream_here(
        "serve",
        "--kafka",
        LEADSTREAM_KAFKA=nowhere,
        LEADSTREAM_DATA_DIR=str(tmp_path),
        LEADSTREAM_DATABASE_URL=database_url,
        LEADSTREAM_PORT=str(free_port()),
    )
    assert told.returncode == 1
    waits = [line for line in told.stderr.decode().splitlines() if line.startswith("Starting (")]
    assert (
        sum(f"no Kafka broker answers at {nowhere} yet; `make kafka` starts one" in line for line in waits)
        >= 2
    )


def test_the_doctor_without_a_broker_fails_naming_it(tmp_path: Path):
    nowhere = f"127.0.0.1:{free_port()}"
    told = done("doctor", code=1, LEADSTREAM_KAFKA=nowhere, LEADSTREAM_DATA_DIR=str(tmp_path))
    assert f"fail Kafka: No Kafka broker answers at {nowhere}" in told
    assert "make kafka" in told

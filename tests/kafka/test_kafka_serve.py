"""`leadstream serve --kafka` as its users meet it: a process on a real broker and an embedded PostgreSQL,
commands beside it, killed, broken, stopped; the scores are those of an embedded store.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import psycopg
import pytest

from gateway.api import capture_bot
from gateway.ports import Ports
from leadstream.delivering import delivery_beside
from leadstream.embedded_postgres import find_postgres
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from leadstream.wiring_kafka import kafka_ports, make_topics
from projections.migrate import migrate
from projections.table_definition import READ_OPTIONS
from tests.forked_programs import Program
from tests.leadstream.chats import answers_of_concurrent_callers, right_answers
from tests.leadstream.command_line import Server, environment, leadstream, serving, serving_once
from tests.leadstream.systems_doors import (
    Answers,
    Clock,
    expo_visitor,
    hot_lead_workflows,
    qualified_lead,
    sent,
    shown,
    visited,
    whole_session,
)
from tests.ports import free_port
from tests.projections.reports_reader import assert_reads_reports_only, reports_reader

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

SECONDS = 180.0
STOPPING_SECONDS = 10.0
LINES = 120
"""Of an access log that a test makes."""
LEADS = 700
"""Of a file that a CRM exports: the command takes 500 at once."""
PRODUCING = Path(__file__).parents[2] / "docs/producing.md"
REAL_LOG = Path(__file__).parents[2] / "../shared/data/access-log/access.log"
MAY_MOVE = {("sellers", "123"), ("sellers", "124"), ("default", "anon:w-7f31c2")}
"""When a store is restated: a test sends the clocks of two leads a month ahead, and the door reads what came without it."""
BROKEN = """
from streams.score_leads.stage import ScoreLeads
sound = ScoreLeads.evolve
def evolve(self, shared, state, message, origin, emit):
    if state.key.endswith("/poison"):
        raise ZeroDivisionError("a bug")
    return sound(self, shared, state, message, origin, emit)
ScoreLeads.evolve = evolve
from leadstream.cli.root import main
main()
"""


def settings_for(address: str, prefix: str) -> dict[str, str]:
    return {
        "LEADSTREAM_KAFKA": address,
        "LEADSTREAM_KAFKA_PREFIX": prefix,
        "LEADSTREAM_PARTITIONS": "3",
        "LEADSTREAM_WORKER_PORT": str(free_port()),
        "LEADSTREAM_WORKER_ID": "only",  # restarted, it is let in at once
    }


@pytest.fixture(scope="module")
def settings(kafka_broker) -> dict[str, str]:
    return settings_for(kafka_broker.address, "serve-")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, settings) -> Iterator[Server]:
    with serving_once(tmp_path_factory, arguments=("--kafka",), **settings) as running:
        yield running


def access_log() -> bytes:
    """Visits of people and a crawler, in combined format."""
    chance = Random(7)
    begin = datetime(2026, 3, 2, 8, tzinfo=UTC)
    pages = ["/", "/pricing", "/features", "/demo", "/blog/1", "/blog/2", "/static/site.css"]
    lines = []
    for number in range(LINES):
        who = chance.randrange(23)
        agent = (
            "Googlebot/2.1 (+http://www.google.com/bot.html)"
            if who == 0
            else f"Mozilla/5.0 (X11; {who}) Gecko"
        )
        at = (begin + timedelta(seconds=40 * number)).strftime("%d/%b/%Y:%H:%M:%S +0000")
        lines.append(
            f'198.51.100.{who} - - [{at}] "GET {chance.choice(pages)} HTTP/1.1" 200 512 "-" "{agent}"\n'
        )
    return "".join(lines).encode()


def scores_in(database_url: str, prefix: str) -> dict[tuple[str, str], tuple[float, ...]]:
    """(lead, model) -> total, rounded total."""
    with psycopg.connect(database_url, options=READ_OPTIONS) as connection:
        rows = connection.execute(
            """select l.lead_id, s.model, s.total from lead_scores s join leads l using (lead_key)
               where l.tenant = %s""",
            (prefix,),
        ).fetchall()
    return {(lead, model): (float(total),) for lead, model, total in rows}


def database_of(server: Server) -> str:
    url = find_postgres(server.data_dir)
    assert url is not None
    return url


def import_log(tenant: str, log: bytes, *where: object, **settings: str) -> str:
    done = leadstream("import", "access-log", "-", "--tenant", tenant, *where, stdin=log, **settings)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("which", ["generated", "real"])
def test_an_import_beside_it_gives_the_scores_of_an_embedded_store(
    server: Server, database_url: str, tmp_path: Path, which: str
):
    if which == "real" and not REAL_LOG.exists():
        pytest.skip(f"{REAL_LOG.name} is not there")
    log = (
        access_log()
        if which == "generated"
        else b"".join(REAL_LOG.read_bytes().splitlines(keepends=True)[:400])
    )
    told = import_log(which, log, "--data-dir", server.data_dir)
    reference = import_log(
        which, log, "--data-dir", tmp_path, LEADSTREAM_DATABASE_URL=database_url, LEADSTREAM_PARTITIONS="4"
    )
    assert told == reference
    scores = scores_in(database_of(server), which)
    assert len(scores) > 20
    assert any(total > 0 for (total,) in scores.values())
    assert scores == scores_in(database_url, which)


def test_who_waits_is_answered_with_the_score(server: Server):
    said = {"type": "qr_scanned", "lead_id": "ahmad", "source": "telegram", "event_id": "scan-1"}
    answer = server.client.post("/v1/events", params={"wait": 10}, json=said)
    assert answer.status_code == 200, answer.text
    [event] = answer.json()["events"]
    assert event["outcome"] == "applied"
    assert event["scores"]["temperature"] == 23
    again = server.client.post("/v1/events", params={"wait": 10}, json=said)
    assert again.json()["events"][0]["scores"]["temperature"] == 23


def test_callers_whose_event_ids_are_alike_each_get_their_own_answer(server: Server):
    assert answers_of_concurrent_callers(server, "chat") == right_answers("chat")


@contextmanager
def embedded_ports(database_url: str) -> Iterator[Ports]:
    given = Settings(database_url=database_url, partitions=4)
    with open_system(given) as system:
        yield ports_of(system, given)


def test_a_chat_is_answered_as_by_an_embedded_store(server: Server, database_url: str):
    async def over_http() -> Answers:
        address, headers = server.client.base_url, {"x-tenant": "chats"}
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=SECONDS) as http:
            return await whole_session(http)

    async def embedded(ports: Ports) -> Answers:
        async with visited(ports, **{"x-tenant": "chats"}) as http:
            return await whole_session(http)

    with embedded_ports(database_url) as ports:
        assert asyncio.run(over_http()) == asyncio.run(embedded(ports))


def test_without_a_worker_a_chat_is_answered_in_time_with_where_to_look(
    cluster, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(capture_bot, "APPLY_SECONDS", 0.5)
    migrate(database_url)
    given = Settings(kafka=cluster.brokers, kafka_prefix=cluster.prefix, partitions=1)

    async def played() -> None:
        await make_topics(given)
        async with kafka_ports(given, database_url) as ports, visited(ports) as http:
            start = await sent(http, "session/start", 202, session_id="s-1")
            answer = await sent(http, "answer", 202, session_id="s-1", question_id=1, answer_text="Retail")
            assert answer["answered"] == [1]
            assert "lead_score" not in answer
            for each in (start, answer):
                assert each["location"].endswith("?visitor_id=s-1")
                assert (await http.get(each["location"])).status_code == 404
            await shown(http, "score/s-1", 404)

    began = time.monotonic()
    asyncio.run(played())
    assert time.monotonic() - began < SECONDS


def test_leads_and_scores_of_the_documents_are_those_of_an_embedded_store(
    server: Server, database_url: str, settings
):
    async def played(ports: Ports) -> list[Answers]:
        clock = Clock()
        async with visited(ports, **{"x-tenant": "agents"}) as http:
            visitor = await expo_visitor(http, "agents")
        async with visited(ports, clock, **{"x-tenant": "sellers"}) as http:
            return [visitor, await qualified_lead(http, clock)]

    async def on_kafka() -> list[Answers]:
        names = {"kafka": settings["LEADSTREAM_KAFKA"], "kafka_prefix": settings["LEADSTREAM_KAFKA_PREFIX"]}
        async with kafka_ports(Settings(**names), database_of(server)) as ports:
            return await played(ports)

    with embedded_ports(database_url) as ports:
        assert asyncio.run(on_kafka()) == asyncio.run(played(ports))


def test_workflows_of_the_documents_act_as_in_an_embedded_store(server: Server, database_url: str):
    headers = {"x-tenant": "workflows"}

    async def over_http() -> Answers:
        address = server.client.base_url
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=SECONDS) as http:
            return await hot_lead_workflows(http)

    async def embedded(ports: Ports) -> Answers:
        async with visited(ports, **headers) as http:
            return await hot_lead_workflows(http)

    given = Settings(database_url=database_url, partitions=4)
    with open_system(given) as system, delivery_beside(system, given):
        assert asyncio.run(over_http()) == asyncio.run(embedded(ports_of(system, given)))


def test_an_import_of_leads_goes_on_after_a_kill_and_again_changes_nothing(server: Server, tmp_path: Path):
    """Killed in the middle of the file, with most of it in the log or on its way."""
    rows = [f"crm-{number},Person {number},2026-03-04T09:30:00Z,1\n" for number in range(LEADS)]
    rows[100] = "crm-100,Person 100,yesterday,1\n"
    file, rejects = tmp_path / "leads.csv", tmp_path / "rejects.csv"
    header = "lead_id,name,last_interaction_at,qr_scan_count\n"
    file.write_text(header + "".join(rows), encoding="utf-8")
    where = ["--yes", "--tenant", "crm", "--data-dir", str(server.data_dir)]

    def stored() -> list[tuple[object, ...]]:
        with psycopg.connect(database_of(server), options=READ_OPTIONS) as connection:
            return connection.execute(
                """select lead_id, counts ->> 'qr_scanned', total, version from leads join lead_scores using (lead_key)
                   where leads.tenant = 'crm' and model = 'temperature' order by lead_id"""
            ).fetchall()

    killed = Program(
        [sys.executable, "-m", "leadstream", "import", "leads", "-", *where],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    assert killed.stdin is not None
    killed.stdin.write((header + "".join(rows[:600])).encode())
    killed.stdin.flush()
    assert _eventually(stored)
    killed.kill()
    killed.wait()
    killed.stdin.close()

    done = leadstream("import", "leads", file, "--rejects", rejects, *where)
    assert done.returncode == 0, done.stderr.decode()
    told = done.stdout.decode() + done.stderr.decode()
    for fact in (
        f"Rows: {LEADS}",
        f"Rows imported: {LEADS - 1}",
        f"Events for their counters: {LEADS - 1}",
        "Refused: 1",
    ):
        assert fact in told
    assert "line 102" in told
    assert "yesterday is no date" in told
    assert f"Reading {file}: done" in told
    assert "Scoring: done" in told
    assert [line.partition(",")[0] for line in rejects.read_text("utf-8").splitlines()] == ["line", "102"]
    leads = stored()
    assert len(leads) == LEADS - 1
    assert {(count, total) for _, count, total, _ in leads} == {("1", 3)}

    again = leadstream("import", "leads", file, *where)
    assert again.returncode == 0, again.stderr.decode()
    assert "New leads: 0" in again.stdout.decode()
    assert stored() == leads


def test_ready_tells_how_far_it_is_and_the_worker_shows_its_pages(server: Server, settings):
    told = server.client.get("/ready").json()
    assert told["ready"] is True
    assert set(told["behind"]) == {"track_sessions", "score_leads", "projection"}
    page = server.client.get(f"http://127.0.0.1:{settings['LEADSTREAM_WORKER_PORT']}/tables.json").json()
    assert page["ready"] is True
    assert len(page["tables"]) == 6
    assert 'leadstream_events_accepted_total{bot="no"}' in server.client.get("/metrics").text


def test_a_model_published_beside_it_rescores_every_lead(server: Server, tmp_path: Path):
    said = {"type": "qr_scanned", "lead_id": "zoe", "event_id": "scan-2"}
    assert server.client.post("/v1/events", params={"wait": 10}, json=said).status_code == 200
    changed = tmp_path / "temperature.toml"
    shipped = (Path(__file__).parents[2] / "scoring/models/temperature.toml").read_text(encoding="utf-8")
    assert "points = 3, max = 15" in shipped
    changed.write_text(shipped.replace("points = 3, max = 15", "points = 4, max = 15"), encoding="utf-8")
    done = leadstream("publish", changed, "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Model temperature, version 2, is active." in done.stdout
    assert scores_in(database_of(server), "default")["zoe", "temperature"] == (24,)
    back = leadstream("publish", "temperature", "--data-dir", server.data_dir)
    assert b"version 3" in back.stdout
    assert scores_in(database_of(server), "default")["zoe", "temperature"] == (23,)


@pytest.mark.soak
def test_what_it_exports_an_embedded_store_imports_and_scores_alike(
    server: Server, database_url: str, tmp_path: Path
):
    import_log("carried", access_log(), "--data-dir", server.data_dir)
    exported = leadstream("export", "-", "--data-dir", server.data_dir)
    assert exported.returncode == 0, exported.stderr.decode()
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    carried = [line for line in lines if line.get("tenant") == "carried"]
    assert len(carried) == access_log().count(b"GET") - access_log().count(b".css")
    for visitor in {line["visitor_id"] for line in carried}:
        moments = [line["recorded_at"] for line in carried if line["visitor_id"] == visitor]
        assert moments == sorted(moments)
    done = leadstream(
        "import",
        "events",
        "-",
        "--data-dir",
        tmp_path,
        stdin=exported.stdout,
        LEADSTREAM_DATABASE_URL=database_url,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert scores_in(database_url, "carried") == scores_in(database_of(server), "carried")


def test_the_example_of_a_direct_producer_works_as_it_stands(server: Server, settings):
    page = PRODUCING.read_text(encoding="utf-8")
    [example] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    topic = settings["LEADSTREAM_KAFKA_PREFIX"] + "events"
    example = example.replace("localhost:9092", settings["LEADSTREAM_KAFKA"]).replace(
        '"events"', f'"{topic}"'
    )
    subprocess.run([sys.executable, "-c", example], check=True, timeout=SECONDS)
    assert _eventually(lambda: _lead(server, "anon:w-7f31c2"))
    assert _listed(server) is None


def _lead(server: Server, lead_id: str) -> bool:
    return server.client.get(f"/api/leads/{lead_id}").status_code == 200


def test_a_dead_letter_is_listed_and_sent_in_again_mended(server: Server, settings, tmp_path: Path):
    said = {"type": "qr_scanned", "lead_id": "mia", "event_id": "scan-3"}
    _append_to_kafka(settings, "default/l/mia", b"not an event")
    place = _eventually(lambda: _listed(server))
    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps({**said, "occurred_at": "2026-06-01T00:00:00Z"}), encoding="utf-8")
    done = leadstream(
        "dead-letters", "retry", *place.split(), "--mended", mended, "--data-dir", server.data_dir
    )
    assert done.returncode == 0, done.stderr.decode()
    assert ("mia", "temperature") in scores_in(database_of(server), "default")


def _append_to_kafka(settings: dict[str, str], key: str, value: bytes) -> None:
    import asyncio

    from aiokafka import AIOKafkaProducer

    async def append() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings["LEADSTREAM_KAFKA"]) as producer:
            await producer.send_and_wait(settings["LEADSTREAM_KAFKA_PREFIX"] + "events", value, key.encode())

    asyncio.run(append())


def _listed(server: Server) -> str | None:
    told = leadstream("dead-letters", "list", "--data-dir", server.data_dir).stdout.decode()
    found = re.match(r"(\S+ \d+ \d+)  ", told)
    return found[1] if found else None


def _eventually(found):
    deadline = time.monotonic() + SECONDS
    while not (answer := found()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


def test_the_doctor_finds_it_healthy(server: Server):
    done = leadstream("doctor", "--data-dir", server.data_dir)
    told = done.stdout.decode()
    assert done.returncode == 0, told
    for line in (
        "ok   Kafka: answers",
        "ok   Topics: are correct, 3 partitions each",
        "ok   Workers: 1 in the group serve-leadstream",
        "ok   Stage track_sessions: is up to date",
        "ok   Stage score_leads: is up to date",
        "ok   Projections: 1 in the group serve-leadstream-projections",
        "ok   Projection: is up to date",
        "ok   Read models: follow this cluster",
    ):
        assert line in told, told


@pytest.mark.soak
def test_a_rebuild_beside_it_changes_nothing_that_is_seen_also_in_the_reports(server: Server):
    """Events come in meanwhile, and a role that may only read the reports reads them."""
    before = scores_in(database_of(server), "default")
    counting = "select count(*) from reports.leads where tenant = 'default'"
    scans = 0
    with reports_reader(database_of(server), "reader_on_kafka") as reader:
        shown = reader.execute(counting).fetchone()

        def scanned(wait: int = 0) -> None:
            event = {"type": "qr_scanned", "lead_id": "dee", "event_id": f"dee-{scans}"}
            headers = {"x-tenant": "visited"}
            answer = server.client.post("/v1/events", params={"wait": wait}, json=event, headers=headers)
            assert answer.status_code in ({200, 202} if wait else {200}), answer.text

        rebuilding = Program(
            [sys.executable, "-m", "leadstream", "rebuild", "--data-dir", str(server.data_dir)],
            env=environment(),
            stderr=subprocess.PIPE,
        )
        while rebuilding.poll() is None:
            scanned()
            scans += 1
            assert reader.execute(counting).fetchone() == shown
            time.sleep(0.05)
        _, said = rebuilding.communicate()
        assert rebuilding.returncode == 0, said.decode()
        seen = "select qr_scan_count from reports.leads where tenant = 'visited' and lead_id = 'dee'"
        assert _eventually(lambda: reader.execute(seen).fetchone() == (scans,))
        assert_reads_reports_only(reader)
    assert scans
    assert scores_in(database_of(server), "default") == before
    assert before


def test_restated_nobody_moves_and_the_restated_store_is_copied_beside_the_old_topics(
    server: Server, settings, tmp_path: Path
):
    """As docs/upgrading.md shows, from a store that imports, publications, chats and a direct producer have filled."""
    into = tmp_path / "restated"
    done = leadstream("restate", "--into", into, "--json", "--data-dir", server.data_dir)
    assert done.returncode == 0, done.stderr.decode()
    restated = json.loads(done.stdout)
    assert restated["on_kafka"] is True
    assert restated["events"] > LINES
    leads = restated["leads"]
    assert (leads["new"], leads["merged"]) == (0, 0), leads
    moving = [mover for mover in leads["movers"] if (mover["tenant"], mover["lead_id"]) not in MAY_MOVE]
    assert moving == []
    assert leads["moving"] <= len(MAY_MOVE)

    there = settings_for(settings["LEADSTREAM_KAFKA"], "restated-") | {
        "LEADSTREAM_DATA_DIR": str(tmp_path / "there")
    }
    said = tmp_path / "worker"
    with said.open("wb") as file:
        worker = subprocess.Popen(
            [sys.executable, "-m", "leadstream", "worker"], env=environment(**there), stdout=file, stderr=file
        )
    try:
        assert _eventually(lambda: "restated-events is missing" in said.read_text()), said.read_text()
        copied = leadstream("export", "--to-kafka", "--data-dir", into, **there)
    finally:
        worker.terminate()
        worker.wait(60)
    assert copied.returncode == 0, copied.stderr.decode() + said.read_text()
    events = restated["events"] - restated["dead_letters"][1]
    assert f"{events:,} events are in Kafka." in copied.stdout.decode() + copied.stderr.decode()


def test_everything_answered_is_there_once_after_a_kill(server: Server):
    said = [
        {
            "type": "qr_scanned",
            "lead_id": "kim",
            "event_id": f"kim-{number}",
            "occurred_at": "2026-05-01T00:00:00Z",
        }
        for number in range(20)
    ]
    for event in said:
        assert server.client.post("/v1/events", json=event).status_code == 200
    server.kill()
    server.start()
    answer = server.client.post("/v1/events", params={"wait": 10}, json=said)
    assert {each["outcome"] for each in answer.json()["events"]} == {"duplicate"}
    with psycopg.connect(database_of(server), options=READ_OPTIONS) as connection:
        [counts] = connection.execute("select counts from leads where lead_id = 'kim'").fetchone()
    assert counts["qr_scanned"] == 20


def test_being_told_to_stop_is_no_error_and_is_done_in_time(server: Server, settings):
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < STOPPING_SECONDS
    assert not (server.data_dir / "server.json").exists()
    assert not (server.data_dir / "postgres/postmaster.pid").exists()
    assert "Traceback" not in server.said.read_text()
    embedded = leadstream("serve", "--port", free_port(), "--data-dir", server.data_dir)
    assert embedded.returncode == 1
    assert b"follows the Kafka cluster" in embedded.stderr
    skipped = leadstream("skip", "events", 0, 0, "--reason", "x", "--data-dir", server.data_dir)
    assert skipped.returncode == 1
    assert b"set LEADSTREAM_KAFKA" in skipped.stderr


def test_a_fold_with_a_bug_ends_the_process_until_the_record_is_skipped(cluster, tmp_path: Path):
    settings = settings_for(cluster.brokers, cluster.prefix)
    with serving(tmp_path / "store", program=("-c", BROKEN), arguments=("--kafka",), **settings) as server:
        ok = server.client.post(
            "/v1/events", params={"wait": 10}, json={"type": "qr_scanned", "lead_id": "ada"}
        )
        assert ok.status_code == 200
        poison = server.client.post("/v1/events", json={"type": "qr_scanned", "lead_id": "poison"})
        assert poison.status_code == 200
        assert server.process is not None
        assert server.process.wait(SECONDS) == 3
        said = server.said.read_text()
        place = re.search(r"(lead-activity)/(\d+) at position (\d+)", said)
        assert place, said
        assert "leadstream skip" in said
        done = leadstream(
            "skip", *place.groups(), "--reason", "known bug", "--data-dir", server.data_dir, **settings
        )
        assert done.returncode == 0, done.stderr.decode()
        again = leadstream(
            "skip", place[1], place[2], "999", "--reason", "none", "--data-dir", server.data_dir, **settings
        )
        assert again.returncode == 1
        assert b"does not exist" in again.stderr
        server.start()
        assert _eventually(lambda: _listed(server)) == " ".join(place.groups())
        leads = server.client.get("/api/leads").json()["leads"]
        assert [lead["lead_id"] for lead in leads] == ["ada"]

"""The subscribers of `examples/`, as docs/consuming.md shows them: on a real broker, behind a real worker,
killed in mid-work and started again, they end with exactly the leads of the log, and no call is noted twice.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from deploy.kafka.broker import Broker
from schemas.topics import LEAD_CHANGES, LEAD_SCORES
from streams.kafka.cluster import Cluster
from tests.forked_programs import Program
from tests.leadstream.command_line import environment, leadstream_here
from tests.ports import free_port
from tests.system.kafka_log import KafkaLog

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

HERE = Path(__file__).parent
EXAMPLES = Path(__file__).parents[2] / "examples"
PREFIX = "subscribers-"
PARTITIONS = 2
LEADS = 24
STEPS = ("qr_scanned", "catalog_viewed", "message_received")
ROUNDS = 5
TEMPERATURE = 5 * 3 + 5 * 2 + 5 * 1 + 20
"""Five scans, catalog views and messages, and 20 for having been active today: what makes a lead hot (50)."""
PATIENCE = 120.0


class Kept(NamedTuple):
    """What a subscriber has in its store."""

    leads: dict[str, tuple[str, dict[str, float]]]
    """By key: stage and totals."""
    calls: dict[str, tuple[str, str]]
    """By statement: lead and band."""


class Client(NamedTuple):
    command: list[str]
    store: str
    read: Callable[[Path], Kept]
    positions: Callable[[Path], dict[str, int]]
    rewind: Callable[[Path], None]
    """Back to the beginning of the log, and what was noted stays."""


def read_tables(path: Path) -> Kept:
    with closing(sqlite3.connect(path)) as store:
        leads = store.execute("select key, stage, scores from leads").fetchall()
        calls = store.execute("select statement_id, lead_id, band from calls").fetchall()
    return Kept(
        {key: (stage, json.loads(scores)) for key, stage, scores in leads},
        {statement: (lead, band) for statement, lead, band in calls},
    )


def positions_in_tables(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as store:
        return dict(store.execute("select topic || '/' || partition, position from positions").fetchall())


def rewind_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("delete from positions")


def read_file(path: Path) -> Kept:
    kept = json.loads(path.read_text(encoding="utf-8"))
    return Kept(
        {key: (lead["stage"], lead["scores"]) for key, lead in kept["leads"].items()},
        {statement: (call["lead"], call["band"]) for statement, call in kept["calls"].items()},
    )


def positions_in_file(path: Path) -> dict[str, int]:
    kept = json.loads(path.read_text(encoding="utf-8"))["positions"]
    return {place: int(position) for place, position in kept.items()}


def rewind_file(path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(kept | {"positions": {}}), encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example for Node with what its lock names, and nothing that an installed package runs."""
    npm = shutil.which("npm")
    if npm is None and not os.environ.get("CI"):
        pytest.skip("npm is not there")
    place = tmp_path_factory.mktemp("kafkajs")
    for name in ("package.json", "package-lock.json", "subscribe.js"):
        shutil.copy(EXAMPLES / "kafkajs" / name, place)
    subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=place, check=True, timeout=300
    )
    return place


@pytest.fixture(params=["confluent-kafka", "kafkajs"])
def client(request: pytest.FixtureRequest) -> Client:
    if request.param == "confluent-kafka":
        command = [sys.executable, str(HERE / "dying.py"), str(EXAMPLES / "confluent-kafka/subscribe.py")]
        return Client(command, "leads.sqlite", read_tables, positions_in_tables, rewind_tables)
    installed = request.getfixturevalue("installed")
    command = ["node", "--import", (HERE / "dying.mjs").as_uri(), str(installed / "subscribe.js")]
    return Client(command, "leads.json", read_file, positions_in_file, rewind_file)


@pytest.fixture(scope="module")
def settings(kafka_broker: Broker) -> dict[str, str]:
    return {
        "LEADSTREAM_KAFKA": kafka_broker.address,
        "LEADSTREAM_KAFKA_PREFIX": PREFIX,
        "LEADSTREAM_PARTITIONS": str(PARTITIONS),
        "LEADSTREAM_WORKER_PORT": str(free_port()),
    }


@pytest.fixture(scope="module")
def worker(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    made = leadstream_here("topics", "create", **settings)
    assert made.returncode == 0, made.stderr.decode()
    log = tmp_path_factory.mktemp("worker") / "log"
    with log.open("wb") as file:
        process = Program(
            [sys.executable, "-m", "leadstream", "worker"],
            stdout=file,
            stderr=file,
            env=environment(LEADSTREAM_DATA_DIR=str(log.parent), **settings),
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.kill()
        process.wait()


@contextmanager
def subscribed(
    client: Client, place: Path, settings: dict[str, str], *, die_at: int = 0
) -> Iterator[Program]:
    """`die_at`: the number of the commit before which it is killed."""
    with (place / "said").open("ab") as said:
        process = subprocess.Popen(
            client.command,
            cwd=place,
            stdout=said,
            stderr=said,
            env=environment(
                STORE=str(place / client.store),
                GROUP=f"{PREFIX}{client.store}",
                DIE_AT=str(die_at),
                **settings,
            ),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def events(tenant: str) -> list[tuple[str, dict[str, Any]]]:
    """(key, event): leads that get hot step by step, and the same persons as visitors before they are known."""
    now = datetime.now(UTC).isoformat()
    found = []
    for number in range(LEADS):
        lead, visitor = f"lead-{number}", f"visitor-{number}"
        mine = [{"type": "page_viewed", "url": "https://shop.example/", "visitor_id": visitor}]
        mine += [{"type": kind, "lead_id": lead} for _ in range(ROUNDS) for kind in STEPS]
        mine.append({"type": "lead_identified", "visitor_id": visitor, "lead_id": lead})
        for nth, event in enumerate(mine):
            key = f"{tenant}/v/{visitor}" if "visitor_id" in event else f"{tenant}/l/{lead}"
            shared = {"event_id": f"{lead}-{nth}", "occurred_at": now, "tenant": tenant}
            found.append((nth, number, key, shared | event))
    return [(key, event) for _, _, key, event in sorted(found, key=lambda each: each[:2])]


def send(settings: dict[str, str], told: list[tuple[str, dict[str, Any]]]) -> None:
    producer = Producer(
        {
            "bootstrap.servers": settings["LEADSTREAM_KAFKA"],
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
        }
    )
    for key, event in told:
        producer.produce(f"{PREFIX}events", json.dumps(event).encode(), key)
    assert producer.flush(60) == 0


def in_the_log(settings: dict[str, str]) -> tuple[Kept, set[str]]:
    """What the topics say, read by another client: the newest card of each lead, and every crossing; and the keys
    of leads that are no more.
    """
    log = KafkaLog(Cluster(settings["LEADSTREAM_KAFKA"], PREFIX), PARTITIONS)
    cards = {record.key: record.value for part in log.read(LEAD_SCORES).values() for record in part}
    leads = {}
    for key, value in cards.items():
        if value is not None:
            card = json.loads(value)
            leads[key] = (card["stage"], {model: each["total"] for model, each in card["scores"].items()})
    changes = [json.loads(record.value) for part in log.read(LEAD_CHANGES).values() for record in part]
    crossings = [
        each
        for each in changes
        if each["type"] == "band_changed" and each.get("crossed") and not each.get("silent")
    ]
    assert len({each["statement_id"] for each in crossings}) == len(crossings)
    kept = Kept(leads, {each["statement_id"]: (each["lead_id"], each["band"]) for each in crossings})
    return kept, cards.keys() - leads.keys()


def eventually(condition: Callable[[], Any], what: str, process: Program | None = None) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process is None or process.poll() is None, f"it has ended: {what}"
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def scored(settings: dict[str, str], tenant: str) -> Kept | None:
    """The log, once every lead of the tenant has the score that its events give, and no visitor is left."""
    kept, gone = in_the_log(settings)
    mine = {key: totals for key, (_, totals) in kept.leads.items() if key.startswith(f"{tenant}/")}
    wanted = {f"{tenant}/l/lead-{number}" for number in range(LEADS)}
    visitors = {f"{tenant}/l/anon:visitor-{number}" for number in range(LEADS)}
    done = (
        mine.keys() == wanted
        and visitors <= gone
        and all(totals["temperature"] == TEMPERATURE for totals in mine.values())
    )
    return kept if done else None


def taken(client: Client, store: Path) -> int:
    """How many positions of the log it has come by."""
    try:
        return sum(client.positions(store).values())
    except (FileNotFoundError, sqlite3.OperationalError):  # it has only just been started
        return 0


def has_come_to(ends: dict[str, int], positions: dict[str, int]) -> bool:
    return all(positions.get(place, 0) >= end for place, end in ends.items())


def test_a_subscriber_that_is_killed_ends_with_the_leads_of_the_log_and_no_call_twice(
    client: Client, worker: None, settings: dict[str, str], tmp_path: Path
):
    tenant, store, said = client.store.partition(".")[2], tmp_path / client.store, tmp_path / "said"
    told = events(tenant)
    size = -(-len(told) // 5)
    shares = [told[begin : begin + size] for begin in range(0, len(told), size)]
    with subscribed(client, tmp_path, settings, die_at=1) as process:
        send(settings, shares[0])
        assert process.wait(PATIENCE) == -signal.SIGKILL, said.read_text()
    assert not taken(client, store)
    with subscribed(client, tmp_path, settings, die_at=2) as process:
        send(settings, shares[1])
        eventually(lambda: taken(client, store), "it has committed once")
        send(settings, shares[2])
        assert process.wait(PATIENCE) == -signal.SIGKILL, said.read_text()
    with subscribed(client, tmp_path, settings) as process:
        before = taken(client, store)
        send(settings, shares[3])
        eventually(lambda: taken(client, store) > before, f"it takes records: {said.read_text()}", process)
        process.kill()  # while records still come
    send(settings, shares[4])
    expected = eventually(lambda: scored(settings, tenant), "every lead has its score")
    assert {f"lead-{number}" for number in range(LEADS)} <= {lead for lead, _ in expected.calls.values()}
    with subscribed(client, tmp_path, settings) as process:
        eventually(lambda: client.read(store) == expected, f"it has caught up: {said.read_text()}", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, said.read_text()

    # From the beginning again: every card comes anew, every crossing is recognised by its statement_id.
    ends = client.positions(store)
    client.rewind(store)
    with subscribed(client, tmp_path, settings) as process:
        eventually(lambda: has_come_to(ends, client.positions(store)), "it has read all of it again", process)
    assert client.read(store) == expected
    printed = [
        json.loads(line)["call"][0] for line in said.read_text().splitlines() if line.startswith('{"call"')
    ]
    assert len(printed) == len(set(printed)) <= len(expected.calls)

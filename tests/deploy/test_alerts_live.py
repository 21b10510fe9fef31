"""A real Prometheus with the shipped alert rules scrapes a real system that is broken on purpose, in every way that an
alert is about. Only its waiting is shorter: each minute of a rule is a second here.
"""

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from leadstream.clock import utc_now
from leadstream.wiring import genesis
from projections.migrate import migrate
from schemas.record import Outgoing
from schemas.topics import EVENTS, SCORE_CHANGED
from streams.kafka.append import KafkaAppend
from streams.kafka.cluster import Cluster
from streams.kafka.topics import create_topics
from streams.kafka.transactions import KafkaTransactions
from tests.delivery.receivers import Answer, HttpReceiver
from tests.ports import free_port
from tests.projections.tcp_proxy import Proxy
from tests.system.crew import Crew

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.soak]

PARTITIONS = 2
SECONDS = 120.0
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
HELD = """
import asyncio, os
from pathlib import Path
from streams.kafka.restoring import KafkaChangelogStorage
restore, hold = KafkaChangelogStorage.restore, Path(os.environ["HOLD"])
async def held(self, memories, opened):
    while hold.exists():
        await asyncio.sleep(0.1)
    await restore(self, memories, opened)
KafkaChangelogStorage.restore = held
from leadstream.cli.root import main
main()
"""
"""`leadstream`, whose workers do not end restoring while there is a file HOLD."""


WORKFLOWS = "".join(
    f"""
[[workflow]]
id = {number}
name = "Tell {channel}"
trigger = {{ type = "event", event = "demo_requested" }}
action = {{ type = "send_webhook", channel = "{channel}" }}
"""
    for number, channel in ((1, "failing"), (2, "gone"))
)
CHANNELS = """
[limits]
circuit_failures = 1
circuit_seconds = 3_600
first_retry_seconds = 0.1

[channels.failing]
type = "webhook"
url = "env:FAILING_URL"
secrets = ["env:HOOK_SECRET"]

[channels.gone]
type = "webhook"
url = "env:GONE_URL"
secrets = ["env:HOOK_SECRET"]

[channels.hub]
type = "hubspot"
address = "RECEIVER"
token = "env:HOOK_SECRET"

[channels.hub.inbound]
since = 2026-01-01

[enrichment.people]
type = "http"
key = "email"
url = "RECEIVER/{key}"
fields = { company = "company" }
"""
"""A receiver that fails, which rests for good after its first failure, and one that wants no more messages (410). A CRM and a
source of enrichment that fail.
"""


def quickened(rules: str) -> str:
    """The rules, waiting seconds for minutes and with ages in fewer seconds; what they ask for stays."""
    rules = re.sub(r"(for: \d+)m", r"\1s", rules)
    return rules.replace("> 300", "> 5")


def names(rules: str) -> set[str]:
    return {rule["alert"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]}


class House:
    """The system, its supervisor and Prometheus."""

    def __init__(self, broker, database_url: str, directory: Path) -> None:
        self.cluster = Cluster(broker.address)
        self.broker = broker
        self.proxy = Proxy(database_url)
        self.hold = directory / "hold"
        self.crew = Crew(directory)
        self.ports = {
            name: free_port() for name in ("gateway", "worker", "projection", "delivery", "prometheus")
        }
        self.receiver = HttpReceiver()
        self.receiver.otherwise = lambda request: Answer(410 if request.path == "/gone" else 500)
        self.fired: set[str] = set()
        self._directory = directory
        self._number = 0
        self._prometheus: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(timeout=30)

    def open(self) -> None:
        asyncio.run(create_topics(self.cluster, partitions=PARTITIONS, genesis=genesis(utc_now())))
        self.receiver.__enter__()
        channels = self._directory / "delivery.toml"
        channels.write_text(CHANNELS.replace("RECEIVER", self.receiver.url))
        env = {
            "HOLD": str(self.hold),
            "HOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "FAILING_URL": f"{self.receiver.url}/failing",
            "GONE_URL": f"{self.receiver.url}/gone",
            "LEADSTREAM_DELIVERY": str(channels),
            "LEADSTREAM_DELIVERY_PORT": str(self.ports["delivery"]),
            "LEADSTREAM_KAFKA": self.cluster.brokers,
            "LEADSTREAM_DATABASE_URL": self.proxy.url,
            "LEADSTREAM_DATA_DIR": str(self._directory / "data"),
            "LEADSTREAM_PORT": str(self.ports["gateway"]),
            "LEADSTREAM_WORKER_PORT": str(self.ports["worker"]),
            "LEADSTREAM_PROJECTION_PORT": str(self.ports["projection"]),
        }
        for name, command in (
            ("gateway", "gateway"),
            ("worker", "worker"),
            ("projection", "project"),
            ("delivery", "delivery"),
        ):
            self.crew.add(name, [sys.executable, "-c", HELD, command], env | {"LEADSTREAM_WORKER_ID": name})
        for name in ("projection", "worker", "gateway"):
            self.until(lambda name=name: self.ready(name), f"{name} is ready")
        self._watch()

    def _watch(self) -> None:
        (self._directory / "alerts.yml").write_text(quickened(RULES.read_text()))
        jobs = [
            {
                "job_name": name,
                "static_configs": [{"targets": [f"127.0.0.1:{self.ports[name]}"]}],
            }
            for name in ("gateway", "worker", "projection", "delivery")
        ]
        config = {
            "global": {"scrape_interval": "3s", "scrape_timeout": "3s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": jobs,
        }
        (self._directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        with (self._directory / "prometheus.log").open("wb") as log:
            self._prometheus = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._directory / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
                ],
                stdout=log,
                stderr=log,
            )
        self.until(lambda: len(self.up()) == len(jobs), "Prometheus reaches everybody")

    def close(self) -> None:
        if self._prometheus is not None:
            self._prometheus.kill()
            self._prometheus.wait()
        self.crew.close()
        self.receiver.__exit__()
        self.proxy.close()
        self.http.close()

    def ready(self, name: str) -> bool:
        try:
            return self.http.get(f"http://127.0.0.1:{self.ports[name]}/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, what: str) -> list[dict[str, object]]:
        try:
            answer = self.http.get(f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/{what}")
        except httpx.TransportError:
            return []
        if answer.status_code == 503:  # it is starting
            return []
        data = answer.json().get("data", {})
        return data.get("alerts", data.get("result", []))

    def up(self) -> list[dict[str, object]]:
        return self.ask("query?query=up==1")

    def started(self, job: str) -> object:
        """When, as Prometheus knows it now."""
        found = self.ask(f'query?query=process_start_time_seconds{{job="{job}"}}')
        return found[0]["value"][1] if found else None

    def firing(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.ask("alerts") if alert["state"] == "firing"}

    def fires(self, *alerts: str) -> None:
        """All of them at once."""
        self.until(lambda: set(alerts) <= self.firing(), f"{alerts} fire")
        self.fired.update(alerts)

    def post(self, count: int = 150) -> int:
        """The status that a batch of so many events is answered with."""
        self._number += count
        events = [
            {"type": "page_viewed", "visitor_id": f"v{n % 20}", "event_id": f"e{n}", "url": "/pricing"}
            for n in range(self._number - count, self._number)
        ]
        url = f"http://127.0.0.1:{self.ports['gateway']}/v1/events"
        return self.http.post(url, json=events).status_code

    def publish_workflows(self) -> None:
        url = f"http://127.0.0.1:{self.ports['gateway']}/api/workflows/publish"
        answer = self.http.post(url, json={"text": WORKFLOWS})
        assert answer.is_success, answer.text

    def request_demo(self, number: int) -> None:
        """Each demo has an action for the failing receiver, and one for the receiver that is gone."""
        url = f"http://127.0.0.1:{self.ports['gateway']}/v1/events"
        lead = {"lead_id": f"d{number}"}
        request = {"type": "demo_requested", "event_id": f"d{number}"} | lead
        shared = {
            "type": "contact_shared",
            "event_id": f"c{number}",
            "email": f"d{number}@example.com",
        } | lead
        assert self.http.post(url, json=[request, shared]).status_code == 200

    def until(self, condition, what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.firing()}\n{self.crew.report()}"
            time.sleep(0.2)


@pytest.fixture
def house(own_broker, database_url, tmp_path):
    migrate(database_url)
    house = House(own_broker, database_url, tmp_path)
    try:
        house.open()
        yield house
    finally:
        house.close()


def append(cluster: Cluster, *records: Outgoing) -> None:
    async def run() -> None:
        log = KafkaAppend(cluster)
        await log.start()
        try:
            await log(records)
        finally:
            await log.stop()

    asyncio.run(run())


def fence(cluster: Cluster) -> None:
    """Does what another worker does that takes over a bucket."""

    async def run() -> None:
        for bucket in range(2):
            other = KafkaTransactions(cluster, bucket, PARTITIONS)
            await other.open()
            await other.close()

    asyncio.run(run())


def delete_events(cluster: Cluster) -> None:
    """As retention does, up to the end."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(**cluster.client())
        await admin.start()
        try:
            await admin.delete_records(
                {TopicPartition(cluster.topic(EVENTS), n): RecordsToDelete(-1) for n in range(PARTITIONS)}
            )
        finally:
            await admin.close()

    asyncio.run(run())


def test_every_alert_fires_when_the_system_is_broken_in_its_way(house):
    assert house.post() == 200
    house.until(lambda: house.ready("gateway"), "all is scored")
    time.sleep(5)
    assert house.firing() == set(), "all is well"

    # Two demos: the second message to the failing receiver waits while its channel rests after the first.
    house.publish_workflows()
    house.request_demo(1)
    house.request_demo(2)
    house.fires("DeliveryLags", "ChannelRests", "ActionsGivenUp", "CrmNotRead", "EnrichmentFails")
    house.crew.end("delivery", 30)
    house.fires("DeliveryGone")

    house.proxy.silent()
    house.post()
    house.fires("DatabaseGone", "ProjectionPaused", "GatewayNotReady", "ScoresLag")
    house.proxy.passing()
    house.until(lambda: house.ready("gateway") and house.ready("projection"), "it goes on by itself")

    append(
        house.cluster, Outgoing(EVENTS, "default/v/x", b"\xff", 0), Outgoing(SCORE_CHANGED, "x", b"\xff", 0)
    )
    house.fires("DeadLetters", "ForeignRecords")

    with psycopg.connect(house.proxy.url) as connection:
        connection.execute(
            "insert into public.recalculations values ('default', now(), 'test', now(), now(), 0, '', 1, 1, '[]')"
        )
    house.fires("RecalculationDiffers")

    for _ in range(4):
        life, seen = house.crew["worker"].lives, house.started("worker")
        fence(house.cluster)
        house.post(20)
        house.until(lambda life=life: house.crew["worker"].lives > life, "the worker that was shut out ends")
        house.until(lambda: house.ready("worker"), "its successor is ready")
        house.until(lambda seen=seen: house.started("worker") not in {None, seen}, "Prometheus sees it")
    house.fires("CrashLoop", "StartedAgainAndAgain", "WorkersShutOut")

    house.hold.touch()
    house.crew.kill("worker")
    house.post()
    house.fires("RestoreTakesLong", "ScoringLags")

    house.crew["worker"].kept = False
    house.crew["worker"].process.kill()
    house.fires("WorkersGone", "NobodyReads")
    delete_events(house.cluster)
    house.hold.unlink()
    house.crew["worker"].kept = True
    house.fires("EventsLost")

    house.crew.end("projection", 30)
    house.fires("ProjectionsGone")

    house.broker.kill()

    def refused() -> bool:
        house.post(1)
        return "EventsNotTaken" in house.firing()

    house.until(refused, "events are turned away")
    house.fired.add("EventsNotTaken")
    house.crew["gateway"].kept = False
    house.crew["gateway"].process.kill()
    house.fires("GatewayGone")
    assert house.fired == names(RULES.read_text())

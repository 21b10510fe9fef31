"""Workflows act on Kafka: `serve --kafka` delivers, and so does `leadstream delivery` as a process of its own."""

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
import pytest

from leadstream.all_in_one import open_kafka_system
from leadstream.settings import read_settings
from leadstream.wiring_kafka import kafka_append
from schemas.control import WorkflowsPublished
from schemas.decode import encode_source, key_of
from schemas.events import DemoRequested, ProfileUpdated
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS
from tests.ports import free_port

sys.path.append(str(Path(__file__).parents[1] / "delivery"))

from receivers import HttpReceiver
from test_kafka_cli import running

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

WORKFLOWS = """
[[workflow]]
id = 1
name = "Tell the CRM"
trigger = { type = "event", event = "demo_requested" }
action = { type = "send_webhook", channel = "hook" }

[[workflow]]
id = 2
name = "Mark"
trigger = { type = "event", event = "demo_requested" }
action = { type = "update_field", field = "tier", value = "gold" }
"""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_workflows_act_in_one_process_and_in_one_of_their_own(cluster, database_url, tmp_path, monkeypatch):
    configuration = tmp_path / "delivery.toml"
    configuration.write_text(
        '[channels.hook]\ntype = "webhook"\nurl = "env:HOOK_URL"\nsecrets = ["env:HOOK_SECRET"]\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with HttpReceiver() as receiver, psycopg.connect(database_url, autocommit=True) as connection:
        monkeypatch.setenv("HOOK_URL", receiver.url)
        settings = read_settings(
            kafka=cluster.brokers,
            kafka_prefix=cluster.prefix,
            partitions=2,
            worker_port=free_port(),
            projection_port=0,
            database_url=database_url,
            data_dir=tmp_path,
            delivery=configuration,
        )

        def delivered() -> int:
            try:
                return connection.execute(
                    "select count(*) from public.outbox where status = 'delivered'"
                ).fetchone()[0]
            except psycopg.errors.UndefinedTable:
                return 0

        def tier() -> str | None:
            row = connection.execute(
                "select fields ->> 'tier' from live.leads where lead_id = 'ada'"
            ).fetchone()
            return row and row[0]

        with open_kafka_system(settings):
            asyncio.run(record_workflows_and_events(settings))
            wait_for(lambda: delivered() == 2 and tier() == "gold")
        assert [request.json()["data"]["lead"]["id"] for request in receiver.requests] == ["ada"]

        connection.execute("update public.outbox set status = 'dead'")
        port = free_port()
        options = {
            "LEADSTREAM_KAFKA": cluster.brokers,
            "LEADSTREAM_KAFKA_PREFIX": cluster.prefix,
            "LEADSTREAM_DATABASE_URL": database_url,
            "LEADSTREAM_DELIVERY": str(configuration),
            "LEADSTREAM_DELIVERY_PORT": str(port),
            "HOOK_URL": receiver.url,
            "HOOK_SECRET": SECRET,
        }
        with running("delivery", said=tmp_path / "said", **options):
            connection.execute(
                "update public.outbox set status = 'waiting', attempts = 0, next_attempt_at = now()"
            )
            wait_for(lambda: delivered() == 2)
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            assert 'leadstream_delivery_attempts_total{kind="webhook",outcome="delivered"} 1.0' in metrics
        keys = [request.headers["webhook-id"] for request in receiver.requests]
        assert len(keys) == 2
        assert len(set(keys)) == 1


async def record_workflows_and_events(settings) -> None:
    now = datetime.now(UTC)
    common = {"occurred_at": now, "recorded_at": now, "lead_id": "ada", "source": "crm"}
    events = [
        ProfileUpdated(event_id="e1", fields={"name": "Ada", "email": "ada@example.com"}, **common),
        DemoRequested(event_id="e2", **common),
    ]
    async with kafka_append(settings)() as append:
        published = WorkflowsPublished(tenant="default", recorded_at=now, version=1, text=WORKFLOWS)
        await append(publication_records(published))
        await append([Outgoing(EVENTS, key_of(each), encode_source(each)) for each in events])

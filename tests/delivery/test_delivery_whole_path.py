"""From an event to the world: workflows are published, an event sets them off, and beside the log they are delivered."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest
from outboxes import WEBHOOK_SECRET, Outbox
from standardwebhooks import Webhook

from leadstream.delivering import delivery_beside
from leadstream.settings import read_settings
from leadstream.wiring import System, open_system, repeated_for_every_partition
from schemas.control import WorkflowsPublished
from schemas.decode import encode_source, key_of
from schemas.envelope import Event
from schemas.events import DemoRequested, ProfileUpdated
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS

pytestmark = pytest.mark.postgres

WORKFLOWS = """
[[workflow]]
id = 1
name = "Tell the CRM"
trigger = { type = "event", event = "demo_requested" }
action = { type = "send_webhook", channel = "hook" }

[[workflow]]
id = 2
name = "Mark"
priority = 5
trigger = { type = "event", event = "demo_requested" }
action = { type = "update_field", field = "tier", value = "gold" }

[[workflow]]
id = 3
name = "Tell everybody"
trigger = { type = "field_update", field = "tier" }
action = { type = "send_notification", message = "{{ lead.name }} is {{ lead.fields.tier }}" }

[[workflow]]
id = 4
name = "A circle"
trigger = { type = "field_update", field = "tier" }
action = { type = "update_field", field = "tier", value = "gold" }
"""


def append(system: System, records: list[Outgoing]) -> None:
    system.driver.append(repeated_for_every_partition(records, system.driver.partitions)).result(30)


def record(system: System, *events: Event) -> None:
    append(system, [Outgoing(EVENTS, key_of(event), encode_source(event)) for event in events])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_event_sets_off_workflows_that_change_the_lead_and_tell_the_world(
    database_url, receiver, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOOK_URL", receiver.url)
    monkeypatch.setenv("HOOK_SECRET", WEBHOOK_SECRET)
    configuration = tmp_path / "delivery.toml"
    configuration.write_text(
        '[channels.hook]\ntype = "webhook"\nurl = "env:HOOK_URL"\nsecrets = ["env:HOOK_SECRET"]\n',
        encoding="utf-8",
    )
    settings = read_settings(
        database_url=database_url, partitions=2, data_dir=tmp_path, delivery=configuration
    )
    now = datetime.now(UTC)
    common = {"occurred_at": now, "recorded_at": now, "lead_id": "ada", "source": "crm"}
    outbox = Outbox(database_url)
    with open_system(settings) as system, delivery_beside(system, settings):
        published = WorkflowsPublished(tenant="default", recorded_at=now, version=1, text=WORKFLOWS)
        append(system, publication_records(published))
        record(
            system,
            ProfileUpdated(event_id="e1", fields={"name": "Ada", "email": "ada@example.com"}, **common),
            DemoRequested(event_id="e2", **common),
            DemoRequested(event_id="old", **{**common, "lead_id": "bob", "imported": True}),
        )
        wait_for(lambda: sum(status == "delivered" for status in outbox.statuses()) == 4)
        with psycopg.connect(database_url) as connection:
            wait_for(
                lambda: (
                    connection.execute(
                        "select fields ->> 'tier' from live.leads where lead_id = 'ada'"
                    ).fetchone()
                    == ("gold",)
                )
            )
    (request,) = receiver.requests
    said = Webhook(WEBHOOK_SECRET).verify(request.body, request.headers)
    assert said["data"]["lead"]["name"] == "Ada"
    executions = outbox.rows("select * from live.workflow_executions order by at, workflow_id")
    assert {(row["lead_id"], row["workflow_id"], row["silenced_by"], row["hops"]) for row in executions} == {
        ("ada", 1, None, 0),
        ("ada", 2, None, 0),
        ("ada", 3, None, 1),
        ("ada", 4, None, 1),
        ("bob", 1, "import", 0),
        ("bob", 2, "import", 0),
    }
    assert {row["priority"] for row in outbox.rows() if row["workflow_id"] == 2} == {5}
    (notification,) = outbox.rows("select * from public.notifications")
    assert notification["message"] == "Ada is gold"

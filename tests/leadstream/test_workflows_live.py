"""Workflows in a running embedded system: published, triggered by an event, and by a schedule that the scheduler records."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from authoring.authoring import Authoring
from leadstream.clock import utc_now
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from projections.connection import connect_watched
from schemas import events as e
from schemas.control import WorkflowsPublished
from schemas.decode import decode_statement, encode_source, key_of
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.statements import WorkflowTriggered
from schemas.topics import EVENTS, LEAD_CHANGES

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

TEXT = """
[[workflow]]
id = 1
name = "Demo"
trigger = { type = "event", event = "demo_requested" }
action = { type = "create_task", title = "Call" }

[[workflow]]
id = 2
name = "Every day at nine"
trigger = { type = "time_based", cron = "0 9 * * *" }
action = { type = "send_notification", message = "Good morning" }
"""


def triggered(url):
    with connect_watched(url) as connection:
        rows = connection.execute(
            "select value from public.records where topic = %s", (LEAD_CHANGES,)
        ).fetchall()
    statements = [decode_statement(bytes(value)) for (value,) in rows]
    return sorted(
        (each.lead_id, each.workflow_id, each.caused_by)
        for each in statements
        if isinstance(each, WorkflowTriggered)
    )


async def until(condition):
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it does not come to pass")


async def test_an_event_and_a_schedule_set_workflows_off_and_a_second_scheduler_changes_nothing(database_url):
    settings = Settings(database_url=database_url, partitions=3)
    now = utc_now()
    with open_system(settings) as system:
        ports = ports_of(system, settings)
        text = WorkflowsPublished(tenant="default", recorded_at=now, version=1, text=TEXT, folding=3)
        await ports.append(publication_records(text))
        events = [
            e.DemoRequested(event_id=f"d{n}", occurred_at=now, recorded_at=now, lead_id=f"L{n}", source="web")
            for n in range(4)
        ]
        await ports.append([Outgoing(EVENTS, key_of(event), encode_source(event)) for event in events])
        by_event = [(f"L{n}", 1, f"event:d{n}") for n in range(4)]
        await until(lambda: triggered(database_url) == by_event)

        tomorrow = (now + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
        schedulers = [
            Authoring(
                system.database_url, ports.append, ports.shards, lambda: tomorrow + timedelta(minutes=3)
            )
            for _ in range(2)
        ]
        recorded = [await each.record_due_moments({}) for each in schedulers]
        assert [each.scheduled_for for each in recorded[0]] == [tomorrow]
        moment = int((tomorrow - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
        expected = sorted(by_event + [(f"L{n}", 2, f"schedule:{moment}") for n in range(4)])
        await until(lambda: triggered(database_url) == expected)
        assert await schedulers[0].record_due_moments({}) == []

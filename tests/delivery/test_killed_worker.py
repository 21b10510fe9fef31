"""kill -9 between every two steps: nothing is lost, and what is repeated has the same key."""

import subprocess
import sys
from pathlib import Path

import pytest
from outboxes import EventLog, deliver, lead, triggered, webhook_channel

from schemas.decode import decode_source

pytestmark = pytest.mark.postgres

PROGRAM = Path(__file__).with_name("killed_worker.py")
SENT = {
    "in the claim, before it commits": 1,
    "after the claim": 1,
    "after sending": 2,
    "before the mark": 2,
    "after the mark": 1,
}
"""How often the receiver gets a message whose worker is killed at this step."""
CONFIGURATIONS = {
    "send_webhook": {},
    "update_field": {"field": "tier", "value": "gold"},
    "send_notification": {"message": "Hot"},
}


@pytest.mark.parametrize(
    ("action", "step"),
    [
        *(("send_webhook", step) for step in SENT),
        ("update_field", "after sending"),
        ("send_notification", "after sending"),
    ],
)
def test_a_worker_is_killed_and_the_next_one_delivers(outbox, receiver, tmp_path, action, step):
    appended = tmp_path / "appended"
    outbox.project(lead(), triggered(action, CONFIGURATIONS[action]))
    killed = subprocess.run(
        [sys.executable, str(PROGRAM), outbox.url, step, receiver.url, str(appended)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    outbox.execute("update public.outbox set next_attempt_at = now()")  # the lease ends
    log = EventLog()
    (row,) = deliver(outbox, webhook_channel(receiver.url), log)
    key = f"wf-{row['execution_id']}"
    assert row["status"] == "delivered"
    match action:
        case "send_webhook":
            assert [request.headers["webhook-id"] for request in receiver.requests] == [key] * SENT[step]
            assert len({request.body for request in receiver.requests}) == 1
        case "update_field":
            events = [decode_source(line) for line in appended.read_bytes().splitlines()]
            events += [decode_source(record.value) for record in log.records]
            assert [(event.event_id, event.fields) for event in events] == [(key, {"tier": "gold"})] * 2
            assert len({event.occurred_at for event in events}) == 1
        case "send_notification":
            assert len(outbox.rows("select * from public.notifications")) == 1

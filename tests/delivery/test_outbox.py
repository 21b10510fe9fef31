"""Which executions get into the outbox, and in which transaction."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from outboxes import Outbox, lead, triggered
from projection_records import append, open_log, recorded

from projections.migrate import migrate
from projections.rebuild import rebuild
from projections.row_keys import execution_number
from projections.worker import project_records

pytestmark = pytest.mark.postgres


def test_a_triggered_workflow_is_an_execution_with_an_action_to_carry_out(outbox):
    outbox.project(lead(), triggered("send_webhook", {"channel": "crm"}, hops=2))
    ((row,), (execution,)) = outbox.rows(), outbox.rows("select * from live.workflow_executions")
    number = execution_number("default", "ada", 1, "event:e1")
    assert execution["execution_id"] == row["execution_id"] == number < 2**53
    assert (row["status"], row["attempts"], row["channel"], row["hops"]) == ("waiting", 0, "crm", 2)
    assert execution["reason"] == row["reason"] == "rules rose from 71 to 82, through 80"
    assert (execution["config"], execution["silent"], execution["trigger"]) == (
        {"channel": "crm"},
        False,
        "score_threshold",
    )


@pytest.mark.parametrize(
    ("action", "config", "channels"),
    [
        ("assign_owner", {"owner_id": 5}, {"lead"}),
        ("update_field", {"field": "channel", "value": "x"}, {"lead"}),
        ("send_email", {}, {"email"}),
        ("send_email", {"channel": "sales"}, {"sales"}),
        ("send_webhook", {}, {"webhook"}),
        ("send_notification", {"message": "Hot"}, {"notifications"}),
        ("send_notification", {"channels": ["slack", "teams", "slack"]}, {"notifications", "slack", "teams"}),
    ],
)
def test_each_channel_of_an_action_has_a_row(outbox, action, config, channels):
    outbox.project(triggered(action, config))
    assert {row["channel"] for row in outbox.rows()} == channels
    assert len(outbox.rows()) == len(channels)


def test_the_same_firing_of_another_record_is_the_same_execution(outbox):
    outbox.project(triggered("send_webhook"))
    outbox.project(triggered("send_webhook"), triggered("send_webhook", arm="event:e2"))
    assert len(outbox.rows()) == len(outbox.rows("select * from live.workflow_executions")) == 2


@pytest.mark.parametrize("why", ["import", "late", "consent", "hops", "publication"])
def test_what_was_concluded_silently_is_never_delivered(outbox, why):
    outbox.project(triggered("send_webhook", silent=True, silenced_by=why))
    assert [row["silenced_by"] for row in outbox.rows("select * from live.workflow_executions")] == [why]
    assert outbox.rows() == []


@pytest.mark.parametrize(
    ("age", "rows"), [(timedelta(hours=23, minutes=59), 1), (timedelta(hours=24, minutes=1), 0)]
)
def test_what_is_older_than_a_day_is_never_delivered(outbox, age, rows):
    outbox.project(triggered("send_webhook", at=datetime.now(UTC) - age))
    assert len(outbox.rows("select * from live.workflow_executions")) == 1
    assert len(outbox.rows()) == rows


def test_row_and_execution_are_written_together_or_not_at_all(outbox):
    with psycopg.connect(outbox.url) as connection:
        project_records(connection, recorded([triggered("send_webhook")]))
        connection.rollback()
    assert outbox.rows() == outbox.rows("select * from live.workflow_executions") == []


def test_many_at_once_are_added_too(outbox):
    outbox.project(*(triggered("send_webhook", lead_id=f"lead-{n}") for n in range(50)))
    assert len(outbox.rows()) == 50


def test_two_tenants_have_outboxes_of_their_own(outbox):
    outbox.project(triggered("send_webhook"), triggered("send_webhook", tenant="acme"))
    assert sorted(row["tenant"] for row in outbox.rows()) == ["acme", "default"]
    assert len({row["execution_id"] for row in outbox.rows()}) == 2


def test_a_restatement_adds_no_row(outbox):
    outbox.project(triggered("send_webhook"), deliver=False)
    assert len(outbox.rows("select * from live.workflow_executions")) == 1
    assert outbox.rows() == []


# A rebuild


@pytest.fixture
def outbox_with_log(read_models_url: str) -> Outbox:
    open_log(read_models_url)
    migrate(read_models_url)
    return Outbox(read_models_url)


def write(outbox: Outbox, *outgoing, project: bool = True) -> None:
    """As the embedded driver does; without `project`, a projection on Kafka that is behind."""
    records = recorded(outgoing, outbox._ends)
    with psycopg.connect(outbox.url) as connection:
        append(connection, records)
        if project:
            project_records(connection, records)


def test_a_rebuild_makes_the_same_executions_and_delivers_nothing(outbox_with_log):
    write(
        outbox_with_log,
        lead(),
        triggered("send_webhook"),
        triggered("send_email", arm="event:e2", silent=True),
    )
    executions = outbox_with_log.rows("select * from live.workflow_executions order by execution_id")
    outbox_with_log.execute("delete from public.outbox")
    rebuild(outbox_with_log.url)
    assert outbox_with_log.rows("select * from live.workflow_executions order by execution_id") == executions
    assert outbox_with_log.rows() == []


def test_what_only_the_rebuild_has_read_is_delivered_all_the_same(outbox_with_log):
    """The live projection goes on behind the swap, and never meets these records."""
    write(outbox_with_log, lead(), triggered("send_webhook"))
    outbox_with_log.execute("update public.outbox set status = 'delivered'")
    write(
        outbox_with_log,
        triggered("send_webhook", arm="event:e2"),
        triggered("send_webhook", arm="event:e3", silent=True),
        triggered("send_webhook", arm="event:e4", at=datetime.now(UTC) - timedelta(days=2)),
        project=False,
    )
    rebuild(outbox_with_log.url)
    assert sorted(outbox_with_log.statuses()) == ["delivered", "waiting"]
    assert len(outbox_with_log.rows("select * from live.workflow_executions")) == 4

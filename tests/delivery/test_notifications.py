"""Messages inside the application: who sees them, pages, and read state."""

from datetime import UTC, datetime

import pytest
from outboxes import configured, deliver, lead, triggered
from psycopg.rows import dict_row

from delivery.notifications import mark_all_read, mark_read, mark_unread
from delivery.outbox import count_ended, counts_by_channel, prune
from projections.connection import connect_watched
from projections.queries import sql_and_parameters
from projections.workflow_queries import NotificationFilters, PageCursor, notification_rows

pytestmark = pytest.mark.postgres
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def connection(outbox):
    outbox.project(lead(assigned_to="5"), lead(tenant="acme"))
    for number, config in enumerate(({"to": "owner"}, {"to": "everybody"}, {"owner_id": 7})):
        outbox.project(
            triggered("send_notification", {"message": f"m{number}", **config}, arm=f"event:{number}")
        )
    outbox.project(triggered("send_notification", {"message": "other"}, tenant="acme"))
    deliver(outbox, configured())
    with connect_watched(outbox.url, options="-c timezone=UTC") as connection:
        yield connection


def select_notifications(connection, tenant, *, before=None, most=50, **filters):
    statement = notification_rows(
        tenant,
        NotificationFilters(**filters),
        limit=most,
        before=None if before is None else PageCursor(*before),
    )
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(*sql_and_parameters(statement)).fetchall()


def messages(rows):
    return sorted(row["message"] for row in rows)


def test_everybody_sees_all_and_an_owner_their_own_and_those_for_everybody(connection):
    assert messages(select_notifications(connection, "default")) == ["m0", "m1", "m2"]
    assert messages(select_notifications(connection, "default", recipient="5")) == ["m0", "m1"]
    assert messages(select_notifications(connection, "acme")) == ["other"]


def test_pages_follow_each_other(connection):
    seen, before = [], None
    while page := select_notifications(connection, "default", before=before, most=2):
        seen += page
        before = page[-1]["created_at"], page[-1]["execution_id"]
    assert messages(seen) == ["m0", "m1", "m2"]


def test_one_that_was_read_is_unread_no_more_and_of_another_tenant_untouched(connection):
    first = select_notifications(connection, "default")[0]
    ids = [first["execution_id"]]
    assert mark_read(connection, "acme", ids, by="eve", at=NOW) == 0
    assert mark_read(connection, "default", ids, by="ada", at=NOW) == 1
    assert mark_read(connection, "default", ids, by="bob", at=NOW) == 0
    assert len(select_notifications(connection, "default", unread=True)) == 2
    (read,) = [row for row in select_notifications(connection, "default") if row["read_at"]]
    assert (read["read_by"], read["read_at"]) == ("ada", NOW)
    assert mark_unread(connection, "default", ids) == 1
    assert len(select_notifications(connection, "default", unread=True)) == 3


def test_all_messages_of_an_owner_are_read_at_once_up_to_what_was_seen(connection):
    def read_all(recipient, until):
        return mark_all_read(connection, "default", recipient=recipient, by="ada", at=NOW, until=until)

    newest = select_notifications(connection, "default")[0]["created_at"]
    assert read_all("5", datetime(2000, 1, 1, tzinfo=UTC)) == 0, "they came later"
    assert read_all("5", newest) == 2, "their own, and that for everybody"
    assert read_all(None, newest) == 1
    assert len(select_notifications(connection, "acme", unread=True)) == 1


def test_old_rows_of_the_outbox_are_deleted_and_notifications_and_executions_stay(connection, outbox):
    assert prune(connection, 90) == 0
    outbox.execute("update public.outbox set created_at = created_at - interval '91 days'")
    outbox.execute("update public.outbox set status = 'dead' where tenant = 'acme'")
    assert prune(connection, 90) == 0, "they are not counted yet"
    count_ended(connection)
    assert prune(connection, 90) == 3
    (left,) = counts_by_channel(connection)
    assert (left.channel, left.dead, left.delivered) == ("notifications", 1, 0)
    assert len(outbox.rows("select * from public.notifications")) == 4
    assert len(outbox.rows("select * from live.workflow_executions")) == 4

"""Statements about what workflows did: executions with the state of their delivery, and messages inside the application.

Nothing here does I/O. Every statement reads or changes rows of one tenant.
"""

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    func,
    literal,
    select,
    tuple_,
)

from projections.tables import lead_row_key, leads, notifications, outbox, workflow_executions

SILENT_STATUS: Final = "silent"
"""Of an execution whose action is not carried out."""
SILENCED_BY_AGE: Final = "age"
"""Concluded more than a day before it reached the outbox."""
EXECUTION_STATUSES: Final = (
    "waiting",
    "delivering",
    "failed",
    "delivered",
    "dead",
    "skipped",
    SILENT_STATUS,
)

_status: Final[Any] = func.coalesce(outbox.c.status, literal(SILENT_STATUS))
_SILENCED_BY: Final[ColumnElement[Any]] = case(
    (outbox.c.status.is_(None), func.coalesce(workflow_executions.c.silenced_by, literal(SILENCED_BY_AGE)))
)
_DELIVERY: Final = and_(
    outbox.c.tenant == workflow_executions.c.tenant,
    outbox.c.execution_id == workflow_executions.c.execution_id,
)


class ExecutionFilters(NamedTuple):
    """Each filter that is set narrows the list. The window is half-open."""

    lead_id: str | None = None
    workflow_id: int | None = None
    status: str | None = None
    trigger: str | None = None
    begin: datetime | None = None
    end: datetime | None = None


class PageCursor(NamedTuple):
    """The last row of a page in the order of time."""

    at: datetime
    number: int


def executions(
    tenant: str, filters: ExecutionFilters, *, limit: int, before: PageCursor | None = None
) -> Select[Any]:
    """What workflows did, newest first, from the cursor on."""
    execution = workflow_executions.c
    conditions = [execution.tenant == tenant]
    if filters.lead_id is not None:
        conditions.append(execution.lead_key == lead_row_key(tenant, filters.lead_id))
    if filters.workflow_id is not None:
        conditions.append(execution.workflow_id == filters.workflow_id)
    if filters.status is not None:
        conditions.append(_status == filters.status)
    if filters.trigger is not None:
        conditions.append(execution.trigger == filters.trigger)
    if filters.begin is not None:
        conditions.append(execution.at >= filters.begin)
    if filters.end is not None:
        conditions.append(execution.at < filters.end)
    if before is not None:
        cursor = tuple_(literal(before.at), literal(before.number))
        conditions.append(tuple_(execution.at, execution.execution_id) < cursor)
    return _executions(*conditions).order_by(execution.at.desc(), execution.execution_id.desc()).limit(limit)


def execution(tenant: str, number: int) -> Select[Any]:
    """One of them: a row, or none."""
    return _executions(workflow_executions.c.tenant == tenant, workflow_executions.c.execution_id == number)


def executions_caused_by(tenant: str, lead_id: str, workflow_id: int, cause: str) -> Select[Any]:
    """What an event made a workflow do for a lead."""
    row = workflow_executions.c
    return _executions(
        row.tenant == tenant,
        row.lead_key == lead_row_key(tenant, lead_id),
        row.workflow_id == workflow_id,
        row.caused_by == cause,
    ).limit(1)


def _executions(*conditions: ColumnElement[bool]) -> Select[Any]:
    row, delivery = workflow_executions.c, outbox.c
    lead = leads.c
    return (
        select(
            row.execution_id,
            row.workflow_id,
            row.workflow,
            row.version,
            row.lead_id,
            func.coalesce(func.nullif(lead.name, ""), func.nullif(lead.company, ""), row.lead_id).label(
                "lead_name"
            ),
            row.trigger,
            row.reason,
            row.action,
            row.config,
            row.hops,
            row.at,
            row.caused_by,
            _status.label("status"),
            _SILENCED_BY.label("silenced_by"),
            delivery.channel,
            func.coalesce(delivery.attempts, 0).label("attempts"),
            delivery.next_attempt_at,
            delivery.last_attempt_at,
            delivery.delivered_at,
            delivery.last_error,
        )
        .select_from(
            workflow_executions.outerjoin(outbox, _DELIVERY).outerjoin(leads, lead.lead_key == row.lead_key)
        )
        .where(*conditions)
    )


def execution_counts(tenant: str, since: datetime | None) -> Select[Any]:
    """(status, executions), of all or of those since a moment."""
    conditions = [workflow_executions.c.tenant == tenant]
    if since is not None:
        conditions.append(workflow_executions.c.at >= since)
    return (
        select(_status.label("status"), func.count().label("executions"))
        .select_from(workflow_executions.outerjoin(outbox, _DELIVERY))
        .where(*conditions)
        .group_by(_status)
    )


# Messages inside the application


class NotificationFilters(NamedTuple):
    unread: bool = False
    recipient: str | None = None
    """Messages to this person and to everybody; None: all."""
    lead_id: str | None = None


def notification_rows(
    tenant: str, filters: NotificationFilters, *, limit: int, before: PageCursor | None = None
) -> Select[Any]:
    """Messages, newest first, from the cursor on."""
    row = notifications.c
    conditions = _notification_conditions(tenant, filters)
    if before is not None:
        cursor = tuple_(literal(before.at), literal(before.number))
        conditions.append(tuple_(row.created_at, row.execution_id) < cursor)
    return (
        select(notifications)
        .where(*conditions)
        .order_by(row.created_at.desc(), row.execution_id.desc())
        .limit(limit)
    )


def notification(tenant: str, number: int) -> Select[Any]:
    return select(notifications).where(
        notifications.c.tenant == tenant, notifications.c.execution_id == number
    )


def unread_notifications(tenant: str, recipient: str | None) -> Select[Any]:
    """(unread): how many messages nobody has read."""
    conditions = _notification_conditions(tenant, NotificationFilters(unread=True, recipient=recipient))
    return select(func.count().label("unread")).select_from(notifications).where(*conditions)


def _notification_conditions(tenant: str, filters: NotificationFilters) -> list[ColumnElement[bool]]:
    row = notifications.c
    conditions = [row.tenant == tenant]
    if filters.unread:
        conditions.append(row.read_at.is_(None))
    if filters.recipient is not None:
        conditions.append((row.recipient == filters.recipient) | row.recipient.is_(None))
    if filters.lead_id is not None:
        conditions.append(row.lead_id == filters.lead_id)
    return conditions

"""Statements about what workflows did: executions with the state of their delivery, and messages inside the application.

Nothing here does I/O. Every statement reads or changes rows of one tenant.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    func,
    literal,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from projections.outbox import OUTBOX_DAYS, OUTBOX_STATUSES
from projections.public_tables import execution_counts, notifications, outbox, removed_rows
from projections.retention import DELIVERIES
from projections.row_keys import lead_row_key
from projections.tables import leads, workflow_executions

SILENT_STATUS: Final = "silent"
"""Of an execution whose action is not carried out."""
SILENCED_BY_AGE: Final = "age"
"""Concluded more than a day before it reached the outbox."""
FORGOTTEN_STATUS: Final = "forgotten"
"""Of an execution that was carried out or skipped so long ago that the outbox no longer has it."""
EXECUTION_STATUSES: Final = (*OUTBOX_STATUSES, SILENT_STATUS, FORGOTTEN_STATUS)


def _rank(status: ColumnElement[Any]) -> ColumnElement[int]:
    return func.array_position(literal(list(OUTBOX_STATUSES), ARRAY(Text())), status)


_DELIVERY: Final = (
    select(outbox)
    .where(
        outbox.c.tenant == workflow_executions.c.tenant,
        outbox.c.execution_id == workflow_executions.c.execution_id,
    )
    .order_by(_rank(outbox.c.status), outbox.c.channel)
    .limit(1)
    .lateral("delivery")
)
_REMOVED_BEFORE: Final = func.greatest(
    func.now() - timedelta(days=OUTBOX_DAYS),
    select(removed_rows.c.removed_before).where(removed_rows.c.kind == DELIVERIES).scalar_subquery(),
)
_FORGOTTEN: Final = and_(~workflow_executions.c.silent, workflow_executions.c.at < _REMOVED_BEFORE)
_status: Final[Any] = case(
    (_DELIVERY.c.status.is_not(None), _DELIVERY.c.status),
    (_FORGOTTEN, literal(FORGOTTEN_STATUS)),
    else_=literal(SILENT_STATUS),
)
_SILENCED_BY: Final[ColumnElement[Any]] = case(
    (_status == SILENT_STATUS, func.coalesce(workflow_executions.c.silenced_by, literal(SILENCED_BY_AGE)))
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
        if filters.status in OUTBOX_STATUSES:  # few of many, which an index finds
            has_it = select(outbox.c.execution_id).where(
                outbox.c.tenant == tenant, outbox.c.status == filters.status
            )
            conditions.append(execution.execution_id.in_(has_it))
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
    row, delivery = workflow_executions.c, _DELIVERY.c
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
            workflow_executions.outerjoin(_DELIVERY, true()).outerjoin(leads, lead.lead_key == row.lead_key)
        )
        .where(*conditions)
    )


def executions_of_lead(
    tenant: str, lead_id: str, *, limit: int, until: datetime | None = None
) -> Select[Any]:
    """What workflows did for a lead up to a moment, newest first."""
    row = workflow_executions.c
    conditions = [row.tenant == tenant, row.lead_key == lead_row_key(tenant, lead_id)]
    if until is not None:
        conditions.append(row.at <= until)
    return _executions(*conditions).order_by(row.at.desc(), row.execution_id.desc()).limit(limit)


def executions_by_causes(tenant: str, lead_id: str, causes: Sequence[str], *, limit: int) -> Select[Any]:
    """What workflows did for a lead because of these causes, by workflow."""
    row = workflow_executions.c
    return (
        _executions(
            row.tenant == tenant,
            row.lead_key == lead_row_key(tenant, lead_id),
            row.caused_by == any_(literal(list(causes), ARRAY(Text()))),
        )
        .order_by(row.at.desc(), row.priority.desc(), row.workflow_id)
        .limit(limit)
    )


def executions_by_status(tenant: str, since: datetime | None) -> Select[Any]:
    """(status, executions) of what was to be carried out, of all or of those since a moment: kept counts, and what is under way."""
    kept, row = execution_counts.c, outbox.c
    of_kept, of_rows = [kept.tenant == tenant], [row.tenant == tenant, ~row.counted]
    if since is not None:
        of_kept.append(kept.quarter >= since)
        of_rows.append(row.at >= since)
    uncounted = (
        select(func.min(_rank(row.status)).label("rank"))
        .where(*of_rows)
        .group_by(row.execution_id)
        .subquery("uncounted")
    )
    status = case(*((uncounted.c.rank == n, each) for n, each in enumerate(OUTBOX_STATUSES, 1)))
    every = union_all(
        select(kept.status, kept.executions).where(*of_kept),
        select(status.label("status"), literal(1).label("executions")),
    ).subquery("every")
    return select(
        every.c.status, cast(func.sum(every.c.executions), BigInteger).label("executions")
    ).group_by(every.c.status)


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

"""/api/notifications: messages of workflows to people inside the application, and who has read them."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from msgspec import Struct
from starlette.responses import Response

from delivery.notifications import mark_all_read, mark_read, mark_unread
from gateway.access import READ_SCOPE
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.found_leads import lead_id_as_sent
from gateway.api.lead_pages import PAGE, Limit
from gateway.api.leads import NO_NUL
from gateway.api.models import ShortText, author_of_caller, decoded_body
from gateway.api.pages import Cursor, next_page, page_cursor
from gateway.api.services import authorized_caller, services_of, tenant_of
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.row_changes import change_rows
from gateway.store import Row
from projections.connection import Connection
from projections.workflow_queries import (
    NotificationFilters,
    notification,
    notification_rows,
    unread_notifications,
)
from schemas.envelope import MAX_INTEGER, Moment

EXAMPLES = example_bodies("notifications")
NotificationNumber = Annotated[int, Path(ge=0, le=MAX_INTEGER)]
Recipient = Annotated[
    str | None,
    Query(max_length=512, pattern=NO_NUL, description="Only messages to this person and to everybody."),
]

router = APIRouter(prefix="/api/notifications", tags=["notifications"])


class NotificationReader(Struct, forbid_unknown_fields=True):
    by: ShortText | None = None


class AllRead(Struct, forbid_unknown_fields=True):
    by: ShortText | None = None
    recipient: ShortText | None = None
    """Only messages to this person and to everybody."""
    until: Moment | None = None
    """Only messages up to this moment: what the reader has seen. None: up to now."""


@router.get(
    "",
    summary="Messages of workflows inside the application, newest first",
    responses=answer_docs(
        EXAMPLES["list"],
        "A page of messages, and how many are unread. The header `Link` has the address of the next page.",
    ),
)
@router.get("/", include_in_schema=False)
async def list_notifications(
    request: Request,
    *,
    unread: Annotated[bool, Query(description="Only messages that nobody has read.")] = False,
    recipient: Recipient = None,
    lead_id: Annotated[
        str | None, Query(max_length=128, pattern=NO_NUL, description="Only about this lead, by its id.")
    ] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response:
    tenant = tenant_of(request)
    filters = NotificationFilters(unread, recipient, lead_id)
    async with services_of(request).store.snapshot() as ask:
        rows, (counted,) = await ask.all(
            notification_rows(tenant, filters, limit=limit + 1, before=page_cursor(cursor)),
            unread_notifications(tenant, recipient),
        )
    last = rows[limit - 1] if len(rows) > limit else None
    headers = last and next_page(request, last["created_at"], last["execution_id"])
    return JsonAnswer(
        {"notifications": [_notification_json(row) for row in rows[:limit]], "unread": counted["unread"]},
        headers=headers,
    )


@router.get("/{number:int}", summary="A message", responses=answer_docs(EXAMPLES["one"]))
@router.get("/{number:int}/", include_in_schema=False)
async def read_notification(request: Request, number: NotificationNumber) -> Response:
    return JsonAnswer(_notification_json(await _existing(request, tenant_of(request), number)))


@router.post(
    "/read",
    summary="Mark all messages read",
    openapi_extra=request_docs(EXAMPLES["all_read"], body_schema_of(AllRead), required=False),
    responses=answer_docs(EXAMPLES["marked"], "How many it were."),
)
@router.post("/read/", include_in_schema=False)
async def read_all_notifications(request: Request) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, AllRead)
    by, until = body.by or author_of_caller(caller), body.until or services.ports.now()
    marked = await change_rows(
        services.ports.database_url,
        lambda connection: mark_all_read(
            connection, tenant, recipient=body.recipient, by=by, at=services.ports.now(), until=until
        ),
    )
    return JsonAnswer({"marked": marked})


@router.post(
    "/{number:int}/read",
    summary="Mark a message read",
    openapi_extra=request_docs(EXAMPLES["reader"], body_schema_of(NotificationReader), required=False),
    responses=answer_docs(EXAMPLES["one"], "The message, with its first reader."),
)
@router.post("/{number:int}/read/", include_in_schema=False)
async def mark_notification_read(request: Request, number: NotificationNumber) -> Response:
    now = services_of(request).ports.now()
    return await _mark(
        request,
        number,
        lambda connection, tenant, by: mark_read(connection, tenant, [number], by=by, at=now),
    )


@router.post(
    "/{number:int}/unread",
    summary="Mark a message unread",
    openapi_extra=request_docs(EXAMPLES["reader"], body_schema_of(NotificationReader), required=False),
    responses=answer_docs(EXAMPLES["unread"], "The message, as if nobody had read it."),
)
@router.post("/{number:int}/unread/", include_in_schema=False)
async def mark_notification_unread(request: Request, number: NotificationNumber) -> Response:
    return await _mark(
        request, number, lambda connection, tenant, _: mark_unread(connection, tenant, [number])
    )


async def _mark(request: Request, number: int, mark: Callable[[Connection, str, str], int]) -> Response:
    """A repetition changes nothing."""
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, NotificationReader)
    by = body.by or author_of_caller(caller)
    row = await _existing(request, tenant, number)
    await change_rows(
        services_of(request).ports.database_url, lambda connection: mark(connection, tenant, by)
    )
    if READ_SCOPE not in caller.scopes:  # a token that may only write learns that it is done
        return JsonAnswer({"id": row["execution_id"]})
    return JsonAnswer(_notification_json(await _existing(request, tenant, number)))


async def _existing(request: Request, tenant: str, number: int) -> Row:
    rows = await services_of(request).store.rows(notification(tenant, number))
    if not rows:
        raise RequestProblem(404, "no message has this id", field="id")
    return rows[0]


def _notification_json(row: Row) -> dict[str, Any]:
    read_at: datetime | None = row["read_at"]
    return {
        "id": row["execution_id"],
        "title": row["title"],
        "message": row["message"],
        "recipient": row["recipient"],
        "lead": lead_id_as_sent(row["lead_id"]),
        "workflow": row["workflow_id"],
        "created_at": row["created_at"],
        "read": read_at is not None,
        "read_at": read_at,
        "read_by": row["read_by"],
    }

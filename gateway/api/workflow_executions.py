"""/api/lead-qualification/workflow-executions: what workflows did, for whom and why, and what became of it.

An execution is in the read models; how its action was carried out is in the outbox. One that was concluded silently
(an import, a late event, an objection to profiling) is listed, and its action is not carried out.
"""

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from delivery.outbox import retry
from gateway.access import READ_SCOPE
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.execution_shapes import execution_json
from gateway.api.lead_pages import PAGE, Limit
from gateway.api.leads import NO_NUL
from gateway.api.pages import Cursor, next_page, page_cursor
from gateway.api.services import authorized_caller, services_of, tenant_of
from gateway.api.slashed import add_slashed_route
from gateway.api.window import From, To, read_moment_of
from gateway.documented import answer_docs, example_bodies
from gateway.row_changes import change_rows
from gateway.store import Row
from projections.outbox import OUTBOX_DAYS
from projections.workflow_queries import ExecutionFilters, execution, executions
from schemas.envelope import MAX_INTEGER
from schemas.statements import WorkflowTriggerType

RECENT = 10
EXAMPLES = example_bodies("workflow_executions")
ExecutionNumber = Annotated[int, Path(ge=0, le=MAX_INTEGER)]
ExecutionStatus = Literal[
    "waiting", "delivering", "failed", "delivered", "dead", "skipped", "silent", "forgotten"
]

router = APIRouter(prefix="/api/lead-qualification/workflow-executions", tags=["workflow executions"])
_route = partial(add_slashed_route, router)


async def workflow_executions(
    request: Request,
    *,
    lead_id: Annotated[
        str | None, Query(max_length=128, pattern=NO_NUL, description="Only for this lead, by its id.")
    ] = None,
    workflow_id: Annotated[
        int | None, Query(ge=1, le=MAX_INTEGER, description="Only of this workflow, by its id.")
    ] = None,
    status: Annotated[ExecutionStatus | None, Query(description="Only with this status.")] = None,
    trigger: Annotated[WorkflowTriggerType | None, Query(description="Only by this type of trigger.")] = None,
    begin: From = None,
    end: To = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    zone = (await services.ports.published(tenant)).zone
    filters = ExecutionFilters(
        lead_id,
        workflow_id,
        status,
        trigger,
        read_moment_of(zone, begin, "from"),
        read_moment_of(zone, end, "to"),
    )
    rows = await services.store.rows(executions(tenant, filters, limit=limit + 1, before=page_cursor(cursor)))
    shown = [execution_json(row) for row in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    headers = last and next_page(request, last["at"], last["execution_id"])
    return JsonAnswer(shown, headers=headers)


async def recent_executions(request: Request, limit: Limit = RECENT) -> Response:
    rows = await services_of(request).store.rows(
        executions(tenant_of(request), ExecutionFilters(), limit=limit)
    )
    return JsonAnswer([execution_json(row) for row in rows])


async def workflow_execution(request: Request, number: ExecutionNumber) -> Response:
    return JsonAnswer(execution_json(await _existing(request, tenant_of(request), number)))


async def retry_execution(request: Request, number: ExecutionNumber) -> Response:
    tenant, caller = authorized_caller(request)
    row = await _existing(request, tenant, number)
    retried = await change_rows(
        services_of(request).ports.database_url,
        lambda connection: retry(connection, tenant=tenant, execution_ids=[number]),
    )
    if not retried:
        raise RequestProblem(409, _not_retried_reason(row["status"]), field="status")
    if READ_SCOPE not in caller.scopes:  # a token that may only write learns that it is done
        return JsonAnswer({"id": number})
    return JsonAnswer(execution_json(await _existing(request, tenant, number)))


def _not_retried_reason(status: str) -> str:
    match status:
        case "silent":
            return (
                "it was concluded silently, and is never carried out; run the workflow for the lead instead"
            )
        case "delivered":
            return "it is carried out already"
        case "forgotten":
            return f"the outbox keeps what has ended for {OUTBOX_DAYS} days at most, and no longer has it"
        case _:
            return f"it is {status}: only a dead or skipped execution is tried again by hand"


async def _existing(request: Request, tenant: str, number: int) -> Row:
    rows = await services_of(request).store.rows(execution(tenant, number))
    if not rows:
        raise RequestProblem(404, "no execution has this id", field="id")
    return rows[0]


# Addresses: those with a word where others have a number come first

_route(
    "GET",
    "/recent",
    "The newest executions",
    recent_executions,
    responses=answer_docs(EXAMPLES["list"], "The newest `limit` executions, newest first."),
)
_route(
    "GET",
    "",
    "What workflows did, newest first",
    workflow_executions,
    responses=answer_docs(
        EXAMPLES["list"], "An array. The header `Link` has the address of the next page, if there is one."
    ),
)
_route(
    "GET",
    "/{number:int}",
    "One execution: its reason, and what became of it",
    workflow_execution,
    responses=answer_docs(EXAMPLES["execution"]),
)
_route(
    "POST",
    "/{number:int}/retry",
    "Carry out a dead or skipped execution again, from its first attempt on",
    retry_execution,
    responses=answer_docs(EXAMPLES["retried"], "The execution, waiting for its next attempt."),
)

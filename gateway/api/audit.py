"""/api/audit: who changed what, signed in or was refused. Reads only."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gateway.accounts.audit import EVERYBODY, OUTCOMES, hashed_id, read_entries
from gateway.accounts.services import accounts_of
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.lead_moment import moment_of
from gateway.api.leads import NO_NUL
from gateway.api.services import authorized_caller
from gateway.documented import answer_docs, example_bodies

PAGE = 100
LARGEST_PAGE = 1_000
EXAMPLES = example_bodies("audit")
Text = Annotated[str | None, Query(max_length=500, pattern=NO_NUL)]

router = APIRouter(tags=["access"])


@router.get("/api/audit/", include_in_schema=False)
@router.get(
    "/api/audit",
    summary="The audit log, newest first",
    responses=answer_docs(EXAMPLES["audit"], "A page of the log."),
)
async def audit_log(
    request: Request,
    actor: Annotated[
        Text, Query(description="Only of this caller, such as `key:1f0c` or `user:77aa`.")
    ] = None,
    action: Annotated[
        Text, Query(description="Only actions that begin so: `key.`, `sign-in`, `POST /api/models`.")
    ] = None,
    target: Annotated[Text, Query(description="Only on this target, as the log shows it.")] = None,
    lead_id: Annotated[Text, Query(description="Only on this lead, of whose id the log has a hash.")] = None,
    outcome: Annotated[str | None, Query(description="Only done, refused or failed ones.")] = None,
    since: Annotated[
        str | None,
        Query(description="From this moment on (RFC 3339).", json_schema_extra={"format": "date-time"}),
    ] = None,
    until: Annotated[
        str | None,
        Query(description="Before this moment (RFC 3339).", json_schema_extra={"format": "date-time"}),
    ] = None,
    cursor: Annotated[
        str | None, Query(pattern=r"^\d{1,18}$", description="The `cursor` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="The most entries of a page.")] = PAGE,
) -> Response:
    services = accounts_of(request)
    tenant, _ = authorized_caller(request)
    if outcome is not None and outcome not in OUTCOMES:
        raise RequestProblem(422, f"one of {', '.join(OUTCOMES)}", field="outcome")
    if lead_id is not None and target is not None:
        raise RequestProblem(422, "give lead_id or target, not both", field="target")
    alone = len(services.ports.access.tenants) <= 1
    filters: dict[str, Any] = {
        "tenants": [tenant, EVERYBODY] if alone else [tenant],
        "actor": actor,
        "action": action,
        "target": target if lead_id is None else f"lead_id={hashed_id(tenant, lead_id)}",
        "outcome": outcome,
        "since": None if since is None else moment_of(since, "since"),
        "until": None if until is None else moment_of(until, "until"),
        "before_id": None if cursor is None else int(cursor),
        "limit": limit + 1,
    }
    async with services.database.transaction() as connection:
        rows = await read_entries(connection, filters)
    shown = rows[:limit]
    return JsonAnswer(
        {
            "entries": [
                {"id": row["entry_id"], **{name: row[name] for name in row if name != "entry_id"}}
                for row in shown
            ],
            "cursor": str(shown[-1]["entry_id"]) if len(rows) > limit else None,
        }
    )

"""/api/workflows: the one text with all workflows of a tenant, its versions, its drafts, and a preview of a text.

What is published over the API is the tenant's own. Publishing fires nothing: a workflow fires when something happens
after its publication. How publishing goes is in `authoring.authoring`.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from msgspec import UNSET, Meta, Struct, UnsetType, structs
from starlette.responses import Response

from authoring.published_texts import WORKFLOWS, finished_text
from gateway.answers import JsonAnswer
from gateway.api import models
from gateway.api.models import (
    BaseVersion,
    ChangeNote,
    DraftId,
    ShortText,
    answer_for_later,
    author_of_caller,
    changed_draft_json,
    decoded_body,
    publication_json,
)
from gateway.api.services import authorized_caller, services_of, tenant_of
from gateway.api.whatif import answer_of_steps
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from schemas.control import LongText, PublicationVersion
from schemas.envelope import MAX_INTEGER, Moment
from scoring.editing.workflow_edits import workflows_of
from scoring.workflows.built_in_workflows import built_in_workflows

MOST_PREVIEWED_DAYS = 90
EXAMPLES = example_bodies("workflow_texts")
PUBLISHED_ANSWER = answer_docs(
    EXAMPLES["published"],
    "On record and in the log. A text that is the newest already is not published again: its state is unchanged.",
)
DRAFT_ANSWER = answer_docs(EXAMPLES["draft"], "The draft as it is now.")
WHOLE_DRAFT_ANSWER = answer_docs(EXAMPLES["draft_with_text"], "The draft as it is now, with its text.")

router = APIRouter(prefix="/api/workflows", tags=["workflow texts"])


class WorkflowsToPublish(ChangeNote, kw_only=True):
    text: LongText
    based_on: BaseVersion | None = None
    """The version that the author has changed; None: whatever is the newest."""
    effective_from: Moment | None = None


class WorkflowsRollBack(ChangeNote, kw_only=True):
    version: PublicationVersion


class ChangedWorkflowsDraft(Struct, forbid_unknown_fields=True, kw_only=True):
    by: ShortText | UnsetType | None = UNSET
    note: ShortText | UnsetType | None = UNSET
    text: LongText | UnsetType = UNSET
    effective_from: Moment | UnsetType | None = UNSET
    based_on: BaseVersion | UnsetType = UNSET
    changed_at: Moment | None = None
    """As the author read it: a draft that somebody has changed since then stays as it is."""


class WorkflowsDraftToPublish(ChangeNote, kw_only=True):
    effective_from: Moment | None = None
    force: bool = False


class WorkflowsToPreview(Struct, forbid_unknown_fields=True):
    text: LongText | None = None
    """None: the newest published text."""
    days: Annotated[int, Meta(ge=1, le=MOST_PREVIEWED_DAYS)] = 30


@router.get(
    "",
    summary="The published text of all workflows",
    responses=answer_docs(
        EXAMPLES["workflows"],
        "The newest version: its text, and the workflows in it. Version 0: nothing is published yet. `built_in` has "
        "texts to begin with.",
    ),
)
async def published_workflows(request: Request) -> Response:
    newest = await services_of(request).authoring.newest(tenant_of(request), WORKFLOWS)
    text = "" if newest is None else newest.text or ""
    return JsonAnswer(
        {
            "version": 0 if newest is None else newest.version,
            "since": newest and newest.recorded_at,
            "by": newest and newest.by,
            "note": newest and newest.note,
            "text": text,
            "workflows": await asyncio.to_thread(workflows_of, text),
            "built_in": [{"name": name, "text": each} for name, each in built_in_workflows().items()],
        }
    )


@router.get(
    "/versions",
    summary="Every version of the workflows, newest first; or what changed",
    responses=answer_docs(
        EXAMPLES["versions"],
        "Versions, at most `limit` from `offset` on; with diff, what one changed in another (`diff`: unified).",
    ),
)
async def workflow_versions(
    request: Request,
    diff: Annotated[str | None, Query(description="3..5: what 5 changed in 3.", max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
) -> Response:
    return await models.versions(request, WORKFLOWS, diff, limit, offset)


@router.post(
    "/publish",
    summary="Publish a text of workflows",
    openapi_extra=request_docs(EXAMPLES["text"], body_schema_of(WorkflowsToPublish)),
    responses=PUBLISHED_ANSWER
    | answer_docs(EXAMPLES["draft"], "It is for later: the draft of it.", status=202),
)
async def publish_workflows(request: Request) -> Response:
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, WorkflowsToPublish)
    authoring, by = services_of(request).authoring, body.by or author_of_caller(caller)
    text, basis = body.text, body.based_on
    if body.effective_from is not None:
        scheduled = await authoring.schedule(
            tenant, WORKFLOWS, text, body.effective_from, by=by, note=body.note, based_on=basis
        )
        return answer_for_later(caller, scheduled)
    published = await authoring.publish(
        tenant, WORKFLOWS, lambda _: text, by=by, note=body.note, based_on=basis
    )
    return JsonAnswer(publication_json(published))


@router.post(
    "/rollback",
    summary="Publish an earlier version of the workflows again",
    openapi_extra=request_docs(EXAMPLES["rollback"], body_schema_of(WorkflowsRollBack)),
    responses=PUBLISHED_ANSWER,
)
async def roll_back_workflows(request: Request) -> Response:
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, WorkflowsRollBack)
    by = body.by or author_of_caller(caller)
    authoring = services_of(request).authoring
    return JsonAnswer(
        publication_json(await authoring.roll_back(tenant, WORKFLOWS, body.version, by=by, note=body.note))
    )


@router.post(
    "/preview",
    summary="Which workflows of a text would have fired, and for whom",
    openapi_extra=request_docs(EXAMPLES["to_preview"], body_schema_of(WorkflowsToPreview), required=False),
    responses=answer_docs(
        EXAMPLES["preview"],
        "The recorded events, folded with these workflows. Nothing is sent or changed. With `Accept: "
        'application/x-ndjson` lines of progress come first: {"done": 500, "of": 12000}.',
    ),
)
async def preview_workflows(request: Request) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    body = await decoded_body(request, WorkflowsToPreview)
    newest = await services.authoring.newest(tenant, WORKFLOWS)
    published = "" if newest is None else newest.text or ""
    text = published
    if body.text is not None:
        text = await asyncio.to_thread(finished_text, WORKFLOWS, body.text, published, services.ports.now())
    return await answer_of_steps(request, services.ports.preview_workflows(tenant, text, body.days))


# Drafts


@router.get(
    "/drafts",
    summary="The 50 newest drafts of workflows, and what is scheduled",
    responses=answer_docs(EXAMPLES["drafts"], "Drafts that may still be published, newest first."),
)
async def workflow_drafts(
    request: Request,
    before: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="Only drafts older than this one, by its id.")
    ] = None,
) -> Response:
    return await models.drafts(request, WORKFLOWS, before)


@router.post(
    "/drafts",
    summary="Write a draft of workflows",
    openapi_extra=request_docs(EXAMPLES["text"], body_schema_of(WorkflowsToPublish)),
    responses=answer_docs(EXAMPLES["draft_with_text"], "The draft, with its number.", status=201),
    status_code=201,
)
async def write_workflows_draft(request: Request) -> Response:
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, WorkflowsToPublish)
    written = await services_of(request).authoring.write_draft(
        tenant,
        WORKFLOWS,
        body.text,
        by=body.by or author_of_caller(caller),
        note=body.note,
        effective_from=body.effective_from,
        based_on=body.based_on,
    )
    return JsonAnswer(changed_draft_json(written, caller), 201)


@router.get("/drafts/{number}", summary="A draft of workflows, with its text", responses=WHOLE_DRAFT_ANSWER)
async def workflows_draft(request: Request, number: DraftId) -> Response:
    return await models.draft(request, WORKFLOWS, number)


@router.put(
    "/drafts/{number}",
    summary="Change a draft of workflows",
    openapi_extra=request_docs(EXAMPLES["change_draft"], body_schema_of(ChangedWorkflowsDraft)),
    responses=WHOLE_DRAFT_ANSWER,
)
async def change_workflows_draft(request: Request, number: DraftId) -> Response:
    tenant, caller = authorized_caller(request)
    body: dict[str, Any] = structs.asdict(await decoded_body(request, ChangedWorkflowsDraft))
    seen = body.pop("changed_at")
    changes = {"by": author_of_caller(caller)} | {
        field: value for field, value in body.items() if value is not UNSET
    }
    changed = await services_of(request).authoring.change_draft(
        tenant, WORKFLOWS, number, seen=seen, **changes
    )
    return JsonAnswer(changed_draft_json(changed, caller))


@router.delete("/drafts/{number}", summary="Discard a draft of workflows", responses=DRAFT_ANSWER)
async def discard_workflows_draft(request: Request, number: DraftId) -> Response:
    return await models.discard_draft(request, WORKFLOWS, number)


@router.post(
    "/drafts/{number}/publish",
    summary="Publish a draft of workflows, now or when its moment comes",
    openapi_extra=request_docs(EXAMPLES["publish_draft"], body_schema_of(WorkflowsDraftToPublish)),
    responses=DRAFT_ANSWER | {202: {"description": "It is for later."}},
)
async def publish_workflows_draft(request: Request, number: DraftId) -> Response:
    tenant, caller = authorized_caller(request)
    body = await decoded_body(request, WorkflowsDraftToPublish)
    ready = await services_of(request).authoring.publish_draft(
        tenant,
        WORKFLOWS,
        number,
        by=body.by or author_of_caller(caller),
        note=body.note,
        effective_from=body.effective_from,
        force=body.force,
    )
    return answer_for_later(caller, ready)

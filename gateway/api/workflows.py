"""/api/lead-qualification/workflows: the workflows of a tenant, one by one, as requirement 4 has them.

They stay one text; each change is one publication of it (`authoring.authoring`), so it is versioned and named after its
author. Workflows keep their ids; comments stay where they are. No change fires anything by itself.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from msgspec import Struct
from starlette.responses import Response

from authoring.published_texts import WORKFLOWS, MissingReference
from delivery.message import LeadCard
from delivery.templates import SAMPLE
from delivery.trial_sending import trial_message
from gateway.access import READ_SCOPE, Caller
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.bulk_scores import LeadNumber
from gateway.api.execution_shapes import execution_json
from gateway.api.found_leads import lead_id_as_sent
from gateway.api.models import ShortText, author_of_caller
from gateway.api.qualification import lead_and_subject
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.api.slashed import add_slashed_route
from gateway.api.text_editing import edited
from gateway.api.window import LONGEST_WINDOW_DAYS
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.ports import event_key, location_of_outcome
from projections import queries
from projections.workflow_queries import executions_by_status, executions_caused_by
from schemas.decode import Refusal, decode_source, encode_source, key_of
from schemas.envelope import ANONYMOUS_PREFIX, MAX_INTEGER
from schemas.events import WorkflowRequested
from schemas.moment import millis, moment
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.editing import workflow_edits
from scoring.editing.workflow_json import field_of_key
from scoring.editing.workflow_trial import action_text, try_workflow
from scoring.features.identity import is_anonymous
from scoring.workflows.actions import LEAD_ACTIONS
from scoring.workflows.workflow import Workflow
from scoring.workflows.workflow_text import compile_workflows

LARGEST_BODY_BYTES = 100_000
APPLY_SECONDS = 5.0
MOST_VERSIONS_COMPARED = 200
"""Versions of the text in which the history of one workflow is looked for."""
EXAMPLES = example_bodies("workflows")
WorkflowNumber = Annotated[int, Path(ge=1, le=MAX_INTEGER)]
Body = dict[str, Any]

router = APIRouter(prefix="/api/lead-qualification/workflows", tags=["workflows"])
_route = partial(add_slashed_route, router)


class RunRequest(Struct, forbid_unknown_fields=True):
    lead_id: LeadNumber
    by: ShortText | None = None


class MessageToTry(Struct, forbid_unknown_fields=True):
    lead_id: LeadNumber | None = None
    """None: an invented lead."""
    by: ShortText | None = None


class LeadToTry(Struct, forbid_unknown_fields=True):
    lead_id: LeadNumber


# One by one


async def workflows(request: Request) -> Response:
    return await _from_text(request, workflow_edits.workflows_of)


async def workflow(request: Request, number: WorkflowNumber) -> Response:
    return await _from_text(request, lambda text: workflow_edits.workflow_numbered(text, number))


async def create_workflow(request: Request) -> Response:
    body, numbers = await _body(request), list[int]()
    tenant, caller = authorized_caller(request)
    now = services_of(request).ports.now()

    def edit(text: str) -> str:
        after, number = workflow_edits.create_workflow(text, body, now)
        numbers.append(number)
        return after

    text = await _publish(request, tenant, caller, edit, lambda: f"workflow_created {numbers[-1]}")
    return await _after_change(caller, text, numbers[-1], 201)


async def replace_workflow(request: Request, number: WorkflowNumber) -> Response:
    return await _change(request, number, partly=False)


async def change_workflow(request: Request, number: WorkflowNumber) -> Response:
    return await _change(request, number, partly=True)


async def _change(request: Request, number: int, *, partly: bool) -> Response:
    body = await _body(request)
    return await _edit(
        request,
        number,
        lambda text: workflow_edits.change_workflow(text, number, body, partly=partly),
        "changed",
    )


async def activate_workflow(request: Request, number: WorkflowNumber) -> Response:
    return await _edit(
        request,
        number,
        lambda text: workflow_edits.switch_workflow(text, number, active=True),
        "activated",
    )


async def deactivate_workflow(request: Request, number: WorkflowNumber) -> Response:
    return await _edit(
        request,
        number,
        lambda text: workflow_edits.switch_workflow(text, number, active=False),
        "deactivated",
    )


async def _edit(request: Request, number: int, edit: Callable[[str], str], done: str) -> Response:
    tenant, caller = authorized_caller(request)
    text = await _publish(request, tenant, caller, edit, f"workflow_{done} {number}")
    return await _after_change(caller, text, number)


async def delete_workflow(request: Request, number: WorkflowNumber) -> Response:
    tenant, caller = authorized_caller(request)
    await _publish(
        request,
        tenant,
        caller,
        lambda text: workflow_edits.delete_workflow(text, number),
        f"workflow_deleted {number}",
    )
    return Response(status_code=204)


# What happened, and what would


async def workflow_history(request: Request, number: WorkflowNumber) -> Response:
    """What was done to the workflow, by whom and when, the newest first; also after its deletion."""
    services, tenant = services_of(request), tenant_of(request)
    listed = await services.authoring.history(tenant, WORKFLOWS)
    compared = [each.version for each in listed[: MOST_VERSIONS_COMPARED + 1]]
    versions = await services.authoring.history(tenant, WORKFLOWS, texts_of=compared)
    entries = await asyncio.to_thread(_changes_of_workflow, versions[: len(compared)], number)
    if not entries:
        raise RequestProblem(404, f"no workflow has the id {number}", field="id")
    return JsonAnswer(entries)


def _changes_of_workflow(versions: list[Any], number: int) -> list[dict[str, Any]]:
    """Of versions, newest first."""
    older = [each.text or "" for each in versions[1:]]
    if len(versions) <= MOST_VERSIONS_COMPARED:
        older.append("")
    entries = []
    for version, before in zip(versions, older, strict=False):
        done = workflow_edits.change_of_workflow(before, version.text or "", number)
        if done is not None:
            entries.append(
                {
                    "version": version.version,
                    "at": version.recorded_at,
                    "by": version.by,
                    "note": version.note,
                    "change": done.change,
                    "before": done.before,
                    "after": done.after,
                }
            )
    return entries


async def workflow_statistics(
    request: Request,
    days: Annotated[
        int | None,
        Query(
            ge=1, le=LONGEST_WINDOW_DAYS, description="Only executions of so many local days, today included."
        ),
    ] = None,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    text = await _newest_text(services, tenant)
    shown = await asyncio.to_thread(workflow_edits.workflows_of, text)
    since = None
    if days is not None:
        zone = (await services.ports.published(tenant)).zone
        since = moment(zone.start_of(zone.day_of(millis(services.ports.now())) + 1 - days))
    counts = Counter[str]()
    for row in await services.store.rows(executions_by_status(tenant, since)):
        counts[row["status"]] = row["executions"]
    return JsonAnswer(_statistics_json(shown, counts))


def _statistics_json(shown: list[Body], counts: Mapping[str, int]) -> dict[str, int]:
    return {
        "total_workflows": len(shown),
        "active_workflows": sum(each["is_active"] for each in shown),
        "total_executions": sum(counts.values()),
        "successful_executions": counts["delivered"] + counts["forgotten"],
        "failed_executions": counts["failed"] + counts["dead"],
    }


async def try_workflow_on_lead(request: Request, number: WorkflowNumber) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    body = struct_of(await _body(request), LeadToTry)
    workflow, _ = await _compiled_workflow(services, tenant, number)
    lead, subject = await lead_and_subject(services, tenant, str(body.lead_id))
    active = await services.ports.published(tenant)
    trial = await asyncio.to_thread(
        try_workflow,
        workflow,
        lead["lead_id"],
        subject,
        active.models,
        millis(services.ports.now()),
        active.zone,
        active.idle_ms,
    )
    return JsonAnswer(
        {
            "workflow": workflow.name,
            "workflow_id": workflow.id,
            "lead": lead["company"] or lead["name"] or lead["lead_id"],
            "lead_id": lead_id_as_sent(lead["lead_id"]),
            "is_active": workflow.active,
            "would_fire": trial.would_fire,
            "trigger": trial.trigger._asdict(),
            "conditions": [each._asdict() for each in trial.conditions],
            "failed_condition": trial.failed_condition,
            "action": {
                "action_type": workflow.action,
                "action_config": workflow.config,
                "text": action_text(workflow.action, workflow.config),
            },
        }
    )


async def _compiled_workflow(services: ApiServices, tenant: str, number: int) -> tuple[Workflow, int]:
    """The workflow, and the version of the text. Raises RequestProblem."""
    newest = await services.authoring.newest(tenant, WORKFLOWS)
    if newest is not None:
        compiled = await asyncio.to_thread(compile_workflows, newest.text or "", newest.folding)
        for workflow in compiled:
            if workflow.id == number:
                return workflow, newest.version
    raise RequestProblem(404, f"no workflow has the id {number}", field="id")


async def send_test_message(request: Request, number: WorkflowNumber) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    body = struct_of(await _body(request), MessageToTry)
    workflow, version = await _compiled_workflow(services, tenant, number)
    if workflow.action in LEAD_ACTIONS:
        raise RequestProblem(
            422,
            f"{workflow.action} sends no message: try the workflow at .../{number}/test/, or run it at .../{number}/run/",
            field="id",
        )
    lead = SAMPLE.lead if body.lead_id is None else await _lead_card(services, tenant, str(body.lead_id))
    by = body.by or author_of_caller(caller)
    message = trial_message(tenant, workflow, version, lead, by=by, now=services.ports.now())
    results = await services.ports.send_trial(message)
    return JsonAnswer(
        {"sent": all(each.sent for each in results), "channels": [each._asdict() for each in results]}
    )


async def _lead_card(services: ApiServices, tenant: str, lead_id: str) -> LeadCard:
    lead, _ = await lead_and_subject(services, tenant, lead_id)
    scores = await services.store.rows(queries.scores(tenant, lead_id))
    return LeadCard(
        lead["lead_id"],
        lead["name"],
        lead["email"],
        lead["phone"],
        lead["company"],
        lead["stage"],
        lead["assigned_to"],
        lead["fields"],
        {row["model"]: row["rounded"] for row in scores},
    )


async def run_workflow(request: Request, number: WorkflowNumber) -> Response:
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    body = struct_of(await _body(request), RunRequest)
    lead_id = str(body.lead_id)
    text = await _newest_text(services, tenant)
    chosen = await asyncio.to_thread(
        edited, lambda text: workflow_edits.workflow_numbered(text, number), text
    )
    if not chosen["is_active"]:
        raise RequestProblem(
            409, f"workflow {number} is switched off: activate it, or try it at /test/", field="id"
        )
    await lead_and_subject(services, tenant, lead_id)
    event = _requested_event(
        tenant, lead_id, number, body.by or author_of_caller(caller), services.ports.now()
    )
    await services.ports.append([Outgoing(EVENTS, key_of(event), encode_source(event))])
    key = event_key(event)
    outcome = (await services.applied([key], APPLY_SECONDS)).get(key)
    receipt: dict[str, Any] = {"event_id": event.event_id, "applied": outcome is not None}
    if outcome is None:
        return JsonAnswer({**receipt, "location": location_of_outcome(key)}, 202)
    if READ_SCOPE not in caller.scopes:
        return JsonAnswer(receipt)
    rows = await services.store.rows(
        executions_caused_by(tenant, outcome.lead_id, number, f"event:{event.event_id}")
    )
    return JsonAnswer({**receipt, "execution": execution_json(rows[0]) if rows else None})


def _requested_event(tenant: str, lead_id: str, number: int, by: str, now: datetime) -> WorkflowRequested:
    """The event of an anonymous lead names its visitor."""
    event = WorkflowRequested(
        event_id=f"run-{uuid.uuid4()}",
        occurred_at=now,
        recorded_at=now,
        tenant=tenant,
        visitor_id=lead_id.removeprefix(ANONYMOUS_PREFIX) if is_anonymous(lead_id) else None,
        lead_id=None if is_anonymous(lead_id) else lead_id,
        source="api",
        reply=True,
        workflow_id=number,
        by=by,
    )
    try:
        decode_source(encode_source(event))
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    return event


# Reading and publishing the text


async def _newest_text(services: ApiServices, tenant: str) -> str:
    """Empty: nothing is published yet."""
    newest = await services.authoring.newest(tenant, WORKFLOWS)
    return "" if newest is None else newest.text or ""


async def _from_text(request: Request, reader: Callable[[str], Any]) -> Response:
    """What the newest text has; its version is the answer's tag."""
    newest = await services_of(request).authoring.newest(tenant_of(request), WORKFLOWS)
    version, text = (0, "") if newest is None else (newest.version, newest.text or "")
    return JsonAnswer(await asyncio.to_thread(edited, reader, text), headers={"ETag": f'"{version}"'})


async def _publish(
    request: Request,
    tenant: str,
    caller: Caller,
    edit: Callable[[str], str],
    change: str | Callable[[], str],
) -> str:
    """The text after the edit, published."""
    try:
        published = await services_of(request).authoring.publish(
            tenant,
            WORKFLOWS,
            lambda text: edited(edit, text or ""),
            by=author_of_caller(caller),
            change=change,
        )
    except MissingReference as missing:
        raise RequestProblem(422, missing.detail, field=field_of_key(missing.key)) from None
    return published.text


async def _after_change(caller: Caller, text: str, number: int, status: int = 200) -> Response:
    """What there is after a change. A token that may only write learns its id, not what it says."""
    if READ_SCOPE not in caller.scopes:
        return JsonAnswer({"id": number}, status)
    return JsonAnswer(await asyncio.to_thread(workflow_edits.workflow_numbered, text, number), status)


async def _body(request: Request) -> Body:
    return json_object(await read_body(request, LARGEST_BODY_BYTES))


# Addresses: those with a word where others have a number come first

_SAVED = answer_docs(EXAMPLES["saved"], "The workflow as it is now.")
_WHOLE, _PART = request_docs(EXAMPLES["workflow"]), request_docs(EXAMPLES["part"])
_ONE = "/{number:int}"

_route(
    "GET",
    "/statistics",
    "How many workflows there are, and how often they did something",
    workflow_statistics,
    responses=answer_docs(
        EXAMPLES["statistics"],
        "An execution is successful when its action was carried out, and failed when its last attempt failed. Silent ones "
        "are not counted. The counts are kept when old executions are removed.",
    ),
)
_route(
    "GET",
    "",
    "Every workflow, the highest priority first",
    workflows,
    responses=answer_docs([EXAMPLES["saved"]], "Every workflow."),
)
_route(
    "POST",
    "",
    "Create a workflow",
    create_workflow,
    openapi_extra=_WHOLE,
    responses=answer_docs(EXAMPLES["saved"], "The new workflow, with its id.", status=201),
    status_code=201,
)
_route("GET", _ONE, "A workflow", workflow, responses=_SAVED)
_route("PUT", _ONE, "Replace a workflow", replace_workflow, openapi_extra=_WHOLE, responses=_SAVED)
_route(
    "PATCH",
    _ONE,
    "Change a part of a workflow",
    change_workflow,
    openapi_extra=_PART,
    responses=_SAVED,
)
_route(
    "DELETE",
    _ONE,
    "Delete a workflow; its id is not given again",
    delete_workflow,
    status_code=204,
)
_route("POST", f"{_ONE}/activate", "Switch a workflow on", activate_workflow, responses=_SAVED)
_route(
    "POST",
    f"{_ONE}/deactivate",
    "Switch a workflow off, and keep it",
    deactivate_workflow,
    responses=_SAVED,
)
_route(
    "GET",
    f"{_ONE}/history",
    "What was done to a workflow, by whom and when",
    workflow_history,
    responses=answer_docs(
        EXAMPLES["history"],
        f"Newest first, also after its deletion. The {MOST_VERSIONS_COMPARED} newest versions of the text are looked through.",
    ),
)
_route(
    "POST",
    f"{_ONE}/run",
    "Run a workflow for a lead now, whatever it waits for",
    run_workflow,
    openapi_extra=request_docs(EXAMPLES["run"], body_schema_of(RunRequest)),
    responses=answer_docs(
        EXAMPLES["ran"],
        "The request is in the log and applied. Execution null: a condition did not hold, and `/test/` says which.",
    )
    | answer_docs(EXAMPLES["run_later"], "It does not show yet: look at `location`.", status=202),
)
_route(
    "POST",
    f"{_ONE}/test-send",
    "Send the message of a workflow once, as a test",
    send_test_message,
    openapi_extra=request_docs(EXAMPLES["test_send"], body_schema_of(MessageToTry)),
    responses=answer_docs(
        EXAMPLES["sent"],
        "Which channels took it. An e-mail goes to the recipients of the channel, never to the lead.",
    ),
)
_route(
    "POST",
    f"{_ONE}/test",
    "Try a workflow on a lead, without doing anything",
    try_workflow_on_lead,
    openapi_extra=request_docs(EXAMPLES["lead"], body_schema_of(LeadToTry)),
    responses=answer_docs(
        EXAMPLES["dry_run"],
        "Whether it would fire if its trigger came now, which condition fails, and what its action would do.",
    ),
)

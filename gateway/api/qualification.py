"""/api/lead-qualification: the rules and criteria of the model `rules`, one by one.

The model stays one text; each change is one publication of it (`authoring.authoring`), so it is versioned,
named after its author, and rescored like any other. Rules keep their numbers; comments stay where they are.
Rules and criteria are edited by the same handlers: `Editable` says where the two differ.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gateway.access import READ_SCOPE, Caller
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.found_leads import found_scorable_lead, lead_id_as_sent
from gateway.api.models import author_of_caller
from gateway.api.points import points
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.api.slashed import Endpoint, add_slashed_route
from gateway.api.text_editing import edited
from gateway.documented import answer_docs, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, refuse_unknown_fields
from gateway.masked_answers import refuse_drafts_of_viewers
from gateway.store import Row
from gateway.subject import subject_of
from projections import queries
from schemas.envelope import MAX_INTEGER
from schemas.moment import millis, moment
from schemas.refusal import json_type_name
from scoring.editing import criterion_check, qualification
from scoring.editing.criterion_check import SingleRule
from scoring.editing.rule_json import Json as Body
from scoring.editing.rule_json import rule_from_json
from scoring.editing.text_edits import read_numbered, signals_defined_in
from scoring.features.profile_fields import BUILT_IN_FIELDS, types_of_fields
from scoring.models.model import ModelError, Subject, compile_model, explain_score, score_lead

MODEL = "rules"
LARGEST_BODY = 100_000
EXAMPLES = example_bodies("qualification")
Number = Annotated[int, Path(ge=1, le=MAX_INTEGER)]

router = APIRouter(prefix="/api/lead-qualification", tags=["rules and criteria"])


class Editable(NamedTuple):
    """What the model has several of, each under a number: rules, or criteria."""

    name: str
    """In the history of changes."""
    listing: Callable[[str], Any]
    """Texts are the model's; the next four raise Unknown for a number that there is not."""
    numbered: Callable[[str, int], Any]
    change: Callable[..., str]
    delete: Callable[[str, int], str]
    switch: Callable[..., str]
    create: Callable[[str, Body], tuple[str, int]]
    """The text with one more, and its number."""


RULES = Editable(
    "rule",
    qualification.rules_of,
    qualification.rule_numbered,
    qualification.change_rule,
    qualification.delete_rule,
    qualification.switch_rule,
    qualification.create_rule,
)
CRITERIA = Editable(
    "criterion",
    qualification.criteria_of,
    qualification.criterion_numbered,
    qualification.change_criterion,
    qualification.delete_criterion,
    qualification.switch_criterion,
    qualification.create_criterion,
)


_route = partial(add_slashed_route, router)


# Rules and criteria alike


async def list_all(kind: Editable, request: Request) -> Response:
    return await _from_text(request, kind.listing)


async def read_one(kind: Editable, request: Request, number: Number) -> Response:
    return await _from_text(request, lambda text: kind.numbered(text, number))


async def create(kind: Editable, request: Request) -> Response:
    body, numbers = await _body(request), list[int]()
    tenant, caller = authorized_caller(request)

    def edit(text: str) -> str:
        edited, number = kind.create(text, body)
        numbers.append(number)
        return edited

    text = await _publish(request, tenant, caller, edit, lambda: f"{kind.name}_created {numbers[-1]}")
    return await _after_change(caller, kind, text, numbers[-1], 201)


async def replace(kind: Editable, request: Request, number: Number) -> Response:
    return await _change(kind, request, number, partly=False)


async def change_part(kind: Editable, request: Request, number: Number) -> Response:
    return await _change(kind, request, number, partly=True)


async def _change(kind: Editable, request: Request, number: int, *, partly: bool) -> Response:
    body = await _body(request)
    tenant, caller = authorized_caller(request)
    text = await _publish(
        request,
        tenant,
        caller,
        lambda text: kind.change(text, number, body, partly=partly),
        f"{kind.name}_changed {number}",
    )
    return await _after_change(caller, kind, text, number)


async def delete(kind: Editable, request: Request, number: Number) -> Response:
    tenant, caller = authorized_caller(request)
    await _publish(
        request, tenant, caller, lambda text: kind.delete(text, number), f"{kind.name}_deleted {number}"
    )
    return Response(status_code=204)


async def activate(kind: Editable, request: Request, number: Number) -> Response:
    return await _switch(kind, request, number, active=True)


async def deactivate(kind: Editable, request: Request, number: Number) -> Response:
    return await _switch(kind, request, number, active=False)


async def _switch(kind: Editable, request: Request, number: int, *, active: bool) -> Response:
    tenant, caller = authorized_caller(request)
    text = await _publish(
        request,
        tenant,
        caller,
        lambda text: kind.switch(text, number, active=active),
        f"{kind.name}_{'activated' if active else 'deactivated'} {number}",
    )
    return await _after_change(caller, kind, text, number)


# Only of rules, only of criteria, and of both together


async def history(request: Request) -> Response:
    tenant = tenant_of(request)
    versions = await services_of(request).authoring.history(tenant, MODEL)
    return JsonAnswer(
        [
            {
                "version": each.version,
                "change": each.change,
                "by": each.by,
                "note": each.note,
                "at": each.recorded_at,
                "retired": each.text is None,
            }
            for each in versions
        ]
    )


async def test_unsaved(request: Request) -> Response:
    body = await _body(request)
    inline = {key: value for key, value in body.items() if key not in {"lead_id", "rule"}}
    rule = body.get("rule", inline)
    if not isinstance(rule, dict):
        raise RequestProblem(422, f"must be an object, not {json_type_name(rule)}", field="rule")

    def alone(text: str, _folding: int) -> SingleRule:
        """As it will count once it is saved."""
        document = read_numbered(text)
        return criterion_check.single_rule(document, *rule_from_json(rule, signals_defined_in(document)))

    return await _tested(request, body, alone)


async def test_rule(request: Request, number: Number) -> Response:
    return await _tested(
        request,
        await _lead_alone(request),
        lambda text, folding: criterion_check.single_rule_numbered(text, number, folding),
    )


async def check(request: Request, number: Number) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    body = await _lead_alone(request)
    newest = await _model_text(services, tenant)
    criterion = await asyncio.to_thread(
        edited, lambda text: qualification.criterion_numbered(text, number), newest.text
    )
    lead, subject = await lead_and_subject(services, tenant, lead_id_of(body))
    active = await services.ports.published(tenant)
    checked = await asyncio.to_thread(
        criterion_check.check_criterion,
        newest.text,
        number,
        subject,
        millis(services.ports.now()),
        active.zone,
        active.idle_ms,
        newest.folding,
    )
    return JsonAnswer(
        {"criterion": criterion["name"], "lead_id": lead_id_as_sent(lead["lead_id"]), **_checked(checked)}
    )


async def profile_fields(request: Request) -> Response:
    """The profile fields that have a type; any other is a text."""
    published = await services_of(request).ports.published(tenant_of(request))
    fields = [
        {"name": name, "type": field, "built_in": name in BUILT_IN_FIELDS}
        for name, field in types_of_fields(published.profile_fields).items()
    ]
    return JsonAnswer({"profile_fields": fields})


# Addresses: those with a word where others have a number come first

LEAD = request_docs(EXAMPLES["lead"])

_route(
    "GET",
    "/profile-fields",
    "The catalogue of profile fields with their types",
    profile_fields,
    responses=answer_docs(EXAMPLES["profile_fields"]),
)
_route(
    "GET",
    "/scoring-rules/history",
    "What was done to rules and criteria, by whom and when",
    history,
    responses=answer_docs(EXAMPLES["history"], "Every version, the newest first."),
)
_route(
    "POST",
    "/scoring-rules/test_rule",
    "Try a rule that is not saved on a lead",
    test_unsaved,
    openapi_extra=request_docs(EXAMPLES["unsaved_rule"]),
    responses=answer_docs(EXAMPLES["tested"], "What it would give the lead now."),
)
_route(
    "POST",
    "/scoring-rules/{number:int}/test_rule",
    "What a rule gives a lead now, whether or not it is switched on",
    test_rule,
    openapi_extra=LEAD,
    responses=answer_docs(EXAMPLES["tested"]),
)
_route(
    "POST",
    "/qualification-criteria/{number:int}/check",
    "What a lead has and lacks for a criterion",
    check,
    openapi_extra=LEAD,
    responses=answer_docs(EXAMPLES["checked"], "Whether the lead meets it, and what is missing."),
)


def _of(kind: Editable, handler: Endpoint) -> Endpoint:
    endpoint = partial(handler, kind)
    endpoint.__doc__ = handler.__doc__  # the documentation shows it, and would show that of partial
    return endpoint


def _editing(
    kind: Editable,
    path: str,
    names: str,
    listing: str,
    deletion: str,
    example: Mapping[str, Any],
) -> None:
    """The addresses that rules and criteria share."""
    name, one = kind.name, f"{path}/{{number:int}}"
    whole, part = request_docs(example["whole"]), request_docs(example["part"])
    saved = answer_docs(example["saved"], f"The {name} as it is now.")
    _route(
        "GET",
        path,
        listing,
        _of(kind, list_all),
        names,
        responses=answer_docs([example["saved"]], f"Every {name}."),
    )
    _route(
        "POST",
        path,
        f"Create a {name}",
        _of(kind, create),
        f"create_{name}",
        openapi_extra=whole,
        responses=answer_docs(example["saved"], f"The new {name}, with its number.", status=201),
        status_code=201,
    )
    _route("GET", one, f"A {name}", _of(kind, read_one), name, responses=saved)
    _route(
        "PUT",
        one,
        f"Replace a {name}",
        _of(kind, replace),
        f"put_{name}",
        openapi_extra=whole,
        responses=saved,
    )
    _route(
        "PATCH",
        one,
        f"Change a part of a {name}",
        _of(kind, change_part),
        f"patch_{name}",
        openapi_extra=part,
        responses=saved,
    )
    _route("DELETE", one, deletion, _of(kind, delete), f"delete_{name}", status_code=204)
    _route(
        "POST",
        f"{one}/activate",
        f"Switch a {name} on",
        _of(kind, activate),
        f"activate_{name}",
        responses=saved,
    )
    _route(
        "POST",
        f"{one}/deactivate",
        f"Switch a {name} off, and keep it",
        _of(kind, deactivate),
        f"deactivate_{name}",
        responses=saved,
    )


_editing(
    RULES,
    "/scoring-rules",
    "rules",
    listing="Every rule, the highest priority first",
    deletion="Delete a rule; its number is not given again",
    example={
        "whole": EXAMPLES["rule"],
        "part": EXAMPLES["part_of_rule"],
        "saved": EXAMPLES["saved_rule"],
    },
)
_editing(
    CRITERIA,
    "/qualification-criteria",
    "criteria",
    listing="Every criterion, the lowest score first",
    deletion="Delete a criterion",
    example={
        "whole": EXAMPLES["criterion"],
        "part": EXAMPLES["part_of_criterion"],
        "saved": EXAMPLES["saved_criterion"],
    },
)


# Reading and publishing the text


class _NewestText(NamedTuple):
    version: int
    text: str
    folding: int
    """How it compares texts."""


async def _model_text(services: ApiServices, tenant: str) -> _NewestText:
    newest = await services.authoring.newest(tenant, MODEL)
    if newest is None or newest.text is None:
        raise _retired()
    return _NewestText(newest.version, newest.text, newest.folding)


async def _from_text(request: Request, reader: Callable[[str], Any]) -> Response:
    """What the newest text has; its version is the answer's tag."""
    newest = await _model_text(services_of(request), tenant_of(request))
    return JsonAnswer(
        await asyncio.to_thread(edited, reader, newest.text), headers={"ETag": f'"{newest.version}"'}
    )


async def _publish(
    request: Request,
    tenant: str,
    caller: Caller,
    edit: Callable[[str], str],
    change: str | Callable[[], str],
) -> str:
    """The text after the edit, published."""

    def edit_checked(text: str | None) -> str:
        if text is None:
            raise _retired()
        return _whole(edited(edit, text))

    published = await services_of(request).authoring.publish(
        tenant, MODEL, edit_checked, by=author_of_caller(caller), change=change
    )
    return published.text


async def _after_change(
    caller: Caller, kind: Editable, text: str, number: int, status: int = 200
) -> Response:
    """What there is after a change. A token that may only write learns its number, not what it says."""
    if READ_SCOPE not in caller.scopes:
        return JsonAnswer({"id": number}, status)
    return JsonAnswer(await asyncio.to_thread(kind.numbered, text, number), status)


async def lead_and_subject(services: ApiServices, tenant: str, lead_id: str) -> tuple[Row, Subject]:
    async with services.store.snapshot() as ask:
        rows = [] if "\0" in lead_id else await ask(queries.lead(tenant, lead_id))
    lead = found_scorable_lead(rows, "ask about that")
    subject = await subject_of(services.store, tenant, lead_id, lead["stage"])
    if subject is None:
        raise RequestProblem(
            503, "the features of the lead are not available yet", field="lead_id", retry_after_s=2
        )
    return lead, subject


async def _tested(request: Request, body: Body, alone: Callable[[str, int], SingleRule]) -> Response:
    refuse_drafts_of_viewers(request, masks=services_of(request).ports.mask_for_viewers)
    """What one rule alone gives a lead now. `alone` makes it of the newest text and its folding."""
    services, tenant = services_of(request), tenant_of(request)
    newest = await _model_text(services, tenant)
    rule = await asyncio.to_thread(edited, lambda text: alone(text, newest.folding), newest.text)
    lead, subject = await lead_and_subject(services, tenant, lead_id_of(body))
    active = await services.ports.published(tenant)
    now = millis(services.ports.now())
    lines = explain_score(rule.model, subject, now, active.zone, active.idle_ms)
    applied = score_lead(rule.one_point_model, subject, now, active.zone, active.idle_ms).total != 0
    return JsonAnswer(
        {
            "rule": rule.name,
            "lead": lead["company"] or lead["name"] or lead["lead_id"],
            "lead_id": lead_id_as_sent(lead["lead_id"]),
            "points_awarded": points(sum(line.points for line in lines)),
            "rule_applied": applied,
            "evidence": [line.text for line in lines],
        }
    )


def _checked(checked: criterion_check.CriterionResult) -> dict[str, Any]:
    within = None if checked.within_days is None else timedelta(days=checked.within_days)
    actions = [
        {
            "action": action.name,
            "met": action.met,
            "last": None if action.last is None else moment(action.last),
            "counts_until": None if action.last is None or within is None else moment(action.last) + within,
        }
        for action in checked.actions
    ]
    missing = [f"{points(checked.minimum - checked.score)} points"] if checked.score < checked.minimum else []
    missing += [name for name, met in checked.fields.items() if not met]
    missing += [action.name for action in checked.actions if not action.met]
    return {
        "qualifies": checked.met,
        "missing": missing,
        "score": points(checked.score),
        "minimum_score": points(checked.minimum),
        "fields": [{"field": name, "met": met} for name, met in checked.fields.items()],
        "actions": actions,
        "time_constraint_days": checked.within_days,
    }


def _whole(text: str) -> str:
    """The text, if the model takes the change; the change is right by itself, so a refusal is 409."""
    try:
        compile_model(text)
    except ModelError as refusal:
        raise RequestProblem(409, str(refusal)) from None
    return text


def _retired() -> RequestProblem:
    return RequestProblem(
        409, f"the model {MODEL} is retired: publish it again at /api/models/{MODEL}/publish"
    )


async def _body(request: Request) -> Body:
    return json_object(await read_body(request, LARGEST_BODY))


async def _lead_alone(request: Request) -> Body:
    body = await _body(request)
    refuse_unknown_fields(body, ("lead_id",))
    return body


def lead_id_of(body: Body) -> str:
    """Leads may be named by numbers, too."""
    lead_id = body.get("lead_id")
    if isinstance(lead_id, bool) or not isinstance(lead_id, str | int) or lead_id == "":
        raise RequestProblem(422, "the id of a lead", field="lead_id")
    return str(lead_id)

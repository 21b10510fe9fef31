"""/api/lead-qualification: the rules and criteria of the model `rules`, one by one.

The model stays one text; each change is one publication of it (`authoring.authoring`), so it is versioned,
named after who did it, and rescored like any other. Rules keep their numbers; comments stay where they are.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from msgspec import DecodeError, json
from starlette.responses import Response

from authoring.authoring import Authoring
from gateway.access import READ, WRITE, api_caller
from gateway.answers import Json, RequestProblem
from gateway.api.leads import points
from gateway.api.lifecycle import echoed
from gateway.api.models import author
from gateway.door.body import read_body
from gateway.ports import Ports
from gateway.store import ReadStore, Row
from gateway.subject import subject_of
from projections import queries
from schemas.envelope import DEFAULT_TENANT, MAX_INTEGER
from schemas.moment import millis, moment
from schemas.refusal import Refusal, json_type_name
from scoring.editing import criterion_check, qualification
from scoring.editing.criterion_check import SingleRule
from scoring.editing.rule_json import Json as Body
from scoring.editing.rule_json import rule_of
from scoring.editing.text_edits import Uneditable, UnknownId, defined_in, read_numbered
from scoring.models.model import ModelError, Subject, compile_model, conclude, explain

MODEL = "rules"
LARGEST_BODY = 100_000
Number = Annotated[int, Path(ge=1, le=MAX_INTEGER)]
Change = Callable[[str], str]
Tell = Callable[[str, int], Any]
Endpoint = Callable[..., Awaitable[Response]]


def qualification_api(ports: Ports, store: ReadStore, authoring: Authoring) -> APIRouter:
    router = APIRouter(prefix="/api/lead-qualification", tags=["rules and criteria"])

    def at(method: str, path: str, summary: str, **documented: Any) -> Callable[[Endpoint], Endpoint]:
        """Under the address with a slash at its end, and without."""

        def routed(endpoint: Endpoint) -> Endpoint:
            for each, shown in ((f"{path}/", True), (path, False)):
                router.add_api_route(
                    each, endpoint, methods=[method], summary=summary, include_in_schema=shown, **documented
                )
            return endpoint

        return routed

    def tenant_of(request: Request, scope: str) -> str:
        return api_caller(request, ports.access, scope).tenant or DEFAULT_TENANT

    async def text_of(tenant: str) -> tuple[int, str]:
        found = await authoring.text(tenant, MODEL)
        if found is None:
            raise _retired()
        return found

    async def told(request: Request, tell: Callable[[str], Any]) -> Response:
        """What the newest text says; its version is the answer's tag."""
        version, text = await text_of(tenant_of(request, READ))
        return Json(await asyncio.to_thread(_edited, tell, text), headers={"ETag": f'"{version}"'})

    async def changed(request: Request, change: Change, what: str) -> str:
        """The text after the change, published."""
        caller = api_caller(request, ports.access, WRITE)

        def edit(text: str | None) -> str:
            if text is None:
                raise _retired()
            return _whole(_edited(change, text))

        published = await authoring.publish(
            caller.tenant or DEFAULT_TENANT, MODEL, edit, by=author(caller), change=what
        )
        return published.text

    async def created(
        request: Request, create: Callable[[str, Body], tuple[str, int]], kind: str
    ) -> Response:
        body, numbers = await _body(request), list[int]()
        caller = api_caller(request, ports.access, WRITE)

        def edit(text: str | None) -> str:
            if text is None:
                raise _retired()
            written, number = _edited(lambda given: create(given, body), text)
            numbers.append(number)
            return _whole(written)

        published = await authoring.publish(
            caller.tenant or DEFAULT_TENANT,
            MODEL,
            edit,
            by=author(caller),
            change=lambda: f"{kind}_created {numbers[-1]}",
        )
        tell = qualification.rule_numbered if kind == "rule" else qualification.criterion_numbered
        return await answer(request, tell, published.text, numbers[-1], 201)

    async def answer(request: Request, tell: Tell, text: str, number: int, status: int = 200) -> Response:
        """What there is after a change. Whoever may only write is told which it is, not what it says."""
        if READ not in api_caller(request, ports.access, WRITE).scopes:
            return Json({"id": number}, status)
        return Json(await asyncio.to_thread(tell, text, number), status)

    async def lead_of(tenant: str, lead_id: str) -> tuple[Row, Subject]:
        async with store.moment() as ask:
            found = [] if "\0" in lead_id else await ask(queries.lead(tenant, lead_id))
        if not found:
            raise RequestProblem(404, "no lead has this id", field="lead_id")
        (lead,) = found
        if lead["redirect"] is not None:
            raise RequestProblem(
                409, f"the lead was merged into {lead['redirect']}: ask about that", field="lead_id"
            )
        subject = await subject_of(store, tenant, lead_id, lead["stage"])
        if subject is None:
            raise RequestProblem(
                503, "what the lead did is not at hand yet", field="lead_id", retry_after_s=2
            )
        return lead, subject

    async def tested(request: Request, body: Body, alone: Callable[[str], SingleRule]) -> Response:
        """What one rule alone gives a lead now."""
        tenant = tenant_of(request, READ)
        _, text = await text_of(tenant)
        rule = await asyncio.to_thread(_edited, alone, text)
        lead, subject = await lead_of(tenant, _lead_id(body))
        in_force = await ports.published(tenant)
        now = millis(ports.now())
        lines = explain(rule.model, subject, now, in_force.zone, in_force.idle_ms)
        applied = conclude(rule.asked, subject, now, in_force.zone, in_force.idle_ms).total != 0
        return Json(
            {
                "rule": rule.name,
                "lead": lead["company"] or lead["name"] or lead["lead_id"],
                "lead_id": echoed(lead["lead_id"]),
                "points_awarded": points(sum(line.points for line in lines)),
                "rule_applied": applied,
                "evidence": [line.text for line in lines],
            }
        )

    # Rules

    @at("GET", "/scoring-rules", "Every rule, the highest priority first", responses=RULES)
    async def rules(request: Request) -> Response:
        return await told(request, qualification.rules_of)

    @at("POST", "/scoring-rules", "Create a rule", openapi_extra=RULE_BODY, status_code=201)
    async def create_rule(request: Request) -> Response:
        return await created(request, qualification.create_rule, "rule")

    @at("GET", "/scoring-rules/history", "What was done to rules and criteria, by whom and when")
    async def history(request: Request) -> Response:
        versions = await authoring.history(tenant_of(request, READ), MODEL)
        return Json(
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

    @at("POST", "/scoring-rules/test_rule", "Try a rule that is not saved on a lead", openapi_extra=TRY_BODY)
    async def test_unsaved(request: Request) -> Response:
        body = await _body(request)
        given = {key: value for key, value in body.items() if key not in {"lead_id", "rule"}}
        rule = body.get("rule", given)
        if not isinstance(rule, dict):
            raise RequestProblem(422, f"must be an object, not {json_type_name(rule)}", field="rule")

        def alone(text: str) -> SingleRule:
            document = read_numbered(text)
            return criterion_check.single_rule(document, *rule_of(rule, defined_in(document)))

        return await tested(request, body, alone)

    @at("GET", "/scoring-rules/{number}", "A rule")
    async def rule(request: Request, number: Number) -> Response:
        return await told(request, lambda text: qualification.rule_numbered(text, number))

    @at("PUT", "/scoring-rules/{number}", "Replace a rule", openapi_extra=RULE_BODY)
    async def put_rule(request: Request, number: Number) -> Response:
        return await change_rule(request, number, partly=False)

    @at("PATCH", "/scoring-rules/{number}", "Change a part of a rule", openapi_extra=PART_OF_RULE)
    async def patch_rule(request: Request, number: Number) -> Response:
        return await change_rule(request, number, partly=True)

    async def change_rule(request: Request, number: int, *, partly: bool) -> Response:
        body = await _body(request)
        text = await changed(
            request,
            lambda text: qualification.change_rule(text, number, body, partly=partly),
            f"rule_changed {number}",
        )
        return await answer(request, qualification.rule_numbered, text, number)

    @at("DELETE", "/scoring-rules/{number}", "Delete a rule; its number is not given again", status_code=204)
    async def delete_rule(request: Request, number: Number) -> Response:
        await changed(request, lambda text: qualification.delete_rule(text, number), f"rule_deleted {number}")
        return Response(status_code=204)

    @at("POST", "/scoring-rules/{number}/activate", "Switch a rule on")
    async def activate_rule(request: Request, number: Number) -> Response:
        return await switch_rule(request, number, active=True)

    @at("POST", "/scoring-rules/{number}/deactivate", "Switch a rule off, and keep it")
    async def deactivate_rule(request: Request, number: Number) -> Response:
        return await switch_rule(request, number, active=False)

    async def switch_rule(request: Request, number: int, *, active: bool) -> Response:
        text = await changed(
            request,
            lambda text: qualification.switch_rule(text, number, active=active),
            f"rule_{'activated' if active else 'deactivated'} {number}",
        )
        return await answer(request, qualification.rule_numbered, text, number)

    @at(
        "POST",
        "/scoring-rules/{number}/test_rule",
        "What a rule gives a lead now, whether or not it is switched on",
        openapi_extra=LEAD_BODY,
        responses=TESTED,
    )
    async def test_rule(request: Request, number: Number) -> Response:
        return await tested(
            request, await _body(request), lambda text: criterion_check.single_rule_numbered(text, number)
        )

    # Criteria

    @at("GET", "/qualification-criteria", "Every criterion, the lowest score first")
    async def criteria(request: Request) -> Response:
        return await told(request, qualification.criteria_of)

    @at(
        "POST", "/qualification-criteria", "Create a criterion", openapi_extra=CRITERION_BODY, status_code=201
    )
    async def create_criterion(request: Request) -> Response:
        return await created(request, qualification.create_criterion, "criterion")

    @at("GET", "/qualification-criteria/{number}", "A criterion")
    async def criterion(request: Request, number: Number) -> Response:
        return await told(request, lambda text: qualification.criterion_numbered(text, number))

    @at("PUT", "/qualification-criteria/{number}", "Replace a criterion", openapi_extra=CRITERION_BODY)
    async def put_criterion(request: Request, number: Number) -> Response:
        return await change_criterion(request, number, partly=False)

    @at("PATCH", "/qualification-criteria/{number}", "Change a part of a criterion")
    async def patch_criterion(request: Request, number: Number) -> Response:
        return await change_criterion(request, number, partly=True)

    async def change_criterion(request: Request, number: int, *, partly: bool) -> Response:
        body = await _body(request)
        text = await changed(
            request,
            lambda text: qualification.change_criterion(text, number, body, partly=partly),
            f"criterion_changed {number}",
        )
        return await answer(request, qualification.criterion_numbered, text, number)

    @at("DELETE", "/qualification-criteria/{number}", "Delete a criterion", status_code=204)
    async def delete_criterion(request: Request, number: Number) -> Response:
        await changed(
            request, lambda text: qualification.delete_criterion(text, number), f"criterion_deleted {number}"
        )
        return Response(status_code=204)

    @at("POST", "/qualification-criteria/{number}/activate", "Switch a criterion on")
    async def activate_criterion(request: Request, number: Number) -> Response:
        return await switch_criterion(request, number, active=True)

    @at("POST", "/qualification-criteria/{number}/deactivate", "Switch a criterion off, and keep it")
    async def deactivate_criterion(request: Request, number: Number) -> Response:
        return await switch_criterion(request, number, active=False)

    async def switch_criterion(request: Request, number: int, *, active: bool) -> Response:
        text = await changed(
            request,
            lambda text: qualification.switch_criterion(text, number, active=active),
            f"criterion_{'activated' if active else 'deactivated'} {number}",
        )
        return await answer(request, qualification.criterion_numbered, text, number)

    @at(
        "POST",
        "/qualification-criteria/{number}/check",
        "What a lead has and lacks for a criterion",
        openapi_extra=LEAD_BODY,
    )
    async def check(request: Request, number: Number) -> Response:
        tenant, body = tenant_of(request, READ), await _body(request)
        _, text = await text_of(tenant)
        criterion = await asyncio.to_thread(
            _edited, lambda given: qualification.criterion_numbered(given, number), text
        )
        lead, subject = await lead_of(tenant, _lead_id(body))
        in_force = await ports.published(tenant)
        found = await asyncio.to_thread(
            criterion_check.check_criterion,
            text,
            number,
            subject,
            millis(ports.now()),
            in_force.zone,
            in_force.idle_ms,
        )
        return Json({"criterion": criterion["name"], "lead_id": echoed(lead["lead_id"]), **_checked(found)})

    return router


def _checked(found: criterion_check.CriterionResult) -> dict[str, Any]:
    within = None if found.within_days is None else timedelta(days=found.within_days)
    actions = [
        {
            "action": action.name,
            "met": action.met,
            "last": None if action.last is None else moment(action.last),
            "counts_until": None if action.last is None or within is None else moment(action.last) + within,
        }
        for action in found.actions
    ]
    missing = [f"{points(found.minimum - found.score)} points"] if found.score < found.minimum else []
    missing += [name for name, given in found.fields.items() if not given]
    missing += [action.name for action in found.actions if not action.met]
    return {
        "qualifies": found.met,
        "missing": missing,
        "score": points(found.score),
        "minimum_score": points(found.minimum),
        "fields": [{"field": name, "met": given} for name, given in found.fields.items()],
        "actions": actions,
        "time_constraint_days": found.within_days,
    }


def _edited(tell: Callable[[str], Any], text: str) -> Any:
    """What is made of the text; a mistake becomes the answer that says what to do."""
    try:
        return tell(text)
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    except UnknownId as unknown:
        raise RequestProblem(404, str(unknown.args[0]), field="id") from None
    except Uneditable as uneditable:
        raise RequestProblem(409, str(uneditable)) from None


def _whole(text: str) -> str:
    """The text, if the model takes what was changed; what was given is right by itself, so it is 409."""
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
    try:
        given = json.decode(await read_body(request, LARGEST_BODY))
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestProblem(400, f"the body is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise RequestProblem(422, f"the body must be an object, not {json_type_name(given)}")
    return given


def _lead_id(body: Body) -> str:
    """Leads may be named by numbers, too."""
    lead_id = body.get("lead_id")
    if isinstance(lead_id, bool) or not isinstance(lead_id, str | int) or lead_id == "":
        raise RequestProblem(422, "the id of a lead", field="lead_id")
    return str(lead_id)


# Examples


def _example(value: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": value}}
    return {"requestBody": {"required": True, "content": content}}


RULE = {
    "name": "High-value industry",
    "rule_type": "firmographic",
    "field_name": "industry",
    "operator": "in_list",
    "value": '["Technology", "Finance", "Healthcare"]',
    "points": 15,
    "is_active": True,
    "priority": 10,
}
RULE_BODY = _example(RULE)
PART_OF_RULE = _example({"points": 20})
LEAD_BODY = _example({"lead_id": 123})
TRY_BODY = _example({"lead_id": 123, "rule": RULE})
CRITERION_BODY = _example(
    {
        "name": "Marketing Qualified Lead",
        "stage": "mql",
        "minimum_score": 40,
        "required_fields": ["email", "company", "phone"],
        "required_actions": ["email_opened", "form_submitted"],
        "time_constraint_days": 90,
        "is_active": True,
    }
)
RULES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"example": [{"id": 5, **RULE}]}}}
}
TESTED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "rule": "High-value industry",
                    "lead": "Acme Corp",
                    "lead_id": 123,
                    "points_awarded": 15,
                    "rule_applied": True,
                    "evidence": [
                        "High-value industry: industry is Finance (wanted: one of Technology, Finance)"
                    ],
                }
            }
        }
    }
}

"""What an editor of a model's text asks while somebody writes it: is it right, what would it give a lead, how well would it
have ranked leads. Nothing is stored or published here.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.found_leads import lead_id_as_sent
from gateway.api.models import LARGEST_BODY_BYTES, ModelNameInPath
from gateway.api.points import points
from gateway.api.qualification import lead_and_subject, lead_id_of
from gateway.api.services import services_of, tenant_of
from gateway.api.text_editing import edited
from gateway.api.whatif import answer_of_steps
from gateway.documented import answer_docs, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.masked_answers import refuse_drafts_of_viewers
from gateway.ports import BacktestRequest
from schemas.control import LongText
from schemas.envelope import MAX_INTEGER
from schemas.moment import millis
from scoring.editing import qualification
from scoring.editing.model_check import hints_of, problem_in, rules_with_lines
from scoring.editing.rule_json import json_number
from scoring.editing.unnumbered import without_new_numbers
from scoring.models.model import ModelError, Subject, compile_model, explain_score, score_lead
from scoring.models.points import rounded_points

EXAMPLES = example_bodies("model_editor")
MOST_AGAINST = 3
"""Models that a backtest compares a draft with; each is a replay."""
Days = Annotated[int, Meta(ge=1, le=365)]

router = APIRouter(prefix="/api/models", tags=["model editor"])


class EntryEdit(Struct, forbid_unknown_fields=True, kw_only=True):
    """A change of one rule or criterion, as a form makes it."""

    entry: Literal["rule", "criterion"] = "rule"
    action: Literal["create", "change", "delete"]
    id: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] | None = None
    """Of what is changed or deleted."""
    fields: dict[str, Any] = {}
    """As /api/lead-qualification takes them; a change keeps those that are missing."""


class CheckRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    text: LongText
    edit: EntryEdit | None = None


class TrialRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    text: LongText
    lead_id: str | int


class BacktestBody(Struct, forbid_unknown_fields=True, kw_only=True):
    text: LongText | None = None
    against: Annotated[Sequence[Annotated[str, Meta(max_length=64)]], Meta(max_length=MOST_AGAINST)] = ()
    conversion: Annotated[str, Meta(max_length=200)] | None = None
    every_days: Days | None = None
    horizon_days: Days | None = None
    capacity: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    anonymous: bool = False


@router.post(
    "/{name}/check",
    summary="Check a text while it is written, and edit one rule of it",
    responses=answer_docs(
        EXAMPLES["checked"],
        "The text after the edit; its first mistake with line and column; its rules with their lines; and hints.",
    ),
    openapi_extra=request_docs(EXAMPLES["check"]),
)
async def check_text(request: Request, name: ModelNameInPath) -> Response:
    body = struct_of(json_object(await read_body(request, LARGEST_BODY_BYTES)), CheckRequest)
    return JsonAnswer(await asyncio.to_thread(_checked_text, name, body))


def _checked_text(name: str, body: CheckRequest) -> dict[str, Any]:
    edit = body.edit
    text = body.text
    if edit is not None:
        text = without_new_numbers(text, edited(lambda before: _text_after(before, edit), text))
    problem = problem_in(text, name)
    right = problem is None
    return {
        "model": name,
        "text": text,
        "problem": None if problem is None else problem._asdict(),
        "rules": rules_with_lines(text) if right else [],
        "criteria": qualification.criteria_of(text) if right else [],
        "hints": [
            {**hint._asdict(), "points": None if hint.points is None else json_number(hint.points)}
            for hint in (hints_of(text) if right else ())
        ],
    }


def _text_after(text: str, edit: EntryEdit) -> str:
    """Raises Refusal, UnknownId and UneditableText. A text with a mistake is not edited: nobody sees what it becomes."""
    try:
        compile_model(text)
    except ModelError as refusal:
        raise RequestProblem(409, f"correct the text first: {refusal}", field="text") from None
    is_rule = edit.entry == "rule"
    if edit.action == "create":
        create = qualification.create_rule if is_rule else qualification.create_criterion
        return create(text, edit.fields)[0]
    if edit.id is None:
        raise RequestProblem(422, f"the id of the {edit.entry}", field="id")
    if edit.action == "delete":
        delete = qualification.delete_rule if is_rule else qualification.delete_criterion
        return delete(text, edit.id)
    change = qualification.change_rule if is_rule else qualification.change_criterion
    return change(text, edit.id, edit.fields, partly=True)


@router.post(
    "/{name}/test",
    summary="Which lines a text would give a lead",
    responses=answer_docs(
        EXAMPLES["tested"], "The score line by line, by the text and by the active version."
    ),
    openapi_extra=request_docs(EXAMPLES["test"]),
)
async def test_text(request: Request, name: ModelNameInPath) -> Response:
    refuse_drafts_of_viewers(request, masks=services_of(request).ports.mask_for_viewers)
    services, tenant = services_of(request), tenant_of(request)
    content = json_object(await read_body(request, LARGEST_BODY_BYTES))
    body = struct_of(content, TrialRequest)
    problem = await asyncio.to_thread(problem_in, body.text, name)
    if problem is not None:
        raise RequestProblem(422, f"line {problem.line}: {problem.reason}", field="text")
    lead, subject = await lead_and_subject(services, tenant, lead_id_of(content))
    published = await services.ports.published(tenant)
    newest = await services.authoring.newest(tenant, name)
    as_of = services.ports.now()
    now = millis(as_of)

    def scored(text: str | None, folding: int | None, of: Subject) -> dict[str, Any] | None:
        if text is None:
            return None
        model = compile_model(text) if folding is None else compile_model(text, folding)
        concluded = score_lead(model, of, now, published.zone, published.idle_ms)
        lines = explain_score(model, of, now, published.zone, published.idle_ms)
        return {
            "total": points(concluded.total),
            "rounded": rounded_points(concluded.total),
            "bands": {scale: band for scale, band in concluded.bands.items() if scale in model.band_sets},
            "lines": [
                {
                    "group": line.group,
                    "rule": line.rule,
                    "kind": line.kind,
                    "points": points(line.points),
                    "text": line.text,
                }
                for line in lines
            ],
        }

    return JsonAnswer(
        {
            "model": name,
            "lead_id": lead_id_as_sent(lead["lead_id"]),
            "name": lead["name"],
            "as_of": as_of,
            "draft": await asyncio.to_thread(scored, body.text, None, subject),
            "active": await asyncio.to_thread(
                scored, newest and newest.text, newest and newest.folding, subject
            ),
        }
    )


@router.post(
    "/{name}/backtest",
    summary="How well a model would have ranked leads before they converted",
    responses=answer_docs(
        EXAMPLES["backtested"],
        "By tenths of the scores, of all cutoffs together, and what became of the leads of each rule. With "
        "`Accept: application/x-ndjson` lines of progress come first.",
    ),
    openapi_extra=request_docs(EXAMPLES["backtest"]),
)
async def backtest_text(request: Request, name: ModelNameInPath) -> Response:
    body = struct_of(json_object(await read_body(request, LARGEST_BODY_BYTES)), BacktestBody)
    wishes = BacktestRequest(
        tenant_of(request),
        name,
        body.text,
        body.against,
        body.conversion,
        body.every_days,
        body.horizon_days,
        body.capacity,
        body.anonymous,
    )
    services = services_of(request)
    return await answer_of_steps(request, services.ports.backtest(wishes), services.backtest_turns)

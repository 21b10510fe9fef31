"""/api/flows: what chats ask, as data for a form, and a preview of a draft that records nothing.

A flow is a part of the text of a model, and is published with it: versions, drafts and the way back are those of
`/api/models/NAME`.
"""

import asyncio
import tomllib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from msgspec import Meta, Struct, to_builtins
from starlette.responses import Response

from authoring.active_models import ActiveRules
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.chat_shapes import choice_shape, flow_shape, progress_shape
from gateway.api.models import LARGEST_BODY_BYTES, ModelNameInPath
from gateway.api.points import points
from gateway.api.services import services_of, tenant_of
from gateway.api.text_editing import edited
from gateway.documented import answer_docs, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from projections import chat
from projections.authoring import PublishedVersion
from schemas.control import LongText
from schemas.envelope import MAX_INTEGER
from schemas.moment import millis
from schemas.refusal import Refusal
from scoring.chat.conversation import SOURCE
from scoring.chat.flow import ChatFlow, question_numbered
from scoring.chat.flow_text import (
    MOST_CHOICES,
    MOST_LANGUAGES,
    MOST_OPTIONS,
    MOST_QUESTIONS,
    FlowError,
)
from scoring.chat.trial import (
    ChatTrial,
    ScoringTerms,
    after_action,
    after_answer,
    after_profile,
    begun_trial,
    flow_points,
    option_points,
    trial_score,
)
from scoring.editing.flow_edits import flow_json, text_with_flow
from scoring.editing.model_check import problem_in
from scoring.models.model import Model, ModelError, built_in_models, compile_model
from scoring.models.points import rounded_points

EXAMPLES = example_bodies("flows")
MOST_STEPS = 200
"""Of a previewed chat."""
LONGEST_TEXT_SENT = 5_000
"""Characters of one text of a form: what the flow does not allow is refused at its place."""

Words = Annotated[str, Meta(max_length=LONGEST_TEXT_SENT)]
WordingBody = Annotated[dict[str, Words], Meta(max_length=MOST_LANGUAGES)]
Number = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]

router = APIRouter(prefix="/api/flows", tags=["flows"])


class GreetingBody(Struct, forbid_unknown_fields=True):
    id: Number
    text: WordingBody
    variants: Annotated[dict[Words, WordingBody], Meta(max_length=MOST_CHOICES)] = {}


class ContactBody(Struct, forbid_unknown_fields=True):
    id: Number
    text: WordingBody
    button: WordingBody | None = None


class QuestionBody(Struct, forbid_unknown_fields=True):
    id: Number
    text: WordingBody
    options: dict[str, Annotated[list[Words], Meta(max_length=2 * MOST_OPTIONS)]] = {}
    several: bool = False
    step: Words = "profile"
    profile_field: Words | None = None


class OfferBody(Struct, forbid_unknown_fields=True):
    id: Words
    text: WordingBody
    about: WordingBody
    action: Words


class FlowBody(Struct, forbid_unknown_fields=True):
    languages: Annotated[list[Words], Meta(max_length=2 * MOST_LANGUAGES)]
    thanks: WordingBody
    greeting: GreetingBody
    questions: Annotated[list[QuestionBody], Meta(max_length=2 * MOST_QUESTIONS)]
    contact: ContactBody
    products: Annotated[list[OfferBody], Meta(max_length=2 * MOST_CHOICES)] = []
    ctas: Annotated[list[OfferBody], Meta(max_length=2 * MOST_CHOICES)] = []
    assigned_to: Words | None = None


class FlowCheckRequest(Struct, forbid_unknown_fields=True):
    text: LongText
    flow: FlowBody | None = None
    """None: the text is only read."""


class PreviewStep(Struct, forbid_unknown_fields=True):
    """What the person did: an answer, a contact, or an action, in the fields of the chat's own endpoints."""

    question_id: Number | None = None
    answer_text: Words | Annotated[list[Words], Meta(max_length=MOST_OPTIONS)] | None = None
    time_taken: float | None = None
    profile_data: dict[str, Any] | None = None
    action: Words | None = None
    metadata: dict[str, Any] | None = None


class FlowPreviewRequest(Struct, forbid_unknown_fields=True):
    text: LongText
    steps: Annotated[list[PreviewStep], Meta(max_length=MOST_STEPS)] = []
    language: Words | None = None


@router.get(
    "",
    summary="The flows of chats, and what each asks in short",
    responses=answer_docs(EXAMPLES["flows"], "The flow that chats ask, and those of other models."),
)
async def flows(request: Request) -> Response:
    active = await services_of(request).authoring.active(tenant_of(request))
    listed = await asyncio.to_thread(
        lambda: [
            _summary(version, flow)
            for name, version in sorted(active.items(), key=lambda each: (each[0] != chat.MODEL, each[0]))
            if version.text
            and (flow := _flow_of(compile_model(version.text, version.folding), name)) is not None
        ]
    )
    return JsonAnswer({"flows": listed})


def _flow_of(model: Model, name: str) -> ChatFlow | None:
    """Where the model of chats has no flow, they ask the built-in one."""
    if model.flow is not None or name != chat.MODEL:
        return model.flow
    return compile_model(built_in_models()[chat.MODEL]).flow


def _summary(version: PublishedVersion, flow: ChatFlow) -> dict[str, Any]:
    return {
        "model": version.model,
        "asked": version.model == chat.MODEL,
        "version": version.version,
        "since": version.recorded_at,
        "by": version.by,
        "note": version.note,
        "languages": flow.languages,
        "greeting": flow.greeting_text[flow.language],
        "variants": list(flow.greeting_variants),
        "questions": [each.text[flow.language] for each in flow.questions],
    }


@router.post(
    "/{name}/check",
    summary="The flow of a model's text as data, and the text with a changed flow",
    responses=answer_docs(
        EXAMPLES["checked"],
        "The text and its flow; the first mistake and its field; what each option scores.",
    ),
    openapi_extra=request_docs(EXAMPLES["check"]),
)
async def check_flow(request: Request, name: ModelNameInPath) -> Response:
    body = struct_of(json_object(await read_body(request, LARGEST_BODY_BYTES)), FlowCheckRequest)
    rules = await services_of(request).ports.published(tenant_of(request))
    now_ms = millis(services_of(request).ports.now())
    return JsonAnswer(await asyncio.to_thread(_checked, name, body, rules, now_ms))


def _checked(name: str, body: FlowCheckRequest, rules: ActiveRules, now_ms: int) -> dict[str, Any]:
    text, sent = body.text, body.flow
    if sent is not None:
        _refuse_broken_toml(text)
        text = edited(lambda before: text_with_flow(before, to_builtins(sent)), text)
    problem, field = problem_in(text, name), None
    if problem is None:
        model = compile_model(text)
        flow = _flow_of(model, name)
    else:
        flow, model = None, None
        field = _field_of_mistake(text)
    return {
        "model": name,
        "text": text,
        "problem": None if problem is None else {**problem._asdict(), "field": field},
        "flow": None if flow is None else flow_json(flow),
        "points": {}
        if model is None or flow is None
        else {
            str(question): [points(each) for each in listed]
            for question, listed in flow_points(flow, _terms(model, rules, now_ms)).items()
        },
    }


def _refuse_broken_toml(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as broken:
        raise RequestProblem(409, f"correct the text first: {broken}", field="text") from None


def _field_of_mistake(text: str) -> str | None:
    try:
        compile_model(text)
    except FlowError as refusal:
        return refusal.field
    except ModelError:
        return None
    return None


@router.post(
    "/{name}/preview",
    summary="What a chat would say with a draft of its flow; nothing is recorded",
    responses=answer_docs(
        EXAMPLES["previewed"],
        "What the chat reads after the steps, the events that it would record, and what they would score.",
    ),
    openapi_extra=request_docs(EXAMPLES["preview"]),
)
async def preview_flow(request: Request, name: ModelNameInPath) -> Response:
    body = struct_of(json_object(await read_body(request, LARGEST_BODY_BYTES)), FlowPreviewRequest)
    rules = await services_of(request).ports.published(tenant_of(request))
    now_ms = millis(services_of(request).ports.now())
    return JsonAnswer(await asyncio.to_thread(_previewed, name, body, rules, now_ms))


def _previewed(name: str, body: FlowPreviewRequest, rules: ActiveRules, now_ms: int) -> dict[str, Any]:
    problem = problem_in(body.text, name)
    if problem is not None:
        raise RequestProblem(422, f"line {problem.line}: {problem.reason}", field="text")
    model = compile_model(body.text)
    flow = _flow_of(model, name)
    if flow is None:
        raise RequestProblem(422, "has no flow: begin one with [flow]", field="text")
    language = flow.language if body.language is None else body.language
    if language not in flow.languages:
        raise RequestProblem(422, f"the flow is in {', '.join(flow.languages)}", field="language")
    terms = _terms(model, rules, now_ms)
    trial = begun_trial()
    for number, step in enumerate(body.steps):
        trial = _after_step(trial, flow, step, f"steps.{number}")
    try:
        score = trial_score(trial, terms)
    except Refusal as refusal:
        raise RequestProblem(422, refusal.reason, field=refusal.field) from None
    answered = trial.conversation.answered()
    progress = progress_shape(flow, trial.conversation, answered, language)
    next_question = (
        question_numbered(flow, progress["next_question"]["id"]) if progress["next_question"] else None
    )
    return {
        "flow": flow_shape(flow, language) | progress,
        "products": [choice_shape(each, language) for each in flow.products],
        "cta_options": [choice_shape(each, language) for each in flow.ctas],
        "events": [{key: value for key, value in each.items() if key != "source"} for each in trial.events],
        "source": SOURCE,
        "score": {
            "total": points(score.conclusion.total),
            "rounded": rounded_points(score.conclusion.total),
            "bands": {
                scale: band for scale, band in score.conclusion.bands.items() if scale in model.band_sets
            },
            "lines": [
                {"rule": line.rule, "kind": line.kind, "points": points(line.points), "text": line.text}
                for line in score.lines
                if line.points
            ],
        },
        "option_points": []
        if next_question is None
        else [points(each) for each in option_points(trial, flow, next_question, terms)],
    }


def _after_step(trial: ChatTrial, flow: ChatFlow, step: PreviewStep, field: str) -> ChatTrial:
    """Raises RequestProblem, as the chat's own endpoints do."""
    if step.question_id is not None:
        question = question_numbered(flow, step.question_id)
        if question is None:
            raise RequestProblem(422, "the flow has no such question", field=f"{field}.question_id")
        if not step.answer_text or not _has_text(step.answer_text):
            raise RequestProblem(
                422, "missing: any text answers a question, but there is none", field=f"{field}.answer_text"
            )
        return after_answer(trial, flow, question, step.answer_text, step.time_taken)
    if step.profile_data is not None:
        after = after_profile(trial, step.profile_data)
        if after == trial and not step.profile_data:
            raise RequestProblem(422, "missing: at least one field", field=f"{field}.profile_data")
        return after
    if step.action is not None:
        return after_action(trial, step.action, step.metadata or {})
    raise RequestProblem(422, "wants question_id, profile_data or action", field=field)


def _has_text(answer: str | Sequence[str]) -> bool:
    return bool((answer if isinstance(answer, str) else "".join(answer)).strip())


def _terms(model: Model, rules: ActiveRules, now_ms: int) -> ScoringTerms:
    return ScoringTerms(model, rules.zone, rules.idle_ms, now_ms, rules.profile_fields)

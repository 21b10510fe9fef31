"""/api/experiments: how an experiment is written, started, stopped and brought back.

Each experiment is one text; each change is one publication of it (`authoring.authoring`), with a version, its author, time and
reason. A variant is a hash of the visitor, so a change that would move visitors is refused once the experiment has started.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from msgspec import Meta, Struct, to_builtins
from starlette.responses import Response

from authoring.authoring import Publication
from authoring.experiment_texts import (
    ExperimentVersion,
    active_experiments,
    checked_experiment,
    publication_name,
    publishable_text,
    unknown_experiment,
)
from authoring.problem import Problem
from authoring.revisions import text_of_version
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.models import (
    BaseVersion,
    ChangeNote,
    answer_of_versions,
    author_of_caller,
    decoded_body,
    publication_json,
    versions_to_compare,
)
from gateway.api.services import ApiServices, authorized_caller, services_of, tenant_of
from gateway.api.text_editing import edited
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from projections import queries
from projections.authoring import PublishedVersion
from schemas.control import LongText
from schemas.envelope import MAX_INTEGER, Moment
from scoring.editing.experiment_edits import (
    experiment_form,
    is_toml,
    new_experiment_text,
    text_with_form,
    text_with_status,
)
from scoring.editing.model_check import placed_problem
from scoring.experiments.assignment import (
    RUNNING,
    STOPPED,
    UNIT_LEAD,
    UNIT_VISITOR,
    Experiment,
    hashed_variant,
)
from scoring.experiments.changes import experiment_change, refused_change
from scoring.experiments.experiment_text import MOST_GOALS, MOST_VARIANTS, compiled_experiment
from scoring.features.identity import key_of_identity

EXAMPLES = example_bodies("experiments")
MOST_TRIED_VISITORS = 100
"""Of one lead, the newest first."""
_LOCATION = re.compile(r"line \d+, ([^:]+): ")
_VISITOR_KEY = re.compile(r"[^/]+/v/(.+)", re.DOTALL)

FormText = Annotated[str, Meta(max_length=5_000)]
"""Longer than a text allows: what it does not allow is refused at its place."""

router = APIRouter(prefix="/api/experiments", tags=["experiments"])


class NamespaceForm(Struct, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    name: FormText
    start: float
    end: float


class VariantForm(Struct, forbid_unknown_fields=True):
    name: FormText
    weight: float | None = None
    """Null in all variants: equal shares."""
    config: Any = None


class GoalForm(Struct, forbid_unknown_fields=True):
    name: FormText
    about: FormText = ""
    event: FormText | None = None
    conversion: FormText | None = None


class ExperimentForm(Struct, forbid_unknown_fields=True):
    variants: Annotated[list[VariantForm], Meta(max_length=2 * MOST_VARIANTS)]
    goals: Annotated[list[GoalForm], Meta(max_length=2 * MOST_GOALS)]
    about: FormText = ""
    unit: FormText = UNIT_VISITOR
    coverage: float = 1
    window_days: int = 30
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    namespace: NamespaceForm | None = None


class ExperimentToCheck(Struct, forbid_unknown_fields=True):
    text: LongText | None = None
    """Null: the active text, or the beginning of a new one."""
    form: ExperimentForm | None = None
    """Null: the text is only read."""


class ExperimentToPublish(ChangeNote, kw_only=True):
    text: LongText | None = None
    form: ExperimentForm | None = None
    """With a text: what changes in it. Without: what changes in the active text, or a new experiment."""
    based_on: BaseVersion | None = None
    """The version that the author has changed; 0 for a new one and for an initial text; None: whatever is the newest."""


class ExperimentToStop(ChangeNote, kw_only=True):
    winner: FormText | None = None
    """The variant that everybody gets from now on; null: the control."""


class ExperimentRollBack(ChangeNote, kw_only=True):
    version: BaseVersion


class AssignmentToTry(Struct, forbid_unknown_fields=True):
    text: LongText | None = None
    """Null: the active text."""
    lead_id: FormText | None = None
    visitor_id: FormText | None = None


async def active_of_tenant(services: ApiServices, tenant: str) -> dict[str, ExperimentVersion]:
    """As the database has them now."""
    return active_experiments(
        services.ports.initial_experiments, await services.authoring.experiments(tenant)
    )


async def active_version(services: ApiServices, tenant: str, name: str) -> ExperimentVersion:
    active = (await active_of_tenant(services, tenant)).get(name)
    if active is None:
        raise unknown_experiment()
    return active


# Reading and checking a text


@router.post(
    "/{name}/check",
    summary="Check the text of an experiment, or change it by a form; nothing is published",
    responses=answer_docs(
        EXAMPLES["checked"],
        "The text, with what the form changes; its first mistake with its place, and why it cannot be published.",
        others={"a mistake": EXAMPLES["checked_wrong"], "refused": EXAMPLES["checked_refused"]},
    ),
    openapi_extra=request_docs(EXAMPLES["check"], required=False),
)
async def check_experiment(request: Request, name: str) -> Response:
    body = await decoded_body(request, ExperimentToCheck)
    services = services_of(request)
    active = (await active_of_tenant(services, tenant_of(request))).get(name)
    text = await asyncio.to_thread(_changed_text, name, body, active and active.text)
    return JsonAnswer(await asyncio.to_thread(_checked, name, text, active, services))


def _changed_text(name: str, body: ExperimentToCheck | ExperimentToPublish, current: str | None) -> str:
    """Raises RequestProblem."""
    text = body.text if body.text is not None else current or new_experiment_text(name)
    if body.form is None:
        return text
    if not is_toml(text):
        raise RequestProblem(409, "correct the text first: a form cannot change it", field="text")
    form = to_builtins(body.form, builtin_types=(datetime,))
    return edited(lambda before: text_with_form(before, form), text)


def _checked(name: str, text: str, active: ExperimentVersion | None, services: ApiServices) -> dict[str, Any]:
    problem, refused, experiment = None, None, None
    try:
        experiment = checked_experiment(name, text)
    except Problem as mistake:
        location = _LOCATION.match(mistake.reason)
        problem = {
            **placed_problem(text, mistake.reason)._asdict(),
            "field": location and location[1].replace(", ", "."),
        }
    if experiment is not None and active is not None:
        refused = refused_change(active.experiment, experiment, services.ports.now())
    return {
        "name": name,
        "text": text,
        "based_on": 0 if active is None else active.version,
        "problem": problem,
        "form": experiment and experiment_form(experiment),
        "refused": refused and {"field": refused[0], "reason": refused[1]},
        "change": experiment and experiment_change(active.experiment if active else None, experiment),
    }


# Publishing


PUBLISHED_ANSWER = answer_docs(
    EXAMPLES["published"],
    "On record and in the log; within a second it assigns visitors. A text that is the newest already is not published again.",
)


@router.post(
    "/{name}/publish",
    summary="Create or change an experiment",
    openapi_extra=request_docs(EXAMPLES["publish"]),
    responses=PUBLISHED_ANSWER,
)
async def publish_experiment(request: Request, name: str) -> Response:
    body = await decoded_body(request, ExperimentToPublish)
    if body.text is None and body.form is None:
        raise RequestProblem(422, "missing: the text, or a form", field="text")
    return await _publish(
        request, name, body, lambda current: _changed_text(name, body, current), based_on=body.based_on
    )


@router.post(
    "/{name}/start",
    summary="Start an experiment, or start a stopped one again",
    openapi_extra=request_docs(EXAMPLES["note"], body_schema_of(ChangeNote), required=False),
    responses=PUBLISHED_ANSWER,
)
async def start_experiment(request: Request, name: str) -> Response:
    body = await decoded_body(request, ChangeNote)
    return await _publish(request, name, body, lambda current: _with_status(current, RUNNING, None))


@router.post(
    "/{name}/stop",
    summary="Stop an experiment: everybody gets the winner, or else the control",
    openapi_extra=request_docs(EXAMPLES["stop"], body_schema_of(ExperimentToStop), required=False),
    responses=PUBLISHED_ANSWER,
)
async def stop_experiment(request: Request, name: str) -> Response:
    body = await decoded_body(request, ExperimentToStop)
    return await _publish(request, name, body, lambda current: _with_status(current, STOPPED, body.winner))


def _with_status(current: str | None, status: str, winner: str | None) -> str:
    if current is None:
        raise unknown_experiment()
    variants = [variant.name for variant in compiled_experiment(current).variants]
    if winner is not None and winner not in variants:
        raise RequestProblem(422, f"the experiment has {', '.join(variants)}", field="winner")
    return edited(lambda text: text_with_status(text, status, winner), current)


async def _publish(
    request: Request,
    name: str,
    body: ChangeNote,
    changed: Callable[[str | None], str],
    *,
    based_on: int | None = None,
    change: str | None = None,
) -> Response:
    """`changed`: the active text (None: there is none) -> the next one."""
    services = services_of(request)
    tenant, caller = authorized_caller(request)
    initial = services.ports.initial_experiments.get(name)
    done: list[str] = []

    def edit(newest: str | None) -> str:
        current = newest or initial
        text = publishable_text(name, changed(current), current, services.ports.now())
        before = None if current is None else compiled_experiment(current)
        done.append(change or experiment_change(before, compiled_experiment(text)))
        return text

    publication: Publication = await services.authoring.publish(
        tenant,
        publication_name(name),
        edit,
        by=body.by or author_of_caller(caller),
        note=body.note,
        change=lambda: done[-1],
        based_on=based_on,
    )
    return JsonAnswer(publication_json(publication))


# Versions


@router.get(
    "/{name}/versions",
    summary="Every version of an experiment, newest first; or what changed",
    responses=answer_docs(
        EXAMPLES["versions"],
        "Versions, at most `limit` from `offset` on; 0 is the initial text. With diff, what one changed in another.",
        others={"with diff": EXAMPLES["diff"]},
    ),
)
async def experiment_versions(
    request: Request,
    name: str,
    diff: Annotated[str | None, Query(description="3..5: what 5 changed in 3.", max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
) -> Response:
    compared = versions_to_compare(diff)
    history = await _history(services_of(request), tenant_of(request), name, compared)
    return await answer_of_versions(history, publication_name(name), compared, limit, offset)


@router.post(
    "/{name}/rollback",
    summary="Publish an earlier version of an experiment again",
    openapi_extra=request_docs(EXAMPLES["rollback"], body_schema_of(ExperimentRollBack)),
    responses=PUBLISHED_ANSWER,
)
async def roll_back_experiment(request: Request, name: str) -> Response:
    body = await decoded_body(request, ExperimentRollBack)
    history = await _history(services_of(request), tenant_of(request), name, [body.version])
    text = text_of_version(history, publication_name(name), body.version)
    return await _publish(
        request, name, body, lambda _: text, change=f"rolled back to version {body.version}"
    )


async def _history(
    services: ApiServices, tenant: str, name: str, texts_of: list[int]
) -> list[PublishedVersion]:
    """Newest first; the initial text comes last, as version 0. Raises NotFound."""
    published = await services.authoring.history(tenant, publication_name(name), texts_of=texts_of)
    initial = services.ports.initial_experiments.get(name)
    if initial is None and not published:
        raise unknown_experiment()
    return published + (
        [] if initial is None else [PublishedVersion(tenant, publication_name(name), 0, initial)]
    )


# Trying an assignment


@router.post(
    "/{name}/try",
    summary="Which variant a lead or visitor would get; nothing is recorded",
    openapi_extra=request_docs(EXAMPLES["try"], body_schema_of(AssignmentToTry)),
    responses=answer_docs(
        EXAMPLES["tried"], "The variant of each id by which the experiment assigns, as if it ran now."
    ),
)
async def try_assignment(request: Request, name: str) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    body = await decoded_body(request, AssignmentToTry)
    text = body.text if body.text is not None else (await active_version(services, tenant, name)).text
    experiment = await asyncio.to_thread(checked_experiment, name, text)
    units = await _unit_ids(services, tenant, experiment, body)
    return JsonAnswer(
        {
            "name": name,
            "unit": experiment.unit,
            "assignments": [_assignment_json(experiment, unit_id) for unit_id in units],
        }
    )


async def _unit_ids(
    services: ApiServices, tenant: str, experiment: Experiment, body: AssignmentToTry
) -> list[str]:
    """The ids of the lead, or the visitor, by which the experiment assigns. Raises RequestProblem."""
    if body.visitor_id and experiment.unit == UNIT_VISITOR:
        return [body.visitor_id]
    if not body.lead_id:
        raise RequestProblem(422, "missing: this experiment assigns by it", field=f"{experiment.unit}_id")
    rows = (
        []
        if "\\0" in body.lead_id
        else await services.store.rows(queries.identities_of(tenant, body.lead_id))
    )
    if not rows:
        raise RequestProblem(404, "no lead has this id", field="lead_id")
    if experiment.unit == UNIT_LEAD:
        return [body.lead_id]
    keys = dict.fromkeys(key_of_identity(row["identity"])[0] for row in rows)
    visitors = [match[1] for key in keys if (match := _VISITOR_KEY.fullmatch(key))]
    return visitors[:MOST_TRIED_VISITORS]


def _assignment_json(experiment: Experiment, unit_id: str) -> dict[str, Any]:
    assigned = hashed_variant(experiment, unit_id)
    return {"id": unit_id, "variant": assigned.variant.name, "in_experiment": assigned.included}

"""/api/experiments: the experiments that there are, and what each has shown.

Reads only. The results are computed from the facts each time they are asked for, so that late events,
merges and a changed window are in them at once.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.leads import moment_of
from gateway.api.services import services_of, tenant_of
from gateway.documented import answer_docs, example_bodies
from projections import experiments as queries
from scoring.experiments.assignment import Experiment
from scoring.experiments.results import DEFAULT_LIFT, Exposure, GoalConversion, experiment_results

EXAMPLES = example_bodies("experiments")
OptionalMoment = Annotated[
    str | None,
    Query(
        description="Only leads first exposed in this time (RFC 3339, with an offset).",
        json_schema_extra={"format": "date-time"},
    ),
]


router = APIRouter(prefix="/api/experiments", tags=["experiments"])


@router.get(
    "",
    summary="The experiments that there are",
    responses=answer_docs(EXAMPLES["experiments"], "Every experiment, by name."),
)
async def experiments(request: Request) -> Response:
    tenant_of(request)
    return JsonAnswer(
        {
            "experiments": [
                definition_json(each) for _, each in sorted(services_of(request).ports.experiments.items())
            ]
        }
    )


@router.get(
    "/{name}",
    summary="An experiment and its results",
    responses=answer_docs(EXAMPLES["experiment"], "The definition, and what is known of its leads by now."),
)
async def experiment(
    request: Request,
    name: str,
    since: OptionalMoment = None,
    until: OptionalMoment = None,
    lift: Annotated[float, Query(ge=0.001, le=10, description="To be found: 0.1 is a tenth.")] = DEFAULT_LIFT,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    definition = services.ports.experiments.get(name)
    if definition is None:
        raise RequestProblem(404, "no experiment has this name", field="name")
    first = None if since is None else moment_of(since, "since")
    last = None if until is None else moment_of(until, "until")
    async with services.store.snapshot() as ask:
        exposures, conversions = await ask.all(
            queries.select_exposures(tenant, name), queries.select_conversions(tenant, definition)
        )
    report = await asyncio.to_thread(
        experiment_results,
        definition,
        (Exposure(**row) for row in exposures),
        (GoalConversion(**row) for row in conversions),
        lift=lift,
        since=first,
        until=last,
    )
    return JsonAnswer(
        {"experiment": definition_json(definition), "results": report, "as_of": services.ports.now()}
    )


def definition_json(experiment: Experiment) -> dict[str, Any]:
    """The definition, as the API and the command line show it."""
    return {
        "name": experiment.name,
        "about": experiment.about,
        "status": experiment.status,
        "winner": experiment.winner,
        "unit": experiment.unit,
        "coverage": experiment.coverage,
        "namespace": None if experiment.namespace is None else experiment.namespace._asdict(),
        "seed": experiment.seed,
        "hash_version": experiment.hash_version,
        "window_days": experiment.window_days,
        "control": experiment.control.name,
        "variants": [variant._asdict() for variant in experiment.variants],
        "goals": [
            {"name": goal.name, "about": goal.about, "counts": [sign._asdict() for sign in goal.goal_events]}
            for goal in experiment.goals
        ],
    }

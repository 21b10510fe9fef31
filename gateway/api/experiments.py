"""/api/experiments: the experiments that there are, and what each has shown.

Reads only. The results are computed from the facts each time they are asked for, so that late events,
merges and a changed window are in them at once.
"""

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gateway.access import READ, api_caller
from gateway.answers import Json, RequestProblem
from gateway.ports import Ports
from gateway.store import ReadStore
from projections import experiments as questions
from schemas.envelope import DEFAULT_TENANT
from scoring.experiments.assignment import Experiment
from scoring.experiments.results import DEFAULT_LIFT, Exposure, GoalConversion, results

Instant = Annotated[
    datetime | None, Query(description="Only leads first exposed in this time (RFC 3339, with an offset).")
]


def experiments_api(ports: Ports, store: ReadStore) -> APIRouter:
    router = APIRouter(prefix="/api/experiments", tags=["experiments"])

    def tenant_of(request: Request) -> str:
        return api_caller(request, ports.access, READ).tenant or DEFAULT_TENANT

    @router.get("", summary="The experiments that there are", responses=LIST_EXAMPLE)
    async def experiments(request: Request) -> Response:
        tenant_of(request)
        return Json({"experiments": [defined(each) for _, each in sorted(ports.experiments.items())]})

    @router.get("/{name}", summary="An experiment and its results", responses=RESULTS_EXAMPLE)
    async def experiment(
        request: Request,
        name: str,
        since: Instant = None,
        until: Instant = None,
        lift: Annotated[
            float, Query(ge=0.001, le=10, description="To be found: 0.1 is a tenth.")
        ] = DEFAULT_LIFT,
    ) -> Response:
        tenant = tenant_of(request)
        found = ports.experiments.get(name)
        if found is None:
            raise RequestProblem(404, "no experiment has this name", field="name")
        for field, moment in (("since", since), ("until", until)):
            if moment is not None and moment.tzinfo is None:
                raise RequestProblem(422, "wants an offset, such as 2030-01-31T12:00:00Z", field=field)
        async with store.moment() as ask:
            exposed, converted = await ask.all(
                questions.exposures(tenant, name), questions.conversions(tenant, found)
            )
        shown = await asyncio.to_thread(
            results,
            found,
            (Exposure(**row) for row in exposed),
            (GoalConversion(**row) for row in converted),
            lift=lift,
            since=since,
            until=until,
        )
        return Json({"experiment": defined(found), "results": shown, "as_of": ports.now()})

    return router


def defined(experiment: Experiment) -> dict[str, Any]:
    """The definition, as the API and the command line tell it."""
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
            {"name": goal.name, "about": goal.about, "counts": [sign._asdict() for sign in goal.signs]}
            for goal in experiment.goals
        ],
    }


_EXAMPLE = {
    "name": "greeting_message",
    "about": "Which greeting of the chatbot makes more visitors ask for a demo?",
    "status": "running",
    "winner": None,
    "unit": "visitor",
    "coverage": 1,
    "namespace": None,
    "seed": "greeting_message",
    "hash_version": 2,
    "window_days": 30,
    "control": "A",
    "variants": [
        {"name": "A", "weight": 0.5, "config": {"text": "Hi! Welcome to YouShop!"}},
        {"name": "B", "weight": 0.5, "config": {"text": "Transform your business with YouShop!"}},
    ],
    "goals": [
        {
            "name": "demo_request",
            "about": "The visitor asked for a demo.",
            "counts": [{"event": "conversion_recorded", "named": "demo_request"}],
        }
    ],
}


def _example(description: str, told: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": description, "content": {"application/json": {"example": told}}}}


LIST_EXAMPLE = _example("Every experiment, by name.", {"experiments": [_EXAMPLE]})
RESULTS_EXAMPLE = _example(
    "The definition, and what is known of its leads by now.",
    {
        "experiment": _EXAMPLE,
        "results": {
            "exposed": 150,
            "saw_several": 2,
            "unknown": 0,
            "since": "2030-01-01T08:00:00Z",
            "until": "2030-01-31T12:00:00Z",
            "variants": [
                {
                    "variant": "A",
                    "weight": 0.5,
                    "exposed": 80,
                    "saw_several": 1,
                    "goals": {
                        "demo_request": {
                            "converted": 48,
                            "saw_several": 1,
                            "rate": 0.6,
                            "interval": [0.4905, 0.7004],
                            "pure_rate": 0.5949,
                            "against_control": None,
                        }
                    },
                },
                {
                    "variant": "B",
                    "weight": 0.5,
                    "exposed": 70,
                    "saw_several": 1,
                    "goals": {
                        "demo_request": {
                            "converted": 56,
                            "saw_several": 1,
                            "rate": 0.8,
                            "interval": [0.6919, 0.8767],
                            "pure_rate": 0.7971,
                            "against_control": {
                                "difference": 0.2,
                                "interval": [0.0524, 0.3339],
                                "lift": 0.3333,
                                "p": 0.008,
                            },
                        }
                    },
                },
            ],
            "balance": {"chi_square": 0.667, "p": 0.414, "verdict": "ok"},
            "needed": {"demo_request": {"lift": 0.1, "each": 1016, "more": 1892}},
        },
        "as_of": "2030-01-31T12:00:05Z",
    },
)

"""/api/experiments: the experiments that there are, and what each has shown.

The results are computed from the facts each time they are asked for, so that late events,
merges and a changed window are in them at once.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from authoring.experiment_texts import ExperimentVersion
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.experiment_texts import active_of_tenant, active_version
from gateway.api.found_leads import lead_id_as_sent
from gateway.api.lead_moment import moment_of
from gateway.api.lead_pages import PAGE, Limit
from gateway.api.services import services_of, tenant_of
from gateway.documented import answer_docs, example_bodies
from gateway.store import Row, StoreSnapshot
from projections import experiments as queries
from schemas.envelope import MAX_INTEGER
from scoring.experiments.assignment import Experiment, experiment_phase
from scoring.experiments.results import (
    DEFAULT_LIFT,
    ExposedLead,
    Exposure,
    GoalConversion,
    experiment_results,
    exposed_leads,
)

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
    services, tenant = services_of(request), tenant_of(request)
    return JsonAnswer(
        {
            "experiments": [
                summary_json(each, services.ports.now())
                for each in (await active_of_tenant(services, tenant)).values()
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
    active = await active_version(services, tenant, name)
    definition = active.experiment
    first, last = _moments(since, until)
    async with services.store.snapshot() as ask:
        exposures, conversions = await _facts(ask, tenant, definition)
    report = await asyncio.to_thread(
        experiment_results, definition, exposures, conversions, lift=lift, since=first, until=last
    )
    return JsonAnswer(
        {
            "experiment": summary_json(active, services.ports.now()),
            "text": active.text,
            "results": report,
            "as_of": services.ports.now(),
        }
    )


@router.get(
    "/{name}/leads",
    summary="The leads behind an experiment's results",
    responses=answer_docs(
        EXAMPLES["leads"], "Leads with the variant of their first exposure, the last exposed first."
    ),
)
async def leads_of_experiment(
    request: Request,
    name: str,
    variant: Annotated[
        str | None, Query(max_length=64, description="Only leads that count for this variant.")
    ] = None,
    goal: Annotated[str | None, Query(max_length=64, description="Only leads that reached it.")] = None,
    since: OptionalMoment = None,
    until: OptionalMoment = None,
    limit: Limit = PAGE,
    offset: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    definition = (await active_version(services, tenant, name)).experiment
    _refuse_unknown(variant, [each.name for each in definition.variants], "variant")
    _refuse_unknown(goal, [each.name for each in definition.goals], "goal")
    first, last = _moments(since, until)
    async with services.store.snapshot() as ask:
        exposures, conversions = await _facts(ask, tenant, definition)
        matches = [
            each
            for each in await asyncio.to_thread(
                exposed_leads, definition, exposures, conversions, since=first, until=last
            )
            if variant in {None, each.variant} and (goal is None or goal in each.goals)
        ]
        page = matches[offset : offset + limit]
        rows = await ask(queries.select_named_leads([each.lead for each in page])) if page else ()
    named = {row["lead_key"]: row for row in rows}
    return JsonAnswer(
        {
            "experiment": name,
            "count": len(matches),
            "leads": [_lead_json(definition, each, named[each.lead]) for each in page if each.lead in named],
            "next_offset": offset + limit if offset + limit < len(matches) else None,
        }
    )


def _moments(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    return (
        None if since is None else moment_of(since, "since"),
        None if until is None else moment_of(until, "until"),
    )


async def _facts(
    ask: StoreSnapshot, tenant: str, experiment: Experiment
) -> tuple[list[Exposure], list[GoalConversion]]:
    exposures, conversions = await ask.all(
        queries.select_exposures(tenant, experiment.name), queries.select_conversions(tenant, experiment)
    )
    return [Exposure(**row) for row in exposures], [GoalConversion(**row) for row in conversions]


def _refuse_unknown(chosen: str | None, names: Sequence[str], field: str) -> None:
    if chosen is not None and chosen not in names:
        raise RequestProblem(422, f"the experiment has {', '.join(names)}", field=field)


def _lead_json(experiment: Experiment, exposed: ExposedLead, lead: Row) -> dict[str, Any]:
    return {
        "lead_id": lead_id_as_sent(lead["lead_id"]),
        "name": lead["name"],
        "company": lead["company"],
        "anonymous": not lead["identified"],
        "variant": exposed.variant,
        "exposed_at": exposed.at,
        "goals": [goal.name for goal in experiment.goals if goal.name in exposed.goals],
        "saw_several": exposed.saw_several,
    }


def summary_json(active: ExperimentVersion, at: datetime) -> dict[str, Any]:
    """The definition, its phase at this moment, and its newest version. Version 0: nobody has published it."""
    return {
        **definition_json(active.experiment),
        "phase": experiment_phase(active.experiment, at),
        "version": active.version,
        "published_at": active.since,
        "by": active.by,
        "note": active.note,
        "change": active.change,
    }


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
        "starts_at": experiment.starts_at,
        "ends_at": experiment.ends_at,
        "control": experiment.control.name,
        "variants": [variant._asdict() for variant in experiment.variants],
        "goals": [
            {"name": goal.name, "about": goal.about, "counts": [sign._asdict() for sign in goal.goal_events]}
            for goal in experiment.goals
        ],
    }

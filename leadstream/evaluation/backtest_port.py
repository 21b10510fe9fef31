"""The backtest as the gateway calls it: a draft or an active model, beside other active ones, on one tenant's archive.

Reads one moment of the store. An archive that is too large for a request is refused before anything is replayed.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import psycopg

from authoring.problem import Invalid, NotFound
from gateway.ports import BacktestRequest, RunBacktest, StepsDone
from leadstream.console import Failure
from leadstream.evaluation.backtest import Contender, RankedCutoff, backtest, backtest_result
from leadstream.evaluation.backtest_plan import RequestedPlan, plan_of, survey_archive
from leadstream.evaluation.model_sets import ModelSet, compile_draft, model_set_for
from leadstream.evaluation.recorded_events import count_events, recorded_events
from projections.connection import connect_watched
from projections.table_definition import READ_OPTIONS
from scoring.models.model import compile_model

MOST_EVENTS = 500_000
"""Of an archive that is replayed at a request."""
DRAFT_NAME = "draft"
_DAY_MS = 24 * 3_600_000
_OPTION = re.compile(r"--(\w+)")


def backtest_port(database_url: str) -> RunBacktest:
    def run_backtest(request: BacktestRequest) -> Iterator[StepsDone | Mapping[str, Any]]:
        try:
            yield from _steps(database_url, request)
        except Failure as failure:
            # Reasons are those of the command line, whose options are fields here.
            raise Invalid(_OPTION.sub(r"`\1`", str(failure)), field="conversion") from failure

    return run_backtest


def _steps(database_url: str, request: BacktestRequest) -> Iterator[StepsDone | Mapping[str, Any]]:
    base = model_set_for(database_url, request.tenant)
    contenders = _contenders(base, request)
    wishes = RequestedPlan(
        request.conversion,
        None if request.every_days is None else timedelta(days=request.every_days),
        None if request.horizon_days is None else timedelta(days=request.horizon_days),
        request.capacity,
        request.anonymous,
    )
    cutoffs = []
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        count = count_events(connection, request.tenant)
        if count > MOST_EVENTS:
            raise Invalid(
                f"the archive has {count:,} events, and a request replays at most {MOST_EVENTS:,}: "
                "run `leadstream backtest` where the server runs"
            )
        plan = plan_of(survey_archive(connection, request.tenant, anonymous=wishes.anonymous), wishes)
        yield StepsDone(0, count)
        for step in backtest(recorded_events(connection, request.tenant), contenders, base, plan, count):
            if isinstance(step, StepsDone):
                yield step
            elif any(ranking.leads for ranking in step.rankings.values()):
                cutoffs.append(step)
    yield {
        "tenant": request.tenant,
        "conversion": str(plan.conversion),
        "every_days": plan.every / _DAY_MS,
        "horizon_days": plan.horizon / _DAY_MS,
        "capacity": plan.capacity,
        "anonymous": plan.anonymous,
        "events": count,
        **_result(cutoffs),
    }


def _result(cutoffs: list[RankedCutoff]) -> dict[str, Any]:
    result = backtest_result(cutoffs)
    return {
        "cutoffs": len(cutoffs),
        "models": [{"model": name, **figures} for name, figures in result["pooled"].items()],
        "more_converted_than": [
            {"model": name, "leads": more} for name, more in result["more_converted_than"].items()
        ],
        "rules": result["rules"],
    }


def _contenders(base: ModelSet, request: BacktestRequest) -> list[Contender]:
    """The draft, or the active model, first. Raises ModelError and NotFound."""
    first = (
        _active(base, request.model)
        if request.text is None
        else Contender(DRAFT_NAME, compile_draft(request.text, request.model), base.with_draft(request.text))
    )
    others = [_active(base, name) for name in dict.fromkeys(request.against) if name != first.name]
    return [first, *others]


def _active(base: ModelSet, name: str) -> Contender:
    if name not in base.models:
        raise NotFound(f"no model {name} is active", field="against")
    active = base.models[name]
    return Contender(name, compile_model(active.text, active.folding), base)

"""/api/lead-tracking/analytics: how good leads are: quality, the distribution of scores, and whether scores foretell.

Quality and distribution are about all leads as they are now, deciles about the leads created in the window. Visitors
without a known identity are left out unless asked for. A rate is a share from 0 to 1, and null where there is nothing to
divide by.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from authoring.active_models import ActiveRules
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.leads import NO_NUL
from gateway.api.services import services_of, take_report_turn, tenant_of
from gateway.api.window import Anonymous, Days, From, Interval, To, Window, report_window
from gateway.documented import answer_docs, example_bodies
from gateway.store import Row
from projections import analytics
from projections.lead_scores import RANGE, score_distribution
from schemas.moment import millis, moment
from scoring.analytics.deciles import deciles
from scoring.analytics.periods import (
    Period,
    first_day_of_period,
    next_period,
    periods_of,
    previous_period,
)
from scoring.analytics.shares import mean, share
from scoring.evaluation.ranking import TiedLeads
from scoring.models.model import Model

MODEL = analytics.QUALITY_MODEL
GRADE, TEMPERATURE = "grade", "temperature"
"""The model's sets of bands."""
A_AND_B = frozenset({"A+", "A", "B+", "B"})
EXAMPLES = example_bodies("analytics")

ModelName = Annotated[
    str, Query(max_length=64, pattern=NO_NUL, description="The model whose scores are read.")
]

router = APIRouter(
    prefix="/api/lead-tracking",
    tags=["analytics"],
    dependencies=[Depends(take_report_turn, scope="function")],
)


# Quality


@router.get(
    "/analytics/lead-quality",
    summary="Leads by grade and temperature, with the average score now and before",
    responses=answer_docs(
        EXAMPLES["lead_quality"], "All leads as they are now; the window is that of the trend."
    ),
)
@router.get("/analytics/lead-quality/", include_in_schema=False)
async def lead_quality(
    request: Request,
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    interval: Interval = "weekly",
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    model = _model(active, MODEL)
    window = report_window(services, active.zone, days, begin, end)
    trend = [each for each in window.periods(interval) if moment(each.begin) <= window.as_of]
    months = _last_two_months(window)
    ends = _past_ends([*trend, *months], window.as_of)
    async with services.store.snapshot() as ask:
        bands, gains, created = await ask.all(
            analytics.leads_by_band(tenant, MODEL, anonymous=include_anonymous),
            analytics.points_gained(tenant, window.zone, ends, anonymous=include_anonymous),
            analytics.leads_created(tenant, ends, anonymous=include_anonymous),
        )
    leads, points = sum(row["leads"] for row in bands), sum(row["points"] for row in bands)
    now, averages = mean(points, leads), _averages_at(ends, points, gains, created)
    by_grade = _by_band(model, GRADE, bands)
    return JsonAnswer(
        {
            **window.shown(),
            "model": MODEL,
            "total_leads": leads,
            "average_score": now,
            "by_grade": by_grade,
            "by_temperature": _by_band(model, TEMPERATURE, bands),
            "a_b_share": share(sum(each["leads"] for each in by_grade if each["grade"] in A_AND_B), leads),
            "trend": [_average_json(each, averages, now) for each in trend],
            "score_improvement": _improvement_json(*(_average_json(each, averages, now) for each in months)),
        }
    )


def _last_two_months(window: Window) -> list[Period]:
    """The last month and this one, up to its end."""
    zone = window.zone
    this = first_day_of_period("monthly", zone.day_of(millis(window.as_of)))
    begin = zone.start_of(previous_period("monthly", this))
    return list(periods_of(zone, "monthly", begin, zone.start_of(next_period("monthly", this))))


def _past_ends(periods: Iterable[Period], as_of: datetime) -> list[datetime]:
    """Never empty, since the last month has ended."""
    return sorted({moment(each.end) for each in periods if moment(each.end) <= as_of})


def _averages_at(
    ends: Sequence[datetime], points: int, gains: Sequence[Row], created: Sequence[Row]
) -> dict[datetime, float | None]:
    """The average rounded total at each moment: the points of now without what was gained since, over the leads
    created by then.
    """
    return {
        end: mean(
            points - sum(row["points"] for row in gains if row["period"] > number),
            sum(row["leads"] for row in created if row["period"] <= number),
        )
        for number, end in enumerate(ends)
    }


def _average_json(
    period: Period, averages: Mapping[datetime, float | None], now: float | None
) -> dict[str, Any]:
    """At the end of the period; of now while the period runs."""
    begin, end = moment(period.begin), moment(period.end)
    return {"period": period.name, "from": begin, "to": end, "average_score": averages.get(end, now)}


def _improvement_json(previous: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    before, now = previous["average_score"], current["average_score"]
    return {
        "month": current["period"],
        "average_score": now,
        "previous_month": previous["period"],
        "previous_average_score": before,
        "change": None if before is None or now is None else round(now - before, 2),
    }


def _by_band(model: Model, scale: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The bands of the active model in its order, then those that leads have of an earlier one."""
    leads, points = Counter[str | None](), Counter[str | None]()
    for row in rows:
        band = row["bands"].get(scale)
        leads[band] += row["leads"]
        points[band] += row["points"]
    bands = dict.fromkeys([*model.band_sets.get(scale, ()), *sorted(filter(None, leads))])
    return [
        {
            scale: band,
            "leads": leads[band],
            "share": share(leads[band], leads.total()),
            "average_score": mean(points[band], leads[band]),
        }
        for band in bands
    ]


@router.get(
    "/analytics/distribution",
    summary="Leads by ranges of their score",
    responses=answer_docs(EXAMPLES["distribution"], "All leads as they are now."),
)
@router.get("/analytics/distribution/", include_in_schema=False)
async def distribution(
    request: Request, *, model: ModelName = MODEL, include_anonymous: Anonymous = False
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    name = _model(active, model).name
    rows = await services.store.rows(score_distribution(tenant, name, anonymous=include_anonymous))
    counts = {int(row["number"]): row["leads"] for row in rows}
    leads = sum(counts.values())
    return JsonAnswer(
        {
            "as_of": services.ports.now(),
            "time_zone": active.zone.time_zone,
            "model": name,
            "total_leads": leads,
            "average_score": mean(sum(row["points"] for row in rows), leads),
            "distribution": [
                {
                    "range": f"{RANGE * number}-{RANGE * (number + 1)}",
                    "leads": counts.get(number, 0),
                    "share": share(counts.get(number, 0), leads),
                }
                for number in range(5)
            ],
        }
    )


@router.get(
    "/analytics/deciles",
    summary="Do higher scores convert more often? Customers by score decile",
    responses=answer_docs(
        EXAMPLES["deciles"],
        "Leads created in the window, each with the score that it had before it became a customer.",
    ),
)
@router.get("/analytics/deciles/", include_in_schema=False)
async def conversion_by_decile(
    request: Request,
    model: ModelName = MODEL,
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    name, window = _model(active, model).name, report_window(services, active.zone, days, begin, end)
    rows = await services.store.rows(
        analytics.scores_before_conversion(
            tenant, name, window.begin, window.end, anonymous=include_anonymous
        )
    )
    leads, customers = sum(row["leads"] for row in rows), sum(row["customers"] for row in rows)
    groups = {row["rounded"]: TiedLeads(row["leads"], row["customers"]) for row in rows}
    return JsonAnswer(
        {
            **window.shown(),
            "model": name,
            "total_leads": leads,
            "customers": customers,
            "conversion_rate": share(customers, leads),
            "deciles": [each._asdict() for each in deciles(groups)],
        }
    )


# Values


def _model(active: ActiveRules, name: str) -> Model:
    if name not in active.models:
        raise RequestProblem(
            422, f"no such model is active; active are {', '.join(sorted(active.models))}", field="model"
        )
    return active.models[name]

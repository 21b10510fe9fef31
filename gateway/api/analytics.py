"""/api/lead-tracking/analytics: how leads go on: funnel, cohorts, what a customer takes, how soon sales writes.

Funnel, cohorts and speed are about the leads created in the window. Visitors without a known identity are left out unless
asked for. A rate is a share from 0 to 1, and null where there is nothing to divide by. Currencies are never added up.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway.answers import JsonAnswer
from gateway.api.services import services_of, take_report_turn, tenant_of
from gateway.api.window import Anonymous, Days, From, To, Window, report_window
from gateway.documented import answer_docs, example_bodies
from gateway.store import Row
from projections import analytics
from schemas.moment import millis, moment
from scoring.analytics.funnel import Conversion, conversions, funnel_steps
from scoring.analytics.orders import Money, amounts_of, sum_of_money
from scoring.analytics.periods import (
    PeriodType,
    first_day_of_period,
    previous_period,
)
from scoring.analytics.shares import mean, percentile_of_counts, share
from scoring.features.calendar import DAY_SECONDS
from scoring.lifecycle.lifecycle import compile_lifecycle
from scoring.lifecycle.transitions import SIDE_STAGES

MODEL = analytics.QUALITY_MODEL
DEFAULT_COHORTS = 12
TOUCHPOINT_RANGES = ((0, 0), (1, 1), (2, 3), (4, 6), (7, 10), (11, 20), (21, None))
NO_STAYS: Row = {"stays": 0, "mean": None, "median": None, "p90": None}
EXAMPLES = example_bodies("analytics")

router = APIRouter(
    prefix="/api/lead-tracking",
    tags=["analytics"],
    dependencies=[Depends(take_report_turn, scope="function")],
)


# Funnel


@router.get(
    "/analytics/funnel",
    summary="How many leads reached each stage, what share went on, and how long they stayed",
    responses=answer_docs(EXAMPLES["funnel"], "Leads created in the window; by default the last 90 days."),
)
@router.get("/analytics/funnel/", include_in_schema=False)
async def funnel(
    request: Request,
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    window = report_window(services, active.zone, days, begin, end)
    leads = tenant, window.begin, window.end
    async with services.store.snapshot() as ask:
        furthest, stays = await ask.all(
            analytics.furthest_steps(*leads, anonymous=include_anonymous),
            analytics.stage_stays(*leads, anonymous=include_anonymous),
        )
    by_step, by_stage = Counter[int](), Counter[str]()
    for row in furthest:
        by_step[row["step"]] += row["leads"]
        by_stage[row["stage"]] += row["leads"]
    times = {row["stage"]: row for row in stays}
    targets = compile_lifecycle(active.lifecycle).targets
    return JsonAnswer(
        {
            **window.shown(),
            "total_leads": by_step.total(),
            "stages": [
                {
                    **step._asdict(),
                    **_current_json(by_stage, step.stage),
                    **_time_in_stage(times.get(step.stage)),
                }
                for step in funnel_steps(by_step)
            ],
            "outside": [
                {"stage": stage, **_current_json(by_stage, stage), **_time_in_stage(times.get(stage))}
                for stage in SIDE_STAGES
            ],
            "conversions": [_conversion_json(each) for each in conversions(by_step, targets)],
        }
    )


def _current_json(by_stage: Counter[str], stage: str) -> dict[str, Any]:
    return {"current": by_stage[stage], "current_share": share(by_stage[stage], by_stage.total())}


def _conversion_json(conversion: Conversion) -> dict[str, Any]:
    return {
        "from": conversion.start,
        "to": conversion.to,
        "leads": conversion.leads,
        "converted": conversion.converted,
        "conversion_rate": conversion.rate,
        "target": conversion.target,
        "meets_target": conversion.meets_target,
    }


def _time_in_stage(row: Row | None) -> dict[str, Any]:
    """Of the stays that have ended."""
    of_stays = NO_STAYS if row is None else row
    return {
        "stays": of_stays["stays"],
        "avg_duration_days": _days(of_stays["mean"]),
        "median_duration_days": _days(of_stays["median"]),
        "p90_duration_days": _days(of_stays["p90"]),
    }


# Cohorts


@router.get(
    "/analytics/cohort",
    summary="Leads by the month or week of their creation: customers, revenue, average score",
    responses=answer_docs(EXAMPLES["cohort"], "By default the last twelve months, or weeks."),
)
@router.get("/analytics/cohort/", include_in_schema=False)
async def cohort(
    request: Request,
    cohort_type: Literal["monthly", "weekly"] = "monthly",
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    window = report_window(services, active.zone, days, begin, end)
    if days is None and begin is None:
        window = window._replace(begin=_begin_of_last_periods(window, cohort_type, DEFAULT_COHORTS))
    periods = window.periods(cohort_type)
    starts = [moment(each.begin) for each in periods]
    async with services.store.snapshot() as ask:
        counted, spent = await ask.all(
            analytics.cohorts(tenant, starts, window.end, anonymous=include_anonymous),
            analytics.cohort_revenue(tenant, starts, window.end, anonymous=include_anonymous),
        )
    counts = {row["period"]: row for row in counted}
    amounts: dict[int, Money] = defaultdict(dict)
    for row in spent:
        amounts[row["period"]][row["currency"]] = row["minor"]
    return JsonAnswer(
        {
            **window.shown(),
            "cohort_type": cohort_type,
            "cohorts": [
                {
                    "cohort": period.name,
                    "from": moment(period.begin),
                    "to": moment(period.end),
                    **_cohort_json([counts[number]] if number in counts else [], [amounts[number]]),
                }
                for number, period in enumerate(periods, 1)
            ],
            "total": _cohort_json(list(counts.values()), amounts.values()),
        }
    )


def _begin_of_last_periods(window: Window, period_type: PeriodType, count: int) -> datetime:
    first = first_day_of_period(period_type, window.zone.day_of(millis(window.end) - 1))
    for _ in range(count - 1):
        first = previous_period(period_type, first)
    return moment(window.zone.start_of(first))


def _cohort_json(rows: Sequence[Row], revenues: Iterable[Money]) -> dict[str, Any]:
    leads, customers, scored, points = (
        sum(row[name] for row in rows) for name in ("leads", "customers", "scored", "points")
    )
    return {
        "leads": leads,
        "customers": customers,
        "conversion_rate": share(customers, leads),
        "revenue": amounts_of(sum_of_money(revenues)),
        "average_score": mean(points, scored),
    }


# Conversion and contact


@router.get(
    "/analytics/touchpoints-to-conversion",
    summary="How many touchpoints, and how many days, it takes to win a customer",
    responses=answer_docs(EXAMPLES["touchpoints"], "Leads that first became customers in the window."),
)
@router.get("/analytics/touchpoints-to-conversion/", include_in_schema=False)
async def touchpoints_to_conversion(
    request: Request,
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    window = report_window(services, active.zone, days, begin, end)
    rows = await services.store.rows(
        analytics.touchpoints_before_conversion(tenant, window.begin, window.end, anonymous=include_anonymous)
    )
    counts = {row["touchpoints"]: row["leads"] for row in rows}
    customers = sum(counts.values())
    return JsonAnswer(
        {
            **window.shown(),
            "customers": customers,
            "avg_touchpoints": mean(sum(number * leads for number, leads in counts.items()), customers),
            "median_touchpoints": percentile_of_counts(counts, 50),
            "p90_touchpoints": percentile_of_counts(counts, 90),
            "avg_days_to_conversion": _days(
                sum(row["seconds"] for row in rows) / customers if customers else None
            ),
            "distribution": [
                {
                    "touchpoints": f"{low}+" if high is None else f"{low}-{high}" if high > low else str(low),
                    "customers": (
                        among := sum(
                            leads
                            for number, leads in counts.items()
                            if number >= low and (high is None or number <= high)
                        )
                    ),
                    "share": share(among, customers),
                }
                for low, high in TOUCHPOINT_RANGES
            ],
        }
    )


@router.get(
    "/analytics/speed-to-contact",
    summary="How soon sales writes to or calls a new lead",
    responses=answer_docs(EXAMPLES["speed"], "Leads created in the window; by default in the last 90 days."),
)
@router.get("/analytics/speed-to-contact/", include_in_schema=False)
async def speed_to_contact(
    request: Request,
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    window = report_window(services, active.zone, days, begin, end)
    (row,) = await services.store.rows(
        analytics.speed_to_contact(tenant, window.begin, window.end, anonymous=include_anonymous)
    )
    return JsonAnswer(
        {
            **window.shown(),
            "total_leads": row["leads"],
            "contacted": row["contacted"],
            "contacted_share": share(row["contacted"], row["leads"]),
            "outbound": row["outbound"],
            "avg_seconds": _seconds(row["mean"]),
            "median_seconds": _seconds(row["median"]),
            "p90_seconds": _seconds(row["p90"]),
            **{name: share(row[name], row["leads"]) for name in analytics.CONTACT_LIMITS},
        }
    )


# Values


def _days(seconds: float | Decimal | None) -> float | None:
    return None if seconds is None else round(float(seconds) / DAY_SECONDS, 4)


def _seconds(seconds: float | Decimal | None) -> float | None:
    return None if seconds is None else round(float(seconds), 1)

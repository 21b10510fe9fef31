"""/api/lead-tracking/analytics and engagement/stats: reports over many leads.

Funnel, cohorts and speed are about the leads created in the window, quality and distribution about all leads as they are
now, engagement about what happened in the window. Visitors without a known identity are left out unless asked for. A
rate is a share from 0 to 1, and null where there is nothing to divide by. Currencies are never added up.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from authoring.active_models import ActiveRules
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.leads import NO_NUL
from gateway.api.services import ApiServices, services_of, take_report_turn, tenant_of
from gateway.api.window import Anonymous, Days, From, To, Window, read_window
from gateway.documented import answer_docs, example_bodies
from gateway.store import Row
from projections import analytics
from projections.lead_scores import RANGE, score_distribution
from schemas.moment import millis, moment
from scoring.analytics.deciles import deciles
from scoring.analytics.funnel import Conversion, conversions, funnel_steps
from scoring.analytics.orders import PURCHASE, Money, Order, OrderReport, Orders, revenue_of, sum_of_money
from scoring.analytics.periods import (
    Period,
    PeriodType,
    first_day_of_period,
    next_period,
    periods_of,
    previous_period,
)
from scoring.analytics.shares import mean, percentile_of_counts, share, trend_direction
from scoring.evaluation.ranking import TiedLeads
from scoring.features.calendar import DAY_SECONDS
from scoring.features.signals import major_units, minor_units
from scoring.lifecycle.lifecycle import compile_lifecycle
from scoring.lifecycle.transitions import SIDE_STAGES
from scoring.models.model import Model

MODEL = analytics.QUALITY_MODEL
GRADE, TEMPERATURE = "grade", "temperature"
"""The model's sets of bands."""
DEFAULT_DAYS = 90
DEFAULT_COHORTS = 12
A_AND_B = frozenset({"A+", "A", "B+", "B"})
TOUCHPOINT_RANGES = ((0, 0), (1, 1), (2, 3), (4, 6), (7, 10), (11, 20), (21, None))
NO_STAYS: Row = {"stays": 0, "mean": None, "median": None, "p90": None}
EXAMPLES = example_bodies("analytics")

Interval = Annotated[PeriodType, Query(description="The length of the periods.")]
ModelName = Annotated[
    str, Query(max_length=64, pattern=NO_NUL, description="The model whose scores are read.")
]

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
    window = _window(services, active, days, begin, end)
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
                {**step._asdict(), "current": by_stage[step.stage], **_time_in_stage(times.get(step.stage))}
                for step in funnel_steps(by_step)
            ],
            "outside": [
                {"stage": stage, "current": by_stage[stage], **_time_in_stage(times.get(stage))}
                for stage in SIDE_STAGES
            ],
            "conversions": [_conversion_json(each) for each in conversions(by_step, targets)],
        }
    )


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
    window = _window(services, active, days, begin, end)
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
    leads, customers, points = (sum(row[name] for row in rows) for name in ("leads", "customers", "points"))
    return {
        "leads": leads,
        "customers": customers,
        "conversion_rate": share(customers, leads),
        "revenue": _revenue(sum_of_money(revenues)),
        "average_score": mean(points, leads),
    }


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
    window = _window(services, active, days, begin, end)
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
    name, window = _model(active, model).name, _window(services, active, days, begin, end)
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


# Engagement


@router.get(
    "/engagement/stats/summary",
    summary="Engagements of all leads by type and channel, with revenue, rate and trend",
    responses=answer_docs(EXAMPLES["engagement"], "What happened in the window; by default in 90 days."),
)
@router.get("/engagement/stats/summary/", include_in_schema=False)
async def engagement_summary(
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
    window = _window(services, active, days, begin, end)
    periods = window.periods(interval)
    starts = [moment(each.begin) for each in periods]
    before = moment(2 * millis(window.begin) - millis(window.end))
    async with services.store.snapshot() as ask:
        rows, purchases, created = await ask.all(
            analytics.engagements_by_type(
                tenant, window.zone, before, starts, window.end, anonymous=include_anonymous
            ),
            analytics.purchase_reports(tenant, anonymous=include_anonymous),
            analytics.leads_created(tenant, [window.end], anonymous=include_anonymous),
        )
    orders = [
        order
        for order in _orders_of_leads(purchases)
        if millis(window.begin) <= order.at < millis(window.end)
    ]
    inside = [row for row in rows if row["period"]]
    by_period = Counter[int]()
    for row in inside:
        by_period[row["period"]] += row["engagements"]
    orders_of_period = _by_period(orders, periods)
    total, previous = (sum(row["engagements"] for row in each) for each in (inside, rows))
    previous -= total
    leads = sum(row["leads"] for row in created if row["period"] == 0)
    return JsonAnswer(
        {
            **window.shown(),
            "total_engagements": total,
            "total_leads": leads,
            "engagement_rate": mean(total, leads),
            "revenue": _revenue(revenue_of(orders)),
            "by_type": _engagements_by("type", inside, leads, {PURCHASE: orders}),
            "by_channel": _engagements_by("channel", inside, leads, _by_channel(orders)),
            "by_period": [
                {
                    "period": period.name,
                    "from": moment(period.begin),
                    "to": moment(period.end),
                    "engagements": by_period[number],
                    "revenue": _revenue(revenue_of(orders_of_period[number])),
                }
                for number, period in enumerate(periods, 1)
            ],
            "trend": {
                "direction": trend_direction(total, previous),
                "previous_engagements": previous,
                "change": share(total - previous, previous),
            },
        }
    )


def _orders_of_leads(rows: Iterable[Row]) -> Iterator[Order]:
    """The orders of all leads, of every report of a purchase or a refund."""
    by_lead = defaultdict[int, Orders](Orders)
    for row in rows:
        by_lead[row["lead_key"]].add(
            OrderReport(
                row["identity_key"],
                row["event_id"],
                row["type"],
                row["channel"],
                millis(row["occurred_at"]),
                row["order_id"],
                row["refund_id"],
                row["currency"],
                minor_units(row["value"], row["currency"]),
            )
        )
    return chain.from_iterable(by_lead.values())


def _by_channel(orders: Iterable[Order]) -> dict[str, list[Order]]:
    by_channel = defaultdict[str, list[Order]](list)
    for order in orders:
        by_channel[order.channel].append(order)
    return by_channel


def _by_period(orders: Iterable[Order], periods: Sequence[Period]) -> Mapping[int, Sequence[Order]]:
    """By the number of the period, from 1."""
    begins = [period.begin for period in periods]
    by_number = defaultdict[int, list[Order]](list)
    for order in orders:
        by_number[bisect_right(begins, order.at)].append(order)
    return by_number


def _engagements_by(
    column: str, rows: Sequence[Row], leads: int, orders: Mapping[str, Sequence[Order]]
) -> list[dict[str, Any]]:
    """The most frequent first."""
    counts = Counter[str]()
    for row in rows:
        counts[row[column]] += row["engagements"]
    return [
        {
            f"engagement_{column}": name,
            "engagements": counts[name],
            "share": share(counts[name], counts.total()),
            "engagement_rate": mean(counts[name], leads),
            "revenue": _revenue(revenue_of(orders.get(name, ()))),
        }
        for name in sorted(counts.keys() | orders.keys(), key=lambda name: (-counts[name], name))
    ]


def _revenue(money: Money) -> dict[str, Decimal]:
    return {currency: major_units(minor, currency) for currency, minor in money.items()}


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
    window = _window(services, active, days, begin, end)
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
    window = _window(services, active, days, begin, end)
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


def _window(
    services: ApiServices, active: ActiveRules, days: int | None, begin: str | None, end: str | None
) -> Window:
    return read_window(active.zone, services.ports.now(), days, begin, end, default_days=DEFAULT_DAYS)


def _model(active: ActiveRules, name: str) -> Model:
    if name not in active.models:
        raise RequestProblem(
            422, f"{name} is not active; active are {', '.join(sorted(active.models))}", field="model"
        )
    return active.models[name]


def _days(seconds: float | Decimal | None) -> float | None:
    return None if seconds is None else round(float(seconds) / DAY_SECONDS, 4)


def _seconds(seconds: float | Decimal | None) -> float | None:
    return None if seconds is None else round(float(seconds), 1)

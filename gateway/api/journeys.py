"""/api/lead-tracking/journey and /summaries: what happened to a lead, how it goes on, and what each day, week or month
brought.

One lead's answers are computed from its facts at the request, those about all leads from the tables that the analytics
worker keeps. Those tables also answer for a lead with more facts than COMPUTED_FACTS; only its timeline, which is read page
by page, is never behind. Everything that depends on the present is of the moment `as_of`. Currencies are never added up.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from authoring.active_models import ActiveRules
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.found_leads import found_lead, lead_id_as_sent, merged_reason, was_merged
from gateway.api.lead_as_of import LeadAsOf, execution_then
from gateway.api.lead_moment import AsKnown, AsOf, LeadRequest, facts_then, lead_request, lead_there_at
from gateway.api.lifecycle import weight_of_engagement
from gateway.api.points import plain
from gateway.api.services import ApiServices, services_of, take_report_turn, tenant_of
from gateway.api.timeline_shapes import timeline_json
from gateway.api.window import MOST_PERIODS, Anonymous, Days, From, To, Window, read_window, report_window
from gateway.documented import answer_docs, example_bodies
from gateway.store import Row, StoreSnapshot
from projections import journeys as statements
from projections import queries
from projections.lead_facts import facts_of_rows, has_many_facts, select_facts, select_latest_facts
from projections.stored_journeys import day_of_row, journey_of_row, stored_days, stored_journey
from projections.workflow_queries import executions_of_lead
from schemas.moment import millis, moment
from scoring.analytics.facts import ExecutionFact, LeadFacts
from scoring.analytics.orders import Money, amounts_of
from scoring.analytics.periods import PeriodType, period_name
from scoring.analytics.shares import mean, share, trend_direction
from scoring.features.calendar import DAY_MS, HOUR_MS, Calendar, date_of_day, day_of_date
from scoring.features.signals import major_units
from scoring.journeys.day_summary import DaySummary, day_summaries
from scoring.journeys.journey import (
    CHURN_DAYS,
    HIGH_CHURN_RISK,
    PATH_ARROW,
    TREND_DAYS,
    LeadJourney,
    activity_status_of,
    churn_risk_of,
    completed_stages,
    decile_of,
    journey_of,
    local_date,
    path_deviation,
    predicted_value,
)
from scoring.journeys.period_summary import SUMMED, PeriodSummary, period_summaries
from scoring.journeys.timeline import KEY_LENGTH, TimelineKey, page_before, timeline_of

TIMELINE_PAGE, LONGEST_TIMELINE_PAGE = 50, 500
EXECUTIONS_READ = 1_000
"""Workflows that were triggered for a lead, the latest, in its timeline."""
SUMMARIES_PAGE = 50
DEFAULT_DAYS: Mapping[PeriodType, int] = {"daily": 30, "weekly": 12 * 7, "monthly": 365}
COMPUTED_FACTS = 500
"""Events of a lead, and changes of its score, of which a request computes the numbers itself."""
LONGEST_PERIOD_DAYS: Mapping[PeriodType, int] = {"daily": 1, "weekly": 7, "monthly": 31}
ALL_TIME = None
"""The overview is about all leads unless a window is named."""
EMAIL_ENGAGEMENTS = ("email_opened", "email_clicked", "email_replied")
MILESTONES = ("qualified", "opportunity", "customer")
TIMELINE_CURSOR = rf"^-?\d{{1,19}}(_-?\d{{1,19}}){{{KEY_LENGTH - 1}}}$"
VALUE_NAMES = ("lifetime_value", "total_revenue", "predicted_value")
EXAMPLES = example_bodies("journeys")

ValueGroups = Sequence[Row]
Period = Annotated[PeriodType, Query(description="daily, weekly (ISO weeks) or monthly.")]

router = APIRouter(
    prefix="/api/lead-tracking", tags=["journeys"], dependencies=[Depends(take_report_turn, scope="function")]
)


# Journeys


@router.get(
    "/journey/stats/overview",
    summary="How the journeys of all leads go: trends, churn risk, duration, lifetime value",
    responses=answer_docs(EXAMPLES["overview"], "Of leads created in the window; by default of all leads."),
)
@router.get("/journey/stats/overview/", include_in_schema=False)
async def overview(
    request: Request,
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    window = report_window(services, active.zone, days, begin, end, ALL_TIME)
    of_leads = tenant, window.begin, window.end
    async with services.store.snapshot() as ask:
        rows, revenue = await ask.all(
            statements.journey_overview(
                *of_leads,
                today=local_date(window.zone, millis(window.as_of)),
                zone=window.zone.time_zone,
                anonymous=include_anonymous,
            ),
            statements.journey_revenue(*of_leads, anonymous=include_anonymous),
        )
    (counted,) = rows
    leads = counted["leads"]

    def average(name: str, divisor: int = 1) -> float | None:
        return mean((counted[name] or 0) / divisor, leads)

    return JsonAnswer(
        {
            **window.shown(),
            "total_journeys": leads,
            "avg_duration_days": average("duration_days"),
            "avg_days_since_last_activity": average("idle_days"),
            "avg_engagements": average("engagements"),
            "avg_touchpoints": average("touchpoints"),
            "engagement_trends": {name: counted[name] for name in ("increasing", "stable", "declining")},
            "activity": {name: counted[name] for name in ("active", "dormant", "inactive")},
            "high_churn_risk_count": counted["high_risk"],
            "high_churn_risk_share": share(counted["high_risk"], leads),
            "avg_risk_of_churn": average("risk", CHURN_DAYS),
            "revenue": {row["currency"]: _overview_revenue(row, leads) for row in revenue},
        }
    )


@router.get(
    "/journey/{lead_id:path}",
    summary="The journey of a lead: its numbers, milestones, health, and a page of its timeline",
    responses=answer_docs(
        EXAMPLES["journey"], "The timeline begins with the newest; `next_cursor` continues it."
    ),
)
async def journey(
    request: Request,
    lead_id: str,
    limit: Annotated[
        int, Query(ge=1, le=LONGEST_TIMELINE_PAGE, description="Items of the timeline.")
    ] = TIMELINE_PAGE,
    cursor: Annotated[
        str | None, Query(pattern=TIMELINE_CURSOR, description="`next_cursor` of the page before.")
    ] = None,
    as_of: AsOf = None,
    knowledge: AsKnown = "then",
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
    now, before, zone = moment_of_lead.at, _timeline_key(cursor), active.zone
    async with services.store.snapshot() as ask:
        lead, then = await _lead_at(ask, services, active, tenant, lead_id, moment_of_lead)
        if then is not None:
            zone = then.active.zone
        today = local_date(zone, millis(now))
        stored = None if then is not None else await _stored_journey(ask, lead)
        if then is not None:
            facts, days = await facts_then(ask, then, moment_of_lead), None
        elif stored is None:
            facts, days = await _facts_of_lead(ask, lead), None
        else:
            *latest, rows = await ask.all(
                *select_latest_facts(lead["lead_key"], limit + 1, before),
                stored_days(
                    lead["lead_key"],
                    today - timedelta(2 * TREND_DAYS - 1),
                    today + timedelta(1),
                    limit=2 * TREND_DAYS,
                ),
            )
            facts, days = facts_of_rows(*latest)[lead["lead_key"]], [day_of_row(row) for row in rows]
        (executions,) = await ask.all(
            executions_of_lead(tenant, lead["lead_id"], limit=EXECUTIONS_READ, until=moment_of_lead.until)
        )
        usual: Sequence[Row] = ()
        groups: ValueGroups = ()
        if not moment_of_lead.is_past:  # what other leads were then is not kept
            usual, groups = await ask.all(
                statements.usual_path(tenant, lead["stage"]),
                statements.value_groups(tenant, lead["stage"], now),
            )

    def answer() -> JsonAnswer:
        by_number = {
            row["execution_id"]: execution_then(row, now) if moment_of_lead.is_past else row
            for row in executions
        }
        triggered = [ExecutionFact(millis(row["at"]), number) for number, row in by_number.items()]
        every = timeline_of(facts, triggered)
        if as_of is not None:
            every = [each for each in every if each.at <= millis(now)]
        items, following = page_before(every, limit, before)
        of_lead = journey_of(facts, zone) if stored is None else stored
        trend = _interactions_of_trend(day_summaries(facts, zone) if days is None else days, today)
        return JsonAnswer(
            {
                "lead_id": lead_id_as_sent(lead["lead_id"]),
                "as_of": now,
                "time_zone": zone.time_zone,
                "journey": _journey_json(lead, of_lead, zone, today, trend, usual, groups),
                "timeline": [timeline_json(item, by_number) for item in items],
                "next_cursor": None if following is None else "_".join(map(str, following)),
            }
        )

    return await asyncio.to_thread(answer)


def _journey_json(
    lead: Row,
    of_lead: LeadJourney,
    zone: Calendar,
    today: date,
    interactions: tuple[int, int],
    usual: Sequence[Row],
    groups: ValueGroups,
) -> dict[str, Any]:
    recent, before = interactions
    trend = trend_direction(recent, before)
    created_at, last_day = millis(lead["created_at"]), of_lead.last_interaction_day
    idle_days = max((today - (last_day or local_date(zone, created_at))).days, 0)
    risk = churn_risk_of(idle_days, trend)
    last_at = of_lead.last_interaction_at
    path = of_lead.stage_path.split(PATH_ARROW)
    return {
        "journey_start_date": moment(created_at),
        "last_activity_date": _moment_or_none(last_at),
        "duration_days": round(max((last_at or 0) - created_at, 0) / DAY_MS, 2),
        "current_stage": lead["stage"],
        "furthest_stage": of_lead.furthest_stage,
        "completed_stages": completed_stages(path),
        "stages_entered": {stage: moment(at) for stage, at in of_lead.entered.items()},
        "milestones": {
            "first_contact": _moment_or_none(of_lead.first_contact_at),
            **{name: _moment_or_none(of_lead.reached.get(name)) for name in MILESTONES},
        },
        "total_engagements": of_lead.engagements,
        "total_touchpoints": of_lead.touchpoints,
        "email_engagements": sum(of_lead.type_counts.get(name, 0) for name in EMAIL_ENGAGEMENTS),
        "form_submissions": of_lead.type_counts.get("form_submitted", 0),
        "page_views": of_lead.type_counts.get("page_viewed", 0),
        "purchases": of_lead.orders,
        "touchpoints_by_type": of_lead.type_counts,
        "touchpoints_by_channel": of_lead.channel_counts,
        "time_between_touches": {
            "average_hours": _hours_or_none(of_lead.average_gap_ms),
            "median_hours": _hours_or_none(of_lead.median_gap_ms),
            "longest_hours": _hours_or_none(of_lead.longest_gap_ms),
        },
        "engagement_trend": trend,
        "trend": {"days": TREND_DAYS, "recent": recent, "before": before},
        "days_since_last_activity": None if last_day is None else max((today - last_day).days, 0),
        "activity_status": activity_status_of(None if last_day is None else idle_days),
        "risk_of_churn": float(round(risk, 4)),
        "high_churn_risk": risk > HIGH_CHURN_RISK,
        **_value_json(of_lead, groups),
        "path": _path_json(path, usual),
    }


def _interactions_of_trend(days: Iterable[DaySummary], today: date) -> tuple[int, int]:
    """(in the later window, in the one before it)"""
    since, earliest = today - timedelta(TREND_DAYS), today - timedelta(2 * TREND_DAYS)
    recent = before = 0
    for each in days:
        if since < each.day <= today:
            recent += each.interactions
        elif earliest < each.day <= since:
            before += each.interactions
    return recent, before


def _path_json(path: Sequence[str], usual: Sequence[Row]) -> dict[str, Any]:
    """The lead's stages beside the commonest path of the leads that are in the same stage now."""
    common = usual[0]["stage_path"].split(PATH_ARROW) if usual else None
    return {
        "stages": path,
        "usual": common,
        "usual_share": share(usual[0]["leads"], usual[0]["of"]) if usual else None,
        "deviation": None if common is None else float(round(path_deviation(path, common), 4)),
    }


# Values


def _value_json(of_lead: LeadJourney, groups: ValueGroups) -> dict[str, Any]:
    """By currency; the names alone are of the only one, else null."""
    decile = None if of_lead.score is None else decile_of(of_lead.score)
    currencies = sorted({*of_lead.gross, *(row["currency"] for row in groups if row["currency"])})
    revenue = {
        currency: {
            "lifetime_value": major_units(of_lead.net.get(currency, 0), currency),
            "total_revenue": major_units(of_lead.gross.get(currency, 0), currency),
            "predicted_value": None if decile is None else _predicted(groups, currency, decile),
        }
        for currency in currencies
    }
    only = currencies[0] if len(currencies) == 1 else None
    alone = dict.fromkeys(VALUE_NAMES) if only is None else revenue[only]
    return {**alone, "currency": only, "revenue": revenue}


def _predicted(groups: ValueGroups, currency: str, decile: int) -> Decimal | None:
    counted = [row for row in groups if row["currency"] is None]
    earned = [row for row in groups if row["currency"] == currency]

    def total(rows: Iterable[Row], name: str, *, own: bool) -> int:
        return sum(int(row[name]) for row in rows if not own or row["decile"] == decile)

    value = predicted_value(
        total(earned, "minor", own=True),
        total(counted, "leads", own=True),
        total(earned, "minor", own=False),
        total(counted, "leads", own=False),
    )
    return None if value is None else major_units(value, currency)


def _overview_revenue(row: Row, leads: int) -> dict[str, Any]:
    currency = row["currency"]
    return {
        "customers": row["customers"],
        "total_lifetime_value": major_units(row["net"], currency),
        "avg_lifetime_value": major_units(Decimal(row["net"]) / leads, currency) if leads else None,
        "total_revenue": major_units(row["gross"], currency),
    }


# Timeline


def _timeline_key(cursor: str | None) -> TimelineKey | None:
    """Raises RequestProblem."""
    if cursor is None:
        return None
    key = tuple(int(part) for part in cursor.split("_"))
    if not all(-(2**63) <= number < 2**63 for number in key):
        raise RequestProblem(422, "must be the cursor that the page before gave", field="cursor")
    return key


# Summaries


@router.get(
    "/summaries",
    summary="What each day, week or month brought, over all leads",
    responses=answer_docs(
        EXAMPLES["summaries"], "The latest period first; periods without anything are left out."
    ),
)
@router.get("/summaries/", include_in_schema=False)
async def summaries(
    request: Request,
    period: Period = "daily",
    days: Days = None,
    begin: From = None,
    end: To = None,
    *,
    include_anonymous: Anonymous = False,
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    window = report_window(services, active.zone, days, begin, end, DEFAULT_DAYS[period])
    window.periods(period)  # refuses too many
    within = tenant, period, *_days_of(window)
    async with services.store.snapshot() as ask:
        rows, revenue, created = await ask.all(
            statements.tenant_summaries(*within, anonymous=include_anonymous),
            statements.tenant_revenue(*within, anonymous=include_anonymous),
            statements.new_leads(
                tenant,
                period,
                window.begin,
                window.end,
                zone=window.zone.time_zone,
                anonymous=include_anonymous,
            ),
        )
    money: defaultdict[date, Money] = defaultdict(dict)
    for row in revenue:
        money[row["period"]][row["currency"]] = int(row["minor"])
    by_period = {row["period"]: row["leads"] for row in created}
    weight = weight_of_engagement(active.models)
    return JsonAnswer(
        {
            **window.shown(),
            "period_type": period,
            "summaries": [
                {
                    "period": period_name(period, day_of_date(row["period"])),
                    "period_start": moment(window.zone.start_of(day_of_date(row["period"]))),
                    "active_leads": row["active_leads"],
                    "new_leads": by_period.get(row["period"], 0),
                    **_counts_json(row),
                    "revenue": amounts_of(money[row["period"]]),
                    "engagement_score": plain(round(Decimal(row["engagement"]) / weight, 6)),
                    "avg_score_change": mean(row["score_change"], row["leads"]),
                }
                for row in rows
            ],
        }
    )


@router.get(
    "/summaries/{lead_id:path}",
    summary="What each day, week or month of a lead brought",
    responses=answer_docs(
        EXAMPLES["lead_summaries"], "The latest period first; periods without anything are left out."
    ),
)
async def lead_summaries(
    request: Request,
    lead_id: str,
    period: Period = "daily",
    days: Days = None,
    begin: From = None,
    end: To = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PERIODS, description="Periods of the page.")] = SUMMARIES_PAGE,
    cursor: Annotated[
        str | None, Query(pattern=r"^\d{4}-\d\d-\d\d$", description="`next_cursor` of the page before.")
    ] = None,
    as_of: AsOf = None,
    knowledge: AsKnown = "then",
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    active = await services.ports.published(tenant)
    moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
    before = _day_of_cursor(cursor)
    async with services.store.snapshot() as ask:
        lead, then = await _lead_at(ask, services, active, tenant, lead_id, moment_of_lead)
        if then is not None:
            active = then.active
        window = read_window(active.zone, moment_of_lead.at, days, begin, end, default_days=ALL_TIME)
        first, until = _days_of(window)
        if then is not None:
            facts = await facts_then(ask, then, moment_of_lead)
            active_days = await asyncio.to_thread(day_summaries, facts, window.zone)
        elif await _stored_journey(ask, lead) is None:
            facts = await _facts_of_lead(ask, lead)
            active_days = await asyncio.to_thread(day_summaries, facts, window.zone)
        else:
            most = (limit + 1) * LONGEST_PERIOD_DAYS[period]
            rows = await ask(stored_days(lead["lead_key"], first, min(until, before or until), limit=most))
            active_days = [day_of_row(row) for row in reversed(rows)]
    periods = period_summaries([each for each in active_days if first <= each.day < until], period)
    older = [each for each in reversed(periods) if before is None or each.begin < before]
    weight = weight_of_engagement(active.models)
    today = local_date(window.zone, millis(window.as_of))
    return JsonAnswer(
        {
            "lead_id": lead_id_as_sent(lead["lead_id"]),
            **window.shown(),
            "period_type": period,
            "summaries": [_summary_json(each, window.zone, today, weight) for each in older[:limit]],
            "next_cursor": older[limit - 1].begin if len(older) > limit else None,
        }
    )


def _day_of_cursor(cursor: str | None) -> date | None:
    """Raises RequestProblem."""
    try:
        return None if cursor is None else date.fromisoformat(cursor)
    except ValueError:
        raise RequestProblem(422, "must be the cursor that the page before gave", field="cursor") from None


def _summary_json(each: PeriodSummary, zone: Calendar, today: date, weight: Decimal) -> dict[str, Any]:
    """The activity status is that of the period's last day, or of today if that is not over."""
    last_at = each.last_interaction_at
    last_day = min(each.until - timedelta(1), today)
    idle = None if last_at is None else (last_day - local_date(zone, last_at)).days
    return {
        "period": each.name,
        "period_start": moment(zone.start_of(day_of_date(each.begin))),
        "period_end": moment(zone.start_of(day_of_date(each.until))),
        **_counts_json(each.counts),
        "revenue": amounts_of(each.net),
        "engagement_score": plain(round(each.engagement / weight, 6)),
        "score_start": each.score_start,
        "score_end": each.score_end,
        "score_change": each.score_end - each.score_start,
        "stage_start": each.stage_start,
        "stage_end": each.stage_end,
        "stage_changed": each.counts["stage_changes"] > 0,
        "activity_status": activity_status_of(idle),
    }


_SHOWN_NAMES: Mapping[str, str] = {
    "interactions": "total_engagements",
    "touchpoints": "total_touchpoints",
    "orders": "purchases",
}


def _counts_json(counts: Mapping[str, Any]) -> dict[str, int]:
    return {_SHOWN_NAMES.get(name, name): int(counts[name]) for name in SUMMED}


# What they share


async def _lead_at(
    ask: StoreSnapshot,
    services: ApiServices,
    active: ActiveRules,
    tenant: str,
    lead_id: str,
    request: LeadRequest,
) -> tuple[Row, LeadAsOf | None]:
    """Its row, and the lead as of the moment; None: of now. Raises RequestProblem."""
    lead = found_lead(await ask(queries.lead(tenant, lead_id.removesuffix("/"))))
    then = None
    if request.as_of is not None:
        then = await lead_there_at(ask, services.ports.past_leads, active, lead, request)
        lead = {**then.row, "lead_key": lead["lead_key"]}
    if lead["identities"] == 0:
        merged = was_merged(lead)
        reason = merged_reason(lead, "ask for that") if merged else "the lead has no events"
        raise RequestProblem(409, reason, field="lead_id")
    return lead, then


async def _facts_of_lead(ask: StoreSnapshot, lead: Row) -> LeadFacts:
    rows = await ask.all(*select_facts([lead["lead_key"]]))
    return (await asyncio.to_thread(facts_of_rows, *rows))[lead["lead_key"]]


async def _stored_journey(ask: StoreSnapshot, lead: Row) -> LeadJourney | None:
    """Of a lead with many facts, as the worker computed it last."""
    (counted,) = await ask(has_many_facts(lead["lead_key"], COMPUTED_FACTS))
    rows = await ask(stored_journey(lead["lead_key"])) if counted["many"] else ()
    return journey_of_row(rows[0]) if rows else None


def _days_of(window: Window) -> tuple[date, date]:
    """The local days that the window touches, half-open."""
    first = window.zone.day_of(millis(window.begin))
    until = window.zone.day_of(millis(window.end) - 1) + 1 if window.end > window.begin else first
    return date_of_day(first), date_of_day(until)


def _hours_or_none(ms: int | None) -> float | None:
    return None if ms is None else round(ms / HOUR_MS, 2)


def _moment_or_none(at: int | None) -> datetime | None:
    return None if at is None else moment(at)

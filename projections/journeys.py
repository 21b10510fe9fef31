"""Statements over the stored journeys and days of many leads. No I/O.

What depends on the present is computed here as `scoring.journeys.journey` does it for one lead; `today` is the local day
of the moment that the answer names.
"""

# ruff: noqa: S608 - every statement is made of constants

from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import TextClause, text

from scoring.analytics.periods import PeriodType
from scoring.analytics.shares import STABLE_WITHIN_PERCENT
from scoring.journeys.journey import (
    ACTIVE_DAYS,
    CHURN_DAYS,
    DECILES,
    DORMANT_DAYS,
    HIGH_CHURN_RISK,
    TREND_DAYS,
)
from scoring.journeys.period_summary import SUMMED

GROWN_AGE: Final = timedelta(days=90)
"""Only leads at least so old predict what others will be worth."""

_DECILE: Final = f"least(greatest(score, 0) / 10, {DECILES - 1})"
_IDLE_DAYS: Final = "(:today - coalesce(j.last_interaction_day, (j.created_at at time zone :zone)::date))"
_DAY_SECONDS: Final = 86_400
_TRUNCATED_TO: Final[dict[PeriodType, str]] = {"daily": "day", "weekly": "week", "monthly": "month"}


def _statement(sql: str, **parameters: Any) -> TextClause:
    return text(sql).bindparams(**parameters)


def usual_path(tenant: str, stage: str) -> TextClause:
    """(stage_path, leads, of): the commonest path to the stage, and how many leads are in the stage."""
    return _statement(
        """select stage_path, count(*) as leads, sum(count(*)) over ()::bigint as of from lead_journeys
        where tenant = :tenant and stage = :stage group by stage_path order by leads desc, stage_path limit 1""",
        tenant=tenant,
        stage=stage,
    )


def value_groups(tenant: str, as_of: datetime) -> TextClause:
    """(stage, decile, currency, leads, minor): identified leads that are old enough. The rows without a currency count
    the leads; the others sum the net revenue of one currency.
    """
    return _statement(
        f"""with grown as materialized (
            select stage, {_DECILE} as decile, net from lead_journeys
            where tenant = :tenant and identified and created_at <= :grown)
        select stage, decile, null as currency, count(*) as leads, null::numeric as minor from grown group by 1, 2
        union all
        select stage, decile, n.key, null, sum(n.value::numeric) from grown, jsonb_each_text(net) n
        where net <> '{{}}' group by 1, 2, 3""",
        tenant=tenant,
        grown=as_of - GROWN_AGE,
    )


def journey_overview(
    tenant: str, begin: datetime, end: datetime, *, today: date, zone: str, anonymous: bool
) -> TextClause:
    """By trend and activity status: leads, high_risk, risk, duration_days, idle_days, engagements, touchpoints; all sums.
    Of the leads created in the window.
    """
    return _statement(
        f"""with counted as (
            select lead_key,
                sum(interactions) filter (where day > :today - {TREND_DAYS}) as recent,
                sum(interactions) filter (where day <= :today - {TREND_DAYS}) as before
            from lead_days
            where tenant = :tenant and day > :today - {2 * TREND_DAYS} and day <= :today and interactions > 0
            group by lead_key),
        trends as (
            select j.*, greatest({_IDLE_DAYS}, 0) as idle_days, case
                when abs(recent - before) * 100 <= {STABLE_WITHIN_PERCENT} * before then 'stable'
                when recent > before then 'increasing' else 'declining' end as trend
            from (
                select j.*, coalesce(c.recent, 0) as recent, coalesce(c.before, 0) as before
                from lead_journeys j left join counted c using (lead_key)
                where j.tenant = :tenant and (:anonymous or j.identified)
                and j.created_at >= :begin and j.created_at < :end) j),
        risks as (
            select *, least(least(idle_days::numeric / {CHURN_DAYS}, 1)
                + case trend when 'declining' then 0.1 else 0 end, 1) as risk
            from trends)
        select trend,
            case when last_interaction_day is null or idle_days > {DORMANT_DAYS} then 'inactive'
                when idle_days <= {ACTIVE_DAYS} then 'active' else 'dormant' end as activity_status,
            count(*) as leads,
            count(*) filter (where risk > {HIGH_CHURN_RISK}) as high_risk,
            sum(risk) as risk,
            sum(extract(epoch from greatest(last_interaction_at, created_at) - created_at)) / {_DAY_SECONDS} as duration_days,
            sum(idle_days) as idle_days,
            sum(engagements) as engagements,
            sum(touchpoints) as touchpoints
        from risks group by 1, 2""",
        tenant=tenant,
        begin=begin,
        end=end,
        today=today,
        zone=zone,
        anonymous=anonymous,
    )


def journey_revenue(tenant: str, begin: datetime, end: datetime, *, anonymous: bool) -> TextClause:
    """(currency, customers, net, gross) of the leads created in the window, in minor units; `customers` bought in it."""
    return _statement(
        """select g.key as currency, count(*) as customers, sum(coalesce((j.net ->> g.key)::numeric, 0)) as net,
            sum(g.value::numeric) as gross
        from lead_journeys j, jsonb_each_text(j.gross) g
        where j.tenant = :tenant and (:anonymous or j.identified) and j.created_at >= :begin and j.created_at < :end
            and j.orders > 0
        group by 1 order by 1""",
        tenant=tenant,
        begin=begin,
        end=end,
        anonymous=anonymous,
    )


def tenant_summaries(
    tenant: str, period_type: PeriodType, first: date, until: date, *, anonymous: bool
) -> TextClause:
    """By period, the latest first: (period, active_leads, engagement, score_change, scored) and the sums of SUMMED."""
    sums = ", ".join(f"sum({name}) as {name}" for name in SUMMED)
    return _statement(
        f"""select period, count(*) filter (where interactions > 0) as active_leads, {sums},
            sum(engagement) as engagement, sum(score_change) as score_change, count(*) as leads
        from (
            select date_trunc('{_TRUNCATED_TO[period_type]}', day::timestamp)::date as period, lead_key, {sums},
                sum(engagement) as engagement, sum(score_end - score_start) as score_change
            from lead_days
            where tenant = :tenant and day >= :first and day < :until and (:anonymous or identified)
            group by 1, 2) of_lead
        group by period order by period desc""",
        tenant=tenant,
        first=first,
        until=until,
        anonymous=anonymous,
    )


def tenant_revenue(
    tenant: str, period_type: PeriodType, first: date, until: date, *, anonymous: bool
) -> TextClause:
    """(period, currency, minor)"""
    return _statement(
        f"""select date_trunc('{_TRUNCATED_TO[period_type]}', day::timestamp)::date as period, n.key as currency,
            sum(n.value::numeric) as minor
        from lead_days, jsonb_each_text(net) n
        where tenant = :tenant and day >= :first and day < :until and (:anonymous or identified) and orders > 0
        group by 1, 2 order by 1, 2""",
        tenant=tenant,
        first=first,
        until=until,
        anonymous=anonymous,
    )


def new_leads(
    tenant: str, period_type: PeriodType, begin: datetime, end: datetime, *, zone: str, anonymous: bool
) -> TextClause:
    """(period, leads): leads created, by local period."""
    return _statement(
        f"""select date_trunc('{_TRUNCATED_TO[period_type]}', created_at at time zone :zone)::date as period,
            count(*) as leads
        from lead_journeys
        where tenant = :tenant and created_at >= :begin and created_at < :end and (:anonymous or identified)
        group by 1""",
        tenant=tenant,
        begin=begin,
        end=end,
        zone=zone,
        anonymous=anonymous,
    )

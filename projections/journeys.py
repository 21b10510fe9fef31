"""Statements over the stored journeys and days of many leads. No I/O.

What depends on the present is computed here as `scoring.journeys.journey` does it for one lead; `today` is the local day
of the moment that the answer names.
"""

# ruff: noqa: S608 - every statement is made of constants

from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import TextClause, text

from scoring.analytics.periods import PeriodType, first_day_of_period, next_period
from scoring.analytics.shares import STABLE_WITHIN_PERCENT
from scoring.features.calendar import DAY_SECONDS, date_of_day, day_of_date
from scoring.journeys.journey import (
    ACTIVE_DAYS,
    CHURN_DAYS,
    DECILES,
    DECLINING_RISK,
    DORMANT_DAYS,
    HIGH_CHURN_RISK,
    TREND_DAYS,
)
from scoring.journeys.period_summary import SUMMED

GROWN_AGE: Final = timedelta(days=90)
"""Only leads at least so old predict what others will be worth."""

_DECILE: Final = f"least(greatest(score, 0) / 10, {DECILES - 1})"
_IDLE_DAYS: Final = "(:today - coalesce(j.last_interaction_day, (j.created_at at time zone :zone)::date))"
_OF_TENANT: Final = "tenant = :tenant and (:anonymous or identified)"
_OF_DAYS: Final = f"{_OF_TENANT} and day >= :first and day < :until"
_LEADS: Final = "cast(sum(leads) as bigint) as leads, cast(sum(active_leads) as bigint) as active_leads"
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


def value_groups(tenant: str, stage: str, as_of: datetime) -> TextClause:
    """(decile, currency, leads, minor): identified leads that are old enough, those of the stage by decile, and all others
    under null. The rows without a currency count the leads; the others sum the net revenue of one currency.
    """
    grown = "tenant = :tenant and identified and created_at <= :grown"
    decile = f"case when stage = :stage then {_DECILE} end as decile"
    return _statement(
        f"""select {decile}, null as currency, count(*) as leads, null::numeric as minor
        from lead_journeys where {grown} group by 1
        union all
        select {decile}, n.key, null, sum(n.value::numeric)
        from lead_journeys, jsonb_each_text(net) n where {grown} and orders > 0 group by 1, 2""",
        tenant=tenant,
        stage=stage,
        grown=as_of - GROWN_AGE,
    )


def journey_overview(
    tenant: str, begin: datetime, end: datetime, *, today: date, zone: str, anonymous: bool
) -> TextClause:
    """One row about the leads created in the window: leads, how many have each trend and each activity status, high_risk, and
    the sums of risk (in parts of CHURN_DAYS), duration_days, idle_days, engagements and touchpoints.
    """
    high_risk = int(HIGH_CHURN_RISK * CHURN_DAYS)
    return _statement(
        f"""with counted as (
            select lead_key,
                sum(interactions) filter (where day > :today - {TREND_DAYS}) as recent,
                sum(interactions) filter (where day <= :today - {TREND_DAYS}) as before
            from lead_days
            where tenant = :tenant and day > :today - {2 * TREND_DAYS} and day <= :today and interactions > 0
            group by lead_key),
        trends as (
            select j.last_interaction_day, j.last_interaction_at, j.created_at, j.engagements, j.touchpoints,
                greatest({_IDLE_DAYS}, 0) as idle_days, case
                when abs(recent - before) * 100 <= {STABLE_WITHIN_PERCENT} * before then 'stable'
                when recent > before then 'increasing' else 'declining' end as trend
            from (
                select j.*, coalesce(c.recent, 0) as recent, coalesce(c.before, 0) as before
                from lead_journeys j left join counted c using (lead_key)
                where j.tenant = :tenant and (:anonymous or j.identified)
                and j.created_at >= :begin and j.created_at < :end) j
            offset 0),
        risks as (
            select *, least(least(idle_days, {CHURN_DAYS})
                + case trend when 'declining' then {int(DECLINING_RISK * CHURN_DAYS)} else 0 end, {CHURN_DAYS}) as risk
            from trends offset 0)
        select
            count(*) as leads,
            count(*) filter (where trend = 'increasing') as increasing,
            count(*) filter (where trend = 'stable') as stable,
            count(*) filter (where trend = 'declining') as declining,
            count(*) filter (where last_interaction_day is not null and idle_days <= {ACTIVE_DAYS}) as active,
            count(*) filter (where last_interaction_day is not null
                and idle_days > {ACTIVE_DAYS} and idle_days <= {DORMANT_DAYS}) as dormant,
            count(*) filter (where last_interaction_day is null or idle_days > {DORMANT_DAYS}) as inactive,
            count(*) filter (where risk > {high_risk}) as high_risk,
            sum(risk) as risk,
            sum(date_part('epoch', greatest(last_interaction_at, created_at) - created_at)) / {DAY_SECONDS} as duration_days,
            sum(idle_days) as idle_days,
            sum(engagements) as engagements,
            sum(touchpoints) as touchpoints
        from risks""",
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
    """By period, the latest first: (period, leads, active_leads, engagement, score_change) and the sums of SUMMED."""
    of_period = f"date_trunc('{_TRUNCATED_TO[period_type]}', day::timestamp)::date as period"
    sums = ", ".join(f"sum({name}) as {name}" for name in (*SUMMED, "engagement", "score_change"))
    window = {"tenant": tenant, "first": first, "until": until, "anonymous": anonymous}
    if period_type == "daily":
        return _statement(
            f"""select day as period, {_LEADS}, {sums} from tenant_days where {_OF_DAYS}
            group by 1 order by period desc""",
            **window,
        )
    # Of a week or month that the window cuts, leads are counted one by one. That reads only an index.
    return _statement(
        f"""with sums as (select {of_period}, {sums} from tenant_days where {_OF_DAYS} group by 1),
        counted as (
            select first_day as period, leads, active_leads from tenant_periods
            where {_OF_TENANT} and period_type = :period_type and first_day >= :whole_from and first_day < :whole_until
            union all
            select period, count(*), count(*) filter (where interactions > 0)
            from (
                select {of_period}, lead_key, max(interactions) as interactions
                from unnest(cast(:cut_from as date[]), cast(:cut_until as date[])) cut (begun, ended)
                join lead_days on {_OF_TENANT} and day >= cut.begun and day < cut.ended group by 1, 2) of_lead
            group by period),
        counts as (select period, {_LEADS} from counted group by period)
        select * from sums join counts using (period) order by period desc""",
        period_type=period_type,
        **window,
        **_cut_periods(period_type, first, until),
    )


def _cut_periods(period_type: PeriodType, first: date, until: date) -> dict[str, Any]:
    """The weeks or months that are whole within [first, until), and the days that are not in one of them."""
    begin, end = day_of_date(first), day_of_date(until)
    whole_from = begin
    if first_day_of_period(period_type, begin) < begin:
        whole_from = max(next_period(period_type, first_day_of_period(period_type, begin)), begin)
    whole_until = max(first_day_of_period(period_type, end), whole_from)
    cut = [
        (date_of_day(since), date_of_day(till))
        for since, till in ((begin, min(whole_from, end)), (whole_until, end))
        if since < till
    ]
    return {
        "whole_from": date_of_day(whole_from),
        "whole_until": date_of_day(whole_until),
        "cut_from": [since for since, _ in cut],
        "cut_until": [till for _, till in cut],
    }


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

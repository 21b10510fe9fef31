"""Statements of the reports over many leads: funnel, cohorts, quality, engagement, deciles, speed. No I/O.

Each reads one tenant. Leads that were merged into others are left out, and so are visitors without a known identity,
unless `anonymous`. Periods come as their first moments, since only `scoring.features.calendar` knows local days; a row
names its period by its number, from 1.
"""

# ruff: noqa: S608 - every statement is made of constants

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import TextClause, text

from projections.lifecycle import ENGAGEMENT_MODEL_AND_GROUP, TOUCHPOINT_TYPES
from projections.tables import IS_ORDER_CONDITION
from scoring.journeys.counted_events import CONTACT_TYPES
from scoring.lifecycle.transitions import CUSTOMER_STAGES, FUNNEL_STEP

CONTACT_LIMITS: Final = {"within_5_minutes": 300, "within_1_hour": 3_600, "within_1_day": 86_400}
"""Seconds."""

QUALITY_MODEL: Final = ENGAGEMENT_MODEL_AND_GROUP[0]

_OF_TENANT: Final = "l.tenant = :tenant and l.identities > 0 and (:anonymous or l.identified)"
_CREATED: Final = f"{_OF_TENANT} and l.created_at >= :begin and l.created_at < :end"

_STEP: Final = (
    "case {} "
    + " ".join(f"when '{stage}' then {step}" for stage, step in FUNNEL_STEP.items() if step)
    + " else 0 end"
)

_WHOLE_POINTS: Final = "case when {0} >= 0 then {0}::int else floor({0} + 0.5)::int end"
"""Half up, as `rounded_points`. The cast rounds half away from zero, and costs a fifth of `floor`."""

_ELIGIBLE: Final = f"""eligible as materialized (
            select i.identity_key, i.lead_key from identities i join leads l on l.lead_key = i.lead_key where {_OF_TENANT})"""
"""Found first, so that a million events meet one small table instead of two."""


def _statement(sql: str, /, **parameters: Any) -> TextClause:
    return text(sql).bindparams(**parameters)


# Funnel


def furthest_steps(tenant: str, begin: datetime, end: datetime, *, anonymous: bool) -> TextClause:
    """(step, stage, leads): how many of the leads created in the window are in each stage now, and which step of the
    funnel they have reached.
    """
    entered = f"max(greatest({_STEP.format('s.stage')}, {_STEP.format('s.previous')}))"
    return _statement(
        f"""with created as materialized (select l.lead_key, l.stage from leads l where {_CREATED}),
        entered as (
            select s.lead_key, {entered} as step
            from stage_history s join created c on c.lead_key = s.lead_key group by s.lead_key)
        select greatest(e.step, {_STEP.format("c.stage")}) as step, c.stage, count(*) as leads
        from created c left join entered e on e.lead_key = c.lead_key group by 1, 2""",
        tenant=tenant,
        begin=begin,
        end=end,
        anonymous=anonymous,
    )


def stage_stays(tenant: str, begin: datetime, end: datetime, *, anonymous: bool) -> TextClause:
    """(stage, stays, mean, median, p90): how long the leads created in the window were in each stage, in seconds. A
    stay counts once it has ended; a lead that comes back has two.
    """
    return _statement(
        f"""with created as materialized (select l.lead_key, l.created_at from leads l where {_CREATED}),
        entered as (
            select s.previous as stage, s.at, coalesce(
                lag(s.at) over (partition by s.lead_key order by s.at, s.position), least(c.created_at, s.at)) as since
            from stage_history s join created c on c.lead_key = s.lead_key),
        stays as (select stage, cast(extract(epoch from at - since) as float8) as seconds from entered)
        select stage, count(*) as stays, avg(seconds) as mean,
            percentile_cont(0.5) within group (order by seconds) as median,
            percentile_cont(0.9) within group (order by seconds) as p90
        from stays group by stage""",
        tenant=tenant,
        begin=begin,
        end=end,
        anonymous=anonymous,
    )


# Cohorts


def cohorts(
    tenant: str, starts: Sequence[datetime], end: datetime, model: str, *, anonymous: bool
) -> TextClause:
    """(period, leads, customers, scored, points): the leads by the period of their creation. `customers` have become
    one at any time since; `points` are the sum of the current rounded totals.
    """
    return _statement(
        f"""with created as materialized (
            select l.lead_key, l.stage, width_bucket(l.created_at, cast(:starts as timestamptz[])) as period
            from leads l where {_CREATED}),
        customers as (
            select distinct s.lead_key from stage_history s join created c on c.lead_key = s.lead_key
            where s.stage = any(:customer_stages) or s.previous = any(:customer_stages))
        select c.period, count(*) as leads,
            count(*) filter (where u.lead_key is not null or c.stage = any(:customer_stages)) as customers,
            count(r.rounded) as scored, sum(r.rounded) as points
        from created c left join customers u on u.lead_key = c.lead_key
        left join lead_scores r on r.lead_key = c.lead_key and r.model = :model
        group by c.period""",
        tenant=tenant,
        begin=starts[0] if starts else end,
        end=end,
        starts=list(starts),
        model=model,
        anonymous=anonymous,
        customer_stages=list(CUSTOMER_STAGES),
    )


def cohort_revenue(tenant: str, starts: Sequence[datetime], end: datetime, *, anonymous: bool) -> TextClause:
    """(period, currency, amount): purchases less refunds to date, by the period in which the lead was created."""
    return _statement(
        f"""select width_bucket(l.created_at, cast(:starts as timestamptz[])) as period,
            spent.key as currency, sum(cast(spent.value as numeric)) as amount
        from leads l, jsonb_each_text(l.revenue) spent where {_CREATED} and l.revenue is not null group by 1, 2""",
        tenant=tenant,
        begin=starts[0] if starts else end,
        end=end,
        starts=list(starts),
        anonymous=anonymous,
    )


# Quality


def leads_by_band(tenant: str, model: str, *, anonymous: bool) -> TextClause:
    """(bands, leads, points): every lead with a score by the model, by all its bands together."""
    return _statement(
        f"""select r.bands, count(*) as leads, sum(r.rounded) as points
        from leads l join lead_scores r on r.lead_key = l.lead_key and r.model = :model
        where {_OF_TENANT} group by r.bands""",
        tenant=tenant,
        model=model,
        anonymous=anonymous,
    )


def points_gained(tenant: str, starts: Sequence[datetime], *, anonymous: bool) -> TextClause:
    """(period, points): by how much the rounded totals of all leads rose in each period; the last one has no end."""
    changes = f"{_WHOLE_POINTS.format('h.total')} - {_WHOLE_POINTS.format('h.previous')}"
    return _statement(
        f"""with existing as materialized (select l.lead_key from leads l where {_OF_TENANT})
        select width_bucket(h.at, cast(:starts as timestamptz[])) as period, sum({changes}) as points
        from score_history h join existing x on x.lead_key = h.lead_key
        where h.model = '{QUALITY_MODEL}' and h.at >= :begin group by 1""",
        tenant=tenant,
        begin=starts[0],
        starts=list(starts),
        anonymous=anonymous,
    )


def leads_created(tenant: str, starts: Sequence[datetime], *, anonymous: bool) -> TextClause:
    """(period, leads) created in each period. Period 0 is everything before; the last one has no end."""
    return _statement(
        f"""select width_bucket(l.created_at, cast(:starts as timestamptz[])) as period, count(*) as leads
        from leads l where {_OF_TENANT} group by 1""",
        tenant=tenant,
        starts=list(starts),
        anonymous=anonymous,
    )


# Engagement


def engagements_by_type(
    tenant: str, begin: datetime, starts: Sequence[datetime], end: datetime, *, anonymous: bool
) -> TextClause:
    """(type, channel, period, engagements) of all leads. Period 0: from `begin` to the first period."""
    return _statement(
        f"""with {_ELIGIBLE}
        select e.type, e.channel, width_bucket(e.occurred_at, cast(:starts as timestamptz[])) as period,
            count(*) as engagements
        from engagement_history e join eligible i on i.identity_key = e.identity_key
        where e.tenant = :tenant and e.occurred_at >= :begin and e.occurred_at < :end and e.type = any(:types)
        group by 1, 2, 3""",
        tenant=tenant,
        begin=begin,
        starts=list(starts),
        end=end,
        types=list(TOUCHPOINT_TYPES),
        anonymous=anonymous,
    )


def purchase_reports(tenant: str, *, anonymous: bool) -> TextClause:
    """Every report of a purchase or a refund, of all times: an order counts when it was first reported, as it was last
    reported, less its refunds. Those of a lead come together.
    """
    return _statement(
        f"""select i.lead_key, e.identity_key, e.event_id, e.type, e.channel, e.occurred_at,
            e.details ->> 'order_id' as order_id, e.details ->> 'refund_id' as refund_id,
            e.details ->> 'currency' as currency, cast(e.details ->> 'value' as numeric) as value
        from engagement_history e
        join identities i on i.identity_key = e.identity_key
        join leads l on l.lead_key = i.lead_key
        where e.tenant = :tenant and e.{IS_ORDER_CONDITION}
            and {_OF_TENANT} order by i.lead_key""",
        tenant=tenant,
        anonymous=anonymous,
    )


# Conversions


def scores_before_conversion(
    tenant: str, model: str, begin: datetime, end: datetime, *, anonymous: bool
) -> TextClause:
    """(rounded, leads, customers): the leads created in the window by the rounded total that they had before they
    first became a customer, or have now if they have not. A lead without an earlier change had 0.
    """
    return _statement(
        f"""with created as materialized (
            select l.lead_key, l.stage, l.created_at from leads l where {_CREATED}),
        converted as (
            select s.lead_key, min(s.at) as at from stage_history s join created c on c.lead_key = s.lead_key
            where s.stage = any(:customer_stages) group by s.lead_key),
        scored as (
            select case when v.at is null then r.rounded else coalesce((
                    select {_WHOLE_POINTS.format("h.total")} from score_history h
                    where h.lead_key = c.lead_key and h.model = :model and h.at < v.at
                    order by h.at desc, h.position desc limit 1), 0) end as rounded,
                v.at is not null as customer
            from created c left join converted v on v.lead_key = c.lead_key
            left join lead_scores r on r.lead_key = c.lead_key and r.model = :model)
        select rounded, count(*) as leads, count(*) filter (where customer) as customers
        from scored where rounded is not null group by rounded""",
        tenant=tenant,
        model=model,
        begin=begin,
        end=end,
        anonymous=anonymous,
        customer_stages=list(CUSTOMER_STAGES),
    )


def touchpoints_before_conversion(
    tenant: str, begin: datetime, end: datetime, *, anonymous: bool
) -> TextClause:
    """(touchpoints, leads, seconds): the leads that first became a customer in the window, by the number of their
    touchpoints up to then; `seconds` is the sum of the times since their creation.
    """
    return _statement(
        f"""with converted as (
            select s.lead_key, min(s.at) as at, min(l.created_at) as created_at
            from stage_history s join leads l on l.lead_key = s.lead_key
            where s.stage = any(:customer_stages) and {_OF_TENANT} group by s.lead_key
            having min(s.at) >= :begin and min(s.at) < :end),
        counted as (
            select v.lead_key, extract(epoch from v.at - least(v.created_at, v.at)) as seconds, (
                select count(*) from identities i join engagement_history e on e.identity_key = i.identity_key
                where i.lead_key = v.lead_key and e.occurred_at <= v.at and e.type = any(:types)) as touchpoints
            from converted v)
        select touchpoints, count(*) as leads, sum(seconds) as seconds from counted group by touchpoints""",
        tenant=tenant,
        begin=begin,
        end=end,
        types=list(TOUCHPOINT_TYPES),
        anonymous=anonymous,
        customer_stages=list(CUSTOMER_STAGES),
    )


# Speed


def speed_to_contact(tenant: str, begin: datetime, end: datetime, *, anonymous: bool) -> TextClause:
    """One row: of the leads created in the window, how many sales has contacted, and how many seconds after their
    creation. `outbound`: leads that began with the contact itself, which count in nothing else.
    """
    within = ", ".join(
        f"count(*) filter (where seconds > 0 and seconds <= {seconds}) as {name}"
        for name, seconds in CONTACT_LIMITS.items()
    )
    return _statement(
        f"""with created as materialized (
            select l.lead_key, l.created_at from leads l where {_CREATED}),
        contacts as (
            select c.lead_key, min(e.occurred_at) as at
            from created c join identities i on i.lead_key = c.lead_key
            join engagement_history e on e.identity_key = i.identity_key and e.type = any(:types)
            group by c.lead_key),
        waits as (
            select extract(epoch from t.at - c.created_at) as seconds
            from created c left join contacts t on t.lead_key = c.lead_key)
        select count(*) filter (where seconds is null or seconds > 0) as leads,
            count(*) filter (where seconds > 0) as contacted,
            count(*) filter (where seconds <= 0) as outbound,
            avg(seconds) filter (where seconds > 0) as mean,
            percentile_cont(0.5) within group (order by seconds) filter (where seconds > 0) as median,
            percentile_cont(0.9) within group (order by seconds) filter (where seconds > 0) as p90,
            {within}
        from waits""",
        tenant=tenant,
        begin=begin,
        end=end,
        types=sorted(CONTACT_TYPES),
        anonymous=anonymous,
    )

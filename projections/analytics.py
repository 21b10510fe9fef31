"""Statements of the reports over many leads: funnel, cohorts, quality, engagement, deciles, speed. No I/O.

Each reads one tenant. Leads that were merged into others are left out, and so are visitors without a known identity,
unless `anonymous`. Periods come as their first moments, since only `scoring.features.calendar` knows local days; a row
names its period by its number, from 1.

They read what the analytics worker keeps: `lead_journeys` of each lead, and sums of days over all leads. Of a day that a
window cuts they read the facts.
"""

# ruff: noqa: S608 - every statement is made of constants

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import TextClause, text

from projections.lifecycle import ENGAGEMENT_MODEL_AND_GROUP, TOUCHPOINT_TYPES
from projections.tables import IS_ORDER_CONDITION
from schemas.moment import millis, moment
from scoring.features.calendar import Calendar, date_of_day
from scoring.lifecycle.transitions import FUNNEL_STEP

CONTACT_LIMITS: Final = {"within_5_minutes": 300, "within_1_hour": 3_600, "within_1_day": 86_400}
"""Seconds."""

QUALITY_MODEL: Final = ENGAGEMENT_MODEL_AND_GROUP[0]

_OF_TENANT: Final = "j.tenant = :tenant and (:anonymous or j.identified)"
_CREATED: Final = f"{_OF_TENANT} and j.created_at >= :begin and j.created_at < :end"

_STEP: Final = (
    "case {} "
    + " ".join(f"when '{stage}' then {step}" for stage, step in FUNNEL_STEP.items() if step)
    + " else 0 end"
)

_WHOLE_POINTS: Final = "case when {0} >= 0 then {0}::int else floor({0} + 0.5)::int end"
"""Half up, as `rounded_points`. The cast rounds half away from zero, and costs a fifth of `floor`."""


class _CutDays(NamedTuple):
    """Local days that begin before a moment and end after it, as arrays: their parts within a window."""

    cut_days: list[date]
    cut_begins: list[datetime]
    cut_ends: list[datetime]


def _cut_days(
    zone: Calendar, moments: Iterable[datetime], begin: datetime, end: datetime | None = None
) -> _CutDays:
    """Those that contain one of the moments, cut at the ends of the window."""
    inside = {(zone.day_of(at), at) for at in map(millis, moments)}
    days = sorted({day for day, at in inside if zone.start_of(day) < at})
    begins, ends = ([moment(zone.start_of(day + more)) for day in days] for more in (0, 1))
    return _CutDays(
        [date_of_day(day) for day in days],
        [max(at, begin) for at in begins],
        ends if end is None else [min(at, end) for at in ends],
    )


def _local_dates(zone: Calendar, moments: Iterable[datetime]) -> list[date]:
    return [date_of_day(zone.day_of(millis(at))) for at in moments]


def _statement(sql: str, /, **parameters: Any) -> TextClause:
    return text(sql).bindparams(**parameters)


# Funnel


def furthest_steps(tenant: str, begin: datetime, end: datetime, *, anonymous: bool) -> TextClause:
    """(step, stage, leads): how many of the leads created in the window are in each stage now, and which step of the
    funnel they have reached.
    """
    return _statement(
        f"""select {_STEP.format("j.furthest_stage")} as step, j.stage, count(*) as leads
        from lead_journeys j where {_CREATED} group by 1, 2""",
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
        f"""with stays as (select stage, stayed_ms / 1e3::float8 as seconds from lead_stays j where {_CREATED})
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


def cohorts(tenant: str, starts: Sequence[datetime], end: datetime, *, anonymous: bool) -> TextClause:
    """(period, leads, customers, scored, points): the leads by the period of their creation. `customers` have become one at
    any time since; `points` are the sum of the current rounded totals, which `scored` of the leads have.
    """
    return _statement(
        f"""select width_bucket(j.created_at, cast(:starts as timestamptz[])) as period,
            count(*) as leads, count(j.customer_at) as customers, count(j.score) as scored,
            coalesce(sum(j.score), 0) as points
        from lead_journeys j where {_CREATED} group by 1""",
        tenant=tenant,
        begin=starts[0] if starts else end,
        end=end,
        starts=list(starts),
        anonymous=anonymous,
    )


def cohort_revenue(tenant: str, starts: Sequence[datetime], end: datetime, *, anonymous: bool) -> TextClause:
    """(period, currency, minor): purchases less refunds to date, by the period in which the lead was created."""
    return _statement(
        f"""select width_bucket(j.created_at, cast(:starts as timestamptz[])) as period,
            spent.key as currency, cast(sum(cast(spent.value as numeric)) as bigint) as minor
        from lead_journeys j, jsonb_each_text(j.net) spent where {_CREATED} and j.orders > 0 group by 1, 2""",
        tenant=tenant,
        begin=starts[0] if starts else end,
        end=end,
        starts=list(starts),
        anonymous=anonymous,
    )


# Quality


def leads_by_band(tenant: str, model: str, *, anonymous: bool) -> TextClause:
    """(bands, leads, points): every lead with a score by the model, by all its bands together. It counts in an index, and
    reads the bands of one lead of each group.
    """
    return _statement(
        """with counted as (
            select band_keys, count(*) as leads, sum(rounded) as points, min(lead_key) as lead_key
            from lead_scores
            where tenant = :tenant and model = :model and listed and (:anonymous or identified)
            group by band_keys)
        select r.bands, c.leads, c.points
        from counted c join lead_scores r on r.lead_key = c.lead_key and r.model = :model""",
        tenant=tenant,
        model=model,
        anonymous=anonymous,
    )


def points_gained(tenant: str, zone: Calendar, starts: Sequence[datetime], *, anonymous: bool) -> TextClause:
    """(period, points): by how much the rounded totals of all leads rose in each period; the last one has no end."""
    changes = f"{_WHOLE_POINTS.format('h.total')} - {_WHOLE_POINTS.format('h.previous')}"
    return _statement(
        f"""with whole as (
            select width_bucket(d.day, cast(:first_days as date[])) as period, d.score_change as points
            from tenant_days d
            where d.tenant = :tenant and (:anonymous or d.identified) and d.day >= :first
                and d.day <> all(cast(:cut_days as date[]))),
        cut as (
            select width_bucket(h.at, cast(:starts as timestamptz[])) as period, {changes} as points
            from unnest(cast(:cut_days as date[]), cast(:cut_begins as timestamptz[]), cast(:cut_ends as timestamptz[]))
                of_day (day, begun, ended)
            join lead_days d on d.tenant = :tenant and d.day = of_day.day and (:anonymous or d.identified)
            cross join lateral (
                select h.total, h.previous, h.at from score_history h
                where h.lead_key = d.lead_key and h.at >= of_day.begun and h.at < of_day.ended
                    and h.model = '{QUALITY_MODEL}' offset 0) h)
        select period, cast(sum(points) as bigint) as points
        from (select * from whole union all select * from cut) gained group by period""",
        tenant=tenant,
        starts=list(starts),
        first=_local_dates(zone, starts[:1])[0],
        first_days=_local_dates(zone, starts),
        **_cut_days(zone, starts, starts[0])._asdict(),
        anonymous=anonymous,
    )


def leads_created(tenant: str, starts: Sequence[datetime], *, anonymous: bool) -> TextClause:
    """(period, leads) created in each period. Period 0 is everything before; the last one has no end."""
    return _statement(
        f"""select width_bucket(j.created_at, cast(:starts as timestamptz[])) as period, count(*) as leads
        from lead_journeys j where {_OF_TENANT} group by 1""",
        tenant=tenant,
        starts=list(starts),
        anonymous=anonymous,
    )


# Engagement


def engagements_by_type(
    tenant: str,
    zone: Calendar,
    begin: datetime,
    starts: Sequence[datetime],
    end: datetime,
    *,
    anonymous: bool,
) -> TextClause:
    """(type, channel, period, engagements) of all leads. Period 0: from `begin` to the first period."""
    return _statement(
        f"""with whole as (
            select t.type, t.channel, width_bucket(t.day, cast(:first_days as date[])) as period, t.engagements
            from tenant_engagements t
            where t.tenant = :tenant and (:anonymous or t.identified) and t.day >= :first and t.day <= :last
                and t.day <> all(cast(:cut_days as date[]))),
        cut as (
            select e.type, e.channel, width_bucket(e.occurred_at, cast(:starts as timestamptz[])) as period,
                1 as engagements
            from unnest(cast(:cut_begins as timestamptz[]), cast(:cut_ends as timestamptz[])) of_day (begun, ended)
            cross join lateral (
                select * from engagement_history e
                where e.tenant = :tenant and e.occurred_at >= of_day.begun and e.occurred_at < of_day.ended
                    and e.type = any(:types) offset 0) e
            join identities i on i.identity_key = e.identity_key
            join lead_journeys j on j.lead_key = i.lead_key and {_OF_TENANT})
        select type, channel, period, cast(sum(engagements) as bigint) as engagements
        from (select * from whole union all select * from cut) counted group by 1, 2, 3""",
        tenant=tenant,
        starts=list(starts),
        first=_local_dates(zone, [begin])[0],
        last=date_of_day(zone.day_of(millis(end) - 1)),
        first_days=_local_dates(zone, starts),
        **_cut_days(zone, [begin, *starts, end], begin, end)._asdict(),
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
        join lead_journeys j on j.lead_key = i.lead_key
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
    current, scores = "r.rounded", "left join lead_scores r on r.lead_key = j.lead_key and r.model = :model"
    if model == QUALITY_MODEL:  # whose score every journey has
        current, scores = "j.score", ""
    return _statement(
        f"""with scored as (
            select case when j.customer_at is null then {current} else coalesce((
                    select {_WHOLE_POINTS.format("h.total")} from score_history h
                    where h.lead_key = j.lead_key and h.model = :model and h.at < j.customer_at
                    order by h.at desc, h.position desc limit 1), 0) end as rounded,
                j.customer_at is not null as customer
            from lead_journeys j {scores} where {_CREATED})
        select rounded, count(*) as leads, count(*) filter (where customer) as customers
        from scored where rounded is not null group by rounded""",
        tenant=tenant,
        model=model,
        begin=begin,
        end=end,
        anonymous=anonymous,
    )


def touchpoints_before_conversion(
    tenant: str, begin: datetime, end: datetime, *, anonymous: bool
) -> TextClause:
    """(touchpoints, leads, seconds): the leads that first became a customer in the window, by the number of their
    touchpoints up to then; `seconds` is the sum of the times since their creation.
    """
    return _statement(
        f"""with counted as (
            select extract(epoch from j.customer_at - least(j.created_at, j.customer_at)) as seconds, (
                select count(*) from identities i join engagement_history e on e.identity_key = i.identity_key
                where i.lead_key = j.lead_key and e.occurred_at <= j.customer_at and e.type = any(:types)) as touchpoints
            from lead_journeys j where {_OF_TENANT} and j.customer_at >= :begin and j.customer_at < :end)
        select touchpoints, count(*) as leads, sum(seconds) as seconds from counted group by touchpoints""",
        tenant=tenant,
        begin=begin,
        end=end,
        types=list(TOUCHPOINT_TYPES),
        anonymous=anonymous,
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
        f"""with waits as (
            select date_part('epoch', j.first_outreach_at - j.created_at) as seconds
            from lead_journeys j where {_CREATED})
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
        anonymous=anonymous,
    )

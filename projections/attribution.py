"""Statements of the reports about attribution over many leads. No I/O.

They read the tables that the analytics worker computes of each lead (`projections.attribution_rows`). A conversion is in
the window in which it was made. Visitors without a known identity are left out, unless `anonymous`.
"""

# ruff: noqa: S608 - every statement is made of constants

from datetime import datetime
from typing import Any, Final, NamedTuple

from msgspec import json
from sqlalchemy import TextClause, text

from projections.analytics_tables import HAS_VALUE_CONDITION
from scoring.attribution.bootstrap import LEAD_GROUPS
from scoring.attribution.markov import OTHER_CHANNELS
from scoring.attribution.rules import TOUCH_MODELS

SOURCES_SHOWN: Final = 50
DISTINCT_PATHS: Final = 5_000
"""The most frequent paths; all others count as one step through OTHER_CHANNELS."""

_WINDOW: Final = "c.tenant = :tenant and c.converted_at >= :begin and c.converted_at < :end and (:anonymous or c.identified)"
_OF_TYPE: Final = f"{_WINDOW} and c.conversion_type = :conversion_type"
_OPEN: Final = (
    "p.tenant = :tenant and p.last_touch_at >= :begin and p.last_touch_at < :end and (:anonymous or p.identified) "
    "and not p.converted ? :conversion_type"
)
_OTHER_PATH: Final = json.encode([OTHER_CHANNELS]).decode()
_GROUP: Final = f"mod(mod({{}}.lead_key, {LEAD_GROUPS}) + {LEAD_GROUPS}, {LEAD_GROUPS})"
_WEIGHTS: Final = ", ".join(f"sum(c.{model}) as {model}" for model in TOUCH_MODELS)
_AMOUNTS: Final = ", ".join(f"sum(c.{model}_minor) as {model}_minor" for model in TOUCH_MODELS)


class ConversionWindow(NamedTuple):
    """Which conversions a report counts."""

    tenant: str
    begin: datetime
    end: datetime
    anonymous: bool


def conversions_by_type(window: ConversionWindow) -> TextClause:
    """(conversion_type, conversions, untouched, journey_ms, touchpoints, median, p90): of each type. Journeys and
    touchpoints are of conversions with a touchpoint; `untouched` have none.
    """
    return _statement(
        f"""select c.conversion_type, count(*) as conversions,
            count(*) filter (where c.touchpoints = 0) as untouched,
            avg(c.journey_ms) filter (where c.touchpoints > 0) as journey_ms,
            avg(c.touchpoints) filter (where c.touchpoints > 0) as touchpoints,
            percentile_cont(0.5) within group (order by c.touchpoints) filter (where c.touchpoints > 0) as median,
            percentile_cont(0.9) within group (order by c.touchpoints) filter (where c.touchpoints > 0) as p90
        from lead_conversions c where {_WINDOW} group by c.conversion_type""",
        window,
    )


def values_by_type(window: ConversionWindow) -> TextClause:
    """(conversion_type, currency, conversions, minor): the values of each type."""
    return _statement(
        f"""select c.conversion_type, v.value ->> 0 as currency, count(*) as conversions,
            sum(cast(v.value ->> 1 as bigint)) as minor
        from lead_conversions c, jsonb_array_elements(c.amounts) v
        where {_WINDOW} and c.{HAS_VALUE_CONDITION} group by 1, 2""",
        window,
    )


def revenue_of_customers(window: ConversionWindow) -> TextClause:
    """(currency, amount): purchases less refunds to date of the leads that became customers in the window."""
    return _statement(
        f"""select spent.key as currency, sum(cast(spent.value as numeric)) as amount
        from (select distinct c.lead_key from lead_conversions c
              where {_WINDOW} and c.conversion_type = 'customer' and c.conversion_id = '') won
        join leads l on l.lead_key = won.lead_key, jsonb_each_text(l.revenue) spent
        where l.revenue is not null group by 1""",
        window,
    )


def credits_by_channel(window: ConversionWindow, conversion_type: str) -> TextClause:
    """(channel, currency, a weight and an amount by each model): sums of credits."""
    return _statement(
        f"""select c.channel, c.currency, {_WEIGHTS}, {_AMOUNTS}
        from lead_credits c where {_OF_TYPE} group by c.channel, c.currency""",
        window,
        conversion_type=conversion_type,
    )


def credits_by_source(window: ConversionWindow, conversion_type: str) -> TextClause:
    """As `credits_by_channel`, of the sources with the most linear credit, and how many sources there are."""
    return _statement(
        f"""with by_source as materialized (
            select c.channel, c.source_type, c.source_name, c.currency, {_WEIGHTS}, {_AMOUNTS}
            from lead_credits c where {_OF_TYPE} group by 1, 2, 3, 4),
        largest as (
            select channel, source_type, source_name, sum(linear) as credit, count(*) over () as sources
            from by_source group by 1, 2, 3 order by credit desc, 1, 2, 3 limit {SOURCES_SHOWN})
        select b.*, l.credit, l.sources from by_source b join largest l using (channel, source_type, source_name)
        order by l.credit desc, 1, 2, 3, 4""",
        window,
        conversion_type=conversion_type,
    )


def converting_paths(window: ConversionWindow, conversion_type: str) -> TextClause:
    """(path, conversions): the paths of channels that led to conversions, as JSON text."""
    return _statement(
        _with_bounded_paths(
            f"""select c.path, count(*) as conversions from lead_conversions c
            where {_OF_TYPE} and c.touchpoints > 0 group by 1""",
            "conversions",
        ),
        window,
        conversion_type=conversion_type,
    )


def values_of_paths(window: ConversionWindow, conversion_type: str) -> TextClause:
    """(path, currency, minor): the values of the conversions that a path led to."""
    return _statement(
        _with_bounded_paths(
            f"""select c.path, v.value ->> 0 as currency, sum(cast(v.value ->> 1 as bigint)) as minor
            from lead_conversions c, jsonb_array_elements(c.amounts) v
            where {_OF_TYPE} and c.touchpoints > 0 and c.{HAS_VALUE_CONDITION} group by 1, 2""",
            "minor",
            by="currency",
        ),
        window,
        conversion_type=conversion_type,
    )


def open_paths(window: ConversionWindow, conversion_type: str) -> TextClause:
    """(path, leads): the paths of leads that never made the conversion and had their last touchpoint in the window."""
    return _statement(
        _with_bounded_paths(
            f"select p.path, count(*) as leads from lead_paths p where {_OPEN} group by 1", "leads"
        ),
        window,
        conversion_type=conversion_type,
    )


def credits_by_group(window: ConversionWindow, conversion_type: str) -> TextClause:
    """(lead_group, channel, a weight by each model): the credits of each group of leads."""
    return _statement(
        f"""select {_GROUP.format("c")} as lead_group, c.channel, {_WEIGHTS}
        from lead_credits c where {_OF_TYPE} group by 1, 2""",
        window,
        conversion_type=conversion_type,
    )


def converting_paths_by_group(window: ConversionWindow, conversion_type: str) -> TextClause:
    """(lead_group, path, conversions): as `converting_paths`, of each group of leads."""
    return _statement(
        _with_bounded_paths(
            f"""select {_GROUP.format("c")} as lead_group, c.path, count(*) as conversions
            from lead_conversions c where {_OF_TYPE} and c.touchpoints > 0 group by 1, 2""",
            "conversions",
            by="lead_group",
        ),
        window,
        conversion_type=conversion_type,
    )


def open_paths_by_group(window: ConversionWindow, conversion_type: str) -> TextClause:
    """(lead_group, path, leads): as `open_paths`, of each group of leads."""
    return _statement(
        _with_bounded_paths(
            f"""select {_GROUP.format("p")} as lead_group, p.path, count(*) as leads
            from lead_paths p where {_OPEN} group by 1, 2""",
            "leads",
            by="lead_group",
        ),
        window,
        conversion_type=conversion_type,
    )


def _with_bounded_paths(taken: str, count: str, *, by: str | None = None) -> str:
    """The statement `taken`, with columns path, `by` and `count`, in which the rarer paths are one."""
    also = f"{by}, " if by else ""
    return f"""with taken as materialized ({taken}),
        ranked as (
            select path, row_number() over (order by sum({count}) desc, path) as rank
            from taken group by path)
        select {also}case when rank <= {DISTINCT_PATHS} then path else '{_OTHER_PATH}' end as path,
            sum({count}) as {count}
        from taken join ranked using (path) group by {"1, 2" if by else "1"}"""


def _statement(sql: str, window: ConversionWindow, **parameters: Any) -> TextClause:
    return text(sql).bindparams(**window._asdict(), **parameters)

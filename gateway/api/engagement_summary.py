"""/api/lead-tracking/engagement/stats: the engagements of all leads in a window, by type, channel and period.

Visitors without a known identity are left out unless asked for. A rate is null where there is nothing to divide by.
Currencies are never added up.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway.answers import JsonAnswer
from gateway.api.services import services_of, take_report_turn, tenant_of
from gateway.api.window import Anonymous, Days, From, Interval, To, Window, report_window
from gateway.documented import answer_docs, example_bodies
from gateway.store import Row
from projections import analytics
from projections.engagements import revenue_of_engagements
from schemas.moment import millis, moment
from scoring.analytics.orders import (
    PURCHASE,
    Money,
    Order,
    OrderReport,
    Orders,
    amounts_of,
    sum_of_money,
)
from scoring.analytics.periods import Period
from scoring.analytics.shares import mean, share, trend_direction
from scoring.features.signals import major_units, minor_units

EXAMPLES = example_bodies("analytics")


class SoldOrders(NamedTuple):
    """The net revenue of the window's orders."""

    total: Money
    by_channel: dict[str, Money]
    by_period: dict[int, Money]
    """By the number of the period, from 1."""


router = APIRouter(
    prefix="/api/lead-tracking",
    tags=["analytics"],
    dependencies=[Depends(take_report_turn, scope="function")],
)


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
    window = report_window(services, active.zone, days, begin, end)
    periods = window.periods(interval)
    starts = [moment(each.begin) for each in periods]
    before = moment(2 * millis(window.begin) - millis(window.end))
    async with services.store.snapshot() as ask:
        rows, earned, created = await ask.all(
            analytics.engagements_by_type(
                tenant, window.zone, before, starts, window.end, anonymous=include_anonymous
            ),
            revenue_of_engagements(tenant, starts, window.end, anonymous=include_anonymous),
            analytics.leads_created(tenant, [window.end], anonymous=include_anonymous),
        )
        reports = ask.stream(analytics.purchase_reports(tenant, anonymous=include_anonymous))
        sold = await _sold_in(window, periods, reports)
    inside = [row for row in rows if row["period"]]
    by_period = Counter[int]()
    for row in inside:
        by_period[row["period"]] += row["engagements"]
    earned_in_period = _earned_by("period", earned)
    total, previous = (sum(row["engagements"] for row in each) for each in (inside, rows))
    previous -= total
    leads = sum(row["leads"] for row in created if row["period"] == 0)
    return JsonAnswer(
        {
            **window.shown(),
            "total_engagements": total,
            "total_leads": leads,
            "engagement_rate": mean(total, leads),
            **_money_json(total, sold.total, sum_of_money(_money_of(row) for row in earned)),
            "by_type": _engagements_by("type", inside, leads, {PURCHASE: sold.total}, earned),
            "by_channel": _engagements_by("channel", inside, leads, sold.by_channel, earned),
            "by_period": [
                {
                    "period": period.name,
                    "from": moment(period.begin),
                    "to": moment(period.end),
                    "engagements": by_period[number],
                    **_money_json(by_period[number], sold.by_period[number], earned_in_period[number]),
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


async def _sold_in(
    window: Window, periods: Sequence[Period], reports: AsyncIterator[Sequence[Row]]
) -> SoldOrders:
    """Of every report of a purchase or a refund, lead by lead. In memory are one lead's orders and the sums."""
    sold = SoldOrders({}, defaultdict(dict), defaultdict(dict))
    lead_key, orders = None, Orders()
    async for rows in reports:
        for row in rows:
            if row["lead_key"] != lead_key:
                _add_orders(sold, orders, window, periods)
                lead_key, orders = row["lead_key"], Orders()
            orders.add(_order_report(row))
    _add_orders(sold, orders, window, periods)
    return sold


def _add_orders(sold: SoldOrders, orders: Iterable[Order], window: Window, periods: Sequence[Period]) -> None:
    for order in orders:
        if millis(window.begin) <= order.at < millis(window.end):
            number = bisect_right(periods, order.at, key=lambda period: period.begin)
            for sums in (sold.total, sold.by_channel[order.channel], sold.by_period[number]):
                sums[order.currency] = sums.get(order.currency, 0) + order.amount


def _order_report(row: Row) -> OrderReport:
    return OrderReport(
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


def _engagements_by(
    column: str,
    rows: Sequence[Row],
    leads: int,
    revenue: Mapping[str, Money],
    earned: Sequence[Row],
) -> list[dict[str, Any]]:
    """The most frequent first."""
    earned_by_name = _earned_by(column, earned)
    counts = Counter[str]()
    for row in rows:
        counts[row[column]] += row["engagements"]
    return [
        {
            f"engagement_{column}": name,
            "engagements": counts[name],
            "share": share(counts[name], counts.total()),
            "engagement_rate": mean(counts[name], leads),
            **_money_json(counts[name], revenue.get(name, {}), earned_by_name[name]),
        }
        for name in sorted(counts.keys() | revenue.keys(), key=lambda name: (-counts[name], name))
    ]


def _money_of(row: Row) -> Money:
    return {row["currency"]: int(row["minor"])}


def _earned_by(column: str, rows: Iterable[Row]) -> Mapping[Any, Money]:
    """What engagements earned that are no orders, by their type, channel or period."""
    earned = defaultdict[Any, Money](dict)
    for row in rows:
        earned[row[column]] = sum_of_money([earned[row[column]], _money_of(row)])
    return earned


def _money_json(engagements: int, revenue: Money, earned: Money) -> dict[str, Any]:
    each = {currency: Decimal(minor) / engagements for currency, minor in revenue.items() if engagements}
    return {
        "revenue": amounts_of(revenue),
        "revenue_per_engagement": {
            currency: major_units(minor, currency) for currency, minor in each.items()
        },
        "engagement_revenue": amounts_of(earned),
    }

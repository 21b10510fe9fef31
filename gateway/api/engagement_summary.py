"""/api/lead-tracking/engagement/stats: the engagements of all leads in a window, by type, channel and period.

Visitors without a known identity are left out unless asked for. A rate is null where there is nothing to divide by.
Currencies are never added up.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway.answers import JsonAnswer
from gateway.api.services import services_of, take_report_turn, tenant_of
from gateway.api.window import Anonymous, Days, From, Interval, To, report_window
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
    revenue_of,
    sum_of_money,
)
from scoring.analytics.periods import Period
from scoring.analytics.shares import mean, share, trend_direction
from scoring.features.signals import major_units, minor_units

EXAMPLES = example_bodies("analytics")

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
        rows, earned, purchases, created = await ask.all(
            analytics.engagements_by_type(tenant, before, starts, window.end, anonymous=include_anonymous),
            revenue_of_engagements(tenant, starts, window.end, anonymous=include_anonymous),
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
    orders_of_period, earned_in_period = _by_period(orders, periods), _earned_by("period", earned)
    total, previous = (sum(row["engagements"] for row in each) for each in (inside, rows))
    previous -= total
    leads = sum(row["leads"] for row in created if row["period"] == 0)
    return JsonAnswer(
        {
            **window.shown(),
            "total_engagements": total,
            "total_leads": leads,
            "engagement_rate": mean(total, leads),
            **_money_json(total, orders, sum_of_money(_money_of(row) for row in earned)),
            "by_type": _engagements_by("type", inside, leads, {PURCHASE: orders}, earned),
            "by_channel": _engagements_by("channel", inside, leads, _by_channel(orders), earned),
            "by_period": [
                {
                    "period": period.name,
                    "from": moment(period.begin),
                    "to": moment(period.end),
                    "engagements": by_period[number],
                    **_money_json(by_period[number], orders_of_period[number], earned_in_period[number]),
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
    column: str,
    rows: Sequence[Row],
    leads: int,
    orders: Mapping[str, Sequence[Order]],
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
            **_money_json(counts[name], orders.get(name, ()), earned_by_name[name]),
        }
        for name in sorted(counts.keys() | orders.keys(), key=lambda name: (-counts[name], name))
    ]


def _money_of(row: Row) -> Money:
    return {row["currency"]: int(row["minor"])}


def _earned_by(column: str, rows: Iterable[Row]) -> Mapping[Any, Money]:
    """What engagements earned that are no orders, by their type, channel or period."""
    earned = defaultdict[Any, Money](dict)
    for row in rows:
        earned[row[column]] = sum_of_money([earned[row[column]], _money_of(row)])
    return earned


def _money_json(engagements: int, orders: Iterable[Order], earned: Money) -> dict[str, Any]:
    revenue = revenue_of(orders)
    each = {currency: Decimal(minor) / engagements for currency, minor in revenue.items() if engagements}
    return {
        "revenue": amounts_of(revenue),
        "revenue_per_engagement": {
            currency: major_units(minor, currency) for currency, minor in each.items()
        },
        "engagement_revenue": amounts_of(earned),
    }

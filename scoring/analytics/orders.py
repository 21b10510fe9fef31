"""What many leads bought, order by order, of every report of a purchase or a refund. Pure.

An order counts once for its lead: at its first report, in the channel of that report, as its last report describes it, less its
refunds and never below zero (`scoring.features.keyed_events`). A purchase without an order id is an order of its own.
"""

from collections.abc import Iterable
from typing import NamedTuple

from scoring.features.keyed_events import KeyedEvent, RefundReport, joined_reports
from scoring.features.signals import real_id


class OrderReport(NamedTuple):
    lead: int
    event: str
    """What tells this event from all others."""
    refund: bool
    channel: str
    at: int
    """In ms, as every time here."""
    order_id: str | None
    refund_id: str | None
    currency: str
    amount: int
    """In minor units."""


class Order(NamedTuple):
    lead: int
    at: int
    channel: str
    currency: str
    amount: int


def orders_of(reports: Iterable[OrderReport]) -> list[Order]:
    orders: dict[tuple[int, str, str], KeyedEvent] = {}
    channels: dict[tuple[int, str, str], tuple[int, str]] = {}
    for report in reports:
        order_id = real_id(report.order_id)
        if order_id is None and report.refund:
            continue  # it lowers no order
        key = (report.lead, "", report.event) if order_id is None else (report.lead, "order", order_id)
        keyed = _keyed_event(report)
        orders[key] = joined_reports(orders[key], keyed) if key in orders else keyed
        if not report.refund:
            begun = report.at, report.channel
            channels[key] = min(begun, channels.get(key, begun))
    counted = []
    for key, order in orders.items():
        if order.first is None or order.latest is None:
            continue
        for currency, amount in order.latest[1]:
            refunded = sum(refund for _, of, refund in order.refunds.values() if of == currency)
            counted.append(
                Order(key[0], order.first[0], channels[key][1], currency, max(amount - refunded, 0))
            )
    return counted


def _keyed_event(report: OrderReport) -> KeyedEvent:
    if not report.refund:
        return KeyedEvent((report.at, 0), (report.at, [(report.currency, report.amount)], []))
    refund_id = real_id(report.refund_id)
    name = f"event {report.event}" if refund_id is None else f"refund {refund_id}"
    refund: RefundReport = report.at, report.currency, report.amount
    return KeyedEvent(refunds={name: refund})

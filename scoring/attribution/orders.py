"""The net revenue of a lead: purchases less refunds, per order and currency. Pure.

An order is one purchase, as its latest report describes it, less its refunds, never below zero; as in
`scoring.features.keyed_events`.
"""

from collections.abc import Iterable
from typing import Final

from scoring.analytics.facts import EventFact
from scoring.features.keyed_events import KeyedEvent, joined_reports

ORDER_EVENT_TYPES: Final = frozenset({"purchase_made", "purchase_refunded"})

NO_CURRENCY: Final = "XXX"
"""The code of ISO 4217 for an amount without a currency."""

OrderKey = tuple[str, ...]
Revenue = dict[str, int]
"""Minor units by currency."""


class Orders:
    """The orders that are on record. Adding a report costs the same however many orders there are."""

    def __init__(self) -> None:
        self._orders: dict[OrderKey, KeyedEvent] = {}
        self._totals: dict[str, list[int]] = {}
        """By currency: [minor units, orders]."""

    @property
    def revenue(self) -> Revenue:
        """Of each currency in which there is an order, 0 if all of it was refunded."""
        return {currency: minor for currency, (minor, orders) in sorted(self._totals.items()) if orders}

    def add(self, event: EventFact) -> None:
        """Add a purchase or a refund; other events change nothing."""
        report = _report_of(event)
        if report is None:
            return
        key = order_key(event)
        before = self._orders.get(key)
        after = self._orders[key] = report if before is None else joined_reports(before, report)
        if before is not None:
            self._count(before, -1)
        self._count(after, 1)

    def _count(self, order: KeyedEvent, sign: int) -> None:
        for currency, amount in net_of_order(order):
            total = self._totals.setdefault(currency, [0, 0])
            total[0] += sign * amount
            total[1] += sign


def net_revenue(events: Iterable[EventFact]) -> Revenue:
    """The revenue of all orders among the events, by currency."""
    orders = Orders()
    for event in events:
        orders.add(event)
    return orders.revenue


def net_of_order(order: KeyedEvent) -> Iterable[tuple[str, int]]:
    """(currency, minor units) of an order, less its refunds in that currency."""
    if order.latest is None:
        return
    for currency, amount in order.latest[1]:
        refunded = sum(refund for _, of, refund in order.refunds.values() if of == currency)
        yield currency, max(amount - refunded, 0)


def _report_of(event: EventFact) -> KeyedEvent | None:
    if event.type not in ORDER_EVENT_TYPES or event.amount_minor is None or event.currency is None:
        return None
    if event.type == "purchase_made":
        return KeyedEvent(
            (event.occurred_at, 0), (event.occurred_at, [(event.currency, event.amount_minor)], [])
        )
    if event.order_id is None:  # it names no order, so it lowers none
        return None
    refund = (
        f"id:{event.refund_id}"
        if event.refund_id is not None
        else f"event:{event.identity_key}:{event.event_id}"
    )
    return KeyedEvent(refunds={refund: (event.occurred_at, event.currency, event.amount_minor)})


def order_key(event: EventFact) -> OrderKey:
    """A purchase that names no order is one of its own."""
    if event.order_id is not None:
        return "order", event.order_id
    return "event", str(event.identity_key), event.event_id

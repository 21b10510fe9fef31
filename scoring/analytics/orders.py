"""The orders of a lead and their net revenue. Pure.

An order is one purchase, however often it is reported: it counts at its first report, in the channel of that report, as
its last report describes it, less its refunds in that currency, and never below zero. A purchase without an order id is
an order of its own; a refund without one lowers nothing.

Reports are joined as the fold joins them (`scoring.features.keyed_events`), so the sum is the lead's `revenue`. Only the
fold forgets orders: of each identity it remembers the latest.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from scoring.analytics.facts import EventFact
from scoring.features.keyed_events import KeyedEvent, joined_reports, key_digest
from scoring.features.signals import major_units, real_id

PURCHASE: Final = "purchase_made"
REFUND: Final = "purchase_refunded"
ORDER_TYPES: Final = frozenset({PURCHASE, REFUND})

Money = dict[str, int]
"""Minor units by currency."""


OrderKey = tuple[str, ...]


class OrderReport(NamedTuple):
    """What one event says of an order. Ids are as they were sent."""

    identity_key: int
    event_id: str
    type: str
    """PURCHASE or REFUND."""
    channel: str
    at: int
    """In ms, as every time here."""
    order_id: str | None
    refund_id: str | None
    currency: str
    amount: int
    """In minor units."""


class Order(NamedTuple):
    at: int
    channel: str
    currency: str
    amount: int
    """In minor units, less refunds."""


class Orders:
    """The orders of one lead that are on record. Adding a report costs the same however many orders there are."""

    def __init__(self) -> None:
        self._joined: dict[OrderKey, KeyedEvent] = {}
        self._first: dict[OrderKey, tuple[int, str]] = {}
        """(when, channel) of the first purchase."""
        self._orders: dict[OrderKey, Order] = {}
        self._totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        """By currency: [minor units, orders]."""

    def __iter__(self) -> Iterator[Order]:
        return iter(self._orders.values())

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def revenue(self) -> Money:
        """Of each currency in which there is an order: 0 if all of it was refunded."""
        return {currency: minor for currency, (minor, orders) in sorted(self._totals.items()) if orders}

    def add(self, report: OrderReport) -> None:
        key = _key_of(report)
        if key is None:
            return
        joined = _keyed_event(report)
        if key in self._joined:
            joined = joined_reports(self._joined[key], joined)
        self._joined[key] = joined
        if report.type == PURCHASE:
            first = report.at, report.channel
            self._first[key] = min(first, self._first.get(key, first))
        if joined.latest is None:
            return
        if key in self._orders:
            self._count(self._orders[key], -1)
        ((currency, amount),) = joined.latest[1]
        refunded = sum(refund for _, of, refund in joined.refunds.values() if of == currency)
        self._orders[key] = Order(*self._first[key], currency, max(amount - refunded, 0))
        self._count(self._orders[key], 1)

    def _count(self, order: Order, sign: int) -> None:
        total = self._totals[order.currency]
        total[0] += sign * order.amount
        total[1] += sign


def orders_of(reports: Iterable[OrderReport]) -> Orders:
    """The orders of one lead, in whatever order they were reported."""
    orders = Orders()
    for report in reports:
        orders.add(report)
    return orders


def order_reports(events: Iterable[EventFact]) -> Iterator[OrderReport]:
    """What the events say of orders; most say nothing."""
    for event in events:
        if event.type in ORDER_TYPES and event.amount_minor is not None and event.currency is not None:
            yield OrderReport(
                event.identity_key,
                event.event_id,
                event.type,
                event.channel,
                event.occurred_at,
                event.order_id,
                event.refund_id,
                event.currency,
                event.amount_minor,
            )


def revenue_of(orders: Iterable[Order]) -> Money:
    """The sum of each currency."""
    return sum_of_money({order.currency: order.amount} for order in orders)


def sum_of_money(parts: Iterable[Money]) -> Money:
    """By currency, in the order of their codes. Currencies are never added up."""
    total: defaultdict[str, int] = defaultdict(int)
    for part in parts:
        for currency, minor in part.items():
            total[currency] += minor
    return dict(sorted(total.items()))


def amounts_of(money: Mapping[str, int]) -> dict[str, Decimal]:
    """Money as answers show it: the amount in main units by currency."""
    return {currency: major_units(minor, currency) for currency, minor in sorted(money.items())}


def _key_of(report: OrderReport) -> OrderKey | None:
    order_id = real_id(report.order_id)
    if order_id is not None:
        return "order", order_id
    return None if report.type == REFUND else ("event", str(report.identity_key), report.event_id)


def _keyed_event(report: OrderReport) -> KeyedEvent:
    if report.type == PURCHASE:
        return KeyedEvent((report.at, 0), (report.at, [(report.currency, report.amount)], []))
    refund_id = real_id(report.refund_id)
    name = ("event", str(report.identity_key), report.event_id) if refund_id is None else (refund_id,)
    # Digests, as in the fold: of too many refunds of an order both keep the same.
    return KeyedEvent(refunds={key_digest(*name): (report.at, report.currency, report.amount)})

"""What counts of a lead's events: each order, submission and message once, and money per order. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from scoring.analytics.facts import EventFact
from scoring.attribution.orders import OrderKey, Orders, order_key

CONTACT_TYPES: Final = frozenset({"call_made", "email_sent", "sms_sent"})
"""By these, sales contacts a lead."""
PURCHASE: Final = "purchase_made"

Money = dict[str, int]
"""Minor units by currency."""


class Order(NamedTuple):
    first_at: int
    """When it was first reported as a purchase."""
    gross: Money
    net: Money
    """Less refunds."""


def is_touchpoint(event: EventFact) -> bool:
    """An interaction, or an e-mail, text message or call to the lead: as stages count them."""
    return event.interaction or event.type in CONTACT_TYPES


def counted_once(events: Iterable[EventFact]) -> Iterator[EventFact]:
    """The events, without further reports of an order, a submission, a message or a conversion."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for event in events:
        if event.key is not None:
            if (event.type, event.key) in seen:
                continue
            seen.add((event.type, event.key))
        yield event


def orders_of(events: Iterable[EventFact]) -> list[Order]:
    """The orders that were purchased, by their first report."""
    reports: defaultdict[OrderKey, list[EventFact]] = defaultdict(list)
    for event in events:
        if event.amount_minor is not None and event.type in {PURCHASE, "purchase_refunded"}:
            reports[order_key(event)].append(event)
    orders = []
    for of_order in reports.values():
        purchases = [event for event in of_order if event.type == PURCHASE]
        if purchases:
            first_at = min(event.occurred_at for event in purchases)
            orders.append(Order(first_at, _revenue_of(purchases), _revenue_of(of_order)))
    return sorted(orders, key=lambda order: order.first_at)


def added(amounts: Iterable[Money]) -> Money:
    """The sum of each currency."""
    total: defaultdict[str, int] = defaultdict(int)
    for money in amounts:
        for currency, minor in money.items():
            total[currency] += minor
    return dict(sorted(total.items()))


def _revenue_of(reports: Iterable[EventFact]) -> Money:
    orders = Orders()
    for event in reports:
        orders.add(event)
    return orders.revenue

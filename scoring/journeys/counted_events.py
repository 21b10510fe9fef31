"""What counts of a lead's events: each order, submission and message once, and money per order. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from scoring.analytics.facts import EventFact
from scoring.analytics.orders import Order, OrderReport, orders_of

CONTACT_TYPES: Final = frozenset({"call_made", "email_sent", "sms_sent"})
"""By these, sales contacts a lead."""
PURCHASE, REFUND = "purchase_made", "purchase_refunded"

Money = dict[str, int]
"""Minor units by currency."""


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


def orders_of_lead(events: Iterable[EventFact], *, refunds: bool = True) -> list[Order]:
    """The lead's orders, each at its first report; without `refunds` as they were sold."""
    return orders_of(
        OrderReport(
            lead=0,
            event=f"{event.identity_key} {event.event_id}",
            refund=event.type == REFUND,
            channel=event.channel,
            at=event.occurred_at,
            order_id=event.order_id,
            refund_id=event.refund_id,
            currency=event.currency,
            amount=event.amount_minor,
        )
        for event in events
        if (event.type == PURCHASE or (refunds and event.type == REFUND))
        and event.amount_minor is not None
        and event.currency is not None
    )


def revenue_of(orders: Iterable[Order]) -> Money:
    """The sum of each currency."""
    total: defaultdict[str, int] = defaultdict(int)
    for order in orders:
        total[order.currency] += order.amount
    return dict(sorted(total.items()))

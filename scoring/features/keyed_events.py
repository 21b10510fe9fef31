"""Events that several records may report: an order, a form's submission, an e-mail that was sent.

A natural key names such an event within a lead, whichever identity reports it, so it counts once: at the time of its
first record, as its last record describes it. Refunds belong to an order and may come before it. Joining two reports
of an event is commutative, associative and idempotent, so any order and grouping gives the same.
An identity remembers the KEYS_KEPT latest events of each kind. What falls out stays counted; another record of it
counts again, and a refund of it lowers nothing.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import blake2b

from msgspec import Struct

KEYED_EVENTS_KEPT = 64
"""Events of one kind that an identity remembers by their keys; the latest stay."""
REFUNDS_KEPT = 16
"""Refunds of one order; more are not counted."""

SumAmount = tuple[str, int]
"""(name of the sum, amount in minor units)"""
RefundReport = tuple[int, str, int]
"""(occurred_at, name of the sum, amount in minor units); of two records of a refund the greatest counts."""


class KeyedEvent(Struct, array_like=True, gc=False, frozen=True):
    """What the records of one event say together."""

    first: tuple[int, int] | None = None
    """(occurred_at, local day) of its first record; None: only refunds have come."""
    latest: tuple[int, list[SumAmount], list[str]] | None = None
    """(occurred_at, sums, signals) of its last record; of two at one moment the greatest."""
    refunds: dict[str, RefundReport] = {}


KeyedEvents = dict[str, dict[str, KeyedEvent]]
"""By kind, the events by the digest of their keys."""


def key_digest(*parts: str) -> str:
    """Eleven characters in place of a key: keys that begin alike stay different."""
    hashed = blake2b(digest_size=8)
    for part in parts:
        encoded = part.encode(errors="replace")
        hashed.update(len(encoded).to_bytes(4, "big") + encoded)
    return b64encode(hashed.digest())[:11].decode()


def joined_reports(a: KeyedEvent, b: KeyedEvent) -> KeyedEvent:
    """One event of two reports of it."""
    refunds = dict(a.refunds)
    for name, refund in b.refunds.items():
        refunds[name] = max(refund, refunds.get(name, refund))
    return KeyedEvent(
        min(filter(None, (a.first, b.first)), default=None),
        max(filter(None, (a.latest, b.latest)), default=None),
        {name: refunds[name] for name in sorted(refunds)[:REFUNDS_KEPT]},
    )


def put_report(events: dict[str, KeyedEvent], key: str, reported: KeyedEvent) -> None:
    """Add a report of the event, in place."""
    current = events.get(key)
    events[key] = reported if current is None else joined_reports(current, reported)


def remove_excess(events: dict[str, KeyedEvent]) -> Iterator[KeyedEvent]:
    """Remove the events beyond the bound, the oldest first, and return them."""
    while len(events) > KEYED_EVENTS_KEPT:
        yield events.pop(min(events, key=lambda key: (_last_reported_at(events[key]), key)))


def count_event_into(
    event: KeyedEvent, count: Callable[[str, int, int], None], add: Callable[[str, int], None]
) -> None:
    """Count the event once: `count` gets (signal, occurred_at, day), `add` gets (sum, amount less refunds)."""
    if event.first is None or event.latest is None:
        return
    for signal in event.latest[2]:
        count(signal, *event.first)
    for name, amount in event.latest[1]:
        refunded = sum(refund for _, of, refund in event.refunds.values() if of == name)
        add(name, max(amount - refunded, 0))


def _last_reported_at(event: KeyedEvent) -> int:
    moments = [at for at, _, _ in event.refunds.values()]
    if event.latest is not None:
        moments.append(event.latest[0])
    return max(moments)

"""What counts of a lead's events: each order, submission and message once. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from scoring.analytics.facts import EventFact

CONTACT_TYPES: Final = frozenset({"call_made", "email_sent", "sms_sent"})
"""By these, sales contacts a lead."""


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

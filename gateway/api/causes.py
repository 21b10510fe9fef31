"""Which event caused a change of a lead.

A change names its event by the id. Event ids are unique within a visitor, and a lead may have several: two chats of one
person both begin with the event `chat-session-started`. The lead's clock tells them apart, since a change happens when
its event is recorded, or later if the lead was ahead.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.store import Row

EventsById = Mapping[str, Sequence[Row]]
"""Event id -> the lead's events of this id, the earliest recorded first."""


def by_id(events: Sequence[Row]) -> EventsById:
    same_ids: dict[str, list[Row]] = {}
    for event in sorted(events, key=lambda event: event["recorded_at"]):
        same_ids.setdefault(event["event_id"], []).append(event)
    return same_ids


def cause_of(events: EventsById, event_id: str | None, at: datetime) -> Row | None:
    """The event of this id that caused a change at this moment."""
    same_id = events.get(event_id or "", ())
    recorded = [event for event in same_id if event["recorded_at"] <= at]
    return recorded[-1] if recorded else next(iter(same_id), None)

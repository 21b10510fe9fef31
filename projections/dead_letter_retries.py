"""What sends a dead letter's record again: the record, as it was or corrected."""

from schemas.decode import Refusal, decode_source, key_of
from schemas.envelope import Event
from schemas.record import Outgoing
from schemas.topics import EVENTS

INTERNAL_REASON = (
    "is an internal record and cannot be sent again: send the event that caused it, under a new event_id"
)


def record_to_retry(topic: str, key: str | None, value: bytes) -> Outgoing:
    """The record for the log. `key`: that of the dead letter, which only a control record needs. Raises Refusal."""
    if topic != EVENTS:
        raise Refusal(None, INTERNAL_REASON)
    message = decode_source(value)
    return Outgoing(EVENTS, key_of(message) if isinstance(message, Event) else key or "", value)

"""Which events may be counted: what visitors have said about being tracked. Pure.

A visitor's consent belongs to the browser or device that was asked. It decides what is stored, and has nothing to do with
`profiling_consent`, by which a person objects to being scored.
"""

from schemas.envelope import Event
from schemas.events import ConsentChanged
from schemas.moment import millis

TrackingWord = tuple[int, str, bool]
"""(occurred_at, event_id, whether the visitor agreed): the visitor's last word about being tracked."""


def may_be_counted(event: Event, required_since: int | None, word: TrackingWord | None = None) -> bool:
    """`required_since` (ms): web events that are recorded from then on need consent; None: they need none. `word`: the
    last one that the log has of the visitor. What an event itself says of consent goes before both.
    """
    if isinstance(event, ConsentChanged):
        return True
    if event.tracking_consent is not None:
        return event.tracking_consent
    if event.source != "web":
        return True
    if word is not None and not word[2] and millis(event.occurred_at) >= word[0]:
        return False
    recorded_at = millis(event.recorded_at or event.occurred_at)
    return required_since is None or event.visitor_id is None or recorded_at < required_since


def last_tracking_word(event: Event, word: TrackingWord | None) -> TrackingWord | None:
    """The visitor's last word after this event, by the time at which it was said."""
    if not isinstance(event, ConsentChanged) or event.tracking is None:
        return word
    newest = (millis(event.occurred_at), event.event_id, event.tracking)
    return newest if word is None or newest > word else word

"""The door refuses events about people who were erased. It knows no database: a copy of their hashes is in memory."""

from collections.abc import Iterable

from gateway import metrics
from gateway.answers import RequestProblem
from schemas.decode import Refusal
from schemas.envelope import Event
from scoring.features.erased_people import ErasedPeople

ERASED_REASON = "this person was erased: nothing about them is recorded any more"


def check_not_erased(people: ErasedPeople, event: Event) -> None:
    """Raises Refusal, which does not show by which of its names the event was recognised."""
    if people and people.is_named_in(event):
        raise Refusal(None, ERASED_REASON)


def refuse_erased(people: ErasedPeople, events: Iterable[Event]) -> None:
    """Problem 410 if one of the events names an erased person."""
    for event in events:
        try:
            check_not_erased(people, event)
        except Refusal as refusal:
            metrics.REFUSED.labels("event").inc()
            raise RequestProblem(410, refusal.reason) from None

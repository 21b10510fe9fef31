"""Events in an order in time: what an identity keeps of them, and how often the order was completed.

A sequence has 2 to MOST_STEPS steps and a longest time from its first event to its last. Occurrences never overlap: the
one that ends first counts, and the next begins after it. The events are kept sorted by when they occurred, so any order of
arrival and any merge of identities gives the same. An identity keeps the EVENTS_KEPT latest events of a sequence. What
falls out stays counted; an event that comes later and occurred before those no longer completes anything with them.
"""

from bisect import insort
from collections.abc import Iterable

from msgspec import Struct

MOST_STEPS = 8
EVENTS_KEPT = 32
KEYED_MARK = "#"
"""An id that begins with this is the digest of a natural key: two reports of one event are one, at the time of the first."""

StepEvent = tuple[int, str, int, int]
"""(occurred_at, id, local day, steps that it may be: one bit for each)"""


class SequenceDelta(Struct, array_like=True, gc=False, frozen=True):
    """What one event adds to one sequence."""

    within: int
    """Milliseconds."""
    length: int
    """How many steps the sequence has."""
    steps: int
    """The steps that the event may be: one bit for each."""
    event_id: str


class KeptSequence(Struct, array_like=True, gc=False):
    """The latest events of the steps of one sequence, sorted."""

    within: int
    length: int
    events: list[StepEvent] = []


Occurrence = tuple[int, ...]
"""Positions of a completed sequence in the events, one for each step."""


def occurrences_of(kept: KeptSequence) -> list[Occurrence]:
    """The completed sequences, the first first. Linear in events times steps."""
    completed: list[Occurrence] = []
    last = kept.length - 1
    begun: list[Occurrence] = [()] * kept.length
    # begun[k]: of what has reached step k, the one that began last, since it has most time left.
    for position, (at, _, _, steps) in enumerate(kept.events):
        for step in range(last, -1, -1):
            if not steps >> step & 1:
                continue
            before = begun[step - 1] if step else ()
            if step and (not before or at - kept.events[before[0]][0] > kept.within):
                continue
            chain = (*before, position)
            if step == last:
                completed.append(chain)
                begun = [()] * kept.length
                break
            if not begun[step] or chain[0] >= begun[step][0]:
                begun[step] = chain
    return completed


def add_step_event(kept: KeptSequence, event: StepEvent) -> list[StepEvent]:
    """Add an event in place. Returns the last event of each occurrence that falls out: the caller counts it."""
    _put_event(kept.events, event)
    return drop_excess_step_events(kept)


def drop_excess_step_events(kept: KeptSequence) -> list[StepEvent]:
    """Drop the oldest events beyond EVENTS_KEPT, in place. Returns the last event of each occurrence that falls out."""
    settled = []
    while len(kept.events) > EVENTS_KEPT:
        first = next(iter(occurrences_of(kept)), None)
        if first is not None and first[0] == 0:
            settled.append(kept.events[first[-1]])
            del kept.events[: first[-1] + 1]
        else:
            del kept.events[0]
    return settled


def merged_sequence(parts: Iterable[KeptSequence]) -> KeptSequence:
    """The events of several identities together, for readers."""
    first, *others = parts
    whole = KeptSequence(first.within, first.length, list(first.events))
    for other in others:
        for event in other.events:
            _put_event(whole.events, event)
    return whole


def _put_event(events: list[StepEvent], event: StepEvent) -> None:
    """Of several reports of one keyed event the first counts. Other events are one only if they are equal."""
    at = next(
        (
            position
            for position, other in enumerate(events)
            if other == event or (event[1].startswith(KEYED_MARK) and other[1] == event[1])
        ),
        None,
    )
    if at is None:
        insort(events, event)
    elif event < events[at]:
        del events[at]
        insort(events, event)

"""People who get mixed up: shared devices, merges in chains and circles, splits, more devices than a lead holds.

Everything that makes identities move, in numbers, for tests that kill processes meanwhile. The same seed gives
the same events, in the order in which they are recorded.
"""

import heapq
import random
from datetime import timedelta

from schemas.events import ContactShared, LeadIdentified, LeadsMerged, MergeUndone, PageViewed, QrScanned
from scoring.features.identity import MOST_IDENTITIES

LEADS = 5
DEVICES = 4
MOVES = 12
"""Of each kind, in a group: claims, merges or splits, acts."""
GROUP_EVENTS, CROWD_EVENTS = 3 * MOVES, 2 * (MOST_IDENTITIES + 10)


def entangled(seed, groups, begin, end, *, crowds=0):
    """`groups` of a few people each who share devices and are taken for one another, between two moments;
    and `crowds` of devices that all say to be one person.
    """
    told = [list(_group(random.Random(f"{seed}/group/{n}"), f"g{n}", begin, end)) for n in range(groups)]
    told += [list(_crowd(random.Random(f"{seed}/crowd/{n}"), f"c{n}", begin, end)) for n in range(crowds)]
    return sorted((event for events in told for event in events), key=_moment)


def mixed_in(events, more):
    """Both, in the order in which they are recorded."""
    return list(heapq.merge(events, more, key=_moment))


def assert_entangled(cards):
    """It came to what it is for: full leads, leads that others went into, and leads that are no more."""
    assert max(card.identities for card in cards.values()) == MOST_IDENTITIES
    assert sum(card.identities > 1 for card in cards.values()) > 20
    assert sum(card.redirect is not None for card in cards.values()) > 20


def _moment(event):
    return event.recorded_at, event.event_id


def _group(rng, name, begin, end):
    leads = [f"{name}-lead-{n}" for n in range(LEADS)]
    devices = [f"{name}-device-{n}" for n in range(DEVICES)]
    for number, at in enumerate(moments(rng, 3 * MOVES, begin, end)):
        said = {"event_id": f"{name}.{number}", "occurred_at": at, "recorded_at": at}
        device, lead = rng.choice(devices), rng.choice(leads)
        match number % 3:
            case 0:
                kind = rng.choice((LeadIdentified, PageViewed, ContactShared))
                more = {"email": f"{lead}@acme.io"} if kind is ContactShared else {}
                yield kind(**said, **more, visitor_id=device, lead_id=lead)
            case 1 if rng.random() < 0.6:
                into = rng.choice([other for other in leads if other != lead])
                yield LeadsMerged(**said, lead_id=lead, into=into, source="crm")
            case 1:
                yield MergeUndone(**said, lead_id=lead, source="crm")
            case _:
                yield rng.choice((PageViewed, QrScanned))(**said, visitor_id=device)


def _crowd(rng, name, begin, end):
    """Some come before they say who they are; the last ones find the lead full."""
    lead = f"{name}-lead"
    for number, at in enumerate(moments(rng, MOST_IDENTITIES + 10, begin, end)):
        said = {"occurred_at": at, "recorded_at": at, "visitor_id": f"{name}-device-{number}"}
        yield PageViewed(**said, event_id=f"{name}.{number}", lead_id=None if number % 2 else lead)
        yield LeadIdentified(**said, event_id=f"{name}.{number}!", lead_id=lead)


def moments(rng, count, begin, end):
    span = (end - begin) / timedelta(milliseconds=1)
    return sorted(begin + timedelta(milliseconds=int(rng.random() * span)) for _ in range(count))

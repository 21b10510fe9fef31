"""How many engagements of each type and channel a lead had on each local day. Pure; linear in the facts.

Unlike a day's summary, it counts every event: a further report of an order, a form or a message, too.
"""

from collections import Counter
from datetime import date
from typing import NamedTuple

from scoring.analytics.facts import LeadFacts
from scoring.features.calendar import Calendar
from scoring.journeys.counted_events import is_touchpoint
from scoring.journeys.journey import local_date


class EngagementCount(NamedTuple):
    day: date
    type: str
    channel: str
    engagements: int


def engagement_counts(facts: LeadFacts, days: Calendar) -> list[EngagementCount]:
    """By day, type and channel, in that order."""
    counts = Counter(
        (local_date(days, event.occurred_at), event.type, event.channel)
        for event in facts.events
        if is_touchpoint(event)
    )
    return [EngagementCount(*key, count) for key, count in sorted(counts.items())]

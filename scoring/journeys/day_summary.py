"""What one lead did on each local day, and how its score and stage changed. Pure; linear in the facts.

An event counts on the day on which it occurred, so a late event corrects its day. Scores and stages count by the lead's
clock: on the day on which they changed. Weeks and months are sums of days.
"""

from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

from scoring.analytics.facts import EventFact, LeadFacts
from scoring.analytics.orders import Money, Order, order_reports, orders_of, revenue_of
from scoring.features.calendar import Calendar, date_of_day
from scoring.journeys.counted_events import counted_once, is_touchpoint
from scoring.models.points import ONE_POINT, rounded_points

COUNTED_TYPES: Final = {
    "email_sent": "emails_sent",
    "email_opened": "emails_opened",
    "email_clicked": "emails_clicked",
    "email_replied": "emails_replied",
    "form_submitted": "forms_submitted",
    "page_viewed": "pages_viewed",
}
"""The count of each event type that a summary names."""
PUBLICATION_CAUSE: Final = "model:"
"""A change by a publication of the model is no merit of a period."""


class DaySummary(NamedTuple):
    """A day on which something happened."""

    day: date
    interactions: int
    touchpoints: int
    emails_sent: int
    emails_opened: int
    emails_clicked: int
    emails_replied: int
    forms_submitted: int
    pages_viewed: int
    orders: int
    net: Money
    """Revenue of the orders first reported on the day, less their refunds whenever those came."""
    score_start: int
    """Rounded totals of the model `composite`."""
    score_end: int
    engagement: Decimal
    """Points of the group `engagement` gained less lost, weighted as in the total."""
    stage_start: str
    stage_end: str
    stage_changes: int
    last_interaction_at: int | None
    """Of this day, or before it."""


class _Day:
    """What happened on one day."""

    def __init__(self) -> None:
        self.events: list[EventFact] = []
        self.orders: list[Order] = []
        self.engagement = 0
        self.score_start: int | None = None
        self.score_end = 0
        self.stage_start = ""
        self.stage_end = ""
        self.stage_changes = 0


def day_summaries(facts: LeadFacts, days: Calendar) -> list[DaySummary]:
    """The days in order."""
    by_day: defaultdict[int, _Day] = defaultdict(_Day)
    for event in counted_once(facts.events):
        if is_touchpoint(event):
            by_day[days.day_of(event.occurred_at)].events.append(event)
    for order in orders_of(order_reports(facts.events)):
        by_day[days.day_of(order.at)].orders.append(order)
    for change in facts.scores:
        day = by_day[days.day_of(change.at)]
        if day.score_start is None:
            day.score_start = change.previous
        day.score_end = change.total
        if not change.caused_by.startswith(PUBLICATION_CAUSE):
            day.engagement += change.engagement
    for entry in facts.stages:
        day = by_day[days.day_of(entry.at)]
        day.stage_start = day.stage_start or entry.previous
        day.stage_end = entry.stage
        day.stage_changes += 1
    summaries = []
    score, stage, last_interaction_at = 0, facts.first_stage, None
    for number in sorted(by_day):
        day = by_day[number]
        interactions = [event.occurred_at for event in day.events if event.interaction]
        last_interaction_at = max(interactions, default=last_interaction_at)
        counts = dict.fromkeys(COUNTED_TYPES.values(), 0)
        for event in day.events:
            if (name := COUNTED_TYPES.get(event.type)) is not None:
                counts[name] += 1
        score_start = score if day.score_start is None else day.score_start
        score = score if day.score_start is None else day.score_end
        stage_start, stage = day.stage_start or stage, day.stage_end or stage
        summaries.append(
            DaySummary(
                day=date_of_day(number),
                interactions=len(interactions),
                touchpoints=len(day.events),
                **counts,
                orders=len(day.orders),
                net=revenue_of(day.orders),
                score_start=rounded_points(score_start),
                score_end=rounded_points(score),
                engagement=Decimal(day.engagement) / ONE_POINT,
                stage_start=stage_start,
                stage_end=stage,
                stage_changes=day.stage_changes,
                last_interaction_at=last_interaction_at,
            )
        )
    return summaries

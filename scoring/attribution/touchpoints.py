"""Which events of a lead are touchpoints, and of which channel and source each is. Pure; linear in the events."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from scoring.analytics.facts import EventFact
from scoring.attribution.rules import NAME_OF_CHANNEL, SILENT_GROUPS, AttributionRules

MOST_TOUCHPOINTS: Final = 1_000
"""Touchpoints of one conversion: if there are more within the lookback, the first one and the latest ones count."""

_FIELD_OF_CONDITION: Final = {"event": "type", "met_in": "channel"}
_TYPE_OF_SOURCE: Final = {"form_submitted": "form", "call_made": "call", "meeting_scheduled": "meeting"}


class Touchpoint(NamedTuple):
    """An event that earns credit. Touchpoints sort by time, then as they were recorded."""

    at: int
    recorded_order: tuple[int, int, int]
    event_id: str
    event_type: str
    channel: str
    source_type: str
    """campaign, sequence, form ...: what brought the person."""
    source_name: str


def touchpoint_of(event: EventFact, rules: AttributionRules) -> Touchpoint | None:
    """The touchpoint that the event is; None: it earns no credit."""
    if not event.interaction:
        return None
    if event.type not in rules.touchpoints and not (
        event.type in rules.arrivals and _came_from_elsewhere(event)
    ):
        return None
    source_type, source_name = _source_of(event)
    return Touchpoint(
        event.occurred_at,
        event.recorded_order,
        event.event_id,
        event.type,
        _channel_of(event, rules),
        source_type,
        source_name,
    )


def touchpoints_before(touchpoints: Sequence[Touchpoint], at: int, lookback_ms: int) -> Sequence[Touchpoint]:
    """Those of the sorted touchpoints at or before the moment, and within the lookback."""
    start = bisect_left(touchpoints, at - lookback_ms, key=_time_of)
    end = bisect_right(touchpoints, at, key=_time_of)
    if end - start > MOST_TOUCHPOINTS:
        return [touchpoints[start], *touchpoints[end - MOST_TOUCHPOINTS + 1 : end]]
    return touchpoints[start:end]


def _time_of(touchpoint: Touchpoint) -> int:
    return touchpoint.at


def _came_from_elsewhere(event: EventFact) -> bool:
    return event.channel_group is not None and event.channel_group not in SILENT_GROUPS


def _channel_of(event: EventFact, rules: AttributionRules) -> str:
    for rule in rules.channels:
        if all(_condition_value(event, key) in values for key, values in rule.conditions.items()):
            return rule.channel
    if event.channel_group is not None and event.channel_group not in SILENT_GROUPS:
        return event.channel_group
    return NAME_OF_CHANNEL.get(event.channel, event.channel)


def _condition_value(event: EventFact, key: str) -> Any:
    return getattr(event, _FIELD_OF_CONDITION.get(key, key))


def _source_of(event: EventFact) -> tuple[str, str]:
    """(type, name): as the event says, else its campaign, else its title, else the event type."""
    if event.source_name or event.source_type:
        name = event.source_name or event.source_id or event.campaign_name or event.title or event.type
        return event.source_type or _default_source_type(event), name
    if campaign := event.campaign_name or event.campaign_id:
        return "campaign", campaign
    return _default_source_type(event), event.campaign_source or event.title or event.type


def _default_source_type(event: EventFact) -> str:
    return _TYPE_OF_SOURCE.get(event.type, event.channel)

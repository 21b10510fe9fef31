"""Items of a lead's timeline as answers show them."""

from collections.abc import Mapping
from typing import Any

from gateway.api.execution_shapes import short_execution_json
from gateway.api.found_leads import lead_id_as_sent
from gateway.api.points import points
from gateway.store import Row
from schemas.moment import moment
from scoring.analytics.facts import EventFact, ExecutionFact, OwnerFact, ScoreFact, StageFact
from scoring.features.signals import major_units
from scoring.journeys.counted_events import is_touchpoint
from scoring.journeys.timeline import TimelineItem


def timeline_json(item: TimelineItem, executions: Mapping[int, Row]) -> dict[str, Any]:
    shown: dict[str, Any] = {"kind": item.kind, "at": moment(item.at)}
    match item.fact:
        case ExecutionFact() as execution:
            return shown | {"execution": short_execution_json(executions[execution.execution_id])}
        case EventFact() as event:
            return shown | _event_json(event)
        case ScoreFact() as change:
            return shown | {
                "model": change.model,
                "total": points(change.total),
                "change": points(change.total - change.previous),
                "caused_by": change.caused_by,
            }
        case StageFact() as entry:
            return shown | {
                "stage": entry.stage,
                "previous_stage": entry.previous,
                "reason": entry.reason,
                "caused_by": entry.caused_by,
            }
        case OwnerFact():
            name = "from_lead" if item.kind == "merged" else "to_lead"
            return shown | {name: lead_id_as_sent(item.other_lead or "")}


def _event_json(event: EventFact) -> dict[str, Any]:
    amount = event.amount_minor
    return {
        "event_id": event.event_id,
        "type": event.type,
        "recorded_at": moment(event.recorded_at),
        "channel": event.channel,
        "channel_group": event.channel_group,
        "title": event.title,
        "source_type": event.source_type,
        "source_name": event.source_name,
        "campaign": event.campaign_name,
        "interaction": event.interaction,
        "touchpoint": is_touchpoint(event),
        "value": None if amount is None or event.currency is None else major_units(amount, event.currency),
        "currency": event.currency,
        "late": event.late,
    }

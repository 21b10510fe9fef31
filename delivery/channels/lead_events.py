"""Actions that change a lead are events in the log: caused by the workflow, with its idempotency key as `event_id`.

The folds drop a repetition by that id. The event occurred when the workflow was triggered, so what a person does meanwhile
wins.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast, get_args

from delivery.message import Message
from delivery.outcomes import DeliveryFailedError, DeliveryRejectedError
from delivery.templates import TemplateRefusedError, render_published
from schemas.decode import Refusal, decode_source, encode_source, key_of
from schemas.envelope import ANONYMOUS_PREFIX, Event
from schemas.events import CampaignJoined, LeadAssigned, ProfileUpdated, Stage, StageChanged, TaskCreated
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.features.profile_fields import (
    QUALIFICATION_FIELD,
    QUALIFICATION_FIELD_BY,
    QUALIFICATION_FIELD_UNTIL,
)

AppendEvents = Callable[[Sequence[Outgoing]], Awaitable[None]]
"""Returns once the log has the records."""

LIFECYCLE_STAGES: Final = frozenset(get_args(Stage))
WORKFLOW_SOURCE: Final = "workflow"


def event_of_action(message: Message, now: datetime) -> Event:
    """Raises DeliveryRejectedError for a configuration that no event can express."""
    lead_id, config = message.lead.lead_id, message.config
    anonymous = lead_id.startswith(ANONYMOUS_PREFIX)
    envelope: dict[str, Any] = {
        "event_id": message.key,
        "occurred_at": message.at,
        "recorded_at": now,
        "tenant": message.tenant,
        "visitor_id": lead_id.removeprefix(ANONYMOUS_PREFIX) if anonymous else None,
        "lead_id": None if anonymous else lead_id,
        "source": WORKFLOW_SOURCE,
        "hops": message.hops + 1,
    }
    by = f"workflow {message.workflow_id}"
    match message.action:
        case "assign_owner":
            owner = message.owner
            if owner is None:
                raise DeliveryRejectedError("no owner was chosen")
            event: Event = LeadAssigned(**envelope, assigned_to=owner.owner_id, by=by)
        case "change_status":
            event = _changed_status(envelope, _text(config, "status"), message.reason, by)
        case "move_to_stage":
            event = _changed_stage(envelope, message, by)
        case "update_field":
            event = ProfileUpdated(**envelope, fields={_text(config, "field"): config.get("value")})
        case "create_task":
            event = TaskCreated(
                **envelope,
                title=_rendered(message, "title"),
                description=_rendered(message, "description") if config.get("description") else None,
                due_at=_due_moment(config, message.at),
                priority=_optional_text(config, "priority"),
            )
        case "add_to_campaign":
            event = CampaignJoined(
                **envelope,
                campaign_id=_text(config, "campaign_id"),
                campaign_name=_optional_text(config, "campaign_name"),
            )
        case other:
            raise DeliveryRejectedError(f"{other[:40]!r} is not an action on a lead")
    return event


def _changed_status(envelope: dict[str, Any], status: str, reason: str, by: str) -> Event:
    """A stage of the lifecycle is a move to it; anything else is the profile field `status`."""
    stage = status.strip().lower()
    if stage in LIFECYCLE_STAGES:
        return StageChanged(**envelope, stage=cast("Stage", stage), reason=reason[:512], by=by)
    return ProfileUpdated(**envelope, fields={"status": status})


def _changed_stage(envelope: dict[str, Any], message: Message, by: str) -> Event:
    """A stage of the lifecycle is a move to it; mql, sql and hot override the qualification, for so many `days` if set."""
    config = message.config
    stage, reason = _text(config, "stage").strip().lower(), _optional_text(config, "reason") or message.reason
    if stage in LIFECYCLE_STAGES:
        return StageChanged(**envelope, stage=cast("Stage", stage), reason=reason[:512], by=by)
    days = config.get("days")
    until = message.at + timedelta(days=float(days)) if days else None
    return ProfileUpdated(
        **envelope,
        fields={
            QUALIFICATION_FIELD: stage,
            QUALIFICATION_FIELD_BY: by,
            QUALIFICATION_FIELD_UNTIL: until.isoformat() if until else None,
        },
    )


async def append_event(message: Message, append: AppendEvents, now: datetime) -> None:
    """Raises DeliveryError."""
    try:
        event = event_of_action(message, now)
        encoded = encode_source(event)
        decode_source(encoded)
    except Refusal as refusal:
        raise DeliveryRejectedError(f"the log takes no such event ({refusal})") from refusal
    except (TypeError, ValueError, OverflowError) as cause:
        raise DeliveryRejectedError(f"the configuration of the action cannot be used ({cause})") from cause
    try:
        await append([Outgoing(EVENTS, key_of(event), encoded)])
    except Exception as cause:
        raise DeliveryFailedError(f"the log takes no events now ({type(cause).__name__})") from cause


def _text(config: Mapping[str, Any], name: str) -> str:
    value = config.get(name)
    if value is None or isinstance(value, dict | list) or not str(value).strip():
        raise DeliveryRejectedError(f"the action needs `{name}`")
    return str(value)


def _optional_text(config: Mapping[str, Any], name: str) -> str | None:
    return str(config[name]) if config.get(name) is not None else None


def _rendered(message: Message, name: str) -> str:
    try:
        return render_published(_text(message.config, name), message)
    except TemplateRefusedError as cause:
        raise DeliveryRejectedError(f"`{name}` cannot be made: {cause}") from cause


def _due_moment(config: Mapping[str, Any], at: datetime) -> datetime | None:
    days = config.get("due_in_days")
    return None if days is None else at + timedelta(days=float(days))

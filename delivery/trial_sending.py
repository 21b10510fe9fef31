"""Sends the message of a workflow once, marked as a test, without the outbox. It never reaches the lead: an e-mail goes to the
recipients of the channel.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from delivery.configuration import DeliveryConfiguration
from delivery.message import ChannelResult, LeadCard, Message, OwnerCard
from delivery.notifications import add_notification, notification_texts
from delivery.outcomes import DeliveryError
from delivery.sending import send_sample
from projections.connection import Connection
from projections.outbox import DEFAULT_CHANNELS, NOTIFICATIONS_CHANNEL
from scoring.workflows.workflow import Workflow

EXECUTION_BITS: Final = 53


def trial_message(
    tenant: str, workflow: Workflow, version: int, lead: LeadCard, *, by: str, now: datetime
) -> Message:
    """It has a key of its own, so no receiver takes it for a repetition."""
    config: Mapping[str, Any] = workflow.config
    if workflow.action == "send_email":
        config = {**config, "to": "channel"}
    return Message(
        tenant=tenant,
        execution_id=secrets.randbits(EXECUTION_BITS),
        workflow_id=workflow.id,
        workflow=f"Test: {workflow.name}",
        version=version,
        trigger="manual",
        reason=f"a test by {by}",
        action=workflow.action,
        config=config,
        hops=0,
        at=now,
        channel="",
        attempt=1,
        lead=lead,
        owner=None if lead.assigned_to is None else OwnerCard(lead.assigned_to),
    )


def channels_of(message: Message) -> list[str]:
    """Where the action of a message goes."""
    match message.action:
        case "send_notification":
            return [NOTIFICATIONS_CHANNEL, *message.config.get("channels", [])]
        case action:
            return [message.config.get("channel", DEFAULT_CHANNELS[action])]


async def send_trial(
    configuration: DeliveryConfiguration,
    message: Message,
    notify: Callable[[Callable[[Connection], None]], Awaitable[None]],
    now: datetime,
) -> list[ChannelResult]:
    """By channel, whether the message was sent. `notify` runs a change of rows."""
    results = []
    for channel in channels_of(message):
        try:
            if channel == NOTIFICATIONS_CHANNEL:
                await notify(partial(_add_notification, message=message, now=now))
            else:
                await send_sample(configuration, channel, now, message)
            results.append(ChannelResult(channel, sent=True))
        except DeliveryError as failed:
            results.append(ChannelResult(channel, sent=False, error=failed.reason))
    return results


def _add_notification(connection: Connection, *, message: Message, now: datetime) -> None:
    title, text = notification_texts(message)
    add_notification(connection, message, title, text, now)

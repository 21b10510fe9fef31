"""Sends one message over a channel of the configuration. Workers use it, and whoever tries a channel."""

from collections.abc import Iterable
from datetime import datetime

import httpx

from delivery.channels.apprise_services import AppriseChannel, send_by_apprise
from delivery.channels.crm import (
    HubspotChannel,
    OdooChannel,
    PipedriveChannel,
    PushedRecord,
    push_to_crm,
)
from delivery.channels.http_requests import http_client
from delivery.channels.smtp_email import EmailChannel, send_email
from delivery.channels.webhook import WebhookChannel, send_webhook
from delivery.configuration import DeliveryConfiguration
from delivery.crm.inbound import CrmWebhookChannel
from delivery.message import Message
from delivery.outcomes import DeliveryRejectedError
from delivery.templates import SAMPLE
from projections.outbox import LEAD_CHANNEL, NOTIFICATIONS_CHANNEL


async def send_message(
    configuration: DeliveryConfiguration, message: Message, http: httpx.AsyncClient, now: datetime
) -> PushedRecord | None:
    """Returns the record of a CRM that it has written. Raises DeliveryError."""
    match configuration.channel(message.channel, message.tenant):
        case EmailChannel() as channel:
            seconds = configuration.limits.timeout_seconds
            await send_email(channel, configuration.templates, message, seconds)
        case WebhookChannel() as channel:
            await send_webhook(channel, message, http, now)
        case AppriseChannel() as channel:
            await send_by_apprise(channel, message)
        case HubspotChannel() | PipedriveChannel() | OdooChannel() as channel:
            return await push_to_crm(channel, message, http, now)
        case CrmWebhookChannel():
            raise DeliveryRejectedError(
                f"the channel {message.channel[:64]!r} only takes what a CRM reports: nothing can be sent over it"
            )
        case None:
            raise DeliveryRejectedError(f"there is no channel {message.channel[:64]!r} for this tenant")
    return None


async def send_sample(
    configuration: DeliveryConfiguration, channel: str, now: datetime, message: Message = SAMPLE
) -> None:
    """Sends a message, by default that of an invented lead, over the channel at once and without the outbox. Raises
    DeliveryError.
    """
    sample = message._replace(channel=channel, at=now)
    async with http_client(configuration.limits.timeout_seconds) as http:
        await send_message(configuration, sample, http, now)


def kinds_of_channels(configuration: DeliveryConfiguration) -> Iterable[tuple[str, str]]:
    """(name, kind) of every channel, those that are always there included."""
    yield LEAD_CHANNEL, LEAD_CHANNEL
    yield NOTIFICATIONS_CHANNEL, NOTIFICATIONS_CHANNEL
    for name, channel in configuration.channels.items():
        yield name, str(type(channel).__struct_config__.tag)

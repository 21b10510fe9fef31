"""Webhooks as Standard Webhooks defines them (https://www.standardwebhooks.com): id, timestamp, signatures.

With several secrets the body is signed by each, so that a receiver may change its secret at any time. Any status that is not
2xx is a failure that is tried again, except 410, by which a receiver says that it wants no more.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec
from msgspec import Struct
from standardwebhooks import Webhook

from delivery.channels.http_requests import check_address, request
from delivery.message import Message
from delivery.outcomes import DeliveryFailedError, DeliveryRejectedError
from delivery.secret_text import SecretText

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what secrets begin with
EVENT_TYPE: Final = "workflow.triggered"
REMOVED_STATUS: Final = 410
_LEAST_SECRET_BYTES, _MOST_SECRET_BYTES = 24, 64


class WebhookChannel(Struct, frozen=True, forbid_unknown_fields=True, tag="webhook", tag_field="type"):
    """An address that gets every message as a signed POST. The first secret is the newest."""

    url: SecretText
    secrets: tuple[SecretText, ...]
    tenants: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ValueError."""
        check_address(self.url.reveal())
        if not self.secrets:
            raise ValueError("secrets: at least one is needed")
        for number, secret in enumerate(self.secrets, 1):
            check_signing_secret(secret, f"secrets: number {number}")


def check_signing_secret(secret: SecretText, which: str) -> None:
    """Raises ValueError, which begins with `which`."""
    text = secret.reveal()
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not (text.startswith(SECRET_PREFIX) and _LEAST_SECRET_BYTES <= len(decoded) <= _MOST_SECRET_BYTES):
        raise ValueError(
            f"{which} is not {SECRET_PREFIX} and the Base64 of {_LEAST_SECRET_BYTES} to "
            f"{_MOST_SECRET_BYTES} random bytes: echo {SECRET_PREFIX}$(openssl rand -base64 32)"
        )


def webhook_body(message: Message) -> bytes:
    """The same bytes at every attempt, unless the lead has changed."""
    lead = message.lead
    return msgspec.json.encode(
        {
            "type": EVENT_TYPE,
            "timestamp": message.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "data": {
                "execution_id": message.execution_id,
                "tenant": message.tenant,
                "workflow": {"id": message.workflow_id, "name": message.workflow, "version": message.version},
                "trigger": message.trigger,
                "reason": message.reason,
                "lead": {
                    "id": lead.lead_id,
                    "name": lead.name,
                    "email": lead.email,
                    "phone": lead.phone,
                    "company": lead.company,
                    "stage": lead.stage,
                    "assigned_to": lead.assigned_to,
                    "scores": dict(lead.scores),
                    "fields": dict(lead.fields),
                },
                **_extra(message.config),
            },
        }
    )


def _extra(config: Any) -> dict[str, Any]:
    """What the workflow wants to say beside: its `message` and `data`."""
    return {name: config[name] for name in ("message", "data") if config.get(name) is not None}


def signed_headers(secrets: tuple[SecretText, ...], key: str, now: datetime, body: bytes) -> dict[str, str]:
    moment = now.astimezone(UTC)
    text = body.decode()
    return {
        "content-type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(each.reveal()).sign(key, moment, text) for each in secrets),
    }


async def send_webhook(
    channel: WebhookChannel, message: Message, http: httpx.AsyncClient, now: datetime
) -> None:
    """Raises DeliveryError."""
    body = webhook_body(message)
    try:
        await request(
            http,
            "POST",
            channel.url.reveal(),
            now,
            what=f"the webhook {message.channel!r}",
            headers=signed_headers(channel.secrets, message.key, now, body),
            body=body,
        )
    except DeliveryRejectedError as cause:
        if cause.status == REMOVED_STATUS:
            raise
        raise DeliveryFailedError(cause.reason) from cause

"""Slack, Discord, Teams, Telegram and a hundred other services, by Apprise. It comes with the extra `apprise`.

These services know no idempotency key: a message whose confirmation is lost comes twice.
"""

import importlib.util
import logging
from typing import Any, Final

from msgspec import Struct

from delivery import built_in_texts
from delivery.message import Message
from delivery.outcomes import DeliveryFailedError, DeliveryRejectedError
from delivery.secret_text import SecretText
from delivery.templates import TemplateRefusedError, render_published, render_text

EXTRA: Final = "apprise"


class AppriseChannel(Struct, frozen=True, forbid_unknown_fields=True, tag="apprise", tag_field="type"):
    """A service by its address in Apprise's form (https://github.com/caronc/apprise): slack://, discord://, workflows:// ..."""

    url: SecretText
    tenants: tuple[str, ...] = ()
    always: bool = False

    def check(self) -> None:
        """Raises ValueError."""
        if importlib.util.find_spec("apprise") is None:
            raise ValueError("it needs the package apprise: pip install 'leadstream[apprise]'")
        if _service(self.url) is None:
            raise ValueError("url: Apprise does not know this address")


def _service(url: SecretText) -> Any:
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - an extra

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its messages contain addresses
    service = Apprise(asset=AppriseAsset(http_redirects=False))
    return service if service.add(url.reveal()) else None


async def send_by_apprise(channel: AppriseChannel, message: Message) -> None:
    """Raises DeliveryError."""
    try:
        own_title, own = message.config.get("title"), message.config.get("message")
        title = (
            render_published(str(own_title), message)
            if own_title
            else render_text(built_in_texts.TITLE, message)
        )
        body = render_published(str(own), message) if own else render_text(built_in_texts.TEXT, message)
    except TemplateRefusedError as cause:
        raise DeliveryRejectedError(f"the text cannot be made: {cause}") from cause
    service = _service(channel.url)
    if service is None:
        raise DeliveryRejectedError(f"Apprise does not know the address of {message.channel!r}")
    if not await service.async_notify(title=title, body=body):
        raise DeliveryFailedError(f"the service {message.channel!r} did not take the message")

"""E-mail by SMTP, with a text and an HTML part. The Message-ID is made of the idempotency key.

Addresses come from the configuration or from the lead's profile, never from a published text. Nothing that a header
contains can begin another one.
"""

import contextlib
import re
import ssl
from collections.abc import Mapping, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Annotated, Final, Literal

import aiosmtplib
from aiosmtplib import (
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
)
from email_validator import EmailNotValidError, validate_email
from msgspec import Meta, Struct

from delivery import built_in_texts
from delivery.message import Message
from delivery.outcomes import DeliveryFailedError, DeliveryRejectedError, unreachable
from delivery.secret_text import SecretText
from delivery.templates import (
    TemplateRefusedError,
    check_template,
    render_html,
    render_published,
    render_text,
)

MOST_SUBJECT_CHARACTERS: Final = 200
_CONTROLS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
PORTS: Final = {"starttls": 587, "ssl": 465, "none": 25}


class EmailTemplate(Struct, frozen=True, forbid_unknown_fields=True):
    """A message with places for values. Without `html` it has a text part only."""

    subject: str
    text: str
    html: str | None = None

    def check(self) -> None:
        """Raises TemplateRefusedError."""
        check_template(self.subject)
        check_template(self.text)
        if self.html is not None:
            check_template(self.html, html=True)


BUILT_IN_TEMPLATE: Final = EmailTemplate(built_in_texts.TITLE, built_in_texts.TEXT, built_in_texts.HTML)


class EmailChannel(Struct, frozen=True, forbid_unknown_fields=True, tag="email", tag_field="type"):
    """An SMTP server and a sender. `recipients` get what a workflow sends to the channel."""

    server: Annotated[str, Meta(min_length=1, max_length=255)]
    sender: str
    recipients: tuple[str, ...] = ()
    port: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    security: Literal["starttls", "ssl", "none"] = "starttls"
    username: str | None = None
    password: SecretText | None = None
    ca_file: str | None = None
    tenants: tuple[str, ...] = ()
    always: bool = False

    def check(self) -> None:
        """Raises ValueError."""
        for field, text in (("sender", self.sender), *(("recipients", each) for each in self.recipients)):
            try:
                address_of(text)
            except ValueError as cause:
                raise ValueError(f"{field}: {text[:80]!r} is not an address ({cause})") from None
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.password is not None and self.security == "none":
            raise ValueError("a password is not sent in clear: set security to starttls or ssl")
        if self.ca_file is not None:
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except (OSError, ssl.SSLError) as cause:
                raise ValueError(f"ca_file: {self.ca_file!r} cannot be read ({cause.strerror})") from None


def address_of(text: str) -> Address:
    """`Ada <ada@example.com>` or `ada@example.com`. Raises ValueError."""
    name, address = parseaddr(text) if "<" in text else ("", text)
    return _checked_address(name, address)


def _checked_address(name: str, address: str) -> Address:
    try:
        checked = validate_email(
            address, check_deliverability=False, allow_smtputf8=False, test_environment=True
        )
    except EmailNotValidError as cause:
        raise ValueError(str(cause)) from None
    return Address(display_name=one_line(name)[:100], addr_spec=checked.ascii_email or checked.normalized)


def one_line(text: str) -> str:
    """The text without line breaks and control characters, for a header."""
    return _CONTROLS.sub(" ", text).strip()


def composed_email(
    channel: EmailChannel, templates: Mapping[str, EmailTemplate], message: Message
) -> EmailMessage:
    """The message, complete. The workflow's `config` names a template, or has subject and text itself. Raises
    DeliveryRejectedError.
    """
    subject, text, html = _rendered(templates, message)
    sender = address_of(channel.sender)
    composed = EmailMessage(policy=SMTP)
    composed["From"] = sender
    composed["To"] = _recipients(channel, message)
    composed["Subject"] = one_line(subject)[:MOST_SUBJECT_CHARACTERS]
    composed["Date"] = format_datetime(message.at)
    composed["Message-ID"] = f"<{message.key}@{sender.domain}>"
    composed["Auto-Submitted"] = "auto-generated"
    composed.set_content(text)
    if html is not None:
        composed.add_alternative(html, subtype="html")
    return composed


def _rendered(templates: Mapping[str, EmailTemplate], message: Message) -> tuple[str, str, str | None]:
    config = message.config
    name = config.get("template")
    template = BUILT_IN_TEMPLATE if name is None else templates.get(str(name))
    if template is None:
        raise DeliveryRejectedError(f"there is no template {str(name)[:80]!r} in the configuration")
    own_subject, own_text = (
        config.get("subject") or config.get("title"),
        config.get("text") or config.get("message"),
    )
    try:
        subject = (
            render_published(str(own_subject), message)
            if own_subject
            else render_text(template.subject, message)
        )
        if own_text and name is None:
            return subject, render_published(str(own_text), message), None
        html = None if template.html is None else render_html(template.html, message)
        return subject, render_text(template.text, message), html
    except TemplateRefusedError as cause:
        raise DeliveryRejectedError(f"the text cannot be made: {cause}") from cause


def _recipients(channel: EmailChannel, message: Message) -> list[Address]:
    """By `to` of the workflow: the lead, its owner, or (the default) the recipients of the channel."""
    match message.config.get("to"):
        case "lead":
            if message.lead.fields.get("email_consent") is False:
                raise DeliveryRejectedError("the lead does not want e-mails")
            return [_person("the lead", message.lead.name, message.lead.email)]
        case "owner":
            owner = message.owner
            return [
                _person("the lead's owner", owner.name if owner else None, owner.email if owner else None)
            ]
        case "channel" | "everybody" | None:
            if not channel.recipients:
                raise DeliveryRejectedError(f"the channel {message.channel!r} has no recipients")
            return [address_of(each) for each in channel.recipients]
        case other:
            raise DeliveryRejectedError(f"`to` is {str(other)[:40]!r}: it must be channel, lead or owner")


def _person(what: str, name: str | None, email: str | None) -> Address:
    if not email:
        raise DeliveryRejectedError(f"{what} has no e-mail address")
    try:
        return _checked_address(name or "", email)
    except ValueError:
        raise DeliveryRejectedError(f"the e-mail address of {what} is not valid") from None


async def send_email(
    channel: EmailChannel, templates: Mapping[str, EmailTemplate], message: Message, seconds: float
) -> None:
    """Raises DeliveryError. After the server has taken the message, nothing is an error any more."""
    composed = composed_email(channel, templates, message)
    tls = ssl.create_default_context(cafile=channel.ca_file) if channel.security != "none" else None
    client = aiosmtplib.SMTP(
        hostname=channel.server,
        port=channel.port or PORTS[channel.security],
        use_tls=channel.security == "ssl",
        start_tls=channel.security == "starttls",
        tls_context=tls,
        timeout=seconds,
    )
    try:
        await client.connect()
        if channel.username is not None and channel.password is not None:
            await client.login(channel.username, channel.password.reveal())
        await client.send_message(composed)
    except SMTPAuthenticationError as cause:
        raise DeliveryFailedError(f"the mail server refuses the password ({cause.code})") from cause
    except SMTPRecipientsRefused as cause:
        raise _refused([each.code for each in cause.recipients], "the recipients") from cause
    except SMTPResponseException as cause:
        raise _refused([cause.code], "the message") from cause
    except SMTPException as cause:
        if "STARTTLS" in str(cause):
            raise DeliveryFailedError("the mail server does not offer STARTTLS") from cause
        raise unreachable("the mail server", cause) from cause
    except (OSError, ValueError) as cause:
        raise unreachable("the mail server", cause) from cause
    finally:
        with contextlib.suppress(SMTPException, OSError, TimeoutError):
            if client.is_connected:
                await client.quit()
        client.close()


def _refused(codes: Sequence[int], what: str) -> DeliveryFailedError | DeliveryRejectedError:
    """Of codes of SMTP, 5xx are final and the others pass."""
    shown = ", ".join(sorted({str(code) for code in codes}))
    if codes and all(500 <= code < 600 for code in codes):
        return DeliveryRejectedError(f"the mail server refuses {what} ({shown})")
    return DeliveryFailedError(f"the mail server takes {what} later ({shown})", channel_fails=False)

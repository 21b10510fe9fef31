"""What the maker of a link writes, and the link that it means. Pure; it raises Refusal with the field and the remedy.

Targets are read as browsers read them (the WHATWG's URL standard), and kept in the form in which a browser would ask
for them: so nobody reads a target differently from the browser that goes there.
"""

import re
from base64 import urlsafe_b64encode
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec import field as named
from pydantic_core import Url as WebAddress
from pydantic_core import ValidationError

from gateway.door.signed_links import (
    AnyLink,
    CatalogLink,
    MailClickLink,
    MailOpenLink,
    QrLink,
    TelegramLink,
)
from schemas.envelope import Identifier, Line
from schemas.refusal import Refusal, shorten

LONGEST_TARGET: Final = 2_048
MOST_TARGETS: Final = 1_000
"""Links of one mail."""
LONGEST_START: Final = 64
"""Characters of what a Telegram bot gets with START."""
FOLLOW_PATH: Final = "/l/"
OPEN_PATH: Final = "/o/"
TELEGRAM_HOSTS: Final = frozenset({"t.me", "telegram.me", "telegram.dog"})

_TELEGRAM_BOT: Final = re.compile(r"@?([A-Za-z][A-Za-z0-9_]{3,31})")
_START_PARAMETER: Final = re.compile(r"(?:^|&)start(?:app)?=")
_PLAIN_PAYLOAD: Final = re.compile(r"[A-Za-z0-9_-]+")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


class LinkDefinition(Struct, forbid_unknown_fields=True, kw_only=True):
    """A code or a catalogue link: with a `target`, or with a `telegram_bot` whose chat it opens."""

    kind: Annotated[
        Literal["qr", "catalog"],
        Meta(description="What it records: `qr` a scan of a code, `catalog` a view of a catalogue."),
    ]
    target: Annotated[str | None, Meta(description="The http or https address to go on to.")] = None
    telegram_bot: Annotated[
        str | None, Meta(description="Instead of `target`: the user name of the Telegram bot.")
    ] = None
    qr_id: Annotated[Line | None, Meta(description="Of `qr`: which code it is.")] = None
    location: Annotated[Line | None, Meta(description="Of `qr`: where it hangs.")] = named(
        default=None, name="place"
    )
    catalog_id: Annotated[Line | None, Meta(description="Of `catalog`: which catalogue it is.")] = None
    title: Annotated[Line | None, Meta(description="Of `catalog`: its title.")] = None
    lead_id: Annotated[
        Identifier | None, Meta(description="The lead that it is sent to; without one, everybody's.")
    ] = None
    property_id: Annotated[Identifier | None, Meta(description="A property, kept with the event.")] = None
    agent_id: Annotated[Identifier | None, Meta(description="A sales person, kept with the event.")] = None
    campaign: Annotated[Line | None, Meta(description="The name of the campaign.")] = None


class MailDefinition(Struct, forbid_unknown_fields=True, kw_only=True):
    """A mail to one lead: its HTML, or the targets of its links."""

    lead_id: Annotated[Identifier, Meta(description="The lead that the mail goes to.")]
    message_id: Annotated[Line | None, Meta(description="The mail's id, as `email_sent` has it.")] = None
    campaign_id: Annotated[Line | None, Meta(description="Which campaign it belongs to.")] = None
    campaign_name: Annotated[Line | None, Meta(description="What you call the campaign.")] = None
    html: Annotated[str | None, Meta(description="The whole mail.")] = None
    targets: Annotated[
        Annotated[list[str], Meta(max_length=MOST_TARGETS)] | None,
        Meta(description="Instead of `html`: where its links lead. Http or https addresses."),
    ] = None


PUBLIC_NAME: Final = dict(
    zip(LinkDefinition.__struct_fields__, LinkDefinition.__struct_encode_fields__, strict=True)
)
"""What a field is called outside."""
FIELDS_OF_KIND: Final = {"qr": ("qr_id", "location"), "catalog": ("catalog_id", "title")}
"""The fields that only one kind has; its id first."""


def link_of(definition: LinkDefinition, tenant: str, public_url: str) -> QrLink | CatalogLink | TelegramLink:
    """The link that the definition means. Raises Refusal."""
    name = FIELDS_OF_KIND[definition.kind][0]
    for kind, fields in FIELDS_OF_KIND.items():
        for field in fields:
            if kind != definition.kind and getattr(definition, field) is not None:
                raise Refusal(
                    PUBLIC_NAME[field],
                    f"belongs to the kind {kind}, and this link is of the kind {definition.kind}",
                )
    subject_id = getattr(definition, name)
    if subject_id is None or not subject_id.strip():
        raise Refusal(name, f"missing: name it, such as {'stand-7' if name == 'qr_id' else 'riverside'}")
    if definition.telegram_bot is not None:
        return TelegramLink(tenant=tenant, target=_telegram_target(definition, subject_id))
    if definition.target is None:
        raise Refusal("target", "missing: give the address to go on to, or a telegram_bot")
    target = checked_target(definition.target, public_url)
    about = {name: getattr(definition, name) for name in ("lead_id", "property_id", "agent_id", "campaign")}
    if definition.kind == "qr":
        return QrLink(tenant=tenant, target=target, qr_id=subject_id, location=definition.location, **about)
    return CatalogLink(tenant=tenant, target=target, catalog_id=subject_id, title=definition.title, **about)


def open_link_of(mail: MailDefinition, tenant: str) -> MailOpenLink:
    return MailOpenLink(
        tenant=tenant,
        lead_id=mail.lead_id,
        message_id=mail.message_id,
        campaign_id=mail.campaign_id,
        campaign_name=mail.campaign_name,
    )


def click_link_of(mail: MailDefinition, tenant: str, target: str, public_url: str) -> MailClickLink:
    """Raises Refusal for a target that no link may have."""
    return MailClickLink(
        tenant=tenant,
        lead_id=mail.lead_id,
        message_id=mail.message_id,
        campaign_id=mail.campaign_id,
        campaign_name=mail.campaign_name,
        target=checked_target(target, public_url),
    )


def checked_target(text: str, public_url: str) -> str:
    """The address as a browser asks for it. Raises Refusal for everything but a plain address of the web."""
    text = text.strip()
    if len(text) > LONGEST_TARGET:
        raise Refusal("target", f"must have at most {LONGEST_TARGET} characters")
    if _UNPRINTABLE.search(text):
        raise Refusal("target", "must have no line breaks and no control characters")
    try:
        address = WebAddress(text)
    except ValidationError:
        raise Refusal(
            "target", f"must be an address such as https://acme.example/, not {shorten(text)!r}"
        ) from None
    target = str(address)
    if address.scheme not in {"http", "https"} or not re.match(r"https?://[^/\\]", text, re.IGNORECASE):
        raise Refusal("target", "must begin with http:// or https://; print other addresses as they are")
    if address.username is not None or address.password is not None:
        raise Refusal("target", "must have no user name and no password before its host")
    if len(target) > LONGEST_TARGET:
        raise Refusal(
            "target", f"must have at most {LONGEST_TARGET} characters, in the form that browsers ask for"
        )
    if address.host in TELEGRAM_HOSTS and _START_PARAMETER.search(address.query or ""):
        raise Refusal(
            "target",
            "the bot records this scan itself, so it would count twice: give telegram_bot and the id, without target",
        )
    if target.startswith((public_url.rstrip("/") + FOLLOW_PATH, public_url.rstrip("/") + OPEN_PATH)):
        raise Refusal("target", "must not be a link of this server")
    return target


def _telegram_target(definition: LinkDefinition, subject_id: str) -> str:
    for field in ("target", "location", "title", "lead_id", "property_id", "agent_id", "campaign"):
        if getattr(definition, field) is not None:
            raise Refusal(
                PUBLIC_NAME[field], "has no room in a link to a chat: leave it out, or put it into the id"
            )
    bot = _TELEGRAM_BOT.fullmatch(definition.telegram_bot or "")
    if bot is None:
        raise Refusal("telegram_bot", "must be the user name of a bot, such as acme_realty_bot")
    return f"https://t.me/{bot[1]}?start={start_payload(definition.kind, subject_id)}"


def start_payload(kind: str, subject_id: str) -> str:
    """What a bot gets with START, and reads as this kind and id (`telegram_updates`). Raises Refusal."""
    payload = f"{kind}_{subject_id}"
    if not _PLAIN_PAYLOAD.fullmatch(payload):
        payload = urlsafe_b64encode(f"{kind}:{subject_id}".encode()).rstrip(b"=").decode()
    if len(payload) > LONGEST_START or not subject_id.isprintable():
        raise Refusal(
            FIELDS_OF_KIND[kind][0], "is too long for a link to a chat: use up to 40 letters, digits, _ and -"
        )
    return payload


def address_of_link(link: AnyLink, token: str, public_url: str) -> str:
    """What is printed, or stands in a mail."""
    base = public_url.rstrip("/")
    match link:
        case TelegramLink():
            return link.target
        case MailOpenLink():
            return f"{base}{OPEN_PATH}{token}.gif"
        case QrLink() | CatalogLink() | MailClickLink():
            return f"{base}{FOLLOW_PATH}{token}"

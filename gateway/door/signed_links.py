"""Signed links: what a QR code, a catalogue link or a mail's link says, sealed into its own address.

Nothing is stored. The address has the whole definition, encrypted and authenticated by AES-SIV (RFC 5297): nobody
without a key reads it, makes one, or changes a character of one. The same link always has the same address.
Pure.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import DecodeError, Struct, ValidationError, msgpack
from msgspec import field as named

from schemas.envelope import DEFAULT_TENANT, Identifier, Line, Tenant, Url

TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,6000}")
SHORTEST_KEY: Final = 24
"""Characters. A stranger who has one address could try short keys until one fits."""
NO_KEYS_REMEDY: Final = (
    "this server makes no links yet: set LEADSTREAM_LINK_KEYS to a secret of at least 24 characters "
    "(openssl rand -hex 32), and keep it as long as your codes and mails are in use"
)

_PURPOSE: Final = b"leadstream link 1"
"""Part of every signature: another form of links gets another."""
_KEY_BYTES: Final = 64


class SignedLink(Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="k"):
    """What all links have. Stored names are short, since they are part of printed codes."""

    tenant: Tenant = named(default=DEFAULT_TENANT, name="n")


class PrintedLink(SignedLink, kw_only=True, frozen=True, omit_defaults=True):
    """What codes and catalogue links have in common: where they lead, and whose they are."""

    target: Url = named(name="t")
    lead_id: Identifier | None = named(default=None, name="r")
    """The lead that it was made for; None: it hangs where everybody sees it."""
    property_id: Identifier | None = named(default=None, name="p")
    agent_id: Identifier | None = named(default=None, name="a")
    campaign: Line | None = named(default=None, name="c")


class QrLink(PrintedLink, tag="q", kw_only=True, frozen=True, omit_defaults=True):
    """Records `qr_scanned` and goes on."""

    qr_id: Line = named(name="i")
    location: Line | None = named(default=None, name="l")


class CatalogLink(PrintedLink, tag="c", kw_only=True, frozen=True, omit_defaults=True):
    """Records `catalog_viewed` and goes on."""

    catalog_id: Line = named(name="i")
    title: Line | None = named(default=None, name="l")


class TelegramLink(SignedLink, tag="t", kw_only=True, frozen=True, omit_defaults=True):
    """Leads into a chat and records nothing: the bot records the scan when the person presses START."""

    target: Url = named(name="t")


class MailedLink(SignedLink, kw_only=True, frozen=True, omit_defaults=True):
    """Which mail, and to whom."""

    lead_id: Identifier = named(name="i")
    message_id: Line | None = named(default=None, name="m")
    campaign_id: Line | None = named(default=None, name="c")
    campaign_name: Line | None = named(default=None, name="l")


class MailClickLink(MailedLink, tag="m", kw_only=True, frozen=True, omit_defaults=True):
    """Records `email_clicked` and goes on."""

    target: Url = named(name="t")


class MailOpenLink(MailedLink, tag="o", kw_only=True, frozen=True, omit_defaults=True):
    """Records `email_opened`, and is a picture."""


FollowedLink = QrLink | CatalogLink | TelegramLink | MailClickLink
"""A link that leads somewhere."""
AnyLink = FollowedLink | MailOpenLink

_encode = msgpack.Encoder().encode
_decode: Final = msgpack.Decoder(AnyLink).decode


@dataclass(frozen=True)
class LinkKeys:
    """The first seals, all open."""

    ciphers: tuple[AESSIV, ...] = field(default=(), repr=False)


def read_link_keys(texts: Iterable[str]) -> LinkKeys:
    """The keys from their texts. Raises ValueError, which repeats no secret."""
    keys = list(texts)
    for number, text in enumerate(keys, 1):
        if len(text) < SHORTEST_KEY:
            raise ValueError(
                f"link key {number}: give at least {SHORTEST_KEY} characters (openssl rand -hex 32)"
            )
        if text in keys[: number - 1]:
            raise ValueError(f"link key {number}: it is in the list already")
    derive = partial(HKDF, algorithm=SHA512(), length=_KEY_BYTES, salt=None, info=_PURPOSE)
    return LinkKeys(tuple(AESSIV(derive().derive(text.encode())) for text in keys))


def seal_link(link: AnyLink, keys: LinkKeys) -> str:
    """The token of a link: what its address has at its end. Needs a key."""
    sealed = keys.ciphers[0].encrypt(_encode(link), [_PURPOSE])
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def open_link(token: str, keys: LinkKeys) -> AnyLink | None:
    """The link of a token; None for one that no key has sealed as it stands, character by character."""
    if not TOKEN.fullmatch(token):
        return None
    try:
        sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        return None
    if urlsafe_b64encode(sealed).rstrip(b"=").decode() != token:  # the last character has unused bits
        return None
    for cipher in keys.ciphers:
        try:
            return _decode(cipher.decrypt(sealed, [_PURPOSE]))
        except InvalidTag:
            continue
        except (DecodeError, ValidationError):  # sealed by a newer version
            return None
    return None

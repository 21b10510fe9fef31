"""Making links: for the API and for the command line. It stores nothing."""

from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from msgspec import structs

from gateway.door.link_definitions import (
    MOST_TARGETS,
    PUBLIC_NAME,
    LinkDefinition,
    MailDefinition,
    address_of_link,
    checked_target,
    click_link_of,
    link_of,
    open_link_of,
)
from gateway.door.link_events import FollowingRequest, admit_link_event, event_of_link, kind_of_link
from gateway.door.signed_links import (
    AnyLink,
    LinkKeys,
    TelegramLink,
    seal_link,
)
from gateway.mail_html import with_links_replaced, with_picture_at_end
from schemas.refusal import Refusal

_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
LOCAL_HINT: Final = (
    "only this machine reaches this address: set LEADSTREAM_PUBLIC_URL before you print or send it"
)


class LinkMaker(NamedTuple):
    """What every link of a tenant is made with."""

    tenant: str
    public_url: str
    keys: LinkKeys
    now: datetime


class MadeLink(NamedTuple):
    link: AnyLink
    token: str
    url: str
    """What is printed, or stands in a mail."""


class MadeMail(NamedTuple):
    pixel: str
    """The address of the picture."""
    links: dict[str, str]
    """Targets as they were written, and their addresses."""
    html: str | None


def make_link(definition: LinkDefinition, maker: LinkMaker) -> MadeLink:
    """Raises Refusal."""
    return _made(link_of(definition, maker.tenant, maker.public_url), maker)


def make_mail(mail: MailDefinition, maker: LinkMaker) -> MadeMail:
    """Raises Refusal."""
    if (mail.html is None) == (mail.targets is None):
        raise Refusal("html", "give either html, the whole mail, or targets, the addresses of its links")
    pixel = _made(open_link_of(mail, maker.tenant), maker).url
    links: dict[str, str] = {}

    def address_of(target: str) -> str:
        if target not in links:
            if len(links) == MOST_TARGETS:
                raise Refusal("html", f"has more than {MOST_TARGETS} links")
            links[target] = _made(click_link_of(mail, maker.tenant, target, maker.public_url), maker).url
        return links[target]

    def replaced(target: str) -> str:
        """What is no target, such as a link of this server, stays as it is."""
        try:
            checked_target(target, maker.public_url)
        except Refusal:
            return target
        return address_of(target)

    if mail.html is None:
        for target in mail.targets or ():
            address_of(target)
        return MadeMail(pixel, links, None)
    return MadeMail(pixel, links, with_picture_at_end(with_links_replaced(mail.html, replaced), pixel))


def shown_link(made: MadeLink, public_url: str) -> dict[str, Any]:
    """A link as the API shows it."""
    return {
        "url": made.url,
        "token": made.token,
        "records": None if isinstance(made.link, TelegramLink) else kind_of_link(made.link),
        "link": fields_of_link(made.link),
        "hints": hints_of(public_url),
    }


def fields_of_link(link: AnyLink) -> dict[str, Any]:
    """What was defined, under the names of definitions."""
    return {
        PUBLIC_NAME.get(name, name): value
        for name, value in structs.asdict(link).items()
        if name != "tenant" and value is not None
    }


def hints_of(public_url: str) -> list[str]:
    return [LOCAL_HINT] if urlsplit(public_url).hostname in _LOCAL_HOSTS else []


def _made(link: AnyLink, maker: LinkMaker) -> MadeLink:
    if not isinstance(link, TelegramLink):
        # No link carries an event that the door will refuse.
        sample = FollowingRequest("", 0, "visitor-of-a-link")
        admit_link_event(event_of_link(link, sample), maker.tenant, maker.now)
    token = seal_link(link, maker.keys)
    return MadeLink(link, token, address_of_link(link, token, maker.public_url))

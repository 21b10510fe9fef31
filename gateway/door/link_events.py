"""The events of a link that somebody follows, as producers send them. Pure."""

from collections.abc import Collection
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from msgspec import json

from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from gateway.door.signed_links import CatalogLink, MailClickLink, MailedLink, MailOpenLink, QrLink
from schemas.envelope import Event

REPETITION_MS: Final = 10_000
"""Within so many milliseconds a browser repeats a request; later, the person follows the link again."""
MOST_REMEMBERED: Final = 10_000
"""Requests in which repetitions are recognised."""
NO_USER_AGENT: Final = "no user agent"
"""The bot of a request that names no program."""
LONGEST_USER_AGENT: Final = 1_024
LONGEST_REFERRER: Final = 2_048

RecordedLink = QrLink | CatalogLink | MailClickLink | MailOpenLink
"""A link that records an event."""


class FollowingRequest(NamedTuple):
    """The request by which somebody follows a link."""

    token: str
    since_ms: int
    """When it came; of a repetition, when the first one came."""
    visitor_id: str
    """Of the browser, or made for this request."""
    user_agent: str = ""
    ip: str = ""
    referrer: str = ""


class RecentRequests:
    """The requests of the last seconds, so that a repetition gets the time, and so the event id, of the first one. Another
    process does not know them: there a repetition counts again.
    """

    def __init__(self) -> None:
        self._since: dict[bytes, int] = {}
        """By digest, in the order of their times."""

    def first_at(self, digest: bytes, now_ms: int) -> int:
        """When a request of this digest came for the first time within `REPETITION_MS`."""
        while self._since and (
            len(self._since) >= MOST_REMEMBERED or now_ms - next(iter(self._since.values())) >= REPETITION_MS
        ):
            del self._since[next(iter(self._since))]
        return self._since.setdefault(digest, now_ms)


def kind_of_link(link: RecordedLink) -> str:
    """The type of the event that it records."""
    match link:
        case QrLink():
            return "qr_scanned"
        case CatalogLink():
            return "catalog_viewed"
        case MailClickLink():
            return "email_clicked"
        case MailOpenLink():
            return "email_opened"


def event_of_link(link: RecordedLink, request: FollowingRequest) -> dict[str, Any]:
    """The event, as the body of POST /v1/events has it. It is the lead's that the link was made for, else the
    visitor's.
    """
    fields, about = _mail_fields(link) if isinstance(link, MailedLink) else _printed_fields(link, request)
    context = {
        "ip": request.ip or None,
        "user_agent": request.user_agent[:LONGEST_USER_AGENT] or None,
        "referrer": request.referrer[:LONGEST_REFERRER] or None,
        **about,
    }
    event = {
        "type": kind_of_link(link),
        "event_id": _event_id(link, request),
        "bot": None if request.user_agent else NO_USER_AGENT,
        **fields,
        "context": _without_none(context),
    }
    return _without_none(event)


FieldsAndContext = tuple[dict[str, Any], dict[str, Any]]


def _printed_fields(link: QrLink | CatalogLink, request: FollowingRequest) -> FieldsAndContext:
    fields = {
        "visitor_id": request.visitor_id if link.lead_id is None else None,
        "lead_id": link.lead_id,
        "property_id": link.property_id,
        "agent_id": link.agent_id,
    }
    about = {
        "url": link.target,
        "source_type": "link",
        "campaign": None if link.campaign is None else {"name": link.campaign},
    }
    match link:
        case QrLink():
            own = {"source": "qr", "qr_id": link.qr_id, "place": link.location}
            return {**fields, **own}, {**about, "source_id": link.qr_id}
        case CatalogLink():
            own = {"source": "link", "catalog_id": link.catalog_id, "title": link.title}
            return {**fields, **own}, {**about, "source_id": link.catalog_id}


def _mail_fields(link: MailClickLink | MailOpenLink) -> FieldsAndContext:
    target = link.target if isinstance(link, MailClickLink) else None
    fields = {
        "source": "email",
        "lead_id": link.lead_id,
        "message_id": link.message_id,
        "campaign_id": link.campaign_id,
        "campaign_name": link.campaign_name,
        "url": target,
    }
    return fields, {"url": target}


def identifying_event(link: RecordedLink, request: FollowingRequest) -> dict[str, Any]:
    """The browser that followed a link which was made for a lead is that lead's."""
    source = "email" if isinstance(link, MailedLink) else "link"
    return {
        "type": "lead_identified",
        "event_id": f"{_event_id(link, request)}-lead",
        "visitor_id": request.visitor_id,
        "lead_id": link.lead_id,
        "source": source,
        "method": source,
    }


def admit_link_event(
    raw: dict[str, Any], tenant: str, now: datetime, own_sites: Collection[str] = ()
) -> Event:
    """The event as the door records it. Raises Refusal."""
    facts = RequestFacts(tenant=tenant, own_sites=own_sites)
    return admit_event(read_producer_event(json.encode(raw), raw["event_id"], now), facts, now)


def digest_of_request(link: RecordedLink, request: FollowingRequest) -> bytes:
    """The same for a repetition. A lead's does not depend on the visitor: a first request has none yet."""
    visitor = request.visitor_id if link.lead_id is None else ""
    names = f"{request.token}\0{visitor}\0{request.user_agent}"
    return blake2b(names.encode(errors="replace"), digest_size=16).digest()


def _event_id(link: RecordedLink, request: FollowingRequest) -> str:
    digest = digest_of_request(link, request) + str(request.since_ms).encode()
    return "link-" + blake2b(digest, digest_size=16).hexdigest()


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}

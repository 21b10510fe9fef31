"""The door: what depends on knowledge outside the log is decided here, once, and kept in the event.

It stamps `recorded_at`, names the bot and the device, brings e-mail and phone into one form and
corrects the producer's clock. A fold that reads the event again later must find everything in it, so
nothing here is ever repeated for a recorded event. This module knows no database.
"""

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from msgspec import DecodeError, Raw, json, structs

from gateway.door.addresses import EMAIL, PHONE, STATED_FIELD_OF_ADDRESS, normalize_addresses
from gateway.door.crawlers import crawler_of, mail_crawler_of
from gateway.door.devices import device_of
from gateway.door.lead_signatures import SIGNATURE_FIELD
from gateway.door.page_address import campaign_of, link_tags_of, read_page_address
from gateway.door.resolving import KEPT_APART_BY_FIELD, KEPT_APART_FROM_FIELD, RESOLVED_BY_FIELD
from gateway.door.traffic_origins import CHANNEL_OF_GROUP, INTERNAL_GROUP, OwnHosts, traffic_origin_of
from gateway.door.undecided import undecided
from schemas.blank import is_blank_text
from schemas.broken_text import repair_broken_text
from schemas.decode import MAX_EXTRA_FIELDS, Refusal, read_event
from schemas.envelope import DEFAULT_TENANT, Context, Event
from schemas.events import (
    ContactShared,
    EmailClicked,
    EmailOpened,
    FormSubmitted,
    PageViewed,
    ProfileUpdated,
    QuestionAnswered,
)
from schemas.moment import happened_at
from schemas.validation import check_ids_name_somebody

LARGEST_CLOCK_LEAD = timedelta(minutes=1)
"""A producer's clock that is ahead by more is wrong: no request arrives before it was sent."""
LARGEST_CLOCK_LAG = timedelta(minutes=55)
"""A producer's clock that seems to be behind by more is wrong. By less, the request may have been on its way so long,
or was tried before. A wrong time zone is off by an hour or more, so this is just below.
"""
STATED_TIME_FIELD = "stated_occurred_at"
"""Where the producer's own time is kept when the door corrected it."""
DOOR_FIELDS = frozenset(
    {
        STATED_TIME_FIELD,
        RESOLVED_BY_FIELD,
        KEPT_APART_FROM_FIELD,
        KEPT_APART_BY_FIELD,
        SIGNATURE_FIELD,
        *STATED_FIELD_OF_ADDRESS.values(),
    }
)
BROWSER_PREFIX = "Mozilla/"
SENT_AT = "sent_at"
OPTIONAL_FIELDS = frozenset({"event_id", "occurred_at"})
"""Fields that the door fills in when the producer leaves them out."""

_WORD_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]+")
_decode_keys = json.Decoder(dict[str, Raw]).decode


class RequestFacts(NamedTuple):
    """What the request has beside the event. `tenant` None: the event has it."""

    tenant: str | None
    client_ip: str | None = None
    user_agent: str | None = None
    sent_at: datetime | None = None
    """The producer's clock when it sent the request."""
    reply: bool = False
    phone_region: str | None = None
    page: str | None = None
    """The address of the page that made the request: its Origin, or else its Referer."""
    own_sites: Collection[str] = ()
    """Hosts of the own site beside those that the events show."""


def read_producer_event(raw: bytes, event_id: str, now: datetime) -> Event:
    """The event; a simple producer may leave out `event_id` and `occurred_at` (and gives up being
    deduplicated). Raises Refusal.
    """
    if not raw or raw.isspace():
        raise Refusal(None, "is empty: there is a comma too many")
    try:
        return read_event(raw)
    except Refusal as refusal:
        fields = _raw_fields_of(repair_broken_text(raw))
        if refusal.field not in OPTIONAL_FIELDS or fields.keys() >= OPTIONAL_FIELDS:
            raise _refusal_with_advice(refusal, fields) from None
    defaults = {"event_id": Raw(json.encode(event_id)), "occurred_at": Raw(json.encode(now))}
    try:
        return read_event(json.encode(defaults | fields))
    except Refusal as refusal:
        raise _refusal_with_advice(refusal, fields) from None


def _raw_fields_of(raw: bytes) -> dict[str, Raw]:
    """The fields of an object, unread; none, if it is no object."""
    try:
        return _decode_keys(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _refusal_with_advice(refusal: Refusal, fields: dict[str, Raw]) -> Refusal:
    """The refusal of a field that is missing, with the one that is there instead: visitorId."""
    if refusal.field is None or refusal.field in fields:
        return refusal
    meant = {refusal.field, "lead_id"} if refusal.field == "visitor_id" else {refusal.field}
    for key in fields:
        for field in meant:
            if _snake_case(key) != key and _snake_case(key).endswith(field):
                return Refusal(refusal.field, f"{refusal.reason}; {_unread_field_hint(key, field)}")
    return refusal


def misspelling_hint(event: Event) -> str | None:
    """What the producer should know of an event that is taken: fields that are kept, but were probably
    meant to be read (eventId).
    """
    fields = type(event).__struct_fields__
    unread = [
        _unread_field_hint(key, meant)
        for key in event.extra or ()
        if (meant := _snake_case(key)) != key and meant in fields
    ]
    if SENT_AT in (event.extra or ()):
        unread.append("sent_at is read beside the events or in the header X-Sent-At, not in an event")
    return "; ".join(unread) or None


def _unread_field_hint(key: str, meant: str) -> str:
    return f"{key[:64]} is not read, perhaps {meant} is meant"


def _snake_case(name: str) -> str:
    return _WORD_BOUNDARY.sub("_", name).lower()


def admit_event(event: Event, facts: RequestFacts, now: datetime) -> Event:
    """The event as it goes into the log, but for the lead that its visitor may turn out to be. Raises
    Refusal if it is another tenant's, or leaves no room for what is added here.
    """
    if facts.tenant is not None and event.tenant not in {facts.tenant, DEFAULT_TENANT}:
        raise Refusal("tenant", f"this key belongs to the tenant {facts.tenant}")
    check_ids_name_somebody(event)
    event = structs.replace(event, extra=_without_door_fields(event.extra))
    event = _at_moment(event, happened_at(_time_by_our_clock(event.occurred_at, facts.sent_at, now), now))
    return structs.replace(
        event,
        tenant=facts.tenant or event.tenant,
        recorded_at=now,
        imported=False,
        reply=facts.reply,
        hops=0,
        **_derived_fields(event, _context_of_request(event, facts), facts.own_sites, facts.page),
        **_normalized_address_fields(event, facts.phone_region),
    )


def admit_import(
    event: Event, now: datetime, phone_region: str | None = None, own_sites: Collection[str] = ()
) -> Event:
    """An event out of an archive: recorded when it happened, and nothing acts on it. What a store recorded keeps its ids.
    Raises Refusal.
    """
    if event.recorded_at is None:
        check_ids_name_somebody(event)
    event = _at_moment(event, happened_at(event.occurred_at, now))
    return structs.replace(
        event,
        recorded_at=event.occurred_at,
        imported=True,
        reply=False,
        hops=0,
        **_derived_fields(event, event.context, own_sites),
        **_normalized_address_fields(event, phone_region),
    )


def readmit(event: Event, phone_region: str | None = None, own_sites: Collection[str] = ()) -> Event:
    """A recorded event as this door takes what its producer sent. It keeps its times, and whether it was imported; the
    lead of its addresses is not decided here. Again, it changes nothing.
    """
    sent = undecided(event, phone_region)
    origin, page = event.traffic_origin, None
    if origin is not None and origin.channel == CHANNEL_OF_GROUP[INTERNAL_GROUP] and event.context:
        page = event.context.referrer  # the request named the own site, and nobody kept that
    return structs.replace(
        sent,
        **_derived_fields(sent, sent.context, own_sites, page),
        **_normalized_address_fields(sent, phone_region),
    )


def _without_door_fields(extra: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the producer adds, without what only the door may say. Raises Refusal for too much."""
    if extra is None:
        return None
    if len(extra) > MAX_EXTRA_FIELDS:
        raise Refusal("extra", f"more than {MAX_EXTRA_FIELDS} fields that are not known")
    return {name: value for name, value in extra.items() if name not in DOOR_FIELDS} or None


def _at_moment(event: Event, occurred_at: datetime) -> Event:
    """The event at this moment; if it stated another, that is kept."""
    if occurred_at == event.occurred_at:
        return event
    stated = {STATED_TIME_FIELD: event.occurred_at.isoformat()}
    return structs.replace(event, occurred_at=occurred_at, extra={**(event.extra or {}), **stated})


def _time_by_our_clock(occurred_at: datetime, sent_at: datetime | None, now: datetime) -> datetime:
    """The moment by the door's clock. `sent_at` shows the producer's; how long the request took is unknown, so only a
    difference that no journey explains is corrected. A time that the door filled in is right already.
    """
    if sent_at is None or occurred_at == now or -LARGEST_CLOCK_LAG <= sent_at - now <= LARGEST_CLOCK_LEAD:
        return occurred_at
    try:
        return (occurred_at + (now - sent_at)).astimezone(UTC)
    except OverflowError:
        return now


def _context_of_request(event: Event, facts: RequestFacts) -> Context | None:
    """The request speaks of the visitor only if the visitor's browser makes it; otherwise address
    and user agent are those of the producer's server, and say nothing of the visitor.
    """
    context = event.context
    agent = facts.user_agent or ""
    if event.source != "web" or not agent.startswith(BROWSER_PREFIX) or (context and context.user_agent):
        return context
    context = context or Context()
    return structs.replace(context, user_agent=agent[:1024], ip=context.ip or facts.client_ip)


def _derived_fields(
    event: Event,
    context: Context | None,
    own_sites: Collection[str],
    page: str | None = None,
) -> dict[str, Any]:
    """The fields that the door derives from the event and its context."""
    seen: dict[str, Any] = _context_with_origin(event, context, own_sites, page)
    seen["bot"] = None if is_blank_text(event.bot or "") else event.bot
    if context is not None and context.user_agent:
        seen["bot"] = seen["bot"] or _crawler_of(event, context.user_agent)
        seen["device"] = event.device or device_of(context.user_agent)
    return seen


def _normalized_address_fields(event: Event, region: str | None) -> dict[str, Any]:
    """The event's e-mail and phone in their one form, and `extra` with what was typed. Lead ids are no addresses,
    whatever they look like.
    """
    changes: dict[str, Any] = {}
    typed: dict[str, Any] = {}
    match event:
        case ContactShared():
            changes, typed = normalize_addresses(
                {EMAIL: event.email, PHONE: event.phone}, region, event.source
            )
        case FormSubmitted() | ProfileUpdated() if event.fields:
            changes["fields"], typed = normalize_addresses(event.fields, region, event.source)
        case QuestionAnswered(profile_field=kind) if kind in STATED_FIELD_OF_ADDRESS:
            answer, typed = normalize_addresses({kind: event.text}, region, event.source)
            changes["text"] = answer[kind]
    return {**changes, "extra": {**(event.extra or {}), **typed} if typed else event.extra}


def _context_with_origin(
    event: Event, context: Context | None, own_sites: Collection[str], page: str | None
) -> dict[str, Any]:
    """The context with the campaign of the page's address, and where the person came from."""
    shown = event.url if isinstance(event, PageViewed) else None
    addresses = [address for address in (context and context.url, shown) if address]
    tags = {name: tag for address in reversed(addresses) for name, tag in link_tags_of(address).items()}
    producer = context.campaign if context else None
    campaign = campaign_of(producer, tags)
    if campaign != producer:
        context = structs.replace(context or Context(), campaign=campaign)
    visited = (
        [] if not (context and context.referrer) else [*addresses, page if event.source == "web" else None]
    )
    pages = tuple(each.host for address in visited if (each := read_page_address(address)) is not None)
    own = OwnHosts(pages, own_sites)
    origin = traffic_origin_of(event, context, tags, own, has_page=bool(addresses))
    return {"context": context, "traffic_origin": origin}


def _crawler_of(event: Event, user_agent: str) -> str | None:
    if isinstance(event, EmailOpened | EmailClicked):
        return mail_crawler_of(user_agent, opened=isinstance(event, EmailOpened))
    return crawler_of(user_agent)

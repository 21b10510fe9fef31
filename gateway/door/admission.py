"""The door: what depends on knowledge outside the log is decided here, once, and kept in the event.

It stamps `recorded_at`, names the bot and the device, brings e-mail and phone into one form and
corrects the producer's clock. A fold that reads the event again later must find everything in it, so
nothing here is ever repeated for a recorded event. This module knows no database.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from msgspec import DecodeError, Raw, json, structs

from gateway.door.addresses import email_of, fields_of, phone_of
from gateway.door.crawlers import crawler_of, mail_crawler_of
from gateway.door.devices import device_of
from gateway.door.resolving import RESOLVED_BY
from schemas.decode import MAX_EXTRA, Refusal, read_event
from schemas.envelope import DEFAULT_TENANT, Context, Event
from schemas.events import ContactShared, EmailClicked, EmailOpened, FormSubmitted, ProfileUpdated

EARLY = timedelta(minutes=5)
"""An event may be this far ahead of the door's clock; beyond, it is taken to have happened now."""
SKEW = timedelta(minutes=1)
"""A producer's clock off by less is a slow network, and left alone."""
STATED_TIME_FIELD = "stated_occurred_at"
"""Where the producer's own time is kept when the door corrected it."""
DOOR_FIELDS = frozenset({STATED_TIME_FIELD, RESOLVED_BY})
BROWSER = "Mozilla/"
OPTIONAL = frozenset({"event_id", "occurred_at"})
"""Fields that the door fills in when the producer leaves them out."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]+")
_decode_keys = json.Decoder(dict[str, Raw]).decode


class Facts(NamedTuple):
    """What the request has beside the event. `tenant` None: the event has it."""

    tenant: str | None
    client_ip: str | None = None
    user_agent: str | None = None
    sent_at: datetime | None = None
    """The producer's clock when it sent the request."""
    reply: bool = False
    phone_region: str | None = None


def read(raw: bytes, event_id: str, now: datetime) -> Event:
    """The event; a simple producer may leave out `event_id` and `occurred_at` (and gives up being
    deduplicated). Raises Refusal.
    """
    if not raw or raw.isspace():
        raise Refusal(None, "is empty: there is a comma too many")
    try:
        return read_event(raw)
    except Refusal as refusal:
        fields = _fields_of(raw)
        if refusal.field not in OPTIONAL or fields.keys() >= OPTIONAL:
            raise _advised(refusal, fields) from None
    defaults = {"event_id": Raw(json.encode(event_id)), "occurred_at": Raw(json.encode(now))}
    try:
        return read_event(json.encode(defaults | fields))
    except Refusal as refusal:
        raise _advised(refusal, fields) from None


def _fields_of(raw: bytes) -> dict[str, Raw]:
    """The fields of an object, unread; none, if it is no object."""
    try:
        return _decode_keys(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _advised(refusal: Refusal, fields: dict[str, Raw]) -> Refusal:
    """The refusal of a field that is missing, with the one that is there instead: visitorId."""
    if refusal.field is None or refusal.field in fields:
        return refusal
    meant = {refusal.field, "lead_id"} if refusal.field == "visitor_id" else {refusal.field}
    for key in fields:
        for field in meant:
            if _snake(key) != key and _snake(key).endswith(field):
                return Refusal(refusal.field, f"{refusal.reason}; {_unread(key, field)}")
    return refusal


def hint(event: Event) -> str | None:
    """What the producer should know of an event that is taken: fields that are kept, but were probably
    meant to be read (eventId).
    """
    fields = type(event).__struct_fields__
    unread = [
        _unread(key, meant) for key in event.extra or () if (meant := _snake(key)) != key and meant in fields
    ]
    return "; ".join(unread) or None


def _unread(key: str, meant: str) -> str:
    return f"{key[:64]} is not read, perhaps {meant} is meant"


def _snake(name: str) -> str:
    return _HUMP.sub("_", name).lower()


def admit(event: Event, facts: Facts, now: datetime) -> Event:
    """The event as it goes into the log, but for the lead that its visitor may turn out to be. Raises
    Refusal if it is another tenant's, or leaves no room for what is added here.
    """
    if facts.tenant is not None and event.tenant not in {facts.tenant, DEFAULT_TENANT}:
        raise Refusal("tenant", f"this key belongs to the tenant {facts.tenant}")
    occurred_at = _mended(event.occurred_at, facts.sent_at, now)
    extra = _unclaimed(event.extra)
    if occurred_at is not event.occurred_at:
        extra = {**(extra or {}), STATED_TIME_FIELD: event.occurred_at.isoformat()}
    return structs.replace(
        event,
        tenant=facts.tenant or event.tenant,
        occurred_at=occurred_at,
        recorded_at=now,
        imported=False,
        reply=facts.reply,
        extra=extra,
        **_seen(event, _context(event, facts), facts.phone_region),
    )


def admit_import(event: Event, phone_region: str | None = None) -> Event:
    """An event out of an archive: recorded when it happened, and nothing acts on it."""
    return structs.replace(
        event,
        recorded_at=event.occurred_at,
        imported=True,
        reply=False,
        **_seen(event, event.context, phone_region),
    )


def _unclaimed(extra: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the producer adds, without what only the door may say. Raises Refusal for too much."""
    if extra is None:
        return None
    if len(extra) > MAX_EXTRA:
        raise Refusal("extra", f"more than {MAX_EXTRA} fields that are not known")
    return {name: value for name, value in extra.items() if name not in DOOR_FIELDS} or None


def _mended(occurred_at: datetime, sent_at: datetime | None, now: datetime) -> datetime:
    if sent_at is not None and abs(now - sent_at) > SKEW:
        try:
            occurred_at = (occurred_at + (now - sent_at)).astimezone(UTC)
        except OverflowError:
            return now
    return now if occurred_at > now + EARLY else occurred_at


def _context(event: Event, facts: Facts) -> Context | None:
    """The request speaks of the visitor only if the visitor's browser makes it; otherwise address
    and user agent are those of the producer's server, and say nothing of the visitor.
    """
    context = event.context
    agent = facts.user_agent or ""
    if event.source != "web" or not agent.startswith(BROWSER) or (context and context.user_agent):
        return context
    context = context or Context()
    return structs.replace(context, user_agent=agent[:1024], ip=context.ip or facts.client_ip)


def _seen(event: Event, context: Context | None, region: str | None) -> dict[str, Any]:
    """The fields that the door derives from the event and its context."""
    seen: dict[str, Any] = {"context": context}
    if context is not None and context.user_agent:
        seen["bot"] = event.bot or _crawler_of(event, context.user_agent)
        seen["device"] = event.device or device_of(context.user_agent)
    match event:
        case ContactShared():
            seen["email"] = email_of(event.email) if event.email else event.email
            seen["phone"] = phone_of(event.phone, region) if event.phone else event.phone
        case FormSubmitted() | ProfileUpdated() if event.fields:
            seen["fields"] = fields_of(event.fields, region)
    return seen


def _crawler_of(event: Event, user_agent: str) -> str | None:
    if isinstance(event, EmailOpened | EmailClicked):
        return mail_crawler_of(user_agent, opened=isinstance(event, EmailOpened))
    return crawler_of(user_agent)

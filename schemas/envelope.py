"""The envelope: what every event carries, whatever its type.

An event is a fact that a producer reports; it never changes after it was recorded. The gateway decides once what
depends on knowledge outside the log (is this a bot, which device) and records it in the event, so that folding
the log again gives the same result.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta, Struct

DEFAULT_TENANT = "default"

MAX_INTEGER = 2**53
MAX_FLOAT = 1e15
"""Beyond these limits JSON readers disagree on the value of a number in a free object."""

ANONYMOUS_PREFIX = "anon:"
"""The lead id of an anonymous visitor begins with this; the rest is the visitor id."""

# Python's `$` also matches before a last line feed; `(?!\n)` takes that back, here and in JSON Schema.
EventId = Annotated[
    str, Meta(pattern=r"^[!-~]{1,64}$(?!\n)", description="1 to 64 visible ASCII characters, no space")
]
"""Unique within its key (visitor or lead): a second delivery is recognised by it."""

Identifier = Annotated[
    str,
    Meta(
        max_length=128,
        pattern=r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$(?!\n)",
        description="1 to 128 characters, no control characters, no space at either end",
    ),
]
Tenant = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}$(?!\n)",
        description="1 to 32 of a-z, 0-9 and -, not beginning with -",
    ),
]
Source = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_-]{0,31}$(?!\n)",
        description="1 to 32 of a-z, 0-9, _ and -, beginning with a letter",
    ),
]
Moment = Annotated[datetime, Meta(tz=True)]
Line = Annotated[str, Meta(max_length=512)]
Text = Annotated[str, Meta(max_length=8192)]
Url = Annotated[str, Meta(max_length=2048)]
FieldName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_]{0,63}$(?!\n)",
        description="1 to 64 of a-z, 0-9 and _, beginning with a letter",
    ),
]
FieldValue = (
    Annotated[str, Meta(max_length=1024)]
    | Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
    | Annotated[float, Meta(ge=-MAX_FLOAT, le=MAX_FLOAT)]
    | bool
    | None
    | Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=64)]
)
Fields = Annotated[dict[FieldName, FieldValue], Meta(max_length=64)]
Properties = Annotated[dict[str, Any], Meta(max_length=64)]


def tag_of(kind: type[Struct]) -> str:
    """The value of the field `type` in messages of this kind."""
    return str(kind.__struct_config__.tag)


class Campaign(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """The utm_* parameters of the link that brought the visitor."""

    source: Line | None = None
    medium: Line | None = None
    name: Line | None = None
    term: Line | None = None
    content: Line | None = None
    id: Line | None = None


class TrafficOrigin(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """Where the person came from, as the gateway decides it from the link and the referring page."""

    channel: Line | None = None
    """search, social, video, shopping, email, paid, display, ai_assistant, referral, affiliate, audio, sms, push,
    direct, internal (the own site, a payment or sign-in page) or unassigned."""
    group: Line | None = None
    """The group of the default channel grouping: Organic Search, Paid Social ..."""
    source: Line | None = None
    """The site or app: its host, or utm_source."""
    evidence: Line | None = None
    """What decided: link, referrer or event."""
    edition: Line | None = None
    """The edition of the lists that decided."""


class Device(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """The device, as the gateway reads it from the user agent."""

    type: Line | None = None
    """desktop, mobile, tablet, tv or other."""
    os: Line | None = None
    browser: Line | None = None


class Context(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """Where and how the event happened, and the subject of it as engagement lists name it."""

    ip: Line | None = None
    user_agent: Annotated[str, Meta(max_length=1024)] | None = None
    url: Url | None = None
    referrer: Url | None = None
    campaign: Campaign | None = None
    title: Line | None = None
    source_type: Line | None = None
    source_id: Line | None = None
    source_name: Line | None = None
    location: Line | None = None
    engagement_value: Annotated[int, Meta(ge=0, le=100)] | None = None
    """Relative importance, 0 to 100, for reports; no built-in model reads it."""
    revenue: Decimal | None = None
    """What the event earned, in major units with its `currency`, for reports. It is no purchase: a lead's revenue is the
    sum of purchases."""
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")] | None = None


class Event(Struct, kw_only=True, omit_defaults=True, tag_field="type", frozen=True):
    """The envelope. An event has a `visitor_id`, a `lead_id` or both.

    `occurred_at` is the producer's clock, `recorded_at` the gateway's (of imports: `occurred_at`).
    `visitor_id` names a browser, chat or phone; `lead_id` names a known person and claims the visitor.
    """

    event_id: EventId
    occurred_at: Moment
    recorded_at: Moment | None = None
    tenant: Tenant = DEFAULT_TENANT
    visitor_id: Identifier | None = None
    lead_id: Identifier | None = None
    session_id: Identifier | None = None
    source: Source = "web"
    context: Context | None = None
    # decided by the gateway
    bot: Line | None = None
    """The crawler's name; a bot's events are archived and never scored."""
    device: Device | None = None
    traffic_origin: TrafficOrigin | None = None
    imported: bool = False
    """Imported or backfilled: thresholds that it crosses fire nothing."""
    reply: bool = False
    """A caller waits: an `event_applied` statement follows, whatever the event changes."""
    hops: Annotated[int, Meta(ge=0, le=1_000)] = 0
    """How many actions of workflows, one after the other, led to the event. At five, it sets off no further ones."""
    tracking_consent: bool | None = None
    """What the visitor said about being tracked when it happened. An event with false is not stored; without it, the
    tenant's settings and the visitor's last `consent_changed` decide."""
    extra: Properties | None = None
    """Fields that this version does not know, kept as received."""
    v: Annotated[int, Meta(ge=1)] = 1
    """The version of the type's shape; an older one is upgraded when read (`upcast`)."""

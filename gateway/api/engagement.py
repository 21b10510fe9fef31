"""/api/lead-tracking/engagement/{lead_id}: records one engagement of a lead, and lists all of them.

An engagement is an event of the log like any other; the endpoint gives its fields the names of callers that track
engagements. It is answered once it is applied (202: the folds have not come to it in time). Revenue of a purchase is its
value; of any other type it is kept for reports and is no purchase.
"""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.found_leads import found_lead, lead_id_as_sent, merged_into
from gateway.api.lead_moment import AsKnown, AsOf, identity_keys_of, lead_request, lead_there_at
from gateway.api.leads import NO_NUL
from gateway.api.services import authorized_caller, services_of, tenant_of
from gateway.api.window import Days, From, To, read_window
from gateway.documented import answer_docs, body_schema_of, example_bodies, request_docs
from gateway.door.body import read_body
from gateway.door.json_body import json_object, struct_of
from gateway.door.recording import record_events
from gateway.ports import event_key, location_of_outcome
from gateway.store import Row
from gateway.unknown_names import meant_name
from projections import queries
from projections.channels import CHANNEL_FIXED_BY_TYPE, CHANNEL_OF_SOURCE, DEFAULT_CHANNEL_OF_TYPE
from projections.engagements import (
    CUSTOM_TYPE,
    EngagementFilters,
    EventCursor,
    PastEvents,
    select_engagements,
)
from schemas.decode import Refusal
from schemas.envelope import ANONYMOUS_PREFIX, EventId, Line, Moment
from schemas.events import Amount, Currency
from schemas.moment import millis, moment
from scoring.analytics.orders import ORDER_TYPES
from scoring.features.features import CUSTOM_PREFIX
from scoring.features.identity import is_anonymous
from scoring.features.signals import EVENT_TYPE_BY_TAG, major_units

LARGEST_BODY_BYTES = 50_000
APPLY_SECONDS = 5.0
PAGE, LONGEST_PAGE = 50, 500
MOST_FILTERS = 50
SOURCE_OF_CHANNEL: Mapping[str, str] = {channel: source for source, channel in CHANNEL_OF_SOURCE.items()}
DEFAULT_SOURCE: Final = "crm"
TYPES = sorted(EVENT_TYPE_BY_TAG.keys() - {"custom"})
ALL_CHANNELS = {*SOURCE_OF_CHANNEL, *CHANNEL_FIXED_BY_TYPE.values(), *DEFAULT_CHANNEL_OF_TYPE.values()}
CURSOR = r"^-?\d{1,16}_\d{1,9}_\d{1,18}$"
EXAMPLES = example_bodies("engagement")

Several = Annotated[
    list[Annotated[str, Query(max_length=64, pattern=NO_NUL)]] | None,
    Query(max_length=MOST_FILTERS, description="Only these. May be repeated."),
]


class Engagement(Struct):
    """What callers send. `engagement_id` counts once; `details` are fields of the event's own type."""

    engagement_type: Annotated[str, Meta(max_length=64)]
    engagement_channel: str | None = None
    engagement_id: EventId | None = None
    occurred_at: Moment | None = None
    source_type: Line | None = None
    source_id: Line | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    source_name: Line | None = None
    title: Line | None = None
    engagement_value: Annotated[int, Meta(ge=0, le=100)] | None = None
    revenue: Amount | None = None
    currency: Currency | None = None
    device_type: Line | None = None
    location: Annotated[Line | None, Meta(description="where the person was, in words")] = None
    ip_address: Line | None = None
    user_agent: Annotated[str, Meta(max_length=1024)] | None = None
    details: Annotated[dict[str, Any], Meta(max_length=64)] | None = None
    metadata: Annotated[dict[str, Any], Meta(max_length=64)] | None = None


router = APIRouter(prefix="/api/lead-tracking/engagement", tags=["engagement"])


@router.get(
    "/{lead_id:path}/history",
    summary="A lead's engagements, the newest first",
    responses=answer_docs(
        EXAMPLES["history"],
        "`next_cursor` has the next page.",
        others={"of a window": EXAMPLES["history_of_a_window"]},
    ),
)
@router.get("/{lead_id:path}/history/", include_in_schema=False)
async def history(
    request: Request,
    lead_id: str,
    *,
    engagement_type: Several = None,
    engagement_channel: Several = None,
    source_type: Annotated[
        str | None,
        Query(max_length=512, pattern=NO_NUL, description="Only what came from such a thing: form."),
    ] = None,
    source_id: Annotated[
        str | None,
        Query(max_length=512, pattern=NO_NUL, description="Only what came from the thing with this id."),
    ] = None,
    with_revenue: Annotated[bool, Query(description="Only those with revenue.")] = False,
    days: Days = None,
    begin: From = None,
    end: To = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
    cursor: Annotated[
        str | None, Query(pattern=CURSOR, description="`next_cursor` of the page before.")
    ] = None,
    as_of: AsOf = None,
    knowledge: AsKnown = "then",
) -> Response:
    services, tenant = services_of(request), tenant_of(request)
    moment_of_lead = lead_request(services.ports.now(), as_of, knowledge)
    shown: dict[str, Any] = {} if as_of is None else {"as_of": moment_of_lead.at}
    first = until = None
    if days is not None or begin is not None or end is not None:
        zone = (await services.ports.published(tenant)).zone
        window = read_window(zone, moment_of_lead.at, days, begin, end, default_days=None)
        first, until, shown = window.begin, window.end, window.shown()
    types, custom_names = _filters_of_types(engagement_type or ())
    channels = tuple(engagement_channel or ())
    if not ALL_CHANNELS.issuperset(channels):
        raise _no_such_channel(ALL_CHANNELS)
    filters = EngagementFilters(
        types,
        custom_names,
        channels,
        source_type,
        source_id,
        first,
        until,
        with_revenue=with_revenue,
    )
    async with services.store.snapshot() as ask:
        lead = found_lead(await ask(queries.lead(tenant, lead_id)))
        if as_of is not None:
            active = await services.ports.published(tenant)
            then = await lead_there_at(ask, services.ports.past_leads, active, lead, moment_of_lead)
            lead = then.row
            filters = filters._replace(
                then=PastEvents(identity_keys_of(then), then.at, moment_of_lead.known_today)
            )
        rows = await ask(
            select_engagements(tenant, lead_id, filters, limit=limit + 1, before=_event_cursor(cursor))
        )
    last = rows[limit - 1] if len(rows) > limit else None
    return JsonAnswer(
        {
            "lead_id": lead_id_as_sent(lead["lead_id"]),
            "merged_into": merged_into(lead),
            **shown,
            "engagements": [_engagement_json(row) for row in rows[:limit]],
            "next_cursor": last and f"{millis(last['occurred_at'])}_{last['partition']}_{last['position']}",
        }
    )


@router.post(
    "/{lead_id:path}",
    summary="Record an engagement of a lead",
    openapi_extra=request_docs(EXAMPLES["engagement"], body_schema_of(Engagement)),
    responses={
        **answer_docs(EXAMPLES["recorded"], "It is recorded and applied. An unknown lead is created by it."),
        **answer_docs(
            EXAMPLES["recorded_only"],
            "It is recorded, and not applied yet: `location` has what becomes of it.",
            status=202,
        ),
    },
)
async def track(request: Request, lead_id: str) -> Response:
    services = services_of(request)
    _, caller = authorized_caller(request)
    engagement = struct_of(json_object(await read_body(request, LARGEST_BODY_BYTES)), Engagement)
    event = _event_of(lead_id.removesuffix("/"), engagement, services.ports.now())
    try:
        (recorded,) = await record_events(request, caller, [event])
    except Refusal as refusal:
        field = _FIELD_OF_EVENT.get(refusal.field or "", refusal.field)
        if field is not None and field.partition(".")[0] in (engagement.details or {}):
            field = f"details.{field}"
        raise RequestProblem(422, refusal.reason, field=field) from None
    key = event_key(recorded)
    outcome = (await services.applied([key], APPLY_SECONDS)).get(key)
    receipt: dict[str, Any] = {
        "lead_id": lead_id_as_sent(lead_id.removesuffix("/") if outcome is None else outcome.lead_id),
        "engagement_id": recorded.event_id,
        "engagement_type": engagement.engagement_type,
        "occurred_at": recorded.occurred_at,
        "applied": outcome is not None,
    }
    if outcome is None:
        return JsonAnswer({**receipt, "location": location_of_outcome(key)}, 202)
    return JsonAnswer({**receipt, "outcome": outcome.outcome})


_FIELD_OF_EVENT: Mapping[str, str] = {
    "value": "revenue",
    "context.revenue": "revenue",
    "type": "engagement_type",
    "event_id": "engagement_id",
    "name": "engagement_type",
    "extra": "metadata",
}


def _event_of(lead_id: str, engagement: Engagement, now: datetime) -> dict[str, Any]:
    """The event that the engagement is. Raises RequestProblem."""
    kind = engagement.engagement_type
    custom_name = kind.removeprefix(CUSTOM_PREFIX) if kind.startswith(CUSTOM_PREFIX) else None
    if custom_name is None and (kind == CUSTOM_TYPE or kind not in EVENT_TYPE_BY_TAG):
        raise _no_such_type(kind)
    if (engagement.revenue is None) is not (engagement.currency is None):
        missing = "revenue" if engagement.revenue is None else "currency"
        raise RequestProblem(422, "missing: revenue needs a currency, and a currency revenue", field=missing)
    worth = (
        {}
        if engagement.revenue is None
        else {
            "value" if kind in ORDER_TYPES else "revenue": str(engagement.revenue),
            "currency": engagement.currency,
        }
    )
    context = {
        "source_type": engagement.source_type,
        "source_id": None if engagement.source_id is None else str(engagement.source_id),
        "source_name": engagement.source_name,
        "title": engagement.title,
        "engagement_value": engagement.engagement_value,
        "location": engagement.location,
        "ip": engagement.ip_address,
        "user_agent": engagement.user_agent,
        **({} if kind in ORDER_TYPES else worth),
    }
    return {
        **(engagement.details or {}),
        "type": CUSTOM_TYPE if custom_name is not None else kind,
        **({} if custom_name is None else {"name": custom_name}),
        **(worth if kind in ORDER_TYPES else {}),
        "event_id": engagement.engagement_id or f"engagement-{uuid.uuid4()}",
        "occurred_at": engagement.occurred_at or now,
        "source": _source_of(engagement),
        **(
            {"visitor_id": lead_id.removeprefix(ANONYMOUS_PREFIX)}
            if is_anonymous(lead_id)
            else {"lead_id": lead_id}
        ),
        "context": {name: value for name, value in context.items() if value is not None},
        **({} if engagement.device_type is None else {"device": {"type": engagement.device_type}}),
        **({} if engagement.metadata is None else {"extra": engagement.metadata}),
    }


def _source_of(engagement: Engagement) -> str:
    """The source by which the event gets the channel; without one, the channel that its type has."""
    kind, channel = engagement.engagement_type, engagement.engagement_channel
    if channel is None:
        channel = CHANNEL_FIXED_BY_TYPE.get(kind) or DEFAULT_CHANNEL_OF_TYPE.get(kind, "")
        return SOURCE_OF_CHANNEL.get(channel, DEFAULT_SOURCE)
    if channel not in SOURCE_OF_CHANNEL:
        raise _no_such_channel(SOURCE_OF_CHANNEL)
    return SOURCE_OF_CHANNEL[channel]


def _no_such_type(kind: str) -> RequestProblem:
    meant = meant_name(kind, TYPES)
    hint = f"did you mean {meant}? For" if meant else "for"
    reason = f"no such type; {hint} one of your own write custom:NAME. There are {', '.join(TYPES)}"
    return RequestProblem(422, reason, field="engagement_type")


def _no_such_channel(channels: Iterable[str]) -> RequestProblem:
    reason = f"no such channel; there are {', '.join(sorted(channels))}"
    return RequestProblem(422, reason, field="engagement_channel")


def _filters_of_types(types: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(types of events, names of custom ones). Raises RequestProblem."""
    for kind in types:
        if kind not in TYPES and not kind.startswith(CUSTOM_PREFIX):
            raise _no_such_type(kind)
    return (
        tuple(kind for kind in types if not kind.startswith(CUSTOM_PREFIX)),
        tuple(kind.removeprefix(CUSTOM_PREFIX) for kind in types if kind.startswith(CUSTOM_PREFIX)),
    )


def _engagement_json(row: Row) -> dict[str, Any]:
    details = dict(row["details"] or {})
    metadata = details.pop("extra", None)
    kind = row["type"]
    return {
        "engagement_id": row["event_id"],
        "engagement_type": f"{CUSTOM_PREFIX}{details.get('name')}" if kind == CUSTOM_TYPE else kind,
        "engagement_channel": row["channel"],
        "channel_group": row["channel_group"],
        "occurred_at": row["occurred_at"],
        "recorded_at": row["recorded_at"],
        "source_type": row["source_type"],
        "source_id": _source_id_as_sent(row["source_id"]),
        "source_name": row["source_name"],
        "campaign": row["campaign_name"],
        "title": row["title"],
        "url": row["url"],
        "engagement_value": row["engagement_value"],
        "revenue": _revenue(row["revenue_minor"], row["currency"]),
        "currency": row["currency"],
        "device_type": row["device_type"],
        "os": row["os"],
        "browser": row["browser"],
        "ip_address": row["ip"],
        "location": row["location"],
        "details": details or None,
        "metadata": metadata,
        "late": row["late"],
        "imported": row["imported"],
    }


def _revenue(minor: int | None, currency: str | None) -> Decimal | None:
    if minor is None or currency is None:
        return None
    return major_units(minor, currency)


def _source_id_as_sent(source_id: str | None) -> str | int | None:
    return None if source_id is None else lead_id_as_sent(source_id)


def _event_cursor(cursor: str | None) -> EventCursor | None:
    if cursor is None:
        return None
    at, partition, position = cursor.split("_")
    return EventCursor(moment(int(at)), int(partition), int(position))

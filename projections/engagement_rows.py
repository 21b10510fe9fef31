"""Rows of what an identity did: its engagements and its sessions. They name the identity and never the lead, so a merge or a split
changes none.
"""

from typing import Final

from projections.channels import channel_of
from projections.column_values import jsonb_text, storable_or_none
from projections.row_keys import hashed_key, session_row_key
from projections.rows import EngagementRow, SessionRow
from schemas.activity import IdentityAttached, IdentityDelta, SessionPut
from schemas.decode import Refusal, decode_source
from schemas.envelope import Campaign, Context, Device, Event, tag_of
from schemas.events import EVENT_TYPES, PurchaseMade
from schemas.moment import millis, moment
from schemas.record import Record
from scoring.features.signals import minor_units

_NO_CONTEXT: Final = Context()
_NO_CAMPAIGN: Final = Campaign()
_NO_DEVICE: Final = Device()
_OWN_COLUMNS: Final = frozenset({"title", "url"})
_OWN_FIELDS: Final = {
    kind: tuple(
        name
        for name in kind.__struct_fields__
        if name not in Event.__struct_fields__ and name not in _OWN_COLUMNS
    )
    for kind in EVENT_TYPES
}


def engagement_row(
    raw: bytes, activity: IdentityAttached | IdentityDelta, record: Record, *, late: bool
) -> EngagementRow:
    event = decode_source(raw)
    if not isinstance(event, Event):
        raise Refusal("event", "is not an event of a producer")
    context = event.context or _NO_CONTEXT
    campaign = context.campaign or _NO_CAMPAIGN
    device = event.device or _NO_DEVICE
    revenue, currency = _revenue_of(event, context)
    return EngagementRow(
        identity_key=hashed_key(activity.identity),
        occurred_at=moment(millis(event.occurred_at)),
        partition=record.partition,
        position=record.position,
        tenant=event.tenant,
        event_id=event.event_id,
        type=tag_of(type(event)),
        channel=channel_of(event),
        source=event.source,
        recorded_at=moment(millis(event.recorded_at or event.occurred_at)),
        session_id=storable_or_none(event.session_id),
        late=late,
        imported=event.imported,
        title=storable_or_none(getattr(event, "title", None) or context.title),
        url=storable_or_none(getattr(event, "url", None) or context.url),
        referrer=storable_or_none(context.referrer),
        engagement_value=context.engagement_value,
        revenue_minor=revenue,
        currency=currency,
        source_type=storable_or_none(context.source_type),
        source_id=storable_or_none(context.source_id),
        source_name=storable_or_none(context.source_name),
        campaign_source=storable_or_none(campaign.source),
        campaign_medium=storable_or_none(campaign.medium),
        campaign_name=storable_or_none(campaign.name),
        campaign_term=storable_or_none(campaign.term),
        campaign_content=storable_or_none(campaign.content),
        device_type=storable_or_none(device.type),
        os=storable_or_none(device.os),
        browser=storable_or_none(device.browser),
        location=storable_or_none(context.location),
        ip=storable_or_none(context.ip),
        details=_event_details(event),
        channel_group=storable_or_none(event.traffic_origin.group) if event.traffic_origin else None,
    )


def _revenue_of(event: Event, context: Context) -> tuple[int, str] | tuple[None, None]:
    """(minor units, currency): what a purchase is worth, or what the context says that another event earned."""
    if isinstance(event, PurchaseMade):
        return minor_units(event.value, event.currency), event.currency
    if context.revenue is None or context.currency is None:
        return None, None
    return minor_units(context.revenue, context.currency), context.currency


def _event_details(event: Event) -> str | None:
    """The fields that only this type of event has, unless they are empty."""
    own = {}
    for name in _OWN_FIELDS[type(event)]:
        value = getattr(event, name)
        if value is not None and value != "":
            own[name] = value
    if event.extra:
        own["extra"] = event.extra
    return jsonb_text(own) if own else None


def session_row(put: SessionPut, activity: IdentityAttached | IdentityDelta) -> SessionRow:
    return SessionRow(
        session_key=session_row_key(activity.identity, put.session_id),
        identity_key=hashed_key(activity.identity),
        tenant=activity.tenant,
        session_id=put.session_id,
        producer_id=storable_or_none(put.producer_id),
        campaign=storable_or_none(put.campaign),
        revision=put.revision,
        retracted=False,
        opened_at=moment(put.opened_at),
        last_at=moment(put.last_at),
        closed=put.closed,
        pages=put.pages,
        clicks=put.clicks,
        important_clicks=put.important_clicks,
    )


def retracted_session_row(session_id: str, activity: IdentityDelta) -> SessionRow:
    """The row stays: an older record of another partition may come after this one."""
    return SessionRow(
        session_key=session_row_key(activity.identity, session_id),
        identity_key=hashed_key(activity.identity),
        tenant=activity.tenant,
        session_id=session_id,
        producer_id=None,
        campaign=None,
        revision=activity.revision,
        retracted=True,
        opened_at=None,
        last_at=None,
        closed=True,
        pages=0,
        clicks=0,
        important_clicks=0,
    )

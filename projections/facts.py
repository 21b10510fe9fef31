"""Records to rows: pure functions, one per kind of record. What each table says is decided here.

Total: every record that decodes gives rows that PostgreSQL takes. Who a lead is never shows in a
fact: facts name the identity, so a merge or a split moves none of them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from projections.channels import channel_of
from projections.rows import (
    AppliedEvent,
    BandChange,
    Change,
    DeadLetterRow,
    Engagement,
    Identity,
    Lead,
    LeadScore,
    PublicationRow,
    ScoreChange,
    SessionRow,
    SessionScore,
    StageEntry,
    Superseded,
    UnreadableRecordError,
)
from projections.state_rows import changes_of_state, stage_of
from projections.tables import (
    event_row_key,
    key_of,
    lead_row_key,
    lead_scores,
    leads,
    session_row_key,
    session_scores,
)
from schemas import topics
from schemas.activity import (
    Activity,
    IdentityAttached,
    IdentityDelta,
    ModelChanged,
    ModelRemoved,
    SessionPut,
)
from schemas.decode import Refusal, decode_activity, decode_dead_letter, decode_source, decode_statement
from schemas.envelope import Campaign, Context, Device, Event, tag_of
from schemas.events import EVENT_TYPES, PurchaseMade
from schemas.moment import millis, moment
from schemas.record import Record
from schemas.statements import (
    BandChanged,
    DeadLetter,
    EventApplied,
    LeadScored,
    ScoreChanged,
    SessionRetracted,
    SessionScored,
    StageEntered,
    Statement,
)
from scoring.features.signals import minor_units
from scoring.models.points import ONE_POINT, rounded

LARGEST_INT: Final = 2**31 - 1
NOWHERE: Final = -1
"""Before every position."""


def changes(record: Record) -> Iterable[Change]:
    """What one record changes. Raises UnreadableRecordError."""
    topic, _, position, key, value, *_ = record
    stage = stage_of(topic)
    if stage is not None:
        return changes_of_state(stage, record)
    if value is None:
        return _gone(key, position) if topic == topics.LEAD_SCORES else ()
    try:
        match topic:
            case topics.LEAD_ACTIVITY:
                return list(_activity(decode_activity(value), record))
            case topics.DEAD_LETTERS:
                return [_dead_letter(decode_dead_letter(value), position)]
            case _:
                said = decode_statement(value)
                return CHANGES_OF_STATEMENT[type(said)](said, lead_row_key(said.tenant, said.lead_id), record)
    except Refusal as refusal:
        raise UnreadableRecordError(record, str(refusal)) from refusal


def dead_letter_of(record: Record, reason: str) -> DeadLetterRow:
    """A record that is none of ours, as a dead letter that stands in no topic."""
    return DeadLetterRow(
        record.topic,
        record.partition,
        record.position,
        storable(reason),
        None,
        _text(record.key),
        record.value or b"",
        NOWHERE,
    )


# Activity


def _activity(said: Activity, record: Record) -> Iterator[Change]:
    match said:
        case IdentityAttached():
            yield Identity(
                key_of(said.identity),
                said.tenant,
                storable(said.identity),
                lead_row_key(said.tenant, said.lead_id),
                storable(said.lead_id),
                said.epoch,
                storable(said.home),
                moment(said.recorded_at),
            )
            if said.event is not None:
                yield _engagement(said.event, said, record, late=False)
            yield from (_session(put, said) for put in said.sessions)
        case IdentityDelta():
            yield _engagement(said.event, said, record, late=said.late)
            yield from (_session(put, said) for put in said.sessions)
            yield from (_retracted(session_id, said) for session_id in said.retracted)
        case ModelChanged() | ModelRemoved() if record.partition == 0:  # it stands in all of them
            yield _publication(said)
        case _:
            return


def _publication(said: ModelChanged | ModelRemoved) -> PublicationRow:
    published = said if isinstance(said, ModelChanged) else None
    return PublicationRow(
        tenant=storable(said.tenant),
        model=storable(said.model),
        version=said.version,
        text=None if published is None else storable(published.text),
        fire=published is not None and published.fire,
        by=_text(said.by),
        note=_text(said.note),
        change="retired" if published is None else _text(published.change),
        recorded_at=moment(said.recorded_at),
    )


def _engagement(
    raw: bytes, said: IdentityAttached | IdentityDelta, record: Record, *, late: bool
) -> Engagement:
    event = decode_source(raw)
    if not isinstance(event, Event):
        raise Refusal("event", "is no event of a producer")
    context = event.context or _NO_CONTEXT
    campaign = context.campaign or _NO_CAMPAIGN
    device = event.device or _NO_DEVICE
    bought = event if isinstance(event, PurchaseMade) else None
    return Engagement(
        identity_key=key_of(said.identity),
        occurred_at=moment(millis(event.occurred_at)),
        partition=record.partition,
        position=record.position,
        tenant=event.tenant,
        event_id=event.event_id,
        type=tag_of(type(event)),
        channel=channel_of(event),
        source=event.source,
        recorded_at=moment(millis(event.recorded_at or event.occurred_at)),
        session_id=_text(event.session_id),
        late=late,
        imported=event.imported,
        title=_text(getattr(event, "title", None) or context.title),
        url=_text(getattr(event, "url", None) or context.url),
        referrer=_text(context.referrer),
        engagement_value=context.engagement_value,
        revenue_minor=minor_units(bought.value, bought.currency) if bought else None,
        currency=bought.currency if bought else None,
        source_type=_text(context.source_type),
        source_id=_text(context.source_id),
        source_name=_text(context.source_name),
        campaign_source=_text(campaign.source),
        campaign_medium=_text(campaign.medium),
        campaign_name=_text(campaign.name),
        campaign_term=_text(campaign.term),
        campaign_content=_text(campaign.content),
        device_type=_text(device.type),
        os=_text(device.os),
        browser=_text(device.browser),
        location=_text(context.location),
        ip=_text(context.ip),
        details=_details(event),
    )


def _details(event: Event) -> str | None:
    """The type's own fields as far as they are given."""
    own = {}
    for name in _OWN_FIELDS[type(event)]:
        value = getattr(event, name)
        if value is not None and value != "":
            own[name] = value
    if event.extra:
        own["extra"] = event.extra
    return as_json(own) if own else None


def _session(put: SessionPut, said: IdentityAttached | IdentityDelta) -> SessionRow:
    return SessionRow(
        session_key=session_row_key(said.identity, put.session_id),
        identity_key=key_of(said.identity),
        tenant=said.tenant,
        session_id=put.session_id,
        producer_id=_text(put.producer_id),
        campaign=_text(put.campaign),
        revision=put.revision,
        retracted=False,
        opened_at=moment(put.opened_at),
        last_at=moment(put.last_at),
        closed=put.closed,
        pages=put.pages,
        clicks=put.clicks,
        important_clicks=put.important_clicks,
    )


def _retracted(session_id: str, said: IdentityDelta) -> SessionRow:
    """Kept as a row: an older record of another partition may come after this one."""
    return SessionRow(
        session_key=session_row_key(said.identity, session_id),
        identity_key=key_of(said.identity),
        tenant=said.tenant,
        session_id=session_id,
        producer_id=None,
        campaign=None,
        revision=said.revision,
        retracted=True,
        opened_at=None,
        last_at=None,
        closed=True,
        pages=0,
        clicks=0,
        important_clicks=0,
    )


# Statements


def _session_score(said: SessionScored, lead_key: int, record: Record) -> list[Change]:
    return [
        SessionScore(
            session_row_key(said.identity, said.session_id),
            lead_key,
            said.model,
            said.version,
            points(said.score),
            as_json(said.lines),
            said.ended,
            said.at,
            record.position,
        )
    ]


def _no_session_score(said: SessionRetracted, lead_key: int, record: Record) -> list[Change]:
    key = session_row_key(said.identity, said.session_id), lead_key
    return [Superseded(session_scores, key, record.position)]


def _score_change(said: ScoreChanged, lead_key: int, record: Record) -> list[Change]:
    return [
        ScoreChange(
            lead_key,
            said.model,
            said.at,
            record.position,
            said.version,
            points(said.total),
            points(said.previous),
            points(said.change),
            as_json(said.bands),
            as_json(said.lines),
            storable(said.caused_by),
        )
    ]


def _band_change(said: BandChanged, lead_key: int, record: Record) -> list[Change]:
    return [
        BandChange(
            lead_key,
            said.at,
            record.position,
            said.model,
            said.version,
            said.scale,
            _text(said.band),
            _text(said.previous),
            as_json(said.crossed),
            said.silent,
            storable(said.caused_by),
        )
    ]


def _stage_entry(said: StageEntered, lead_key: int, record: Record) -> list[Change]:
    return [
        StageEntry(
            lead_key,
            said.at,
            record.position,
            storable(said.stage),
            storable(said.previous),
            storable(said.reason),
            storable(said.caused_by),
        )
    ]


def _applied_event(said: EventApplied, lead_key: int, record: Record) -> list[Change]:
    return [
        AppliedEvent(
            event_row_key(said.tenant, said.event_id),
            lead_key,
            said.tenant,
            said.event_id,
            storable(said.lead_id),
            said.at,
            said.outcome,
            as_json(said.scores),
            record.position,
            record.partition,
        )
    ]


def _card(said: LeadScored, lead_key: int, record: Record) -> list[Change]:
    scores = [
        LeadScore(
            lead_key,
            model,
            score.version,
            points(score.total),
            whole_points(score.total),
            as_json(score.bands),
            score.as_of,
            score.next_due,
            record.position,
        )
        for model, score in said.scores.items()
    ]
    return [
        _lead(said, lead_key, record.position),
        *scores,
        Superseded(lead_scores, (lead_key,), record.position),
    ]


CHANGES_OF_STATEMENT: Final[dict[type[Statement], Callable[[Any, int, Record], list[Change]]]] = {
    SessionScored: _session_score,
    SessionRetracted: _no_session_score,
    ScoreChanged: _score_change,
    BandChanged: _band_change,
    StageEntered: _stage_entry,
    EventApplied: _applied_event,
    LeadScored: _card,
}
"""What each statement changes, by (statement, key of its lead, record)."""


def _lead(said: LeadScored, lead_key: int, position: int) -> Lead:
    fields = said.fields
    name = _field(fields, "name") or " ".join(
        filter(None, (_field(fields, "first_name"), _field(fields, "last_name")))
    )
    email, phone = _field(fields, "email"), _field(fields, "phone")
    lead_id = storable(said.lead_id)
    return Lead(
        lead_key=lead_key,
        tenant=said.tenant,
        lead_id=lead_id,
        identified=said.identified,
        created_at=said.created_at,
        last_interaction_at=said.last_interaction_at,
        stage=said.stage,
        redirect=_text(said.redirect),
        identities=said.identities,
        as_of=said.at,
        name=name or None,
        email=email,
        phone=phone,
        company=_field(fields, "company"),
        assigned_to=_field(fields, "assigned_to"),
        search="\n".join(filter(None, (name, email, phone, lead_id))).casefold(),
        counts=as_json(said.counts),
        fields=as_json(fields),
        position=position,
    )


def _gone(key: str, position: int) -> tuple[Change, ...]:
    lead_key = key_of(key)
    return Superseded(leads, (lead_key,), position), Superseded(lead_scores, (lead_key,), position)


def _dead_letter(letter: DeadLetter, position: int) -> DeadLetterRow:
    return DeadLetterRow(
        storable(letter.topic),
        letter.partition,
        letter.position,
        storable(letter.reason),
        _text(letter.field),
        _text(letter.key),
        letter.original,
        position,
    )


# Values


def storable(text: str) -> str:
    """The text without what PostgreSQL cannot hold."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def as_json(value: Any) -> str:
    """JSON text that `jsonb` takes."""
    try:
        encoded = _JSON.encode(value)
    except UnicodeEncodeError:
        encoded = _JSON.encode(_storable_all(value))
    if b"\\u0000" in encoded:
        encoded = _JSON.encode(_storable_all(msgspec.json.decode(encoded)))
    return encoded.decode()


def _storable_all(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable(str(name)): _storable_all(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_storable_all(entry) for entry in value]
        case _:
            return value


def points(value: float) -> Decimal:
    """The number as the statement wrote it: its shortest decimal form is exact."""
    return Decimal(repr(value))


def whole_points(total: float) -> int:
    """As boards and thresholds count, within what the column holds."""
    return max(-LARGEST_INT, min(rounded(int(points(total) * ONE_POINT)), LARGEST_INT))


def _text(value: str | None) -> str | None:
    return None if value is None else storable(value)


def _field(fields: dict[str, Any], name: str) -> str | None:
    """A profile field as text; empty is absent."""
    value = fields.get(name)
    return None if value is None or value == "" else storable(str(value))


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
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_JSON: Final = msgspec.json.Encoder(decimal_format="number")

"""Makes rows of records: pure functions, one for each kind of record. They decide what each table contains.

They are total: every record that decodes gives rows that PostgreSQL accepts. Facts name the identity and never the
lead, so a merge or a split changes no fact.
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
from scoring.features.texts import fold
from scoring.models.points import ONE_POINT, rounded

LARGEST_INT: Final = 2**31 - 1
NO_POSITION: Final = -1
"""Before every position."""


def changes(record: Record) -> Iterable[Change]:
    """What one record changes. Raises UnreadableRecordError."""
    topic, _, position, key, value, *_ = record
    stage = stage_of(topic)
    if stage is not None:
        return changes_of_state(stage, record)
    if value is None:
        return _removed_lead(key, position) if topic == topics.LEAD_SCORES else ()
    try:
        match topic:
            case topics.LEAD_ACTIVITY:
                return list(_activity(decode_activity(value), record))
            case topics.DEAD_LETTERS:
                return [_dead_letter(decode_dead_letter(value), position)]
            case _:
                statement = decode_statement(value)
                return CHANGES_OF_STATEMENT[type(statement)](
                    statement, lead_row_key(statement.tenant, statement.lead_id), record
                )
    except Refusal as refusal:
        raise UnreadableRecordError(record, str(refusal)) from refusal


def dead_letter_of(record: Record, reason: str) -> DeadLetterRow:
    """The row of a record that Leadstream did not write: a dead letter of which the topic of dead letters has no record."""
    return DeadLetterRow(
        record.topic,
        record.partition,
        record.position,
        storable(reason),
        None,
        _text(record.key),
        record.value or b"",
        NO_POSITION,
    )


# Activity


def _activity(activity: Activity, record: Record) -> Iterator[Change]:
    match activity:
        case IdentityAttached():
            yield Identity(
                key_of(activity.identity),
                activity.tenant,
                storable(activity.identity),
                lead_row_key(activity.tenant, activity.lead_id),
                storable(activity.lead_id),
                activity.epoch,
                storable(activity.home),
                moment(activity.recorded_at),
            )
            if activity.event is not None:
                yield _engagement(activity.event, activity, record, late=False)
            yield from (_session(put, activity) for put in activity.sessions)
        case IdentityDelta():
            yield _engagement(activity.event, activity, record, late=activity.late)
            yield from (_session(put, activity) for put in activity.sessions)
            yield from (_retracted(session_id, activity) for session_id in activity.retracted)
        case ModelChanged() | ModelRemoved() if record.partition == 0:  # every partition has it
            yield _publication(activity)
        case _:
            return


def _publication(change: ModelChanged | ModelRemoved) -> PublicationRow:
    published = change if isinstance(change, ModelChanged) else None
    return PublicationRow(
        tenant=storable(change.tenant),
        model=storable(change.model),
        version=change.version,
        text=None if published is None else storable(published.text),
        fire=published is not None and published.fire,
        by=_text(change.by),
        note=_text(change.note),
        change="retired" if published is None else _text(published.change),
        recorded_at=moment(change.recorded_at),
        folding=1 if published is None else published.folding,
    )


def _engagement(
    raw: bytes, activity: IdentityAttached | IdentityDelta, record: Record, *, late: bool
) -> Engagement:
    event = decode_source(raw)
    if not isinstance(event, Event):
        raise Refusal("event", "is not an event of a producer")
    context = event.context or _NO_CONTEXT
    campaign = context.campaign or _NO_CAMPAIGN
    device = event.device or _NO_DEVICE
    purchase = event if isinstance(event, PurchaseMade) else None
    return Engagement(
        identity_key=key_of(activity.identity),
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
        revenue_minor=minor_units(purchase.value, purchase.currency) if purchase else None,
        currency=purchase.currency if purchase else None,
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
        channel_group=_text(event.traffic_origin.group) if event.traffic_origin else None,
    )


def _details(event: Event) -> str | None:
    """The fields that only this type of event has, unless they are empty."""
    own = {}
    for name in _OWN_FIELDS[type(event)]:
        value = getattr(event, name)
        if value is not None and value != "":
            own[name] = value
    if event.extra:
        own["extra"] = event.extra
    return as_json(own) if own else None


def _session(put: SessionPut, activity: IdentityAttached | IdentityDelta) -> SessionRow:
    return SessionRow(
        session_key=session_row_key(activity.identity, put.session_id),
        identity_key=key_of(activity.identity),
        tenant=activity.tenant,
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


def _retracted(session_id: str, activity: IdentityDelta) -> SessionRow:
    """The row stays: an older record of another partition may come after this one."""
    return SessionRow(
        session_key=session_row_key(activity.identity, session_id),
        identity_key=key_of(activity.identity),
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


# Statements


def _session_score(statement: SessionScored, lead_key: int, record: Record) -> list[Change]:
    return [
        SessionScore(
            session_row_key(statement.identity, statement.session_id),
            lead_key,
            statement.model,
            statement.version,
            points(statement.score),
            as_json(statement.lines),
            statement.ended,
            statement.at,
            record.position,
        )
    ]


def _retracted_session_score(statement: SessionRetracted, lead_key: int, record: Record) -> list[Change]:
    key = session_row_key(statement.identity, statement.session_id), lead_key
    return [Superseded(session_scores, key, record.position)]


def _score_change(statement: ScoreChanged, lead_key: int, record: Record) -> list[Change]:
    return [
        ScoreChange(
            lead_key,
            statement.model,
            statement.at,
            record.position,
            statement.version,
            points(statement.total),
            points(statement.previous),
            points(statement.change),
            as_json(statement.bands),
            as_json(statement.lines),
            storable(statement.caused_by),
        )
    ]


def _band_change(statement: BandChanged, lead_key: int, record: Record) -> list[Change]:
    return [
        BandChange(
            lead_key,
            statement.at,
            record.position,
            statement.model,
            statement.version,
            statement.scale,
            _text(statement.band),
            _text(statement.previous),
            as_json(statement.crossed),
            statement.silent,
            storable(statement.caused_by),
        )
    ]


def _stage_entry(statement: StageEntered, lead_key: int, record: Record) -> list[Change]:
    return [
        StageEntry(
            lead_key,
            statement.at,
            record.position,
            storable(statement.stage),
            storable(statement.previous),
            storable(statement.reason),
            storable(statement.caused_by),
        )
    ]


def _applied_event(statement: EventApplied, lead_key: int, record: Record) -> list[Change]:
    return [
        AppliedEvent(
            event_row_key(statement.tenant, statement.event_id),
            lead_key,
            statement.tenant,
            statement.event_id,
            storable(statement.lead_id),
            statement.at,
            statement.outcome,
            as_json(statement.scores),
            record.position,
            record.partition,
            storable(statement.key),
        )
    ]


def _lead_and_scores(statement: LeadScored, lead_key: int, record: Record) -> list[Change]:
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
        for model, score in statement.scores.items()
    ]
    return [
        _lead(statement, lead_key, record.position),
        *scores,
        Superseded(lead_scores, (lead_key,), record.position),
    ]


CHANGES_OF_STATEMENT: Final[dict[type[Statement], Callable[[Any, int, Record], list[Change]]]] = {
    SessionScored: _session_score,
    SessionRetracted: _retracted_session_score,
    ScoreChanged: _score_change,
    BandChanged: _band_change,
    StageEntered: _stage_entry,
    EventApplied: _applied_event,
    LeadScored: _lead_and_scores,
}
"""The function that makes the changes of a statement from (statement, key of its lead, record)."""


def _lead(statement: LeadScored, lead_key: int, position: int) -> Lead:
    fields = statement.fields
    name = _field(fields, "name") or " ".join(
        filter(None, (_field(fields, "first_name"), _field(fields, "last_name")))
    )
    email, phone = _field(fields, "email"), _field(fields, "phone")
    lead_id = storable(statement.lead_id)
    return Lead(
        lead_key=lead_key,
        tenant=statement.tenant,
        lead_id=lead_id,
        identified=statement.identified,
        created_at=statement.created_at,
        last_interaction_at=statement.last_interaction_at,
        stage=statement.stage,
        redirect=_text(statement.redirect),
        identities=statement.identities,
        as_of=statement.at,
        name=name or None,
        email=email,
        phone=phone,
        company=_field(fields, "company"),
        assigned_to=_field(fields, "assigned_to"),
        search="\n".join(map(fold, filter(None, (name, email, phone, lead_id)))),
        counts=as_json(statement.counts),
        fields=as_json(fields),
        position=position,
        revenue=None if statement.revenue is None else as_json(statement.revenue),
    )


def _removed_lead(key: str, position: int) -> tuple[Change, ...]:
    lead_key = key_of(key)
    return Superseded(leads, (lead_key,), position), Superseded(lead_scores, (lead_key,), position)


def _dead_letter(dead_letter: DeadLetter, position: int) -> DeadLetterRow:
    return DeadLetterRow(
        storable(dead_letter.topic),
        dead_letter.partition,
        dead_letter.position,
        storable(dead_letter.reason),
        _text(dead_letter.field),
        _text(dead_letter.key),
        dead_letter.original,
        position,
    )


# Values


def storable(text: str) -> str:
    """The text, with a replacement character for what PostgreSQL cannot store."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def as_json(value: Any) -> str:
    """JSON text that `jsonb` accepts."""
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
    """The number as the statement has it: its shortest decimal form is exact."""
    return Decimal(repr(value))


def whole_points(total: float) -> int:
    """Rounded as boards and thresholds round, and limited to what the column can store."""
    return max(-LARGEST_INT, min(rounded(int(points(total) * ONE_POINT)), LARGEST_INT))


def _text(value: str | None) -> str | None:
    return None if value is None else storable(value)


def _field(fields: dict[str, Any], name: str) -> str | None:
    """A profile field as text; None if it is missing or empty."""
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

"""Makes rows of records: pure functions, one for each kind of record. They decide what each table contains.

They are total: every record that decodes gives rows that PostgreSQL accepts. Facts name the identity and never the
lead, so a merge or a split changes no fact.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from projections.column_values import exact_decimal, jsonb_text, storable_or_none, storable_text
from projections.engagement_rows import engagement_row, retracted_session_row, session_row
from projections.lead_records import lead_record_row
from projections.lead_search import search_text_of
from projections.row_keys import (
    band_key,
    event_row_key,
    execution_number,
    hashed_key,
    lead_row_key,
    session_row_key,
)
from projections.rows import (
    AppliedEventRow,
    BandChangeRow,
    DeadLetterRow,
    IdentityAttachmentRow,
    IdentityRow,
    LeadRow,
    LeadScoreRow,
    LeadSearchRow,
    PublicationRow,
    QualificationOverrideRow,
    ScoreChangeRow,
    SessionScoreRow,
    SettingsVersionRow,
    StageEntryRow,
    SupersededRows,
    TableChange,
    UnreadableRecordError,
    WorkflowExecutionRow,
)
from projections.state_rows import changes_of_state, stage_of
from projections.tables import lead_scores, lead_search, leads, session_scores
from schemas import topics
from schemas.activity import (
    Activity,
    ExperimentChanged,
    IdentityAttached,
    IdentityDelta,
    IdentityDetached,
    ModelChanged,
    ModelRemoved,
    RedirectChanged,
    SettingsChanged,
    WorkflowsChanged,
)
from schemas.decode import Refusal, decode_activity, decode_dead_letter, decode_statement
from schemas.moment import millis_in_text, moment, moment_or_none
from schemas.publications import EXPERIMENT_PREFIX, WORKFLOWS
from schemas.record import ERASED_KEY, Record
from schemas.statements import (
    BandChanged,
    ContactTimes,
    DeadLetter,
    EventApplied,
    LeadScored,
    OverriddenBand,
    QualificationOverridden,
    ScoreChanged,
    SessionRetracted,
    SessionScored,
    StageEntered,
    Statement,
    WorkflowTriggered,
)
from scoring.features.profile_fields import SNOOZED_UNTIL_FIELD
from scoring.models.points import ONE_POINT, rounded_points

LARGEST_INT: Final = 2**31 - 1
CONTACT_TIMES: Final = ("qualified_at", "limit_at", "contacted_at", "ended_at")
NO_POSITION: Final = -1
"""Before every position."""


def changes_of_record(record: Record) -> Iterable[TableChange]:
    """What one record changes. Raises UnreadableRecordError."""
    topic, _, position, key, value, *_ = record
    stage = stage_of(topic)
    if stage is not None:
        return changes_of_state(stage, record)
    if value is None:
        return _removed_lead(key, position) if topic == topics.LEAD_SCORES else ()
    try:
        match topic:
            case topics.LEAD_ACTIVITY if record.key == ERASED_KEY:
                return list(_changes_of_identity(decode_activity(value), record))
            case topics.LEAD_ACTIVITY:
                return list(_changes_of_activity(decode_activity(value), record))
            case topics.DEAD_LETTERS:
                return [_dead_letter_row(decode_dead_letter(value), position)]
            case _:
                statement = decode_statement(value)
                return CHANGES_OF_STATEMENT[type(statement)](
                    statement, lead_row_key(statement.tenant, statement.lead_id), record
                )
    except Refusal as refusal:
        raise UnreadableRecordError(record, str(refusal)) from refusal


def dead_letter_of_foreign_record(record: Record, reason: str) -> DeadLetterRow:
    """The row of a record that Leadstream did not write: a dead letter of which the topic of dead letters has no record."""
    return DeadLetterRow(
        record.topic,
        record.partition,
        record.position,
        storable_text(reason),
        None,
        storable_or_none(record.key),
        record.value or b"",
        NO_POSITION,
    )


# Activity


def _changes_of_activity(activity: Activity, record: Record) -> Iterator[TableChange]:
    match activity:
        case IdentityAttached():
            yield IdentityRow(
                hashed_key(activity.identity),
                activity.tenant,
                storable_text(activity.identity),
                lead_row_key(activity.tenant, activity.lead_id),
                storable_text(activity.lead_id),
                activity.epoch,
                storable_text(activity.home),
                moment(activity.recorded_at),
            )
            yield IdentityAttachmentRow(
                hashed_key(activity.identity),
                activity.epoch,
                activity.tenant,
                lead_row_key(activity.tenant, activity.lead_id),
                storable_text(activity.lead_id),
                moment(activity.recorded_at),
                record.partition,
                record.position,
            )
            yield lead_record_row(activity, record)
            yield from _changes_of_identity(activity, record)
        case IdentityDelta():
            yield lead_record_row(activity, record)
            yield from _changes_of_identity(activity, record)
        case IdentityDetached() | RedirectChanged():
            yield lead_record_row(activity, record)
        case ModelChanged() | ModelRemoved() if record.partition == 0:  # every partition has it
            yield _publication_row(activity)
        case WorkflowsChanged() if record.partition == 0:
            yield _row_of_workflows(activity)
        case ExperimentChanged() if record.partition == 0:
            yield _row_of_experiment(activity)
        case SettingsChanged() if record.partition == 0:
            yield SettingsVersionRow(
                storable_text(activity.tenant),
                activity.version,
                moment(activity.recorded_at),
                storable_text(activity.time_zone),
                activity.idle_minutes,
                storable_text(activity.lifecycle),
            )
        case _:
            return


def _changes_of_identity(activity: Activity, record: Record) -> Iterator[TableChange]:
    """What the identity did; that it did so as a part of a lead is not among it."""
    if isinstance(activity, IdentityAttached):
        if activity.event is not None:
            yield engagement_row(activity.event, activity, record, late=False)
        yield from (session_row(put, activity) for put in activity.sessions)
    elif isinstance(activity, IdentityDelta):
        yield engagement_row(activity.event, activity, record, late=activity.late)
        yield from (session_row(put, activity) for put in activity.sessions)
        yield from (retracted_session_row(session_id, activity) for session_id in activity.retracted)


def _publication_row(change: ModelChanged | ModelRemoved) -> PublicationRow:
    published = change if isinstance(change, ModelChanged) else None
    return PublicationRow(
        tenant=storable_text(change.tenant),
        model=storable_text(change.model),
        version=change.version,
        text=None if published is None else storable_text(published.text),
        fire=published is not None and published.fire,
        by=storable_or_none(change.by),
        note=storable_or_none(change.note),
        change="retired" if published is None else storable_or_none(published.change),
        recorded_at=moment(change.recorded_at),
        folding=1 if published is None else published.folding,
    )


def _row_of_workflows(change: WorkflowsChanged) -> PublicationRow:
    return PublicationRow(
        tenant=storable_text(change.tenant),
        model=WORKFLOWS,
        version=change.version,
        text=storable_text(change.text),
        fire=False,
        by=storable_or_none(change.by),
        note=storable_or_none(change.note),
        change=storable_or_none(change.change),
        recorded_at=moment(change.recorded_at),
        folding=change.folding,
    )


# Statements


def _session_score(statement: SessionScored, lead_key: int, record: Record) -> list[TableChange]:
    return [
        SessionScoreRow(
            session_row_key(statement.identity, statement.session_id),
            lead_key,
            statement.model,
            statement.version,
            exact_decimal(statement.score),
            jsonb_text(statement.lines),
            statement.ended,
            statement.at,
            record.position,
        )
    ]


def _retracted_session_score(statement: SessionRetracted, lead_key: int, record: Record) -> list[TableChange]:
    key = session_row_key(statement.identity, statement.session_id), lead_key
    return [SupersededRows(session_scores, key, record.position)]


def _score_change(statement: ScoreChanged, lead_key: int, record: Record) -> list[TableChange]:
    return [
        ScoreChangeRow(
            lead_key,
            statement.model,
            statement.at,
            record.position,
            statement.version,
            exact_decimal(statement.total),
            exact_decimal(statement.previous),
            exact_decimal(statement.change),
            jsonb_text(statement.bands),
            jsonb_text(statement.lines),
            storable_text(statement.caused_by),
            statement.removed,
        )
    ]


def _band_change(statement: BandChanged, lead_key: int, record: Record) -> list[TableChange]:
    return [
        BandChangeRow(
            lead_key,
            statement.at,
            record.position,
            statement.model,
            statement.version,
            statement.scale,
            storable_or_none(statement.band),
            storable_or_none(statement.previous),
            jsonb_text(statement.crossed),
            statement.silent,
            storable_text(statement.caused_by),
        )
    ]


def _qualification_override(
    statement: QualificationOverridden, lead_key: int, record: Record
) -> list[TableChange]:
    return [
        QualificationOverrideRow(
            lead_key,
            statement.at,
            record.position,
            storable_text(statement.model),
            storable_text(statement.scale),
            storable_or_none(statement.band),
            storable_or_none(statement.previous),
            storable_or_none(statement.by),
            statement.until,
            statement.silent,
            storable_text(statement.caused_by),
        )
    ]


def _stage_entry(statement: StageEntered, lead_key: int, record: Record) -> list[TableChange]:
    return [
        StageEntryRow(
            lead_key,
            statement.at,
            record.position,
            storable_text(statement.stage),
            storable_text(statement.previous),
            storable_text(statement.reason),
            storable_text(statement.caused_by),
        )
    ]


def _applied_event(statement: EventApplied, lead_key: int, record: Record) -> list[TableChange]:
    return [
        AppliedEventRow(
            event_row_key(statement.tenant, statement.event_id),
            lead_key,
            statement.tenant,
            statement.event_id,
            storable_text(statement.lead_id),
            statement.at,
            statement.outcome,
            jsonb_text(statement.scores),
            record.position,
            record.partition,
            storable_text(statement.key),
        )
    ]


def _lead_and_scores(statement: LeadScored, lead_key: int, record: Record) -> list[TableChange]:
    scores = [
        LeadScoreRow(
            lead_key,
            model,
            score.version,
            exact_decimal(score.total),
            rounded_column_points(score.total),
            jsonb_text(score.bands),
            score.as_of,
            score.next_due,
            record.position,
            statement.tenant,
            statement.identified,
            statement.identities > 0,
            statement.created_at,
            statement.stage,
            keys_of_bands(score.bands),
        )
        for model, score in statement.scores.items()
    ]
    lead = lead_row_of_card(statement, lead_key, record.position)
    searched = storable_text(search_text_of(lead, statement))
    return [
        lead,
        LeadSearchRow(lead_key, statement.tenant, searched, record.position),
        *scores,
        SupersededRows(lead_scores, (lead_key,), record.position),
    ]


@lru_cache(maxsize=1_024)
def _keys_of_band(scale: str, band: str) -> str:
    scale, band = storable_text(scale), storable_text(band)
    return f" {band_key(scale)} {band_key(scale, band)}"


def keys_of_bands(bands: Mapping[str, str | None]) -> str:
    """The `band_keys` of a score: of each scale on which it has a band, and of the band."""
    return "".join(_keys_of_band(scale, band) for scale, band in sorted(bands.items()) if band is not None)


def number_of_execution(statement: WorkflowTriggered) -> int:
    if statement.execution_id is not None:
        return statement.execution_id
    return execution_number(statement.tenant, statement.lead_id, statement.workflow_id, statement.arm)


def _workflow_execution(statement: WorkflowTriggered, lead_key: int, record: Record) -> list[TableChange]:
    return [
        WorkflowExecutionRow(
            statement.tenant,
            number_of_execution(statement),
            lead_key,
            storable_text(statement.lead_id),
            statement.workflow_id,
            storable_text(statement.workflow),
            statement.version,
            storable_text(statement.trigger),
            storable_text(statement.reason),
            storable_text(statement.action),
            jsonb_text(statement.config),
            storable_text(statement.arm),
            statement.silent,
            storable_text(statement.silenced_by) or None,
            _within_int(statement.hops),
            _within_int(statement.priority),
            statement.at,
            storable_text(statement.caused_by),
            record.partition,
            record.position,
        )
    ]


CHANGES_OF_STATEMENT: Final[dict[type[Statement], Callable[[Any, int, Record], list[TableChange]]]] = {
    SessionScored: _session_score,
    SessionRetracted: _retracted_session_score,
    ScoreChanged: _score_change,
    BandChanged: _band_change,
    QualificationOverridden: _qualification_override,
    StageEntered: _stage_entry,
    EventApplied: _applied_event,
    LeadScored: _lead_and_scores,
    WorkflowTriggered: _workflow_execution,
}
"""The function that makes the changes of a statement from (statement, key of its lead, record)."""


def lead_row_of_card(statement: LeadScored, lead_key: int, position: int) -> LeadRow:
    fields = statement.fields
    name = _profile_field_text(fields, "name") or " ".join(
        filter(None, (_profile_field_text(fields, "first_name"), _profile_field_text(fields, "last_name")))
    )
    email, phone = _profile_field_text(fields, "email"), _profile_field_text(fields, "phone")
    lead_id = storable_text(statement.lead_id)
    return LeadRow(
        lead_key=lead_key,
        tenant=statement.tenant,
        lead_id=lead_id,
        identified=statement.identified,
        created_at=statement.created_at,
        last_interaction_at=statement.last_interaction_at,
        stage=statement.stage,
        redirect=storable_or_none(statement.redirect),
        identities=statement.identities,
        as_of=statement.at,
        name=name or None,
        email=email,
        phone=phone,
        company=_profile_field_text(fields, "company"),
        assigned_to=_profile_field_text(fields, "assigned_to"),
        counts=jsonb_text(statement.counts),
        fields=jsonb_text(fields),
        position=position,
        revenue=None if statement.revenue is None else jsonb_text(statement.revenue),
        qualification_override=_override_column(statement.qualification_override),
        speed_to_lead=_contact_column(statement.speed_to_lead),
        snoozed_until=_snoozed_until(fields),
        other_addresses=jsonb_text(statement.other_addresses) if statement.other_addresses else None,
    )


def _override_column(override: OverriddenBand | None) -> str | None:
    if override is None:
        return None
    shown = {"band": override.band, "since": override.since, "by": override.by, "until": override.until}
    return jsonb_text(shown)


def _contact_column(times: ContactTimes | None) -> str | None:
    return None if times is None else jsonb_text({name: getattr(times, name) for name in CONTACT_TIMES})


def _snoozed_until(fields: Mapping[str, Any]) -> datetime | None:
    until = fields.get(SNOOZED_UNTIL_FIELD)
    return moment_or_none(millis_in_text(until if isinstance(until, str) else None))


def _removed_lead(key: str, position: int) -> tuple[TableChange, ...]:
    lead_key = hashed_key(key)
    return tuple(SupersededRows(table, (lead_key,), position) for table in (leads, lead_scores, lead_search))


def _dead_letter_row(dead_letter: DeadLetter, position: int) -> DeadLetterRow:
    return DeadLetterRow(
        storable_text(dead_letter.topic),
        dead_letter.partition,
        dead_letter.position,
        storable_text(dead_letter.reason),
        storable_or_none(dead_letter.field),
        storable_or_none(dead_letter.key),
        dead_letter.original,
        position,
    )


def _within_int(number: int) -> int:
    """Limited to what an integer column can store."""
    return max(-LARGEST_INT, min(number, LARGEST_INT))


def rounded_column_points(total: float) -> int:
    """Rounded as boards and thresholds round, and limited to what the column can store."""
    return _within_int(rounded_points(int(exact_decimal(total) * ONE_POINT)))


def _profile_field_text(fields: dict[str, Any], name: str) -> str | None:
    """A profile field as text; None if it is missing or empty."""
    value = fields.get(name)
    return None if value is None or value == "" else storable_text(str(value))


def _row_of_experiment(change: ExperimentChanged) -> PublicationRow:
    return PublicationRow(
        tenant=storable_text(change.tenant),
        model=EXPERIMENT_PREFIX + storable_text(change.experiment),
        version=change.version,
        text=storable_text(change.text),
        fire=False,
        by=storable_or_none(change.by),
        note=storable_or_none(change.note),
        change=storable_or_none(change.change),
        recorded_at=moment(change.recorded_at),
        folding=1,
    )

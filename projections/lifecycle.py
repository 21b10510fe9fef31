"""A statement that reads a lead's history of stages. No I/O.

Each stage is a span of the lead's own clock, from the record that entered it (included) to the record that left it
(excluded). Touchpoints and ledger lines are dated by the same clock, so each is in exactly one stage.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Numeric,
    ScalarSelect,
    Select,
    Subquery,
    Text,
    and_,
    any_,
    cast,
    column,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from projections.row_keys import lead_row_key
from projections.tables import engagement_history, identities, score_history, stage_history
from projections.tables import leads as lead_rows
from schemas.envelope import tag_of
from schemas.events import EmailSent, SmsSent, StageChanged
from scoring.features.signals import EVENT_TYPE_BY_TAG, may_be_interaction

TOUCHPOINT_TYPES: Final = tuple(
    sorted(
        tag
        for tag, kind in EVENT_TYPE_BY_TAG.items()
        if may_be_interaction(kind) or kind in {EmailSent, SmsSent}
    )
)
"""Interactions of the person, and e-mails, text messages and calls to them."""

ENGAGEMENT_MODEL_AND_GROUP: Final = ("composite", "engagement")
"""The model and the group of its rules whose points are a stage's engagement score."""

_FIRST_STAGE_POSITION: Final = -1
"""The position of the entry into the first stage, which has no record."""


class PastStages(NamedTuple):
    """What a lead had done with its stages by a moment."""

    entries: Sequence[Mapping[str, Any]]
    """Rows as of `stage_history` that had been entered, in order."""
    created_at: datetime
    stage: str
    """The one that it was in."""
    identity_keys: Sequence[int]
    until: datetime
    known_today: bool
    """Events count from when they happened, else from when they were recorded."""


def select_stage_spans(tenant: str, lead_id: str, then: PastStages | None = None) -> Select[Any]:
    """Every stage that the lead was in, in order; the last one has no end. No row: there is no such lead.

    `note` and `by` come from the person who moved the lead, as long as the lead has that event. `then`: as of a moment,
    else as of now.
    """
    key = lead_row_key(tenant, lead_id)
    span = _spans(key) if then is None else _past_spans(then)
    move = _manual_move_event(key, span, then)
    return (
        select(
            span.c.stage,
            span.c.previous.label("previous_stage"),
            span.c.at.label("entered_at"),
            span.c.until.label("exited_at"),
            span.c.reason,
            span.c.caused_by,
            move.c.note,
            move.c.by,
            _touchpoints(key, span, then).label("touches"),
            _engagement_points(key, span, then).label("engagement"),
        )
        .select_from(span.outerjoin(move, true()))
        .order_by(span.c.at, span.c.position)
    )


def _spans(key: int) -> Subquery:
    entries = stage_history.c
    mine = entries.lead_key == key
    first = (
        select(entries.previous).where(mine).order_by(entries.at, entries.position).limit(1).scalar_subquery()
    )
    first_at = select(func.min(entries.at)).where(mine).scalar_subquery()
    began = select(
        func.least(lead_rows.c.created_at, first_at).label("at"),
        literal(_FIRST_STAGE_POSITION).label("position"),
        func.coalesce(first, lead_rows.c.stage).label("stage"),
        cast(null(), Text).label("previous"),
        literal("", Text).label("reason"),
        literal("", Text).label("caused_by"),
    ).where(lead_rows.c.lead_key == key)
    entered = select(
        entries.at, entries.position, entries.stage, entries.previous, entries.reason, entries.caused_by
    ).where(mine)
    return _with_ends(union_all(began, entered).subquery("every"))


def _past_spans(then: PastStages) -> Subquery:
    entries = then.entries
    began = {
        "at": min([then.created_at, *(each["at"] for each in entries)]),
        "position": _FIRST_STAGE_POSITION,
        "stage": entries[0]["previous"] if entries else then.stage,
        "previous": None,
        "reason": "",
        "caused_by": "",
    }
    rows = [began, *entries]
    arrays = [literal([row[name] for row in rows], ARRAY(kind)) for name, kind in _ENTRY_COLUMNS.items()]
    every = func.unnest(*arrays).table_valued(*(column(name, kind) for name, kind in _ENTRY_COLUMNS.items()))
    return _with_ends(every.render_derived(name="every"))


_ENTRY_COLUMNS: Final[Mapping[str, Any]] = {
    "at": DateTime(timezone=True),
    "position": BigInteger(),
    "stage": Text(),
    "previous": Text(),
    "reason": Text(),
    "caused_by": Text(),
}


def _with_ends(every: Any) -> Subquery:
    order = every.c.at, every.c.position
    return select(every, func.lead(every.c.at).over(order_by=order).label("until")).subquery("span")


def _events_of(key: int, then: PastStages | None) -> tuple[Any, ColumnElement[bool]]:
    """(table, condition): the events of the lead."""
    events = engagement_history
    if then is None:
        joined = events.join(identities, identities.c.identity_key == events.c.identity_key)
        return joined, identities.c.lead_key == key
    owned = events.c.identity_key == any_(literal(list(then.identity_keys), ARRAY(BigInteger())))
    return events, and_(owned, _clock(then) <= then.until)


def _clock(then: PastStages | None) -> ColumnElement[Any]:
    by_occurrence = then is not None and then.known_today
    return engagement_history.c.occurred_at if by_occurrence else engagement_history.c.recorded_at


def _within(span: Subquery, at: ColumnElement[Any]) -> ColumnElement[bool]:
    """The first stage begins before everything."""
    return and_(
        or_(span.c.position == _FIRST_STAGE_POSITION, at >= span.c.at),
        or_(span.c.until.is_(None), at < span.c.until),
    )


def _touchpoints(key: int, span: Subquery, then: PastStages | None) -> ScalarSelect[Any]:
    events, mine = _events_of(key, then)
    kinds = literal(list(TOUCHPOINT_TYPES), ARRAY(Text))
    return (
        select(func.count())
        .select_from(events)
        .where(mine, engagement_history.c.type == any_(kinds), _within(span, _clock(then)))
        .correlate(span)
        .scalar_subquery()
    )


def _engagement_points(key: int, span: Subquery, then: PastStages | None) -> ScalarSelect[Any]:
    """Points gained in the stage minus points lost. Changes by a publication of the model belong to no stage."""
    changes, (model, group) = score_history.c, ENGAGEMENT_MODEL_AND_GROUP
    line = func.jsonb_array_elements(changes.lines, type_=JSONB).column_valued("line")
    return (
        select(func.coalesce(func.sum(cast(line[3].astext, Numeric)), 0))
        .select_from(score_history)
        .where(
            changes.lead_key == key,
            changes.model == model,
            line[0].astext == group,
            ~changes.caused_by.startswith("model:"),
            _within(span, changes.at),
            true() if then is None else changes.at <= then.until,
        )
        .correlate(span)
        .scalar_subquery()
    )


def _manual_move_event(key: int, span: Subquery, then: PastStages | None) -> Any:
    """The event by which a person moved the lead into the stage: of those with the same id the last one before it."""
    events = engagement_history.c
    table, mine = _events_of(key, then)
    return (
        select(events.details["reason"].astext.label("note"), events.details["by"].astext.label("by"))
        .select_from(table)
        .where(
            mine,
            events.type == tag_of(StageChanged),
            literal("event:", Text) + events.event_id == span.c.caused_by,
            events.details["stage"].astext == span.c.stage,
        )
        .order_by((events.recorded_at <= span.c.at).desc(), events.recorded_at.desc())
        .limit(1)
        .lateral("move")
    )

"""What the read models know of a lead's way through the stages, as a statement; no I/O.

Each stage is a span of the lead's own clock, from the record that it was entered by (included) to the one
that it was left by (excluded). What is counted in it, touches and ledger lines, is dated by that clock, too,
so that every one of them is in exactly one stage.
"""

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Numeric,
    ScalarSelect,
    Select,
    Subquery,
    Text,
    and_,
    any_,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from projections.tables import engagement_history, identities, lead_row_key, score_history, stage_history
from projections.tables import leads as lead_rows
from schemas.envelope import tag_of
from schemas.events import EmailSent, SmsSent, StageChanged
from scoring.features.signals import EVENT_NAMES, may_be_interaction

TOUCHPOINT_TYPES: Final = tuple(
    sorted(
        tag for tag, kind in EVENT_NAMES.items() if may_be_interaction(kind) or kind in {EmailSent, SmsSent}
    )
)
"""What the person did, and the e-mails, text messages and calls to them."""

ENGAGEMENT: Final = ("composite", "engagement")
"""The model and its group whose points are a stage's engagement score."""

_BEGINNING: Final = -1
"""The position of the entry into the first stage, of which no record tells."""


def stage_spans(tenant: str, lead_id: str) -> Select[Any]:
    """Every stage that the lead was in, in order; the last one is left open. No row: there is no such lead.

    `note` and `by` are what the person said who moved the lead, while that event is one of the lead's.
    """
    key = lead_row_key(tenant, lead_id)
    span = _spans(key)
    moved = _move(key, span)
    return (
        select(
            span.c.stage,
            span.c.previous.label("previous_stage"),
            span.c.at.label("entered_at"),
            span.c.until.label("exited_at"),
            span.c.reason,
            span.c.caused_by,
            moved.c.note,
            moved.c.by,
            _touches(key, span).label("touches"),
            _engagement(key, span).label("engagement"),
        )
        .select_from(span.outerjoin(moved, true()))
        .order_by(span.c.at, span.c.position)
    )


def _spans(key: int) -> Subquery:
    told = stage_history.c
    mine = told.lead_key == key
    first = select(told.previous).where(mine).order_by(told.at, told.position).limit(1).scalar_subquery()
    first_at = select(func.min(told.at)).where(mine).scalar_subquery()
    began = select(
        func.least(lead_rows.c.created_at, first_at).label("at"),
        literal(_BEGINNING).label("position"),
        func.coalesce(first, lead_rows.c.stage).label("stage"),
        cast(null(), Text).label("previous"),
        literal("", Text).label("reason"),
        literal("", Text).label("caused_by"),
    ).where(lead_rows.c.lead_key == key)
    entered = select(told.at, told.position, told.stage, told.previous, told.reason, told.caused_by).where(
        mine
    )
    every = union_all(began, entered).subquery("every")
    order = every.c.at, every.c.position
    return select(every, func.lead(every.c.at).over(order_by=order).label("until")).subquery("span")


def _within(span: Subquery, at: ColumnElement[Any]) -> ColumnElement[bool]:
    """The first stage begins before everything."""
    return and_(
        or_(span.c.position == _BEGINNING, at >= span.c.at), or_(span.c.until.is_(None), at < span.c.until)
    )


def _touches(key: int, span: Subquery) -> ScalarSelect[Any]:
    told = engagement_history.c
    kinds = literal(list(TOUCHPOINT_TYPES), ARRAY(Text))
    return (
        select(func.count())
        .select_from(engagement_history.join(identities, identities.c.identity_key == told.identity_key))
        .where(identities.c.lead_key == key, told.type == any_(kinds), _within(span, told.recorded_at))
        .correlate(span)
        .scalar_subquery()
    )


def _engagement(key: int, span: Subquery) -> ScalarSelect[Any]:
    """Points gained in the stage, less those lost. What a publication of the model gave or took at once was
    gained in no stage.
    """
    told, (model, group) = score_history.c, ENGAGEMENT
    line = func.jsonb_array_elements(told.lines, type_=JSONB).column_valued("line")
    return (
        select(func.coalesce(func.sum(cast(line[3].astext, Numeric)), 0))
        .select_from(score_history)
        .where(
            told.lead_key == key,
            told.model == model,
            line[0].astext == group,
            ~told.caused_by.startswith("model:"),
            _within(span, told.at),
        )
        .correlate(span)
        .scalar_subquery()
    )


def _move(key: int, span: Subquery) -> Any:
    """The person's move that the stage was entered by."""
    told = engagement_history.c
    return (
        select(told.details["reason"].astext.label("note"), told.details["by"].astext.label("by"))
        .select_from(engagement_history.join(identities, identities.c.identity_key == told.identity_key))
        .where(
            identities.c.lead_key == key,
            told.type == tag_of(StageChanged),
            literal("event:", Text) + told.event_id == span.c.caused_by,
            told.details["stage"].astext == span.c.stage,
        )
        .limit(1)
        .lateral("moved")
    )

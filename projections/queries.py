"""Statements that read the read models; nothing here does I/O.

Every statement about leads reads one tenant. `sql_and_parameters` turns a statement into SQL for psycopg:

    sql, parameters = sql_and_parameters(lead("default", "L1"))
    async with pool.connection() as connection:
        rows = await (await connection.execute(sql, parameters)).fetchall()
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Numeric,
    Select,
    and_,
    cast,
    desc,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, distinct_on
from sqlalchemy.dialects.postgresql import insert as insert_into
from sqlalchemy.dialects.postgresql import psycopg as dialect
from sqlalchemy.sql.dml import Insert

from projections.public_tables import retried_dead_letters
from projections.row_keys import hashed_key, lead_row_key
from projections.tables import (
    band_changes,
    dead_letters,
    engagement_history,
    identities,
    lead_scores,
    qualification_overrides,
    score_history,
    session_scores,
    sessions,
    stage_history,
)
from projections.tables import leads as lead_rows
from schemas.topics import visitor_key
from scoring.features.identity import identity_id
from scoring.features.profile_fields import PROFILING_CONSENT_FIELD


def sql_and_parameters(statement: Select[Any] | Insert) -> tuple[str, Mapping[str, Any]]:
    """SQL text and parameters, for psycopg."""
    sql = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(sql), sql.params


# Leads


REFUSES_PROFILING: Final = func.coalesce(lead_rows.c.fields[PROFILING_CONSENT_FIELD].astext == "false", False)
"""The leads that object to profiling: nothing scores them."""


def refuses_profiling(lead: Mapping[str, Any]) -> bool:
    """The same of a lead's row."""
    return lead["fields"].get(PROFILING_CONSENT_FIELD) is False


def any_identified(tenant: str) -> Select[Any]:
    """One row, if the tenant has an identified lead."""
    conditions = lead_rows.c.tenant == tenant, lead_rows.c.identified, lead_rows.c.identities > 0
    return select(lead_rows.c.lead_key).where(*conditions).limit(1)


def lead(tenant: str, lead_id: str) -> Select[Any]:
    """One lead. It may be anonymous, or merged into another lead, which `redirect` names."""
    return select(lead_rows).where(lead_rows.c.lead_key == lead_row_key(tenant, lead_id))


def scores(tenant: str, lead_id: str) -> Select[Any]:
    """The lead's current score by each model."""
    return (
        select(lead_scores)
        .where(lead_scores.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(lead_scores.c.model)
    )


def identities_of(tenant: str, lead_id: str) -> Select[Any]:
    """The lead's identities, the newest first."""
    return (
        select(identities)
        .where(identities.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(identities.c.attached_at.desc(), identities.c.identity)
    )


def lead_of_visitor(tenant: str, visitor_id: str) -> Select[Any]:
    """The lead that has the visitor's first person now."""
    identity = identity_id(visitor_key(tenant, visitor_id), 0)
    return select(identities.c.lead_id).where(identities.c.identity_key == hashed_key(identity))


def engagements(tenant: str, lead_id: str, *, limit: int = 50, before: datetime | None = None) -> Select[Any]:
    """The events of the lead's identities, the latest first."""
    events = engagement_history
    latest = (
        select(events)
        .where(events.c.identity_key == identities.c.identity_key)
        .where(true() if before is None else events.c.occurred_at < before)
        .order_by(events.c.occurred_at.desc(), events.c.partition.desc(), events.c.position.desc())
        .limit(limit)
        .lateral("latest")
    )
    return (
        select(identities.c.identity, latest)
        .select_from(identities.join(latest, true()))
        .where(identities.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(latest.c.occurred_at.desc(), latest.c.partition.desc(), latest.c.position.desc())
        .limit(limit)
    )


def stages(tenant: str, lead_id: str) -> Select[Any]:
    """The stages that the lead entered, in order."""
    return (
        select(stage_history)
        .where(stage_history.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(stage_history.c.at, stage_history.c.position)
    )


def bands(tenant: str, lead_id: str) -> Select[Any]:
    """The bands that the lead left and entered, in order."""
    return (
        select(band_changes)
        .where(band_changes.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(band_changes.c.at, band_changes.c.position)
    )


def overrides(tenant: str, lead_id: str) -> Select[Any]:
    """The qualifications that somebody set by hand, and their ends, in order."""
    return (
        select(qualification_overrides)
        .where(qualification_overrides.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(qualification_overrides.c.at, qualification_overrides.c.position)
    )


# The ledger


class LedgerCursor(NamedTuple):
    """The end of a page of the ledger: `at` and `position` of its last entry."""

    at: datetime
    position: int


def ledger(
    tenant: str,
    lead_id: str,
    *,
    model: str | None = None,
    limit: int = 50,
    until: datetime | None = None,
    before: LedgerCursor | None = None,
) -> Select[Any]:
    """Every change of the lead's scores, by one model or all, the newest first."""
    changes = score_history.c
    entries = (
        select(score_history)
        .where(changes.lead_key == lead_row_key(tenant, lead_id))
        .order_by(changes.at.desc(), changes.position.desc())
        .limit(limit)
    )
    if model is not None:
        entries = entries.where(changes.model == model)
    if until is not None:
        entries = entries.where(changes.at <= until)
    if before is not None:
        cursor = literal(before.at), literal(before.position)
        entries = entries.where(tuple_(changes.at, changes.position) < tuple_(*cursor))
    return entries


def last_changes(tenant: str, lead_id: str, at: datetime) -> Select[Any]:
    """The entry of each model that made its total and bands at a past moment. A model without an entry had a total of 0;
    one whose score was taken back by then is not there.
    """
    changes = score_history.c
    latest = (
        select(score_history)
        .ext(distinct_on(changes.model))
        .where(changes.lead_key == lead_row_key(tenant, lead_id), changes.at <= at)
        .order_by(changes.model, changes.at.desc(), changes.position.desc())
        .subquery("latest")
    )
    return select(latest).where(~latest.c.removed).order_by(latest.c.model)


def breakdowns(tenant: str, lead_id: str, until: datetime | None = None) -> Select[Any]:
    """The lines of every score, now or at a past moment, added up from the ledger. They sum to its total."""
    changes = score_history.c
    line = func.jsonb_array_elements(changes.lines, type_=JSONB).column_valued("line")
    group, rule, kind = (line[n].astext for n in range(3))
    total = func.sum(cast(line[3].astext, Numeric))
    lines = (
        select(
            changes.model, group.label("group"), rule.label("rule"), kind.label("kind"), total.label("points")
        )
        .where(changes.lead_key == lead_row_key(tenant, lead_id))
        .group_by(changes.model, group, rule, kind)
        .having(total != 0)
        .order_by(changes.model, group, rule, kind)
    )
    return lines if until is None else lines.where(changes.at <= until)


# Sessions


def session(tenant: str, session_id: str, *, model: str) -> Select[Any]:
    """The session under the producer's id or the canonical one; the latest, if several share it."""
    named = or_(sessions.c.session_id == session_id, sessions.c.producer_id == session_id)
    return _sessions(tenant, model).where(named).limit(1)


def sessions_of(tenant: str, lead_id: str, *, model: str, limit: int = 50, offset: int = 0) -> Select[Any]:
    """The lead's web sessions, the latest first."""
    mine = identities.c.lead_key == lead_row_key(tenant, lead_id)
    return _sessions(tenant, model).where(mine).limit(limit).offset(offset)


def _sessions(tenant: str, model: str) -> Select[Any]:
    """Each session with its lead and its latest score; without it, if the lead objects to profiling."""
    latest_score = (
        select(session_scores)
        .where(
            session_scores.c.session_key == sessions.c.session_key,
            session_scores.c.model == model,
            ~_owner_refuses(identities.c.lead_key),
        )
        .order_by(
            session_scores.c.scored_at.desc(),
            desc(session_scores.c.lead_key == identities.c.lead_key),
            session_scores.c.lead_key,
        )
        .limit(1)
        .lateral("latest_score")
    )
    return (
        select(
            sessions,
            identities.c.identity,
            identities.c.lead_id,
            latest_score.c.score,
            latest_score.c.lines,
            latest_score.c.version,
            latest_score.c.ended,
            latest_score.c.scored_at,
        )
        .select_from(
            sessions.join(identities, identities.c.identity_key == sessions.c.identity_key).outerjoin(
                latest_score, true()
            )
        )
        .where(sessions.c.tenant == tenant, ~sessions.c.retracted)
        .order_by(sessions.c.opened_at.desc(), sessions.c.session_id.desc())
    )


def _owner_refuses(key: ColumnElement[Any]) -> ColumnElement[bool]:
    return select(lead_rows.c.lead_key).where(lead_rows.c.lead_key == key, REFUSES_PROFILING).exists()


# Operators


def select_dead_letters(
    *, limit: int = 100, after: tuple[str, int, int] | None = None, retried: bool | None = None
) -> Select[Any]:
    """Dead letters in the order of (topic, partition, position), each with the moment when it was last retried."""
    position = tuple_(dead_letters.c.topic, dead_letters.c.partition, dead_letters.c.position)
    statement = (
        select(dead_letters, retried_dead_letters.c.at.label("retried_at"))
        .select_from(dead_letters.outerjoin(retried_dead_letters, _same_dead_letter()))
        .order_by(dead_letters.c.topic, dead_letters.c.partition, dead_letters.c.position)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(position > tuple_(*map(literal, after)))
    if retried is not None:
        statement = statement.where(retried_dead_letters.c.at.is_not(None) == retried)
    return statement


def select_dead_letter(topic: str, partition: int, position: int) -> Select[Any]:
    return select_dead_letters(limit=1).where(
        dead_letters.c.topic == topic,
        dead_letters.c.partition == partition,
        dead_letters.c.position == position,
    )


def mark_retried(topic: str, partition: int, position: int, at: datetime) -> Insert:
    """Records that the dead letter was retried."""
    row = insert_into(retried_dead_letters).values(topic=topic, partition=partition, position=position, at=at)
    return row.on_conflict_do_update(
        index_elements=list(retried_dead_letters.primary_key), set_={"at": row.excluded.at}
    )


def _same_dead_letter() -> ColumnElement[bool]:
    return and_(
        *(dead_letters.c[name] == retried_dead_letters.c[name] for name in ("topic", "partition", "position"))
    )


_DIALECT: Final = dialect.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped

"""What readers ask of the read models, as statements; nothing here does I/O.

Every statement about leads is bound to one tenant. `compiled` turns one into what psycopg executes:

    sql, parameters = compiled(leads("default", model="temperature"))
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

from projections.tables import (
    applied_events,
    band_changes,
    dead_letters,
    engagement_history,
    event_row_key,
    identities,
    lead_row_key,
    lead_scores,
    retried_dead_letters,
    score_history,
    session_scores,
    sessions,
    stage_history,
)
from projections.tables import leads as lead_rows
from projections.views import lead_features
from schemas.topics import lead_key


def compiled(statement: Select[Any] | Insert) -> tuple[str, Mapping[str, Any]]:
    """SQL text and parameters, for psycopg."""
    made = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(made), made.params


# Leads


class Filters(NamedTuple):
    """Which leads: each one given narrows the list. `band` is (scale, band) of the model."""

    anonymous: bool = False
    """Also visitors that nobody has identified."""
    stage: str | None = None
    band: tuple[str, str] | None = None
    minimum: float | None = None
    """The least total of the model."""
    search: str | None = None
    """Part of a name, e-mail address, phone number or lead id."""


ALL_IDENTIFIED: Final = Filters()


def leads(
    tenant: str, *, model: str, filters: Filters = ALL_IDENTIFIED, limit: int = 50, offset: int = 0
) -> Select[Any]:
    """The board: the highest total of `model` first, then the newest lead; its scores beside each."""
    score = lead_scores
    return (
        select(
            lead_rows,
            score.c.total,
            score.c.rounded,
            score.c.bands,
            score.c.version,
            score.c.as_of.label("scored_at"),
            score.c.next_due,
        )
        .select_from(_with_score(model))
        .where(*_matching(tenant, filters))
        .order_by(score.c.total.desc().nulls_last(), lead_rows.c.created_at.desc(), lead_rows.c.lead_id)
        .limit(limit)
        .offset(offset)
    )


def lead_count(tenant: str, *, model: str, filters: Filters = ALL_IDENTIFIED) -> Select[Any]:
    """How many leads `leads` lists in all."""
    return (
        select(func.count().label("leads")).select_from(_with_score(model)).where(*_matching(tenant, filters))
    )


def _with_score(model: str) -> Any:
    mine = and_(lead_scores.c.lead_key == lead_rows.c.lead_key, lead_scores.c.model == model)
    return lead_rows.outerjoin(lead_scores, mine)


def _matching(tenant: str, filters: Filters) -> list[ColumnElement[bool]]:
    wanted = [lead_rows.c.tenant == tenant, lead_rows.c.identities > 0]
    if not filters.anonymous:
        wanted.append(lead_rows.c.identified)
    if filters.stage is not None:
        wanted.append(lead_rows.c.stage == filters.stage)
    if filters.band is not None:
        scale, band = filters.band
        wanted.append(lead_scores.c.bands[scale].astext == band)
    if filters.minimum is not None:
        wanted.append(lead_scores.c.total >= filters.minimum)
    if filters.search:
        wanted.append(lead_rows.c.search.contains(filters.search.casefold(), autoescape=True))
    return wanted


def lead(tenant: str, lead_id: str) -> Select[Any]:
    """One lead, also one that was merged away (`redirect` says into whom) or is anonymous."""
    return select(lead_rows).where(lead_rows.c.lead_key == lead_row_key(tenant, lead_id))


def scores(tenant: str, lead_id: str) -> Select[Any]:
    """The lead's current score by each model."""
    return (
        select(lead_scores)
        .where(lead_scores.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(lead_scores.c.model)
    )


def identities_of(tenant: str, lead_id: str) -> Select[Any]:
    """The keys behind which the lead is, the newest first."""
    return (
        select(identities)
        .where(identities.c.lead_key == lead_row_key(tenant, lead_id))
        .order_by(identities.c.attached_at.desc(), identities.c.identity)
    )


def engagements(tenant: str, lead_id: str, *, limit: int = 50, before: datetime | None = None) -> Select[Any]:
    """What the lead did, under any of its identities, the latest first."""
    told = engagement_history
    latest = (
        select(told)
        .where(told.c.identity_key == identities.c.identity_key)
        .where(true() if before is None else told.c.occurred_at < before)
        .order_by(told.c.occurred_at.desc(), told.c.partition.desc(), told.c.position.desc())
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


def feature_parts(tenant: str, lead_id: str) -> Select[Any]:
    """(identity, encoded) of each identity that the lead holds, from the folds' own state."""
    held = lead_features.c
    return (
        select(held.identity, held.encoded)
        .where(held.key == lead_key(tenant, lead_id))
        .order_by(held.identity)
    )


# The ledger


class LedgerCursor(NamedTuple):
    """Where a page of the ledger ended: its last entry's `at` and `position`."""

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
    told = score_history.c
    entries = (
        select(score_history)
        .where(told.lead_key == lead_row_key(tenant, lead_id))
        .order_by(told.at.desc(), told.position.desc())
        .limit(limit)
    )
    if model is not None:
        entries = entries.where(told.model == model)
    if until is not None:
        entries = entries.where(told.at <= until)
    if before is not None:
        place = literal(before.at), literal(before.position)
        entries = entries.where(tuple_(told.at, told.position) < tuple_(*place))
    return entries


def last_changes(tenant: str, lead_id: str, at: datetime) -> Select[Any]:
    """Of each model the entry that made its total and bands at a past moment; none: the total was 0."""
    told = score_history.c
    return (
        select(score_history)
        .ext(distinct_on(told.model))
        .where(told.lead_key == lead_row_key(tenant, lead_id), told.at <= at)
        .order_by(told.model, told.at.desc(), told.position.desc())
    )


def breakdowns(tenant: str, lead_id: str, until: datetime | None = None) -> Select[Any]:
    """The lines of every score, now or at a past moment, as sums of the ledger's: they sum to its total."""
    told = score_history.c
    line = func.jsonb_array_elements(told.lines, type_=JSONB).column_valued("line")
    group, rule, kind = (line[n].astext for n in range(3))
    total = func.sum(cast(line[3].astext, Numeric))
    lines = (
        select(
            told.model, group.label("group"), rule.label("rule"), kind.label("kind"), total.label("points")
        )
        .where(told.lead_key == lead_row_key(tenant, lead_id))
        .group_by(told.model, group, rule, kind)
        .having(total != 0)
        .order_by(told.model, group, rule, kind)
    )
    return lines if until is None else lines.where(told.at <= until)


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
    """Beside each session its lead, and what its score was last said to be."""
    said = (
        select(session_scores)
        .where(session_scores.c.session_key == sessions.c.session_key, session_scores.c.model == model)
        .order_by(
            session_scores.c.scored_at.desc(),
            desc(session_scores.c.lead_key == identities.c.lead_key),
            session_scores.c.lead_key,
        )
        .limit(1)
        .lateral("said")
    )
    return (
        select(
            sessions,
            identities.c.identity,
            identities.c.lead_id,
            said.c.score,
            said.c.lines,
            said.c.version,
            said.c.ended,
            said.c.scored_at,
        )
        .select_from(
            sessions.join(identities, identities.c.identity_key == sessions.c.identity_key).outerjoin(
                said, true()
            )
        )
        .where(sessions.c.tenant == tenant, ~sessions.c.retracted)
        .order_by(sessions.c.opened_at.desc(), sessions.c.session_id.desc())
    )


# Operators


def applied(tenant: str, event_id: str) -> Select[Any]:
    """What became of an event that a caller waits for; the latest, if several keys used its id."""
    return (
        select(applied_events)
        .where(applied_events.c.event_key == event_row_key(tenant, event_id))
        .order_by(applied_events.c.at.desc(), applied_events.c.lead_id)
        .limit(1)
    )


def select_dead_letters(
    *, limit: int = 100, after: tuple[str, int, int] | None = None, retried: bool | None = None
) -> Select[Any]:
    """Dead letters in the order of (topic, partition, position), with when each was sent in again."""
    place = tuple_(dead_letters.c.topic, dead_letters.c.partition, dead_letters.c.position)
    found = (
        select(dead_letters, retried_dead_letters.c.at.label("retried_at"))
        .select_from(dead_letters.outerjoin(retried_dead_letters, _same_letter()))
        .order_by(dead_letters.c.topic, dead_letters.c.partition, dead_letters.c.position)
        .limit(limit)
    )
    if after is not None:
        found = found.where(place > tuple_(*map(literal, after)))
    if retried is not None:
        found = found.where(retried_dead_letters.c.at.is_not(None) == retried)
    return found


def select_dead_letter(topic: str, partition: int, position: int) -> Select[Any]:
    return select_dead_letters(limit=1).where(
        dead_letters.c.topic == topic,
        dead_letters.c.partition == partition,
        dead_letters.c.position == position,
    )


def mark_retried(topic: str, partition: int, position: int, at: datetime) -> Insert:
    """Notes that the letter's record was sent in again."""
    row = insert_into(retried_dead_letters).values(topic=topic, partition=partition, position=position, at=at)
    return row.on_conflict_do_update(
        index_elements=list(retried_dead_letters.primary_key), set_={"at": row.excluded.at}
    )


def _same_letter() -> ColumnElement[bool]:
    return and_(
        *(dead_letters.c[name] == retried_dead_letters.c[name] for name in ("topic", "partition", "position"))
    )


def counts(tenant: str | None = None) -> Select[Any]:
    """Leads by (tenant, identified, stage); every tenant's, if none is named."""
    c = lead_rows.c
    found = (
        select(c.tenant, c.identified, c.stage, func.count().label("leads"))
        .where(c.identities > 0)
        .group_by(c.tenant, c.identified, c.stage)
        .order_by(c.tenant, c.identified, c.stage)
    )
    return found if tenant is None else found.where(c.tenant == tenant)


def band_counts(tenant: str, model: str, scale: str) -> Select[Any]:
    """Identified leads by band."""
    band = lead_scores.c.bands[scale].astext
    return (
        select(band.label("band"), func.count().label("leads"))
        .select_from(_with_score(model))
        .where(*_matching(tenant, ALL_IDENTIFIED))
        .group_by(band)
        .order_by(band)
    )


def letter_count() -> Select[Any]:
    return select(func.count().label("dead_letters")).select_from(dead_letters)


_DIALECT: Final = dialect.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped

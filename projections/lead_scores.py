"""Statements about the scores of one model: who has which, how each was made, and how they are distributed.

Nothing here does I/O. Every statement reads one tenant.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Numeric,
    Select,
    Text,
    and_,
    any_,
    cast,
    func,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from projections.queries import LedgerCursor
from projections.tables import lead_row_key, lead_scores, leads, recalculations, score_history
from projections.views import lead_features
from schemas.topics import lead_key

RECALCULATIONS_SHOWN = 30
RANGE = 20
"""Points in each range of the distribution; the last one includes its end."""


class ScoreFilters(NamedTuple):
    """Each filter that is set narrows the list. `band` is (scale, band) of the model."""

    lead_id: str | None = None
    band: tuple[str, str] | None = None
    minimum: int | None = None
    """The least rounded total."""
    anonymous: bool = False
    """Include visitors without a known identity."""


def current_scores(
    tenant: str, model: str, filters: ScoreFilters, *, limit: int, offset: int = 0
) -> Select[Any]:
    """Scores with the change that made each: the highest rounded total first, then the newest lead."""
    change = score_history.c
    latest = (
        select(change.at.label("changed_at"), change.position.label("changed_position"), change.previous)
        .where(change.lead_key == lead_scores.c.lead_key, change.model == lead_scores.c.model)
        .order_by(change.at.desc(), change.position.desc())
        .limit(1)
        .lateral("latest")
    )
    conditions = [leads.c.tenant == tenant, leads.c.identities > 0, lead_scores.c.model == model]
    if filters.lead_id is not None:
        conditions.append(leads.c.lead_key == lead_row_key(tenant, filters.lead_id))
    elif not filters.anonymous:
        conditions.append(leads.c.identified)
    if filters.band is not None:
        scale, band = filters.band
        conditions.append(lead_scores.c.bands[scale].astext == band)
    if filters.minimum is not None:
        conditions.append(lead_scores.c.rounded >= filters.minimum)
    scored = leads.join(lead_scores, lead_scores.c.lead_key == leads.c.lead_key)
    order = lead_scores.c.rounded.desc(), leads.c.created_at.desc(), leads.c.lead_id
    # The page is found first, so that the last change is looked up only for its rows.
    page = (
        select(leads.c.lead_key)
        .select_from(scored)
        .where(*conditions)
        .order_by(*order)
        .limit(limit)
        .offset(offset)
        .subquery("page")
    )
    return (
        select(
            leads.c.lead_key,
            leads.c.lead_id,
            leads.c.name,
            leads.c.company,
            leads.c.qualification_override,
            lead_scores.c.rounded,
            lead_scores.c.bands,
            lead_scores.c.as_of,
            latest.c.changed_at,
            latest.c.changed_position,
            latest.c.previous,
        )
        .select_from(scored.join(page, page.c.lead_key == leads.c.lead_key).outerjoin(latest, true()))
        .where(lead_scores.c.model == model)
        .order_by(*order)
    )


def points_by_group(lead_keys: Sequence[int], model: str, until: LedgerCursor | None = None) -> Select[Any]:
    """(lead_key, group, kind, points) of several leads by one model, summed from the ledger; `kind` matters where no
    group is named. `until` is the last entry that counts.
    """
    change = score_history.c
    line = func.jsonb_array_elements(change.lines, type_=JSONB).column_valued("line")
    group, kind = line[0].astext, line[2].astext
    points = func.sum(cast(line[3].astext, Numeric))
    sums = (
        select(change.lead_key, group.label("group"), kind.label("kind"), points.label("points"))
        .where(_among(change.lead_key, lead_keys), change.model == model)
        .group_by(change.lead_key, group, kind)
        .having(points != 0)
    )
    if until is not None:
        cursor = literal(until.at), literal(until.position)
        sums = sums.where(tuple_(change.at, change.position) <= tuple_(*cursor))
    return sums


def score_distribution(tenant: str, model: str, *, anonymous: bool = False) -> Select[Any]:
    """(number of the range, leads, sum of rounded totals). Totals out of 0 to 100 are in the outer ranges."""
    rounded = lead_scores.c.rounded
    conditions: list[ColumnElement[bool]] = [leads.c.tenant == tenant, leads.c.identities > 0]
    if not anonymous:
        conditions.append(leads.c.identified)
    mine = and_(lead_scores.c.lead_key == leads.c.lead_key, lead_scores.c.model == model)
    return (
        select(
            func.least(func.div(func.greatest(rounded, 0), RANGE), 4).label("number"),
            func.count().label("leads"),
            func.sum(rounded).label("points"),
        )
        .select_from(leads.join(lead_scores, mine))
        .where(*conditions)
        .group_by("number")
    )


def recalculations_of(tenant: str) -> Select[Any]:
    """The recalculations of all leads, the newest first."""
    return (
        select(recalculations)
        .where(recalculations.c.tenant == tenant)
        .order_by(recalculations.c.scheduled_for.desc())
        .limit(RECALCULATIONS_SHOWN)
    )


def leads_to_score(tenant: str, model: str, *, after: int, limit: int) -> Select[Any]:
    """The tenant's leads in the order of their keys, anonymous ones too, each with its stored score. All pages together
    read the table once.
    """
    return (
        _leads_with_score(tenant, model)
        .where(leads.c.identities > 0, leads.c.lead_key > after)
        .order_by(leads.c.lead_key)
        .limit(limit)
    )


def named_leads_to_score(tenant: str, model: str, lead_ids: Sequence[str]) -> Select[Any]:
    """These leads, merged ones too, each with its stored score."""
    keys = [lead_row_key(tenant, lead_id) for lead_id in lead_ids]
    return _leads_with_score(tenant, model).where(_among(leads.c.lead_key, keys))


def leads_counted(tenant: str) -> Select[Any]:
    return select(func.count().label("leads")).where(leads.c.tenant == tenant, leads.c.identities > 0)


def features_of(tenant: str, lead_ids: Sequence[str]) -> Select[Any]:
    """(lead_id, identity, encoded) of each identity of several leads, from the state of the folds."""
    keys = [lead_key(tenant, lead_id) for lead_id in lead_ids]
    features = lead_features.c
    return select(features.lead_id, features.identity, features.encoded).where(
        features.key == any_(literal(keys, ARRAY(Text())))
    )


def _leads_with_score(tenant: str, model: str) -> Select[Any]:
    mine = and_(lead_scores.c.lead_key == leads.c.lead_key, lead_scores.c.model == model)
    return (
        select(
            leads.c.lead_key,
            leads.c.lead_id,
            leads.c.stage,
            leads.c.redirect,
            leads.c.identities,
            lead_scores.c.rounded,
            lead_scores.c.bands,
        )
        .select_from(leads.outerjoin(lead_scores, mine))
        .where(leads.c.tenant == tenant)
    )


def _among(column: ColumnElement[Any], keys: Sequence[int]) -> ColumnElement[bool]:
    """As an array, so that the statement's text is the same for any number of keys."""
    return column == any_(literal(list(keys), ARRAY(BigInteger())))

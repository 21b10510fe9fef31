"""Statements about the scores of one model: who has which, how each was made, and how they are distributed.

Nothing here does I/O. Every statement reads one tenant.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

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
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from projections.public_tables import recalculations
from projections.queries import LedgerCursor
from projections.row_keys import lead_row_key
from projections.tables import lead_scores, leads, score_history
from projections.views import lead_features
from schemas.topics import lead_key

RECALCULATIONS_SHOWN = 30
RANGE = 20
"""Points in each range of the distribution; the last one includes its end."""


def points_by_group(
    lead_keys: Sequence[int], model: str, until: LedgerCursor | datetime | None = None
) -> Select[Any]:
    """(lead_key, group, kind, points) of several leads by one model, summed from the ledger; `kind` matters where no
    group is named. `until` is the last entry that counts, or the moment of the last.
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
    if isinstance(until, datetime):
        sums = sums.where(change.at <= until)
    elif until is not None:
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

"""Statements of the list of leads as of a moment that is over, made of histories: the highest rounded total first. No I/O.

Which lead had an identity then, and its total and stage of then, are recorded facts. One index of the ledger has a lead's
total of any moment; whatever else is asked is looked up only of leads that the page comes to.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Numeric,
    Select,
    Subquery,
    and_,
    any_,
    case,
    cast,
    column,
    func,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on

from projections.lead_lists import FIRST_PAGE, LeadFilters, LeadPosition, PageStart
from projections.lead_search import select_found
from projections.queries import REFUSES_PROFILING
from projections.tables import (
    identities,
    identity_history,
    lead_records,
    leads,
    qualification_overrides,
    score_history,
    stage_history,
)

MOST_RECORDS_OF_LISTED = 500
"""Of a lead that are folded for a list; of a lead with more, the list has the histories only."""


LOOKED_AT_FIRST = 2_000
COLLECTED_FROM = 5_000
"""Leads before a page from which it is quicker to collect all leads that were there than to look each up."""


def past_page(
    tenant: str,
    model: str,
    filters: LeadFilters,
    at: datetime,
    *,
    limit: int,
    start: PageStart = FIRST_PAGE,
    among_first: int | None = None,
) -> Select[Any]:
    """A page of the leads that were there: today's row of each, and `rounded`, the total of then; null: it was not scored. Of `filters`,
    owners, silence and snoozing are of now only, and not used here. A search looks in today's rows. `among_first`: only so many
    leads in that order are looked at, which need not be sorted among the others; the page may lack leads then.
    """
    change = score_history.c
    total = (
        select(change.total, change.removed)
        .where(change.lead_key == leads.c.lead_key, change.model == model, change.at <= at)
        .order_by(change.at.desc(), change.position.desc())
        .limit(1)
        .lateral("total")
    )
    # As `rounded_points`: half up, also below zero. Without an entry the total was 0.
    points = func.floor(func.coalesce(total.c.total, 0) + literal(Decimal("0.5"), Numeric()))
    rounded = case((total.c.removed, null()), else_=cast(points, Integer))
    conditions: list[ColumnElement[bool]] = [leads.c.tenant == tenant]
    if not filters.anonymous:
        conditions.append(leads.c.identified)
    if filters.search:
        conditions.append(leads.c.lead_key.in_(select_found(tenant, filters.search, filters.addresses)))
    if filters.band is not None:
        conditions.append(~REFUSES_PROFILING)
    ranked = (
        select(leads.c.lead_key, leads.c.created_at, rounded.label("rounded"))
        .select_from(leads.outerjoin(total, true()))
        .where(*conditions)
        .subquery("ranked")
    )
    # With an offset the order comes first, so what follows is looked up of few leads.
    in_order = (
        select(ranked)
        .where(_after(start.after, ranked.c) if start.after is not None else true())
        .order_by(*_order(ranked.c))
        .limit(among_first)
        .offset(0)
        .subquery("in_order")
    )
    page = (
        select(in_order)
        .where(
            _was_there(in_order.c.lead_key, at, start.offset),
            *_filtered(in_order.c.lead_key, model, filters, at),
        )
        .order_by(*_order(in_order.c))
        .limit(limit)
        .offset(start.offset)
        .subquery("page")
    )
    return (
        select(leads, page.c.rounded)
        .select_from(page.join(leads, leads.c.lead_key == page.c.lead_key))
        .order_by(*_order(page.c))
    )


def looked_at_first(limit: int, start: PageStart) -> int:
    """Leads among which nearly every page is found."""
    return LOOKED_AT_FIRST + 2 * (start.offset + limit)


def _order(columns: Any) -> Sequence[ColumnElement[Any]]:
    return columns.rounded.desc().nulls_last(), columns.created_at.desc(), columns.lead_key.desc()


def _after(last: LeadPosition, columns: Any) -> ColumnElement[bool]:
    """What comes behind a position in that order."""
    newer = tuple_(columns.created_at, columns.lead_key)
    older = newer < tuple_(literal(last.created_at), literal(last.lead_key, BigInteger()))
    if last.rounded is None:
        return and_(columns.rounded.is_(None), older)
    return or_(
        columns.rounded < last.rounded,
        columns.rounded.is_(None),
        and_(columns.rounded == last.rounded, older),
    )


def _was_there(lead_key: ColumnElement[Any], at: datetime, offset: int) -> ColumnElement[bool]:
    """The lead had an identity then. Of many leads, all that had one are collected first: `is true` keeps the planner from asking of
    each.
    """
    own, later = identity_history, identity_history.alias("later")
    reassigned = (
        select(later.c.epoch)
        .where(
            later.c.identity_key == own.c.identity_key,
            later.c.epoch > own.c.epoch,
            later.c.epoch > 1,
            later.c.attached_at <= at,
        )
        .exists()
    )
    if offset >= COLLECTED_FROM:
        return lead_key.in_(select(own.c.lead_key).where(own.c.attached_at <= at, ~reassigned)).is_(true())
    return (
        select(own.c.epoch).where(own.c.lead_key == lead_key, own.c.attached_at <= at, ~reassigned).exists()
    )


def _filtered(
    lead_key: ColumnElement[Any], model: str, filters: LeadFilters, at: datetime
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.stage is not None:
        entered = stage_history.c
        stage = (
            select(entered.stage)
            .where(entered.lead_key == lead_key, entered.at <= at)
            .order_by(entered.at.desc(), entered.position.desc())
            .limit(1)
            .scalar_subquery()
        )
        conditions.append(func.coalesce(stage, "new") == filters.stage)
    if filters.band is not None:
        scale, band = filters.band
        change = score_history.c
        reached = (
            select(change.bands[scale].astext)
            .where(change.lead_key == lead_key, change.model == model, change.at <= at)
            .order_by(change.at.desc(), change.position.desc())
            .limit(1)
            .scalar_subquery()
        )
        conditions.append(reached == band)
    return conditions


# Of the leads of a page


def last_changes_of(lead_keys: Sequence[int], at: datetime) -> Select[Any]:
    """The entry of each lead and model that made its total and bands at that moment, or that removed the score."""
    change = score_history.c
    return (
        select(score_history)
        .ext(distinct_on(change.lead_key, change.model))
        .where(_among(change.lead_key, lead_keys), change.at <= at)
        .order_by(change.lead_key, change.model, change.at.desc(), change.position.desc())
    )


def stages_of(lead_keys: Sequence[int], at: datetime) -> Select[Any]:
    """The stages that these leads entered up to a moment, in order."""
    entered = stage_history.c
    return (
        select(stage_history)
        .where(_among(entered.lead_key, lead_keys), entered.at <= at)
        .order_by(entered.lead_key, entered.at, entered.position)
    )


def overrides_of(lead_keys: Sequence[int], at: datetime) -> Select[Any]:
    """The qualifications by hand of these leads up to a moment, in order."""
    entry = qualification_overrides.c
    return (
        select(qualification_overrides)
        .where(_among(entry.lead_key, lead_keys), entry.at <= at)
        .order_by(entry.lead_key, entry.at, entry.position)
    )


def owned_then(lead_keys: Sequence[int], at: datetime) -> Subquery:
    """(lead_key, identity_key): the identities that these leads had then."""
    had, every = identity_history.alias("had"), identity_history.alias("every")
    of_leads = select(had.c.identity_key).where(_among(had.c.lead_key, lead_keys), had.c.attached_at <= at)
    latest = (
        select(every.c.identity_key, every.c.lead_key)
        .ext(distinct_on(every.c.identity_key))
        .where(every.c.identity_key.in_(of_leads), every.c.attached_at <= at)
        .order_by(every.c.identity_key, every.c.epoch.desc())
        .subquery("latest_owner")
    )
    return select(latest).where(_among(latest.c.lead_key, lead_keys)).subquery("owned")


def identities_attached(lead_keys: Sequence[int], at: datetime) -> Select[Any]:
    """(lead_key, identity) that these leads had then and have today."""
    return select(identities.c.lead_key, identities.c.identity).where(
        _among(identities.c.lead_key, lead_keys), identities.c.attached_at <= at
    )


def records_of(lead_keys: Sequence[int], at: datetime) -> Select[Any]:
    """(lead_key, record) up to a moment, in recorded order; of each lead at most one more than are folded."""
    keys = func.unnest(literal(list(lead_keys), ARRAY(BigInteger())))
    requested = keys.table_valued(column("lead_key", BigInteger()), name="requested").render_derived()
    record = lead_records.c
    first = (
        select(record.record, record.position)
        .where(record.lead_key == requested.c.lead_key, record.at <= at)
        .order_by(record.position)
        .limit(MOST_RECORDS_OF_LISTED + 1)
        .lateral("first")
    )
    return (
        select(requested.c.lead_key, first.c.record)
        .select_from(requested.join(first, true()))
        .order_by(requested.c.lead_key, first.c.position)
    )


def _among(key: ColumnElement[Any], keys: Sequence[int]) -> ColumnElement[bool]:
    return key == any_(literal(list(keys), ARRAY(BigInteger())))

"""Statements of the lists of leads by their score: the highest rounded total first, then the newest lead. No I/O.

A page begins after a position (`after`), which costs the same at any depth, or after `offset` leads, which are only
counted in an index. A position names no lead that must still be there: while scores change, each lead that keeps its
place comes exactly once.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Subquery,
    Text,
    and_,
    any_,
    cast,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from projections.lead_search import select_found
from projections.queries import REFUSES_PROFILING
from projections.row_keys import band_key, lead_row_key
from projections.tables import lead_scores, leads, score_history


class LeadPosition(NamedTuple):
    """The place of a lead in a list. `rounded` is None if the lead has no score by the list's model: it comes last."""

    rounded: int | None
    created_at: datetime
    lead_key: int


class LeadFilters(NamedTuple):
    """Each filter that is set narrows the list of leads."""

    anonymous: bool = False
    """Include visitors without a known identity."""
    lead_id: str | None = None
    stage: str | None = None
    band: tuple[str, str] | None = None
    """(scale, band) of the model."""
    lowest_band: str | None = None
    """What a lead without a band of the scale counts as."""
    minimum: int | None = None
    """The least rounded total of the model; a lead without a score has 0."""
    search: str | None = None
    """Words, each a part of what the lead's row says: name, addresses, company, owner, stage, wishes, last event, id."""
    owners: Sequence[str] = ()
    """Assigned to one of these; a blank one stands for leads that are assigned to nobody."""
    silent_since: datetime | None = None
    """No interaction at this moment or later."""
    addresses: Sequence[str] = ()
    """E-mail addresses and phone numbers that are searched for beside `search`, whole and in their one form."""

    among: Sequence[int] | None = None
    """The keys of the leads that `search` finds, if they were few enough to look them up before."""
    snoozed: bool | None = None
    """Whether somebody put the lead off; None: either."""
    now: datetime | None = None
    """When the page is read; `snoozed` needs it."""

    @property
    def include_unscored(self) -> bool:
        """Whether a lead without a score may match."""
        in_band = self.band is None or self.band[1] == self.lowest_band
        return in_band and (self.minimum is None or self.minimum <= 0)


class PageStart(NamedTuple):
    """Where a page begins: after a position, and after so many more leads."""

    after: LeadPosition | None = None
    offset: int = 0


ALL_IDENTIFIED_LEADS: Final = LeadFilters()
FIRST_PAGE: Final = PageStart()


def scored_leads(
    tenant: str,
    model: str,
    filters: LeadFilters = ALL_IDENTIFIED_LEADS,
    *,
    limit: int,
    start: PageStart = FIRST_PAGE,
) -> Select[Any]:
    """A page of the leads that have a score by the model, whole, with that score.

    Filters collect the leads that match in one pass. `is true` around them keeps the planner from joining instead, which is
    slow where it misjudges how many match.
    """
    return _with_score(_scored_page(tenant, model, filters, limit=limit, start=start), model)


def unscored_leads(
    tenant: str, model: str, filters: LeadFilters, *, limit: int, start: PageStart
) -> Select[Any]:
    """A page of the leads that have none, as `scored_leads`: the end of the list."""
    lead = leads.c
    scored = (
        select(lead_scores.c.lead_key)
        .where(lead_scores.c.lead_key == lead.lead_key, lead_scores.c.model == model)
        .exists()
    )
    conditions = [
        *_of_tenant(tenant, anonymous=filters.anonymous),
        ~scored,
        *_key_conditions(lead.lead_key, tenant, filters),
        *_lead_conditions(filters),
        true() if filters.stage is None else lead.stage == filters.stage,
        # Nothing scores a lead that objects to profiling: it is in no band, not in the lowest.
        true() if filters.band is None and filters.minimum is None else ~REFUSES_PROFILING,
        true() if filters.lead_id is None else lead.lead_key == lead_row_key(tenant, filters.lead_id),
    ]
    if start.after is not None and start.after.rounded is None:
        position = literal(start.after.created_at), literal(start.after.lead_key, BigInteger())
        conditions.append(tuple_(lead.created_at, lead.lead_key) < tuple_(*position))
    page = (
        select(lead.lead_key, cast(null(), Integer).label("rounded"), lead.created_at)
        .where(*conditions)
        .order_by(lead.created_at.desc(), lead.lead_key.desc())
        .limit(limit)
        .offset(start.offset)
        .subquery("page")
    )
    return _with_score(page, model)


def scored_and_all(tenant: str, model: str, *, anonymous: bool) -> Select[Any]:
    """(scored, leads): how many leads have a score by the model, and how many there are. Both are counted in indexes."""
    scored = select(func.count()).select_from(lead_scores).where(*_of_model(tenant, model))
    if not anonymous:
        scored = scored.where(lead_scores.c.identified)
    every = select(func.count()).select_from(leads).where(*_of_tenant(tenant, anonymous=anonymous))
    return select(scored.scalar_subquery().label("scored"), every.scalar_subquery().label("leads"))


def count_scored(tenant: str, model: str, filters: LeadFilters) -> Select[Any]:
    """(leads): how many leads with a score by the model match."""
    scored = _scored(tenant, model, filters)
    if not filters.anonymous:
        scored = scored.where(lead_scores.c.identified)
    return select(func.count().label("leads")).select_from(scored.subquery("scored"))


def current_scores(
    tenant: str, model: str, filters: LeadFilters, *, limit: int, start: PageStart = FIRST_PAGE
) -> Select[Any]:
    """A page of scores by the model, each with the change that made it."""
    change = score_history.c
    latest = (
        select(change.at.label("changed_at"), change.position.label("changed_position"), change.previous)
        .where(change.lead_key == lead_scores.c.lead_key, change.model == lead_scores.c.model)
        .order_by(change.at.desc(), change.position.desc())
        .limit(1)
        .lateral("latest")
    )
    page = _scored_page(tenant, model, filters, limit=limit, start=start)
    score = and_(lead_scores.c.lead_key == page.c.lead_key, lead_scores.c.model == model)
    return (
        select(
            leads.c.lead_key,
            leads.c.lead_id,
            leads.c.name,
            leads.c.company,
            leads.c.created_at,
            leads.c.qualification_override,
            lead_scores.c.rounded,
            lead_scores.c.bands,
            lead_scores.c.as_of,
            latest.c.changed_at,
            latest.c.changed_position,
            latest.c.previous,
        )
        .select_from(
            page.join(leads, leads.c.lead_key == page.c.lead_key)
            .join(lead_scores, score)
            .outerjoin(latest, true())
        )
        .order_by(*_order(page.c))
    )


def position_of(row: Any) -> LeadPosition:
    """Of a row of these statements."""
    return LeadPosition(row["rounded"], row["created_at"], row["lead_key"])


def _with_score(page: Subquery, model: str) -> Select[Any]:
    score = lead_scores.c
    return (
        select(
            leads,
            score.total,
            score.rounded,
            score.bands,
            score.version,
            score.as_of.label("scored_at"),
            score.next_due,
        )
        .select_from(
            page.join(leads, leads.c.lead_key == page.c.lead_key).outerjoin(
                lead_scores, and_(score.lead_key == page.c.lead_key, score.model == model)
            )
        )
        .order_by(*_order(page.c))
    )


def _scored_page(tenant: str, model: str, filters: LeadFilters, *, limit: int, start: PageStart) -> Subquery:
    """(lead_key, rounded, created_at) of the page. Without a search it reads only the index.

    The index has identified leads and anonymous ones apart, so that few of the ones are quickly found among many of the
    others. A list of both merges the beginnings of two lists.
    """
    scored = _scored(tenant, model, filters, start.after)
    score = lead_scores.c
    if not filters.anonymous:
        page = scored.where(score.identified).order_by(*_order(score))
        return page.limit(limit).offset(start.offset).subquery("page")
    apart = (scored.where(score.identified), scored.where(~score.identified))
    both = union_all(*(part.order_by(*_order(score)).limit(start.offset + limit) for part in apart)).subquery(
        "both"
    )
    return select(both).order_by(*_order(both.c)).limit(limit).offset(start.offset).subquery("page")


def _scored(tenant: str, model: str, filters: LeadFilters, after: LeadPosition | None = None) -> Select[Any]:
    """(lead_key, rounded, created_at) of every lead that matches, whether identified or not."""
    score = lead_scores.c
    conditions = [
        *_of_model(tenant, model),
        *_score_conditions(tenant, filters),
        *_key_conditions(score.lead_key, tenant, filters),
    ]
    if after is not None:
        if after.rounded is None:
            conditions.append(false())
        else:
            columns = tuple_(score.rounded, score.created_at, score.lead_key)
            last = literal(after.rounded), literal(after.created_at), literal(after.lead_key, BigInteger())
            conditions.append(columns < tuple_(*last))
    if of_lead := _lead_conditions(filters):
        # Collected in one pass: a join looks up lead by lead until the page is full, which takes long where few match.
        matching = select(leads.c.lead_key).where(leads.c.tenant == tenant, *of_lead)
        conditions.append(score.lead_key.in_(matching).is_(True))
    return select(score.lead_key, score.rounded, score.created_at).where(*conditions)


def _order(columns: Any) -> Iterable[ColumnElement[Any]]:
    return columns.rounded.desc(), columns.created_at.desc(), columns.lead_key.desc()


def _of_model(tenant: str, model: str) -> list[ColumnElement[bool]]:
    return [lead_scores.c.tenant == tenant, lead_scores.c.model == model, lead_scores.c.listed]


def _of_tenant(tenant: str, *, anonymous: bool) -> list[ColumnElement[bool]]:
    conditions = [leads.c.tenant == tenant, leads.c.identities > 0]
    return conditions if anonymous else [*conditions, leads.c.identified]


def _score_conditions(tenant: str, filters: LeadFilters) -> list[ColumnElement[bool]]:
    score, conditions = lead_scores.c, []
    if filters.lead_id is not None:
        conditions.append(score.lead_key == lead_row_key(tenant, filters.lead_id))
    if filters.stage is not None:
        conditions.append(score.stage == filters.stage)
    if filters.band is not None:
        scale, band = filters.band
        in_band = func.strpos(score.band_keys, band_key(scale, band)) > 0
        if band == filters.lowest_band:
            in_band = or_(in_band, func.strpos(score.band_keys, band_key(scale)) == 0)
        conditions.append(in_band)
    if filters.minimum is not None:
        conditions.append(score.rounded >= literal(filters.minimum, BigInteger()))
    return conditions


def _key_conditions(
    lead_key: ColumnElement[int], tenant: str, filters: LeadFilters
) -> list[ColumnElement[bool]]:
    """Those that look the lead up among others."""
    conditions: list[ColumnElement[bool]] = []
    if filters.among is not None:
        conditions.append(lead_key == any_(literal(list(filters.among), ARRAY(BigInteger()))))
    elif filters.search:
        matches = select_found(tenant, filters.search, filters.addresses)
        conditions.append(lead_key.in_(matches).is_(True))
    if filters.snoozed is not None and filters.now is not None:
        among = lead_key.in_(_snoozed(tenant, filters.now))
        conditions.append(among if filters.snoozed else among.is_not(True))
    return conditions


def _snoozed(tenant: str, now: datetime) -> Select[Any]:
    """The leads that are put off: an index has these few."""
    return select(leads.c.lead_key).where(leads.c.tenant == tenant, leads.c.snoozed_until > now)


def snoozed_leads(tenant: str, model: str, now: datetime) -> Select[Any]:
    """(identified, stage, band_keys, until) of each lead that is put off. A lead without a score has no `band_keys`."""
    own = and_(lead_scores.c.lead_key == leads.c.lead_key, lead_scores.c.model == model)
    return (
        select(
            leads.c.identified, leads.c.stage, lead_scores.c.band_keys, leads.c.snoozed_until.label("until")
        )
        .select_from(leads.outerjoin(lead_scores, own))
        .where(leads.c.tenant == tenant, leads.c.snoozed_until > now, leads.c.identities > 0)
    )


def first_waking(tenant: str, now: datetime) -> Select[Any]:
    """(until): when the first of the leads that are put off comes back."""
    until = func.min(leads.c.snoozed_until).label("until")
    return select(until).where(leads.c.tenant == tenant, leads.c.snoozed_until > now)


def _lead_conditions(filters: LeadFilters) -> list[ColumnElement[bool]]:
    """Those that read the lead's own row."""
    conditions: list[ColumnElement[bool]] = []
    if filters.owners:
        conditions.append(
            func.coalesce(leads.c.assigned_to, "") == any_(literal(list(filters.owners), ARRAY(Text())))
        )
    if filters.silent_since is not None:
        conditions.append(
            func.coalesce(leads.c.last_interaction_at, leads.c.created_at) < filters.silent_since
        )
    return conditions

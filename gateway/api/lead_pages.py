"""Pages of the lists of leads by score, and the cursors that name where the next page begins.

A cursor has what the list is sorted by, and nothing of the filters: a caller repeats these. It costs the same at any depth.
While scores change, a lead that keeps its score comes exactly once.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from fastapi import Query

from gateway.answers import RequestProblem
from gateway.store import Row, StoreSnapshot
from projections.lead_lists import (
    LeadFilters,
    LeadPosition,
    PageStart,
    count_scored,
    position_of,
    scored_and_all,
    scored_leads,
    unscored_leads,
)
from projections.lead_search import select_found
from schemas.moment import millis, moment

PAGE = 50
LARGEST_PAGE = 500
DEEPEST = 100_000
LONGEST_CURSOR = 60
MOST_FOUND = 1_000
"""Leads that a search finds and that are looked up one by one; more fill a page soon."""
UNSCORED = "none"
"""The cursor's score of a lead that has none."""

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE)]
Offset = Annotated[
    int, Query(ge=0, le=DEEPEST, description="How many leads come before the page. `after` goes deeper.")
]
After = Annotated[
    str | None,
    Query(
        max_length=LONGEST_CURSOR,
        pattern=rf"^(-?\d{{1,10}}|{UNSCORED})_-?\d{{1,15}}_-?\d{{1,19}}$",
        description="The cursor of the next page, from the page before; the filters stay the same.",
    ),
]


class LeadPage(NamedTuple):
    rows: Sequence[Row]
    following: str | None
    """The cursor of the next page; None: this is the last one."""


def page_start(after: str | None, offset: int) -> PageStart:
    """Raises RequestProblem."""
    if after is None:
        return PageStart(offset=offset)
    if offset:
        raise RequestProblem(422, "a page begins at a cursor or at an offset, not at both", field="offset")
    rounded, created_at, lead_key = after.split("_")
    position = LeadPosition(
        None if rounded == UNSCORED else int(rounded), moment(int(created_at)), int(lead_key)
    )
    if abs(position.rounded or 0) >= 2**31 or not -(2**63) <= position.lead_key < 2**63:
        raise RequestProblem(422, "must be the cursor that the page before gave", field="after")
    return PageStart(position)


def next_offset(offset: int, limit: int) -> int | None:
    """Of a page that is not the last one. None: only a cursor goes so deep."""
    return offset + limit if offset + limit <= DEEPEST else None


def page_of(rows: Sequence[Row], limit: int) -> LeadPage:
    """Of one row more than the page has, if there are more."""
    return LeadPage(rows[:limit], _cursor(position_of(rows[limit - 1])) if len(rows) > limit else None)


def _cursor(position: LeadPosition) -> str:
    score = UNSCORED if position.rounded is None else position.rounded
    return f"{score}_{millis(position.created_at)}_{position.lead_key}"


async def leads_page(
    ask: StoreSnapshot, tenant: str, model: str, filters: LeadFilters, start: PageStart, limit: int
) -> LeadPage:
    """Leads with their scores by the model. Those that it has not scored come last."""
    if filters.search:
        few = await ask(select_found(tenant, filters.search, filters.addresses, limit=MOST_FOUND + 1))
        if len(few) <= MOST_FOUND:
            filters = filters._replace(among=[row["lead_key"] for row in few])
    rows: list[Row] = []
    if start.after is None or start.after.rounded is not None:
        rows += await ask(scored_leads(tenant, model, filters, limit=limit + 1, start=start))
    may_go_on = len(rows) <= limit and filters.include_unscored
    if may_go_on and (filters.among is not None or await _some_are_unscored(ask, tenant, model, filters)):
        skipped = 0
        if start.offset and not rows:
            skipped = (await ask(count_scored(tenant, model, filters)))[0]["leads"]
        begin = PageStart(start.after, max(start.offset - skipped, 0) if not rows else 0)
        rows += await ask(unscored_leads(tenant, model, filters, limit=limit + 1 - len(rows), start=begin))
    return page_of(rows, limit)


async def _some_are_unscored(ask: StoreSnapshot, tenant: str, model: str, filters: LeadFilters) -> bool:
    (counted,) = await ask(scored_and_all(tenant, model, anonymous=filters.anonymous))
    return bool(counted["scored"] < counted["leads"])

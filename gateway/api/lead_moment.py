"""The moment of which a request wants a lead, and the lead at that moment: what every address of one lead shares.

    request_of_lead = lead_request(now, as_of, knowledge)
    row = found_lead(await ask(queries.lead(tenant, lead_id)))
    then = await lead_at(ask, services, active, row, request_of_lead)

Without `as_of` an address reads its own rows of now, which costs less.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec
from fastapi import Query

from authoring.active_models import ActiveRules
from gateway.answers import RequestProblem
from gateway.api.found_leads import RowOfLead, row_of_now
from gateway.api.lead_as_of import Knowledge, LeadAsOf, lead_from_now_on, past_lead_as_of
from gateway.ports import PastLeads
from gateway.store import Row, StoreSnapshot
from projections import queries
from projections.past_facts import past_facts, select_past_facts
from projections.row_keys import hashed_key
from schemas.envelope import Moment
from scoring.analytics.facts import LeadFacts

NO_LEAD_THEN = "no lead had this id at that moment"

AsOf = Annotated[
    str | None,
    Query(
        description="A moment (RFC 3339). Lists have the past; one lead, the future, too.",
        json_schema_extra={"format": "date-time"},
    ),
]
PastMoment = Annotated[
    str | None,
    Query(
        description="A moment that is over (RFC 3339), beside a list of then.",
        json_schema_extra={"format": "date-time"},
    ),
]
AsKnown = Annotated[
    Knowledge,
    Query(
        alias="known",
        description="Of a moment that is over. then: as it was recorded by then. now: by what is known today.",
    ),
]


class LeadRequest(NamedTuple):
    """Of which moment a lead is requested."""

    now: datetime
    as_of: datetime | None = None
    """None: now."""
    knowledge: Knowledge = "then"

    @property
    def at(self) -> datetime:
        return self.now if self.as_of is None else self.as_of

    @property
    def is_past(self) -> bool:
        return self.as_of is not None and self.as_of <= self.now

    @property
    def until(self) -> datetime | None:
        """The end of the histories; None: all of them."""
        return self.at if self.is_past else None

    @property
    def known_today(self) -> bool:
        return self.knowledge == "now"


def lead_request(now: datetime, as_of: str | None, knowledge: Knowledge) -> LeadRequest:
    """Raises RequestProblem."""
    return LeadRequest(now, None if as_of is None else moment_of(as_of, "as_of"), knowledge)


def moment_of(text: str, parameter: str) -> datetime:
    """Raises RequestProblem."""
    try:
        return msgspec.convert(text, Moment)
    except msgspec.ValidationError:
        raise RequestProblem(422, "a time like 2030-01-31T12:00:00Z is needed", field=parameter) from None


def past_moment(text: str, now: datetime) -> datetime:
    """Raises RequestProblem, too, if it is not over."""
    at = moment_of(text, "as_of")
    if at > now:
        raise RequestProblem(
            422,
            "a list is of now or of the past; the future is computed of one lead: /api/leads/ID?as_of=",
            field="as_of",
        )
    return at


async def lead_at(
    ask: StoreSnapshot,
    ports: PastLeads | None,
    active: ActiveRules,
    lead: Row,
    request: LeadRequest,
    scores: Sequence[Row] | None = None,
) -> LeadAsOf:
    """`lead` is its row of today; `scores` are those of now, if they have been read. Raises RequestProblem for the future without
    features.
    """
    if request.until is not None:
        return await past_lead_as_of(ask, ports, active, lead, request.until, request.knowledge)
    if scores is None:
        scores = await ask(queries.scores(lead["tenant"], lead["lead_id"]))
    return await lead_from_now_on(ask, active, lead, scores, request.now, request.at)


async def lead_there_at(
    ask: StoreSnapshot, ports: PastLeads | None, active: ActiveRules, lead: Row, request: LeadRequest
) -> LeadAsOf:
    """As `lead_at`. Raises RequestProblem with 404, as an unknown lead has it, if nothing was recorded of the lead by then."""
    then = await lead_at(ask, ports, active, lead, request)
    if then.history == "not_yet_recorded":
        raise RequestProblem(404, NO_LEAD_THEN, field="lead_id")
    return then


def row_of_leads_at(
    ask: StoreSnapshot, ports: PastLeads | None, active: ActiveRules, tenant: str, request: LeadRequest
) -> RowOfLead:
    """The rows of other leads at the moment of a lead."""
    if request.as_of is None:
        return row_of_now(ask, tenant)

    async def row_of(lead_id: str) -> Row | None:
        rows = await ask(queries.lead(tenant, lead_id))
        return (await lead_at(ask, ports, active, rows[0], request)).row if rows else None

    return row_of


def identity_keys_of(lead: LeadAsOf) -> list[int]:
    return [hashed_key(each["identity"]) for each in lead.identities]


async def facts_then(ask: StoreSnapshot, lead: LeadAsOf, request: LeadRequest) -> LeadFacts:
    """What the analytics know of the lead at its moment."""
    row = lead.row
    if not lead.identities:  # merged into another lead, which has its facts
        return LeadFacts(row["tenant"], row["lead_id"], row["identified"], 0, row["stage"])
    statements = select_past_facts(
        row["tenant"], row["lead_id"], identity_keys_of(lead), lead.at, known_today=request.known_today
    )
    rows = await ask.all(*statements)
    return await asyncio.to_thread(past_facts, row, lead.stages, *rows)

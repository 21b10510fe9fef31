"""Calculates the scores of one lead, of several, or of all, by one model. What differs from what is stored goes through
the log.

A call for several waits ANSWER_SECONDS and then answers how far it is; the calculation goes on.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from msgspec import DecodeError, Meta, Struct, ValidationError
from starlette.responses import Response

from authoring.active_models import ActiveRules
from gateway.answers import JsonAnswer, RequestProblem
from gateway.api.found_leads import lead_id_as_sent, merged_reason, was_merged
from gateway.api.published_rules import rules_of_publications
from gateway.api.recalculations import Recalculation
from gateway.api.reevaluation import advance_lead, advance_leads
from gateway.api.services import ApiServices
from gateway.store import Row
from projections.lead_scores import features_of, leads_counted, leads_to_score, named_leads_to_score
from projections.past_leads import select_publications_until
from schemas.envelope import Identifier
from schemas.moment import millis
from scoring.features.features import NewerCodec, refuses_profiling
from scoring.features.lead_identity import decode_lead_identity, features_of_lead
from scoring.models.model import Model, Subject, rounded_points, score_lead

MOST_LEADS = 10_000
"""Leads that one call may name."""
CHUNK = 200
"""Leads that are calculated together: their features are in memory at the same time."""
CHUNK_SECONDS = 30.0
UPDATE_SECONDS = 5.0
"""So long a call waits for the score of its one lead."""
ANSWER_SECONDS = 5.0
"""So long a call waits for the leads that it asked for."""
LeadNumber = Identifier | Annotated[int, Meta(ge=0, le=2**63 - 1)]


class SeveralLeads(Struct):
    lead_ids: Annotated[list[LeadNumber], Meta(max_length=MOST_LEADS)] | None = None
    recalculate_all: bool = False


async def calculate_lead(
    services: ApiServices, tenant: str, active: ActiveRules, model: str, lead_id: str, now: datetime
) -> bool:
    """Whether the stored score of a lead is that of now, if necessary after waiting for it."""
    rows = await services.store.rows(named_leads_to_score(tenant, model, [lead_id]))
    differing = await differing_leads(services, tenant, active, model, rows, now)
    return not differing or await advance_lead(services, tenant, lead_id, UPDATE_SECONDS)


async def start_recalculation(
    services: ApiServices, tenant: str, model: str, leads: SeveralLeads
) -> Recalculation:
    """Starts it and waits a while for its end. Raises RequestProblem."""
    if (leads.lead_ids is None) is not leads.recalculate_all:
        raise RequestProblem(
            422, "name the leads in lead_ids, or set recalculate_all to true", field="lead_ids"
        )
    named = None if leads.lead_ids is None else list(dict.fromkeys(map(str, leads.lead_ids)))

    async def work(recalculation: Recalculation) -> None:
        if named is None:
            await _recalculate_all(services, recalculation)
        else:
            await _recalculate(services, recalculation, named)

    started = services.recalculations.start(
        Recalculation(tenant, model, all_leads=named is None, total=len(named or ())), work
    )
    if started.task is not None:
        await asyncio.wait([started.task], timeout=ANSWER_SECONDS)
    return started


def running_recalculation(services: ApiServices, tenant: str, recalculation_id: str) -> Recalculation:
    """One that this process has started. Raises RequestProblem."""
    recalculation = services.recalculations.find(tenant, recalculation_id)
    if recalculation is None:
        raise RequestProblem(
            404,
            "this process knows no such recalculation: start it again, it changes only what differs",
            field="recalculation_id",
        )
    return recalculation


def progress_answer(recalculation: Recalculation, location: str) -> Response:
    """200 when it has ended, else 202."""
    content = {
        "id": recalculation.id,
        "status": "failed" if recalculation.error else "done" if recalculation.ended else "running",
        "total": recalculation.total,
        "calculated": recalculation.calculated,
        "changed": recalculation.changed,
        "pending": recalculation.pending,
        "failed": recalculation.failed,
        "errors": [
            {"lead_id": lead_id_as_sent(lead_id), "reason": reason}
            for lead_id, reason in recalculation.problems
        ],
        "error": recalculation.error,
        "location": location,
    }
    return JsonAnswer(content, 200 if recalculation.ended else 202)


def active_model(active: ActiveRules, name: str) -> Model:
    """Raises RequestProblem if the tenant has retired it."""
    if name not in active.models:
        raise RequestProblem(
            409, f"the model {name} is retired: publish it again at /api/models/{name}/publish"
        )
    return active.models[name]


async def _recalculate_all(services: ApiServices, recalculation: Recalculation) -> None:
    tenant, after = recalculation.tenant, -(2**63)
    recalculation.total = (await services.store.rows(leads_counted(tenant)))[0]["leads"]
    while rows := await services.store.rows(
        leads_to_score(tenant, recalculation.model, after=after, limit=CHUNK)
    ):
        await _recalculate_chunk(services, recalculation, rows)
        after = rows[-1]["lead_key"]
    recalculation.total = recalculation.calculated + recalculation.failed


async def _recalculate(services: ApiServices, recalculation: Recalculation, named: Sequence[str]) -> None:
    for begin in range(0, len(named), CHUNK):
        chunk = named[begin : begin + CHUNK]
        rows = await services.store.rows(
            named_leads_to_score(recalculation.tenant, recalculation.model, chunk)
        )
        existing = {row["lead_id"]: row for row in rows}
        for lead_id in chunk:
            if lead_id not in existing:
                recalculation.fail(lead_id, "no lead has this id")
            elif was_merged(existing[lead_id]):
                recalculation.fail(lead_id, merged_reason(existing[lead_id], "calculate that"))
        own = [row for row in rows if not was_merged(row)]
        await _recalculate_chunk(services, recalculation, own)


async def _recalculate_chunk(
    services: ApiServices, recalculation: Recalculation, rows: Sequence[Row]
) -> None:
    tenant, now = recalculation.tenant, services.ports.now()
    active = await services.ports.published(tenant)
    differing = await differing_leads(services, tenant, active, recalculation.model, rows, now)
    if differing:
        stored = await advance_leads(services, tenant, differing, CHUNK_SECONDS)
        recalculation.pending += len(differing) - stored
    recalculation.changed += len(differing)
    recalculation.calculated += len(rows)


async def differing_leads(
    services: ApiServices,
    tenant: str,
    active: ActiveRules,
    model: str,
    rows: Sequence[Row],
    now: datetime,
) -> list[str]:
    """The leads whose rounded total or bands by the model are others now than those stored. `active` may be older than the
    newest publications; they are read with the features.
    """
    published = await services.store.rows(select_publications_until(tenant, now))
    active, _ = rules_of_publications(active, published)
    parts = await services.store.rows(features_of(tenant, [row["lead_id"] for row in rows]))
    return await asyncio.to_thread(_compare, active, active_model(active, model), rows, parts, millis(now))


def _compare(
    active: ActiveRules, model: Model, rows: Sequence[Row], parts: Sequence[Row], now: int
) -> list[str]:
    """A lead whose features cannot be read here differs: the fold decides about it."""
    encoded: dict[str, dict[str, bytes]] = {}
    for part in parts:
        encoded.setdefault(part["lead_id"], {})[part["identity"]] = bytes(part["encoded"])
    differing = list[str]()
    for row in rows:
        lead_id = row["lead_id"]
        try:
            identities = {
                name: decode_lead_identity(value) for name, value in encoded.get(lead_id, {}).items()
            }
        except (NewerCodec, DecodeError, ValidationError):
            identities = {}
        if refuses_profiling(each.features for each in identities.values()):
            continue
        if identities:
            subject = Subject(features_of_lead(lead_id, identities), row["stage"])
            concluded = score_lead(model, subject, now, active.zone, active.idle_ms)
            if rounded_points(concluded.total) == row["rounded"] and concluded.bands == row["bands"]:
                continue
        differing.append(lead_id)
    return differing

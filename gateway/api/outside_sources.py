"""/api/crm and /api/enrichment: how far what comes from outside was read, why reading fails, and what is left of budgets. Reads only."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from delivery.crm.crm_state import crm_status
from delivery.enrichment.enrichment_state import persons_waiting, requests_made
from delivery.enrichment.sources import EnrichmentSource, HttpSource
from gateway.answers import JsonAnswer
from gateway.api.services import services_of, tenant_of
from gateway.documented import answer_docs, example_bodies
from gateway.row_changes import change_rows
from projections.connection import Connection

EXAMPLES = example_bodies("outside_sources")

router = APIRouter(tags=["outside_sources"])


@router.get(
    "/api/crm",
    summary="How far each CRM was read, and why reading fails",
    responses=answer_docs(EXAMPLES["crm"], "One entry for each CRM and kind of record that was read."),
)
@router.get("/api/crm/", include_in_schema=False)
async def crm_states(request: Request) -> Response:
    tenant = tenant_of(request)
    rows = await change_rows(
        services_of(request).ports.database_url, lambda connection: crm_status(connection, tenant)
    )
    return JsonAnswer({"crms": [{name: row[name] for name in row if name != "tenant"} for row in rows]})


@router.get(
    "/api/enrichment",
    summary="What each source of enrichment was asked, and what is left of its budget",
    responses=answer_docs(
        EXAMPLES["enrichment"], "The configured sources that may be asked for this tenant. Days are in UTC."
    ),
)
@router.get("/api/enrichment/", include_in_schema=False)
async def enrichment_states(request: Request) -> Response:
    ports, tenant = services_of(request).ports, tenant_of(request)
    sources = {
        name: each for name, each in ports.enrichment.items() if not each.tenants or tenant in each.tenants
    }
    content = await change_rows(
        ports.database_url,
        lambda connection: _enrichment_json(connection, tenant, sources, ports.now().date()),
    )
    return JsonAnswer(content)


def _enrichment_json(
    connection: Connection, tenant: str, sources: Mapping[str, EnrichmentSource], day: date
) -> dict[str, Any]:
    shown = [
        _source_json(name, each, *requests_made(connection, tenant, name, day))
        for name, each in sources.items()
    ]
    return {"sources": shown, "waiting": persons_waiting(connection, tenant)}


def _source_json(name: str, source: EnrichmentSource, today: int, this_month: int) -> dict[str, Any]:
    per_day, per_month = (
        (source.per_day, source.per_month) if isinstance(source, HttpSource) else (None, None)
    )
    return {
        "source": name,
        "requests_today": today,
        "requests_this_month": this_month,
        "left_today": None if per_day is None else max(per_day - today, 0),
        "left_this_month": None if per_month is None else max(per_month - this_month, 0),
    }

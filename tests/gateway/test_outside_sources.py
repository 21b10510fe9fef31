"""/api/crm and /api/enrichment tell a tenant how far its own CRMs were read and what is left of its budgets."""

from datetime import UTC, datetime

import httpx
import psycopg
import pytest

from delivery.enrichment.sources import HttpSource
from gateway.app import create_app
from gateway.ports import Ports

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]
NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)


async def test_a_tenant_is_told_where_reading_is_why_it_fails_and_what_is_left(read_models_url):
    async def append(_records):
        raise AssertionError

    source = {"key": "email", "url": "http://127.0.0.1:9/{key}", "fields": {}}
    sources = {
        "people": HttpSource(**source, per_day=10, per_month=15),
        "firms": HttpSource(**source),
        "of_others": HttpSource(**source, tenants=("other",)),
    }
    with psycopg.connect(read_models_url) as connection:
        for tenant in ("default", "other"):
            connection.execute(
                "insert into public.crm_cursors values (%s, 'hub', 'deal', %s, null, %s, 3, null, 'status 401: ' || %s)",
                (tenant, NOW, NOW, tenant),
            )
            connection.execute(
                "insert into public.enrichment_queue values (%s, %s, now(), now(), 0)", (len(tenant), tenant)
            )
        connection.execute(
            "insert into public.crm_inbox (tenant, crm, kind, record_id, received_at, next_at) "
            "values ('default', 'hub', 'deal', '7', now(), now())"
        )
        connection.execute(
            "insert into public.enrichment_usage values ('default', 'people', '2026-05-19', 9), ('default', 'people', '2026-05-20', 7), "
            "('other', 'people', '2026-05-20', 100), ('default', 'people', '2026-04-30', 50)"
        )
    app = create_app(Ports(append, read_models_url, enrichment=sources, now=lambda: NOW))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
            crms = (await http.get("/api/crm")).json()["crms"]
            enrichment = (await http.get("/api/enrichment")).json()
    (crm,) = crms
    assert (crm["crm"], crm["kind"], crm["failures"], crm["last_error"]) == (
        "hub",
        "deal",
        3,
        "status 401: default",
    )
    assert (crm["waiting"], crm["records"], crm["pulled_at"]) == (1, 0, None)
    assert enrichment == {
        "sources": [
            {
                "source": "people",
                "requests_today": 7,
                "requests_this_month": 16,
                "left_today": 3,
                "left_this_month": 0,
            },
            {
                "source": "firms",
                "requests_today": 0,
                "requests_this_month": 0,
                "left_today": None,
                "left_this_month": None,
            },
        ],
        "waiting": 1,
    }

"""People follow links, and their leads have the points of the documents: the whole system, without a browser."""

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.app import create_app
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_open
from tests.gateway.test_links import GMAIL_PROXY, MESSENGERS, OUTLOOK, PHONE, SAFE_LINKS

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

ONE = {"Authorization": "Bearer token-of-one"}
TARGET = "http://localhost/expo"


@asynccontextmanager
async def gateway(database_url):
    settings = Settings(
        database_url=database_url,
        partitions=4,
        api_tokens="1:read+write:token-of-one,2:read+write:token-of-two",
        link_keys="one-key-of-at-least-24-characters",
        public_url="http://localhost",
    )
    with open_system(settings) as system:
        async with ports_open(system, settings) as ports:
            app = create_app(ports)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
            ):
                yield http


def browser(http, agent=PHONE):
    """Another client of the same server, with a jar for cookies of its own."""
    return httpx.AsyncClient(
        transport=http._transport, base_url="http://localhost", headers={"User-Agent": agent}
    )


async def made(http, **definition):
    answer = await http.post("/api/links", json={"target": TARGET, **definition}, headers=ONE)
    assert answer.status_code == 200, answer.text
    return answer.json()["url"]


async def lead_with(http, **expected):
    """The only lead of tenant 1, once it is so."""
    leads = []
    for _ in range(200):
        leads = (await http.get("/api/tenants/1/leads", headers=ONE)).json()
        if leads and {name: leads[0][name] for name in expected} == expected:
            assert len(leads) == 1
            return leads[0]
        await asyncio.sleep(0.05)
    raise AssertionError(f"no lead with {expected}: {leads}")


async def test_the_expo_visitor_scans_and_opens_the_catalogue(database_url):
    """3 for the scan and 2 for the view, as the document counts, and 20 for having done so within the hour."""
    async with gateway(database_url) as http:
        phone = browser(http)
        scan = await made(http, kind="qr", qr_id="stand-7", place="Hall 3")
        view = await made(http, kind="catalog", catalog_id="riverside")
        assert (await phone.get(scan)).headers["Location"] == TARGET
        await lead_with(
            http, lead_score=23, temperature="cold", qr_scan_count=1, catalog_views=0, total_interactions=1
        )
        await phone.get(view)
        await phone.get(scan)  # the same browser, within ten seconds
        for agent in (*MESSENGERS, "curl/8.5.0"):
            await browser(http, agent).get(scan)
        await lead_with(
            http, lead_score=25, temperature="warm", qr_scan_count=1, catalog_views=1, total_interactions=2
        )
        other = await http.get("/api/tenants/2/leads", headers={"Authorization": "Bearer token-of-two"})
        assert other.json() == []


async def test_a_mail_that_is_opened_and_followed_scores_its_lead(database_url):
    """`composite` weighs behaviour by a quarter: an open is worth 2 x 0.25, a click 5 x 0.25."""
    mail = {"lead_id": "ada", "message_id": "<1@mail>", "html": f'<a href="{TARGET}">Demo</a>'}
    async with gateway(database_url) as http:
        measured = (await http.post("/api/links/email", json=mail, headers=ONE)).json()
        pixel, click = measured["pixel"], measured["links"][0]["url"]
        sent = {
            "type": "email_sent",
            "event_id": "s1",
            "lead_id": "ada",
            "message_id": "<1@mail>",
            "source": "email",
        }
        await http.post("/v1/events", json=sent, headers=ONE)
        for agent, url in (
            (GMAIL_PROXY, pixel),
            (SAFE_LINKS, pixel),
            (SAFE_LINKS, click),
            (OUTLOOK, pixel),
            (PHONE, click),
        ):
            await browser(http, agent).get(url)
        phone = browser(http)
        await phone.get(click)
        await phone.get(await made(http, kind="qr", qr_id="stand-7"))  # by the cookie of the click
        await lead_with(http, id="ada", qr_scan_count=1)
        lead = (await http.get("/api/leads/ada", headers=ONE)).json()
    assert {name: lead["counts"].get(name) for name in ("email_opened", "email_clicked", "qr_scanned")} == {
        "email_opened": 1, "email_clicked": 1, "qr_scanned": 1,
    }  # fmt: skip
    points = {}
    for change in lead["ledger"]:
        for line in change["lines"] if change["model"] == "composite" else ():
            points[line["rule"]] = points.get(line["rule"], 0) + line["points"]
    assert (points["Emails opened"], points["Emails clicked"]) == (0.5, 1.25)

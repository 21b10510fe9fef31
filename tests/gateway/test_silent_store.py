"""The gateway while PostgreSQL, or the path to it, is silent: it says so at once, and hears again by itself."""

import asyncio
import time

import httpx
import pytest

from gateway import listen, metrics, store, wait
from gateway.api import probes
from gateway.app import create_app
from gateway.ports import EventKey, EventOutcome, Ports
from gateway.wait import OutcomeWaiters
from projections.migrate import migrate
from projections.worker import NOTIFY_CHANNEL
from tests.gateway.test_wait import notify
from tests.projections.tcp_proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

BOUND = 2.0
"""What is promised of /ready."""
LOADED = 8 * BOUND
"""What a machine that does other work gets. What hangs here hangs for minutes."""


@pytest.fixture
def proxy(database_url):
    migrate(database_url)
    proxy = Proxy(database_url)
    yield proxy
    proxy.close()


async def append(_records):
    """Takes everything."""


async def asked(http, path):
    begun = time.monotonic()
    return await http.get(path), time.monotonic() - begun


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.01)


async def test_ready_answers_in_time_whatever_hangs_and_recovers(proxy, monkeypatch):
    monkeypatch.setattr(store.ReadConnection, "patience", 1.0)
    app = create_app(Ports(append=append, database_url=proxy.url))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
    ):
        assert (await http.get("/ready")).status_code == 200
        proxy.silent()
        many = await asyncio.gather(*(asked(http, path) for path in ("/ready", "/health", "/metrics") * 20))
        assert max(seconds for _, seconds in many) < store.ReadConnection.patience + LOADED, (
            "it waits for no proxy"
        )
        assert {answer.json()["reason"] for answer, _ in many[::3]} == {"the database does not answer"}
        assert {answer.status_code for answer, _ in many[::3]} == {503}
        assert (await http.get("/api/leads")).status_code == 503
        proxy.passing()
        async with asyncio.timeout(60):
            while (await http.get("/ready")).status_code != 200:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)


async def test_ready_answers_in_time_while_the_status_hangs(database_url):
    async def status():
        await asyncio.sleep(600)

    app = create_app(Ports(append=append, database_url=database_url, status=status))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http,
    ):
        answer, seconds = await asked(http, "/ready")
        assert seconds < LOADED
        assert (answer.status_code, answer.json()["backlog"]) == (503, None)
        assert "cannot be found out in time" in answer.json()["reason"]


def test_what_is_waited_for_leaves_room_within_the_bound():
    assert max(probes.STATUS_SECONDS, store.ANSWER_SECONDS) < BOUND


async def test_a_listener_whose_path_died_listens_anew(proxy, monkeypatch):
    """No notification comes over a dead path, and no error either: the listener asks now and then."""
    monkeypatch.setattr(listen, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(listen.BoundedAsyncConnection, "patience", 0.5)
    one = EventKey("default", "default/v/a", "e1")
    seen: dict[EventKey, EventOutcome] = {}
    looks = 0

    async def look(_events):
        nonlocal looks
        looks += 1
        return dict(seen)

    applied = OutcomeWaiters(look)
    listening = asyncio.create_task(listen.listen(proxy.url, {NOTIFY_CHANNEL: applied}))
    try:
        await until(metrics.LISTENING._value.get)
        proxy.silent()
        proxy.passing()
        monkeypatch.setattr(wait, "POLL_SECONDS", 300.0)
        waiting = asyncio.create_task(applied.wait([one], 200))
        await until(lambda: looks)
        seen[one] = EventOutcome("applied", "ahmad", {})
        async with asyncio.timeout(120):
            while not waiting.done():
                await notify(proxy.url, '{"applied": ["e1"]}')
                await asyncio.sleep(0.2)
        assert await waiting == seen
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

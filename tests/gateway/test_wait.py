"""Read-your-writes: notifications of a real PostgreSQL, and what covers for a lost one."""

import asyncio
import time
from contextlib import asynccontextmanager

import psycopg
import pytest

from gateway import wait
from gateway.answers import RequestProblem
from gateway.listen import listen
from gateway.ports import EventKey, EventOutcome
from gateway.wait import OutcomeWaiters
from projections.worker import NOTIFY_CHANNEL

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

ONE, TWO = EventKey("default", "default/v/a", "e1"), EventKey("default", "default/v/a", "e2")
PATIENCE = 60.0
DONE = EventOutcome("applied", "ahmad", {"temperature": 23.0})


class Table:
    """What has been applied, and how often somebody looked."""

    def __init__(self):
        self.rows = {}
        self.looks = 0
        self.looked = asyncio.Event()

    async def look(self, events):
        self.looks += 1
        self.looked.set()
        return {event: self.rows[event] for event in events if event in self.rows}


@asynccontextmanager
async def listening(url, table):
    applied = OutcomeWaiters(table.look)
    task = asyncio.create_task(listen(url, {NOTIFY_CHANNEL: applied}))
    await asyncio.sleep(0.2)
    try:
        yield applied
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def notify(url, payload):
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("select pg_notify('leadstream', %s)", (payload,))


@pytest.fixture
def no_polling(monkeypatch):
    """Only a notification wakes anybody, however long the machine takes."""
    monkeypatch.setattr(wait, "POLL_SECONDS", 3_600.0)


async def told_once_applied(url, table, applied, payload):
    """What a waiter is told whose event is applied after its first look. The notification is repeated: nobody may listen yet."""
    waiting = asyncio.create_task(applied.wait([ONE], PATIENCE))
    await table.looked.wait()
    table.rows[ONE] = DONE
    while not waiting.done():
        await notify(url, payload)
        await asyncio.sleep(0.05)
    return await waiting


@pytest.mark.parametrize("payload", ['{"applied": ["other", "e1"]}', "{}"])
async def test_a_notification_wakes_the_waiter_before_it_polls(database_url, payload, no_polling):
    table = Table()
    async with listening(database_url, table) as applied:
        assert await told_once_applied(database_url, table, applied, payload) == {ONE: DONE}
    assert table.looks == 2


async def test_somebody_elses_event_wakes_nobody(database_url, no_polling):
    table = Table()
    async with listening(database_url, table) as applied:
        waiting = asyncio.create_task(applied.wait([ONE], 0.4))
        await asyncio.sleep(0.1)
        await notify(database_url, '{"applied": ["other"]}')
        assert await waiting == {}
    assert table.looks == 1


async def test_what_was_applied_before_is_seen_at_once(database_url):
    table = Table()
    table.rows[ONE] = DONE
    assert await OutcomeWaiters(table.look).wait([ONE, ONE], 5) == {ONE: DONE}


async def test_a_lost_notification_is_covered_by_polling(database_url):
    table = Table()
    applied = OutcomeWaiters(table.look)
    waiting = asyncio.create_task(applied.wait([ONE], PATIENCE))
    await table.looked.wait()
    table.rows[ONE] = DONE
    assert await waiting == {ONE: DONE}


async def test_what_was_seen_in_time_is_told_and_the_rest_is_not(database_url):
    table = Table()
    table.rows[TWO] = DONE
    applied = OutcomeWaiters(table.look)
    started = time.monotonic()
    assert await applied.wait([ONE, TWO], 0.3) == {TWO: DONE}
    assert time.monotonic() - started < PATIENCE / 2


async def test_while_the_database_is_away_nothing_was_seen_and_nothing_is_raised():
    async def away(_events):
        raise RequestProblem(503, "the database does not answer")

    assert await OutcomeWaiters(away).wait([ONE], 0.05) == {}


async def test_no_waiter_is_left_behind(database_url):
    applied = OutcomeWaiters(Table().look)
    await asyncio.gather(*(applied.wait([ONE, TWO], 0.05) for _ in range(20)))
    assert not applied._waiters


async def test_a_broken_connection_is_made_again(database_url, no_polling):
    table = Table()
    async with listening(database_url, table) as applied:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'leadstream listen' "
                "and datname = current_database()"
            )
        assert await told_once_applied(database_url, table, applied, '{"applied": ["e1"]}') == {ONE: DONE}

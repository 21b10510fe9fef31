"""The demo: ninety days of a simulated company in an empty store of its own, which then continues live.

Two things differ from production. Each start empties the store, so PostgreSQL need not wait for the disk. And
the people are invented. The demo never changes the real store beside it.
"""

import asyncio
import os
import random
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace

from psycopg.sql import SQL, Identifier

from gateway.door.admission import RequestFacts, admit_event
from gateway.ports import AppendRecords, LogUnavailable, Ports
from leadstream.clock import utc_now
from leadstream.console import Failure, print_status, progress_bar
from leadstream.embedded_postgres import DATABASE_NAME, create_database, start_postgres
from leadstream.operations.control_socket import running_server
from leadstream.operations.imports import append_all, archived, counted
from leadstream.operations.store_access import settle_with_bar, store_of_system
from leadstream.serving import open_listener, run_gateway
from leadstream.settings import Settings
from leadstream.simulation.simulate import live_events, simulated_events
from leadstream.wiring import System, database_errors_explained, open_system, ports_open
from projections.connection import connect_watched
from schemas.decode import encode_source, key_of
from schemas.record import Outgoing
from schemas.topics import EVENTS

DEMO_SEED = 1
DEMO_DAYS = 90
PAUSE_SECONDS_RANGE = (0.22, 0.42)
"""Seconds between two live events: about three a second."""
_PORTS_TRIED = 20
_WITHOUT_FSYNC = {"fsync": "off", "full_page_writes": "off"}


def run_demo(settings: Settings, *, leads: int, browser: bool) -> None:
    """Runs until the process is stopped."""
    insist = "port" in settings.model_fields_set
    settings = settings.model_copy(
        update={"data_dir": settings.data_dir / "demo", "database_url": None, "kafka": None}
    )
    if (note := running_server(settings.data_dir)) is not None:
        raise Failure(f"A demo already runs at {note.address} (pid {note.pid}): open it, or stop it first.")
    with free_port_from(settings, insist=insist) as (settings, port):
        with progress_bar("Starting an empty store", None):
            empty_demo_database(settings)
        with open_system(settings, _WITHOUT_FSYNC) as system:
            until = utc_now()
            events = list(simulated_events(DEMO_SEED, leads, DEMO_DAYS, until))
            store = store_of_system(system)
            with progress_bar(
                f"Recording {len(events):,} events of {leads} leads in {DEMO_DAYS} days", len(events)
            ) as report:
                append_all(counted((archived(event, until) for event in events), report), store.append)
            settle_with_bar(store)
            append_live_events = _live_events(settings, leads, browser=browser)
            run_gateway(settings, port, lambda: _ports_with_shop(system, settings), append_live_events)


@asynccontextmanager
async def _ports_with_shop(system: System, settings: Settings) -> AsyncIterator[Ports]:
    async with ports_open(system, settings) as ports:
        yield replace(ports, has_shop=True)


@contextmanager
def free_port_from(settings: Settings, *, insist: bool) -> Iterator[tuple[Settings, socket.socket]]:
    """Listens on the port of the settings. If that is taken, it uses the next free port, unless `insist`."""
    last = settings.port if insist else min(settings.port + _PORTS_TRIED, 65_535)
    with ExitStack() as stack:
        for port in range(settings.port, last + 1):
            candidate = settings.model_copy(update={"port": port})
            try:
                listener = stack.enter_context(open_listener(candidate))
            except Failure:
                if port == last:
                    raise
            else:
                yield candidate, listener
                return


def empty_demo_database(settings: Settings) -> None:
    """Replaces the database of the demo by an empty one."""
    with database_errors_explained(settings):
        url = start_postgres(settings.data_dir, _WITHOUT_FSYNC)
        with connect_watched(url.replace(f"/{DATABASE_NAME}?", "/postgres?"), autocommit=True) as connection:
            connection.execute(
                SQL("drop database if exists {} with (force)").format(Identifier(DATABASE_NAME))
            )
            connection.execute(create_database(DATABASE_NAME))


def _live_events(
    settings: Settings, leads: int, *, browser: bool
) -> Callable[[AppendRecords], Awaitable[None]]:
    async def append_live_events(append: AppendRecords) -> None:
        shop = f"{settings.address}/demo"
        print_status(f"Open {shop} and click: you are scored as you watch. Ctrl-C stops the demo.")
        print_status(f"The call list of the company is at {settings.address}")
        if browser and _has_screen():
            await asyncio.to_thread(webbrowser.open, shop)
        chance = random.Random(DEMO_SEED)
        for event in live_events(DEMO_SEED, leads, utc_now):
            now = utc_now()
            admitted = admit_event(event, RequestFacts(tenant=None), now)
            try:
                await append([Outgoing(EVENTS, key_of(admitted), encode_source(admitted))])
            except LogUnavailable as cause:
                await asyncio.sleep(cause.retry_after_s or 1)
            await asyncio.sleep(chance.uniform(*PAUSE_SECONDS_RANGE))

    return append_live_events


def _has_screen() -> bool:
    if not sys.stdout.isatty():
        return False
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""What the API's handlers work with, one set per application: a handler finds it through its request."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from authoring.authoring import Authoring
from gateway.access import Caller
from gateway.answers import RequestProblem
from gateway.api.lead_counts import KeptCounts
from gateway.api.recalculations import Recalculations
from gateway.ports import AwaitOutcomes, Ports
from gateway.store import ReadStore
from schemas.envelope import DEFAULT_TENANT

WHAT_IFS_AT_ONCE = 2
"""Drafts that are evaluated at the same time; each keeps a core busy."""

BACKTESTS_AT_ONCE = 1
"""A backtest takes minutes: what-ifs, which somebody waits for while typing, have turns of their own."""

REPORTS_AT_ONCE = 2
"""Reports of one tenant that are made at the same time: its other requests, and other tenants, keep database and cores."""
REPORT_TURN_SECONDS = 10.0
"""How long a report waits for its turn."""


@dataclass(frozen=True)
class ApiServices:
    ports: Ports
    store: ReadStore
    authoring: Authoring
    applied: AwaitOutcomes
    what_if_turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WHAT_IFS_AT_ONCE))
    backtest_turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BACKTESTS_AT_ONCE))
    report_turns: defaultdict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(REPORTS_AT_ONCE))
    )
    """By tenant."""
    counts: KeptCounts = field(default_factory=KeptCounts)
    recalculations: Recalculations = field(default_factory=Recalculations)


def services_of(request: Request) -> ApiServices:
    services: ApiServices = request.app.state.api
    return services


def authorized_caller(request: Request) -> tuple[str, Caller]:
    """The tenant that the caller may see, and the caller, which `gateway.authorize` has let in by the route's scope."""
    caller: Caller = request.state.caller
    return caller.tenant or DEFAULT_TENANT, caller


def tenant_of(request: Request) -> str:
    tenant, _ = authorized_caller(request)
    return tenant


@asynccontextmanager
async def report_turn(services: ApiServices, tenant: str) -> AsyncIterator[None]:
    """The turn of one of the tenant's expensive reports. Raises RequestProblem, if it does not come in time."""
    turns = services.report_turns[tenant]
    try:
        async with asyncio.timeout(REPORT_TURN_SECONDS):
            await turns.acquire()
    except TimeoutError:
        raise RequestProblem(
            503, f"{REPORTS_AT_ONCE} reports are being made: ask for fewer at once", retry_after_s=2
        ) from None
    try:
        yield
    finally:
        turns.release()


async def take_report_turn(request: Request) -> AsyncIterator[None]:
    """A dependency of routes whose answers are expensive."""
    async with report_turn(services_of(request), tenant_of(request)):
        yield

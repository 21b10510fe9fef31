"""What the API's handlers work with, one set per application: a handler finds it through its request."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from authoring.authoring import Authoring
from gateway.access import READ_SCOPE, Caller, api_caller
from gateway.api.recalculations import Recalculations
from gateway.ports import AwaitOutcomes, Ports
from gateway.store import ReadStore
from schemas.envelope import DEFAULT_TENANT

WHAT_IFS_AT_ONCE = 2
"""Drafts that are evaluated at the same time; each keeps a core busy."""


@dataclass(frozen=True)
class ApiServices:
    ports: Ports
    store: ReadStore
    authoring: Authoring
    applied: AwaitOutcomes
    what_if_turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WHAT_IFS_AT_ONCE))
    recalculations: Recalculations = field(default_factory=Recalculations)


def services_of(request: Request) -> ApiServices:
    services: ApiServices = request.app.state.api
    return services


def authorized_caller(request: Request, scope: str) -> tuple[str, Caller]:
    """The tenant that the caller may see, and the caller. Raises Denied without the scope."""
    caller = api_caller(request, services_of(request).ports.access, scope)
    return caller.tenant or DEFAULT_TENANT, caller


def tenant_of(request: Request, scope: str = READ_SCOPE) -> str:
    tenant, _ = authorized_caller(request, scope)
    return tenant

"""What the collector and the A/B tests work with, one set per application: a handler finds it through its request.

No database is among it: events are taken while Postgres is unavailable.
"""

import asyncio
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.requests import Request

from gateway.access import TokenBuckets
from gateway.door.link_events import RecentRequests
from gateway.ports import AwaitOutcomes, Ports


@dataclass(frozen=True)
class DoorServices:
    ports: Ports
    applied: AwaitOutcomes
    event_buckets: TokenBuckets
    ab_test_buckets: TokenBuckets
    recordings: set[asyncio.Task[None]] = field(default_factory=set)
    """Events of followed links that wait for the log."""
    recent_requests: RecentRequests = field(default_factory=RecentRequests)
    """Of followed links."""


def open_door(app: FastAPI, ports: Ports, applied: AwaitOutcomes) -> None:
    """Before the first request."""
    app.state.door = DoorServices(ports, applied, TokenBuckets(ports.rate), TokenBuckets(ports.rate))


def door_of(request: Request) -> DoorServices:
    services: DoorServices = request.app.state.door
    return services

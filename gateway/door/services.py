"""What the collector and the A/B tests work with, one set per application: a handler finds it through its request.

No database is among it: events are taken while Postgres is unavailable.
"""

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.requests import Request

from gateway.access import TokenBuckets
from gateway.ports import AwaitOutcomes, Ports


@dataclass(frozen=True)
class DoorServices:
    ports: Ports
    applied: AwaitOutcomes
    event_buckets: TokenBuckets
    ab_test_buckets: TokenBuckets


def open_door(app: FastAPI, ports: Ports, applied: AwaitOutcomes) -> None:
    """Before the first request."""
    app.state.door = DoorServices(ports, applied, TokenBuckets(ports.rate), TokenBuckets(ports.rate))


def door_of(request: Request) -> DoorServices:
    services: DoorServices = request.app.state.door
    return services

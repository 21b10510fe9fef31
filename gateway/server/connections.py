"""How many connections a server has, and how long each may take: bounded for strangers, before any key is read.

Connections are counted by address and in all. When one more would be too many, the connection that has been
idle longest makes room; only if none is idle, the new one is refused. So a crowd of silent connections stops
nobody. An IPv6 network (/64) counts as one address. A trusted proxy speaks for many: only all are counted.
"""

import asyncio
import ipaddress
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import structlog

from gateway import metrics
from gateway.access import Network
from gateway.local_access import ip_address_of

SWEEP_SECONDS = 0.5
REPORT_SECONDS = 60.0

log = structlog.get_logger("gateway")


class ConnectionLimits(NamedTuple):
    connections: int = 1_000
    per_address: int = 200
    head_bytes: int = 32_768
    """Request line and headers together."""
    head_seconds: float = 10.0
    """From the first byte, or from the opening of a connection."""
    idle_seconds: float = 15.0
    """Between two requests of a connection."""
    body_seconds: float = 60.0
    """For a whole body; the collector itself waits less."""
    stalled_seconds: float = 30.0
    """For a client to take what waits for it."""


class LimitedConnection(Protocol):
    address: str

    def overdue(self, now: float) -> str | None:
        """What took too long, or None."""

    def cut(self) -> None:
        """Closes it at once, even before it has begun."""


class ConnectionRegister:
    """Every connection of one server. `trusted` are networks of proxies."""

    def __init__(
        self,
        limits: ConnectionLimits,
        trusted: Sequence[Network] = (),
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.limits = limits
        self.stopping = False
        self._trusted = tuple(trusted)
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._all: dict[LimitedConnection, None] = {}
        self._idle: dict[LimitedConnection, None] = {}  # idle longest first
        self._by_address: dict[str, dict[LimitedConnection, None]] = {}
        self._closed: dict[str, int] = {}
        self._reported = -math.inf

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, connection: LimitedConnection) -> bool:
        """Counts it, idle as yet, or returns False: too many, and none of them idle."""
        address = connection.address
        here = self._by_address.get(address, {})
        if len(here) >= self.limits.per_address and not self._speaks_for_many(address):
            reason, crowd = "address", [each for each in here if each in self._idle][:1]
        elif len(self._all) >= self.limits.connections:
            reason, crowd = "all", list(self._idle)[:1]
        else:
            reason, crowd = "", []
        if reason:
            self._count(reason)
            if not crowd:
                return False
            self._cut(crowd[0])
        self._all[connection] = self._idle[connection] = None
        self._by_address.setdefault(address, {})[connection] = None
        return True

    def exhausted(self) -> bool:
        """No file descriptor is left: closes the connection that has been idle longest; False: none is."""
        self._count("files")
        if not self._idle:
            return False
        self._cut(next(iter(self._idle)))
        return True

    def remove(self, connection: LimitedConnection) -> None:
        self._all.pop(connection, None)
        self._idle.pop(connection, None)
        here = self._by_address.get(connection.address)
        if here is not None:
            here.pop(connection, None)
            if not here:
                del self._by_address[connection.address]

    def mark_idle(self, connection: LimitedConnection) -> None:
        """From now on it may be closed without harm: no request is under way."""
        if connection in self._all:
            self._idle.pop(connection, None)
            self._idle[connection] = None
            here = self._by_address[connection.address]
            here.pop(connection)
            here[connection] = None

    def mark_busy(self, connection: LimitedConnection) -> None:
        self._idle.pop(connection, None)

    async def watch(self) -> None:
        """Cuts what takes too long, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(self._clock())

    def sweep(self, now: float) -> None:
        for connection in list(self._all):
            if (reason := connection.overdue(now)) is not None:
                self._count(reason)
                self._cut(connection)
        metrics.OPEN_CONNECTIONS.set(len(self._all))
        if self._closed and now - self._reported >= REPORT_SECONDS:
            log.warning("connections closed or refused", **self._closed, open=len(self._all))
            self._closed.clear()
            self._reported = now

    def _cut(self, connection: LimitedConnection) -> None:
        self.remove(connection)
        connection.cut()

    def _count(self, reason: str) -> None:
        metrics.CLOSED_CONNECTIONS.labels(reason).inc()
        if reason != "idle":
            self._closed[reason] = self._closed.get(reason, 0) + 1

    def _speaks_for_many(self, address: str) -> bool:
        ip = ip_address_of(address)
        return ip is not None and any(ip in network for network in self._trusted)


def address_to_count(host: str, trusted: Iterable[Network] = ()) -> str:
    """Under what a peer is counted: its IPv4 address, or its IPv6 network of 64 bits; a proxy by itself."""
    address = ip_address_of(host)
    if isinstance(address, ipaddress.IPv6Address) and not any(address in network for network in trusted):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)

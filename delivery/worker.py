"""Delivers what is in the outbox until it is stopped: at least once, each under its own key. Any number of workers share it.

Each channel has a few messages under way, so one that is slow keeps no other waiting. A channel that fails again and again
rests. The database is used by one thread, because its connection is synchronous; channels use the event loop.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx
import psycopg
import structlog

from delivery import metrics, outbox
from delivery.channels.http_requests import http_client
from delivery.channels.lead_events import AppendEvents, append_event
from delivery.configuration import DeliveryConfiguration
from delivery.crm.crm_state import remember_push
from delivery.database_thread import DatabaseThread
from delivery.message import LeadCard, Message
from delivery.notifications import add_notification, notification_texts
from delivery.outcomes import DeliveryFailedError, DeliveryRejectedError
from delivery.preparation import preparation
from delivery.retries import CircuitBreaker, backoff_seconds
from delivery.sending import kinds_of_channels, send_message
from projections.connection import Connection
from projections.outbox import NOTIFICATIONS_CHANNEL, OUTBOX_DAYS
from projections.row_keys import lead_row_key
from scoring.workflows.actions import LEAD_ACTIONS

ReadZones = Callable[[Connection], Mapping[str, str]]
"""Reads the names of the tenants' time zones over a connection to the read models; `*` is for tenants without their own."""

IDLE_SECONDS: Final = 0.5
"""How long a worker waits before it looks again, when nothing is due."""
RETRY_SECONDS: Final = 2.0
STOPPING_SECONDS: Final = 3.0
"""How long messages under way may take after a stop. What has not ended by then is sent again under its key."""
ZONES_SECONDS: Final = 30.0
"""How old the known time zones of the tenants may be."""
MEASURE_SECONDS: Final = 10.0
PRUNE_SECONDS: Final = 3_600.0
_OPTIONS: Final = (
    "-c search_path=live -c timezone=UTC -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s"
)
_EVERY_TENANT: Final = "*"

_log = structlog.get_logger(__name__)


@dataclass
class DeliveryPorts:
    """What a worker needs from outside."""

    database: Callable[[], str]
    append: AppendEvents
    now: Callable[[], datetime]
    read_zones: ReadZones
    chance: Callable[[], float] = random.random


@dataclass
class DeliveryWorker:
    configuration: DeliveryConfiguration
    ports: DeliveryPorts
    under_way: dict[asyncio.Task[None], str] = field(default_factory=dict)
    """The channel of each message that is being delivered."""
    breakers: dict[str, CircuitBreaker] = field(default_factory=dict)
    _zones: Mapping[str, str] = field(default_factory=dict)
    _zones_until: float = 0.0
    _reported: bool = False

    def __post_init__(self) -> None:
        limits = self.configuration.limits
        self._kinds = dict(kinds_of_channels(self.configuration))
        self.breakers = {
            name: CircuitBreaker(limits.circuit_failures, limits.circuit_seconds) for name in self._kinds
        }
        self._database = DatabaseThread("delivery", self.ports.database, _OPTIONS)
        self._wake = asyncio.Event()
        self._http: httpx.AsyncClient = http_client(limits.timeout_seconds)

    async def run(self, stop: threading.Event, *, until_idle: bool = False) -> None:
        """Delivers until `stop` is set; with `until_idle`, until nothing is due and nothing is under way."""
        measured = pruned = -PRUNE_SECONDS
        try:
            async with self._http:
                while not stop.is_set():
                    self._wake.clear()
                    idle = not self.under_way
                    try:
                        claimed = await self._claim()
                        if time.monotonic() - measured >= MEASURE_SECONDS:
                            measured = time.monotonic()
                            await self._database.run(_measure, self.breakers)
                            await self._database.run(outbox.count_ended)
                        if time.monotonic() - pruned >= PRUNE_SECONDS:
                            pruned = time.monotonic()
                            await self._database.run(outbox.prune, OUTBOX_DAYS)
                        self._reported = False
                    except Exception as cause:  # noqa: BLE001 - reported, and tried again
                        await self._pause(cause, stop)
                        continue
                    if until_idle and idle and not claimed:
                        return
                    if not claimed:
                        await self._wait(stop)
                await self._finish()
        finally:
            self._database.close()

    async def _claim(self) -> int:
        """Steps 1 and 2 of `delivery.outbox`, for every channel with room. Returns how many it has claimed."""
        open_channels = self._open_channels()
        now = self.ports.now()
        messages = await self._database.run(self._claim_rows, open_channels, now)
        for message in messages:
            task = asyncio.create_task(self._deliver(message), name=f"deliver {message.key}")
            self.under_way[task] = message.channel
            task.add_done_callback(self._ended)
        return len(messages)

    def _claim_rows(
        self, connection: Connection, open_channels: Mapping[str, int], now: datetime
    ) -> list[Message]:
        if time.monotonic() >= self._zones_until:
            self._zones = self.ports.read_zones(connection)
            self._zones_until = time.monotonic() + ZONES_SECONDS
        return outbox.claim(
            connection,
            open_channels,
            list(self.breakers),
            now=now,
            lease_seconds=self.configuration.limits.lease_seconds,
            prepare=preparation(self.configuration, self._zone_of, now),
            read_lead=_read_lead,
        )

    def _zone_of(self, tenant: str) -> ZoneInfo:
        name = self._zones.get(tenant) or self._zones.get(_EVERY_TENANT) or "UTC"
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return ZoneInfo("UTC")

    def _open_channels(self) -> dict[str, int]:
        """How many messages each channel may take now."""
        busy, now = Counter(self.under_way.values()), time.monotonic()
        room = {}
        for name, breaker in self.breakers.items():
            resting = breaker.is_open(now)
            metrics.RESTING.labels(name).set(resting)
            most = 1 if breaker.is_on_trial else self.configuration.limits.at_once
            if not resting and busy[name] < most:
                room[name] = most - busy[name]
        return room

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.under_way.pop(task, None)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a delivery could not be marked", exc_info=error)

    async def _deliver(self, message: Message) -> None:
        """Steps 2 and 3 of `delivery.outbox`."""
        kind, breaker, begun = self._kinds[message.channel], self.breakers[message.channel], time.monotonic()
        reason, until = "", None
        try:
            async with asyncio.timeout(3 * self.configuration.limits.timeout_seconds):
                await self._send(message)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await asyncio.shield(
                    self._mark_failed(message, "Leadstream stopped meanwhile", self.ports.now())
                )
            raise
        except DeliveryRejectedError as cause:
            outcome, reason = "dead", cause.reason
            breaker.succeeded()
        except Exception as cause:  # noqa: BLE001 - reported, and tried again
            failed = self._failure(message, cause)
            outcome, reason = "failed", failed.reason
            if failed.channel_fails:
                breaker.failed(time.monotonic(), failed.retry_after)
            if message.attempt >= self.configuration.limits.attempts:
                outcome = "dead"
            else:
                until = self.ports.now() + timedelta(seconds=self._wait_seconds(message, failed))
        else:
            outcome = "delivered"
            breaker.succeeded()
        metrics.ATTEMPTS.labels(kind, outcome).inc()
        metrics.ATTEMPT_SECONDS.labels(kind).observe(time.monotonic() - begun)
        if outcome == "delivered":
            await self._mark(lambda connection: outbox.mark_delivered(connection, message, self.ports.now()))
            return
        _log.warning(
            "a message was not delivered",
            channel=message.channel,
            execution=message.execution_id,
            attempt=message.attempt,
            reason=reason,
            dead=until is None,
        )
        await self._mark_failed(message, reason, until)

    def _failure(self, message: Message, cause: Exception) -> DeliveryFailedError:
        if isinstance(cause, DeliveryFailedError):
            return cause
        if isinstance(cause, TimeoutError):
            return DeliveryFailedError(f"the channel {message.channel!r} did not answer in time")
        _log.error("a channel has failed", channel=message.channel, error=type(cause).__name__)
        return DeliveryFailedError(f"the channel has failed ({type(cause).__name__})")

    def _wait_seconds(self, message: Message, failed: DeliveryFailedError) -> float:
        limits = self.configuration.limits
        backoff = backoff_seconds(
            message.attempt, limits.first_retry_seconds, limits.longest_retry_seconds, self.ports.chance()
        )
        return max(backoff, failed.retry_after or 0.0)

    async def _send(self, message: Message) -> None:
        """Raises DeliveryError."""
        if message.action in LEAD_ACTIONS:
            await append_event(message, self.ports.append, self.ports.now())
            return
        if message.channel == NOTIFICATIONS_CHANNEL:
            title, text = notification_texts(message)
            await self._database.run(add_notification, message, title, text, self.ports.now())
            return
        pushed = await send_message(self.configuration, message, self._http, self.ports.now())
        if pushed is not None:
            await self._database.run(
                remember_push,
                message.tenant,
                message.channel,
                (pushed.kind, pushed.record_id),
                message.lead.lead_id,
                pushed.values,
            )

    async def _mark_failed(self, message: Message, reason: str, until: datetime | None) -> None:
        await self._mark(lambda connection: outbox.mark_failed(connection, message, reason, until))

    async def _mark(self, write: Callable[[Connection], None]) -> None:
        """Step 3. While the database is unavailable it tries again until the lease ends: then another worker has the row."""
        deadline = time.monotonic() + self.configuration.limits.lease_seconds
        while True:
            try:
                await self._database.run(write)
            except psycopg.Error:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(min(RETRY_SECONDS, self.configuration.limits.lease_seconds / 10))
            else:
                return

    async def _pause(self, cause: Exception, stop: threading.Event) -> None:
        if isinstance(cause, psycopg.errors.UndefinedTable):
            pass  # the tables are being made
        elif not self._reported:
            self._reported = True
            _log.warning(
                "delivery pauses",
                cause=" ".join(str(cause).split()),
                exc_info=None if isinstance(cause, psycopg.Error) else cause,
            )
        deadline = time.monotonic() + RETRY_SECONDS
        while time.monotonic() < deadline and not stop.is_set():  # noqa: ASYNC110 - the event is of another thread
            await asyncio.sleep(0.05)

    async def _wait(self, stop: threading.Event) -> None:
        """Until a delivery has ended, or a while has passed."""
        deadline = time.monotonic() + IDLE_SECONDS
        while time.monotonic() < deadline and not stop.is_set() and not self._wake.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._wake.wait()

    async def _finish(self) -> None:
        tasks = list(self.under_way)
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=STOPPING_SECONDS)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)


def _measure(connection: Connection, configured: Collection[str]) -> None:
    backlog = outbox.backlog(connection, configured)
    for channel in (*configured, None):
        now = backlog.get(channel, outbox.ChannelBacklog())
        label = metrics.NOT_CONFIGURED if channel is None else channel
        metrics.WAITING.labels(label).set(now.waiting)
        metrics.DEAD.labels(label).set(now.dead)
        metrics.OLDEST_SECONDS.labels(label).set(now.oldest_seconds)


def _read_lead(connection: Connection, lead_key: int) -> LeadCard | None:
    return outbox.lead_card(connection, lead_key, lead_row_key)

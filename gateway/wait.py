"""Lets a caller wait until its events show in Postgres, by the notifications that `gateway.listen` hands over.

A waiter is registered first and looks into the table then, so a notification between the two is
not missed; a slow poll covers whatever was missed while the connection was down. Waiting ends
with what was seen: a caller never waits longer than it asked to, and never gets an error from here
for a database that is unavailable.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from gateway import metrics
from gateway.answers import RequestProblem
from gateway.ports import EventKey, EventOutcome

POLL_SECONDS = 0.5

LookUpOutcomes = Callable[[Sequence[EventKey]], Awaitable[Mapping[EventKey, EventOutcome]]]
"""Which of these events are applied by now. Raises Problem while the database cannot be asked."""


class _NotifyPayload(msgspec.Struct):
    applied: list[str] | None = None


_decode_payload = msgspec.json.Decoder(_NotifyPayload).decode


class OutcomeWaiters:
    """The waiters of this process."""

    def __init__(self, look: LookUpOutcomes) -> None:
        self._look = look
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._ended = False

    async def wait(self, events: Sequence[EventKey], seconds: float) -> Mapping[EventKey, EventOutcome]:
        """Those of the events that are applied within so many seconds."""
        woken = asyncio.Event()
        for event in events:
            self._waiters[event.event_id].add(woken)
        seen: dict[EventKey, EventOutcome] = {}
        try:
            with metrics.WAITING_CALLERS.track_inprogress():
                async with asyncio.timeout(seconds):
                    while missing := [event for event in events if event not in seen]:
                        woken.clear()
                        seen.update(await self._looked(missing))
                        if self._ended:
                            break
                        if len(seen) < len(set(events)):
                            await _wait_until_woken(woken, POLL_SECONDS)
        except TimeoutError:
            pass
        finally:
            for event in events:
                self._forget(event.event_id, woken)
        return seen

    def end(self) -> None:
        """The process stops: waiting callers get what was seen so far."""
        self._ended = True
        self._wake_all()

    def reconnected(self) -> None:
        """Nobody knows what was applied while nothing was heard: every waiter looks."""
        self._wake_all()

    def notified(self, payload: str) -> None:
        """Wakes the waiters of the ids in the payload; all waiters, if it names none."""
        applied = _decode_payload(payload).applied
        if applied is None:
            self._wake_all()
        for event_id in applied or ():
            for woken in self._waiters.get(event_id, ()):
                woken.set()

    async def _looked(self, events: Sequence[EventKey]) -> Mapping[EventKey, EventOutcome]:
        try:
            return await self._look(events)
        except RequestProblem:
            return {}

    def _wake_all(self) -> None:
        for waiters in self._waiters.values():
            for woken in waiters:
                woken.set()

    def _forget(self, event_id: str, woken: asyncio.Event) -> None:
        waiters = self._waiters.get(event_id)
        if waiters is not None:
            waiters.discard(woken)
            if not waiters:
                del self._waiters[event_id]


async def _wait_until_woken(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        pass

"""What changes in the read models, for readers who watch: one task per process reads each change once, and hands the same
bytes to every reader of its tenant.

1. The projection notifies of the leads of each batch (`projections.worker.CHANGES_CHANNEL`), with the batch's position.
2. After BATCH_SECONDS the task reads what changed in these leads: one frame for each tenant that somebody watches.
3. A reader that comes back names the last position that it has read, and misses nothing. All processes hear of batches in
   the same order, so any of them can answer. If the position is older than what is kept, the reader is told to read
   everything again (`reset`).

Frames of a tenant are kept within MOST_FRAMES and MOST_FRAME_BYTES. A slow reader delays nobody: what it misses is a
`reset` for it alone. A change may come twice, and never in another order.
"""

import asyncio
import secrets
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import psycopg
import structlog

from gateway.answers import RequestProblem
from gateway.api.points import plain
from gateway.store import ReadStore, Row
from projections import change_queries
from schemas.moment import moment
from scoring.models.flags import split_flags
from scoring.models.points import ONE_POINT, rounded_points

BATCH_SECONDS: Final = 0.1
"""50 readers of 200 changes a second cost a tenth of what they would if each change were sent alone."""
ALIVE_SECONDS: Final = 15.0
"""Without a change, until a comment shows that the stream lives."""
STREAM_SECONDS: Final = 60.0
"""Then a stream ends, and its reader comes back: a key that was revoked reads no longer than that."""
REMEMBERED_SECONDS: Final = 60.0
"""Without a reader, until the frames of a tenant are forgotten."""
MOST_FRAMES: Final = 1_024
MOST_FRAME_BYTES: Final = 1_000_000
MOST_LEADS: Final = 600
"""Of a batch; of more, readers read everything again."""
MOST_READERS: Final = 500
MOST_READERS_OF_TENANT: Final = 200

MOST_POSITIONS: Final = 16_384
"""Of batches that are known again."""
MOST_NOTICES: Final = 10_000

BAND_FIELDS: Final = ("lead_id", "model", "scale", "band", "previous", "at")
STAGE_FIELDS: Final = ("lead_id", "stage", "previous", "reason", "at")
NOTIFICATION_FIELDS: Final = ("lead_id", "title", "message", "recipient", "created_at")

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
_log = structlog.get_logger(__name__)


class ChangeNotice(msgspec.Struct):
    """What a notification says. Without `leads` and `notification`: too much changed to be named."""

    position: str | None = None
    leads: list[tuple[int, int | None]] | None = None
    notification: tuple[str, int] | None = None


_decode_notice: Final = msgspec.json.Decoder(ChangeNotice).decode


class Frame(NamedTuple):
    """Changes that are sent together. `turn`: that of the last batch in it."""

    turn: int
    position: str
    content: bytes
    """JSON."""

    def as_event(self) -> bytes:
        return b"id: %s\nevent: changes\ndata: %s\n\n" % (self.position.encode(), self.content)


@dataclass
class ChangesOfTenant:
    """The latest frames of a tenant."""

    complete_since: int
    """The turn of the batch after which no frame is missing."""
    frames: list[Frame] = field(default_factory=list)
    size: int = 0
    readers: int = 0
    last_read: float = 0.0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.size += len(frame.content)
        while len(self.frames) > MOST_FRAMES or (self.size > MOST_FRAME_BYTES and len(self.frames) > 1):
            oldest = self.frames.pop(0)
            self.size -= len(oldest.content)
            self.complete_since = oldest.turn
        self.wake()

    def clear(self, turn: int) -> None:
        """What came until this turn is unknown: every reader has to read everything again."""
        self.complete_since = turn
        self.frames.clear()
        self.size = 0
        self.wake()

    def wake(self) -> None:
        arrived, self.arrived = self.arrived, asyncio.Event()
        arrived.set()

    def after(self, turn: int | None) -> Sequence[Frame] | None:
        """The frames after this turn; None: some are missing. A frame of which only a part came later comes whole."""
        if turn is None or turn < self.complete_since:
            return None
        return self.frames[bisect_right(self.frames, turn, key=_turn_of) :]


_turn_of = attrgetter("turn")


class ChangePage(NamedTuple):
    """What a reader gets who asks now and then. `is_reset`: it has to read everything again."""

    position: str
    is_reset: bool
    frames: Sequence[Frame]


class LiveChanges:
    """The changes of this process. `run` reads them for as long as the process lives."""

    def __init__(
        self, store: ReadStore, now: Callable[[], datetime], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._now = now
        self._clock = clock
        self._notices: list[ChangeNotice] = []
        self._noticed = asyncio.Event()
        self._tenants: dict[str, ChangesOfTenant] = {}
        self._position = f"start.{secrets.token_hex(4)}"
        """Of the last batch."""
        self._turn = 0
        """The number of notices so far."""
        self._turns = {self._position: 0}
        """By position of a batch: the turn of its first notice. Its later ones may be in another frame."""
        self._ended = False

    # What the listener calls

    def notified(self, payload: str) -> None:
        if len(self._notices) >= MOST_NOTICES:  # the database is slow
            self._notices = [ChangeNotice()]
        self._notices.append(_decode_notice(payload))
        self._noticed.set()

    def reconnected(self) -> None:
        self.notified("{}")

    def end(self) -> None:
        """The process stops: every stream ends. A server waits for open streams, so call it before the server stops."""
        self._ended = True
        for changes in self._tenants.values():
            changes.wake()

    # What readers call

    def stream(self, tenant: str, after: str | None) -> AsyncIterator[bytes]:
        """Server-sent events. Raises RequestProblem, if too many read."""
        changes = self._changes_of(tenant)
        readers = sum(each.readers for each in self._tenants.values())
        if changes.readers >= MOST_READERS_OF_TENANT or readers >= MOST_READERS:
            raise RequestProblem(503, "too many read the changes already: ask now and then", retry_after_s=30)
        return self._events(changes, after)

    def page(self, tenant: str, after: str | None) -> ChangePage:
        frames = self._changes_of(tenant).after(self._turns.get(after or ""))
        return ChangePage(self._position, frames is None, frames or ())

    async def _events(self, changes: ChangesOfTenant, after: str | None) -> AsyncIterator[bytes]:
        ends_at = self._clock() + STREAM_SECONDS
        turn = self._turns.get(after or "")
        changes.readers += 1
        try:
            yield b"retry: 1000\n\n"
            while not self._ended and self._clock() < ends_at:
                arrived = changes.arrived
                frames = changes.after(turn)
                if frames is None:
                    turn = self._turn
                    yield b"id: %s\nevent: reset\ndata: {}\n\n" % self._position.encode()
                elif frames:
                    turn = frames[-1].turn
                    yield b"".join(frame.as_event() for frame in frames)
                elif not await _arrives(arrived, ALIVE_SECONDS):
                    yield b": alive\n\n"
        finally:
            changes.readers -= 1
            changes.last_read = self._clock()

    def _changes_of(self, tenant: str) -> ChangesOfTenant:
        self._forget_unread()
        changes = self._tenants.setdefault(tenant, ChangesOfTenant(self._turn))
        changes.last_read = self._clock()
        return changes

    def _forget_unread(self) -> None:
        oldest = self._clock() - REMEMBERED_SECONDS
        for tenant, changes in list(self._tenants.items()):
            if not changes.readers and changes.last_read < oldest:
                del self._tenants[tenant]

    # The task

    async def run(self) -> None:
        while True:
            await self._noticed.wait()
            await asyncio.sleep(BATCH_SECONDS)
            self._noticed.clear()
            notices, self._notices = self._notices, []
            self._forget_unread()
            try:
                contents = await self._read(notices) if self._tenants else {}
            except (RequestProblem, psycopg.Error) as error:
                _log.warning("changes were not read, so their readers read everything", error=str(error))
                contents = None
            self._count(notices)
            for tenant, changes in self._tenants.items():
                if contents is None:
                    changes.clear(self._turn)
                elif content := contents.get(tenant):
                    changes.add(Frame(self._turn, self._position, content))

    def _count(self, notices: Sequence[ChangeNotice]) -> None:
        for notice in notices:
            self._turn += 1
            self._position = notice.position or f"{self._position.partition('~')[0]}~{self._turn}"
            self._turns.setdefault(self._position, self._turn)
        while len(self._turns) > MOST_POSITIONS:
            del self._turns[next(iter(self._turns))]

    async def _read(self, notices: Sequence[ChangeNotice]) -> Mapping[str, bytes] | None:
        """What changed of the watched tenants; None: too much."""
        since = _since_by_lead(notices)
        if since is None:
            return None
        tenants = list(self._tenants)
        since_by_lead = {lead_key: moment(at) for lead_key, at in since.items() if at is not None}
        sent = [notice.notification[1] for notice in notices if notice.notification]
        async with self._store.snapshot() as ask:
            touched, scores, bands, stages, messages = await ask.all(
                change_queries.touched_leads(tenants, list(since)),
                change_queries.score_changes_since(tenants, since_by_lead),
                change_queries.band_changes_since(tenants, since_by_lead),
                change_queries.stage_changes_since(tenants, since_by_lead),
                change_queries.new_notifications(tenants, sent),
            )
        if any(len(rows) >= change_queries.MOST_CHANGES for rows in (scores, bands, stages)):
            return None  # the newest changes are missing, of whatever tenant
        changes: defaultdict[str, TenantChanges] = defaultdict(TenantChanges)
        for row in touched:
            changes[row["tenant"]].leads.append(row["lead_id"])
        for row in scores:
            changes[row["tenant"]].scores.append(_score_change(row))
        for row in bands:
            changes[row["tenant"]].bands.append({name: row[name] for name in BAND_FIELDS})
        for row in stages:
            changes[row["tenant"]].stages.append({name: row[name] for name in STAGE_FIELDS})
        for row in messages:
            changes[row["tenant"]].notifications.append(_notification(row))
        now = self._now()
        return {tenant: _encode({"as_of": now, **vars(each)}) for tenant, each in changes.items()}


@dataclass
class TenantChanges:
    """The changes of a tenant in one frame."""

    leads: list[str] = field(default_factory=list)
    scores: list[Mapping[str, Any]] = field(default_factory=list)
    bands: list[Mapping[str, Any]] = field(default_factory=list)
    stages: list[Mapping[str, Any]] = field(default_factory=list)
    notifications: list[Mapping[str, Any]] = field(default_factory=list)


async def _arrives(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _since_by_lead(notices: Sequence[ChangeNotice]) -> dict[int, int | None] | None:
    """The moment since which each lead changed; None: too many did."""
    since: dict[int, int | None] = {}
    for notice in notices:
        if notice.leads is None and notice.notification is None:
            return None
        for lead_key, at in notice.leads or ():
            earlier = since.get(lead_key)
            since[lead_key] = min((each for each in (at, earlier) if each is not None), default=None)
    return since if len(since) <= MOST_LEADS else None


def _score_change(row: Row) -> dict[str, Any]:
    """A score that was taken back is none, and not a fall to 0."""
    total, removed = row["total"], row["removed"]
    return {
        "lead_id": row["lead_id"],
        "model": row["model"],
        "at": row["at"],
        "total": None if removed else plain(total),
        "rounded": None if removed else rounded_points(int(total * ONE_POINT)),
        "removed": removed,
        "change": plain(row["change"]),
        "bands": split_flags(row["bands"])[0],
        "lines": [
            {"group": group, "rule": rule, "kind": kind, "points": points}
            for group, rule, kind, points in row["lines"]
        ],
    }


def _notification(row: Row) -> dict[str, Any]:
    return {"id": row["execution_id"], **{name: row[name] for name in NOTIFICATION_FIELDS}}

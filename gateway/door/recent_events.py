"""The last events at the door of this process, by tenant: taken or refused, and why. For people who look for a fault in what
sends them.

They are in memory only, and go with the process. Of an event that nobody has consented to, and of one about a person who was
erased, nothing is kept but that it came. It knows no database.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from msgspec import DecodeError, json

from gateway.door.erased import ERASED_REASON
from schemas.decode import decode_source
from schemas.envelope import Event
from schemas.record import Outgoing
from schemas.topics import EVENTS, PARTITION_WIDE_KEY
from scoring.features.erased_people import ErasedPeople

MOST_EVENTS: Final = 1_000
"""Of a tenant that are kept."""
MOST_TENANTS: Final = 200
"""Those whose events came last are kept."""
LARGEST_SENT_BYTES: Final = 4_000
"""Of a refused event that are kept, to be shown; a larger one is shown without what was sent."""
DEEPEST_SHOWN: Final = 20
"""Levels of a refused event that are kept; what is deeper is shown as null."""
SECRET_FIELDS: Final = frozenset(
    {"lead_signature", "authorization", "write_key", "api_key", "token", "password", "secret"}
)
"""Fields that may prove who somebody is, wherever they stand."""

DoorOutcome = Literal["taken", "refused", "not_stored"]
Append = Callable[[Sequence[Outgoing]], Awaitable[None]]


class RecentEvent(NamedTuple):
    """`number` counts up in this process. `value` is a taken event as it was recorded, `sent` a refused one as it came."""

    number: int
    at: datetime
    outcome: DoorOutcome
    value: bytes = b""
    sent: Mapping[str, Any] | None = None
    field: str | None = None
    reason: str | None = None

    def event(self) -> Event | None:
        """The event that was taken."""
        if self.outcome != "taken":
            return None
        source = decode_source(self.value)
        return source if isinstance(source, Event) else None


@dataclass
class RecentEvents:
    """`since`: when this process began to remember."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _erasures: dict[str, int] = field(default_factory=dict)
    """By tenant: how many names of erased people were known when somebody looked last."""
    _by_tenant: OrderedDict[str, deque[RecentEvent]] = field(default_factory=OrderedDict)

    def take(self, records: Sequence[Outgoing]) -> None:
        """The events among records that the log has now."""
        for record in records:
            if record.topic == EVENTS and record.key != PARTITION_WIDE_KEY and record.value is not None:
                self._add(record.key.partition("/")[0], "taken", value=record.value)

    def refuse(self, tenant: str, raw: bytes, field: str | None, reason: str) -> None:
        """Of an event about somebody who was erased only the reason is kept."""
        sent = None if reason == ERASED_REASON else _shown(raw)
        self._add(tenant, "refused", sent=sent, field=field, reason=reason)

    def leave_out(self, tenant: str, reason: str) -> None:
        """An event that nobody has consented to."""
        self._add(tenant, "not_stored", reason=reason)

    def of(self, tenant: str, erased: ErasedPeople) -> list[RecentEvent]:
        """The newest first, without what names a person who was erased since. What refused events said goes with every erasure: it
        may name the person in the middle of a text.
        """
        kept = self._by_tenant.get(tenant)
        if kept is None:
            return []
        erasures = len(erased.hashes(tenant))
        if erasures > self._erasures.get(tenant, 0):
            self._erasures[tenant] = erasures
            for index, each in enumerate(kept):
                kept[index] = each._replace(sent=None)
        return [each for each in reversed(kept) if not _names_erased(each, erased)]

    def _add(self, tenant: str, outcome: DoorOutcome, **what: Any) -> None:
        kept = self._by_tenant.get(tenant)
        if kept is None:
            kept = self._by_tenant[tenant] = deque(maxlen=MOST_EVENTS)
            if len(self._by_tenant) > MOST_TENANTS:
                self._by_tenant.popitem(last=False)
        self._by_tenant.move_to_end(tenant)
        kept.append(RecentEvent(next(self._numbers), self.now(), outcome, **what))


def remembered_append(append: Append, recent: RecentEvents) -> Append:
    """Every event goes to the log through it, from whichever address it came."""

    async def remember(records: Sequence[Outgoing]) -> None:
        await append(records)
        recent.take(records)

    return remember


def _shown(raw: bytes) -> Mapping[str, Any] | None:
    """What was sent, without secrets; None: it is too large, or no object of JSON."""
    if len(raw) > LARGEST_SENT_BYTES:
        return None
    try:
        sent = json.decode(raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(sent, dict):
        return None
    shown: dict[str, Any] = _without_secrets(sent)
    return shown


def _without_secrets(value: Any, depth: int = 0) -> Any:
    if depth > DEEPEST_SHOWN:
        return None
    match value:
        case dict():
            return {
                key: _without_secrets(each, depth + 1)
                for key, each in value.items()
                if key.lower() not in SECRET_FIELDS
            }
        case list():
            return [_without_secrets(each, depth + 1) for each in value]
        case _:
            return value


def _names_erased(kept: RecentEvent, erased: ErasedPeople) -> bool:
    event = kept.event() if erased else None
    return event is not None and erased.is_named_in(event)

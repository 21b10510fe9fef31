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
from typing import Any, Final, Literal, NamedTuple, get_args

from msgspec import DecodeError, json

from gateway.door.erased import ERASED_REASON
from schemas.decode import decode_source
from schemas.envelope import Event
from schemas.record import Outgoing
from schemas.topics import EVENTS, PARTITION_WIDE_KEY
from scoring.features.erased_people import ErasedPeople, NameKind, PersonName

MOST_EVENTS: Final = 1_000
"""Of a tenant that are kept."""
MOST_TENANTS: Final = 200
"""Those whose events came last are kept."""
LARGEST_SENT_BYTES: Final = 4_000
"""Of a refused event that are kept, to be shown; a larger one is shown without what was sent."""
SECRET_FIELDS: Final = frozenset({"lead_signature"})
"""What proves who somebody is, and is stored nowhere."""

NAME_KINDS: Final[tuple[NameKind, ...]] = get_args(NameKind)

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
        """The newest first, without what names a person who was erased since."""
        kept = self._by_tenant.get(tenant, ())
        return [each for each in reversed(kept) if not _names_erased(each, tenant, erased)]

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
    return {key: value for key, value in sent.items() if key not in SECRET_FIELDS}


def _names_erased(kept: RecentEvent, tenant: str, erased: ErasedPeople) -> bool:
    if erased.salt(tenant) is None:
        return False
    event = kept.event()
    if event is not None:
        return erased.is_named_in(event)
    # What was refused may have a name anywhere.
    names = (PersonName(kind, text) for text in _texts_in(kept.sent) for kind in NAME_KINDS)
    return any(erased.contains(tenant, name) for name in names)


def _texts_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            yield from itertools.chain.from_iterable(map(_texts_in, value.values()))
        case list():
            yield from itertools.chain.from_iterable(map(_texts_in, value))

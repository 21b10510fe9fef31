"""The state of one shard in memory, encoded, with what its changelog must learn of each change.

A changelog holds the newest value per key and part; read from its beginning, or from where a memory
stands, it gives this memory again. The shard's position in its source is one of its records, so state
and position cannot part. Nothing here does I/O or reads a clock.
"""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, NamedTuple

from schemas.record import Record
from schemas.topics import SHARED
from scoring.features.features import NewerCodec
from streams.engine.shard import Outcome, Stage

SEPARATOR = "\0"
"""Between key and part in a changelog record's key; no key of ours contains it."""
TIMER = ""
"""The part under which a key's due moment stands, in decimal milliseconds."""
POSITION = SEPARATOR.encode()
"""The changelog key of the shard's position in its source: no key, no part."""
_NUMBER = re.compile(rb"-?[0-9]{1,19}")

FORMAT = 1
"""Of all that changelogs hold. Raised with the codec of any part, and whenever the meaning of a part changes:
a worker reads its own format and older ones, and refuses a newer one.
"""
FORMAT_KEY = f"{SEPARATOR}format".encode()
"""The changelog key of the format: no key, a part that no fold writes."""


class Change(NamedTuple):
    """A changelog record. `value` None is a tombstone."""

    key: bytes
    value: bytes | None


class StateStore:
    """`streams.engine.shard.Parts`, and how far source and changelog are contained."""

    def __init__(self) -> None:
        self.position: int | None = None
        """Of the next record to fold; None: nothing was ever folded."""
        self.changelog_position = 0
        """Up to here the changelog is contained."""
        self.size = 0
        """Bytes of encoded state."""
        self._format = 0
        """What the changelog says of itself; 0: nothing, as of the first versions, which wrote format 1."""
        self._parts: dict[str, dict[str, bytes]] = {}
        self._sorted: list[str] | None = None
        """The keys in order, until one comes or goes."""
        self._dues: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        """(due, key), earliest first; entries that no longer hold are passed over."""
        self._woken: set[str] = set()
        """Keys that were told that their time has come, and have not folded it yet."""

    def __len__(self) -> int:
        """How many keys are held."""
        return len(self._parts)

    def load(self, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        return {key: dict(parts) for key in keys if (parts := self._parts.get(key)) is not None}

    def keys_after(self, after: str, limit: int) -> list[str]:
        if self._sorted is None:
            # By code point, which is the order of UTF-8 bytes, too.
            self._sorted = sorted(key for key in self._parts if key != SHARED)
        begin = bisect_right(self._sorted, after)
        return self._sorted[begin : begin + limit]

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Takes one record of the changelog. Raises NewerCodec; ValueError, and has changed nothing, for one that is
        no state.
        """
        if key == POSITION:
            position = _number(value, "the position that the state contains")
            if position < 0:
                raise ValueError(f"the position that the state contains is negative: {position}")
            self.position = position
            return
        if key == FORMAT_KEY:
            written = _number(value, "the format of the state") if value is not None else 0
            if written > FORMAT:
                raise NewerCodec(
                    f"a newer version of Leadstream wrote this state (format {written}, this version reads up to "
                    f"{FORMAT}): upgrade this worker, or end it and leave its partitions to newer ones"
                )
            self._format = written
            return
        name, separator, part = key.decode().partition(SEPARATOR)
        if not name or not separator:
            raise ValueError(f"its key is none of the state: {name[:80]!a}")
        if part == TIMER:
            fires_at = None if value is None else _number(value, "the moment at which a timer fires")
            self._woken.discard(name)  # whoever wrote this has folded what we told
            self._set_due(name, fires_at)
        else:
            self._set(name, part, value)

    def put(self, outcome: Outcome, position: int) -> Iterator[Change]:
        """Takes what a fold asks for, and gives what the changelog must learn, except the position."""
        self.position = position
        for (key, part), value in outcome.parts.items():
            self._set(key, part, value)
            yield Change(f"{key}{SEPARATOR}{part}".encode(), value)
        yield from self.put_timers(outcome.timers)

    def put_timers(self, dues: Mapping[str, int | None]) -> Iterator[Change]:
        for key, due in dues.items():
            self._woken.discard(key)
            if self._dues.get(key) != due:
                self._set_due(key, due)
                value = None if due is None else b"%d" % due
                yield Change(f"{key}{SEPARATOR}{TIMER}".encode(), value)

    def at_position(self) -> Iterator[Change]:
        """What the changelog must learn of the position, and once, of who writes now."""
        if self._format != FORMAT:
            self._format = FORMAT
            yield Change(FORMAT_KEY, b"%d" % FORMAT)
        yield Change(POSITION, None if self.position is None else b"%d" % self.position)

    def due_keys(self, now: int, limit: int) -> list[str]:
        """Keys whose due has come and that were not told yet, the longest overdue first."""
        return list(islice(self._overdue(now), limit))

    def mark_woken(self, keys: Collection[str]) -> None:
        """These were told; until they fold it, they are not told again."""
        self._woken.update(keys)

    def _overdue(self, now: int) -> Iterator[str]:
        """Puts back what it looked at: a key stays due until it has folded that."""
        kept: set[tuple[int, str]] = set()
        try:
            while self._queue and self._queue[0][0] <= now:
                due, key = entry = heappop(self._queue)
                if self._dues.get(key) == due and entry not in kept:
                    kept.add(entry)
                    if key not in self._woken:
                        yield key
        finally:
            for entry in kept:
                heappush(self._queue, entry)

    def _set(self, key: str, part: str, value: bytes | None) -> None:
        parts = self._parts.get(key)
        if parts is None:
            if value is None:
                return
            parts = self._parts[key] = {}
            self._sorted = None
        elif part in parts:
            self.size -= len(parts[part])
        if value is not None:
            parts[part] = value
            self.size += len(value)
            return
        parts.pop(part, None)
        if not parts:
            del self._parts[key]
            self._sorted = None

    def _set_due(self, key: str, due: int | None) -> None:
        if due is None:
            self._dues.pop(key, None)
            return
        self._dues[key] = due
        heappush(self._queue, (due, key))
        if len(self._queue) > 1_000 + 2 * len(self._dues):
            self._queue = [(at, name) for name, at in self._dues.items()]
            heapify(self._queue)


def is_state(stage: Stage[Any, Any], record: Record) -> bool:
    """Whether a worker can go on from what this record of a changelog says."""
    key = record.key.encode(errors="surrogateescape")
    memory = StateStore()
    try:
        memory.restore(key, record.value)
        for name, parts in memory.load([key.decode().partition(SEPARATOR)[0]]).items():
            if name == SHARED:
                stage.open_shared(parts)
            else:
                stage.open(name, parts)
    except NewerCodec:
        return key == FORMAT_KEY  # the version that wrote it goes on from it: nobody may skip it
    except Exception:  # noqa: BLE001 - decoders raise what they like
        return False
    return True


def _number(value: bytes | None, what: str) -> int:
    if value is None or not _NUMBER.fullmatch(value):
        raise ValueError(f"{what} is no number: {value and value[:80]!a}")
    return int(value)

"""The state store: the encoded state of one shard in memory, and the changelog records of each change.

A changelog keeps the newest value per key and part. Reading it from its beginning, or from the store's
`changelog_position`, restores the store. The shard's position in its source is one of its records, so state
and position cannot diverge. Nothing here does I/O or reads a clock.
"""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, NamedTuple

from schemas.record import Record
from schemas.topics import PARTITION_WIDE_KEY
from scoring.features.features import NewerCodec
from streams.engine.shard import ShardChanges, Stage

KEY_SEPARATOR = "\0"
"""Between key and part in a changelog record's key; no key of ours contains it."""
TIMER_PART = ""
"""The part that says when a key's timer fires, in decimal milliseconds."""
POSITION_KEY = KEY_SEPARATOR.encode()
"""The changelog key of the shard's position in its source: no key, no part."""
_NUMBER = re.compile(rb"-?[0-9]{1,19}")

STATE_FORMAT = 5
"""Of all that changelogs contain. Raised with the codec of any part, and whenever the meaning of a part changes:
a worker reads its own format and older ones, and refuses a newer one.
"""
STATE_FORMAT_KEY = f"{KEY_SEPARATOR}format".encode()
"""The changelog key of the format: no key, a part that no fold writes."""


class ChangelogRecord(NamedTuple):
    """A changelog record. `value` None is a tombstone."""

    key: bytes
    value: bytes | None


class StateStore:
    """`streams.engine.shard.ShardParts`, and how much of source and changelog it contains."""

    def __init__(self) -> None:
        self.position: int | None = None
        """Of the next record to fold; None: nothing was ever folded."""
        self.changelog_position = 0
        """The store contains the changelog up to here."""
        self.size = 0
        """Bytes of encoded state."""
        self._format = 0
        """The format that the changelog names; 0: none, as the first versions wrote format 1 without naming it."""
        self._parts: dict[str, dict[str, bytes]] = {}
        self._sorted: list[str] | None = None
        """The keys in order, until one is added or removed."""
        self._timers: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        """(fires_at, key), earliest first; entries of replaced timers are skipped."""
        self._woken: set[str] = set()
        """Keys that were woken and have not folded their wake-up record yet."""

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._parts)

    def load(self, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        return {key: dict(parts) for key in keys if (parts := self._parts.get(key)) is not None}

    def keys_after(self, after: str, limit: int) -> list[str]:
        if self._sorted is None:
            # By code point, which is the order of UTF-8 bytes, too.
            self._sorted = sorted(key for key in self._parts if key != PARTITION_WIDE_KEY)
        begin = bisect_right(self._sorted, after)
        return self._sorted[begin : begin + limit]

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Takes one record of the changelog. Raises NewerCodec; ValueError, and has changed nothing, for one that is
        no state.
        """
        if key == POSITION_KEY:
            position = _read_number(value, "the position that the state contains")
            if position < 0:
                raise ValueError(f"the position that the state contains is negative: {position}")
            self.position = position
            return
        if key == STATE_FORMAT_KEY:
            written = _read_number(value, "the format of the state") if value is not None else 0
            if written > STATE_FORMAT:
                raise NewerCodec(
                    f"a newer version of Leadstream wrote this state (format {written}, this version reads up to "
                    f"{STATE_FORMAT}): upgrade this worker, or end it and leave its partitions to newer ones"
                )
            self._format = written
            return
        name, separator, part = key.decode().partition(KEY_SEPARATOR)
        if not name or not separator:
            raise ValueError(f"its key is none of the state: {name[:80]!a}")
        if part == TIMER_PART:
            fires_at = None if value is None else _read_number(value, "the moment at which a timer fires")
            self._woken.discard(name)  # its writer has folded the wake-up record
            self._set_timer(name, fires_at)
        else:
            self._set(name, part, value)

    def put(self, changes: ShardChanges, position: int) -> Iterator[ChangelogRecord]:
        """Applies what folds have changed up to `position`; yields its changelog records, except the position."""
        self.position = position
        for (key, part), value in changes.parts.items():
            self._set(key, part, value)
            yield ChangelogRecord(f"{key}{KEY_SEPARATOR}{part}".encode(), value)
        yield from self.put_timers(changes.timers)

    def put_timers(self, timers: Mapping[str, int | None]) -> Iterator[ChangelogRecord]:
        for key, fires_at in timers.items():
            self._woken.discard(key)
            if self._timers.get(key) != fires_at:
                self._set_timer(key, fires_at)
                value = None if fires_at is None else b"%d" % fires_at
                yield ChangelogRecord(f"{key}{KEY_SEPARATOR}{TIMER_PART}".encode(), value)

    def position_changes(self) -> Iterator[ChangelogRecord]:
        """The changelog records of the position and, once, of the format."""
        if self._format != STATE_FORMAT:
            self._format = STATE_FORMAT
            yield ChangelogRecord(STATE_FORMAT_KEY, b"%d" % STATE_FORMAT)
        yield ChangelogRecord(POSITION_KEY, None if self.position is None else b"%d" % self.position)

    def due_keys(self, now: int, limit: int) -> list[str]:
        """Keys whose timer fires by `now` and that were not woken yet, the longest overdue first."""
        return list(islice(self._overdue(now), limit))

    def mark_woken(self, keys: Collection[str]) -> None:
        """Keys that were sent a wake-up record get no other one until they have folded it."""
        self._woken.update(keys)

    def _overdue(self, now: int) -> Iterator[str]:
        """Puts back what it looked at: a timer stays until the key has folded its wake-up record."""
        seen: set[tuple[int, str]] = set()
        try:
            while self._queue and self._queue[0][0] <= now:
                fires_at, key = entry = heappop(self._queue)
                if self._timers.get(key) == fires_at and entry not in seen:
                    seen.add(entry)
                    if key not in self._woken:
                        yield key
        finally:
            for entry in seen:
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

    def _set_timer(self, key: str, fires_at: int | None) -> None:
        if fires_at is None:
            self._timers.pop(key, None)
            return
        self._timers[key] = fires_at
        heappush(self._queue, (fires_at, key))
        if len(self._queue) > 1_000 + 2 * len(self._timers):
            self._queue = [(at, name) for name, at in self._timers.items()]
            heapify(self._queue)


def is_state_record(stage: Stage[Any, Any], record: Record) -> bool:
    """Whether a worker can go on from what this record of a changelog says."""
    key = record.key.encode(errors="surrogateescape")
    store = StateStore()
    try:
        store.restore(key, record.value)
        for name, parts in store.load([key.decode().partition(KEY_SEPARATOR)[0]]).items():
            if name == PARTITION_WIDE_KEY:
                stage.open_shared(parts)
            else:
                stage.open(name, parts)
    except NewerCodec:
        return key == STATE_FORMAT_KEY  # the version that wrote it goes on from it: nobody may skip it
    except Exception:  # noqa: BLE001 - decoders raise what they like
        return False
    return True


def _read_number(value: bytes | None, what: str) -> int:
    if value is None or not _NUMBER.fullmatch(value):
        raise ValueError(f"{what} is no number: {value and value[:80]!a}")
    return int(value)

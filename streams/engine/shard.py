"""A shard: the state of one partition of one stage, and folding chunks of records into it.

A chunk goes in, an `Outcome` comes out: what to write where. The shard itself writes nothing and
reads no clock. Whoever drives it stores outputs, parts and the new position in one transaction, or
stores nothing and calls `forget`; so every driver gives the same results.

State is kept per key in parts, each encoded with its codec's version; folding a chunk rewrites
only the parts that it touched. Decoded states of hot keys stay in a bounded cache.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from schemas.decode import Refusal, encode_dead_letter
from schemas.record import Outgoing, Record
from schemas.refusal import shorten
from schemas.statements import DeadLetter
from schemas.topics import DEAD_LETTERS, SHARED, partition_of

MOST_ORIGINAL_BYTES = 1_000_000
"""Of a record that cannot be read: its letter, in base64, must fit where any producer's record did."""
MOST_KEY_CHARACTERS = 1_024
"""Characters."""

StateT = TypeVar("StateT", bound="State")
SharedT = TypeVar("SharedT", bound="SharedState")
Decoded = TypeVar("Decoded")
Message = Any
"""What a stage's decoder makes of a record."""


class Parts(Protocol):
    """Read access to what is stored of one shard."""

    def load(self, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        """Every stored part of each key; keys without any may be missing."""

    def keys_after(self, after: str, limit: int) -> list[str]:
        """The next keys in ascending order of their UTF-8 bytes, without `SHARED`."""


class State(Protocol):
    """The decoded state of one key."""

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since the last call, encoded; None for one that is gone."""

    def due(self) -> int | None:
        """No time before this changes anything by itself; None: none ever does."""


class SharedState(Protocol):
    """The decoded state of the whole shard."""

    def changes(self) -> dict[str, bytes | None]: ...


class Emit(Protocol):
    def __call__(self, topic: str, key: str, value: bytes | None) -> None: ...


class Stage(Protocol[SharedT, StateT]):
    """One fold: how to read its records, and one step for a key and for the whole shard."""

    name: str
    source: str

    def decode(self, record: Record) -> Message:
        """Raises Refusal."""

    def key_of(self, message: Message) -> str | None:
        """Whose state it concerns; None: the whole shard's."""

    def open_shared(self, parts: dict[str, bytes]) -> SharedT: ...

    def open(self, key: str, parts: dict[str, bytes]) -> StateT: ...

    def evolve(self, shared: SharedT, state: StateT, message: Message, origin: str, emit: Emit) -> None:
        """One record into one key's state. Total: it never raises on a record that decoded."""

    def begin(self, shared: SharedT, message: Message) -> str | None:
        """A record for the whole shard: where its sweep stands (the last key visited, "" before the
        first), or None when it needs none, or none any more.
        """

    def visit(self, shared: SharedT, state: StateT, message: Message, origin: str, emit: Emit) -> None:
        """The sweep of such a record visits one key."""

    def visited(self, shared: SharedT, message: Message, cursor: str | None) -> None:
        """The sweep has come to `cursor`; None: it is complete."""

    def settle(self, state: StateT, emit: Emit) -> None:
        """At the end of a chunk: say what is said once per chunk and key."""

    def timer(self, shared: SharedT, state: StateT, now: int) -> tuple[bool, int | None]:
        """(time alone has changed something by `now`, else when it next may)."""

    def wake(self, state: StateT, now: int) -> Outgoing:
        """The record that tells the key that `now` has come."""


class Outcome(NamedTuple):
    """What folding a chunk asks to be written, in one transaction."""

    outputs: list[Outgoing]
    parts: dict[tuple[str, str], bytes | None]
    """(key, part) -> its new value; None: it is gone."""
    timers: dict[str, int | None]
    """key -> the next moment (ms) at which time alone may change it; None: never."""
    applied: int
    """Records consumed; fewer than given while a sweep is under way."""
    misplaced: int = 0
    """Of them, those that stood in another partition than their key's."""


class Misplaced(Refusal):
    """A record in another partition than its key's: there, its key would be counted a second time."""

    def __init__(self, record: Record, key: str, belongs: int) -> None:
        super().__init__(
            "key",
            f"the record stands in partition {record.partition}, and {shorten(key)} belongs to partition {belongs}: "
            "set partitioner=murmur2_random at the producer, and `leadstream dead-letters retry` sends it in again",
        )


class FoldFailed(Exception):
    """A fold raised on a record that had decoded: a bug. Nothing of the chunk may be stored."""

    def __init__(self, record: Record, stage: str) -> None:
        super().__init__(f"{stage} failed on {record.topic}/{record.partition} at position {record.position}")
        self.record = record
        self.stage = stage


class StateUnreadableError(Exception):
    """What is stored of a key cannot be decoded: a newer version wrote it, or somebody else."""

    def __init__(
        self,
        stage: str,
        partition: int,
        key: str,
        decode: Callable[[dict[str, bytes]], object],
        cause: Exception,
    ) -> None:
        self.task_id = stage, partition
        self.key = key
        self.decode = decode
        """Raises on what is stored."""
        super().__init__(
            f"the state of {shorten(key)} in partition {partition} of {stage} cannot be read ({cause})"
        )


class Shard(Generic[SharedT, StateT]):
    """One partition's worth of a stage."""

    SWEEP_STEP = 500
    """Keys that one call of `fold` visits at most."""

    def __init__(
        self,
        stage: Stage[SharedT, StateT],
        partition: int,
        parts: Parts,
        *,
        cache_size: int = 1_000,
        partitions: int | None = None,
    ) -> None:
        self.stage = stage
        self.partition = partition
        self._partitions = partitions
        """Of the source, where strangers choose a record's partition; None: only we do."""
        self._parts = parts
        self.cache_size = cache_size
        self._states: dict[str, StateT] = {}
        self._shared: SharedT | None = None

    def forget(self) -> None:
        """Drop everything decoded: the transaction was rolled back."""
        self._states.clear()
        self._shared = None

    def fold(self, records: Sequence[Record]) -> Outcome:
        """Fold the records in order. Raises FoldFailed, naming the record, or StateUnreadableError; call
        `forget` then.
        """
        run = _Run(self.stage.settle)
        shared = self._open_shared()
        read = [self._read(record) for record in records]
        self._load({key for _, key in read if key is not None})
        states, touched, emit, evolve = self._states, run.touched, run.emit, self.stage.evolve
        origin_of = f"{self.partition}:%d"
        applied = 0
        for record, (message, key) in zip(records, read, strict=True):
            try:
                if key is not None:
                    touched[key] = state = states[key]
                    evolve(shared, state, message, origin_of % record.position, emit)
                elif not self._apply_to_all(shared, message, record, run):
                    break
            except Exception as error:
                raise FoldFailed(record, self.stage.name) from error
            applied += 1
        outcome = run.outcome(shared, applied)
        self._trim()
        return outcome

    def timers(self, keys: Sequence[str], now: int) -> tuple[list[Outgoing], dict[str, int | None]]:
        """For keys whose due has come: wake-up records for those that time has really changed, and
        the corrected dues of the others. Changes nothing.
        """
        shared = self._open_shared()
        self._load(set(keys))
        wake, dues = [], {}
        for key in keys:
            state = self._states[key]
            changed, due = self.stage.timer(shared, state, now)
            if changed:
                wake.append(self.stage.wake(state, now))
            else:
                dues[key] = due
        self._trim()
        return wake, dues

    def state(self, key: str) -> StateT:
        """The decoded state of a key as it is now."""
        self._load({key})
        return self._states[key]

    def _read(self, record: Record) -> tuple[Message | Refusal, str | None]:
        """(what it says, whose state it concerns)"""
        try:
            message = self.stage.decode(record)
            key = self.stage.key_of(message)
        except Refusal as refusal:
            return refusal, None
        except Exception as error:
            raise FoldFailed(record, self.stage.name) from error
        if key is not None and self._partitions is not None:
            belongs = partition_of(key, self._partitions)
            if belongs != record.partition:
                return Misplaced(record, key, belongs), None
        return message, key

    def _apply_to_all(self, shared: SharedT, message: Message | Refusal, record: Record, run: "_Run") -> bool:
        """What concerns no single key. Whether it is consumed: false while its sweep is under way."""
        if isinstance(message, Refusal):
            run.emit(
                DEAD_LETTERS,
                record.key[:MOST_KEY_CHARACTERS],
                dead_letter(record, message.reason, message.field),
            )
            run.misplaced += isinstance(message, Misplaced)
            return True
        origin = f"{record.partition}:{record.position}"
        cursor = self.stage.begin(shared, message)
        if cursor is None:
            return True
        # What this chunk changed is not stored yet, so a key made in it is only found in the cache.
        fresh = [k for k in run.touched if k > cursor]
        stored = self._parts.keys_after(cursor, self.SWEEP_STEP)
        keys = sorted({*fresh, *stored}, key=str.encode)
        more = len(stored) == self.SWEEP_STEP
        if more:
            keys = [k for k in keys if k <= stored[-1]]
        self._load(keys)
        for visited in keys:
            state = self._states[visited]
            run.touched[visited] = state
            self.stage.visit(shared, state, message, f"{origin}:{visited}", run.emit)
        self.stage.visited(shared, message, keys[-1] if more else None)
        return not more

    def _open_shared(self) -> SharedT:
        if self._shared is None:
            parts = self._parts.load([SHARED]).get(SHARED, {})
            self._shared = self._decoded(SHARED, self.stage.open_shared, parts)
        return self._shared

    def _load(self, keys: Iterable[str]) -> None:
        missing = []
        for key in keys:
            state = self._states.pop(key, None)
            if state is None:
                missing.append(key)
            else:
                self._states[key] = state  # newest last
        if missing:
            found = self._parts.load(missing)
            for key in missing:
                self._states[key] = self._decoded(key, partial(self.stage.open, key), found.get(key, {}))

    def _decoded(
        self, key: str, decode: Callable[[dict[str, bytes]], Decoded], parts: dict[str, bytes]
    ) -> Decoded:
        try:
            return decode(parts)
        except Exception as error:
            raise StateUnreadableError(self.stage.name, self.partition, key, decode, error) from error

    def _trim(self) -> None:
        surplus = len(self._states) - self.cache_size
        if surplus > 0:
            for key in list(islice(self._states, surplus)):
                del self._states[key]


class _Run:
    """What one call of `fold` gathers."""

    def __init__(self, settle: Callable[[Any, Emit], None]) -> None:
        self.outputs: list[Outgoing] = []
        self.touched: dict[str, Any] = {}
        self.misplaced = 0
        self._settle = settle

    def emit(self, topic: str, key: str, value: bytes | None) -> None:
        self.outputs.append(Outgoing(topic, key, value))

    def outcome(self, shared: SharedState, applied: int) -> Outcome:
        parts = {(SHARED, part): value for part, value in shared.changes().items()}
        dues = {}
        for key, state in self.touched.items():
            self._settle(state, self.emit)
            for part, value in state.changes().items():
                parts[key, part] = value
            dues[key] = state.due()
        return Outcome(self.outputs, parts, dues, applied, self.misplaced)


def dead_letter(record: Record, reason: str, field: str | None = None) -> bytes:
    """The dead letter of a record, encoded for the topic `dead-letters`."""
    original = record.value or b""
    if len(original) > MOST_ORIGINAL_BYTES:
        reason = f"{reason} (only the first {MOST_ORIGINAL_BYTES:,} of its {len(original):,} bytes are kept)"
    return encode_dead_letter(
        DeadLetter(
            topic=record.topic,
            partition=record.partition,
            position=record.position,
            reason=reason,
            field=field,
            key=record.key[:MOST_KEY_CHARACTERS],
            original=original[:MOST_ORIGINAL_BYTES],
        )
    )

"""A shard: the state of one partition of one stage, and folding chunks of records into it.

A chunk goes in, a `FoldOutcome` comes out; `changes` then says what to write of all chunks since the last call,
so a state is encoded once per transaction, however often it changed. The shard itself writes nothing and
reads no clock. Its driver stores outputs, parts and the new position in one transaction, or stores
nothing and calls `forget`; so every driver gives the same results.

State is kept per key in parts, each encoded with its codec's version; only the parts that were touched are
rewritten. Decoded states of hot keys stay in a bounded cache, and those that have changed until they are encoded.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from schemas.decode import Refusal, encode_dead_letter
from schemas.record import ERASED_KEY, Outgoing, Record
from schemas.refusal import shorten
from schemas.statements import DeadLetter
from schemas.topics import DEAD_LETTERS, LEAD_ACTIVITY, PARTITION_WIDE_KEY, partition_of

DEAD_LETTER_ORIGINAL_BYTES = 1_000_000
"""Of a record that cannot be read: its dead letter, in base64, must fit where any producer's record did."""
MOST_KEY_CHARACTERS = 1_024
"""Characters."""
REFUSED_PERSON = "the event names a person who was erased: it is refused, and nothing of it is kept"

StateT = TypeVar("StateT", bound="KeyState")
SharedT = TypeVar("SharedT", bound="SharedState")
StateT_contra = TypeVar("StateT_contra", contravariant=True)
SharedT_contra = TypeVar("SharedT_contra", contravariant=True)
Decoded = TypeVar("Decoded")
Message = Any
"""What a stage's decoder makes of a record."""


class ShardParts(Protocol):
    """Read access to what is stored of one shard."""

    def load(self, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        """Every stored part of each key; keys without any may be missing."""

    def keys_after(self, after: str, limit: int) -> list[str]:
        """The next keys in ascending order of their UTF-8 bytes, without `PARTITION_WIDE_KEY`."""


class KeyState(Protocol):
    """The decoded state of one key."""

    def changes(self) -> dict[str, bytes | None]:
        """The parts that changed since the last call, encoded; None for one that was removed."""


class SharedState(Protocol):
    """The decoded state of the whole shard."""

    def changes(self) -> dict[str, bytes | None]: ...


class Emit(Protocol):
    def __call__(self, topic: str, key: str, value: bytes | None) -> None: ...


class Stage(Protocol[SharedT, StateT]):
    """A fold: how to read its records, and one step for a key and for the whole shard. A stage may also implement
    `SweepingStage`, `TimedStage` and `SummarizingStage`; the shard looks once, when it is made.
    """

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

    def apply_to_all(self, shared: SharedT, message: Message) -> None:
        """One record that concerns the whole shard. Total, and again it changes nothing."""


@runtime_checkable
class SweepingStage(Protocol[SharedT_contra, StateT_contra]):
    """What a stage has besides if a record for the whole shard changes every key: a visit of each, in steps."""

    def sweep_cursor(self, shared: SharedT_contra, message: Message) -> str | None:
        """The last key that the record's sweep has visited, "" before the first; None: the record needs no sweep,
        or its sweep is complete.
        """

    def visit(
        self, shared: SharedT_contra, state: StateT_contra, message: Message, origin: str, emit: Emit
    ) -> None:
        """The record, into one key's state. Total, as `evolve`."""

    def move_cursor(self, shared: SharedT_contra, message: Message, cursor: str | None) -> None:
        """The sweep has visited every key up to `cursor`; None: it is complete."""


@runtime_checkable
class TimedStage(Protocol[SharedT_contra, StateT_contra]):
    """What a stage has besides if time alone changes its keys."""

    def next_timer(self, state: StateT_contra) -> int | None:
        """No time before this changes the key by itself; None: time never does."""

    def check_timer(self, shared: SharedT_contra, state: StateT_contra, now: int) -> tuple[bool, int | None]:
        """(whether time alone has changed something by `now`, else when it may next)."""

    def wake_up(self, state: StateT_contra, now: int) -> Outgoing:
        """The record that brings the key to `now`."""


@runtime_checkable
class RefusingStage(Protocol[SharedT_contra]):
    """What a stage has besides if nobody may keep some records: those that name a person who was erased."""

    def refuses(self, shared: SharedT_contra, message: Message) -> bool:
        """Whether the record is refused. It then changes nothing, and its dead letter has none of its bytes."""


@runtime_checkable
class SummarizingStage(Protocol[StateT_contra]):
    """What a stage has besides if it emits something once per transaction and key, however many records changed it."""

    def summarize(self, state: StateT_contra, emit: Emit) -> None: ...


class FoldOutcome(NamedTuple):
    """What folding a chunk emits, and how far it came."""

    outputs: list[Outgoing]
    applied: int
    """Records consumed; fewer than were passed in while a sweep is under way."""
    misplaced: int = 0
    """Of them, those that stood in another partition than their key's."""
    ends: Sequence[int] = ()
    """How many outputs there were after each of them."""
    refused: Sequence[int] = ()
    """The positions of records that name a person who was erased: nobody may keep them."""


class ShardChanges(NamedTuple):
    """What has changed since it was last collected: to be written in the transaction of the outputs."""

    outputs: list[Outgoing]
    """What is emitted once per transaction and key; it comes behind the outputs of the records."""
    parts: dict[tuple[str, str], bytes | None]
    """(key, part) -> its new value; None: it was removed."""
    timers: dict[str, int | None]
    """key -> when its timer fires: the next moment (ms) at which time alone may change it; None: never."""


class MisplacedRecord(Refusal):
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
        parts: ShardParts,
        *,
        cache_size: int = 1_000,
        partitions: int | None = None,
    ) -> None:
        self.stage = stage
        self._sweep: SweepingStage[SharedT, StateT] | None = (
            stage if isinstance(stage, SweepingStage) else None
        )
        self._timers: TimedStage[SharedT, StateT] | None = stage if isinstance(stage, TimedStage) else None
        self._summary: SummarizingStage[StateT] | None = (
            stage if isinstance(stage, SummarizingStage) else None
        )
        self._refusing: RefusingStage[SharedT] | None = stage if isinstance(stage, RefusingStage) else None
        self.partition = partition
        self._partitions = partitions
        """Of the source, where strangers choose a record's partition; None: only we do."""
        self._parts = parts
        self.cache_size = cache_size
        self._states: dict[str, StateT] = {}
        self._changed: dict[str, StateT] = {}
        """Those whose changes are not encoded yet; none of them leaves the cache."""
        self._shared: SharedT | None = None

    def forget(self) -> None:
        """Drop everything decoded: the transaction was rolled back."""
        self._states.clear()
        self._changed.clear()
        self._shared = None

    def fold(self, records: Sequence[Record]) -> FoldOutcome:
        """Fold the records in order. Raises FoldFailed, naming the record, or StateUnreadableError; call
        `forget` then.
        """
        chunk = _ChunkFold()
        shared = self._open_shared()
        read = self._read(records)
        self._load({key for _, key in read if key is not None})
        states, changed, ends, outputs = self._states, self._changed, chunk.ends, chunk.outputs
        emit, evolve, refusing = chunk.emit, self.stage.evolve, self._refusing
        origin_of = f"{self.partition}:%d"
        for record, (message, key) in zip(records, read, strict=True):
            try:
                if key is None:
                    if not self._apply_to_all(shared, message, record, chunk):
                        break
                elif refusing is not None and refusing.refuses(shared, message):
                    chunk.refuse(record)
                else:
                    changed[key] = state = states[key]
                    evolve(shared, state, message, origin_of % record.position, emit)
            except Exception as error:
                raise FoldFailed(record, self.stage.name) from error
            ends.append(len(outputs))
        return FoldOutcome(outputs, len(ends), chunk.misplaced, ends, chunk.refused)

    def changes(self) -> ShardChanges:
        """What all chunks since the last call have changed. Call it before the transaction of their outputs ends, and
        before anything but this shard reads what is stored of it.
        """
        summaries = _ChunkFold()
        parts: dict[tuple[str, str], bytes | None] = {}
        timers = {}
        if self._shared is not None:
            parts = {(PARTITION_WIDE_KEY, part): value for part, value in self._shared.changes().items()}
        for key, state in self._changed.items():
            if self._summary is not None:
                self._summary.summarize(state, summaries.emit)
            for part, value in state.changes().items():
                parts[key, part] = value
            if self._timers is not None:
                timers[key] = self._timers.next_timer(state)
        self._changed.clear()
        self._trim()
        return ShardChanges(summaries.outputs, parts, timers)

    def fire_timers(self, keys: Sequence[str], now: int) -> tuple[list[Outgoing], dict[str, int | None]]:
        """For keys whose timer fires by `now`: wake-up records for those that time has really changed, and
        the corrected timers of the others. Changes nothing.
        """
        if self._timers is None:
            return [], {}
        shared = self._open_shared()
        self._load(set(keys))
        wake_ups: list[Outgoing] = []
        timers: dict[str, int | None] = {}
        for key in keys:
            state = self._states[key]
            changed, fires_at = self._timers.check_timer(shared, state, now)
            if changed:
                wake_ups.append(self._timers.wake_up(state, now))
            else:
                timers[key] = fires_at
        self._trim()
        return wake_ups, timers

    def state(self, key: str) -> StateT:
        """The decoded state of a key as it is now."""
        self._load({key})
        return self._states[key]

    def _read(self, records: Sequence[Record]) -> list[tuple[Message | Refusal, str | None]]:
        """Of each record its decoded message, and the key whose state it concerns."""
        key_of, partitions = self.stage.key_of, self._partitions
        read: list[tuple[Message | Refusal, str | None]] = []
        for record in records:
            if record.key == ERASED_KEY and (record.value is None or record.topic == LEAD_ACTIVITY):
                read.append((_ERASED, None))
                continue
            try:
                message = self.stage.decode(record)
                key = key_of(message)
            except Refusal as refusal:
                read.append((refusal, None))
                continue
            except Exception as error:
                raise FoldFailed(record, self.stage.name) from error
            if key is not None and partitions is not None:
                belongs = partition_of(key, partitions)
                if belongs != record.partition:
                    read.append((MisplacedRecord(record, key, belongs), None))
                    continue
            read.append((message, key))
        return read

    def _apply_to_all(
        self, shared: SharedT, message: Message | Refusal, record: Record, chunk: "_ChunkFold"
    ) -> bool:
        """What concerns no single key. Whether it is consumed: false while its sweep is under way."""
        if message is _ERASED:
            return True
        if isinstance(message, Refusal):
            chunk.emit(
                DEAD_LETTERS,
                record.key[:MOST_KEY_CHARACTERS],
                encoded_dead_letter(record, message.reason, message.field),
            )
            chunk.misplaced += isinstance(message, MisplacedRecord)
            return True
        origin = f"{record.partition}:{record.position}"
        self.stage.apply_to_all(shared, message)
        if self._sweep is None:
            return True
        cursor = self._sweep.sweep_cursor(shared, message)
        if cursor is None:
            return True
        # What changed is not stored yet, so a new key is only found here.
        fresh = [k for k in self._changed if k > cursor]
        stored = self._parts.keys_after(cursor, self.SWEEP_STEP)
        keys = sorted({*fresh, *stored}, key=str.encode)
        more = len(stored) == self.SWEEP_STEP
        if more:
            keys = [k for k in keys if k <= stored[-1]]
        self._load(keys)
        for key in keys:
            self._changed[key] = state = self._states[key]
            self._sweep.visit(shared, state, message, f"{origin}:{key}", chunk.emit)
        self._sweep.move_cursor(shared, message, keys[-1] if more else None)
        return not more

    def _open_shared(self) -> SharedT:
        if self._shared is None:
            parts = self._parts.load([PARTITION_WIDE_KEY]).get(PARTITION_WIDE_KEY, {})
            self._shared = self._decoded(PARTITION_WIDE_KEY, self.stage.open_shared, parts)
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
            stored = self._parts.load(missing)
            for key in missing:
                self._states[key] = self._decoded(key, partial(self.stage.open, key), stored.get(key, {}))

    def _decoded(
        self, key: str, decode: Callable[[dict[str, bytes]], Decoded], parts: dict[str, bytes]
    ) -> Decoded:
        try:
            return decode(parts)
        except Exception as error:
            raise StateUnreadableError(self.stage.name, self.partition, key, decode, error) from error

    def _trim(self) -> None:
        """Only when nothing waits to be encoded: else a state that is opened again would lack its changes."""
        if self._changed:
            return
        surplus = len(self._states) - self.cache_size
        if surplus > 0:
            for key in list(islice(self._states, surplus)):
                del self._states[key]


_ERASED: Message = object()
"""What an erasure leaves of a record is read as this: nothing that any stage knows."""


class _ChunkFold:
    """What one call of `fold` emits."""

    def __init__(self) -> None:
        self.outputs: list[Outgoing] = []
        self.misplaced = 0
        self.refused: list[int] = []
        self.ends: list[int] = []

    def emit(self, topic: str, key: str, value: bytes | None) -> None:
        self.outputs.append(Outgoing(topic, key, value))

    def refuse(self, record: Record) -> None:
        """The dead letter says where the record stood, and nothing of what it said."""
        stub = record._replace(key=ERASED_KEY, value=None)
        self.emit(DEAD_LETTERS, ERASED_KEY, encoded_dead_letter(stub, REFUSED_PERSON))
        self.refused.append(record.position)


def encoded_dead_letter(record: Record, reason: str, field: str | None = None) -> bytes:
    """The dead letter of a record, encoded for the topic `dead-letters`."""
    original = record.value or b""
    if len(original) > DEAD_LETTER_ORIGINAL_BYTES:
        reason = f"{reason} (only the first {DEAD_LETTER_ORIGINAL_BYTES:,} of its {len(original):,} bytes are kept)"
    return encode_dead_letter(
        DeadLetter(
            topic=record.topic,
            partition=record.partition,
            position=record.position,
            reason=reason,
            field=field,
            key=record.key[:MOST_KEY_CHARACTERS],
            original=original[:DEAD_LETTER_ORIGINAL_BYTES],
        )
    )

"""Records of the log, as every reader and writer sees them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

LogPartition = tuple[str, int]
"""(topic, partition)"""


class Unreadable(NamedTuple):
    """Why positions of the log cannot be read: from `first` up to, but not including, `next`."""

    reason: str
    first: int
    next: int


class Record(NamedTuple):
    """A record: its position, key and value. A `value` of None is a tombstone."""

    topic: str
    partition: int
    position: int
    key: str
    value: bytes | None
    appended_at: int | None = None
    """When a broker appended it (ms); None if the log does not record that."""
    unreadable: Unreadable | None = None
    """If set, this record stands for records that cannot be read, and `value` is their bytes in the log."""


ERASED_KEY = "~erased"
"""The key of what an erasure leaves of a record in an embedded log. A stub has its position, and no value. What another
person's identity did while it belonged to the erased lead keeps its value, without the lead. No fold applies either.
"""


def is_stub(record: Record) -> bool:
    return record.value is None and record.key == ERASED_KEY


def stub_of(record: Record) -> Record:
    """What is kept of a record that names a person who was erased."""
    return Record(record.topic, record.partition, record.position, ERASED_KEY, None)


class Chunk(NamedTuple):
    """The records of one partition from position `start` up to, but not including, `next`.

    Some positions have no record: it was compacted, or the position marks a transaction. So a chunk without
    records still shows how far its reader has come.
    """

    topic: str
    partition: int
    start: int
    next: int
    records: Sequence[Record]


class Outgoing(NamedTuple):
    """A record to write. Without `partition`, its key decides the partition."""

    topic: str
    key: str
    value: bytes | None
    partition: int | None = None


class LogUnreadableError(Exception):
    """Reading cannot go on: the message names the position and the remedy."""

    def __init__(
        self, record: Record, unreadable: Unreadable, *, skipped: str = "it becomes a dead letter"
    ) -> None:
        self.slot: LogPartition = record.topic, record.partition
        self.position = record.position
        super().__init__(
            f"{record.topic}/{record.partition} at position {record.position} cannot be read: "
            f"{unreadable.reason}. `leadstream skip {record.topic} {record.partition} {record.position} "
            f"--reason WHY` skips it: {skipped}."
        )


def skip_reason(record: Record, skips: Mapping[int, str]) -> str | None:
    """The reason in the dead letter of a record that an operator skips; None: no skip was requested.

    Any position of an unreadable batch skips the whole batch.
    """
    broken = record.unreadable
    if broken is None:
        why = skips.get(record.position)
        return None if why is None else f"skipped: {why}"
    why = next((why for at, why in skips.items() if broken.first <= at < broken.next), None)
    if why is None:
        return None
    return f"skipped: {why} (positions {broken.first} to {broken.next - 1} cannot be read: {broken.reason})"

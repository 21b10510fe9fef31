"""A record of the log, as everything that reads or writes one sees it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

LogPartition = tuple[str, int]
"""(topic, partition)"""


class Unreadable(NamedTuple):
    """Why what the log holds cannot be read, and which positions that concerns: `first` up to `next`."""

    reason: str
    first: int
    next: int


class Record(NamedTuple):
    """Where it stands and what it says. `value` None is a tombstone."""

    topic: str
    partition: int
    position: int
    key: str
    value: bytes | None
    appended_at: int | None = None
    """When a broker appended it (ms); None where the log does not say."""
    unreadable: Unreadable | None = None
    """If set, this stands for records that nobody can read, and `value` is what the log holds of them."""


class Chunk(NamedTuple):
    """What one partition holds from position `start` up to `next`, which is not included.

    Positions in between without a record hold none: a compacted one, the mark of a transaction. So a
    chunk without records still says how far its reader has come.
    """

    topic: str
    partition: int
    start: int
    next: int
    records: Sequence[Record]


class Outgoing(NamedTuple):
    """A record to be written; without `partition` its key decides."""

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
    """What the dead letter of a record says that an operator asked to skip; None: nobody asked.

    A batch that cannot be read is skipped by any of its positions.
    """
    broken = record.unreadable
    if broken is None:
        why = skips.get(record.position)
        return None if why is None else f"skipped: {why}"
    why = next((why for at, why in skips.items() if broken.first <= at < broken.next), None)
    if why is None:
        return None
    return f"skipped: {why} (positions {broken.first} to {broken.next - 1} cannot be read: {broken.reason})"

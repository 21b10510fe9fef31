"""A record of the log, as everything that reads or writes one sees it."""

from collections.abc import Sequence
from typing import NamedTuple

Slot = tuple[str, int]
"""(topic, partition)"""


class Record(NamedTuple):
    """Where it stands and what it says. `value` None is a tombstone."""

    topic: str
    partition: int
    position: int
    key: str
    value: bytes | None
    appended_at: int | None = None
    """When a broker appended it (ms); None where the log does not say."""


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

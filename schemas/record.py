"""A record of the log, as everything that reads or writes one sees it."""

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


class Outgoing(NamedTuple):
    """A record to be written; without `partition` its key decides."""

    topic: str
    key: str
    value: bytes | None
    partition: int | None = None

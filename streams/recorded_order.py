"""The order in which events were recorded, across the partitions of a log. Pure.

A lead's events may be in several partitions: some under the visitor, some under the lead. Stages of the lifecycle
depend on their order, so a backlog is folded in the order of recording, not one partition after the other.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate, chain, takewhile
from typing import Final, NamedTuple, TypeVar

from msgspec import DecodeError, Struct, json

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
T = TypeVar("T")


class RecordedTimes(NamedTuple):
    """When an event was recorded and occurred. Both are long ago for a record of which nobody can tell."""

    recorded_at: datetime = LONG_AGO
    occurred_at: datetime = LONG_AGO
    imported: bool = False
    readable: bool = True

    def after(self, other: "RecordedTimes") -> "RecordedTimes":
        """The same, but no earlier than `other`, which its partition has before it."""
        if self[:2] >= other[:2]:
            return self
        return self._replace(recorded_at=other.recorded_at, occurred_at=other.occurred_at)


class _Times(Struct):
    recorded_at: datetime | None = None
    occurred_at: datetime | None = None
    imported: bool = False


_decode_times = json.Decoder(_Times).decode


def recorded_times(value: bytes) -> RecordedTimes:
    try:
        times = _decode_times(value)
    except DecodeError:
        return RecordedTimes(readable=False)
    recorded_at, occurred_at = times.recorded_at, times.occurred_at
    if recorded_at is None or recorded_at.tzinfo is None:
        return RecordedTimes(readable=recorded_at is None)
    if occurred_at is None or occurred_at.tzinfo is None:
        occurred_at = recorded_at
    return RecordedTimes(recorded_at, occurred_at, times.imported)


def in_order(times: Iterable[RecordedTimes]) -> Iterable[RecordedTimes]:
    """Those of one partition, whose own order stays: what was imported later follows what is before it."""
    return accumulate(times, lambda before, each: each.after(before))


def merged(partitions: Sequence[Iterable[tuple[RecordedTimes, T]]]) -> Iterator[T]:
    """What belongs to the records, in the order of recording. The times of each partition are `in_order`. Events of one
    request have one time of recording, so the time at which they occurred decides between them.
    """
    return (each for _, each in heapq.merge(*partitions, key=lambda timed: timed[0][:2]))


def windows(partitions: Sequence[Sequence[RecordedTimes]], more: Sequence[bool]) -> list[int]:
    """How many of the next records of each partition can be folded together, so that no import runs ahead of another
    partition's. `more`: whether the partition has records behind these. Live events never wait for a partition with a
    longer backlog. At least one partition can fold all of its records.
    """
    horizon = min(
        (times[-1][:2] for times, follow in zip(partitions, more, strict=True) if times and follow),
        default=None,
    )
    if horizon is None:
        return [len(times) for times in partitions]
    return [
        sum(1 for _ in takewhile(lambda each: not each.imported or each[:2] <= horizon, times))
        for times in partitions
    ]


def merged_outputs(
    partitions: Sequence[tuple[Sequence[RecordedTimes], Sequence[int], Sequence[T]]],
) -> list[T]:
    """The outputs of all partitions in the order of their records. Of each partition: the times of its records, how many
    outputs there were after each record, and the outputs; what is behind belongs to the last record.
    """
    return list(chain.from_iterable(merged([_by_record(*each) for each in partitions])))


def _by_record(
    times: Sequence[RecordedTimes], ends: Sequence[int], outputs: Sequence[T]
) -> list[tuple[RecordedTimes, Sequence[T]]]:
    begins = [0, *ends]
    shares = [(each, outputs[begin:end]) for each, begin, end in zip(times, begins, ends, strict=False)]
    rest = outputs[begins[-1] :]
    return [*shares, (times[min(len(ends), len(times) - 1)], rest)] if rest else shares

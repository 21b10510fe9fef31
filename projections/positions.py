"""The positions that each schema's tables contain, and the lock that makes every record count once.

A writer first locks the positions of its partitions and goes on from them. It commits rows and positions together. A
rebuild swaps schemas only while no writer is inside a transaction, so a writer that waited for it reads the positions of
the new tables.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg

from schemas.record import Chunk, LogPartition, Record

_LOCK_TABLE: LiteralString = "lock table public.positions in row exclusive mode"
_LOCK_POSITIONS: LiteralString = """
  select p.topic, p.partition, p.position
  from public.positions p join unnest(%b::text[], %b::int4[]) as s (topic, partition) using (topic, partition)
  where p.generation = %b order by p.topic, p.partition for update of p
"""
_INSERT_MISSING: LiteralString = """
  insert into public.positions (generation, topic, partition, position)
  select %b, topic, partition, -1 -- the first position is 0
  from unnest(%b::text[], %b::int4[]) as s (topic, partition)
  order by topic, partition on conflict do nothing
"""
_INSERT_FIRST: LiteralString = """
  insert into public.positions (generation, topic, partition, position)
  select %b, topic, partition, position
  from unnest(%b::text[], %b::int4[], %b::int8[]) as s (topic, partition, position)
  order by topic, partition on conflict do nothing
"""
_UPDATE_POSITIONS: LiteralString = """
  update public.positions p set position = s.position
  from unnest(%b::text[], %b::int4[], %b::int8[]) as s (topic, partition, position)
  where p.generation = %b and p.topic = s.topic and p.partition = s.partition
"""


class PositionGapError(ValueError):
    """Records are missing between those that the tables contain and the next ones."""


def lock_positions(
    cursor: psycopg.Cursor[Any], generation: str, log_partitions: Sequence[LogPartition]
) -> dict[LogPartition, int]:
    """The last position that the tables contain of each partition. No other transaction changes them until this one ends."""
    topics, partitions = (
        [log_partition[0] for log_partition in log_partitions],
        [log_partition[1] for log_partition in log_partitions],
    )
    cursor.execute(_LOCK_TABLE)
    contained = _locked(cursor, generation, topics, partitions)
    if len(contained) < len(log_partitions):
        cursor.execute(_INSERT_MISSING, (generation, topics, partitions))
        contained = _locked(cursor, generation, topics, partitions)
    return contained


def _locked(
    cursor: psycopg.Cursor[Any], generation: str, topics: list[str], partitions: list[int]
) -> dict[LogPartition, int]:
    cursor.execute(_LOCK_POSITIONS, (topics, partitions, generation))
    return {(topic, partition): position for topic, partition, position in cursor}


def begin_positions(cursor: psycopg.Cursor[Any], generation: str, last: Mapping[LogPartition, int]) -> None:
    """Sets the last position of partitions that the tables do not know yet; the others keep theirs."""
    cursor.execute(_LOCK_TABLE)
    cursor.execute(_INSERT_FIRST, (generation, *_arrays(last)))


def advance_positions(
    cursor: psycopg.Cursor[Any], generation: str, reached: Mapping[LogPartition, int]
) -> None:
    cursor.execute(_UPDATE_POSITIONS, (*_arrays(reached), generation))


def _arrays(reached: Mapping[LogPartition, int]) -> tuple[list[str], list[int], list[int]]:
    return (
        [log_partition[0] for log_partition in reached],
        [log_partition[1] for log_partition in reached],
        list(reached.values()),
    )


def new_records(
    records: Sequence[Record], contained: Mapping[LogPartition, int]
) -> tuple[list[Record], dict[LogPartition, int]]:
    """The records that the tables do not contain yet, and the positions after them. Raises PositionGapError."""
    reached = dict(contained)
    new = []
    for record in records:
        log_partition = record.topic, record.partition
        last = reached[log_partition]
        if record.position <= last:
            continue
        if record.position != last + 1:
            raise PositionGapError(
                f"{record.topic}/{record.partition}: the read models contain positions up to {last}, and the next "
                f"record is {record.position}: records {last + 1} to {record.position - 1} are missing. "
                "Run `leadstream rebuild`: it keeps what is there, and names what is lost forever."
            )
        reached[log_partition] = record.position
        new.append(record)
    return new, {
        log_partition: position
        for log_partition, position in reached.items()
        if position != contained[log_partition]
    }


def new_records_of_chunks(
    chunks: Sequence[Chunk], contained: Mapping[LogPartition, int]
) -> tuple[list[Record], dict[LogPartition, int]]:
    """As `new_records`, of chunks: positions without a record count as contained, too."""
    reached = dict(contained)
    new: list[Record] = []
    for chunk in chunks:
        log_partition = chunk.topic, chunk.partition
        last = reached[log_partition]
        if chunk.start > last + 1:
            raise PositionGapError(
                f"{chunk.topic}/{chunk.partition}: the read models contain positions up to {last}, and the next ones "
                f"begin at {chunk.start}: {last + 1} to {chunk.start - 1} are missing. Run `leadstream rebuild`: it "
                "keeps what is there, and names what is lost forever."
            )
        if chunk.next - 1 > last:
            new.extend(record for record in chunk.records if record.position > last)
            reached[log_partition] = chunk.next - 1
    return new, {
        log_partition: position
        for log_partition, position in reached.items()
        if position != contained[log_partition]
    }

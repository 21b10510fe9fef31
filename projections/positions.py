"""How far each schema's tables have come, and the fence that makes every record count once.

A writer locks the positions of its partitions before anything else and goes on from what it reads;
rows and positions are committed together. A rebuild swaps schemas only while no writer is inside a
transaction, so a writer that waited for it reads what the new tables contain.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg

from schemas.record import Chunk, LogPartition, Record

_ENTER: LiteralString = "lock table public.positions in row exclusive mode"
_LOCK: LiteralString = """
  select p.topic, p.partition, p.position
  from public.positions p join unnest(%b::text[], %b::int4[]) as s (topic, partition) using (topic, partition)
  where p.generation = %b order by p.topic, p.partition for update of p
"""
_OPEN: LiteralString = """
  insert into public.positions (generation, topic, partition, position)
  select %b, topic, partition, -1 -- the first position is 0
  from unnest(%b::text[], %b::int4[]) as s (topic, partition)
  order by topic, partition on conflict do nothing
"""
_BEGIN: LiteralString = """
  insert into public.positions (generation, topic, partition, position)
  select %b, topic, partition, position
  from unnest(%b::text[], %b::int4[], %b::int8[]) as s (topic, partition, position)
  order by topic, partition on conflict do nothing
"""
_ADVANCE: LiteralString = """
  update public.positions p set position = s.position
  from unnest(%b::text[], %b::int4[], %b::int8[]) as s (topic, partition, position)
  where p.generation = %b and p.topic = s.topic and p.partition = s.partition
"""


class PositionGapError(ValueError):
    """Records are missing between what the tables contain and what was brought."""


def lock(
    cursor: psycopg.Cursor[Any], generation: str, slots: Sequence[LogPartition]
) -> dict[LogPartition, int]:
    """The last position contained per slot, which nobody else moves until this transaction ends."""
    topics, partitions = [slot[0] for slot in slots], [slot[1] for slot in slots]
    cursor.execute(_ENTER)
    found = _locked(cursor, generation, topics, partitions)
    if len(found) < len(slots):
        cursor.execute(_OPEN, (generation, topics, partitions))
        found = _locked(cursor, generation, topics, partitions)
    return found


def _locked(
    cursor: psycopg.Cursor[Any], generation: str, topics: list[str], partitions: list[int]
) -> dict[LogPartition, int]:
    cursor.execute(_LOCK, (topics, partitions, generation))
    return {(topic, partition): position for topic, partition, position in cursor}


def begin(cursor: psycopg.Cursor[Any], generation: str, last: Mapping[LogPartition, int]) -> None:
    """Where partitions begin of which the tables contain nothing yet; the others stay where they are."""
    cursor.execute(_ENTER)
    cursor.execute(_BEGIN, (generation, *_arrays(last)))


def advance(cursor: psycopg.Cursor[Any], generation: str, reached: Mapping[LogPartition, int]) -> None:
    cursor.execute(_ADVANCE, (*_arrays(reached), generation))


def _arrays(reached: Mapping[LogPartition, int]) -> tuple[list[str], list[int], list[int]]:
    return [slot[0] for slot in reached], [slot[1] for slot in reached], list(reached.values())


def new_records(
    records: Sequence[Record], held: Mapping[LogPartition, int]
) -> tuple[list[Record], dict[LogPartition, int]]:
    """The records not contained yet, and where they lead. Raises PositionGapError."""
    reached = dict(held)
    new = []
    for record in records:
        slot = record.topic, record.partition
        last = reached[slot]
        if record.position <= last:
            continue
        if record.position != last + 1:
            raise PositionGapError(
                f"{record.topic}/{record.partition}: the read models contain positions up to {last}, and the next "
                f"record brought is {record.position}: records {last + 1} to {record.position - 1} are missing. "
                "Run `leadstream rebuild`: it keeps what is there, and names what is lost for good."
            )
        reached[slot] = record.position
        new.append(record)
    return new, {slot: position for slot, position in reached.items() if position != held[slot]}


def new_records_of_chunks(
    chunks: Sequence[Chunk], held: Mapping[LogPartition, int]
) -> tuple[list[Record], dict[LogPartition, int]]:
    """As `new_records`, of chunks: positions that hold no record count as contained too."""
    reached = dict(held)
    new: list[Record] = []
    for chunk in chunks:
        slot = chunk.topic, chunk.partition
        last = reached[slot]
        if chunk.start > last + 1:
            raise PositionGapError(
                f"{chunk.topic}/{chunk.partition}: the read models contain positions up to {last}, and the next ones "
                f"brought begin at {chunk.start}: {last + 1} to {chunk.start - 1} are missing. Run `leadstream rebuild`: it "
                "keeps what is there, and names what is lost for good."
            )
        if chunk.next - 1 > last:
            new.extend(record for record in chunk.records if record.position > last)
            reached[slot] = chunk.next - 1
    return new, {slot: position for slot, position in reached.items() if position != held[slot]}

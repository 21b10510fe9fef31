"""SQL of `public.backfills`: which signals of a publication are new, and how far they are counted. Nothing here commits.

Of the log, only the embedded one is read: it keeps the events in this database, with the positions of publications.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from projections.connection import Connection
from projections.public_rows import BackfillRow
from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import decode_source
from schemas.topics import EVENTS, PARTITION_WIDE_KEY

RECORDS_PER_STEP: Final = 100_000
"""Records whose visitors one step counts: a step folds them in memory."""


class PartitionStep(NamedTuple):
    """One step: of a partition's visitors before the publication, a share by the hash of their keys."""

    partition: int
    until: int
    steps: int
    step: int


async def insert_backfill(
    connection: psycopg.AsyncConnection[Any],
    publication: tuple[str, str, int, str, int],
    signals: Mapping[str, str],
    *,
    from_now: bool,
    at: datetime,
) -> None:
    """`publication`: tenant, model, version, text, folding. Again, it changes nothing."""
    await connection.execute(
        """insert into public.backfills (tenant, model, version, text, folding, signals, from_now, requested_at)
           values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing""",
        (*publication, Jsonb(dict(signals)), from_now, at),
    )


async def published_texts(
    connection: psycopg.AsyncConnection[Any], tenant: str, model: str, version: int
) -> list[tuple[str, int]]:
    """(text, folding) of whatever counted signals of the tenant before this version; of everybody for `*`."""
    cursor = await connection.execute(
        """select distinct text, folding from (
             select tenant, model, version, text, folding from live.publications
             union all
             select tenant, model, version, text, coalesce(folding, 1) from public.model_drafts
             where state in ('publishing', 'published')
           ) as each
           where text is not null and text <> '' and (%(tenant)s = %(everybody)s or tenant in (%(tenant)s, %(everybody)s))
             and (tenant, model, version) <> (%(tenant)s, %(model)s, %(version)s)""",
        {"tenant": tenant, "model": model, "version": version, "everybody": EVERY_TENANT},
    )
    return [(text, folding) for text, folding in await cursor.fetchall()]


async def follows_kafka(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the log is in Kafka, so that this database has no positions of publications."""
    cursor = await connection.execute("select exists (select from public.log_source)")
    row = await cursor.fetchone()
    return bool(row and row[0])


async def backfill_of(connection: psycopg.AsyncConnection[Any], tenant: str, model: str) -> list[BackfillRow]:
    """Those of a model that the tenant may see, newest first."""
    async with connection.cursor(row_factory=class_row(BackfillRow)) as cursor:
        await cursor.execute(
            """select * from public.backfills where tenant in (%s, %s) and model = %s
               order by requested_at desc, version desc limit 100""",
            (tenant, EVERY_TENANT, model),
        )
        return await cursor.fetchall()


def unfinished(connection: Connection) -> BackfillRow | None:
    """The oldest that is not complete."""
    with connection.cursor(row_factory=class_row(BackfillRow)) as cursor:
        return cursor.execute(
            """select * from public.backfills where completed_at is null and not from_now
               order by requested_at, tenant, model, version limit 1"""
        ).fetchone()


def positions_of_publication(connection: Connection, row: BackfillRow) -> dict[int, int] | None:
    """Partition -> position of the publication in `events`; None: not every partition has it yet."""
    (partitions,) = connection.execute("select partitions from public.format").fetchone() or (0,)
    positions: dict[int, int] = {}
    for partition, position, value in connection.execute(
        "select partition, position, value from public.records where topic = %s and key = %s order by 1, 2",
        (EVENTS, PARTITION_WIDE_KEY),
    ):
        source = decode_source(bytes(value))
        if isinstance(source, ModelPublished) and (source.tenant, source.model, source.version) == row[:3]:
            positions.setdefault(partition, position)
    return positions if len(positions) == partitions else None


def steps_of(positions: Mapping[int, int]) -> list[dict[str, int]]:
    """The `partitions` of a row before its first step."""
    return [
        {"until": positions[partition], "steps": 1 + positions[partition] // RECORDS_PER_STEP, "done": 0}
        for partition in sorted(positions)
    ]


def next_step(row: BackfillRow) -> PartitionStep | None:
    """The first that is not done."""
    for partition, each in enumerate(row.partitions or []):
        if each["done"] < each["steps"]:
            return PartitionStep(partition, each["until"], each["steps"], each["done"])
    return None


def records_of_step(connection: Connection, row: BackfillRow, step: PartitionStep) -> list[tuple[str, bytes]]:
    """(key, value) of the publications before the step's end, and of the events of its visitors, in order."""
    return [
        (key, bytes(value))
        for key, value in connection.execute(
            """select key, value from public.records
               where topic = %(topic)s and partition = %(partition)s and position < %(until)s and value is not null
                 and (key = %(wide)s or (
                   (%(tenant)s = %(everybody)s or starts_with(key, %(tenant)s || '/'))
                   and (hashtext(key) & 2147483647) %% %(steps)s = %(step)s))
               order by position""",
            {
                "topic": EVENTS,
                "wide": PARTITION_WIDE_KEY,
                "tenant": row.tenant,
                "everybody": EVERY_TENANT,
                **step._asdict(),
            },
        )
    ]


def save_progress(
    connection: Connection, row: BackfillRow, partitions: list[dict[str, int]], completed_at: datetime | None
) -> None:
    connection.execute(
        """update public.backfills set partitions = %s, completed_at = %s
           where (tenant, model, version) = (%s, %s, %s)""",
        (Jsonb(partitions), completed_at, *row[:3]),
    )


def left_of(row: BackfillRow) -> tuple[int, int] | None:
    """(records left, records in all) before the publication; None: not known yet."""
    if row.partitions is None:
        return None
    left = sum(each["until"] * (each["steps"] - each["done"]) // each["steps"] for each in row.partitions)
    return left, sum(each["until"] for each in row.partitions)

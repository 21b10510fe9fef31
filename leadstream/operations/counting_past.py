"""Counts signals that are new in the events before their publication, step by step.

A step reads its visitors' records, appends what it counted, and then notes that it is done. A process that ends in
between does the step again: the log has the same records twice, and the fold adds each signal once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import psycopg
import structlog

from authoring.problem import Problem
from gateway.ports import LogUnavailable
from projections.backfills import (
    PartitionStep,
    next_step,
    positions_of_publication,
    records_of_step,
    save_progress,
    steps_of,
    unfinished,
)
from projections.connection import connect_watched
from projections.public_rows import BackfillRow
from schemas.record import Outgoing
from streams.track_sessions.past_signals import NewSignals, past_counts

LOOK_SECONDS = 1.0
RECORDS_AT_ONCE = 500

_log = structlog.get_logger(__name__)


class CountedStep(NamedTuple):
    row: BackfillRow
    step: PartitionStep
    records: list[Outgoing]
    """To be appended before `note_done`."""


def count_next(database_url: str, now: datetime) -> CountedStep | None:
    """The next step, counted; None: there is nothing to count."""
    with connect_watched(database_url) as connection:
        row = unfinished(connection)
        if row is None:
            return None
        if row.partitions is None:
            positions = positions_of_publication(connection, row)
            if positions is None:
                return None
            row = row._replace(partitions=steps_of(positions))
            save_progress(connection, row, row.partitions or [], None)
            connection.commit()
        step = next_step(row)
        if step is None:
            save_progress(connection, row, row.partitions or [], now)
            connection.commit()
            return None
        records = records_of_step(connection, row, step)
    new = NewSignals(row.tenant, row.model, row.version, row.text, row.folding, tuple(sorted(row.signals)))
    return CountedStep(row, step, list(past_counts(new, records, now)))


def note_done(database_url: str, counted: CountedStep, now: datetime) -> None:
    """The log has the records of the step."""
    partitions = [dict(each) for each in counted.row.partitions or []]
    partitions[counted.step.partition]["done"] = counted.step.step + 1
    complete = all(each["done"] >= each["steps"] for each in partitions)
    with connect_watched(database_url) as connection:
        save_progress(connection, counted.row, partitions, now if complete else None)
        connection.commit()


def count_all(
    database_url: str, append: Callable[[Sequence[Outgoing]], None], settle: Callable[[], None]
) -> None:
    """Counts whatever is left, for a command without a server."""
    while (counted := count_next(database_url, datetime.now(UTC))) is not None:
        append(counted.records)
        settle()
        note_done(database_url, counted, datetime.now(UTC))


async def keep_counting(
    database_url: str,
    append: Callable[[Sequence[Outgoing]], Awaitable[None]],
    *,
    seconds: float = LOOK_SECONDS,
) -> None:
    """Never returns. While the database or the log is unavailable, it waits."""
    while True:
        try:
            worked = await _count_step(database_url, append)
        except (psycopg.Error, Problem, LogUnavailable) as cause:
            _log.warning("the counting of earlier events waits", cause=str(cause))
            worked = False
        await asyncio.sleep(0 if worked else seconds)


async def _count_step(database_url: str, append: Callable[[Sequence[Outgoing]], Awaitable[None]]) -> bool:
    counted = await asyncio.to_thread(count_next, database_url, datetime.now(UTC))
    if counted is None:
        return False
    for start in range(0, len(counted.records), RECORDS_AT_ONCE):
        await append(counted.records[start : start + RECORDS_AT_ONCE])
    await asyncio.to_thread(note_done, database_url, counted, datetime.now(UTC))
    return True

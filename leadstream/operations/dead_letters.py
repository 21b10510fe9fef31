"""Lists dead letters (records that could not be read or applied) and sends them again, for an operator.

A retried record goes into `events` again, unchanged or replaced. Nothing is deleted here.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select

from leadstream.console import Failure
from leadstream.operations.store_access import StoreAccess
from projections import queries
from projections.dead_letter_retries import INTERNAL_REASON, record_to_retry
from projections.migrate import connected_to_live
from schemas.decode import Refusal
from schemas.record import Outgoing

MOST_LISTED = 100

DeadLetterEntry = Row[Any]
"""A row of `queries.dead_letters`."""


def waiting_dead_letters(database_url: str, *, also_retried: bool = False) -> list[DeadLetterEntry]:
    """Dead letters in the order of the log; with `also_retried`, those that were sent again, too."""
    return _rows(
        database_url, queries.select_dead_letters(limit=MOST_LISTED, retried=None if also_retried else False)
    )


def all_waiting_dead_letters(database_url: str) -> list[DeadLetterEntry]:
    """All dead letters that were not sent again."""
    rows, page = list[DeadLetterEntry](), waiting_dead_letters(database_url)
    while page:
        rows += page
        last = page[-1]
        after = last.topic, last.partition, last.position
        page = _rows(database_url, queries.select_dead_letters(limit=MOST_LISTED, retried=False, after=after))
    return rows


def dead_letter_at(database_url: str, topic: str, partition: int, position: int) -> DeadLetterEntry:
    """Raises Failure."""
    rows = _rows(database_url, queries.select_dead_letter(topic, partition, position))
    if not rows:
        raise Failure(
            f"There is no dead letter {topic} {partition} {position}: `leadstream dead-letters list`."
        )
    return rows[0]


def location_text(dead_letter: DeadLetterEntry) -> str:
    return f"{dead_letter.topic} {dead_letter.partition} {dead_letter.position}"


def retry_dead_letters(
    store: StoreAccess, chosen: Sequence[DeadLetterEntry], now: datetime, replacement: bytes | None = None
) -> tuple[int, list[str]]:
    """Sends again the dead letters that can be sent. `replacement` replaces the bytes of a single one. Returns how
    many were sent, and why each of the others was not.
    """
    sent, problems = list[DeadLetterEntry](), list[str]()
    records = []
    for dead_letter in chosen:
        try:
            records.append(
                _record_to_retry(dead_letter, dead_letter.original if replacement is None else replacement)
            )
        except Failure as cause:
            problems.append(str(cause))
        else:
            sent.append(dead_letter)
    if sent:
        store.append(records)
        store.settle(lambda _: None)
        with connected_to_live(store.database_url) as connection:
            for dead_letter in sent:
                connection.execute(
                    queries.mark_retried(dead_letter.topic, dead_letter.partition, dead_letter.position, now)
                )
    return len(sent), problems


def _record_to_retry(dead_letter: DeadLetterEntry, value: bytes) -> Outgoing:
    try:
        return record_to_retry(dead_letter.topic, dead_letter.key, value)
    except Refusal as refusal:
        if refusal.reason == INTERNAL_REASON:
            raise Failure(f"{location_text(dead_letter)} {refusal.reason}.") from None
        raise Failure(
            f"{location_text(dead_letter)} still cannot be read ({refusal}): `leadstream dead-letters show` prints it; "
            "correct a copy and retry with --replacement FILE."
        ) from refusal


def _rows(database_url: str, query: Select[Any]) -> list[DeadLetterEntry]:
    with connected_to_live(database_url) as connection:
        return list(connection.execute(query))

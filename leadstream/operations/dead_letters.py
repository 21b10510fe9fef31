"""Dead letters for an operator: what could not be read or applied, and sending it in again.

A retried record re-enters through `events`, as it came or mended; nothing is ever deleted here.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select

from leadstream.console import Failure
from leadstream.operations.store_access import StoreAccess
from projections import queries
from projections.migrate import connected
from schemas.decode import Refusal, decode_source, key_of
from schemas.envelope import Event
from schemas.record import Outgoing
from schemas.topics import EVENTS

LISTED = 100

DeadLetterEntry = Row[Any]
"""A row of `queries.letters`."""


def waiting_dead_letters(database_url: str, *, also_retried: bool = False) -> list[DeadLetterEntry]:
    """Dead letters in the order of the log; those sent in again only if asked for."""
    return _asked(
        database_url, queries.select_dead_letters(limit=LISTED, retried=None if also_retried else False)
    )


def all_waiting_dead_letters(database_url: str) -> list[DeadLetterEntry]:
    """Every one that was not sent in again."""
    found, page = list[DeadLetterEntry](), waiting_dead_letters(database_url)
    while page:
        found += page
        last = page[-1]
        after = last.topic, last.partition, last.position
        page = _asked(database_url, queries.select_dead_letters(limit=LISTED, retried=False, after=after))
    return found


def dead_letter_at(database_url: str, topic: str, partition: int, position: int) -> DeadLetterEntry:
    """Raises Failure."""
    found = _asked(database_url, queries.select_dead_letter(topic, partition, position))
    if not found:
        raise Failure(
            f"There is no dead letter {topic} {partition} {position}: `leadstream dead-letters list`."
        )
    return found[0]


def place_of(letter: DeadLetterEntry) -> str:
    return f"{letter.topic} {letter.partition} {letter.position}"


def retry(
    store: StoreAccess, chosen: Sequence[DeadLetterEntry], now: datetime, mended: bytes | None = None
) -> tuple[int, list[str]]:
    """Sends in again what can be, `mended` in place of the only one's own bytes: how many, and why each
    of the others stays.
    """
    sent, stay = list[DeadLetterEntry](), list[str]()
    records = []
    for letter in chosen:
        try:
            records.append(_again(letter, letter.original if mended is None else mended))
        except Failure as cause:
            stay.append(str(cause))
        else:
            sent.append(letter)
    if sent:
        store.append(records)
        store.settle(lambda _: None)
        with connected(store.database_url) as connection:
            for letter in sent:
                connection.execute(queries.mark_retried(letter.topic, letter.partition, letter.position, now))
    return len(sent), stay


def _again(letter: DeadLetterEntry, value: bytes) -> Outgoing:
    if letter.topic != EVENTS:
        raise Failure(
            f"{place_of(letter)} is an internal record and cannot be sent in again: "
            "send the event that caused it, under a new event_id."
        )
    try:
        message = decode_source(value)
    except Refusal as refusal:
        raise Failure(
            f"{place_of(letter)} still cannot be read ({refusal}): `leadstream dead-letters show` prints it; "
            "mend a copy and retry with --mended FILE."
        ) from refusal
    key = key_of(message) if isinstance(message, Event) else letter.key or ""
    return Outgoing(EVENTS, key, value)


def _asked(database_url: str, query: Select[Any]) -> list[DeadLetterEntry]:
    with connected(database_url) as connection:
        return list(connection.execute(query))

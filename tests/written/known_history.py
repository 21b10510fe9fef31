"""A small history, known in every part, and what must be found in a store that any version made of it.

Expected values are read off the events and docs/scoring.md (temperature: 3 points a scan, 2 a catalogue, 1 a
message, 20 within a day of the last of them), never off a store.
"""

from datetime import UTC, datetime, timedelta

from schemas import events as e
from schemas.decode import encode_source, key_of
from schemas.envelope import Event
from schemas.moment import millis
from schemas.record import Outgoing
from schemas.topics import EVENTS

PARTITIONS = 2
BEGIN = datetime(2026, 3, 2, 9, tzinfo=UTC)
WRITTEN_AT = millis(BEGIN) + 3_600_000
"""The clock of whoever writes the store."""
LONG_AFTER = WRITTEN_AT + 200 * 86_400_000
"""When nothing is recent any more."""
UNREADABLE = b"not an event"
RECENT = 20
ENGAGEMENT = {"ada": 3 * 3, "bob": 2 * 3 + 2 + 4}
"""Points of each lead that nobody was merged into: bob has cyd's four messages."""
APART = {"ada": 3 * 3, "bob": 2 * 3 + 2, "cyd": 4}
"""The same once cyd is split from bob again."""
PAGES = 2
"""That va saw in one session before she said who she is."""


def happened(kind: type[Event], name: str, minute: float, **fields: object) -> Event:
    at = BEGIN + timedelta(minutes=minute)
    return kind(event_id=name, occurred_at=at, recorded_at=at, **fields)


def known_history() -> list[Event]:
    """In the order in which it is recorded; one event comes twice."""
    chat = {"source": "telegram"}
    first_scan = happened(e.QrScanned, "scan-1", 10, lead_id="ada", **chat)
    return [
        happened(e.PageViewed, "page-1", 0, visitor_id="va", url="/", source="web"),
        happened(e.PageViewed, "page-2", 5, visitor_id="va", url="/pricing", source="web"),
        happened(e.LeadIdentified, "known", 6, visitor_id="va", lead_id="ada", source="web"),
        first_scan,
        happened(e.QrScanned, "scan-2", 11, lead_id="ada", **chat),
        happened(e.QrScanned, "scan-3", 12, lead_id="ada", **chat),
        first_scan,
        happened(e.QrScanned, "scan-4", 13, lead_id="bob", **chat),
        happened(e.QrScanned, "scan-5", 14, lead_id="bob", **chat),
        happened(e.CatalogViewed, "catalogue", 15, lead_id="bob", **chat),
        *(happened(e.MessageReceived, f"text-{n}", 16 + n, lead_id="cyd", **chat) for n in range(4)),
        happened(e.LeadsMerged, "merged", 30, lead_id="cyd", into="bob", source="crm"),
    ]


def history_records() -> list[Outgoing]:
    """As the door appends them, and something that nobody can read."""
    return [*map(as_record, known_history()), Outgoing(EVENTS, "default/v/va", UNREADABLE)]


def as_record(event: Event) -> Outgoing:
    return Outgoing(EVENTS, key_of(event), encode_source(event))


def more() -> list[Outgoing]:
    """What a newer version is told: a repetition, a fourth scan, and that cyd was not bob."""
    return [
        as_record(happened(e.QrScanned, "scan-2", 40, lead_id="ada", source="telegram")),
        as_record(happened(e.QrScanned, "scan-6", 41, lead_id="ada", source="telegram")),
        as_record(happened(e.MergeUndone, "split", 42, lead_id="cyd", source="crm")),
    ]


COUNTED = len(known_history()) - 1
"""Events of producers in the log that count: all but the repetition."""

"""A history as the door and the folds of a version recorded it, and what a restated store must have of it.

    python -m tests.written.older_door FILE    # with the version whose door it is

Points are read off docs/scoring.md (temperature: 10 for a phone; a scan gives 3, after the publication 4), never off a
store. `CUBOT` is a maker of phones that lists of crawlers have taken for one.
"""

import asyncio
import lzma
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from msgspec import json, structs

from gateway.door.admission import RequestFacts, admit_event, admit_import
from gateway.door.resolving import lead_id_of_address, with_resolved_leads
from leadstream.contacts import AddressLookup
from leadstream.embedded_postgres import start_postgres, stop_postgres
from leadstream.wiring import repeated_for_every_partition
from projections.migrate import migrate
from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import encode_source, key_of, read_event
from schemas.envelope import Event
from schemas.moment import moment
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.models.model import built_in_models
from tests.written.known_history import PARTITIONS, UNREADABLE, WRITTEN_AT
from tests.written.stores import _client, append_and_settle, embedded_driver

REGION = "DE"
BEGIN = datetime(2026, 3, 2, 9, tzinfo=UTC)
PHONE = "+4915112345678"
TWICE = "+494915112345678"
"""What an older door in Germany made of 4915112345678."""
MADE = lead_id_of_address("default", "phone", TWICE)
"""The lead that it made of that."""
CUBOT = "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/90.0 Mobile Safari/537.36"
SKEW = timedelta(minutes=10)
NOTE = {"by": "eva", "note": "scans count more"}

SENT: list[dict[str, Any]] = [
    {"type": "profile_updated", "lead_id": "ada", "source": "web", "fields": {"phone": PHONE}},
    {"type": "profile_updated", "lead_id": "ada", "source": "crm", "fields": {"phone": "  "}},
    {"type": "contact_shared", "visitor_id": "tg-9", "source": "telegram", "phone": "4915112345678"},
    {"type": "qr_scanned", "visitor_id": "tg-9", "source": "telegram"},
    {"type": "qr_scanned", "visitor_id": "tg-9", "source": "telegram"},
    {"type": "qr_scanned", "lead_id": MADE, "source": "crm"},
    {"type": "qr_scanned", "lead_id": "bob", "source": "qr"},
    {"type": "qr_scanned", "lead_id": "bob", "source": "qr", "context": {"user_agent": CUBOT}},
    {
        "type": "page_viewed",
        "visitor_id": "cyd",
        "url": "https://shop.example/",
        "context": {"url": "https://shop.example/", "referrer": "https://chatgpt.com/"},
    },
    {"type": "qr_scanned", "lead_id": "dora", "source": "qr", "imported": True},
    {"type": "qr_scanned", "lead_id": "eve", "source": "qr", "sent_at": SKEW},
]
"""In the order of their recording, a minute apart."""

AS_RECORDED = {"ada": 0, MADE: 10 + 3 * 4, "bob": 4, "dora": 4, "eve": 4}
"""A blank has erased ada's phone; the telegram visitor is a lead of their own; a scan of bob's is a bot's."""
RESTATED = {"ada": 10 + 3 * 4, "bob": 2 * 4, "dora": 4, "eve": 4}


def recorded_at(number: int) -> datetime:
    return BEGIN + timedelta(minutes=number)


def admitted(number: int, sent: dict[str, Any]) -> Event:
    at = recorded_at(number)
    imported, skew = sent.get("imported", False), sent.get("sent_at", timedelta())
    fields = {name: value for name, value in sent.items() if name not in {"imported", "sent_at"}}
    event = read_event(
        json.encode({**fields, "event_id": f"e{number}", "occurred_at": (at - skew).isoformat()})
    )
    if imported:
        return admit_import(event, REGION)
    event = admit_event(
        event, RequestFacts(None, phone_region=REGION, sent_at=at - skew if skew else None), at
    )
    return structs.replace(event, bot="CUBOT") if event.context and event.context.user_agent else event


async def with_lead(event: Event, url: str) -> Event:
    if event.imported:
        return event
    contacts = AddressLookup(url)
    await contacts.open()
    try:
        [event] = await with_resolved_leads([event], contacts.resolve, region=REGION)
    finally:
        await contacts.close()
    return event


def write(to: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="leadstream-written-") as directory:
        url = start_postgres(Path(directory), {"fsync": "off"})
        try:
            migrate(url)
            driver = embedded_driver(url, WRITTEN_AT)
            driver.start()
            try:
                for number, sent in enumerate(SENT):
                    event = asyncio.run(with_lead(admitted(number, sent), url))
                    append_and_settle(driver, url, [Outgoing(EVENTS, key_of(event), encode_source(event))])
                append_and_settle(driver, url, [Outgoing(EVENTS, "default/v/va", UNREADABLE)])
                text = built_in_models()["temperature"].replace(
                    "points = 3, max = 15", "points = 4, max = 15"
                )
                publication = ModelPublished(
                    tenant=EVERY_TENANT,
                    recorded_at=moment(WRITTEN_AT),
                    model="temperature",
                    version=2,
                    text=text,
                    **NOTE,
                )
                driver.append(
                    repeated_for_every_partition(publication_records(publication), PARTITIONS)
                ).result(60)
                append_and_settle(driver, url, [])
            finally:
                driver.stop()
            check(url)
            to.write_bytes(lzma.compress(_client("pg_dump", url, "--no-owner", "--no-privileges")))
        finally:
            stop_postgres(Path(directory))


def check(url: str) -> None:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """select lead_id, rounded from live.lead_scores join live.leads using (lead_key)
               where model = 'temperature' and leads.identified and identities > 0"""
        )
        print(dict(rows.fetchall()))


if __name__ == "__main__":
    write(Path(sys.argv[1]))

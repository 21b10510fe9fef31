"""A person with distinctive values who goes through everything, beside people who must stay as they are."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from msgspec import json
from psycopg.sql import SQL, Identifier

from gateway.door.admission import RequestFacts, admit_event, read_producer_event
from leadstream.operations.store_access import StoreAccess
from projections.enrichment_queue import digest_of_key
from schemas.decode import encode_source, key_of
from schemas.record import Outgoing
from schemas.topics import EVENTS, visitor_key

VALUES = (
    "Zephyrina",
    "Quillfeather",
    "zephyrina@quillfeather.example",
    "+4915112345678",
    "203.0.113.77",
    "utm-zq-campaign",
    "crm-zq-90210",
    "browser-zq-1",
    "browser-zq-2",
    "the secret wish of zq",
)
"""Nobody else's: a name, an address, a number, ids, texts."""
LEAD = "crm-zq-90210"
SHARED_BROWSER = "browser-of-the-family"
NOW = datetime.now(UTC) - timedelta(minutes=100)
"""No score changes by time alone while a test runs."""


def _campaign(name: str) -> dict[str, Any]:
    return {
        "url": f"https://shop.example/?utm_campaign={name}",
        "campaign": {"source": "mail", "name": name},
        "ip": "203.0.113.77",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    }


def of_person() -> list[dict[str, Any]]:
    """Two browsers, one of them shared with others, a chat, a merge, and a purchase."""
    secret = "the secret wish of zq"
    context = _campaign("utm-zq-campaign")
    return [
        {"type": "page_viewed", "visitor_id": "browser-zq-1", "title": secret, "context": context},
        {"type": "session_started", "visitor_id": "browser-zq-1", "context": context},
        {"type": "lead_identified", "visitor_id": "browser-zq-1", "lead_id": LEAD},
        {
            "type": "contact_shared",
            "visitor_id": "browser-zq-1",
            "lead_id": LEAD,
            "name": "Zephyrina Quillfeather",
            "email": "zephyrina@quillfeather.example",
            "phone": "+4915112345678",
        },
        {"type": "form_submitted", "lead_id": LEAD, "form_id": "f", "fields": {"company": "Quillfeather"}},
        {"type": "demo_requested", "visitor_id": "browser-zq-1", "context": context},
        {"type": "message_received", "visitor_id": "browser-zq-2", "source": "chatbot", "text": secret},
        {
            "type": "question_answered",
            "visitor_id": "browser-zq-2",
            "source": "chatbot",
            "question_id": "q1",
            "text": secret,
        },
        {"type": "page_viewed", "visitor_id": SHARED_BROWSER, "lead_id": LEAD, "title": secret},
        {"type": "lead_identified", "visitor_id": "browser-zq-2", "lead_id": "lead-zq-twin"},
        {"type": "leads_merged", "lead_id": "lead-zq-twin", "into": LEAD},
        {"type": "purchase_made", "lead_id": LEAD, "order_id": "order-zq", "value": 120, "currency": "EUR"},
        {"type": "note_added", "lead_id": LEAD, "text": secret},
        {"type": "qr_scanned", "visitor_id": "browser-zq-1", "source": "telegram"},
        {
            "type": "conversion_recorded",
            "lead_id": LEAD,
            "conversion_type": "demo",
            "value": 5,
            "currency": "EUR",
        },
    ]


def of_others() -> list[dict[str, Any]]:
    """One uses the shared browser, too."""
    context = _campaign("spring") | {"ip": "198.51.100.4"}
    events: list[dict[str, Any]] = [
        {"type": "page_viewed", "visitor_id": SHARED_BROWSER, "lead_id": "lead-brother", "title": "ours"},
        {"type": "demo_requested", "visitor_id": SHARED_BROWSER, "lead_id": "lead-brother"},
    ]
    for number in range(4):
        events += [
            {"type": "page_viewed", "visitor_id": f"w-{number}", "context": context},
            {
                "type": "contact_shared",
                "visitor_id": f"w-{number}",
                "lead_id": f"lead-{number}",
                "email": f"p{number}@firm.example",
            },
            {"type": "purchase_made", "lead_id": f"lead-{number}", "value": 10 + number, "currency": "EUR"},
        ]
    return events


def outgoing(events: Sequence[dict[str, Any]], prefix: str) -> list[Outgoing]:
    """As the door takes them."""
    records = []
    for number, event in enumerate(events):
        raw = {
            "event_id": f"{prefix}-{number}",
            "occurred_at": (NOW + timedelta(seconds=number)).isoformat(),
            **event,
        }
        admitted = admit_event(
            read_producer_event(json.encode(raw), raw["event_id"], NOW), RequestFacts(tenant=None), NOW
        )
        records.append(Outgoing(EVENTS, key_of(admitted), encode_source(admitted)))
    return records


def unreadable() -> list[Outgoing]:
    """Records that no fold can read."""
    return [
        Outgoing(
            EVENTS,
            visitor_key("default", "browser-zq-1"),
            b'{"type":"no such type","text":"the secret wish of zq"}',
        ),
        Outgoing(EVENTS, "somebody", b'{"mail": "zephyrina@quillfeather.example", broken'),
    ]


def fill(store: StoreAccess) -> None:
    person, others = outgoing(of_person(), "zq"), outgoing(of_others(), "others")
    for mine, theirs in zip(person, [*others, *[None] * len(person)], strict=False):
        store.append([each for each in (mine, theirs) if each is not None])
    store.append([*others[len(person) :], *unreadable()])
    store.settle(lambda _: None)
    with psycopg.connect(store.database_url) as connection:
        add_rows_of_delivery(connection)


def add_rows_of_delivery(connection: psycopg.Connection[Any]) -> None:
    """What a CRM and a source of enrichment leave about the person, and about others."""
    for lead, record, secret in ((LEAD, "7001", VALUES[-1]), ("lead-0", "7002", "another wish")):
        connection.execute(
            "insert into public.crm_records (tenant, crm, kind, record_id, lead_id, state, pushed) "
            "values ('default', 'hubspot', 'contact', %s, %s, %s, '{}')",
            (record, lead, json.encode({"wish": secret}).decode()),
        )
        connection.execute(
            "insert into public.crm_inbox (tenant, crm, kind, record_id, received_at, next_at, record) "
            "values ('default', 'hubspot', 'contact', %s, now(), now(), %s)",
            (record, json.encode({"note": secret}).decode()),
        )
        connection.execute(
            "insert into public.recalculations values ('default', %s, 'x', now(), now(), 0, '', 1, 1, %s)",
            (NOW - timedelta(days=int(record) % 10), json.encode([{"lead_id": lead}]).decode()),
        )
    for address, answer in (("zephyrina@quillfeather.example", "Quillfeather"), ("p1@firm.example", "Firm")):
        connection.execute(
            "insert into public.enrichment_cache values (%s, 'default', 'people', %s, '{}', now(), now())",
            (digest_of_key("default", address), json.encode({"company": answer}).decode()),
        )


# Searching


def found_values(url: str) -> dict[str, list[str]]:
    """Table -> the values that any of its rows contains, whatever the types of its columns."""
    found: dict[str, list[str]] = {}
    with psycopg.connect(url) as connection:
        for schema, table in _tables(connection):
            columns = connection.execute(
                """select column_name, data_type from information_schema.columns where table_schema = %s and table_name = %s""",
                (schema, table),
            ).fetchall()
            for column, type_ in columns:
                for value in _values_in(connection, schema, table, column, binary=type_ == "bytea"):
                    found.setdefault(f"{schema}.{table}", []).append(value)
    return found


def _tables(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    return connection.execute(
        """select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relkind = 'r' and n.nspname not in ('pg_toast', 'information_schema') and n.nspname not like 'pg_temp%'
           and n.nspname <> 'pg_catalog' order by 1, 2"""
    ).fetchall()


def _values_in(
    connection: psycopg.Connection[Any], schema: str, table: str, column: str, *, binary: bool
) -> Iterator[str]:
    condition = "position(%s::bytea in {0}) > 0" if binary else "strpos({0}::text, %s) > 0"
    for value in VALUES:
        row = connection.execute(
            SQL("select exists (select from {1} where " + condition + ")").format(
                Identifier(column), Identifier(schema, table)
            ),
            (value.encode() if binary else value,),
        ).fetchone()
        if row is not None and row[0]:
            yield value


def values_in_files(url: str) -> set[str]:
    """The values in any file of the database, whether or not a row has them."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select current_setting('data_directory'), oid from pg_database where datname = current_database()"
        ).fetchone()
    assert row is not None
    files = Path(row[0], "base", str(row[1])).iterdir()
    texts = [file.read_bytes() for file in files if file.is_file()]
    return {value for value in VALUES if any(value.encode() in text for text in texts)}


def read_rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of the read models, in one order."""
    with psycopg.connect(url) as connection:
        return {
            table: sorted(
                (
                    row[0]
                    for row in connection.execute(
                        SQL("select to_jsonb(t) from {} t").format(Identifier(schema, table))
                    )
                ),
                key=str,
            )
            for schema, table in _tables(connection)
            if schema == "live" and table != "stale_leads"
        }

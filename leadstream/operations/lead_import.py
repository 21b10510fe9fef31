"""Turns rows of leads into events, and appends them.

A row with an id is about the lead of this id. Any other is about whoever its e-mail address or phone number belongs to,
decided as the door decides it. Its events have a visitor whose id is a hash of that address, and ids that are hashes,
too. So a second import of the same file changes nothing, whatever the leads have become in between.
"""

import asyncio
import csv
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import ValidationError, convert, json

from gateway.door.addresses import EMAIL, PHONE, email_of_one_person, phone_of_one_person
from gateway.door.resolving import IDENTIFY_BY, AddressMatches, AddressQuery, with_resolved_leads
from leadstream.console import Failure
from leadstream.contacts import SELECT_LEADS_BY_EMAIL, SELECT_LEADS_BY_PHONE, leads_by_number
from leadstream.operations.imports import EXAMPLES, Append, append_all, archived
from leadstream.operations.lead_files import ImportedRow, RefusedRow
from leadstream.operations.lead_mapping import Columns, LeadMapping
from projections.connection import connect_watched
from projections.table_definition import READ_OPTIONS
from schemas.blank import is_id_of_nobody
from schemas.decode import Refusal, read_event
from schemas.envelope import Event, Moment
from scoring.features.profile_fields import stated_fields

SOURCE = "crm"
ROWS = 500
"""Rows whose addresses are looked up together."""
MOST_COUNTED = 10_000
"""Events that one row may stand for: all are recognised when they come again."""
UNSETTLED = 10_000
"""More rows than may be on their way into the log at a time."""
_EPOCH_MS = 100_000_000_000
"""A number from here on is milliseconds since 1970, not seconds."""

Resolve = Callable[[Sequence[AddressQuery]], Sequence[AddressMatches]]
Reject = Callable[[int, str], object]


@dataclass
class LeadImportCounts:
    """The results of an import of leads."""

    rows: int = 0
    taken: int = 0
    events: int = 0
    counted: int = 0
    """Events that stand for counters."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason; every value in a reason is left out, so that there are few."""
    rejects: list[RefusedRow] = field(default_factory=list)
    """The first few."""
    ambiguous: int = 0
    """Rows whose address belongs to several leads: they join none of them."""
    latest: deque[int] = field(default_factory=lambda: deque(maxlen=UNSETTLED))
    """The lines of the latest rows."""

    @property
    def resume_at(self) -> int:
        """The line from which on rows may not be in the log yet."""
        return self.latest[0] if self.latest else 1


class _Row(NamedTuple):
    """What a row becomes: `events` say who it is, `counters` what they did."""

    line: int
    events: list[dict[str, Any]]
    counters: Sequence[tuple[dict[str, Any], int]]


def import_leads(
    rows: Iterator[ImportedRow | RefusedRow],
    mapping: LeadMapping,
    append: Append,
    resolve: Resolve,
    now: datetime,
    *,
    tenant: str,
    counts: LeadImportCounts,
    with_counters: bool,
    phone_region: str | None = None,
    reject: Reject | None = None,
    from_line: int = 0,
) -> None:
    """Imports the rows in their order, and counts in `counts`. A row that is refused costs only itself."""

    def refuse(line: int, reason: str, kind: str) -> None:
        counts.refused[kind] += 1
        if len(counts.rejects) < EXAMPLES:
            counts.rejects.append(RefusedRow(line, reason))
        if reject is not None:
            reject(line, reason)

    def understood() -> Iterator[tuple[_Row, list[Event]]]:
        for row in rows:
            counts.latest.append(row.line)
            if row.line < from_line:
                continue
            counts.rows += 1
            if isinstance(row, RefusedRow):
                refuse(row.line, row.reason, "cannot be read")
                continue
            try:
                read = _read(row, mapping, tenant, phone_region, now, with_counters=with_counters)
                events = [_event(each, now, phone_region) for each in read.events]
                for each, _ in read.counters:
                    _event({**each, "event_id": "check"}, now, phone_region)
            except Refusal as refusal:
                refuse(row.line, str(refusal), refusal.field or "refused")
                continue
            counts.taken += 1
            yield read, events

    def events_of() -> Iterator[Event]:
        remaining = understood()
        while chunk := list(islice(remaining, ROWS)):
            identities = iter(
                _resolved([each for _, events in chunk for each in events], resolve, phone_region)
            )
            for row, events in chunk:
                decided = list(islice(identities, len(events)))
                counts.ambiguous += any(event.lead_id is None for event in decided)
                yield from decided
                counts.events += len(events)
                for event, times in row.counters:
                    counts.counted += times
                    for number in range(times):
                        named = {**event, "event_id": f"{event['event_id']}-{number}"}
                        yield _event(named, now, phone_region)

    append_all(events_of(), append)


@contextmanager
def rejects_file(path: Path | None) -> Iterator[Reject | None]:
    """Writes the line and the reason of each refused row into a CSV file. Raises Failure."""
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as cause:
        raise Failure(f"{path} cannot be written ({cause.strerror}).") from None
    with file:
        table = csv.writer(file)
        table.writerow(("line", "reason"))
        yield lambda line, reason: table.writerow((line, reason))


def _resolved(events: Sequence[Event], resolve: Resolve, region: str | None) -> list[Event]:
    async def answered(queries: Sequence[AddressQuery]) -> Sequence[AddressMatches]:
        return resolve(queries)

    return asyncio.run(with_resolved_leads(events, answered, by=IDENTIFY_BY, region=region))


def store_resolver(database_url: str) -> Resolve:
    """Looks up whose the addresses are. Unlike the door it waits for the answer."""

    def resolve(queries: Sequence[AddressQuery]) -> Sequence[AddressMatches]:
        emails = [(n, each.tenant, each.email) for n, each in enumerate(queries) if each.email is not None]
        phones = [
            (n, each.tenant, each.phone, each.email)
            for n, each in enumerate(queries)
            if each.phone is not None
        ]
        with connect_watched(database_url, options=READ_OPTIONS) as connection:
            by_email, by_phone = (
                leads_by_number(
                    connection.execute(
                        statement, [[row[at] for row in rows] for at in range(width)]
                    ).fetchall()
                )
                for statement, rows, width in (
                    (SELECT_LEADS_BY_EMAIL, emails, 3),
                    (SELECT_LEADS_BY_PHONE, phones, 4),
                )
            )
        return [
            AddressMatches(by_email=by_email.get(n, ()), by_phone=by_phone.get(n, ()))
            for n in range(len(queries))
        ]

    return resolve


def _event(content: dict[str, Any], now: datetime, region: str | None) -> Event:
    """Raises Refusal."""
    return archived(read_event(json.encode(content)), now, region)


def _read(
    row: ImportedRow,
    mapping: LeadMapping,
    tenant: str,
    region: str | None,
    now: datetime,
    *,
    with_counters: bool,
) -> _Row:
    """Raises Refusal, whose field is the kind of the reason."""
    fields = _fields(row, mapping)
    lead_id = _text(_first(row, mapping.lead.get("id", ())))
    if lead_id is not None and is_id_of_nobody(lead_id):  # a prefix would hide that it names nobody
        lead_id = None
    last = _date(row, mapping, "last_date") or now
    created = _date(row, mapping, "created")
    person = _person(fields, f"{mapping.prefix}{lead_id}" if lead_id else None, tenant, region)
    common = {**person.names, "tenant": tenant, "source": SOURCE}
    named = {name: fields[name] for name in (EMAIL, PHONE) if name in fields}
    events = []
    if created is not None and created < last:  # so the lead is as old as the file says
        events.append(_profile(common, created, person.key, named))
    if fields or not events:
        events.append(_profile(common, last, person.key, fields))
    counters = []
    total = 0
    for kind, columns in mapping.counters.items() if with_counters else ():
        times = _count(row, kind, columns)
        total += times
        if times:
            event_id = f"n-{_hash(person.key, kind)}"
            counters.append(({**common, "type": kind, "occurred_at": last, "event_id": event_id}, times))
    if total > MOST_COUNTED:
        raise Refusal("counters", f"the counters stand for more than {MOST_COUNTED:,} events")
    return _Row(row.line, events, counters)


def _profile(common: dict[str, Any], at: datetime, key: str, fields: dict[str, Any]) -> dict[str, Any]:
    event_id = f"p-{_hash(key, json.encode([at, sorted(fields.items())]).decode())}"
    return {**common, "type": "profile_updated", "occurred_at": at, "event_id": event_id, "fields": fields}


class _Person(NamedTuple):
    key: str
    """The same in every file."""
    names: dict[str, str]
    """The lead, or else the visitor."""


def _person(fields: dict[str, Any], lead_id: str | None, tenant: str, region: str | None) -> _Person:
    if lead_id is not None:
        return _Person(f"{tenant}/id/{lead_id}", {"lead_id": lead_id})
    email, phone = _text(fields.get(EMAIL)), _text(fields.get(PHONE))
    for kind, address in (
        (EMAIL, email_of_one_person(email) if email else None),
        (PHONE, phone_of_one_person(phone, region, SOURCE) if phone else None),
    ):
        if address is not None:
            key = f"{tenant}/{kind}/{address}"
            return _Person(key, {"visitor_id": f"import-{_hash(key)}"})
    if email or phone:
        typed = " and ".join(each for each in (email, phone) if each)
        reason = (
            f"{typed[:200]}: no e-mail address or phone number of one person (is a country code missing?)"
        )
        raise Refusal("lead", reason)
    raise Refusal("lead", "no e-mail address, no phone number and no id")


def _fields(row: ImportedRow, mapping: LeadMapping) -> dict[str, Any]:
    """What the cells say: blank ones say nothing."""
    fields: dict[str, Any] = {}
    for name, columns in mapping.fields.items():
        for column in columns:
            value = row.cells.get(column)
            if isinstance(value, str):
                value = value.strip()
            if value is None or isinstance(value, dict):
                continue
            try:
                is_stated = bool(stated_fields({name: value}))
            except (TypeError, AttributeError):
                raise Refusal("fields", f"{column}: neither a text, a number nor a list of texts") from None
            if is_stated:
                fields[name] = value
                break
    return fields


def _first(row: ImportedRow, columns: Columns) -> Any:
    return next((value for column in columns if _text(value := row.cells.get(column)) is not None), None)


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return (
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    ).strip() or None


def _date(row: ImportedRow, mapping: LeadMapping, name: str) -> datetime | None:
    """Raises Refusal for what is no date. Without a time zone it is UTC."""
    text = _text(_first(row, mapping.lead.get(name, ())))
    if text is None or not stated_fields({"date": text}):
        return None
    try:
        form = mapping.date_format
        at = datetime.strptime(text, form) if form else _moment(text)  # noqa: DTZ007 - UTC is filled in below
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError, ValidationError):
        reason = f"{text[:100]} is no date that can be read for certain: name its form as lead.date_format"
        raise Refusal(name, reason) from None


def _moment(text: str) -> datetime:
    if text.isascii() and text.isdigit() and len(text) > 8:
        number = int(text[:20])
        return datetime.fromtimestamp(number / 1000 if number >= _EPOCH_MS else number, UTC)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return convert(text, Moment)


def _count(row: ImportedRow, kind: str, columns: Columns) -> int:
    text = _text(_first(row, columns))
    if text is None:
        return 0
    try:
        number = float(text.replace(",", "")) if len(text) <= 20 else -1.0
    except ValueError:
        number = -1.0
    if not number.is_integer() or not 0 <= number <= MOST_COUNTED:
        raise Refusal(kind, f"{text[:50]} is no number of {kind} from 0 to {MOST_COUNTED:,}")
    return int(number)


def _hash(*parts: str) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=12).hexdigest()

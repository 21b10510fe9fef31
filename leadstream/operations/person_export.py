"""Everything that is known of one person, as one ZIP archive: JSON files, the explanation of the scores, and a README.

The tables are those that an erasure empties (`projections.erasures`), so nothing is left out. It reads one moment and writes
row by row, whatever the person has done.
"""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec
import psycopg
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import Table

from gateway.accounts.audit import hashed_id
from leadstream.console import Failure
from leadstream.operations.explain import ExplainRequest, explanation_of_lead
from projections import tables
from projections.connection import Connection, connect_watched
from projections.erasures import row_conditions, table_name
from projections.person import Person, find_person
from projections.table_definition import READ_OPTIONS
from projections.table_sets import ANALYTICS_TABLES
from schemas.decode import Refusal, decode_source
from schemas.envelope import Event
from scoring.features.identity import is_anonymous


class ExportedFile(NamedTuple):
    name: str
    about: str


FILES: Final[Mapping[str, ExportedFile]] = {
    "leads": ExportedFile(
        "profile.json", "Your profile: name, addresses and other fields, stage and counts."
    ),
    "lead_search": ExportedFile("search.json", "The words by which our staff find you in a list."),
    "identities": ExportedFile("identities.json", "The browsers, chats and ids by which we recognise you."),
    "identity_history": ExportedFile("identity_history.json", "Since when each of them counts as you."),
    "lead_records": ExportedFile(
        "changes_of_state.json",
        "What each of your events changed in what we know and count of you, as bytes.",
    ),
    "engagement_history": ExportedFile("interactions.json", "What you did, as our reports read it."),
    "sessions": ExportedFile("sessions.json", "Your visits: begin, end, pages and clicks."),
    "session_scores": ExportedFile("session_scores.json", "The score of each visit, line by line."),
    "lead_scores": ExportedFile("scores.json", "Your scores now, of each model."),
    "score_history": ExportedFile(
        "score_history.json", "Every change of a score, with the rules and events that caused it."
    ),
    "stage_history": ExportedFile("stage_history.json", "The stages that you entered, and why."),
    "band_changes": ExportedFile(
        "band_changes.json", "When a score came into another range, such as warm or hot."
    ),
    "applied_events": ExportedFile(
        "answers_to_senders.json", "What we answered to programs that sent your latest events."
    ),
    "workflow_executions": ExportedFile("workflows.json", "What was set off automatically for you, and why."),
    "outbox": ExportedFile(
        "deliveries.json", "Messages and other actions of these workflows, and what became of them."
    ),
    "notifications": ExportedFile("notifications.json", "Messages about you to our staff."),
    "qualification_overrides": ExportedFile(
        "qualifications.json", "Where our staff set by hand how promising you are, and until when."
    ),
    "crm_records": ExportedFile("crm.json", "What the CRM has about you, as far as it was read from there."),
    "crm_inbox": ExportedFile(
        "crm_reports.json", "What the CRM has reported about you, and nobody has read yet."
    ),
    "enrichment_cache": ExportedFile(
        "enrichment.json", "What other sources of data have answered about you."
    ),
    "dead_letters": ExportedFile(
        "unreadable_records.json", "Records with your name that our system could not read."
    ),
    "lead_journeys": ExportedFile("journey.json", "Your way from the first contact, in numbers."),
    "lead_days": ExportedFile("days.json", "What you did on each day, in numbers."),
    "lead_stays": ExportedFile("stays.json", "How long you were in each stage."),
    "lead_engagements": ExportedFile(
        "engagements_by_day.json", "Your interactions by day, type and channel."
    ),
    "lead_conversions": ExportedFile(
        "conversions.json", "Orders and other results, and the contacts before them."
    ),
    "lead_credits": ExportedFile("attribution.json", "What each channel is credited for these results."),
    "lead_paths": ExportedFile("channels.json", "The channels of your latest contacts."),
    "credit_restatements": ExportedFile("attribution_changes.json", "What changed these credits, and why."),
}
"""Table -> the file that has its rows."""
EVENTS_FILE: Final = ExportedFile(
    "events.jsonl", "Every event, exactly as it was recorded: one line of JSON each."
)
EXPLANATION_FILE: Final = ExportedFile("explanation.txt", "Your scores, explained line by line.")
AUDIT_FILE: Final = ExportedFile(
    "staff_actions.json", "What staff and programs did with your data, from the audit log."
)
INTERNAL_COLUMNS: Final = frozenset(
    {
        "lead_key",
        "identity_key",
        "session_key",
        "event_key",
        "conversion_key",
        "source_key",
        "partition",
        "position",
        "search",
    }
)
"""Numbers that mean something inside the database only, and a copy of other columns."""
NOTHING: Final = frozenset(
    {"enrichment_queue", "recalculations", "stale_leads", "worker_state", "worker_dues"}
)
"""Tables that have nothing of their own: marks for work, comparisons of scores, and the state that the events make."""

_README = """What we know about you
======================

This archive has everything that our lead scoring (Leadstream) stores about one person, as of {at}.
It was made for the id {lead}.

The files are JSON: every text editor opens them, and so do spreadsheets (as "JSON" or "text"). Times are in UTC.
An empty list means that there is nothing of this kind.

{files}

A score is a number of points by which sales staff decide whom to contact first. explanation.txt shows which of your actions
and which rule gave each point.

You may ask for the correction or the erasure of these data. An erasure removes all of it, and what comes later about you is
refused.
"""


def write_person(database_url: str, tenant: str, lead_id: str, path: Path, at: datetime) -> int:
    """Writes the archive to a new file, whole or not at all. Returns the number of its files. Raises Failure."""
    if path.exists():
        raise Failure(f"{path} exists: name another file.")
    try:
        with _new_file(path) as file:
            files = write_archive(database_url, tenant, lead_id, file, at)
    except OSError as cause:
        raise Failure(f"{path} cannot be written ({cause.strerror}).") from cause
    if files is None:
        raise Failure(f"The tenant {tenant} has no lead {lead_id}.")
    return files


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            whole = file.tell() > 0
        if whole:
            part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def write_archive(database_url: str, tenant: str, lead_id: str, file: BinaryIO, at: datetime) -> int | None:
    """Returns the number of files in the archive; None: there is no such lead, and nothing was written."""
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        person = find_person(connection, tenant, [lead_id])
        if person is None:
            return None
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.txt", _readme(lead_id, at))
            _write_list(archive, AUDIT_FILE.name, _audit_rows(connection, person))
            _write_lines(archive, EVENTS_FILE.name, _events(connection, person))
            for name, exported in FILES.items():
                _write_list(archive, exported.name, _rows(connection, person, name))
            archive.writestr(EXPLANATION_FILE.name, _explanations(database_url, person, at))
            return len(archive.namelist())


def _readme(lead_id: str, at: datetime) -> str:
    listed = [EXPLANATION_FILE, *FILES.values(), EVENTS_FILE, AUDIT_FILE]
    width = max(len(each.name) for each in listed)
    files = "\n".join(f"{each.name:<{width}}  {each.about}" for each in listed)
    return _README.format(at=f"{at:%Y-%m-%d %H:%M} UTC", lead=lead_id, files=files)


def _rows(connection: Connection, person: Person, name: str) -> Iterator[Any]:
    for table, condition, parameters in _conditions(person):
        if table.name != name:
            continue
        with connection.cursor(name=f"export_{name}") as cursor:
            cursor.execute(
                SQL("select to_jsonb(t) from {} t where {}").format(table_name(table), condition), parameters
            )
            for (row,) in cursor:
                yield _shown(row)


def _conditions(person: Person) -> list[tuple[Table, Composed, Any]]:
    """Each table once: of the merges of others into this person, interactions.json would name the others."""
    own = [
        each
        for each in row_conditions(person)
        if each[0] is not tables.engagement_history or "identity_key" in each[1].as_string()
    ]
    return [
        *own,
        *(
            (table, SQL("{} = any(%s)").format(Identifier("lead_key")), (person.row_keys,))
            for table in ANALYTICS_TABLES
            if "lead_key" in table.columns and table.name not in NOTHING
        ),
    ]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    shown = {column: value for column, value in row.items() if column not in INTERNAL_COLUMNS}
    original = shown.get("original")
    if isinstance(original, str) and original.startswith("\\x"):
        shown["original"] = bytes.fromhex(original[2:]).decode(errors="replace")
    return shown


def _events(connection: Connection, person: Person) -> Iterator[bytes]:
    """The events of the person's own keys, and of a shared browser those that counted for the person."""
    keys = [*person.source_keys, *person.shared_visitors]
    counted = {
        event_id
        for (event_id,) in connection.execute(
            "select event_id from engagement_history where identity_key = any(%s)", (person.identity_keys,)
        )
    }
    shared = set(person.shared_visitors)
    with connection.cursor(name="export_events") as cursor:
        cursor.execute(
            "select key, value from event_archive where key = any(%s) order by partition, position", (keys,)
        )
        for key, value in cursor:
            if value is None:
                continue
            try:
                event = decode_source(bytes(value))
            except Refusal:
                continue  # it is among the records that nobody could read
            if isinstance(event, Event) and (key not in shared or event.event_id in counted):
                yield bytes(value)


def _audit_rows(connection: Connection, person: Person) -> Iterator[Any]:
    targets = [f"lead_id={hashed_id(person.tenant, lead)}" for lead in person.leads]
    rows = connection.execute(
        """select jsonb_build_object('at', at, 'actor', actor, 'action', action, 'outcome', outcome, 'before', before,
             'after', after) from public.audit_log where tenant = %s and target = any(%s) order by entry_id""",
        (person.tenant, targets),
    )
    for (row,) in rows:
        yield row


def _explanations(database_url: str, person: Person, at: datetime) -> str:
    lines: list[str] = []
    for lead in person.leads:
        if is_anonymous(lead) and len(person.leads) > 1:
            continue
        try:
            lines += [
                *explanation_of_lead(database_url, ExplainRequest(person.tenant, lead, None, None, 500), at),
                "",
            ]
        except Failure as cause:
            lines += [f"{lead}: {cause}", ""]
    return "\n".join(lines)


def _write_list(archive: zipfile.ZipFile, name: str, rows: Iterator[Any]) -> None:
    with archive.open(name, "w") as file:
        separator = b"[\n"
        for row in rows:
            file.write(separator + msgspec.json.encode(row))
            separator = b",\n"
        file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _write_lines(archive: zipfile.ZipFile, name: str, lines: Iterator[bytes]) -> None:
    with archive.open(name, "w") as file:
        for line in lines:
            file.write((msgspec.json.format(line, indent=-1) if b"\n" in line else line) + b"\n")

"""Imports archives into the log: event files, access logs and simulated companies.

The door admits each event as an archived one: recorded when it happened (or when the file says so), flagged
if a bot made it, and without triggering actions. A line that cannot be imported is skipped and counted. Memory
is bounded for any file.
"""

import contextlib
import gzip
import io
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from msgspec import structs

from gateway.door.admission import admit_import
from gateway.door.ip_truncation import IpTruncation, with_truncated_ip
from leadstream.console import Failure, ReportProgress
from leadstream.operations.access_log import MALFORMED, read_access_log
from leadstream.operations.log_formats.formats import UnknownLogFormatError
from projections.connection import connect_watched
from projections.table_definition import READ_OPTIONS
from schemas.decode import MAX_EVENT_BYTES, Refusal, encode_source, key_of, read_event
from schemas.envelope import ANONYMOUS_PREFIX, Event
from schemas.record import Outgoing
from schemas.topics import EVENTS
from scoring.features.consent import may_be_counted

CHUNK = 1_000
"""Events that go into the log at once."""
EXAMPLES = 5

Append = Callable[[Sequence[Outgoing]], None]
ConsentSince = Callable[[str], int | None]


def _never(_tenant: str) -> int | None:
    return None


class ImportPrivacy(NamedTuple):
    """What of the events may be stored."""

    ip_truncation: IpTruncation = "none"
    visitor_id_key: bytes = b""
    """Makes the ids of visitors of an access log; empty: anybody can make them."""
    consent_required_since: ConsentSince = _never
    """By tenant (ms)."""

    def admits(self, event: Event) -> bool:
        return may_be_counted(event, self.consent_required_since(event.tenant))


OPEN_IMPORT = ImportPrivacy()
NO_CONSENT = "no consent"
"""Why an event was not imported."""


class Complaint(NamedTuple):
    line: int
    reason: str


@dataclass
class ImportCounts:
    """The results of an import."""

    lines: int = 0
    taken: int = 0
    bots: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    complaints: list[Complaint] = field(default_factory=list)
    """The first few lines that could not be read."""
    without_agent: int = 0
    """Requests in a log that does not record user agents."""
    _leads: dict[tuple[str, str | None, str | None], str] = field(default_factory=dict)
    """Tenant and visitor, or tenant and lead -> the lead, of all who are no bots."""

    @property
    def people(self) -> set[tuple[str, str]]:
        """(tenant, lead id) of all who are no bots: the lead that an event named for the visitor, if any did."""
        return {(tenant, lead_id) for (tenant, *_), lead_id in self._leads.items()}

    def refuse(self, line: int, reason: str, *, complaint: str | None = None) -> None:
        self.skipped[reason] += 1
        if complaint is not None and len(self.complaints) < EXAMPLES:
            self.complaints.append(Complaint(line, complaint))

    def take(self, event: Event) -> None:
        self.taken += 1
        if event.bot:
            self.bots[event.bot] += 1
        elif event.visitor_id is None:
            self._leads[event.tenant, None, event.lead_id] = event.lead_id or ""
        else:
            visitor = (event.tenant, event.visitor_id, None)
            self._leads[visitor] = event.lead_id or self._leads.get(
                visitor, f"{ANONYMOUS_PREFIX}{event.visitor_id}"
            )


def archived(
    event: Event, now: datetime, phone_region: str | None = None, own_sites: Collection[str] = ()
) -> Event:
    """An event of an archive, as the log records it."""
    admitted = admit_import(event, now, phone_region, own_sites)
    recorded_at = event.recorded_at
    if recorded_at is not None and admitted.occurred_at <= recorded_at <= now:
        return structs.replace(admitted, recorded_at=recorded_at)
    return admitted


def import_events(
    lines: Iterable[bytes],
    append: Append,
    now: datetime,
    *,
    phone_region: str | None = None,
    own_sites: Collection[str] = (),
    privacy: ImportPrivacy = OPEN_IMPORT,
) -> ImportCounts:
    """Imports events as NDJSON, one per line."""
    tally = ImportCounts()

    def admitted() -> Iterator[Event]:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue
            tally.lines += 1
            try:
                event = archived(read_event(raw), now, phone_region, own_sites)
            except Refusal as refusal:
                tally.refuse(number, "refused", complaint=str(refusal))
                continue
            if not privacy.admits(event):
                tally.refuse(number, NO_CONSENT)
                continue
            tally.take(event)
            yield with_truncated_ip(event, privacy.ip_truncation)

    append_all(admitted(), append)
    return tally


def import_access_log(
    lines: Iterable[bytes],
    append: Append,
    now: datetime,
    *,
    tenant: str,
    site: str = "",
    own_sites: Collection[str] = (),
    privacy: ImportPrivacy = OPEN_IMPORT,
) -> ImportCounts:
    """Imports the page views of an access log. Raises Failure if its format is not supported."""
    tally = ImportCounts()

    def admitted() -> Iterator[Event]:
        for line in read_access_log(lines, tenant=tenant, site=site, visitor_id_key=privacy.visitor_id_key):
            tally.lines += 1
            tally.without_agent += not line.records_agent
            if line.event is None:
                reason = line.reason or MALFORMED
                complaint = "no request in a supported log format" if reason == MALFORMED else None
                tally.refuse(line.number, reason, complaint=complaint)
                continue
            try:
                event = archived(read_event(encode_source(line.event)), now, own_sites=own_sites)
            except Refusal as refusal:
                tally.refuse(line.number, MALFORMED, complaint=str(refusal))
                continue
            if not privacy.admits(event):
                tally.refuse(line.number, NO_CONSENT)
                continue
            tally.take(event)
            yield with_truncated_ip(event, privacy.ip_truncation)

    try:
        append_all(admitted(), append)
    except UnknownLogFormatError as error:
        raise Failure(f"The format of the log is not supported. {error}.") from None
    return tally


def append_all(events: Iterable[Event], append: Append) -> None:
    """Appends the events in their order, a thousand at a time."""
    remaining = iter(events)
    while chunk := [
        Outgoing(EVENTS, key_of(event), encode_source(event)) for event in islice(remaining, CHUNK)
    ]:
        append(chunk)


def counted(events: Iterable[Event], report: ReportProgress) -> Iterator[Event]:
    """The same events; reports how many there were."""
    for number, event in enumerate(events):
        if number % 200 == 0:
            report(number)
        yield event


def count_leads(database_url: str) -> int:
    """The number of leads of all tenants. Merged leads count once."""
    with connect_watched(database_url, options=READ_OPTIONS) as connection:
        row = connection.execute("select count(*) from leads where identities > 0").fetchone()
    return row[0] if row else 0


class ImportSource(NamedTuple):
    """A file to be imported, line by line. `size` is None for a stream."""

    lines: Callable[[ReportProgress], Iterator[bytes]]
    size: int | None


@contextmanager
def open_source(name: str) -> Iterator[ImportSource]:
    """A file or standard input (`-`), as lines in UTF-8. gzip is unpacked, UTF-16 is converted, and byte-order marks
    are dropped. Raises Failure.
    """
    with contextlib.ExitStack() as stack:
        size: int | None = None
        raw = cast("io.BufferedReader", sys.stdin.buffer)
        offset: Callable[[], int] = lambda: 0  # noqa: E731 - standard input has no size, either
        if name != "-":
            path = Path(name)
            try:
                raw = stack.enter_context(path.open("rb"))
            except OSError as cause:
                raise Failure(
                    f"{name} cannot be read ({cause.strerror}): pass the path of a file, or - for stdin."
                ) from None
            size, offset = path.stat().st_size or None, raw.tell
        try:
            if name == "-":  # not read before the store is open
                yield ImportSource(lambda report: _lines(_reader_of_lines(name, raw), offset, report), size)
            else:
                read_line = _reader_of_lines(name, raw)
                yield ImportSource(lambda report: _lines(read_line, offset, report), size)
        except (gzip.BadGzipFile, zlib.error, EOFError) as cause:
            raise Failure(
                f"{name} is damaged ({cause}): the lines before the damage were imported."
            ) from None


GZIP = b"\x1f\x8b"
PACKED = {
    b"\x28\xb5\x2f\xfd": "zstd -dc",
    b"BZh": "bzip2 -dc",
    b"\xfd7zXZ\0": "xz -dc",
    b"PK\x03\x04": "unzip -p",
}
"""How files that are packed by something else begin, and the command that unpacks them."""
UTF_16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
"""PowerShell's `>` writes UTF-16."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _reader_of_lines(name: str, raw: "io.BufferedReader") -> Callable[[int], bytes]:
    """Reads a line of at most so many characters, in UTF-8."""
    file: io.BufferedReader[Any] = io.BufferedReader(raw)
    begin = file.peek(6)[:6]
    if begin.startswith(GZIP):
        file = io.BufferedReader(gzip.GzipFile(fileobj=file))
        begin = file.peek(6)[:6]
    for mark, command in PACKED.items():
        if begin.startswith(mark):
            raise Failure(
                f"{name} is packed: unpack it, or pass - as the file: {command} {name} | leadstream ..."
            )
    encoding = UTF_16.get(begin[:2])
    if encoding is None and begin[1:4:2] == b"\0\0":
        encoding = "utf-16-le"
    elif encoding is None and begin[:4:2] == b"\0\0":
        encoding = "utf-16-be"
    if encoding is None:
        return file.readline
    text = io.TextIOWrapper(file, encoding, errors="replace", newline="\n")
    return lambda longest: text.readline(longest).encode("utf-8", "replace")


def _lines(
    read_line: Callable[[int], bytes], offset: Callable[[], int], report: ReportProgress
) -> Iterator[bytes]:
    """The lines, each without a byte-order mark: files that were joined have several. A line that is longer than any
    event is cut just above that length.
    """
    longest = MAX_EVENT_BYTES + 1
    for number, line in enumerate(iter(lambda: read_line(longest), b"")):
        if len(line) >= longest and not line.endswith(b"\n"):
            while (rest := read_line(longest)) and not rest.endswith(b"\n"):
                pass
        if number % 500 == 0:
            report(offset())
        yield line.removeprefix(BYTE_ORDER_MARK)

"""Reads files of leads row by row: CSV with any usual separator, TSV, and JSON Lines.

Each line is UTF-8 if it can be read as that, else Windows-1252: text in another encoding than UTF-8 hardly ever forms
valid sequences of it. So no sample decides for the rest of the file. Memory is bounded: a row has at most ROW_LINES
lines and a cell at most CELL characters; a row that exceeds that is refused, and reading goes on behind it.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from msgspec import DecodeError, json

from leadstream.console import Failure
from schemas.decode import MAX_EVENT_BYTES

SEPARATORS = (",", ";", "\t", "|")
SAMPLE = 200
"""Lines that decide about the separator, and objects that name the columns of JSON Lines."""
ROW_LINES = 1_000
CELL = 64_000
MOST_COLUMNS = 2_000
_EXCEL_HINT = re.compile(r'"?sep=(.)"?')


class ImportedRow(NamedTuple):
    line: int
    """Where it begins."""
    cells: Mapping[str, Any]


class RefusedRow(NamedTuple):
    line: int
    reason: str


class LeadFile(NamedTuple):
    columns: Sequence[str]
    form: str
    """What it is, in words."""
    rows: Iterator[ImportedRow | RefusedRow]


def read_lead_file(lines: Iterator[bytes]) -> LeadFile:
    """Raises Failure for a file without rows, or of another form."""
    numbered = ((number, each) for number, each in enumerate(lines, 1))
    first = next(((number, each) for number, each in numbered if each.strip()), None)
    if first is None:
        raise Failure("The file is empty.")
    begin = first[1].lstrip()
    if begin.startswith(b"["):
        raise Failure("The file is one JSON array: write one object on each line, e.g. with jq -c '.[]'.")
    if b"\0" in begin:
        raise Failure("The file is no text: save it as CSV.")
    if begin.startswith(b"{"):
        return _read_objects(chain([first], numbered))
    return _read_table(chain([first], numbered))


# JSON Lines


def _read_objects(lines: Iterator[tuple[int, bytes]]) -> LeadFile:
    rows = (_object(number, line) for number, line in lines if line.strip())
    sample = list(islice(rows, SAMPLE))
    columns = list(
        dict.fromkeys(name for row in sample if isinstance(row, ImportedRow) for name in row.cells)
    )
    return LeadFile(columns, "JSON Lines", chain(sample, rows))


def _object(number: int, line: bytes) -> ImportedRow | RefusedRow:
    if len(line) > MAX_EVENT_BYTES:
        return RefusedRow(number, f"longer than {MAX_EVENT_BYTES:,} bytes")
    try:
        content = json.decode(line)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        return RefusedRow(number, f"no JSON: {error}")
    if not isinstance(content, dict):
        return RefusedRow(number, "no JSON object")
    return ImportedRow(number, content)


# Tables


class _Lines:
    """The lines of a table as texts, for csv.reader. Stops a row that has too many lines."""

    def __init__(self, lines: Iterator[tuple[int, bytes]]) -> None:
        self._lines = lines
        self.number = 0
        self.of_row = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        self.of_row += 1
        if self.of_row > ROW_LINES:
            raise csv.Error(f"more than {ROW_LINES} lines: is a quote missing?")
        if len(line) > MAX_EVENT_BYTES:
            raise csv.Error(f"longer than {MAX_EVENT_BYTES:,} bytes")
        return decoded(line)


def decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def _read_table(lines: Iterator[tuple[int, bytes]]) -> LeadFile:
    sample = list(islice(lines, SAMPLE))
    texts = [decoded(line) for _, line in sample]
    if "\r" in texts[0].rstrip("\r\n"):
        raise Failure("The lines end as on old Macs (CR alone): save the file with other line ends.")
    hint = _EXCEL_HINT.fullmatch(texts[0].strip())
    if hint is not None:  # Excel's own line, which names the separator
        del sample[0], texts[0]
        if not texts:
            raise Failure("The file is empty.")
    separator = hint[1] if hint is not None else separator_of(texts)
    if separator in '"\r\n':
        raise Failure(f"The file names {separator!r} as its separator: use a comma, semicolon or tab.")
    source = _Lines(chain(sample, lines))
    csv.field_size_limit(CELL)
    table = csv.reader(source, delimiter=separator)
    try:
        columns = _named(next(table, []))
    except csv.Error as error:
        raise Failure(f"The first line, with the names of the columns, cannot be read: {error}.") from None
    name = {",": "commas", ";": "semicolons", "\t": "tabs"}.get(separator, repr(separator))
    return LeadFile(columns, f"a table with {name}", _rows(table, source, columns))


def _named(header: Sequence[str]) -> list[str]:
    """The names of the columns, each once. A column without a name has none, and is not read."""
    if len(header) > MOST_COLUMNS:
        raise Failure(f"The file has more than {MOST_COLUMNS:,} columns.")
    columns: list[str] = []
    uses = Counter[str]()
    for cell in header:
        name = cell.strip()
        uses[name] += 1
        columns.append(name if uses[name] == 1 or not name else f"{name} ({uses[name]})")
    return columns


def _rows(
    table: Iterator[list[str]], source: _Lines, columns: Sequence[str]
) -> Iterator[ImportedRow | RefusedRow]:
    while True:
        begin, source.of_row = source.number + 1, 0
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield RefusedRow(begin, str(error))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if any(cell.strip() for cell in cells[len(columns) :]):
            yield RefusedRow(
                begin,
                f"{len(cells)} cells under {len(columns)} columns: is a quote missing around a separator?",
            )
            continue
        yield ImportedRow(begin, {name: cell for name, cell in zip(columns, cells, strict=False) if name})


def separator_of(texts: Sequence[str]) -> str:
    """The sign that is outside quotes in the header, and as often in the most rows; of those, the most frequent one.
    A comma if there is none: then the file has one column.
    """
    rows = _counts_outside_quotes(texts)
    header = rows[0]

    def fitness(sign: str) -> tuple[int, int]:
        return sum(each[sign] == header[sign] for each in rows), header[sign]

    candidates = [sign for sign in SEPARATORS if header[sign]]
    return max(candidates, key=fitness, default=",")


def _counts_outside_quotes(texts: Sequence[str]) -> list[Counter[str]]:
    """Per row, how often each separator is outside quotes. A row ends where no quote is open."""
    rows, counts, quoted = list[Counter[str]](), Counter[str](), False
    for text in texts:
        for part in re.split('(")', text):
            if part == '"':
                quoted = not quoted
            elif not quoted:
                counts.update({sign: part.count(sign) for sign in SEPARATORS})
        if not quoted and text.strip():
            rows.append(counts)
            counts = Counter()
    return rows or [counts]

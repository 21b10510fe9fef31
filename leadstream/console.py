"""Prints for the command line: rich output on a terminal, plain lines elsewhere, errors on one line.

Results go to standard output, everything else to standard error, so that pipes stay clean. This is the only
module that prints. Foreign text (names, titles, addresses, reasons) passes through `printable_text` and is never
read as markup, so it cannot control the terminal.
"""

import contextlib
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

ReportProgress = Callable[[float], None]
"""Reports the progress so far, in the units of the total."""
StyledText = str | tuple[str, str]
"""Text, or text and its style."""

_FIRST_REPORT_SECONDS = 1.0
"""Until a wait is reported."""
_REPORT_SECONDS = 10.0
"""Until it is reported again."""
_WATCH_SECONDS = 0.2
_UNLIMITED_WIDTH = 1_000_000
"""Wider than any table."""
_UNSAFE_RANGES = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2060-\u2069\ud800-\udfff\u061c\u200e\u200f\ufeff\U000e0000-\U000e007f"
"""C0 without tab and newline, DEL, C1, line separators, direction marks and overrides, surrogates, and invisible
characters. The two joiners stay: Persian and emoji need them.
"""
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE_RANGES}]")
_UNPRINTABLE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"  # control sequences: colours, cursor, erasing
    # Strings with an end: titles, links, the clipboard. They contain no unsafe character: linear time.
    f"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^{_UNSAFE_RANGES}\n]*(?:\x07|\x9c|\x1b\\\\)"
    "|\x1b[ -/]*[0-~]?"
    f"|[{_UNSAFE_RANGES}]"
)


class Failure(Exception):
    """Something the user can fix: printed on one line, without a trace."""

    code = 1
    """The exit code of the command."""


# Foreign text


def printable_text(text: str) -> str:
    """The text without what controls a terminal: control characters but tab and newline, escape sequences,
    overrides of the writing direction.
    """
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub("", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The printable text on one line."""
    return printable_text(re.sub(r"[\t\r\n\x0b\x0c\x85\u2028\u2029]+", " ", text))


def printable_json(encoded: bytes) -> bytes:
    """The same JSON, with JSON escapes for the characters that control a terminal."""
    text = encoded.decode(errors="replace")
    return _UNSAFE_CHARACTER.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


# To standard error


def print_status(text: str) -> None:
    err.print(Text(printable_text(text)), soft_wrap=True)


def print_error(text: str) -> None:
    err.print(Text.assemble(("Error:", "bold red"), " ", printable_text(text)), soft_wrap=True)


def print_warning(text: str) -> None:
    err.print(Text.assemble(("Warning:", "yellow"), " ", printable_text(text)), soft_wrap=True)


def print_trace(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints the traceback of a bug (`sys.excepthook`); the message can contain foreign text."""
    print_status("".join(traceback.format_exception(kind, error, trace)).rstrip())


@contextlib.contextmanager
def progress_bar(what: str, total: float | None) -> Iterator[ReportProgress]:
    """Shows a bar on a terminal; elsewhere one line at the beginning and one at the end."""
    if not err.is_terminal:
        print_status(f"{what} ...")
        yield lambda _: None
        print_status(f"{what}: done")
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as bars:
        task = bars.add_task(one_line(what), total=total)
        yield lambda completed: bars.update(task, completed=completed)
        bars.update(task, total=total or 1, completed=total or 1)


WaitFor = Callable[[str | None], None]
"""Sets what a start is busy with now (`loading the worker`); None: with nothing."""


@contextlib.contextmanager
def report_waits(what: str) -> Iterator[WaitFor]:
    """Prints what a start is busy with: after a second, when that changes, and every ten seconds."""
    current: list[str | None] = [what]
    over = threading.Event()
    reporter = threading.Thread(target=_report_waits, args=(current, over), name="report waits", daemon=True)
    reporter.start()
    try:
        yield lambda phrase: current.__setitem__(0, phrase)
    finally:
        over.set()
        reporter.join()


def _report_waits(current: Sequence[str | None], over: threading.Event) -> None:
    begun = time.monotonic()
    printed, printed_at = None, begun
    while not over.wait(_WATCH_SECONDS):
        what, now = current[0], time.monotonic()
        pause = _REPORT_SECONDS if what == printed else _FIRST_REPORT_SECONDS
        if what is not None and now - printed_at >= pause:
            print_status(f"Starting ({now - begun:.0f} s): {what} ...")
            printed, printed_at = what, now


# To standard output


def print_line(*parts: StyledText) -> None:
    """Prints one line, even if it is longer than the terminal is wide."""
    out.print(Text.assemble(*map(_inline_part, parts)), soft_wrap=True)


def print_text(text: str) -> None:
    """Prints the text of a file: exact for a pipe, printable on a terminal."""
    print_bytes(text.encode(errors="replace"))
    if text and not text.endswith("\n"):
        print_bytes(b"\n")


def print_bytes(original: bytes) -> None:
    """Prints bytes: exact for a pipe, printable on a terminal."""
    if out.is_terminal:
        original = printable_text(original.decode(errors="backslashreplace")).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(original)
    sys.stdout.buffer.flush()


def print_json(encoded: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(printable_json(encoded).rstrip() + b"\n")
    sys.stdout.buffer.flush()


def print_facts(title: str, facts: Mapping[str, object]) -> None:
    """Prints names and values, one line each."""
    if out.is_terminal:
        table = Table(title=Text(one_line(title)), show_header=False, title_justify="left")
        table.add_column(style="dim")
        table.add_column(justify="right")
        for name, value in facts.items():
            table.add_row(_table_cell(name), _table_cell(_number_text(value)))
        if _unwrapped_width(table) <= out.width:
            out.print(table)
            return
    for name, value in facts.items():
        print_line(f"{name}: {_number_text(value)}")


def print_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on a terminal; elsewhere, for programs, lines with tabs between the fields, headings first.
    Without rows it prints nothing.
    """
    if out.is_terminal and rows:
        print_table("", columns, rows, "l" * len(columns))
        return
    # Not through the console, which replaces tabs by spaces.
    lines = [columns, *rows] if rows else []
    print_bytes("".join("\t".join(map(one_line, line)) + "\n" for line in lines).encode(errors="replace"))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> None:
    """Prints a table and cuts no cell. No other function prints tables.

    A terminal gets a table with rules. If the terminal is too narrow, the headings are wrapped; if that is not
    enough, each row becomes a block of lines. Elsewhere the table is plain lines of any width. `align` is l or r
    for each column.
    """
    if not out.is_terminal:
        _print_plain(title, columns, rows, align)
        return
    for head in (columns, [name.replace(" ", "\n") for name in columns]):
        table = Table(title=Text(one_line(title)) if title else None, title_justify="left")
        for name, side in zip(head, align, strict=True):
            table.add_column(Text(printable_text(name)), justify="right" if side == "r" else "left")
        for row in rows:
            table.add_row(*map(_table_cell, row))
        if _unwrapped_width(table) <= out.width:
            out.print(table)
            return
    _print_row_blocks(title, columns, rows)


def _print_plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> None:
    if title:
        print_line(title)
    lines = [list(map(one_line, row)) for row in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = []
        for cell, width, side in zip(line, widths, align, strict=True):
            room = " " * (width - cell_len(cell))
            padded.append(room + cell if side == "r" else cell + room)
        print_line("  ".join(padded).rstrip())


def _print_row_blocks(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if title:
        print_line((title, "italic"))
    for row in rows:
        for number, (name, cell) in enumerate(zip(columns, row, strict=True)):
            label = f"{name}: " if name else ""
            if number == 0:
                print_line((f"{label}{cell}", "bold"))
            elif cell:
                print_line((f"  {label}", "dim"), cell)


def _inline_part(part: StyledText) -> StyledText:
    return one_line(part) if isinstance(part, str) else (one_line(part[0]), part[1])


def _table_cell(text: str) -> Text:
    return Text(one_line(text))


def _unwrapped_width(table: Table) -> int:
    """The width of the table if nothing is wrapped."""
    return out.measure(table, options=out.options.update(max_width=_UNLIMITED_WIDTH)).maximum


def _number_text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)

"""What a benchmark says in the end: a table for people and one line of JSON for programs."""

import json
import os
import platform
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

console = Console()
NOTHING = "-"


def say(line: str) -> None:
    """How far it is."""
    console.print(f"[dim]{line}[/]", highlight=False)


def show(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> None:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)


def write_line(bench: str, **found: object) -> None:
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    print(json.dumps({"bench": bench, "machine": machine, **found}), flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """Of values in ascending order."""
    return values[min(len(values) - 1, int(len(values) * share))]

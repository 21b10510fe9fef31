"""The output of a benchmark: a table for people and one line of JSON for programs."""

import json
import os
import platform
from collections.abc import Iterable, Sequence

from leadstream.console import print_line, print_table

NOTHING = "-"


def report_progress(line: str) -> None:
    """Prints the progress."""
    print_line((line, "dim"))


def print_results(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> None:
    print_table(title, columns, list(rows), "l" + "r" * (len(columns) - 1))
    for note in notes:
        print_line(note)


def write_line(bench: str, **fields: object) -> None:
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    print(json.dumps({"bench": bench, "machine": machine, **fields}), flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """Of values in ascending order."""
    return values[min(len(values) - 1, int(len(values) * share))]

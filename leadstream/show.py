"""How the command line speaks: rich on a terminal, plain lines elsewhere; errors on one line.

Results go to standard output, everything said on the way to standard error, so that pipes stay clean.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Report = Callable[[float], None]
"""How far it is by now, in the units of the total."""


class Failure(Exception):
    """Something the user can mend: said on one line, without a trace."""

    code = 1
    """What the command exits with."""


def say(text: str) -> None:
    err.print(escape(text), soft_wrap=True)


def complain(text: str) -> None:
    err.print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=True)


def warn(text: str) -> None:
    err.print(f"[yellow]Warning:[/] {escape(text)}", soft_wrap=True)


@contextlib.contextmanager
def progress(what: str, total: float | None) -> Iterator[Report]:
    """A bar on a terminal; elsewhere a line when it begins and one when it is done."""
    if not err.is_terminal:
        say(f"{what} ...")
        yield lambda _: None
        say(f"{what}: done")
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as bars:
        task = bars.add_task(what, total=total)
        yield lambda completed: bars.update(task, completed=completed)
        bars.update(task, total=total or 1, completed=total or 1)


def rows(title: str, told: Mapping[str, object]) -> None:
    """Names and values, a line each."""
    if not out.is_terminal:
        for name, value in told.items():
            out.print(escape(f"{name}: {_number(value)}"), soft_wrap=True)
        return
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in told.items():
        table.add_row(escape(name), escape(_number(value)))
    out.print(table)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)

"""The command line: one module for each command or group of commands, collected here.

A user's mistake is answered by one line that names the remedy, and by an exit code (1: the command failed,
2: the command or a setting is wrong). A traceback is shown only for a fault of the program itself.
"""

import os
import sys
from typing import Annotated

import typer

from authoring.problem import Problem
from leadstream.cli import (
    backup,
    chats,
    crm,
    dead_letters,
    delivery,
    demo,
    doctor,
    enrichment,
    erase,
    evaluate,
    experiments,
    explain,
    export,
    imports,
    keys,
    links,
    models,
    publish,
    rebuild,
    recalculate,
    restate,
    retention,
    serve,
    settings,
    simulate,
    skip,
    telegram,
    topics,
    users,
    worker,
    workflows,
)
from leadstream.console import Failure, print_error, print_line, print_trace
from leadstream.signals import COMMANDS_UNTIL_STOPPED, interrupt_on_signal

ABOUT = """
Lead scores that you can trust. Leadstream records every event in a log, computes every score from that log, and
explains every point.

[bold]Examples[/]

  leadstream demo                               watch scores change

  leadstream serve                              run Leadstream on port 8000

  leadstream import access-log access.log.gz    score the visitors of a log

  leadstream explain LEAD                       why a lead has its scores

  leadstream what-if rules.toml                 which leads a changed model would move

  leadstream simulate --leads 9 | head          print simulated events

  leadstream serve --kafka                      the same on Apache Kafka

[bold]Environment[/]

  Every setting is a variable LEADSTREAM_...: see `leadstream settings`. The most used:

  LEADSTREAM_DATA_DIR, LEADSTREAM_DATABASE_URL, LEADSTREAM_WRITE_KEYS,

  LEADSTREAM_API_TOKENS, LEADSTREAM_KAFKA

[bold]Exit codes[/]

  0 done

  1 the command failed, and one line says why

  2 the command or a setting is wrong

  3 a part of a running system failed: start it again
"""

app = typer.Typer(
    name="leadstream",
    help=ABOUT,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    serve, demo, telegram, chats,
    imports, simulate, export, links,
    explain, publish, models, evaluate, experiments, workflows,
    doctor, keys, users, dead_letters, delivery, crm, enrichment, skip, rebuild, recalculate,
    restate, retention, backup, erase, settings,
    worker, topics,
):  # fmt: skip
    app.add_typer(part.app)


def _print_version(requested: bool) -> None:  # noqa: FBT001 - typer calls it
    if requested:
        from importlib.metadata import version as version_of

        print_line(f"leadstream {version_of('leadstream')}")
        raise typer.Exit


@app.callback()
def leadstream(
    version: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line. A command that runs until it is stopped decides itself when signals interrupt it."""
    sys.excepthook = print_trace
    if not COMMANDS_UNTIL_STOPPED.intersection(sys.argv[1:2]):
        interrupt_on_signal()
    try:
        app()
    except Failure as failure:
        print_error(str(failure))
        sys.exit(failure.code)
    except Problem as problem:
        print_error(f"{problem.reason[:1].upper()}{problem.reason[1:].rstrip('.')}.")
        sys.exit(1)
    except UnicodeEncodeError:
        if all(argument.isprintable() or argument.isascii() for argument in sys.argv):
            raise
        print_error("An argument of the command is not valid UTF-8.")
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

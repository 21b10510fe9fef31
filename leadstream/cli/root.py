"""The command line as it is read: every command with its options and its manual page.

What a command does is in `leadstream.commands`, loaded when one runs, so that --help answers at once.
A user's mistake is answered by one line that names the remedy and an exit code (1: it cannot be done,
2: the command or a setting is wrong); a trace is shown only for a fault of the program itself.
"""

import os
import sys
from datetime import datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from leadstream.cli import models as cli_models
from leadstream.cli.options import DatabaseUrl, DataDir, Tenant, commands, settings_from
from leadstream.console import Failure, print_error, print_line, print_trace
from leadstream.signals import UNTIL_TOLD, interrupt
from schemas.envelope import DEFAULT_TENANT

RUN, FILL, TEND, KAFKA = "Run", "Bring events in, take them out", "Look after it", "Run on Kafka"

ABOUT = """
Lead scores that can be trusted: every event is a fact in a log, every score is folded from it, and every point can be
explained.

[bold]Examples[/]

  leadstream demo                               watch scores move

  leadstream serve                              the real thing, on port 8000

  leadstream import access-log access.log.gz    score the visitors of a log

  leadstream simulate --leads 9 | head          events to try things with

  leadstream serve --kafka                      the same on Apache Kafka, still in one process

[bold]Environment[/]

  Every setting is a variable LEADSTREAM_...; `leadstream settings` shows them all. Most wanted: LEADSTREAM_DATA_DIR,
  LEADSTREAM_DATABASE_URL, LEADSTREAM_WRITE_KEYS, LEADSTREAM_API_TOKENS, LEADSTREAM_KAFKA.

[bold]Exit codes[/]

  0 done; 1 it could not be done, and one line says why; 2 the command or a setting is wrong; 3 a part of a running
  system has failed, and it is to be started again.
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
bring_in = typer.Typer(no_args_is_help=True, help="Import a web server's access log, or events from a file.")
dead = typer.Typer(no_args_is_help=True, help="Records that could not be read or applied: list, show, retry.")
topics = typer.Typer(no_args_is_help=True, help="Leadstream's topics in Kafka: create, check.")
app.add_typer(bring_in, name="import", rich_help_panel=FILL)
app.add_typer(dead, name="dead-letters", rich_help_panel=TEND)
app.add_typer(topics, name="topics", rich_help_panel=KAFKA)
app.add_typer(cli_models.app)

Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; else LEADSTREAM_HOST.", show_default=False)
]
Port = Annotated[
    int | None,
    typer.Option("--port", "-p", help="Port to listen on; else LEADSTREAM_PORT.", show_default=False),
]


LeadCount = Annotated[int, typer.Option("--leads", help="How many people come.", min=0)]


def _told_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it
    if asked:
        print_line(f"leadstream {version_of('leadstream')}")
        raise typer.Exit


@app.callback()
def leadstream(
    version: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--version", help="Show the version.", callback=_told_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel=RUN)
def serve(
    kafka: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option(
            "--kafka", help="Keep log and state in Kafka: at LEADSTREAM_KAFKA, else 127.0.0.1:9092."
        ),
    ] = False,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Run everything in this process: collector, log, scoring, read models, API and pages.

    Stops on Ctrl-C or SIGTERM, letting running requests end. Everything answered 2xx is on disk. With --kafka, missing
    topics are made; the worker shows its pages on LEADSTREAM_WORKER_PORT.
    """
    settings = settings_from(host=host, port=port, data_dir=data_dir, database_url=database_url)
    commands.serve(settings, kafka=kafka)


@app.command(rich_help_panel=RUN)
def demo(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    leads: LeadCount = 400,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,  # noqa: FBT002 - typer's way to say --no-browser
) -> None:
    """Show an invented company: 90 days of it are scored, then it goes on live.

    Uses a store of its own, emptied at each start; never touches your data.
    """
    commands.demo(settings_from(host=host, port=port, data_dir=data_dir), leads=leads, browser=browser)


@bring_in.command("access-log")
def import_access_log_command(
    file: Annotated[str, typer.Argument(help="The log; .gz is unpacked, - is standard input.")],
    tenant: Tenant = DEFAULT_TENANT,
    site: Annotated[str, typer.Option(help="Put before each path, e.g. https://www.shop.example")] = "",
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Import page views from an access log in combined format.

    Bots are flagged, assets and failures are skipped and counted. Importing a file again counts nothing twice.
    Works beside a running server, and without one.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.import_access_log_from(file, settings, tenant=tenant, site=site)


@bring_in.command("events")
def import_events_command(
    file: Annotated[str, typer.Argument(help="Events, one JSON object a line; .gz is unpacked, - is stdin.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Import events, as `simulate` writes them or another system exported them.

    Each needs its event_id and occurred_at: they are recorded at the time they happened, and fire nothing. Works
    beside a running server, too.
    """
    commands.import_events_from(file, settings_from(data_dir=data_dir, database_url=database_url))


@app.command(rich_help_panel=FILL)
def simulate(
    leads: LeadCount = 500,
    days: Annotated[int, typer.Option(help="How many days of history.", min=1, max=3650)] = 90,
    seed: Annotated[int, typer.Option(help="The same seed gives the same company.")] = 1,
    until: Annotated[
        datetime | None, typer.Option(help="When the history ends (UTC).", show_default="this minute")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file (.gz packs it), not to stdout.")
    ] = None,
    into: Annotated[bool, typer.Option("--into", help="Import into the store instead of writing.")] = False,  # noqa: FBT002 - typer's way to say --into
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Invent a company: web visits, chats, expo talk, letters, calls, purchases, and crawlers.

    Events come as NDJSON in the order they were recorded, with late, doubled and disordered ones among them. The same
    --seed, --leads, --days and --until give the same bytes.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url) if into else None
    commands.simulate(leads, days, seed, until, output, settings)


@app.command(rich_help_panel=FILL)
def export(
    file: Annotated[
        str | None, typer.Argument(help="Write to this file (.gz packs it); - is stdout.", show_default=False)
    ] = None,
    to_kafka: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option("--to-kafka", help="Carry an embedded log into new topics of LEADSTREAM_KAFKA instead."),
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write every event, one JSON object a line, as `import events` takes them.

    Of an embedded log and of Kafka alike, also beside a running server; the time of recording is kept. --to-kafka
    carries models and settings along at their places, so that workers there come to the same scores; the server is
    stopped first.
    """
    if (file is None) != to_kafka:
        raise typer.BadParameter("give a FILE (- is stdout), or --to-kafka")
    commands.export(settings_from(data_dir=data_dir, database_url=database_url), file, to_kafka=to_kafka)


@app.command(rich_help_panel=KAFKA)
def worker() -> None:
    """Score: one of any number of workers, which share the partitions among them.

    The state of each is kept in Kafka, and folded exactly once whatever dies. Its pages on LEADSTREAM_WORKER_PORT show
    what it holds, how far it is, and /metrics. Ctrl-C or SIGTERM stops it within ten seconds.
    """
    commands.worker(settings_from())


@app.command(rich_help_panel=KAFKA)
def project(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Make the read models in PostgreSQL from Kafka. Several share the work."""
    commands.project(settings_from(data_dir=data_dir, database_url=database_url))


@app.command(rich_help_panel=KAFKA)
def gateway(
    host: Host = None, port: Port = None, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Take events into Kafka, and serve API and pages from PostgreSQL.

    Events are taken while PostgreSQL is away. While Kafka is away the answer is 503, at once; /ready says what is
    missing.
    """
    commands.gateway(settings_from(host=host, port=port, data_dir=data_dir, database_url=database_url))


@topics.command("create")
def topics_create() -> None:
    """Make what topics are missing, and begin the log with the shipped models. Again, it changes nothing."""
    commands.create_topics(settings_from())


@topics.command("check")
def topics_check() -> None:
    """Say what is wrong with the topics, and how to mend it. Exit code 1 if something is."""
    if not commands.check_topics(settings_from()):
        raise typer.Exit(1)


def _losable(names: list[str]) -> list[str]:
    for name in names:
        if not commands.losable(name):
            raise typer.BadParameter(
                f"{name} is no table of the read models: name those that `rebuild` named"
            )
    return names


@app.command(rich_help_panel=TEND)
def rebuild(
    accept_loss: Annotated[
        list[str] | None,
        typer.Option(
            help="A table that may lack rows for good; refused rebuilds name them. May be given several times.",
            callback=lambda names: _losable(names or []),
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Build the read models anew from the log, and swap them in. A running server goes on meanwhile. Rows of
    records that the log no longer holds are kept.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.rebuild(settings, accept_loss or [])


@app.command(rich_help_panel=TEND)
def backup(
    to: Annotated[Path, typer.Argument(help="The file to write; with --base, the directory.")],
    base: Annotated[  # noqa: FBT002 - typer's way to say --base
        bool, typer.Option("--base", help="Copy the files of the embedded PostgreSQL: faster to start from.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the whole store, as of one moment, into a file. A running server goes on meanwhile."""
    commands.backup(settings_from(data_dir=data_dir, database_url=database_url), to, base=base)


@app.command(rich_help_panel=TEND)
def restore(
    file: Annotated[Path, typer.Argument(help="What `leadstream backup` wrote.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Fill an empty store from a backup: a new --data-dir, or an empty database. Start `serve` on it then."""
    commands.restore(settings_from(data_dir=data_dir, database_url=database_url), file)


@dead.command("list")
def dead_letters_list(
    every: Annotated[bool, typer.Option("--all", help="Also those that were retried.")] = False,  # noqa: FBT002 - typer's way to say --all
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List dead letters: topic, partition, position, why."""
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.list_dead_letters(settings, also_retried=every)


Topic = Annotated[str, typer.Argument(help="As `dead-letters list` and the server's log name it.")]
Partition = Annotated[int, typer.Argument(min=0, help="The second of the three.")]
Position = Annotated[int, typer.Argument(min=0, help="The third.")]


@dead.command("show")
def dead_letters_show(
    topic: Topic,
    partition: Partition,
    position: Position,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write one dead letter's original bytes to standard output."""
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.show_dead_letter(settings, topic, partition, position)


@dead.command("retry")
def dead_letters_retry(
    topic: Annotated[
        str | None, typer.Argument(help="Of one dead letter; without it, --all.", show_default=False)
    ] = None,
    partition: Annotated[int | None, typer.Argument(min=0, show_default=False)] = None,
    position: Annotated[int | None, typer.Argument(min=0, show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="All that were not retried yet.")] = False,  # noqa: FBT002 - typer's way to say --all
    mended: Annotated[
        Path | None, typer.Option(help="Send these bytes in its place.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Send dead letters in again, as they came or mended.

    To mend one: `dead-letters show TOPIC PARTITION POSITION > FILE`, correct FILE, and retry with --mended FILE.
    """
    place = None if topic is None or partition is None or position is None else (topic, partition, position)
    if every == (place is not None) or (every and topic is not None):
        raise typer.BadParameter("give TOPIC PARTITION POSITION of one dead letter, or --all")
    if every and mended:
        raise typer.BadParameter("--mended takes the place of one dead letter: name that instead of --all")
    commands.retry_dead_letters(settings_from(data_dir=data_dir, database_url=database_url), place, mended)


@app.command(rich_help_panel=TEND)
def skip(
    topic: Topic,
    partition: Partition,
    position: Position,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the record.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Pass over a record that stops scoring: it becomes a dead letter. A running server goes on at once.

    On Kafka the worker (or `serve --kafka`) must be started again. The server's log and `leadstream doctor` name the record.
    """
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    commands.skip(settings, topic, partition, position, reason)


@app.command(rich_help_panel=TEND)
def doctor(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Check everything that must be in order, and say how to mend what is not. Exit code 1 if something fails."""
    if not commands.doctor(settings_from(data_dir=data_dir, database_url=database_url)):
        raise typer.Exit(1)


@app.command(rich_help_panel=TEND)
def settings() -> None:
    """Show every setting with its value and meaning. Secrets are not shown."""
    commands.show_settings(settings_from())


def main() -> None:
    """Runs the command line. A command that runs until it is told to stop says itself from when on it is
    interrupted, and not ended.
    """
    sys.excepthook = print_trace
    if not UNTIL_TOLD.intersection(sys.argv[1:2]):
        interrupt()
    try:
        app()
    except Failure as failure:
        print_error(str(failure))
        sys.exit(failure.code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

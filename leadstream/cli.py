"""The command line. Each command reads the settings, does one thing and says what it did.

A user's mistake is answered by one line that names the remedy and an exit code (1: it cannot be done,
2: the command or a setting is wrong); a trace is shown only for a fault of the program itself.
"""

import gzip
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, BinaryIO

import psycopg
import typer

from gateway.access import TENANT
from gateway.ports import Append
from leadstream import doctor as checks
from leadstream import letters, publishing, summary
from leadstream.demo import run_demo
from leadstream.imports import (
    Tally,
    append_all,
    archived,
    counted,
    import_access_log,
    import_events,
    open_source,
)
from leadstream.inlet import running_server
from leadstream.logs import log_from
from leadstream.reach import Store, database_beside, reach_store, settle
from leadstream.settings import SettingError, Settings, read_settings, unknown_variables, variable
from leadstream.show import Failure, complain, out, progress, say, warn
from leadstream.simulate import simulate as simulated
from leadstream.wiring import (
    STAGES,
    ensure_directory,
    explained,
    listening,
    open_database,
    open_system,
    run_gateway,
    utc_now,
)
from projections.rebuild import NothingToRebuildError, RebuildRunsError
from projections.rebuild import rebuild as rebuild_read_models
from schemas.control import EVERY_TENANT
from schemas.decode import encode_source
from schemas.envelope import DEFAULT_TENANT
from streams.embedded import log

RUN, FILL, TEND = "Run", "Bring events in", "Look after it"

ABOUT = """
Lead scores that can be trusted: every event is a fact in a log, every score is folded from it, and every point can be
explained.

[bold]Examples[/]

  leadstream demo                                 scores moving before your eyes

  leadstream serve                                the real thing, on port 8000

  leadstream import access-log access.log.gz      score the visitors of a log

  leadstream simulate --leads 9 | head            events to try things with

[bold]Environment[/]

  Every setting is a variable LEADSTREAM_...; `leadstream settings` shows them all. Most wanted:
  LEADSTREAM_DATA_DIR, LEADSTREAM_DATABASE_URL, LEADSTREAM_WRITE_KEYS, LEADSTREAM_API_TOKENS.

[bold]Exit codes[/]

  0 done; 1 it could not be done, and one line says why; 2 the command or a setting is wrong.
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
app.add_typer(bring_in, name="import", rich_help_panel=FILL)
app.add_typer(dead, name="dead-letters", rich_help_panel=TEND)

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Directory of the embedded store; else LEADSTREAM_DATA_DIR.", show_default=False
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="A PostgreSQL of your own instead; else LEADSTREAM_DATABASE_URL.",
        show_default=False,
    ),
]
Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; else LEADSTREAM_HOST.", show_default=False)
]
Port = Annotated[
    int | None,
    typer.Option("--port", "-p", help="Port to listen on; else LEADSTREAM_PORT.", show_default=False),
]


def _tenant(value: str) -> str:
    if value != EVERY_TENANT and not TENANT.fullmatch(value):
        raise typer.BadParameter("lower-case letters, digits and -, at most 32")
    return value


Tenant = Annotated[str, typer.Option("--tenant", help="Whose they are.", callback=_tenant)]
LeadCount = Annotated[int, typer.Option("--leads", help="How many people come.", min=0)]


@app.command(rich_help_panel=RUN)
def serve(
    host: Host = None, port: Port = None, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Run everything in this process: collector, log, scoring, read models, API and pages.

    Stops on Ctrl-C or SIGTERM, letting running requests end. Everything answered 2xx is on disk.
    """
    settings = _settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    log_from(settings.log_level)
    ensure_directory(settings.data_dir)

    async def announce(_append: Append) -> None:
        where = variable("database_url") if settings.database_url else str(settings.data_dir)
        say(f"Leadstream serves {settings.address} (store: {where}). Ctrl-C stops it.")

    with _until_told(), listening(settings) as taken, open_system(settings) as system:
        run_gateway(system, settings, taken, announce)


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
    settings = _settings(host=host, port=port, data_dir=data_dir)
    log_from("warning")
    with _until_told():
        run_demo(settings, leads=leads, browser=browser)


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
    _import(
        file,
        _settings(data_dir=data_dir, database_url=database_url),
        lambda lines, store, _: import_access_log(lines, store.append, utc_now(), tenant=tenant, site=site),
        unit="Page views",
        model="web_session",
    )


@bring_in.command("events")
def import_events_command(
    file: Annotated[str, typer.Argument(help="Events, one JSON object a line; .gz is unpacked, - is stdin.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Import events, as `simulate` writes them or another system exported them.

    They are recorded at the time they happened, and fire nothing. Works beside a running server, too.
    """
    _import(
        file,
        _settings(data_dir=data_dir, database_url=database_url),
        lambda lines, store, settings: import_events(
            lines, store.append, utc_now(), phone_region=settings.default_phone_region
        ),
        unit="Events",
        model="temperature",
    )


def _import(
    file: str,
    settings: Settings,
    take: Callable[[Iterator[bytes], Store, Settings], Tally],
    *,
    unit: str,
    model: str,
) -> None:
    log_from("warning")
    with open_source(file) as source, reach_store(settings) as store:
        before = summary.count_leads(store.database_url)
        with progress(f"Reading {file}", source.size) as report:
            tally = take(source.lines(report), store, settings)
        settle(store)
        summary.tell_import(
            tally,
            unit=unit,
            new_leads=summary.count_leads(store.database_url) - before,
            scores=summary.distribution(store.database_url, tally.people, model),
            model=model,
        )
    if tally.lines and not tally.taken:
        raise Failure(f"Nothing in {file} could be imported: see the warnings above.")


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
    end = (until or utc_now()).replace(second=0, microsecond=0, tzinfo=UTC)
    events = simulated(seed, leads, days, end)
    if not into:
        with _opened(output) as file:
            for event in events:
                file.write(encode_source(event) + b"\n")
        return
    settings = _settings(data_dir=data_dir, database_url=database_url)
    log_from("warning")
    now = utc_now()
    with reach_store(settings) as store:
        with progress(f"Recording {days} days of {leads} leads", None) as report:
            append_all(counted((archived(event, now) for event in events), report), store.append)
        settle(store)
        say(f"The store has {summary.count_leads(store.database_url):,} leads now.")


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with path.open("wb") as plain:
            if path.suffix != ".gz":
                yield plain
                return
            # No name and no time in it: the same events give the same file.
            with gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0) as packed:
                yield packed  # type: ignore[misc] # it takes bytes like any file
    except OSError as cause:
        raise Failure(f"{path} cannot be written ({cause.strerror}).") from cause


@app.command(rich_help_panel=TEND)
def publish(
    model: Annotated[str, typer.Argument(help="A .toml file, or the name of a shipped model.")],
    tenant: Annotated[
        str, typer.Option(help="Whose leads it scores; * is everybody's.", callback=_tenant)
    ] = EVERY_TENANT,
    fire: Annotated[bool, typer.Option("--fire", help="Let thresholds that it crosses act.")] = False,  # noqa: FBT002 - typer's way to say --fire
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Put a scoring model in force, as its next version, and rescore every lead.

    A model with a mistake is refused with line and reason, and nothing changes.
    """
    publishing.compiled(model)  # before anything is started
    with (
        reach_store(_settings(data_dir=data_dir, database_url=database_url)) as store,
        progress("Rescoring", None),
    ):
        said = publishing.publish(store, model, utc_now(), tenant=tenant, fire=fire)
    out.print(f"Model {said.model}, version {said.version}, is in force.")


@app.command(rich_help_panel=TEND)
def rebuild(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Build the read models anew from the log, and swap them in. A running server goes on meanwhile."""
    log_from("warning")
    with _database(_settings(data_dir=data_dir, database_url=database_url)) as url:
        try:
            with progress("Rebuilding", 1.0) as report:
                rebuild_read_models(url, progress=lambda done, total: report(done / max(total, 1)))
        except (NothingToRebuildError, RebuildRunsError) as cause:
            raise Failure(str(cause)) from cause
    out.print("The read models were built anew.")


@dead.command("list")
def dead_letters_list(
    every: Annotated[bool, typer.Option("--all", help="Also those that were retried.")] = False,  # noqa: FBT002 - typer's way to say --all
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List dead letters: topic, partition, position, why."""
    with _database(_settings(data_dir=data_dir, database_url=database_url)) as url:
        found = letters.waiting_letters(url, also_retried=every)
    for letter in found:
        retried = " (retried)" if letter.retried_at else ""
        why = f"{letter.field}: {letter.reason}" if letter.field else letter.reason
        out.print(
            f"{letters.place_of(letter)}  {why}{retried}",
            markup=False,
            soft_wrap=True,
        )
    if not found:
        say("No dead letters.")
    if len(found) == letters.LISTED:
        say(f"Only the first {letters.LISTED} are shown: retry or mend them, and list again.")


Topic = Annotated[str, typer.Argument(help="As `dead-letters list` and the server's log name it.")]
Partition = Annotated[int, typer.Argument(min=0)]
Position = Annotated[int, typer.Argument(min=0)]


@dead.command("show")
def dead_letters_show(
    topic: Topic,
    partition: Partition,
    position: Position,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write one dead letter's original bytes to standard output."""
    with _database(_settings(data_dir=data_dir, database_url=database_url)) as url:
        letter = letters.one_letter(url, topic, partition, position)
    sys.stdout.buffer.write(letter.original)
    sys.stdout.buffer.flush()


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
    """Send dead letters in again, as they came or mended."""
    if every == (position is not None):
        raise typer.BadParameter("give TOPIC PARTITION POSITION of one dead letter, or --all")
    if every and mended:
        raise typer.BadParameter("--mended takes the place of one dead letter: name that instead of --all")
    try:
        value = mended.read_bytes() if mended else None
    except OSError as cause:
        raise Failure(f"{mended} cannot be read ({cause.strerror}).") from cause
    with reach_store(_settings(data_dir=data_dir, database_url=database_url)) as store:
        chosen = (
            letters.waiting_letters(store.database_url)
            if topic is None or partition is None or position is None
            else [letters.one_letter(store.database_url, topic, partition, position)]
        )
        letters.retry(store, chosen, utc_now(), value)
    out.print(f"{len(chosen)} sent in again.")


@app.command(rich_help_panel=TEND)
def skip(
    topic: Topic,
    partition: Partition,
    position: Position,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the record.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Pass over a record that stops scoring: it becomes a dead letter. A running server goes on at once."""
    stages = {stage.source: stage.name for stage in STAGES}
    if topic not in stages:
        raise Failure(f"No stage folds {topic}: only records of {' and '.join(stages)} can be skipped.")
    with (
        _database(_settings(data_dir=data_dir, database_url=database_url)) as url,
        psycopg.connect(url) as connection,
    ):
        try:
            log.skip(connection, stages[topic], topic, partition, position, reason)
        except log.LogRefused as cause:
            raise Failure(str(cause)) from cause
    out.print(f"{topic} {partition} {position} will be passed over.")


@app.command(rich_help_panel=TEND)
def doctor(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Check everything that must be in order, and say how to mend what is not. Exit code 1 if something fails."""
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    failed = False
    for found in checks.findings(_settings(data_dir=data_dir, database_url=database_url)):
        failed = failed or found.health == "fail"
        out.print(f"[{colours[found.health]}]{found.health:4}[/] ", end="")
        remedy = f"  {found.remedy}" if found.remedy else ""
        out.print(f"{found.what}: {found.said}.{remedy}".replace("..", "."), markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


@app.command(rich_help_panel=TEND)
def settings() -> None:
    """Show every setting with its value and meaning. Secrets are not shown."""
    held = _settings()
    for name, setting in Settings.model_fields.items():
        value = getattr(held, name)
        shown = "(not set)" if value in {None, ()} else str(value)
        out.print(f"{variable(name)} = {shown}", markup=False, soft_wrap=True)
        out.print(f"    {setting.description}", markup=False, soft_wrap=True)


@app.command(rich_help_panel=TEND)
def version() -> None:
    """Show the version."""
    out.print(f"leadstream {version_of('leadstream')}")


def _settings(**given: object) -> Settings:
    for stray in unknown_variables():
        warn(stray)
    return read_settings(**given)


@contextmanager
def _database(settings: Settings) -> Iterator[str]:
    """The URL of the store, whether a server runs or not."""
    with explained(settings):
        if settings.database_url is not None or running_server(settings.data_dir) is not None:
            yield database_beside(settings)
            return
        with open_database(settings) as database:
            yield database()


@contextmanager
def _until_told() -> Iterator[None]:
    """Being told to stop is how this command ends."""
    try:
        yield
    except KeyboardInterrupt:
        say("Stopped.")


def main() -> None:
    """The entry point `leadstream`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except Failure as failure:
        complain(str(failure))
        sys.exit(1)
    except SettingError as wrong:
        complain(str(wrong))
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

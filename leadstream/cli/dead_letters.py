"""`leadstream dead-letters`: records that could not be read or applied."""

from pathlib import Path
from typing import Annotated

import typer

from leadstream.cli.options import (
    OPERATE,
    DatabaseUrl,
    DataDir,
    RecordPartition,
    RecordPosition,
    RecordTopic,
    settings_of_store,
)
from leadstream.console import Failure, print_bytes, print_line, print_status, print_warning

app = typer.Typer()
dead_letters = typer.Typer(
    no_args_is_help=True, help="Records that could not be read or applied: list, show, retry."
)
app.add_typer(dead_letters, name="dead-letters", rich_help_panel=OPERATE)

_MOST_REASONS_SHOWN = 3


@dead_letters.command("list")
def list_dead_letters(
    include_retried: Annotated[bool, typer.Option("--all", help="Include those that were retried.")] = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List dead letters: topic, partition, position and reason."""
    from leadstream.operations.dead_letters import MOST_LISTED, location_text, waiting_dead_letters
    from leadstream.operations.open_store import open_database_url

    with open_database_url(settings_of_store(data_dir=data_dir, database_url=database_url)) as url:
        dead_letters = waiting_dead_letters(url, also_retried=include_retried)
    for dead_letter in dead_letters:
        retried = " (retried)" if dead_letter.retried_at else ""
        reason = f"{dead_letter.field}: {dead_letter.reason}" if dead_letter.field else dead_letter.reason
        print_line(f"{location_text(dead_letter)}  {reason}{retried}")
    if not dead_letters:
        print_status("No dead letters.")
    if len(dead_letters) == MOST_LISTED:
        print_status(f"Only the first {MOST_LISTED} are shown: retry or fix them, then list again.")


@dead_letters.command("show")
def show(
    topic: RecordTopic,
    partition: RecordPartition,
    position: RecordPosition,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the bytes of one dead letter, as they came, to standard output."""
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.dead_letters import dead_letter_at
    from leadstream.operations.open_store import open_database_url

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    with open_database_url(settings) as url, recorded_command(url):
        dead_letter = dead_letter_at(url, topic, partition, position)
    print_bytes(dead_letter.original)


@dead_letters.command("retry")
def retry(
    topic: Annotated[
        str | None,
        typer.Argument(help="Topic of the dead letter; or give --all.", show_default=False),
    ] = None,
    partition: Annotated[int | None, typer.Argument(min=0, show_default=False, help="Its partition.")] = None,
    position: Annotated[int | None, typer.Argument(min=0, show_default=False, help="Its position.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Retry all that were not retried yet.")] = False,  # noqa: FBT002 - a switch
    replacement: Annotated[
        Path | None,
        typer.Option("--replacement", help="Send the bytes of this file instead.", show_default=False),
    ] = None,
    mended: Annotated[Path | None, typer.Option("--mended", hidden=True)] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Send dead letters again, unchanged or with a replacement.

    To fix one: `leadstream dead-letters show TOPIC PARTITION POSITION >
    FILE`, correct FILE, and retry it with --replacement FILE.
    """
    replacement = replacement or mended  # its name in earlier versions
    location = (
        None if topic is None or partition is None or position is None else (topic, partition, position)
    )
    if every == (location is not None) or (every and topic is not None):
        raise typer.BadParameter("give TOPIC PARTITION POSITION of one dead letter, or --all")
    if every and replacement:
        raise typer.BadParameter("--replacement is for one dead letter: name it instead of --all")
    settings = settings_of_store(data_dir=data_dir, database_url=database_url)

    from leadstream.clock import utc_now
    from leadstream.operations import dead_letters as operations
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.open_store import open_store

    try:
        value = replacement.read_bytes() if replacement else None
    except OSError as cause:
        raise Failure(f"{replacement} cannot be read ({cause.strerror}).") from cause
    with open_store(settings) as store, recorded_command(store.database_url):
        chosen = (
            operations.all_waiting_dead_letters(store.database_url)
            if location is None
            else [operations.dead_letter_at(store.database_url, *location)]
        )
        sent, problems = operations.retry_dead_letters(store, chosen, utc_now(), value)
    reasons = "\n".join(problems[:_MOST_REASONS_SHOWN])
    if problems and not sent:
        raise Failure(
            reasons if len(problems) == 1 else f"None of the {len(problems)} can be sent again:\n{reasons}"
        )
    print_line(f"{sent} sent again.")
    if problems:
        print_warning(f"{len(problems)} remain dead letters:\n{reasons}")

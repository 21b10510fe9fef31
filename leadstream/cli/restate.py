"""`leadstream restate`: today's rules for the events that are recorded already."""

from pathlib import Path
from typing import Annotated

import typer

from leadstream.cli.options import OPERATE, AsJson, DatabaseUrl, DataDir, settings_from
from leadstream.console import Failure, print_json, print_line, print_status, progress_bar

app = typer.Typer()


@app.command(rich_help_panel=OPERATE)
def restate(
    apply: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option(
            "--apply", help="Replace the embedded store by the restated one. The old one is kept beside it."
        ),
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(
            help="Keep the restated store in this new data directory, and change nothing here.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--yes", help="With --apply: do not ask before replacing.")
    ] = False,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show who would move if all recorded events came in today; with --apply, make it so.

    An upgrade changes no score of what is recorded. This command reads the
    archive again through today's door (bots, channels, addresses, leads)
    and scores it again, in a store of its own, and compares the leads of
    both. Without options it changes nothing, and a server may run.
    """
    import msgspec

    from leadstream.operations.accounts import CommandNote, record_command
    from leadstream.operations.open_store import open_database_url
    from leadstream.operations.restate_report import print_restatement
    from leadstream.operations.restate_store import (
        RESTATING,
        discard,
        recorded_store,
        replace_store,
        require_replaceable,
        restate_into,
    )

    if apply and into is not None:
        raise typer.BadParameter("give --apply or --into, not both")
    settings = settings_from(data_dir=data_dir, database_url=database_url)
    if apply:
        require_replaceable(settings)
    if into is not None and into.exists():
        raise Failure(f"{into} exists: name a new directory.")
    print_result = print_status if as_json else print_line
    target = settings.data_dir / RESTATING if into is None else into.with_name(f".{into.name}.{RESTATING}")
    try:
        with recorded_store(settings) as url:
            with progress_bar("Restating", 1.0) as report:
                restated = restate_into(target, url, settings, report, durable=apply or into is not None)
            if as_json:
                print_json(msgspec.json.encode(restated))
            else:
                print_restatement(restated)
            if apply and not (yes or typer.confirm("Replace the store by the restated one?", err=True)):
                print_status("Nothing was changed.")
            elif apply:
                kept = replace_store(settings, target)
                with open_database_url(settings) as restated_url:
                    record_command(restated_url, CommandNote(before=f"kept in {kept.name}"))
                print_result(f"The store in {settings.data_dir} is restated. The old one is in {kept}.")
                print_status(
                    "To compare, serve the old one on another port. Delete it when you need it no more."
                )
            elif into is not None:
                target.rename(into)
                record_command(url, CommandNote(after=f"a copy in {into.name}"))
                print_result(f"The restated store is in {into}.")
    finally:
        discard(target)

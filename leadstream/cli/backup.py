"""`leadstream backup` and `leadstream restore`: the whole store in a file."""

from pathlib import Path
from typing import Annotated

import typer

from leadstream.cli.options import OPERATE, DatabaseUrl, DataDir, settings_from, settings_of_store
from leadstream.console import Failure, print_line

app = typer.Typer()


@app.command(rich_help_panel=OPERATE)
def backup(
    to: Annotated[Path, typer.Argument(help="File to write; with --base, a directory.")],
    base: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option("--base", help="Copy the files of the embedded PostgreSQL, which restores faster."),
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the whole store, as of one moment, into a file. A running server continues meanwhile."""
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.backup import copy_server_files, dump_database
    from leadstream.operations.open_store import open_database_url
    from leadstream.wiring import database_server

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    if base and settings.database_url is not None:
        raise Failure(
            "--base copies the files of an embedded PostgreSQL; for your own PostgreSQL use pg_basebackup "
            "(docs/backup.md)."
        )
    with open_database_url(settings, database_server) as url, recorded_command(url):  # of any schema version
        if base:
            copy_server_files(settings.data_dir, to)
        else:
            dump_database(url, to)
    print_line(f"The store is in {to}.")


@app.command(rich_help_panel=OPERATE)
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `leadstream backup` wrote.")],
    erasures: Annotated[
        Path | None,
        typer.Option(
            help="The ledger of erasures of the store that the backup is of, if it is not where this store looks for it "
            "(docs/privacy.md).",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Load a backup into an empty store: a new --data-dir, or an empty database. Then start `leadstream serve`.

    Before it answers, it erases again the people who were erased since.
    """
    from leadstream.operations.accounts import CommandNote, record_command
    from leadstream.operations.backup import load_dump, require_dump
    from leadstream.operations.erasure_ledger import add_to_ledger, read_ledger
    from leadstream.serving import ensure_directory
    from leadstream.variable_names import variable_name
    from leadstream.wiring import database_errors_explained, database_server

    settings = settings_from(data_dir=data_dir, database_url=database_url)
    require_dump(file)
    if erasures is not None:
        recorded = read_ledger(erasures)
        if not recorded:
            raise Failure(f"{erasures} is no ledger of erasures, or it is empty: name the right file.")
        add_to_ledger(settings.erasure_ledger, recorded)
    ensure_directory(settings.data_dir)
    with database_server(settings) as database, database_errors_explained(settings):
        load_dump(database(), file)
        record_command(database(), CommandNote(after="the store as it was when the backup was made"))
    target = variable_name("database_url") if settings.database_url else settings.data_dir
    print_line(f"The store of {file} is in {target}.")

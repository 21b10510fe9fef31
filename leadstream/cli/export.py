"""`leadstream export`: the events of a store, to a file or into Kafka."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import DATA, DatabaseUrl, DataDir, settings_of_store, settings_with_kafka_default
from leadstream.console import Failure, print_line, print_status, print_warning, printable_json, progress_bar

if TYPE_CHECKING:
    from leadstream.settings import Settings

app = typer.Typer()


@app.command(rich_help_panel=DATA)
def export(
    file: Annotated[
        str | None,
        typer.Argument(
            help="Write to this file; .gz compresses it, - is standard output.", show_default=False
        ),
    ] = None,
    to_kafka: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option("--to-kafka", help="Copy an embedded log into new topics of LEADSTREAM_KAFKA instead."),
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write every event as one JSON object on a line, as `import events` reads them.

    Exports from an embedded log or from Kafka, with or without a running
    server. Events keep the time of their recording. --to-kafka also copies
    models and settings, in their order among the events, so that workers
    there compute the same scores. Stop the server before you use
    --to-kafka.
    """
    if (file is None) != to_kafka:
        raise typer.BadParameter("give a FILE (- is stdout), or --to-kafka")
    if to_kafka:
        _export_to_kafka(settings_with_kafka_default(data_dir=data_dir, database_url=database_url))
    else:
        settings = settings_of_store(data_dir=data_dir, database_url=database_url)
        _export_to_file(settings, None if file in {None, "-"} else Path(file or "-"))


def _export_to_file(settings: "Settings", path: Path | None) -> None:
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.export import opened_output, write_events
    from leadstream.operations.open_store import open_database_url, settings_as_served
    from leadstream.operations.retention import archive_begins
    from projections.connection import connect_watched

    settings = settings_as_served(settings)
    with open_database_url(settings) as url, recorded_command(url), opened_output(path) as output:
        if settings.kafka is not None:
            _warn_of_unarchived(settings, url)
        write = output.write if path else lambda line: output.write(printable_json(line))
        counts = write_events(url, write)
        with connect_watched(url) as connection:
            begins = archive_begins(connection)
    print_status(f"Wrote {counts.events:,} events.")
    if begins is not None:
        print_warning(
            f"Events that were recorded before {begins:%Y-%m-%d %H:%M} UTC were removed (LEADSTREAM_LOG_RETENTION_DAYS): an import "
            "of this file gives other scores."
        )
    if counts.left_out:
        print_warning(
            f"{counts.left_out:,} records cannot be read and were left out: `leadstream dead-letters list`."
        )


def _export_to_kafka(settings: "Settings") -> None:
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.control_socket import running_server
    from leadstream.operations.migrate_to_kafka import migrate_to_kafka
    from leadstream.operations.open_store import open_database_url, require_embedded

    note = running_server(settings.data_dir)
    if note is not None:
        raise Failure(
            f"A server accepts events at {note.address} (pid {note.pid}): stop it first, so that no event is missed."
        )
    with open_database_url(settings) as url, recorded_command(url):
        require_embedded(url)
        with progress_bar("Copying events to Kafka", None) as report:
            copied = migrate_to_kafka(settings, url, report)
    print_line(f"{copied:,} events are in Kafka.")
    print_status(
        "From now on set LEADSTREAM_KAFKA. The read models need a database of their own: the default is fine; if you set "
        "LEADSTREAM_DATA_DIR or LEADSTREAM_DATABASE_URL, set another."
    )


def _warn_of_unarchived(settings: "Settings", database_url: str) -> None:
    """Warns if the archive of events is not complete."""
    import asyncio

    from leadstream.operations.lag import open_lag_meter
    from leadstream.stages import SOURCE_BY_STAGE
    from leadstream.wiring_kafka import kafka_errors_explained

    async def unarchived() -> int | None:
        async with open_lag_meter(settings.cluster, SOURCE_BY_STAGE, database_url) as lag:
            return await lag.unarchived()

    try:
        with kafka_errors_explained():
            missing = asyncio.run(unarchived())
    except Failure as cause:
        print_warning(f"Cannot tell whether every event is archived: {cause}")
        return
    if missing is None:
        print_warning("Cannot tell whether every event is archived: `leadstream doctor` says more.")
    elif missing:
        print_warning(f"{missing:,} positions are not archived yet: run `leadstream project`.")

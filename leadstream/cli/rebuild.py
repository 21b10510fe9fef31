"""`leadstream rebuild`: the read models, built again from the log."""

from typing import Annotated

import typer

from leadstream.cli.options import OPERATE, DatabaseUrl, DataDir, settings_of_store
from leadstream.console import Failure, print_line, print_status, progress_bar

app = typer.Typer()


def _check_table_names(names: list[str] | None) -> list[str]:
    from projections.history import LOSABLE_TABLES

    for name in names or []:
        if name not in LOSABLE_TABLES:
            raise typer.BadParameter(
                f"{name} is no table of the read models: use a name that `rebuild` printed"
            )
    return names or []


@app.command(rich_help_panel=OPERATE)
def rebuild(
    accept_loss: Annotated[
        list[str] | None,
        typer.Option(
            help="A table that may lose rows for good; a rejected rebuild names such tables. May be repeated.",
            callback=_check_table_names,
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Build the read models again from the log, then swap them in. A running server continues meanwhile.

    Rows of records that the log no longer has are kept.
    """
    from leadstream.active_models import analytics_settings
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.open_store import open_database_url, require_embedded, settings_as_served
    from projections.positions import PositionGapError
    from projections.rebuild import HistoryLostError, NothingToRebuildError, RebuildRunsError
    from projections.rebuild import rebuild as rebuild_read_models
    from projections.rows import UnreadableRecordError

    settings = settings_as_served(settings_of_store(data_dir=data_dir, database_url=database_url))
    with open_database_url(settings) as url, recorded_command(url):
        try:
            with progress_bar("Rebuilding", 1.0) as report:

                def share(done: int, total: int) -> None:
                    report(done / max(total, 1))

                if settings.kafka is None:
                    require_embedded(url)
                    kept = rebuild_read_models(
                        url,
                        progress=share,
                        accept_loss=accept_loss or (),
                        read_settings=analytics_settings,
                    )
                else:
                    from leadstream.operations.kafka_projection import rebuild_from_kafka
                    from leadstream.wiring import database_errors_explained
                    from leadstream.wiring_kafka import kafka_errors_explained

                    with kafka_errors_explained(), database_errors_explained(settings):
                        kept = rebuild_from_kafka(
                            settings.cluster, url, progress=share, accept_loss=accept_loss or ()
                        )
        except (
            HistoryLostError,
            NothingToRebuildError,
            RebuildRunsError,
            PositionGapError,
            UnreadableRecordError,
        ) as cause:
            raise Failure(str(cause)) from cause
    print_line("The read models were rebuilt.")
    if kept:
        print_status(
            f"The log no longer has the oldest records of {', '.join(kept)}: their older rows were kept."
        )

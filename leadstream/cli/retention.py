"""`leadstream retention`: what is older than the retention, and removing it now."""

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import OPERATE, DatabaseUrl, DataDir, settings_of_store
from leadstream.console import Failure, print_line, print_records, print_status, progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from projections.connection import Connection

app = typer.Typer()


@app.command(rich_help_panel=OPERATE)
def retention(
    days: Annotated[
        int | None,
        typer.Option(
            min=1, help="Records of so many days. Default: LEADSTREAM_LOG_RETENTION_DAYS.", show_default=False
        ),
    ] = None,
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove it now; without this, it is only shown.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show which records and rows are older than the retention, or remove them.

    Records are those of the embedded log, or Kafka's events in their archive
    (LEADSTREAM_LOG_RETENTION_DAYS). Rows are those of the kinds that
    LEADSTREAM_ROW_RETENTION names. A server removes both every hour; this
    command works with or without a running server. Scores, histories and sums
    stay. Without the oldest records, a replay of all events (what-if with new
    signals, backtest, restate, export --to-kafka) is no longer possible, and
    says so.
    """
    from leadstream.clock import utc_now
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.open_store import open_database_url, settings_as_served
    from leadstream.operations.retention import RECORDS, RebuildUnderWayError, remove_all_old
    from projections.connection import connect_watched

    settings = settings_as_served(settings_of_store(data_dir=data_dir, database_url=database_url))
    kept_days = days or settings.log_retention_days
    row_days = settings.row_days
    if not kept_days and not row_days:
        raise Failure(
            "Everything is kept: LEADSTREAM_LOG_RETENTION_DAYS is 0, and LEADSTREAM_ROW_RETENTION names no rows. `leadstream "
            "retention --days 90` shows the records that are older than 90 days."
        )
    at = utc_now()
    with open_database_url(settings) as url, connect_watched(url, autocommit=True) as connection:
        if not apply:
            if kept_days:
                _show_old(connection, at - timedelta(days=kept_days), kept_days)
            if row_days:
                _show_old_rows(connection, at, row_days)
            return
        with recorded_command(url), progress_bar("Removing", None) as report:
            removed = Counter[str]()
            try:
                for kind, count in remove_all_old(connection, kept_days, row_days, at):
                    removed[kind] += count
                    report(removed.total())
            except RebuildUnderWayError as cause:
                raise Failure(str(cause)) from cause
        kinds = [RECORDS] if kept_days else []
        for kind in [*kinds, *row_days]:
            print_line(f"{kind}: {removed[kind]:,} {'emptied' if kind == 'contents' else 'removed'}.")


def _show_old_rows(connection: "Connection", at: "datetime", row_days: "Mapping[str, int]") -> None:
    from projections.retention import ROW_KINDS, count_old_rows

    rows = [
        [
            kind,
            ROW_KINDS[kind].about,
            str(days),
            f"{count_old_rows(connection, kind, at - timedelta(days=days)):,}",
        ]
        for kind, days in row_days.items()
    ]
    print_records(["rows", "they are", "kept for days", "older"], rows)


def _show_old(connection: "Connection", before: "datetime", days: int) -> None:
    from leadstream.operations.retention import (
        archive_begins,
        old_events_of_archive,
        old_records,
    )
    from projections.source import embedded_log_exists

    if embedded_log_exists(connection):
        old = dict[str, int]()
        for each in old_records(connection, before):
            topic = each.partition[0]
            old[topic] = old.get(topic, 0) + each.end - each.first
    else:
        old = {"events, in the archive": old_events_of_archive(connection, before)}
    rows = [[topic, f"{count:,}"] for topic, count in old.items() if count]
    if rows:
        print_records(["topic", "records"], rows)
    print_line(
        f"{sum(old.values()):,} records are older than {days} {'day' if days == 1 else 'days'} (recorded before {before:%Y-%m-%d %H:%M} UTC)"
        f"{': `leadstream retention --apply` removes them.' if rows else '.'}"
    )
    if (begins := archive_begins(connection)) is not None:
        print_status(f"Events that were recorded before {begins:%Y-%m-%d %H:%M} UTC were removed already.")

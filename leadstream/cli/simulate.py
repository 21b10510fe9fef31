"""`leadstream simulate`: the events of a simulated company."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import DATA, DatabaseUrl, DataDir, LeadCount, settings_of_store
from leadstream.console import print_status, progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from leadstream.settings import Settings
    from schemas.envelope import Event

app = typer.Typer()


@app.command(rich_help_panel=DATA)
def simulate(
    leads: LeadCount = 500,
    days: Annotated[int, typer.Option(help="Days of history.", min=1, max=3650)] = 90,
    seed: Annotated[int, typer.Option(help="The same seed gives the same company.")] = 1,
    until: Annotated[
        datetime | None, typer.Option(help="End of the history (UTC).", show_default="this minute")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file instead of stdout; .gz compresses it."),
    ] = None,
    into: Annotated[  # noqa: FBT002 - a switch
        bool, typer.Option("--into", help="Import into the store instead of printing.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Simulate a company's events: web visits, chats, trade shows, e-mails, calls, purchases, and crawlers.

    Prints NDJSON in the order of recording. Some events are late,
    duplicated or out of order, as in reality. The same --seed, --leads,
    --days and --until give the same bytes.
    """
    from leadstream.clock import utc_now
    from leadstream.operations.export import opened_output
    from leadstream.simulation.simulate import simulated_events
    from schemas.decode import encode_source

    end = (until or utc_now()).replace(second=0, microsecond=0, tzinfo=UTC)
    events = simulated_events(seed, leads, days, end)
    if into:
        settings = settings_of_store(data_dir=data_dir, database_url=database_url)
        _import_simulated(events, settings, f"Recording {days} days of {leads} leads")
        return
    with opened_output(output) as file:
        for event in events:
            file.write(encode_source(event) + b"\n")


def _import_simulated(events: "Iterable[Event]", settings: "Settings", what: str) -> None:
    from leadstream.clock import utc_now
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.imports import append_all, archived, count_leads, counted
    from leadstream.operations.open_store import open_store
    from leadstream.operations.store_access import settle_with_bar

    now = utc_now()
    with open_store(settings) as store, recorded_command(store.database_url):
        with progress_bar(what, None) as report:
            append_all(counted((archived(event, now) for event in events), report), store.append)
        settle_with_bar(store)
        print_status(f"The store has {count_leads(store.database_url):,} leads now.")

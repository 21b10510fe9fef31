"""`leadstream crm`: reads back from CRMs what became of leads, and shows how far that is."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import (
    OPERATE,
    AsJson,
    DatabaseUrl,
    DataDir,
    OnlyTenant,
    settings_of_store,
)
from leadstream.console import Failure, print_json, print_line, print_records, print_status

if TYPE_CHECKING:
    from delivery.channels.crm import CrmChannel
    from leadstream.settings import Settings

app = typer.Typer()
crm = typer.Typer(
    help="What became of leads in a CRM: owners, stages, deals won and lost. `leadstream serve` reads it by itself."
)
app.add_typer(crm, name="crm", rich_help_panel=OPERATE)


@crm.command("pull")
def pull(
    channel: Annotated[
        str | None,
        typer.Argument(help="Name of the channel; not needed if there is one.", show_default=False),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Read changes from this moment (UTC) on once more.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Read now what has changed in a CRM. What was read before counts once.

    Beside a running server this only asks it to read at once.
    """
    import asyncio

    from delivery.crm.crm_worker import CrmPorts, CrmWorker
    from delivery.outcomes import DeliveryError
    from leadstream.clock import utc_now
    from leadstream.contacts import lead_finder
    from leadstream.delivery_configuration import delivery_configuration
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.control_socket import running_server
    from leadstream.operations.open_store import database_url_beside_server, open_store

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    name, read = _chosen_channel(settings, channel)
    moment = None if since is None else since.replace(tzinfo=since.tzinfo or UTC)
    if running_server(settings.data_dir) is not None:
        url = database_url_beside_server(settings)
        with recorded_command(url):
            _rewind(url, name, read, moment)
        print_line(f"The server reads {name} now: `leadstream crm status` shows how far it is.")
        return
    configuration = delivery_configuration(settings)
    with open_store(settings) as store, recorded_command(store.database_url):

        async def append(records: object) -> None:
            await asyncio.to_thread(store.append, records)  # type: ignore[arg-type]

        async def run() -> str:
            async with lead_finder(settings, store.database_url) as find_leads:
                worker = CrmWorker(
                    configuration, CrmPorts(lambda: store.database_url, append, utc_now, find_leads)
                )
                try:
                    report = await worker.pull_once(name)
                finally:
                    await worker.close()
            return (
                f"Records: {report.records:,}, events: {report.events:,}, contacts whom no lead is: "
                f"{report.unknown:,}."
            )

        _rewind(store.database_url, name, read, moment)
        try:
            print_line(asyncio.run(run()))
        except DeliveryError as cause:
            raise Failure(f"{name} could not be read: {cause.reason}.") from cause
        store.settle(lambda _: None)


@crm.command("status")
def status(
    tenant: OnlyTenant = None,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show how far each CRM was read, what waits, and why reading fails."""
    from msgspec import json

    from delivery.crm.crm_state import crm_status
    from leadstream.operations.open_store import open_database_url
    from projections.connection import connect_watched

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    with open_database_url(settings) as url, connect_watched(url, options="-c timezone=UTC") as connection:
        rows = crm_status(connection, tenant)
    if as_json:
        print_json(json.encode({"crms": rows}))
        return
    if not rows:
        print_status("No CRM was read yet: docs/crm.md says how to begin.")
        return
    print_records(
        ("channel", "kind", "read up to", "complete at", "records", "waiting", "failures"),
        [
            (
                row["crm"],
                row["kind"],
                f"{row['since']:%Y-%m-%d %H:%M:%S}",
                "not yet" if row["pulled_at"] is None else f"{row['pulled_at']:%Y-%m-%d %H:%M:%S}",
                str(row["records"]),
                str(row["waiting"]),
                str(row["failures"]),
            )
            for row in rows
        ],
    )
    for row in rows:
        if row["last_error"]:
            print_line(f"{row['crm']} ({row['kind']}): {row['last_error']}")


def _chosen_channel(settings: "Settings", channel: str | None) -> "tuple[str, CrmChannel]":
    from delivery.crm.crm_worker import inbound_channels
    from delivery.crm.inbound import CrmWebhookChannel
    from leadstream.delivery_configuration import delivery_configuration

    read = {
        name: each
        for name, each in inbound_channels(delivery_configuration(settings)).items()
        if not isinstance(each, CrmWebhookChannel)
    }
    name = next(iter(read)) if channel is None and len(read) == 1 else channel
    if name is None or name not in read:
        which = f"Those that can be read are {', '.join(read)}" if read else "None can be read"
        raise Failure(
            f"{'Name a channel' if name is None else f'{name!r} cannot be read'}. {which}: LEADSTREAM_DELIVERY names the file "
            "with channels, and a CRM that is to be read has an `inbound` table."
        )
    return name, read[name]


def _rewind(url: str, name: str, channel: "CrmChannel", since: datetime | None) -> None:
    from delivery.channels.crm import rules_of
    from delivery.crm.crm_state import rewind
    from delivery.crm.reading import kinds_of
    from projections.connection import connect_watched

    with connect_watched(url, autocommit=True) as connection:
        rewind(connection, rules_of(channel).tenant, name, kinds_of(channel), since)

"""`leadstream delivery`: carries out the actions of workflows on Kafka, and shows and retries what was not delivered."""

from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import (
    OPERATE,
    AsJson,
    DatabaseUrl,
    DataDir,
    OnlyTenant,
    settings_from,
    settings_of_store,
    settings_with_kafka_default,
)
from leadstream.console import Failure, print_json, print_line, print_records, print_status

if TYPE_CHECKING:
    from leadstream.settings import Settings

app = typer.Typer()
delivery = typer.Typer(invoke_without_command=True)
app.add_typer(delivery, name="delivery", rich_help_panel=OPERATE)

_MOST_DEAD_SHOWN = 20


@delivery.callback(invoke_without_command=True)
def run(context: typer.Context, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Carry out the actions of workflows: events, notifications, e-mails, webhooks, CRMs.

    `leadstream serve` does this itself. On Kafka, this process does it; any
    number of them share the work. Channels are in the file that
    LEADSTREAM_DELIVERY names. Ctrl-C or SIGTERM stops it.
    """
    if context.invoked_subcommand is None:
        _run(settings_with_kafka_default(data_dir=data_dir, database_url=database_url))


def _run(settings: "Settings") -> None:
    import time
    from contextlib import nullcontext

    from delivery.metrics import delivery_exposition
    from leadstream.cli.serve import until_stopped
    from leadstream.delivering import DeliveryThread
    from leadstream.embedded_postgres import postgres_url
    from leadstream.logs import configure_logs
    from leadstream.operations.projection_pages import serve_pages
    from leadstream.operations.store_directory import settings_for_process_on_kafka
    from leadstream.wiring_kafka import PartFailed, kafka_append

    configure_logs(settings.log_level)
    with until_stopped():
        settings = settings_for_process_on_kafka(settings)
        url = (
            settings.database_url.get_secret_value()
            if settings.database_url
            else postgres_url(settings.data_dir)
        )
        thread = DeliveryThread(settings, url, kafka_append(settings))
        pages = (
            serve_pages(
                settings.delivery_host,
                settings.delivery_port,
                delivery_exposition,
                lambda: None if thread.is_alive() else "delivery has stopped",
                process="delivery",
            )
            if settings.delivery_port
            else nullcontext()
        )
        with pages:
            thread.start()
            print_status(f"Delivering the actions of workflows (Kafka: {settings.kafka}). Ctrl-C stops it.")
            try:
                while thread.is_alive():
                    time.sleep(0.2)
                raise PartFailed("Delivery has failed; the log of this process says why.")
            finally:
                thread.stop()


@delivery.command("status")
def status(
    tenant: OnlyTenant = None,
    as_json: AsJson = False,  # noqa: FBT002 - a switch
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show how many messages wait, failed, are dead letters, were delivered; and why they are dead letters."""
    from msgspec import json

    from delivery.outbox import counts_by_channel, dead_letters
    from leadstream.operations.open_store import open_database_url
    from projections.connection import connect_watched

    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    with open_database_url(settings) as url, connect_watched(url, options="-c timezone=UTC") as connection:
        counts = counts_by_channel(connection, tenant)
        dead = dead_letters(connection, tenant)
    if as_json:
        print_json(json.encode({"channels": [each._asdict() for each in counts], "dead_letters": dead}))
        return
    if not counts:
        print_status("No workflow has sent anything yet.")
        return
    print_records(
        ("channel", "waiting", "delivering", "failed", "dead", "skipped", "delivered"),
        [tuple(str(value) for value in each[:-1]) for each in counts],
    )
    for row in dead[:_MOST_DEAD_SHOWN]:
        print_line(
            f"{row['execution_id']}  {row['channel']}  {row['workflow']}: {row['last_error']} "
            f"(attempts: {row['attempts']})"
        )
    if dead:
        print_status("Correct the cause, then: leadstream delivery retry --all, or with the numbers of some.")


@delivery.command("retry")
def retry(
    execution_ids: Annotated[
        list[int] | None,
        typer.Argument(
            metavar="[EXECUTION]...", help="Numbers of executions, as `status` shows them; or give --all."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Retry every dead letter.")] = False,  # noqa: FBT002 - a switch
    channel: Annotated[
        str | None, typer.Option(help="Only those of this channel.", show_default=False)
    ] = None,
    tenant: OnlyTenant = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Send dead letters again, under their old keys: receivers that know the key drop what they already have."""
    from delivery import outbox
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.open_store import open_database_url
    from projections.connection import connect_watched
    from schemas.control import EVERY_TENANT

    if every == bool(execution_ids):
        raise typer.BadParameter("give the numbers of executions, or --all")
    settings = settings_of_store(data_dir=data_dir, database_url=database_url)
    with (
        open_database_url(settings) as url,
        recorded_command(url, tenant or EVERY_TENANT) as row,
        connect_watched(url) as connection,
    ):
        retried = outbox.retry(
            connection, tenant=tenant, execution_ids=execution_ids or None, channel=channel
        )
        row.after = f"{retried} will be sent again"
    if not retried:
        raise Failure("No dead letter fits: `leadstream delivery status` shows them.")
    print_line(f"{retried} will be sent again.")


@delivery.command("check")
def check() -> None:
    """Check the file that LEADSTREAM_DELIVERY names, its secrets and templates, and list its channels."""
    from delivery.sending import kinds_of_channels
    from leadstream.delivery_configuration import delivery_configuration

    settings = settings_from()
    configuration = delivery_configuration(settings)
    if settings.delivery is None:
        print_status("LEADSTREAM_DELIVERY is not set: only the channels that are always there.")
    print_records(("channel", "kind"), list(kinds_of_channels(configuration)))


@delivery.command("try")
def try_channel(
    channel: Annotated[str, typer.Argument(help="Name of a channel in the configuration.")],
) -> None:
    """Send the message of an invented lead over a channel, at once. A CRM gets the invented lead, too."""
    import asyncio

    from delivery.outcomes import DeliveryError
    from delivery.sending import send_sample
    from leadstream.clock import utc_now
    from leadstream.delivery_configuration import delivery_configuration

    configuration = delivery_configuration(settings_from())
    if channel not in configuration.channels:
        raise Failure(f"There is no channel {channel!r}: `leadstream delivery check` lists them.")
    try:
        asyncio.run(send_sample(configuration, channel, utc_now()))
    except DeliveryError as cause:
        raise Failure(f"It was not delivered: {cause.reason}.") from cause
    print_line("Delivered.")

"""What the commands share: the panels of the help page, common options, and the settings of one run.

The modules of `leadstream.cli` import little at their top: typer, the console, this module. A command imports
inside its function what does the work, so that `leadstream --help` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.console import print_warning

if TYPE_CHECKING:
    from leadstream.settings import Settings

RUN, DATA, SCORES = "Run", "Import and export", "Scores and models"
OPERATE, KAFKA = "Operate", "Run on Kafka"

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Directory of the store. Default: LEADSTREAM_DATA_DIR, or else .leadstream.",
        show_default=False,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="Your own PostgreSQL instead of the embedded one. Default: LEADSTREAM_DATABASE_URL.",
        show_default=False,
    ),
]
Host = Annotated[
    str | None,
    typer.Option("--host", help="Address to listen on. Default: LEADSTREAM_HOST.", show_default=False),
]
Port = Annotated[
    int | None,
    typer.Option("--port", "-p", help="Port to listen on. Default: LEADSTREAM_PORT.", show_default=False),
]
LeadCount = Annotated[int, typer.Option("--leads", help="Number of simulated people.", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with every number.")]


def tenant_name(value: str) -> str:
    """A valid tenant, or * for every tenant."""
    from gateway.access import TENANT_NAME_PATTERN
    from schemas.control import EVERY_TENANT

    if value != EVERY_TENANT and TENANT_NAME_PATTERN.fullmatch(value) is None:
        raise typer.BadParameter("use lower-case letters, digits and -, at most 32 characters")
    return value


def optional_tenant_name(value: str | None) -> str | None:
    return None if value is None else tenant_name(value)


Tenant = Annotated[
    str, typer.Option("--tenant", help="Tenant that the leads belong to.", callback=tenant_name)
]
TargetTenant = Annotated[
    str,
    typer.Option(
        "--tenant", help="Tenant whose leads it scores. * means every tenant.", callback=tenant_name
    ),
]
OnlyTenant = Annotated[
    str | None,
    typer.Option(
        "--tenant", help="Show only this tenant.", callback=optional_tenant_name, show_default=False
    ),
]

RecordTopic = Annotated[
    str, typer.Argument(help="Topic of the record, as the server's log and `dead-letters list` print it.")
]
RecordPartition = Annotated[int, typer.Argument(min=0, help="Partition, the second value of the line.")]
RecordPosition = Annotated[int, typer.Argument(min=0, help="Position, the third value of the line.")]


def settings_from(**options: object) -> "Settings":
    """The settings of the environment, overridden by command-line options. Logs only warnings from now on."""
    from leadstream.logs import configure_logs
    from leadstream.settings import read_settings, unknown_variables

    for problem in unknown_variables():
        print_warning(problem)
    settings = read_settings(**options)
    configure_logs("warning")
    return settings


def settings_of_store(**options: object) -> "Settings":
    """The settings for a command on a store, with the directory of the server that runs. Raises Failure."""
    from leadstream.operations.store_directory import settings_for_command

    return settings_for_command(settings_from(**options))


def settings_with_kafka_default(**options: object) -> "Settings":
    """The settings for Kafka: LEADSTREAM_KAFKA, or else the broker on this machine."""
    from leadstream.kafka_settings import LOCAL_KAFKA_BROKER

    settings = settings_from(**options)
    return settings.model_copy(update={"kafka": settings.kafka or LOCAL_KAFKA_BROKER})

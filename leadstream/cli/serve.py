"""`leadstream serve`: everything in one process."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import (
    RUN,
    DatabaseUrl,
    DataDir,
    Host,
    Port,
    settings_from,
    settings_with_kafka_default,
)
from leadstream.console import WaitFor, print_status, report_waits
from leadstream.signals import exit_on_signal, interrupt_on_signal

if TYPE_CHECKING:
    from gateway.ports import AppendRecords
    from leadstream.settings import Settings

app = typer.Typer()

_WATCH_SECONDS = 0.2
"""Between two checks that worker and projection still run."""


@contextmanager
def until_stopped() -> Iterator[None]:
    """A command that runs until SIGINT or SIGTERM, and then exits 0. In the background, too, where a shell makes
    its children ignore SIGINT.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt_on_signal()
        yield
        exit_on_signal()
    except KeyboardInterrupt:
        exit_on_signal()
        print_status("Stopped.")


@app.command(rich_help_panel=RUN)
def serve(
    kafka: Annotated[  # noqa: FBT002 - a switch
        bool,
        typer.Option(
            "--kafka",
            help="Keep the log and the state in Kafka, at LEADSTREAM_KAFKA or else 127.0.0.1:9092.",
        ),
    ] = False,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Run everything in this process: event collector, log, scoring, read models, API and pages.

    Ctrl-C or SIGTERM stops it, and running requests end first. Every event
    that was answered with 2xx is on disk. With --kafka, missing topics are
    created, LEADSTREAM_WORKER_PORT shows the worker's pages, and the read
    models have a directory of their own, .leadstream/on-kafka, unless you
    name another.
    """
    with report_waits("loading the program") as wait_for:
        import leadstream.wiring  # noqa: F401 - loaded before signals interrupt what runs
        from leadstream.delivery_configuration import delivery_configuration
        from leadstream.logs import configure_logs
        from leadstream.operations.store_directory import settings_for_process_on_kafka
        from leadstream.serving import ensure_directory, open_listener

        read = settings_with_kafka_default if kafka else settings_from
        settings = read(host=host, port=port, data_dir=data_dir, database_url=database_url)
        configure_logs(settings.log_level)
        delivery_configuration(settings)  # refused before anything slow begins
        with until_stopped(), open_listener(settings) as listener:
            if settings.kafka is None:
                ensure_directory(settings.data_dir)
                _serve_embedded(settings, listener, wait_for)
                return
            wait_for("looking at the store that is here")
            settings = settings_for_process_on_kafka(settings)
            ensure_directory(settings.data_dir)
            _serve_on_kafka(settings, listener, wait_for)


def _serve_embedded(settings: "Settings", listener: socket.socket, wait_for: WaitFor) -> None:
    from leadstream.clock import utc_now
    from leadstream.delivering import delivery_beside
    from leadstream.operations.erasing import resume_erasures
    from leadstream.operations.store_access import store_of_system
    from leadstream.person_rights import embedded_ports
    from leadstream.serving import run_gateway
    from leadstream.wiring import open_system

    async def announce(_append: "AppendRecords") -> None:
        wait_for(None)
        print_status(
            f"Leadstream serves {settings.address} (store: {store_location(settings)}). Ctrl-C stops it."
        )

    wait_for(f"starting the database ({store_location(settings)})")
    with open_system(settings) as system:
        # Before the first answer: what an older backup does not know, and what a crash has interrupted.
        if resume_erasures(store_of_system(system), settings.erasure_ledger, utc_now):
            print_status("Erasures of people were applied again.")
        with delivery_beside(system, settings):
            run_gateway(settings, listener, lambda: embedded_ports(system, settings), announce)


def _serve_on_kafka(settings: "Settings", listener: socket.socket, wait_for: WaitFor) -> None:
    wait_for("loading the worker")
    import asyncio

    from leadstream.all_in_one import open_kafka_system
    from leadstream.person_rights import kafka_ports_with_rights
    from leadstream.serving import run_gateway

    with open_kafka_system(settings, wait_for) as system:

        async def watch(_append: "AppendRecords") -> None:
            print_status(
                f"Leadstream serves {settings.address} (Kafka: {settings.kafka}; worker: port {settings.worker_port}; "
                f"store: {store_location(settings)}). Ctrl-C stops it."
            )
            ready = False
            while True:
                system.raise_if_broken()
                await asyncio.sleep(_WATCH_SECONDS)
                missing = system.missing()
                wait_for("; ".join(missing) or None)
                if not (missing or ready):
                    ready = True
                    print_status("Everything runs.")

        run_gateway(
            settings,
            listener,
            lambda: kafka_ports_with_rights(settings, system.database_url, system.missing),
            watch,
            stopping=system.begin_stopping,
        )


def store_location(settings: "Settings") -> str:
    """The place of the database, without its password."""
    from leadstream.variable_names import variable_name

    return variable_name("database_url") if settings.database_url else str(settings.data_dir)

"""`leadstream worker`, `project` and `gateway`: the three processes of a system on Kafka."""

import typer

from leadstream.cli.options import KAFKA, DatabaseUrl, DataDir, Host, Port, settings_with_kafka_default
from leadstream.cli.serve import until_stopped
from leadstream.console import print_status

app = typer.Typer()

_STOPPING_SECONDS = 8.0


@app.command(rich_help_panel=KAFKA)
def worker() -> None:
    """Score leads. Any number of workers share the partitions.

    A worker keeps its state in Kafka and counts each event exactly once,
    even after a crash. Its pages on LEADSTREAM_WORKER_PORT show its
    partitions, its progress and /metrics. Ctrl-C or SIGTERM stops it within
    ten seconds.
    """
    from leadstream.logs import configure_logs
    from leadstream.worker import with_journal, worker_app
    from streams.kafka.faust_host import run_worker

    settings = settings_with_kafka_default()
    configure_logs(settings.log_level)
    host = worker_app(settings)
    host.on_failure = with_journal(settings, host.on_failure)
    run_worker(host, log_level=settings.log_level)


@app.command(rich_help_panel=KAFKA)
def project(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Build the read models in PostgreSQL from Kafka. Several of these processes share the work."""
    from leadstream.logs import configure_logs
    from leadstream.operations.store_directory import settings_for_process_on_kafka
    from leadstream.serving import ensure_directory
    from leadstream.wiring import database_errors_explained, database_server, refuse_database_with_log
    from leadstream.wiring_kafka import ProjectionThread

    settings = settings_with_kafka_default(data_dir=data_dir, database_url=database_url)
    configure_logs(settings.log_level)
    with until_stopped():
        settings = settings_for_process_on_kafka(settings)
        ensure_directory(settings.data_dir)
        with database_server(settings) as database:
            with database_errors_explained(settings):
                refuse_database_with_log(database())
            projection = ProjectionThread(settings, database)
            projection.start()
            try:
                projection.wait(
                    lambda: print_status(
                        f"Building the read models from Kafka ({settings.kafka}). Ctrl-C stops it."
                    )
                )
            finally:
                projection.stop(_STOPPING_SECONDS)


@app.command(rich_help_panel=KAFKA)
def gateway(
    host: Host = None, port: Port = None, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Write incoming events to Kafka, and serve the API and the pages from PostgreSQL.

    It accepts events even while PostgreSQL is unavailable. While Kafka is
    unavailable it answers 503 at once. /ready says what is missing.
    """
    from gateway.ports import AppendRecords
    from leadstream.embedded_postgres import postgres_url
    from leadstream.logs import configure_logs
    from leadstream.operations.store_directory import settings_for_process_on_kafka
    from leadstream.person_rights import kafka_ports_with_rights
    from leadstream.serving import open_listener, run_gateway

    settings = settings_for_process_on_kafka(
        settings_with_kafka_default(host=host, port=port, data_dir=data_dir, database_url=database_url)
    )
    configure_logs(settings.log_level)
    url = (
        settings.database_url.get_secret_value() if settings.database_url else postgres_url(settings.data_dir)
    )

    async def announce(_append: AppendRecords) -> None:
        print_status(f"The gateway serves {settings.address} (Kafka: {settings.kafka}). Ctrl-C stops it.")

    with until_stopped(), open_listener(settings) as listener:
        run_gateway(settings, listener, lambda: kafka_ports_with_rights(settings, url), announce, inlet=False)

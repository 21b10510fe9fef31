"""`leadstream skip`: let scoring go on behind a record that halts it."""

from typing import TYPE_CHECKING, Annotated

import typer

from leadstream.cli.options import (
    OPERATE,
    DatabaseUrl,
    DataDir,
    RecordPartition,
    RecordPosition,
    RecordTopic,
    settings_of_store,
)
from leadstream.console import Failure, print_line

if TYPE_CHECKING:
    from leadstream.settings import Settings

app = typer.Typer()


@app.command(rich_help_panel=OPERATE)
def skip(
    topic: RecordTopic,
    partition: RecordPartition,
    position: RecordPosition,
    reason: Annotated[str, typer.Option(help="Reason, kept with the record.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Skip a record that halts scoring: it becomes a dead letter. A running server continues at once.

    On Kafka, start the worker (or `serve --kafka`) again. The server's log
    and `leadstream doctor` name the record.
    """
    from leadstream.operations.open_store import settings_as_served

    settings = settings_as_served(settings_of_store(data_dir=data_dir, database_url=database_url))
    record = f"{topic} {partition} {position}"
    if settings.kafka is None:
        _skip_embedded(settings, topic, partition, position, reason)
        print_line(f"{record} will be skipped.")
    else:
        from leadstream.operations.skip_kafka import publish_skip as skip_on_kafka

        skip_on_kafka(settings, topic, partition, position, reason)
        print_line(
            f"{record} will be skipped: by a worker when it starts again, by a projection within seconds."
        )


def _skip_embedded(settings: "Settings", topic: str, partition: int, position: int, reason: str) -> None:
    from leadstream.operations.accounts import recorded_command
    from leadstream.operations.open_store import open_database_url, require_embedded
    from leadstream.stages import STAGES
    from projections.connection import connect_watched
    from streams.embedded import log

    stages = {stage.source: stage.name for stage in STAGES}
    if topic not in stages:
        raise Failure(f"No stage reads {topic}: only records of {' and '.join(stages)} can be skipped.")
    with (
        open_database_url(settings) as url,
        recorded_command(url),
        connect_watched(url) as connection,
    ):
        require_embedded(url)
        try:
            log.write_skip(connection, stages[topic], topic, partition, position, reason)
        except log.LogRefused as cause:
            raise Failure(str(cause)) from cause

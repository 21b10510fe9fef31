"""The directory of a store, if neither LEADSTREAM_DATA_DIR nor --data-dir names one.

A database has either an embedded log or a copy of what Kafka has, never both. So processes on Kafka use a directory
of their own inside the default one, and a command finds the store whose server runs.
"""

from leadstream.console import Failure
from leadstream.embedded_postgres import find_postgres
from leadstream.operations.control_socket import running_server
from leadstream.settings import Settings
from leadstream.wiring import database_errors_explained, database_server
from projections.connection import connect_watched
from projections.source import bound_source

KAFKA_SUBDIRECTORY = "on-kafka"


def settings_for_process_on_kafka(settings: Settings) -> Settings:
    """The settings of `serve --kafka`, `project` and `gateway`. Raises Failure.

    Earlier versions used the default directory itself: a copy of Kafka that is there stays in use.
    """
    if _is_directory_chosen(settings):
        return settings
    own = _settings_in_subdirectory(settings)
    return settings if not own.data_dir.exists() and _follows_kafka(settings) else own


def settings_for_command(settings: Settings) -> Settings:
    """The settings of a command on a store. Raises Failure if servers run on both stores."""
    if _is_directory_chosen(settings):
        return settings
    own = _settings_in_subdirectory(settings)
    running = [each for each in (settings, own) if running_server(each.data_dir) is not None]
    if len(running) > 1:
        raise Failure(
            f"Two servers run here: pass --data-dir {settings.data_dir}, or --data-dir {own.data_dir} for the one on Kafka."
        )
    if running:
        return running[0]
    only_on_kafka = own.data_dir.exists() and not (settings.data_dir / "postgres").exists()
    return own if only_on_kafka or (settings.kafka is not None and own.data_dir.exists()) else settings


def _is_directory_chosen(settings: Settings) -> bool:
    return "data_dir" in settings.model_fields_set or settings.database_url is not None


def _settings_in_subdirectory(settings: Settings) -> Settings:
    return settings.model_copy(update={"data_dir": settings.data_dir / KAFKA_SUBDIRECTORY})


def _follows_kafka(settings: Settings) -> bool:
    """Whether the store in this directory has a copy of what Kafka has."""
    if not (settings.data_dir / "postgres").exists():
        return False
    with database_errors_explained(settings):
        if (url := find_postgres(settings.data_dir)) is not None:
            return _is_bound_to_kafka(url)
        with database_server(settings) as database:
            return _is_bound_to_kafka(database())


def _is_bound_to_kafka(database_url: str) -> bool:
    with connect_watched(database_url) as connection:
        return bound_source(connection) is not None

"""Opens the store that the settings name, in whichever way it can be reached.

A running server on the data directory is used through its control socket. Without one, a command opens the
embedded store itself, or appends to Kafka, where workers elsewhere score.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from leadstream.console import Failure
from leadstream.embedded_postgres import PostgresUnavailable, find_postgres, has_postgres
from leadstream.operations.control_socket import running_server
from leadstream.operations.store_access import StoreAccess, store_of_running_server, store_of_system
from leadstream.settings import Settings
from leadstream.variable_names import variable_name
from leadstream.wiring import database_errors_explained, open_database, open_system
from projections.connection import connect_watched
from projections.source import bound_source

OpenDatabase = AbstractContextManager[Callable[[], str]]
"""Yields a function that returns the URL of a database while it is open."""


@contextmanager
def open_store(settings: Settings) -> Iterator[StoreAccess]:
    """Raises Failure."""
    note = running_server(settings.data_dir)
    with database_errors_explained(settings):
        if note is not None:
            yield store_of_running_server(note, database_url_beside_server(settings))
        elif settings.kafka is not None:
            from leadstream.operations.store_access_kafka import kafka_store  # noqa: PLC0415 - most commands need no Kafka

            with kafka_store(settings, database_url_beside_server(settings)) as store:
                yield store
        else:
            with open_system(settings) as system:
                yield store_of_system(system)


def settings_as_served(settings: Settings) -> Settings:
    """The settings, with the Kafka cluster of the server on the same data directory, if one runs. Raises
    Failure if they name another cluster.
    """
    note = running_server(settings.data_dir)
    if note is None or note.kafka is None:
        return settings
    of_server = {"kafka": note.kafka.brokers, "kafka_prefix": note.kafka.prefix, "kafka_app": note.kafka.app}
    for name, value in of_server.items():
        configured = getattr(settings, name)
        if name in settings.model_fields_set and configured != value:
            raise Failure(
                f"{variable_name(name)} is {configured!r}, and the server at {note.address} (pid {note.pid}) has {value!r}: unset "
                "it, stop that server, or pass another --data-dir."
            )
    return settings.model_copy(update=of_server)


def database_url_beside_server(settings: Settings) -> str:
    """The database that a server on this data directory uses, for reading beside it. Raises Failure."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    try:
        url = find_postgres(settings.data_dir)
    except PostgresUnavailable as cause:
        raise Failure(str(cause)) from cause
    if url is None:
        raise Failure(
            f"No database runs in {settings.data_dir}: start `leadstream serve"
            f"{' --kafka` (or `project` and `worker`)' if settings.kafka else '`'} on it, or pass --data-dir."
        )
    return url


@contextmanager
def open_database_url(
    settings: Settings, opened: Callable[[Settings], OpenDatabase] = open_database
) -> Iterator[str]:
    """The URL of the store's database, with or without a running server. Without one, `opened` starts it."""
    with database_errors_explained(settings):
        if settings.database_url is not None or running_server(settings.data_dir) is not None:
            yield database_url_beside_server(settings)
            return
        require_store(settings)
        with opened(settings) as database:
            yield database()


def has_store(settings: Settings) -> bool:
    """Whether the data directory has a store, or the store is in another database."""
    return settings.database_url is not None or has_postgres(settings.data_dir)


def require_store(settings: Settings) -> None:
    """Raises Failure if there is no store."""
    if not has_store(settings):
        demo = settings.data_dir / "demo"
        raise Failure(
            f"There is no store in {settings.data_dir.resolve()}: start `leadstream serve`, or pass the --data-dir of "
            f"another store{f' ({demo} for that of the demo)' if demo.exists() else ''}."
        )


def require_embedded(database_url: str) -> None:
    """Raises Failure for a store whose log is in Kafka."""
    with connect_watched(database_url) as connection:
        source = bound_source(connection)
    if source is not None:
        raise Failure(
            f"The log of this store is in Kafka (prefix {source.prefix!r}): set LEADSTREAM_KAFKA to its brokers "
            "(127.0.0.1:9092 if one is on this machine), and LEADSTREAM_KAFKA_PREFIX if there is a prefix."
        )

"""The log of a database: its own embedded log, or the topics of one Kafka cluster.

A position belongs to one log only, so a database never follows another log. Nothing here commits.
"""

from typing import Final, NamedTuple

from projections.connection import Connection

RECREATED_REMEDY: Final = (
    "set LEADSTREAM_DATABASE_URL to another database, or another LEADSTREAM_KAFKA_PREFIX"
)
"""The remedy if the topics of a database were deleted and created again."""


class KafkaSource(NamedTuple):
    """Topics in Kafka: their cluster, their prefix, and the app whose state they have."""

    cluster_id: str
    prefix: str
    app: str


class SourceError(RuntimeError):
    """The database belongs to another log. The message names the remedy."""


class TopicsRecreatedError(SourceError):
    """The topics have the names of those that the database was filled from, in the same cluster, but are others."""

    def __init__(self, topic: str, partition: int, contained: str) -> None:
        super().__init__(
            f"{topic}/{partition}: the database contains {contained}, so Kafka's topics were deleted and created again since: {RECREATED_REMEDY}."
        )


def refuse_embedded(connection: Connection) -> None:
    """Raises SourceError if the database has an embedded log. Works without Leadstream's tables."""
    if embedded_log_exists(connection):
        raise SourceError(
            "This database has an embedded log, so it cannot follow Kafka: pass another --data-dir, or set "
            "LEADSTREAM_DATABASE_URL to another database. `leadstream export --to-kafka` copies the events."
        )


def embedded_log_exists(connection: Connection) -> bool:
    return _table_exists(connection, "public.format")


def refuse_kafka(connection: Connection) -> None:
    """Raises SourceError if the database follows Kafka, so that no embedded log is opened in it."""
    bound = bound_source(connection)
    if bound is not None:
        raise SourceError(
            f"This database follows the Kafka cluster {bound.cluster_id} (prefix {bound.prefix!r}), so it cannot have an "
            "embedded log: set LEADSTREAM_KAFKA (or `serve --kafka`), pass another --data-dir, or set "
            "LEADSTREAM_DATABASE_URL to another database."
        )


def bound_source(connection: Connection) -> KafkaSource | None:
    """The topics that the database follows; None: none (yet)."""
    if not _table_exists(connection, "public.log_source"):
        return None
    row = connection.execute("select cluster_id, prefix, app from public.log_source").fetchone()
    return None if row is None else KafkaSource(*row)


def bind_source(connection: Connection, source: KafkaSource) -> None:
    """Binds the database to the source, unless it is bound already. Raises SourceError if it is bound to another."""
    refuse_embedded(connection)
    connection.execute(
        "insert into public.log_source (cluster_id, prefix, app) values (%s, %s, %s) on conflict do nothing",
        source,
    )
    require_source(connection, source)


def require_source(connection: Connection, source: KafkaSource) -> None:
    """Raises SourceError if the database has been bound to another one."""
    bound = bound_source(connection)
    if bound is None or bound == source:
        return
    if bound[:2] == source[:2]:
        raise SourceError(
            f"This database shows the state of the app {bound.app!r}, not of {source.app!r}: run `leadstream "
            "rebuild` once as the new app, or set LEADSTREAM_DATABASE_URL to another database."
        )
    raise SourceError(
        f"This database follows the Kafka cluster {bound.cluster_id} (prefix {bound.prefix!r}), and this one is "
        f"{source.cluster_id} (prefix {source.prefix!r}): set LEADSTREAM_KAFKA and LEADSTREAM_KAFKA_PREFIX back, or "
        "LEADSTREAM_DATABASE_URL to another database."
    )


def follow_app(connection: Connection, app: str) -> None:
    """Binds the database to another app of the same cluster."""
    connection.execute("update public.log_source set app = %s", (app,))


def _table_exists(connection: Connection, table: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", (table,)).fetchone()
    return row is not None and bool(row[0])

"""Which log a database belongs to: its own embedded one, or the topics of one Kafka cluster.

Positions mean something in one log only, so a database never follows another one. Never commits.
"""

from typing import Any, Final, NamedTuple

import psycopg

Connection = psycopg.Connection[Any]


RECREATED_REMEDY: Final = (
    "set LEADSTREAM_DATABASE_URL to another database, or another LEADSTREAM_KAFKA_PREFIX"
)
"""What helps when the topics of a database were deleted and made anew."""


class KafkaSource(NamedTuple):
    """Topics in Kafka: of which cluster, under which prefix, with the state of which app."""

    cluster_id: str
    prefix: str
    app: str


class SourceError(RuntimeError):
    """The database belongs to another log; the message names the remedy."""


class TopicsRecreatedError(SourceError):
    """The same cluster and the same names, but not the topics that the database was filled from."""

    def __init__(self, topic: str, partition: int, contained: str) -> None:
        super().__init__(
            f"{topic}/{partition}: the database contains {contained}, so Kafka's topics were made anew since: {RECREATED_REMEDY}."
        )


def refuse_embedded(connection: Connection) -> None:
    """Raises SourceError for a database that holds an embedded log. Needs no tables of ours."""
    if _exists(connection, "public.format"):
        raise SourceError(
            "This database holds an embedded log, and cannot follow Kafka as well: set LEADSTREAM_DATABASE_URL "
            "to another database, and carry the events over with `leadstream export --to-kafka`."
        )


def refuse_kafka(connection: Connection) -> None:
    """Raises SourceError for a database that follows Kafka, which no embedded log may be opened in."""
    bound = bound_source(connection)
    if bound is not None:
        raise SourceError(
            f"This database follows the Kafka cluster {bound.cluster_id} (prefix {bound.prefix!r}), and cannot hold an "
            "embedded log as well: set LEADSTREAM_KAFKA (or `serve --kafka`), or LEADSTREAM_DATABASE_URL to another "
            "database."
        )


def bound_source(connection: Connection) -> KafkaSource | None:
    """What the database follows; None: no Kafka (yet)."""
    if not _exists(connection, "public.log_source"):
        return None
    row = connection.execute("select cluster_id, prefix, app from public.log_source").fetchone()
    return None if row is None else KafkaSource(*row)


def bind(connection: Connection, source: KafkaSource) -> None:
    """Binds the database to the source; the first to come decides. Raises SourceError."""
    refuse_embedded(connection)
    connection.execute(
        "insert into public.log_source (cluster_id, prefix, app) values (%s, %s, %s) on conflict do nothing",
        source,
    )
    require(connection, source)


def require(connection: Connection, source: KafkaSource) -> None:
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
    """From now on the database shows the state of another app of the same cluster."""
    connection.execute("update public.log_source set app = %s", (app,))


def _exists(connection: Connection, table: str) -> bool:
    row = connection.execute("select to_regclass(%s) is not null", (table,)).fetchone()
    return row is not None and bool(row[0])

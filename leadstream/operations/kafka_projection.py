"""Projects the topics of a Kafka cluster into Postgres, and rebuilds the read models from them.

The calls block: each needs a thread or a process of its own. Positions are stored in Postgres, so every record
counts once, whatever fails. While Kafka or Postgres is unavailable, a projection waits. An error that a retry
cannot fix is raised.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
import structlog
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from leadstream.active_models import analytics_settings
from leadstream.embedded_postgres import PostgresUnavailable
from projections.connection import connect_watched
from projections.history import gaps_between, refuse_loss
from projections.metrics import PauseReason, UnprojectedRecords, set_paused
from projections.migrate import migrate
from projections.positions import PositionGapError
from projections.rebuild import RebuildProgress, rebuild
from projections.source import (
    KafkaSource,
    TopicsRecreatedError,
    bind_source,
    bound_source,
    follow_app,
    refuse_embedded,
    require_source,
)
from projections.state_rows import SCORE_LEADS, TRACK_SESSIONS
from projections.tables import PROJECTED_TOPICS
from projections.worker import contained_positions, next_positions, project_chunks, skip_removed_records
from schemas.record import Chunk, LogPartition
from schemas.topics import EVENTS, LEAD_ACTIVITY, PARTITION_WIDE_KEY, partition_of
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.following import READ_SECONDS, describe_topics, follow_topics
from streams.kafka.scanning import Scanner

SHORTEST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
STATEMENT_SECONDS = 3.0
"""How long a running statement may take after `stop` is set. Then it is cancelled, and its batch rolled back."""

_CONNECTION_OPTIONS = (
    "-c timezone=UTC -c jit=off -c lock_timeout=30s -c idle_in_transaction_session_timeout=30s"
)
"""The last option frees the partitions of a process whose network path is dead."""

_log = structlog.get_logger(__name__)


def run_projection(
    cluster: Cluster,
    database: Callable[[], str],
    *,
    stop: threading.Event,
    failing: Callable[[str | None], None],
    waiting: UnprojectedRecords | None = None,
    member: str | None = None,
) -> None:
    """Follows the topics until `stop` is set; then returns within a few seconds, the batch under way done.

    Migrates the read models first, and creates the views. `database` returns the URL; it is called again after
    every lost connection. `failing(reason)` reports, as a text for an operator, that it waits for Postgres or
    Kafka. `failing(None)` reports that it continues, also once at the beginning. Both are called from this
    thread, and only when the status changes.

    Any number of these may run at once, on one database: they share the partitions.
    Raises projections.source.SourceError (the database belongs to another log; names the remedy),
    streams.kafka.following.PositionLost (Kafka no longer has the next record; names `leadstream rebuild`),
    PositionGapError, OutdatedError, and any unexpected error.
    """
    reporter, waiting = StatusReporter(failing), waiting or UnprojectedRecords()
    pause = SHORTEST_PAUSE_SECONDS
    while not stop.is_set():
        reporter.followed = False
        try:
            asyncio.run(_follow_once(cluster, database, stop, reporter, waiting, member))
        except (psycopg.OperationalError, PostgresUnavailable) as cause:
            if stop.is_set():
                return
            reporter.report_failing("database", "The database does not answer.", cause)
        except KafkaUnavailable as cause:
            reporter.report_failing("kafka", str(cause), cause.__cause__)
        except _FORBIDDEN_ERRORS:
            raise
        except KafkaError as cause:
            reporter.report_failing("kafka", f"Kafka at {cluster.brokers} fails: {cause!r}.", cause)
        else:
            return
        pause = SHORTEST_PAUSE_SECONDS if reporter.followed else min(2 * pause, LONGEST_PAUSE_SECONDS)
        stop.wait(pause)


def rebuild_from_kafka(
    cluster: Cluster,
    database_url: str,
    *,
    progress: RebuildProgress | None = None,
    accept_loss: Collection[str] = (),
) -> list[str]:
    """`projections.rebuild.rebuild` from the cluster's topics, beside live workers; blocks.

    The archive of events is not rebuilt: the events that it lacks are given up if `accept_loss` names them.
    From now on the read models show the state of `cluster.app`. Raises RebuildRunsError, HistoryLostError, SourceError,
    OutdatedError, KafkaUnavailable, PositionLost, psycopg.OperationalError.
    """
    with Scanner(cluster, followed_topics(cluster)) as scanner:
        source = KafkaSource(scanner.described.cluster_id, cluster.prefix, cluster.app)
        with connect_watched(database_url) as connection:
            refuse_embedded(connection)
            migrate(database_url)
            bound = bound_source(connection)
            bind_source(connection, source if bound is None else source._replace(app=bound.app))
            positions = contained_positions(connection)
            _refuse_recreated(positions, scanner.ends())
            refuse_loss(gaps_between(scanner.starts(), positions), accept_loss)
        kept = rebuild(
            database_url,
            progress=progress,
            source=_KafkaLogSource(scanner, cluster.app),
            accept_loss=accept_loss,
            read_settings=analytics_settings,
        )
        ends = scanner.ends()
        ranges = {
            partition: (start, ends[partition])
            for partition, start in scanner.starts().items()
            if partition[0] == EVENTS
        }
        with connect_watched(database_url) as connection:
            for topic, partition in skip_removed_records(connection, ranges):
                _log.warning("the archive lacks events that Kafka removed", topic=topic, partition=partition)
    return kept


def _refuse_recreated(positions: Mapping[LogPartition, int], ends: Mapping[LogPartition, int]) -> None:
    for partition, position in positions.items():
        if partition in ends and position > ends[partition]:
            end = ends[partition]
            raise TopicsRecreatedError(*partition, f"positions up to {position - 1}, and it ends at {end}")


def followed_topics(cluster: Cluster) -> list[str]:
    """The logical topics that a projection reads, the changelogs included."""
    changelogs = (cluster.name_of(cluster.changelog(stage)) for stage in (TRACK_SESSIONS, SCORE_LEADS))
    return [EVENTS, *PROJECTED_TOPICS, *changelogs]


def projection_positions(database_url: str) -> dict[LogPartition, int]:
    """The next position that the read models need of every partition, by logical topic
    (`cluster.name_of(...)`; the changelogs included, without the prefix). A partition is absent while nothing of it was read.

    Lag = end offset (read_committed) - this. Opens a connection of its own; raises psycopg.OperationalError.
    """
    with connect_watched(database_url) as connection:
        try:
            return contained_positions(connection)
        except psycopg.errors.UndefinedTable:
            return {}


class StatusReporter:
    """Reports only changes of the status."""

    def __init__(self, failing: Callable[[str | None], None]) -> None:
        self._report = failing
        self._reported: str | None = ""
        self.followed = False

    def report_failing(self, kind: PauseReason, reason: str, cause: BaseException | None) -> None:
        set_paused(kind)
        if self._reported != reason:
            _log.warning("projecting pauses", reason=reason, cause=cause and " ".join(str(cause).split()))
            self._report_change(reason)

    def report_following(self, stuck: str | None) -> None:
        """`stuck`: why a partition waits for an operator, while the others continue; None if none waits."""
        self.followed = True
        if stuck is not None:
            self.report_failing("record", stuck, None)
            return
        set_paused(None)
        if self._reported is not None:
            _log.info("projecting", after=self._reported or None)
            self._report_change(None)

    def _report_change(self, reason: str | None) -> None:
        self._reported = reason
        self._report(reason)


async def _follow_once(
    cluster: Cluster,
    database: Callable[[], str],
    stop: threading.Event,
    reporter: StatusReporter,
    waiting: UnprojectedRecords,
    member: str | None,
) -> None:
    """Follows the topics until `stop` is set, or until Kafka or Postgres is unavailable."""
    topics = followed_topics(cluster)
    described = await describe_topics(cluster, topics)
    source = KafkaSource(described.cluster_id, cluster.prefix, cluster.app)
    partitions = sum(topic == EVENTS for topic, _ in described.log_partitions)
    writer = await asyncio.to_thread(_TableWriter.opened, database, source, partitions, waiting)
    cancelling = asyncio.create_task(_cancel_when_late(writer, stop))
    try:
        await follow_topics(
            cluster,
            topics,
            stop=stop,
            positions=writer.positions,
            take=writer.take,
            report=reporter.report_following,
            watch=waiting.set_remaining,
            member=member,
        )
    finally:
        cancelling.cancel()
        await asyncio.to_thread(writer.close)


async def _cancel_when_late(writer: "_TableWriter", stop: threading.Event) -> None:
    while not stop.is_set():  # noqa: ASYNC110 - a threading.Event cannot be awaited
        await asyncio.sleep(READ_SECONDS)
    await asyncio.sleep(STATEMENT_SECONDS)
    while True:
        await asyncio.to_thread(writer.cancel)
        await asyncio.sleep(READ_SECONDS)


class _TableWriter:
    """Writes the tables, over one connection."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        source: KafkaSource,
        partitions: int,
        waiting: UnprojectedRecords,
    ) -> None:
        self._connection = connection
        self._waiting = waiting
        self._source = source
        self._partitions = partitions
        self._gap = False

    @classmethod
    def opened(
        cls, database: Callable[[], str], source: KafkaSource, partitions: int, waiting: UnprojectedRecords
    ) -> "_TableWriter":
        url = database()
        connection = connect_watched(url, options=_CONNECTION_OPTIONS, application_name="leadstream project")
        try:
            refuse_embedded(connection)
            connection.commit()
            migrate(url)
            bind_source(connection, source)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return cls(connection, source, partitions, waiting)

    def close(self) -> None:
        self._connection.close()

    def cancel(self) -> None:
        """Cancels the statement of another thread. If the server does not react, the connection is shut down."""
        try:
            self._connection.cancel_safe(timeout=STATEMENT_SECONDS)
        except psycopg.Error:
            with (
                suppress(OSError, psycopg.Error),
                socket.socket(fileno=os.dup(self._connection.fileno())) as end,
            ):
                end.shutdown(socket.SHUT_RDWR)

    def positions(self, starts: Mapping[LogPartition, int]) -> Mapping[LogPartition, int]:
        with self._connection.transaction():
            require_source(self._connection, self._source)
            return next_positions(self._connection, starts)

    def take(self, chunks: Sequence[Chunk]) -> bool:
        """False if another projection is ahead, or if the positions were reset (by a restored backup). Raises
        SourceError once a rebuild has filled the tables from another app.
        """
        begun = time.monotonic()
        self._waiting.begin_writing(chunks)
        try:
            with self._connection.transaction():
                positions = project_chunks(
                    self._connection, [_without_misplaced(c, self._partitions) for c in chunks]
                )
                require_source(
                    self._connection, self._source
                )  # last: the lines above may have waited for a rebuild
        except PositionGapError:
            if self._gap:  # a second time, although the positions were read again
                raise
            self._gap = True
            return False
        self._gap = False
        self._waiting.end_writing(chunks, time.monotonic() - begun)
        return all(positions[chunk.topic, chunk.partition] == chunk.next for chunk in chunks)


class _KafkaLogSource:
    """A `projections.rebuild.LogSource`. Compacted topics are read like the others: a removed key is a record
    without a value there.
    """

    strict = False

    def __init__(self, scanner: Scanner, app: str) -> None:
        self._scanner = scanner
        self._app = app
        self._partitions = sum(topic == LEAD_ACTIVITY for topic, _ in scanner.described.log_partitions)

    def starts(self, _connection: object) -> dict[LogPartition, int]:
        return _without_events(self._scanner.starts())

    def ends(self, _connection: object) -> dict[LogPartition, int]:
        return _without_events(self._scanner.ends())

    def read(self, _connection: object, partition: LogPartition, start: int, _end: int, most: int) -> Chunk:
        return _without_misplaced(self._scanner.read(partition, start, most), self._partitions)

    def forget(self, _connection: object) -> None:
        """Does nothing: there is no cache."""

    def swapped(self, connection: psycopg.Connection[Any]) -> None:
        follow_app(connection, self._app)


def _without_misplaced(chunk: Chunk, partitions: int) -> Chunk:
    """The chunk without records in another partition than their key's: workers turn those into dead letters."""
    if chunk.topic not in (EVENTS, LEAD_ACTIVITY):
        return chunk
    records = [
        record
        for record in chunk.records
        if record.unreadable is not None
        or record.key == PARTITION_WIDE_KEY
        or partition_of(record.key, partitions) == record.partition
    ]
    return chunk._replace(records=records)


def _without_events(positions: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    return {partition: position for partition, position in positions.items() if partition[0] != EVENTS}


_FORBIDDEN_ERRORS = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

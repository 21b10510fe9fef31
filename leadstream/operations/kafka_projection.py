"""Projects the topics of a Kafka cluster into Postgres, and rebuilds the read models from them.

Blocking calls for a thread or a process of their own. Positions stand in Postgres, so whatever ends
when, every record counts once. What is away is waited for; what a retry cannot mend is raised.
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

from leadstream.embedded_postgres import PostgresUnavailable
from projections.connection import connect
from projections.history import gaps, refuse_loss
from projections.metrics import Pause, UnprojectedRecords, set_paused
from projections.migrate import migrate
from projections.positions import PositionGapError
from projections.rebuild import Progress, rebuild
from projections.source import (
    KafkaSource,
    TopicsRecreatedError,
    bind,
    bound_source,
    follow_app,
    refuse_embedded,
    require,
)
from projections.state_rows import SCORE_LEADS, TRACK_SESSIONS
from projections.tables import PROJECTED
from projections.worker import contained_positions, next_positions, project_chunks, skip_removed_records
from schemas.record import Chunk, LogPartition
from schemas.topics import EVENTS, LEAD_ACTIVITY, PARTITION_WIDE_KEY, partition_of
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.following import READ_SECONDS, describe, follow
from streams.kafka.scanning import Scanner

SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
STATEMENT_SECONDS = 3.0
"""For the statement under way when it is told to stop; then it is cancelled, and its batch undone."""

_OPTIONS = "-c timezone=UTC -c jit=off -c lock_timeout=30s -c idle_in_transaction_session_timeout=30s"
"""The last frees partitions that a worker held whose network path is dead."""

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

    Migrates the read models first, and makes the views. `database` gives the URL, again after every
    loss. `failing(reason)` says, in words for people, that it waits for Postgres or Kafka, and
    `failing(None)` that it goes on (also once at the beginning, when it has begun to follow); both are
    called from this thread, and only when something changes.

    Any number of these may run at once, on one database: they share the partitions.
    Raises projections.source.SourceError (the database belongs to another log; names the remedy),
    streams.kafka.following.PositionLost (Kafka no longer holds what is next; names `leadstream rebuild`),
    PositionGapError, OutdatedError, and any unexpected error.
    """
    say, waiting = StatusReporter(failing), waiting or UnprojectedRecords()
    pause = SHORTEST_PAUSE
    while not stop.is_set():
        say.heard = False
        try:
            asyncio.run(_follow(cluster, database, stop, say, waiting, member))
        except (psycopg.OperationalError, PostgresUnavailable) as cause:
            if stop.is_set():
                return
            say.failing("database", "The database does not answer.", cause)
        except KafkaUnavailable as cause:
            say.failing("kafka", str(cause), cause.__cause__)
        except _FORBIDDEN:
            raise
        except KafkaError as cause:
            say.failing("kafka", f"Kafka at {cluster.brokers} fails: {cause!r}.", cause)
        else:
            return
        pause = SHORTEST_PAUSE if say.heard else min(2 * pause, LONGEST_PAUSE)
        stop.wait(pause)


def rebuild_from_kafka(
    cluster: Cluster,
    database_url: str,
    *,
    progress: Progress | None = None,
    accept_loss: Collection[str] = (),
) -> list[str]:
    """`projections.rebuild.rebuild` from the cluster's topics, beside live workers; blocks.

    The archive of events is not folded; what it lacks is given up if `accept_loss` names it. The state shown
    is that of `cluster.app` from now on. Raises RebuildRunsError, HistoryLostError, SourceError,
    OutdatedError, KafkaUnavailable, PositionLost, psycopg.OperationalError.
    """
    with Scanner(cluster, followed_topics(cluster)) as scanner:
        source = KafkaSource(scanner.described.cluster_id, cluster.prefix, cluster.app)
        with connect(database_url) as connection:
            refuse_embedded(connection)
            migrate(database_url)
            bound = bound_source(connection)
            bind(connection, source if bound is None else source._replace(app=bound.app))
            positions = contained_positions(connection)
            _refuse_made_anew(positions, scanner.ends())
            refuse_loss(gaps(scanner.starts(), positions), accept_loss)
        kept = rebuild(
            database_url,
            progress=progress,
            source=_Topics(scanner, cluster.app),
            accept_loss=accept_loss,
        )
        ends = scanner.ends()
        held = {slot: (start, ends[slot]) for slot, start in scanner.starts().items() if slot[0] == EVENTS}
        with connect(database_url) as connection:
            for topic, partition in skip_removed_records(connection, held):
                _log.warning("the archive lacks events that Kafka let go", topic=topic, partition=partition)
    return kept


def _refuse_made_anew(held: Mapping[LogPartition, int], ends: Mapping[LogPartition, int]) -> None:
    for slot, position in held.items():
        if slot in ends and position > ends[slot]:
            raise TopicsRecreatedError(*slot, f"positions up to {position - 1}, and it ends at {ends[slot]}")


def followed_topics(cluster: Cluster) -> list[str]:
    """The logical topics that a projection reads, the changelogs included."""
    changelogs = (cluster.name_of(cluster.changelog(stage)) for stage in (TRACK_SESSIONS, SCORE_LEADS))
    return [EVENTS, *PROJECTED, *changelogs]


def projection_positions(database_url: str) -> dict[LogPartition, int]:
    """The next position that the read models need of every partition, by logical topic
    (`cluster.name_of(...)`; the changelogs included, without the prefix); absent: nothing was read yet.

    Lag = end offset (read_committed) - this. Opens a connection of its own; raises psycopg.OperationalError.
    """
    with connect(database_url) as connection:
        try:
            return contained_positions(connection)
        except psycopg.errors.UndefinedTable:
            return {}


class StatusReporter:
    """Tells only what changes."""

    def __init__(self, failing: Callable[[str | None], None]) -> None:
        self._tell = failing
        self._told: str | None = ""
        self.heard = False

    def failing(self, kind: Pause, reason: str, cause: BaseException | None) -> None:
        set_paused(kind)
        if self._told != reason:
            _log.warning("projecting pauses", reason=reason, cause=cause and " ".join(str(cause).split()))
            self._said(reason)

    def going(self, stuck: str | None) -> None:
        """`stuck`: a partition waits for an operator, and why; the others go on."""
        self.heard = True
        if stuck is not None:
            self.failing("record", stuck, None)
            return
        set_paused(None)
        if self._told is not None:
            _log.info("projecting", after=self._told or None)
            self._said(None)

    def _said(self, reason: str | None) -> None:
        self._told = reason
        self._tell(reason)


async def _follow(
    cluster: Cluster,
    database: Callable[[], str],
    stop: threading.Event,
    say: StatusReporter,
    waiting: UnprojectedRecords,
    member: str | None,
) -> None:
    """Until `stop` is set, or something is away."""
    topics = followed_topics(cluster)
    found = await describe(cluster, topics)
    source = KafkaSource(found.cluster_id, cluster.prefix, cluster.app)
    partitions = sum(topic == EVENTS for topic, _ in found.log_partitions)
    taker = await asyncio.to_thread(_Taker.opened, database, source, partitions, waiting)
    cancelling = asyncio.create_task(_cancel_when_late(taker, stop))
    try:
        await follow(
            cluster,
            topics,
            stop=stop,
            positions=taker.positions,
            take=taker.take,
            report=say.going,
            watch=waiting.left,
            member=member,
        )
    finally:
        cancelling.cancel()
        await asyncio.to_thread(taker.close)


async def _cancel_when_late(taker: "_Taker", stop: threading.Event) -> None:
    while not stop.is_set():  # noqa: ASYNC110 - it is a thread's
        await asyncio.sleep(READ_SECONDS)
    await asyncio.sleep(STATEMENT_SECONDS)
    while True:
        await asyncio.to_thread(taker.cancel)
        await asyncio.sleep(READ_SECONDS)


class _Taker:
    """The tables, over one connection."""

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
    ) -> "_Taker":
        url = database()
        connection = connect(url, options=_OPTIONS, application_name="leadstream project")
        try:
            refuse_embedded(connection)
            connection.commit()
            migrate(url)
            bind(connection, source)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return cls(connection, source, partitions, waiting)

    def close(self) -> None:
        self._connection.close()

    def cancel(self) -> None:
        """What runs on the connection in another thread; a server that is deaf to that is left."""
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
            require(self._connection, self._source)
            return next_positions(self._connection, starts)

    def take(self, chunks: Sequence[Chunk]) -> bool:
        """False: another worker is ahead, or the positions were moved back (a restored backup). Raises
        SourceError once a rebuild has made the tables another app's.
        """
        begun = time.monotonic()
        self._waiting.read(chunks)
        try:
            with self._connection.transaction():
                held = project_chunks(self._connection, [_placed(c, self._partitions) for c in chunks])
                require(self._connection, self._source)  # last: until here a rebuild may have been waited for
        except PositionGapError:
            if self._gap:  # again, though the positions were read anew
                raise
            self._gap = True
            return False
        self._gap = False
        self._waiting.written(chunks, time.monotonic() - begun)
        return all(held[chunk.topic, chunk.partition] == chunk.next for chunk in chunks)


class _Topics:
    """A `projections.rebuild.Log`. Compacted topics are read like the others: what a key lost stands
    there as a record without a value.
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

    def read(self, _connection: object, slot: LogPartition, start: int, _end: int, most: int) -> Chunk:
        return _placed(self._scanner.read(slot, start, most), self._partitions)

    def forget(self, _connection: object) -> None:
        """A record says it all."""

    def swapped(self, connection: psycopg.Connection[Any]) -> None:
        follow_app(connection, self._app)


def _placed(chunk: Chunk, partitions: int) -> Chunk:
    """Without records that stand in another partition than their key's: workers make dead letters of them."""
    if chunk.topic not in (EVENTS, LEAD_ACTIVITY):
        return chunk
    here = [
        record
        for record in chunk.records
        if record.unreadable is not None
        or record.key == PARTITION_WIDE_KEY
        or partition_of(record.key, partitions) == record.partition
    ]
    return chunk._replace(records=here)


def _without_events(positions: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    return {slot: position for slot, position in positions.items() if slot[0] != EVENTS}


_FORBIDDEN = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

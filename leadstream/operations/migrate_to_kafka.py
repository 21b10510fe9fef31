"""Carries an embedded log of events into Kafka, models and settings at their places between them.

Workers there come to the same scores: before each publication they are waited for, so that it finds
done what it found done here. What the folds themselves wrote is left out, since they write it again.
Changes nothing in the embedded log, and writes into no topics that were there before.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice

import psycopg

from leadstream.console import Failure, print_status
from leadstream.operations.event_loop import Loop, event_loop
from leadstream.operations.export import Stored, by_recording, stored
from leadstream.operations.lag import Lag, lag_of
from leadstream.settings import Settings
from leadstream.wiring_kafka import SOURCES, kafka_explained
from projections.connection import connect
from schemas.control import DERIVED_TYPES, SettingsPublished
from schemas.decode import decode_source
from schemas.envelope import tag_of
from schemas.publications import Publication, publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS, PARTITION_WIDE_KEY
from streams.embedded.log import partitions_of
from streams.kafka import topics
from streams.kafka.append import KafkaAppend
from streams.kafka.cluster import KafkaUnavailable

CHUNK = 1_000
_POLL_SECONDS = 0.2
_PATIENCE = 60.0

_DERIVED = tuple(f'{{"type":"{tag_of(kind)}",'.encode() for kind in DERIVED_TYPES)
_LOG = "select key, value from public.records where topic = 'events' and partition = %s order by position"


def migrate_to_kafka(settings: Settings, database_url: str, report: Callable[[int], None]) -> int:
    """How many events there were. Raises Failure."""
    with connect(database_url) as connection, kafka_explained(), event_loop() as loop:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        found = partitions_of(connection)
        target = _Target(loop, settings)
        try:
            partitions = settings.partitions if "partitions" in settings.model_fields_set else found
            _carry(_Log(connection, found), target, partitions, report)
        finally:
            target.close()
        return target.events


def _carry(log: "_Log", target: "_Target", partitions: int, report: Callable[[int], None]) -> None:
    genesis: list[Publication] = []
    for part in log.parts():
        if isinstance(part, Publication):
            if target.opened:
                target.publish(part)
            else:
                genesis.append(part)
            continue
        for chunk in _chunks(part):
            if not target.opened:
                target.open(partitions, genesis)
            target.append(chunk)
            report(target.events)
    if not target.opened:
        target.open(partitions, genesis)


class _Log:
    """The embedded log: what producers said between two publications, each publication, and so on."""

    def __init__(self, connection: "psycopg.Connection[tuple[object, ...]]", partitions: int) -> None:
        self._partitions = [stored(connection, _LOG, number) for number in range(partitions)]
        self._publications: list[bytes | None] = []

    def parts(self) -> Iterator[Iterator[Stored] | Publication]:
        while True:
            self._publications = []
            yield by_recording([self._said(partition) for partition in self._partitions])
            [*found] = set(self._publications)
            if found == [None]:
                return
            message = decode_source(found[0] or b"") if len(found) == 1 else None
            if not isinstance(message, Publication):
                raise Failure(
                    "The partitions of this log disagree on what was published between the events: it is damaged. "
                    "`leadstream export FILE` still writes its events."
                )
            yield message

    def _said(self, partition: Iterator[Stored]) -> Iterator[Stored]:
        """Up to the next publication, which goes into every partition."""
        for each in partition:
            if each.key == PARTITION_WIDE_KEY:
                self._publications.append(each.value)
                return
            if not each.value.startswith(_DERIVED):
                yield each
        self._publications.append(None)


def _chunks(records: Iterator[Stored]) -> Iterator[list[Outgoing]]:
    while chunk := [Outgoing(EVENTS, each.key, each.value) for each in islice(records, CHUNK)]:
        yield chunk


class _Target:
    """Topics that this very command makes."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._cluster = settings.cluster
        self._append = KafkaAppend(self._cluster)
        self._stack = AsyncExitStack()
        self._lag: Lag | None = None
        self.opened = False
        self.events = 0

    def open(self, partitions: int, genesis: Sequence[Publication]) -> None:
        try:
            self._loop.run(topics.partitions_of(self._cluster))
        except topics.TopicsMissing:
            pass
        else:
            raise Failure(
                f"Kafka has the topic {self._cluster.topic(EVENTS)} already: carry into topics of their own (set "
                "LEADSTREAM_KAFKA_PREFIX), or delete those first."
            )
        self._loop.run(
            topics.create_topics(
                self._cluster,
                partitions=partitions,
                replication=self._settings.kafka_replication,
                genesis=[record for said in genesis for record in publication_records(said)],
            )
        )
        self._loop.run(self._append.start())
        self._lag = self._loop.run(self._stack.enter_async_context(lag_of(self._cluster, SOURCES, "")))
        self.opened = True

    def append(self, records: Sequence[Outgoing]) -> None:
        """Again for a while if Kafka is away: repeated under their ids, events count once."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._loop.run(self._append(records))
            except KafkaUnavailable as away:
                if time.monotonic() > deadline:
                    raise Failure(
                        f"{away}. {self.events} events are carried; begin anew in other topics when that is mended "
                        "(set LEADSTREAM_KAFKA_PREFIX, or delete these)."
                    ) from away
                time.sleep(0.5)
            else:
                self.events += len(records)
                return

    def publish(self, said: Publication) -> None:
        self._wait_for_workers(said)
        self._loop.run(topics.publish(self._cluster, publication_records(said)))

    def _wait_for_workers(self, said: Publication) -> None:
        if self._lag is None:
            raise RuntimeError("the topics are not opened")
        told = False
        while not self._loop.run(self._lag.settled()):
            if not told and not self._loop.run(self._lag.workers()).members:
                print_status(
                    f"Version {said.version} of {_name(said)} was published here. Before it goes into Kafka, what came "
                    "before has to be scored there: start `leadstream worker`; this goes on by itself."
                )
                told = True
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        self._loop.run(self._stack.aclose())
        self._loop.run(self._append.stop())


def _name(said: Publication) -> str:
    return "the settings" if isinstance(said, SettingsPublished) else f"the model {said.model}"

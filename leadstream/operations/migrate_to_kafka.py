"""Copies an embedded log of events into Kafka, with models and settings at the same positions between them.

Workers on Kafka compute the same scores. Before each publication the command waits until they have scored all
earlier events, as was the case here. It leaves out what the folds wrote, since they write it again. It changes
nothing in the embedded log, and writes only into new topics.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from itertools import islice

import psycopg
from aiokafka.errors import KafkaError

from leadstream.console import Failure, print_status
from leadstream.operations.event_loop import BlockingLoop, event_loop
from leadstream.operations.export import StoredEvent
from leadstream.operations.lag import LagMeter, open_lag_meter
from leadstream.operations.recorded_log import EmbeddedParts
from leadstream.operations.retention import require_whole_archive
from leadstream.settings import Settings
from leadstream.stages import SOURCE_BY_STAGE
from leadstream.wiring_kafka import kafka_errors_explained
from projections.connection import connect_watched
from schemas.control import (
    ExperimentPublished,
    ModelPublished,
    ModelRetired,
    PersonErased,
    SettingsPublished,
    WorkflowsDue,
    WorkflowsPublished,
)
from schemas.publications import Publication, publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS
from streams.embedded.log import partitions_of
from streams.kafka import topics
from streams.kafka.append import KafkaAppend
from streams.kafka.cluster import KafkaUnavailable

CHUNK_RECORDS = 1_000
STALLED_SECONDS = 600.0
"""How long the workers may score nothing; a person may have to start one first."""
_POLL_SECONDS = 0.2
_RETRY_FOR_SECONDS = 60.0


def migrate_to_kafka(settings: Settings, database_url: str, report: Callable[[int], None]) -> int:
    """Returns the number of events. Raises Failure, and ArchiveShortened if the oldest events were removed."""
    with connect_watched(database_url) as connection, kafka_errors_explained(), event_loop() as loop:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        require_whole_archive(connection)
        partition_count = partitions_of(connection)
        target = _TargetTopics(loop, settings)
        try:
            partitions = settings.partitions if "partitions" in settings.model_fields_set else partition_count
            _copy_log(EmbeddedParts(connection, partition_count), target, partitions, report)
        finally:
            target.close()
        return target.events


def _copy_log(
    log: EmbeddedParts, target: "_TargetTopics", partitions: int, report: Callable[[int], None]
) -> None:
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


def _chunks(records: Iterator[StoredEvent]) -> Iterator[list[Outgoing]]:
    while chunk := [Outgoing(EVENTS, each.key, each.value) for each in islice(records, CHUNK_RECORDS)]:
        yield chunk


class _TargetTopics:
    """The topics that this command creates."""

    def __init__(self, loop: BlockingLoop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._cluster = settings.cluster
        self._append = KafkaAppend(self._cluster)
        self._stack = AsyncExitStack()
        self._lag: LagMeter | None = None
        self.opened = False
        self.events = 0

    def open(self, partitions: int, genesis: Sequence[Publication]) -> None:
        try:
            self._loop.run(topics.partition_count_of(self._cluster))
        except topics.TopicsMissing:
            pass
        else:
            raise Failure(
                f"Kafka has the topic {self._cluster.topic(EVENTS)} already: copy into new topics (set "
                "LEADSTREAM_KAFKA_PREFIX), or delete those first."
            )
        self._loop.run(
            topics.create_topics(
                self._cluster,
                partitions=partitions,
                replication=self._settings.kafka_replication,
                genesis=[record for publication in genesis for record in publication_records(publication)],
            )
        )
        self._loop.run(self._append.start())
        self._lag = self._loop.run(
            self._stack.enter_async_context(open_lag_meter(self._cluster, SOURCE_BY_STAGE, ""))
        )
        self.opened = True

    def append(self, records: Sequence[Outgoing]) -> None:
        """Retries for a while if Kafka is unavailable. Repeated events have the same ids, so they count once."""
        deadline = time.monotonic() + _RETRY_FOR_SECONDS
        while True:
            try:
                self._loop.run(self._append(records))
            except KafkaUnavailable as unavailable:
                if time.monotonic() > deadline:
                    raise Failure(
                        f"{unavailable}. {self.events} events are copied. Fix that and start again with other topics "
                        "(set LEADSTREAM_KAFKA_PREFIX, or delete these)."
                    ) from unavailable
                time.sleep(0.5)
            else:
                self.events += len(records)
                return

    def publish(self, publication: Publication) -> None:
        self._wait_for_workers(publication)
        self._loop.run(topics.publish_records(self._cluster, publication_records(publication)))

    def _wait_for_workers(self, publication: Publication) -> None:
        """Raises Failure if the workers score nothing for too long."""
        publication_name = _publication_name(publication)
        before, moved_at, reported = None, time.monotonic(), False
        while (left := self._unfolded()) != 0:
            if left is not None:
                moved_at = time.monotonic() if before is None or left < before else moved_at
                before = left
            if time.monotonic() - moved_at > STALLED_SECONDS:
                raise Failure(
                    f"{publication_name} when {self.events:,} events were recorded. They are in Kafka, and "
                    f"{'some' if before is None else f'{before:,}'} of their records are not scored there: for "
                    f"{STALLED_SECONDS / 60:.0f} minutes no worker has scored any ({self._no_worker_reason()}). Fix that, and "
                    "start again with other topics (set LEADSTREAM_KAFKA_PREFIX, or delete these)."
                )
            if not reported and not self._members():
                print_status(
                    f"{publication_name} here. Before this goes into Kafka, all earlier events must be scored "
                    "there: start `leadstream worker` with the same LEADSTREAM_KAFKA and LEADSTREAM_KAFKA_PREFIX. This "
                    "command continues by itself."
                )
                reported = True
            time.sleep(_POLL_SECONDS)

    def _unfolded(self) -> int | None:
        """None if Kafka does not answer now."""
        with suppress(KafkaError, TimeoutError):
            return self._loop.run(self._opened_lag.unfolded())
        return None

    def _members(self) -> int:
        with suppress(KafkaError, TimeoutError):
            return len(self._loop.run(self._opened_lag.workers()).members)
        return 0

    @property
    def _opened_lag(self) -> LagMeter:
        if self._lag is None:
            raise RuntimeError("the topics are not opened")
        return self._lag

    def _no_worker_reason(self) -> str:
        group = self._cluster.group
        return (
            f"there are workers in the group {group}: their log says more"
            if self._members()
            else f"there is none in the group {group}: start `leadstream worker`"
        )

    def close(self) -> None:
        self._loop.run(self._stack.aclose())
        self._loop.run(self._append.stop())


def _publication_name(publication: Publication) -> str:
    """The beginning of a sentence that ends with `here`."""
    if isinstance(publication, WorkflowsDue):
        return f"The schedule of workflow {publication.workflow_id} came"
    if isinstance(publication, PersonErased):
        return "A person was erased"
    what = {
        ModelPublished: "the model",
        ModelRetired: "the model",
        SettingsPublished: "the settings",
        WorkflowsPublished: "the workflows",
        ExperimentPublished: "the experiment",
    }[type(publication)]
    match publication:
        case ModelPublished(model=name) | ModelRetired(model=name) | ExperimentPublished(experiment=name):
            named = f" {name}"
        case _:
            named = ""
    return f"Version {publication.version} of {what}{named} was published"

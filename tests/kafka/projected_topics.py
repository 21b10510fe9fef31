"""Records written into Kafka as the workers write them, and a projection that runs meanwhile."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from leadstream.operations.kafka_projection import followed_topics, projection_positions, run_projection
from schemas.record import LogPartition, Outgoing
from schemas.topics import partition_of
from streams.kafka.cluster import Cluster
from streams.kafka.scanning import Scanner
from streams.kafka.topics import create_topics

sys.path += [str(Path(__file__).parents[1] / name) for name in ("projections", "streams")]

PARTITIONS = 3
DEADLINE_SECONDS = 180.0


def make_topics(cluster: Cluster) -> None:
    asyncio.run(create_topics(cluster, partitions=PARTITIONS, genesis=[]))


class Writer:
    """Writes transactions; every record goes where its key says, as every Kafka client has it."""

    def __init__(self, cluster: Cluster, name: str = "writer") -> None:
        self._cluster = cluster
        self._name = name
        self._runner = asyncio.Runner()
        self._producer: AIOKafkaProducer | None = None
        self._watchers: list[AIOKafkaConsumer] = []

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stop())
        self._runner.__exit__(None, None, None)

    def write(self, said: Sequence[Outgoing], *, abort: bool = False) -> None:
        self._runner.run(self._write(said, abort=abort))

    async def _start(self) -> None:
        self._producer = AIOKafkaProducer(
            **self._cluster.client(),
            transactional_id=f"{self._cluster.prefix}{self._name}",
            request_timeout_ms=20_000,
        )
        await self._producer.start()
        for isolation in ("read_committed", "read_uncommitted"):
            watcher = AIOKafkaConsumer(
                **self._cluster.client(), enable_auto_commit=False, isolation_level=isolation
            )
            await watcher.start()
            self._watchers.append(watcher)

    async def _stop(self) -> None:
        for client in (self._producer, *self._watchers):
            await client.stop()

    async def _write(self, said: Sequence[Outgoing], *, abort: bool) -> None:
        await self._producer.begin_transaction()
        sent = [
            await self._producer.send(
                self._cluster.topic(topic),
                value,
                key=key.encode(),
                partition=partition_of(key, PARTITIONS) if partition is None else partition,
            )
            for topic, key, value, partition in said
        ]
        await asyncio.gather(*sent)
        if abort:
            await self._producer.abort_transaction()
        else:
            await self._producer.commit_transaction()
        await self._marked({self._cluster.topic(topic) for topic, *_ in said})

    async def _marked(self, topics: set[str]) -> None:
        """Until all of it can be read: the mark that ends a transaction comes to each partition in its own
        time, after the commit.
        """
        places = [TopicPartition(topic, partition) for topic in topics for partition in range(PARTITIONS)]
        readable, written = self._watchers
        while await readable.end_offsets(places) != await written.end_offsets(places):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Projection:
    """A projection in a thread of its own, and what it said."""

    def __init__(self, running: "Future[None]", stop: threading.Event) -> None:
        self.running = running
        self.said: list[str | None] = []
        self._stop = stop

    def stop(self) -> None:
        """Raises what it ended with."""
        self._stop.set()
        self.running.result(DEADLINE_SECONDS)


@contextmanager
def projecting(cluster: Cluster, database: Callable[[], str]) -> Iterator[Projection]:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        started = threading.Event()

        def run() -> None:
            started.wait()
            run_projection(cluster, database, stop=stop, failing=projection.said.append)

        projection = Projection(threads.submit(run), stop)
        started.set()
        try:
            yield projection
        finally:
            stop.set()


def wait_until(done: Callable[[], bool], what: str, projection: Projection | None = None) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not done():
        if projection is not None and projection.running.done():
            projection.running.result()
        if time.monotonic() > deadline:
            said = projection.said if projection is not None else ""
            raise AssertionError(f"{what}: not within {DEADLINE_SECONDS:.0f} s {said}")
        time.sleep(0.05)


def ends_of(cluster: Cluster, topics: Iterable[str]) -> dict[LogPartition, int]:
    with Scanner(cluster, topics) as scanner:
        return scanner.ends()


def await_all(cluster: Cluster, url: str, projection: Projection | None = None) -> None:
    """Until everything that can be read is in the tables."""
    ends = ends_of(cluster, followed_topics(cluster))

    def reached() -> bool:
        positions = projection_positions(url)
        return all(positions.get(slot, 0) >= end for slot, end in ends.items())

    wait_until(
        reached,
        f"the tables contain {ends}",
        projection,
    )


def let_go(cluster: Cluster, topic: str, before: int | None = None) -> None:
    """As retention does it: records before that position, in every partition that holds as much; without
    one, all.
    """

    async def delete() -> None:
        admin = AIOKafkaAdminClient(**cluster.client())
        await admin.start()
        try:
            await admin.delete_records(
                {
                    TopicPartition(cluster.topic(topic), partition): RecordsToDelete(
                        before_offset=end if before is None else before
                    )
                    for (_, partition), end in ends.items()
                    if end and (before is None or end >= before)
                }
            )
        finally:
            await admin.close()

    ends = ends_of(cluster, [topic])
    asyncio.run(delete())

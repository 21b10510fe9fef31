"""Stores of the known history as files: written by this version, and brought back for whichever reads them.

    python -m tests.written.stores NAME    # a release writes its own, beside those of earlier ones

The embedded store is a dump in plain SQL; of Kafka, every record of every topic with its offset.
"""

import asyncio
import itertools
import lzma
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from deploy.kafka.broker import start as start_broker
from leadstream.embedded_postgres import _PROGRAMS_FOLDER, start_postgres, stop_postgres
from leadstream.operations.kafka_projection import followed_topics
from leadstream.stages import STAGES
from leadstream.wiring import genesis
from projections.migrate import migrate
from projections.worker import project_records
from schemas.moment import moment
from schemas.record import Outgoing
from schemas.topics import partition_of
from streams.embedded.driver import Driver
from streams.kafka import bare_host
from streams.kafka.cluster import Cluster
from streams.kafka.reading import COMMITTED_ISOLATION
from streams.kafka.topics import create_topics
from tests.ports import free_port
from tests.written.known_history import PARTITIONS, WRITTEN_AT, history_records

FILES = Path(__file__).parent / "fixtures"
SECONDS = 120
_UNFOLDED = """
  select (select count(*) from heads h left join checkpoints c
          on c.partition = h.partition and c.stage = case h.topic when 'events' then 'track_sessions' else 'score_leads' end
          where h.topic in ('events', 'lead-activity') and coalesce(c.position, 0) < h.position)
       + (select count(*) from dues where due_at <= %s)
"""


def embedded_file(name: str) -> Path:
    return FILES / f"{name}-embedded.sql.xz"


def kafka_file(name: str) -> Path:
    return FILES / f"{name}-kafka.msgpack.xz"


# The embedded store


def embedded_driver(url: str, now: int) -> Driver:
    return Driver(
        lambda: url,
        [stage() for stage in STAGES],
        now=lambda: now,
        partitions=PARTITIONS,
        genesis=genesis(moment(WRITTEN_AT)),
        project=project_records,
    )


def append_and_settle(driver: Driver, url: str, records: list[Outgoing], now: int = WRITTEN_AT) -> None:
    """Until all is folded, and nobody's time has come."""
    for record in records:
        driver.append([record]).result(SECONDS)
    deadline = time.monotonic() + SECONDS
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(_UNFOLDED, (now,)).fetchone() != (0,):
            assert time.monotonic() < deadline, driver.status()
            time.sleep(0.05)


def write_embedded(to: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="leadstream-written-") as directory:
        url = start_postgres(Path(directory), {"fsync": "off"})
        try:
            migrate(url)
            driver = embedded_driver(url, WRITTEN_AT)
            driver.start()
            try:
                append_and_settle(driver, url, history_records())
            finally:
                driver.stop()
            to.write_bytes(lzma.compress(_client("pg_dump", url, "--no-owner", "--no-privileges")))
        finally:
            stop_postgres(Path(directory))


def load_embedded(file: Path, url: str) -> None:
    """Into an empty database."""
    _client(
        "psql",
        url,
        "--quiet",
        "--no-psqlrc",
        "--set=ON_ERROR_STOP=1",
        given=lzma.decompress(file.read_bytes()),
    )


def _client(program: str, url: str, *arguments: str, given: bytes = b"") -> bytes:
    command = [str(_PROGRAMS_FOLDER / program), *arguments, f"--dbname={url}"]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


# Kafka


class Written(NamedTuple):
    """A record of a topic of ours; `topic` is its name without the prefix."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    at: int


class Partition(NamedTuple):
    topic: str
    partition: int
    records: list[Written]
    end: int


def write_kafka(to: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="leadstream-written-") as directory:
        broker = start_broker(Path(directory), free_port())
        try:
            cluster = Cluster(broker.address)
            read = asyncio.run(_record(cluster))
        finally:
            broker.kill()
    to.write_bytes(lzma.compress(msgspec.msgpack.encode(read)))


async def _record(cluster: Cluster) -> list[Partition]:
    await create_topics(cluster, partitions=PARTITIONS, genesis=genesis(moment(WRITTEN_AT)))
    async with producing(cluster) as producer:
        for topic, key, value, _ in history_records():
            await producer.send_and_wait(
                topic,
                value,
                key=key.encode(),
                partition=partition_of(key, PARTITIONS),
                timestamp_ms=WRITTEN_AT,
            )
    async with working(cluster):
        pass
    return await read_all(cluster)


class producing:  # noqa: N801 - used as a function
    def __init__(self, cluster: Cluster, name: str | None = None) -> None:
        self._producer = AIOKafkaProducer(**cluster.client(), transactional_id=name, enable_idempotence=True)

    async def __aenter__(self) -> AIOKafkaProducer:
        await self._producer.start()
        return self._producer

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()


class working:  # noqa: N801 - used as a function
    """A worker on all partitions; leaving waits until it has folded everything."""

    def __init__(self, cluster: Cluster, now: int = WRITTEN_AT) -> None:
        self._cluster, self._now = cluster, now
        self._stop = asyncio.Event()

    async def __aenter__(self) -> None:
        self._running = asyncio.create_task(
            bare_host.run_bare_worker(
                self._cluster,
                [stage() for stage in STAGES],
                partitions=PARTITIONS,
                now=lambda: self._now,
                stop=self._stop,
            )
        )

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            async with asyncio.timeout(SECONDS):
                while await _lag(self._cluster):
                    assert not self._running.done(), self._running.exception()
                    await asyncio.sleep(0.3)
        self._stop.set()
        await self._running


async def _lag(cluster: Cluster) -> int:
    """Positions that are not folded: asked first, so that what a stage has just written is never missed."""
    admin = AIOKafkaAdminClient(**cluster.client())
    await admin.start()
    try:
        done = await admin.list_consumer_group_offsets(cluster.group)
    except GroupCoordinatorNotAvailableError:  # of a young broker
        done = {}
    finally:
        await admin.close()
    consumer = AIOKafkaConsumer(**cluster.client(), enable_auto_commit=False)
    await consumer.start()
    try:
        sources = [TopicPartition(cluster.topic(s.source), n) for s in STAGES for n in range(PARTITIONS)]
        ends = await consumer.end_offsets(sources)
    finally:
        await consumer.stop()
    return sum(end - (done[p].offset if p in done else 0) for p, end in ends.items())


async def read_all(cluster: Cluster) -> list[Partition]:
    """Everything that is written by now. A consumer of committed records alone would end too early: the mark that ends a
    transaction comes to each partition in its own time, after the commit.
    """
    found = []
    async with _consuming(cluster, "read_uncommitted") as written, _consuming(cluster) as consumer:
        for topic in followed_topics(cluster):
            for number in range(PARTITIONS):
                place = TopicPartition(cluster.topic(topic), number)
                end = await _end(written, place)
                consumer.assign([place])
                records: list[Written] = []
                while await consumer.position(place) < end:
                    for read in (await consumer.getmany(place, timeout_ms=100)).values():
                        records += [
                            Written(topic, number, r.offset, r.key, r.value, r.timestamp) for r in read
                        ]
                found.append(Partition(topic, number, records, end))
    return found


@asynccontextmanager
async def _consuming(
    cluster: Cluster, isolation: str = COMMITTED_ISOLATION
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        enable_auto_commit=False,
        isolation_level=isolation,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _end(consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
    end: int = (await consumer.end_offsets([place]))[place]
    return end


def read_file(file: Path) -> list[Partition]:
    return msgspec.msgpack.decode(lzma.decompress(file.read_bytes()), type=list[Partition])


async def load_kafka(written: list[Partition], cluster: Cluster) -> None:
    """Every record at the offset that it had: between them stand as many marks of transactions, and records of
    undone ones, as there stood marks.
    """
    await create_topics(cluster, partitions=PARTITIONS, genesis=[])
    async with (
        producing(cluster) as plain,
        producing(cluster, f"{cluster.prefix}loader") as marking,
        _consuming(cluster, "read_uncommitted") as reader,
    ):
        for partition in written:
            place = TopicPartition(cluster.topic(partition.topic), partition.partition)
            for run, gap in _runs(partition):
                if gap % 2 == 0:
                    await _send(plain, cluster, run)
                else:
                    async with marking.transaction():
                        await _send(marking, cluster, run)
                for _ in range(gap // 2):
                    await marking.begin_transaction()
                    await _send(marking, cluster, run[-1:])
                    await marking.abort_transaction()
                # What another producer sends next would come before the mark, which the broker writes after its answer.
                while await _end(reader, place) <= run[-1].offset + gap:  # noqa: ASYNC110 - a broker tells nobody
                    await asyncio.sleep(0.005)


async def _send(producer: AIOKafkaProducer, cluster: Cluster, run: list[Written]) -> None:
    for _, partition, _, key, value, at in run:
        await producer.send_and_wait(
            cluster.topic(run[0].topic), value, key=key, partition=partition, timestamp_ms=at
        )


def _runs(partition: Partition) -> Iterator[tuple[list[Written], int]]:
    """Records that follow each other, and how many offsets behind them hold none."""
    after = [each.offset for each in partition.records[1:]] + [partition.end] * bool(partition.records)
    run: list[Written] = []
    for each, following in zip(partition.records, after, strict=True):
        run.append(each)
        gap = following - each.offset - 1
        if gap or following == partition.end:
            yield run, gap
            run = []


def main() -> None:
    (name,) = itertools.islice(sys.argv, 1, None)
    FILES.mkdir(exist_ok=True)
    write_embedded(embedded_file(name))
    write_kafka(kafka_file(name))
    for file in (embedded_file(name), kafka_file(name)):
        print(f"{file.name}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

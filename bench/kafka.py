"""Kafka for the benchmarks: a broker of their own, topics for each run, and measurements from outside.

`--brokers` uses a running broker instead; a run deletes what it has created there.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.kafka import broker as own
from schemas.topics import partition_of
from streams.kafka.cluster import Cluster
from streams.kafka.topics import create_topics

ALL_COMMITTED = "read_committed"
ALL_WRITTEN = "read_uncommitted"


class MeasuredBroker(NamedTuple):
    address: str
    pid: int | None = None
    """None: not ours."""
    logs: Path | None = None
    """Where it keeps the partitions."""


@contextmanager
def broker(address: str | None) -> Iterator[MeasuredBroker]:
    if address is not None:
        yield MeasuredBroker(address)
        return
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-kafka-", ignore_cleanup_errors=True) as data:
        started = own.start(Path(data), own.free_port(), report=print)
        try:
            pid = int((started.data_dir / "broker.pid").read_text())
            yield MeasuredBroker(started.address, pid, started.data_dir / "log")
        finally:
            started.stop()


@asynccontextmanager
async def topics(
    cluster: Cluster, partitions: int, stages: Sequence[str], genesis: Sequence = ()
) -> AsyncIterator[None]:
    """Creates our topics under the cluster's prefix; deletes everything under it afterwards."""
    await create_topics(cluster, partitions=partitions, stages=stages, genesis=genesis)
    try:
        yield
    finally:
        await delete_topics(cluster)


async def delete_topics(cluster: Cluster) -> None:
    if not cluster.prefix:
        raise ValueError("only topics of a run are deleted, and those have a prefix")
    admin = AIOKafkaAdminClient(**cluster.client())
    await admin.start()
    try:
        if created := [name for name in await admin.list_topics() if name.startswith(cluster.prefix)]:
            await admin.delete_topics(created)
    finally:
        await admin.close()


async def load(cluster: Cluster, topic: str, partitions: int, records: Iterable[tuple[str, bytes]]) -> None:
    """Writes the records in large batches, in order."""
    producer = AIOKafkaProducer(**cluster.client(), acks="all", max_batch_size=900_000, linger_ms=0)
    await producer.start()
    try:
        where = lru_cache(1_000_000)(lambda key: partition_of(key, partitions))
        batches = [producer.create_batch() for _ in range(partitions)]
        sent = []
        for key, value in records:
            number, raw = where(key), key.encode()
            if batches[number].append(key=raw, value=value, timestamp=None) is None:
                sent.append(
                    await producer.send_batch(batches[number], cluster.topic(topic), partition=number)
                )
                batches[number] = producer.create_batch()
                batches[number].append(key=raw, value=value, timestamp=None)
        for number, batch in enumerate(batches):
            sent.append(await producer.send_batch(batch, cluster.topic(topic), partition=number))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


class Watch:
    """Reads the ends of topics and the offsets of groups."""

    def __init__(self, cluster: Cluster, partitions: int) -> None:
        self._cluster = cluster
        self._partitions = range(partitions)
        self._admin = AIOKafkaAdminClient(**cluster.client())
        self._readers = {
            level: AIOKafkaConsumer(
                **cluster.client(),
                isolation_level=level,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=8 << 20,
            )
            for level in (ALL_COMMITTED, ALL_WRITTEN)
        }

    async def __aenter__(self) -> Self:
        await self._admin.start()
        for reader in self._readers.values():
            await reader.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for reader in self._readers.values():
            await reader.stop()
        await self._admin.close()

    def _topic_partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(self._cluster.topic(topic), number) for number in self._partitions]

    async def ends(self, topic: str, level: str = ALL_COMMITTED) -> list[int]:
        partitions = self._topic_partitions(topic)
        offsets = await self._readers[level].end_offsets(partitions)
        return [offsets[partition] for partition in partitions]

    async def committed(self, group: str, topic: str) -> list[int]:
        partitions = self._topic_partitions(topic)
        offsets = await self._admin.list_consumer_group_offsets(group, partitions=partitions)
        return [max(0, offsets[partition].offset) if partition in offsets else 0 for partition in partitions]

    async def caught_up(self, group: str, topic: str) -> bool:
        """Whether the group has committed every record, and none is being written."""
        if await self.ends(topic, ALL_WRITTEN) != await self.ends(topic):
            return False
        last = await self.after_last(topic)
        committed = await self.committed(group, topic)
        return all(at >= after for at, after in zip(committed, last, strict=True))

    async def after_last(self, topic: str) -> list[int]:
        """The position after the last record of each partition; marks of transactions may follow it."""
        reader = self._readers[ALL_COMMITTED]
        partitions = self._topic_partitions(topic)
        ends = await self.ends(topic)
        last = [0] * len(partitions)
        for number, (partition, end) in enumerate(zip(partitions, ends, strict=True)):
            back = 16
            while end and not last[number]:
                reader.assign([partition])
                reader.seek(partition, max(0, end - back))
                async for record in _until(reader, [partition], {partition: end}):
                    last[number] = record.offset + 1
                if back >= end:
                    break
                back *= 8
        reader.unsubscribe()
        return last

    async def records(self, topic: str) -> AsyncIterator:
        """Every committed record, in each partition's order."""
        reader = self._readers[ALL_COMMITTED]
        partitions = self._topic_partitions(topic)
        ends = dict(zip(partitions, await self.ends(topic), strict=True))
        reader.assign(partitions)
        await reader.seek_to_beginning(*partitions)
        async for record in _until(reader, partitions, ends):
            yield record
        reader.unsubscribe()


async def _until(
    reader: AIOKafkaConsumer, partitions: Collection[TopicPartition], ends: dict[TopicPartition, int]
) -> AsyncIterator:
    while left := [
        partition for partition in partitions if await reader.position(partition) < ends[partition]
    ]:
        for records in (await reader.getmany(*left, timeout_ms=200)).values():
            for record in records:
                yield record

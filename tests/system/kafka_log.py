"""A log in Kafka as a crash test reads it: whole, and only what is committed."""

import asyncio
from collections import defaultdict

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.record import Record

POSITION = b"\0"
"""The changelog key of a shard's position in its source."""


class KafkaLog:
    """Each topic is read once, when it is first asked for. `amid`: a transaction is open, and what comes behind
    it is not waited for.
    """

    def __init__(self, cluster, partitions, *, amid=False):
        self._cluster = cluster
        self._partitions = partitions
        self._ends_at = "read_committed" if amid else "read_uncommitted"
        self._read = {}

    def read(self, topic):
        """Partition -> its records in order."""
        if topic not in self._read:
            self._read[topic] = asyncio.run(self._all(self._cluster.topic(topic), topic))
        return self._read[topic]

    def folded(self, stage="score_leads"):
        """Partition -> up to which position of its source the stage has come."""
        changelog = asyncio.run(self._all(self._cluster.changelog(stage), stage))
        return {
            partition: int(record.value)
            for partition, records in changelog.items()
            for record in records
            if record.key.encode() == POSITION
        }

    async def _ends(self, partitions):
        """Where they end, whatever is committed of it: a commit that was answered may not show everywhere
        yet, and is waited for.
        """
        consumer = AIOKafkaConsumer(
            **self._cluster.client(), isolation_level=self._ends_at, enable_auto_commit=False
        )
        await consumer.start()
        try:
            return await consumer.end_offsets(partitions)
        finally:
            await consumer.stop()

    async def _all(self, name, topic):
        found = defaultdict(list)
        partitions = [TopicPartition(name, number) for number in range(self._partitions)]
        ends = await self._ends(partitions)
        consumer = AIOKafkaConsumer(
            **self._cluster.client(),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            begins = await consumer.beginning_offsets(partitions)
            consumer.assign(partitions)
            for partition, begin in begins.items():
                consumer.seek(partition, begin)
            while left := [p for p in partitions if await consumer.position(p) < ends[p]]:
                for partition, records in (await consumer.getmany(*left, timeout_ms=20)).items():
                    found[partition.partition] += [
                        Record(topic, partition.partition, r.offset, r.key.decode(), r.value, r.timestamp)
                        for r in records
                        if r.offset < ends[partition]
                    ]
        finally:
            await consumer.stop()
        return found

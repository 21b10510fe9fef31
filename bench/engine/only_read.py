"""The bound above all engines in Python: aiokafka reads the events, msgspec decodes them, nothing else."""

import argparse
import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.engine.job import read_event
from bench.processes import say_first
from schemas.topics import EVENTS
from streams.kafka.cluster import Cluster


async def read(cluster: Cluster, partitions: int) -> None:
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        group_id=cluster.group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    assigned = [TopicPartition(cluster.topic(EVENTS), number) for number in range(partitions)]
    consumer.assign(assigned)
    await consumer.seek_to_beginning(*assigned)
    ends = await consumer.end_offsets(assigned)
    positions = dict.fromkeys(assigned, 0)
    begun = False
    while any(positions[partition] < ends[partition] for partition in assigned):
        for partition, records in (await consumer.getmany(timeout_ms=500)).items():
            if not begun:
                begun = True
                say_first()
            for record in records:
                read_event(record.value)
            positions[partition] = records[-1].offset + 1
    await consumer.commit(positions)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers")
    parser.add_argument("prefix")
    parser.add_argument("partitions", type=int)
    arguments = parser.parse_args()
    asyncio.run(read(Cluster(arguments.brokers, arguments.prefix), arguments.partitions))

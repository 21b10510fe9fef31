"""The records that operators skip, read from the topic `leadstream-skips`.

Damaged records in that topic are ignored: the record whose skip cannot be read halts its reader again, which names
it.
"""

import asyncio
from collections.abc import Collection, Mapping

import structlog
from aiokafka import AIOKafkaConsumer

from schemas.record import LogPartition, Record
from streams.kafka.closing import close_in_time
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.reading import COMMITTED_ISOLATION, ChunkReader

Skips = Mapping[LogPartition, Mapping[int, str]]
"""Topic partition -> position -> why."""

_WAIT_SECONDS = 0.2
_FETCH_SECONDS = 30.0

_log = structlog.get_logger(__name__)


async def fetch_skips(cluster: Cluster, log_partitions: Collection[LogPartition]) -> Skips:
    """Opens a consumer of its own. Raises KafkaUnavailable, aiokafka's errors."""
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        enable_auto_commit=False,
        isolation_level=COMMITTED_ISOLATION,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
    )
    try:
        async with asyncio.timeout(_FETCH_SECONDS):
            await consumer.start()
            return await read_skips(consumer, cluster, log_partitions)
    except TimeoutError as cause:
        raise KafkaUnavailable(
            f"Kafka at {cluster.brokers} does not give what {cluster.skips} holds: try again when it answers."
        ) from cause
    finally:
        await close_in_time(consumer.stop())


async def read_skips(
    consumer: AIOKafkaConsumer, cluster: Cluster, log_partitions: Collection[LogPartition]
) -> Skips:
    """The skips of `log_partitions`. The consumer stays assigned to the topic."""
    reader = ChunkReader(consumer, cluster)
    topic = cluster.name_of(cluster.skips)
    partitions = {
        reader.partition((topic, number)): (topic, number)
        for number in {number for _, number in log_partitions}
    }
    ends = await consumer.end_offsets(list(partitions))
    left = {
        log_partition: ends[partition] for partition, log_partition in partitions.items() if ends[partition]
    }
    consumer.assign([reader.partition(log_partition) for log_partition in left])
    for log_partition in left:
        reader.seek(log_partition, 0)
    skips: dict[LogPartition, dict[int, str]] = {}
    while left:
        for chunk in await reader.read(seconds=_WAIT_SECONDS, of=left):
            for record in chunk.records:
                _take_skip(skips, record)
            if chunk.next >= left[chunk.topic, chunk.partition]:
                del left[chunk.topic, chunk.partition]
    return {log_partition: skips[log_partition] for log_partition in log_partitions if log_partition in skips}


def _take_skip(skips: dict[LogPartition, dict[int, str]], record: Record) -> None:
    topic, _, position = record.key.rpartition("/")
    if record.unreadable is not None or not topic or not (position.isascii() and position.isdigit()):
        _log.warning(
            "a record of the skips is ignored: its key must be TOPIC/POSITION",
            topic=record.topic,
            partition=record.partition,
            position=record.position,
            reason=record.unreadable and record.unreadable.reason,
        )
        return
    of_partition = skips.setdefault((topic, record.partition), {})
    if record.value is None:
        of_partition.pop(int(position), None)
    else:
        of_partition[int(position)] = record.value.decode(errors="replace")

"""What operators asked to skip, read from the topic `leadstream-skips`.

Garbage in that topic stops nobody: nothing is folded by it, and a record whose skip cannot be read stops its
reader again, which names it.
"""

from collections.abc import Collection, Mapping

import structlog
from aiokafka import AIOKafkaConsumer

from schemas.record import LogPartition, Record
from streams.kafka.cluster import Cluster
from streams.kafka.reading import COMMITTED, ChunkReader

Skips = Mapping[LogPartition, Mapping[int, str]]
"""Topic partition -> position -> why."""

_WAIT_SECONDS = 0.2

_log = structlog.get_logger(__name__)


async def fetch_skips(cluster: Cluster, slots: Collection[LogPartition]) -> Skips:
    """By a consumer of its own. Raises aiokafka's errors."""
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        enable_auto_commit=False,
        isolation_level=COMMITTED,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        return await read_skips(consumer, cluster, slots)
    finally:
        await consumer.stop()


async def read_skips(consumer: AIOKafkaConsumer, cluster: Cluster, slots: Collection[LogPartition]) -> Skips:
    """Those of `slots`. The consumer is assigned to the topic, and stays so."""
    reader = ChunkReader(consumer, cluster)
    topic = cluster.name_of(cluster.skips)
    asked = {reader.partition((topic, number)): (topic, number) for number in {number for _, number in slots}}
    ends = await consumer.end_offsets(list(asked))
    left = {slot: ends[partition] for partition, slot in asked.items() if ends[partition]}
    consumer.assign([reader.partition(slot) for slot in left])
    for slot in left:
        reader.seek(slot, 0)
    found: dict[LogPartition, dict[int, str]] = {}
    while left:
        for chunk in await reader.read(seconds=_WAIT_SECONDS, of=left):
            for record in chunk.records:
                _take(found, record)
            if chunk.next >= left[chunk.topic, chunk.partition]:
                del left[chunk.topic, chunk.partition]
    return {slot: found[slot] for slot in slots if slot in found}


def _take(found: dict[LogPartition, dict[int, str]], record: Record) -> None:
    topic, _, position = record.key.rpartition("/")
    if record.unreadable is not None or not topic or not (position.isascii() and position.isdigit()):
        _log.warning(
            "what stands here asks for no skip and is ignored: its key must be TOPIC/POSITION",
            topic=record.topic,
            partition=record.partition,
            position=record.position,
            reason=record.unreadable and record.unreadable.reason,
        )
        return
    of_slot = found.setdefault((topic, record.partition), {})
    if record.value is None:
        of_slot.pop(int(position), None)
    else:
        of_slot[int(position)] = record.value.decode(errors="replace")

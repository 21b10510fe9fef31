"""Chunks out of a consumer follow each other without a gap, whatever happens while a read waits."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.topics import EVENTS
from streams.kafka.reading import COMMITTED_ISOLATION, ChunkReader
from streams.kafka.topics import create_topics

pytestmark = pytest.mark.kafka
RECORDS = 200
SLOT = (EVENTS, 0)


async def chunks_of(cluster, meanwhile):
    """What is read while a read waits at the end of the log and `meanwhile` happens to its reader."""
    await create_topics(cluster, partitions=1, stages=(), genesis=())
    place = TopicPartition(cluster.topic(EVENTS), 0)
    producer = AIOKafkaProducer(**cluster.client())
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        isolation_level=COMMITTED_ISOLATION,
        enable_auto_commit=False,
        auto_offset_reset="none",
    )
    await producer.start()
    await consumer.start()
    try:
        for number in range(RECORDS):
            await producer.send(place.topic, b"%d" % number, key=b"k", partition=0)
        await producer.flush()
        consumer.assign([place])
        reader = ChunkReader(consumer, cluster)
        reader.seek(SLOT, RECORDS)
        reading = asyncio.create_task(reader.read(seconds=3))
        await asyncio.sleep(0.3)
        meanwhile(reader)
        async with asyncio.timeout(60):
            chunks = await reading
            while not chunks or chunks[-1].next < RECORDS:
                chunks += await reader.read(seconds=5)
        return chunks
    finally:
        await consumer.stop()
        await producer.stop()


def assert_whole(chunks, begin):
    assert chunks[0].start == begin
    assert [chunk.start for chunk in chunks[1:]] == [chunk.next for chunk in chunks[:-1]]
    assert [int(record.value) for chunk in chunks for record in chunk.records] == list(range(begin, RECORDS))


@pytest.mark.parametrize("position", [0, 37])
def test_a_seek_while_a_read_waits_loses_nothing(cluster, position):
    chunks = asyncio.run(chunks_of(cluster, lambda reader: reader.seek(SLOT, position)))
    assert_whole(chunks, position)


def test_partitions_taken_and_given_again_while_a_read_waits_lose_nothing(cluster):
    def taken_and_given(reader):
        reader.forget()
        reader.seek(SLOT, 11)

    assert_whole(asyncio.run(chunks_of(cluster, taken_and_given)), 11)

"""A stage that only counts what it folds per key, and workers that run it in threads of the test."""

import asyncio
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.topics import EVENTS, SCORE_CHANGED, partition_of
from streams.kafka.faust_host import LeadstreamApp
from streams.kafka.topics import create_topics
from streams.kafka.worker_thread import WorkerThread

PARTITIONS = 4
PATIENCE = 180.0


class Count:
    def __init__(self, key, number):
        self.key = key
        self.number = number
        self.changed = False

    def changes(self):
        changed, self.changed = self.changed, False
        return {"n": b"%d" % self.number} if changed else {}


class Nothing:
    def changes(self):
        return {}


class CountEvents:
    """Says of every event, on `score-changed` under the event's key, which one of its key it is."""

    name = "count_events"
    source = EVENTS

    def decode(self, record):
        return record.key, record.value

    def key_of(self, message):
        return message[0]

    def open_shared(self, _parts):
        return Nothing()

    def open(self, key, parts):
        return Count(key, int(parts.get("n", b"0")))

    def evolve(self, _shared, state, message, _origin, emit):
        if message[1] == b"boom":
            raise RuntimeError("boom")
        state.number += 1
        state.changed = True
        emit(SCORE_CHANGED, state.key, b"%d" % state.number)


def make_topics(cluster, stages, *, partitions=PARTITIONS, genesis=()):
    names = [stage.name for stage in stages]
    asyncio.run(create_topics(cluster, partitions=partitions, stages=names, genesis=genesis))


@contextmanager
def working(cluster, tmp_path, *, stages=None, **options):
    """(app, thread) of a worker that runs; it is stopped in the end."""
    options = {"buckets": 2, "now": lambda: time.time_ns() // 1_000_000, "data_dir": Path(tmp_path)} | options
    app = LeadstreamApp(cluster, stages or [CountEvents()], **options)
    thread = WorkerThread(app)
    thread.start()
    try:
        yield app, thread
    finally:
        stopped = thread.stop(PATIENCE)
    assert stopped


def until(condition, what):
    """Polls, since neither a broker nor a thread tells when."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)
    return found


def ready(*apps):
    until(lambda: all(app.unready() is None and app.status() for app in apps), "all workers are ready")


def owned(app):
    return {shard.task_group for shard in app.status()}


def produce(cluster, records, topic=EVENTS):
    """(key, value) pairs, in their order."""

    async def run():
        producer = AIOKafkaProducer(**cluster.client(), acks="all")
        await producer.start()
        try:
            sent = [
                await producer.send(
                    cluster.topic(topic), value, key.encode(), partition=partition_of(key, PARTITIONS)
                )
                for key, value in records
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    asyncio.run(run())


def flood(cluster, key, count):
    """So many events of one key, quickly."""

    async def run():
        producer = AIOKafkaProducer(**cluster.client(), acks="all", max_batch_size=500_000)
        await producer.start()
        try:
            left, to = count, partition_of(key, PARTITIONS)
            while left:
                batch = producer.create_batch()
                while left and batch.append(key=key.encode(), value=b"click", timestamp=None) is not None:
                    left -= 1
                await producer.send_batch(batch, cluster.topic(EVENTS), partition=to)
            await producer.flush()
        finally:
            await producer.stop()

    asyncio.run(run())


async def high_watermarks(cluster, partitions):
    """Where partitions end, whoever can read that already: the mark that ends a transaction comes to each
    partition in its own time, after the commit.
    """
    consumer = AIOKafkaConsumer(**cluster.client(), enable_auto_commit=False)
    await consumer.start()
    try:
        return await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()


def read(cluster, topic=SCORE_CHANGED):
    """Key -> values, of everything that is committed by now."""

    async def run():
        consumer = AIOKafkaConsumer(
            **cluster.client(), isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        found = defaultdict(list)
        try:
            partitions = [TopicPartition(cluster.topic(topic), number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            for partition, end in (await high_watermarks(cluster, partitions)).items():
                while await consumer.position(partition) < end:
                    for records in (await consumer.getmany(partition, timeout_ms=200)).values():
                        for record in records:
                            found[record.key.decode()].append(record.value)
        finally:
            await consumer.stop()
        return dict(found)

    return asyncio.run(run())


def backlog(cluster, topic=EVENTS):
    """Positions between the end of the topic and what the workers' group has committed."""

    async def run():
        consumer = AIOKafkaConsumer(
            **cluster.client(),
            group_id=cluster.group,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(cluster.topic(topic), number) for number in range(PARTITIONS)]
            ends = await high_watermarks(cluster, partitions)
            return sum([end - (await consumer.committed(p) or 0) for p, end in ends.items()])
        finally:
            await consumer.stop()

    return asyncio.run(run())


def settled(cluster, *topics):
    until(lambda: not any(backlog(cluster, topic) for topic in topics or (EVENTS,)), "everything is folded")


def counted(cluster, keys, times):
    """Every event of each key was counted once, in order, and said once."""
    expected = [b"%d" % number for number in range(1, times + 1)]
    assert read(cluster) == dict.fromkeys(keys, expected)

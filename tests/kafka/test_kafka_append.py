"""Appending to Kafka: acknowledged is kept, away is said quickly, and it goes on by itself.

The broker is a real one that is killed, frozen and restarted.
"""

import asyncio
import contextlib
import os
import signal
import time

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from schemas.record import Outgoing
from schemas.topics import EVENTS, partition_of
from streams.kafka import append as appending
from streams.kafka.append import KafkaAppend
from streams.kafka.cluster import Cluster, KafkaUnavailable

pytestmark = pytest.mark.kafka

PARTITIONS = 3
SECONDS = 180.0
LATER = 15.0
"""What a loaded machine may add to a wait that is bounded. An unbounded one would take a minute or more."""
AT_ONCE = 3.0
"""Far below any wait for Kafka."""


PREFIX = "append-"


@pytest.fixture(scope="module")
def broker(mortal_broker):
    """One that is killed; its topic is this module's own."""
    if not mortal_broker.running:
        mortal_broker.restart()
    asyncio.run(_make_topic(Cluster(mortal_broker.address, prefix=PREFIX)))
    return mortal_broker


@pytest.fixture
def kafka_there(broker):
    """The cluster, with its broker up at the beginning and at the end."""
    if not broker.running:
        broker.restart()
    yield Cluster(broker.address, prefix=PREFIX)
    if not broker.running:
        broker.restart()


async def _make_topic(cluster: Cluster) -> None:
    admin = AIOKafkaAdminClient(**cluster.client())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(cluster.topic(EVENTS), PARTITIONS, 1)])
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def appending_to(cluster: Cluster):
    append = KafkaAppend(cluster)
    await append.start()
    try:
        yield append
    finally:
        await append.stop()


async def everything_in(cluster: Cluster) -> dict[int, list[tuple[bytes | None, bytes | None]]]:
    """(key, value) of all records, by partition."""
    consumer = AIOKafkaConsumer(**cluster.client(), isolation_level="read_committed")
    await consumer.start()
    try:
        topic = cluster.topic(EVENTS)
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[int, list[tuple[bytes | None, bytes | None]]] = {
            number: [] for number in range(PARTITIONS)
        }
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for records in (await consumer.getmany(partition, timeout_ms=1000)).values():
                    found[partition.partition] += [(record.key, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


async def until(condition) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.02)


def event(number: int, *, key: str = "default/v/a") -> Outgoing:
    return Outgoing(EVENTS, key, b"%d" % number)


def test_records_stand_in_the_partition_of_their_key_in_the_order_given(kafka_there: Cluster):
    keys = [f"default/v/order-{number % 7}" for number in range(3000)]

    async def run():
        async with appending_to(kafka_there) as append:
            await append([event(number, key=key) for number, key in enumerate(keys)])
            return await everything_in(kafka_there)

    found = asyncio.run(run())
    for partition, records in found.items():
        mine = [(key, int(value)) for key, value in records if key is not None and b"/order-" in key]
        assert mine == [
            (key.encode(), number)
            for number, key in enumerate(keys)
            if partition_of(key, PARTITIONS) == partition
        ]


def test_a_record_may_name_its_partition_and_one_for_all_must(kafka_there: Cluster):
    async def run():
        async with appending_to(kafka_there) as append:
            await append([Outgoing(EVENTS, "~", b"for one", 2)])
            with pytest.raises(ValueError, match="must name its partition"):
                await append([Outgoing(EVENTS, "~", b"for all")])
            with pytest.raises(ValueError, match="no partition 3"):
                await append([Outgoing(EVENTS, "~", b"for none", PARTITIONS)])
            with pytest.raises(ValueError, match="larger"):
                await append([Outgoing(EVENTS, "default/v/a", b"x" * 2_000_000)])
            assert append.unavailable is None
            return await everything_in(kafka_there)

    found = asyncio.run(run())
    assert (b"~", b"for one") in found[2]
    assert not [value for records in found.values() for key, value in records if value == b"for all"]


def test_nothing_acknowledged_is_lost_when_the_broker_is_killed_under_load(broker, kafka_there: Cluster):
    acknowledged: list[int] = []
    refused: list[float] = []

    async def send(append: KafkaAppend, numbers, *, stop: asyncio.Event) -> None:
        while not stop.is_set():
            number = next(numbers)
            began = time.monotonic()
            try:
                await append([event(number, key=f"default/v/load-{number % 20}")])
            except KafkaUnavailable as away:
                refused.append(time.monotonic() - began)
                await asyncio.sleep(min(away.retry_after, 0.05))
            else:
                acknowledged.append(number)

    async def run():
        numbers = iter(range(10**9))
        stop = asyncio.Event()
        async with appending_to(kafka_there) as append:
            senders = [asyncio.create_task(send(append, numbers, stop=stop)) for _ in range(20)]
            await until(lambda: len(acknowledged) > 500)
            await asyncio.to_thread(broker.kill)
            await until(lambda: append.unavailable is not None)
            await until(lambda: len(refused) > 40)
            before = len(acknowledged)
            await asyncio.to_thread(broker.restart)
            await until(lambda: len(acknowledged) > before + 500)
            stop.set()
            await asyncio.gather(*senders)
            assert append.unavailable is None
        return await everything_in(kafka_there)

    found = asyncio.run(run())
    values = [int(value) for records in found.values() for key, value in records if key and b"/load-" in key]
    assert set(acknowledged) <= set(values)
    assert len(values) == len(set(values)), "a producer's own repetition was written twice"
    assert max(refused) < appending.APPEND_SECONDS + LATER
    assert sorted(refused)[len(refused) // 2] < AT_ONCE, (
        "once it is known to be away, the answer comes at once"
    )


def test_a_broker_that_hangs_is_away_within_seconds_and_what_was_given_up_is_not_written_later(
    broker, kafka_there: Cluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(appending, "APPEND_SECONDS", 1.5)

    async def run():
        async with appending_to(kafka_there) as append:
            await append([event(1, key="default/v/hang")])
            os.kill(broker._process.pid, signal.SIGSTOP)
            try:
                sender = append._producer._sender
                calls = [asyncio.create_task(append([event(2, key="default/v/hang")]))]
                await until(lambda: sender._in_flight)
                calls += [
                    asyncio.create_task(append([event(3 + n, key="default/v/hang")])) for n in range(50)
                ]
                began = time.monotonic()
                done = await asyncio.gather(*calls, return_exceptions=True)
                took = time.monotonic() - began
                await until(lambda: not append._closing)  # its producer is closed, with what waited in it
            finally:
                os.kill(broker._process.pid, signal.SIGCONT)
            assert all(isinstance(each, KafkaUnavailable) for each in done)
            assert took < appending.APPEND_SECONDS + LATER
            await until(lambda: append.unavailable is None)
            await append([event(100, key="default/v/hang")])
        return await everything_in(kafka_there)

    values = [
        int(value)
        for records in asyncio.run(run()).values()
        for key, value in records
        if key == b"default/v/hang"
    ]
    # What was on the wire when the broker stopped answering may have arrived; what waited behind it never does.
    assert [value for value in values if value != 2] == [1, 100]


def test_an_idle_gateway_finds_out_by_itself_that_kafka_went_and_that_it_came_back(
    broker, kafka_there: Cluster
):
    async def run():
        async with appending_to(kafka_there) as append:
            assert append.unavailable is None
            await asyncio.to_thread(broker.kill)
            await until(lambda: append.unavailable is not None)
            began = time.monotonic()
            with pytest.raises(KafkaUnavailable) as refusal:
                await append([event(1)])
            assert time.monotonic() - began < AT_ONCE
            assert broker.address in str(refusal.value) or "Kafka" in str(refusal.value)
            await asyncio.to_thread(broker.restart)
            await until(lambda: append.unavailable is None)
            await append([event(2)])

    asyncio.run(run())


def test_it_starts_without_kafka_and_is_there_when_kafka_comes(broker, kafka_there: Cluster):
    broker.kill()

    async def run():
        async with appending_to(kafka_there) as append:
            assert append.unavailable is not None
            assert kafka_there.brokers in append.unavailable
            with pytest.raises(KafkaUnavailable):
                await append([event(1)])
            await asyncio.to_thread(broker.restart)
            await until(lambda: append.unavailable is None)
            await append([event(2)])

    asyncio.run(run())


def test_a_cluster_without_the_topic_names_the_remedy_and_makes_nothing(kafka_there: Cluster):
    other = Cluster(kafka_there.brokers, prefix="nothing-here-")

    async def run():
        async with appending_to(other) as append:
            assert "topics create" in (append.unavailable or "")
            with pytest.raises(KafkaUnavailable, match="nothing-here-events"):
                await append([event(1)])
        admin = AIOKafkaAdminClient(**other.client())
        await admin.start()
        try:
            return await admin.list_topics()
        finally:
            await admin.close()

    assert "nothing-here-events" not in asyncio.run(run())


def test_memory_is_bounded_whatever_is_sent(broker, kafka_there: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(appending, "MOST_BYTES_IN_FLIGHT", 1_000_000)

    async def run():
        async with appending_to(kafka_there) as append:
            os.kill(broker._process.pid, signal.SIGSTOP)
            try:
                calls = [
                    asyncio.create_task(append([Outgoing(EVENTS, f"default/v/{number}", b"x" * 50_000)]))
                    for number in range(100)
                ]
                await asyncio.sleep(0)  # each has begun
                await until(lambda: sum(call.done() for call in calls) >= 70)
                assert append._bytes_in_flight <= 1_000_000
                refused = [call.exception() for call in calls if call.done()]
            finally:
                os.kill(broker._process.pid, signal.SIGCONT)
            with contextlib.suppress(KafkaError, KafkaUnavailable):
                await asyncio.gather(*calls)
            assert all(isinstance(each, KafkaUnavailable) and "memory" in str(each) for each in refused)
            await until(lambda: append.unavailable is None)
            await until(lambda: append._bytes_in_flight == 0)
            await append([event(1)])

    asyncio.run(run())


def test_stopping_lets_what_is_on_its_way_arrive(kafka_there: Cluster):
    async def run():
        append = KafkaAppend(kafka_there)
        await append.start()
        calls = [asyncio.create_task(append([event(n, key="default/v/stop")])) for n in range(200)]
        await asyncio.sleep(0)
        await append.stop()
        await asyncio.gather(*calls)
        with pytest.raises(KafkaUnavailable, match="stopping"):
            await append([event(1)])
        return await everything_in(kafka_there)

    values = [
        value for records in asyncio.run(run()).values() for key, value in records if key == b"default/v/stop"
    ]
    assert len(values) == 200

"""A system on Kafka as crash tests run it: its topics, its workers, its load, and how far it has come."""

import asyncio
import http.client
import itertools
import json
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from chaos_producers import ToKafka

from leadstream.simulation.simulate import simulated_events
from leadstream.wiring import genesis, repeated_for_every_partition
from schemas.events import PageViewed
from schemas.topics import EVENTS, LEAD_ACTIVITY
from streams.kafka.append import KafkaAppend
from streams.kafka.topics import create_topics
from tests.ports import free_port

WORKER = Path(__file__).with_name("kafka_worker.py")
PARTITIONS = 6
LEAST = 100
"""Outstanding events without which a fault would prove nothing."""


class Ends:
    """Where topics end and how far the workers are, asked of the broker on a loop of its own. Ends count
    what no transaction has ended yet, so that nothing that a worker has just written is missed.
    """

    def __init__(self, cluster):
        self._cluster = cluster
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._reader, self._admin = self._do(self._open())

    def of(self, *topics):
        places = [TopicPartition(self._cluster.topic(t), p) for t in topics for p in range(PARTITIONS)]
        found = self._do(self._reader.end_offsets(places))
        return {(self._cluster.name_of(place.topic), place.partition): end for place, end in found.items()}

    def folded(self):
        try:
            found = self._do(self._admin.list_consumer_group_offsets(self._cluster.group))
        except GroupCoordinatorNotAvailableError:  # a young broker, or one that has just come back
            return {}
        return {(self._cluster.name_of(p.topic), p.partition): done.offset for p, done in found.items()}

    def outstanding(self):
        """Events that were accepted and are not scored yet, at least: stage 2 is behind that. 0 if nobody says."""
        try:
            folded, ends = self.folded(), self.of(EVENTS)
        except (KafkaError, TimeoutError):
            return 0
        return sum(max(0, end - folded.get(slot, 0)) for slot, end in ends.items())

    def passed(self, ends):
        folded = self.folded()
        return all(folded.get(slot, 0) >= end for slot, end in ends.items())

    def members(self):
        """The ids of the workers' group."""
        answer = self._do(self._admin.describe_consumer_groups([self._cluster.group]))
        (group,) = answer[0].groups
        return [member[0] for member in group[5]]

    def close(self):
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _open(self):
        reader = AIOKafkaConsumer(**self._cluster.client(), enable_auto_commit=False)
        admin = AIOKafkaAdminClient(**self._cluster.client())
        await reader.start()
        await admin.start()
        return reader, admin

    async def _shut(self):
        await self._reader.stop()
        await self._admin.close()


def environment(cluster, **more):
    return {
        "LEADSTREAM_KAFKA": cluster.brokers,
        "LEADSTREAM_KAFKA_PREFIX": cluster.prefix,
        "LEADSTREAM_PROJECTION_PORT": "0",
        **{f"LEADSTREAM_{name.upper()}": str(value) for name, value in more.items()},
    }


def add_worker(crew, name, cluster, hold, **more):
    """Returns the port of its pages."""
    port = free_port()
    env = environment(cluster, worker_id=name, worker_port=port, data_dir=hold.parent / f"{name}-data")
    crew.add(name, [sys.executable, str(WORKER)], env | {"CHAOS_HOLD": str(hold)} | more)
    return port


def shards_at(port):
    """What the pages of a worker say that it holds, if all of it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/tables.json", timeout=5) as answer:
            said = json.load(answer)
    except (OSError, http.client.HTTPException):
        return []
    return said["tables"] if said["ready"] else []


def simulated(count, leads):
    found = itertools.islice(simulated_events(seed=7, leads=leads, days=60, until=datetime.now(UTC)), count)
    events = [
        type(event)(**({name: getattr(event, name) for name in event.__struct_fields__}
        | {"recorded_at": event.recorded_at or event.occurred_at}))
        for event in found
    ]  # fmt: skip
    assert len(events) == count
    return events


def make_topics(cluster):
    asyncio.run(create_topics(cluster, partitions=PARTITIONS, genesis=genesis(datetime.now(UTC))))


def publish(cluster, records):
    """Records for whole shards, in every partition."""

    async def run():
        append = KafkaAppend(cluster)
        await append.start()
        try:
            await append(repeated_for_every_partition(records, PARTITIONS))
        finally:
            await append.stop()

    asyncio.run(run())


class Load(threading.Thread):
    """Lets a producer send as much as keeps the workers busy, or with `pause` a little now and then, unless there is a hurry; knows
    how much is outstanding.
    """

    def __init__(self, cluster, producer, *, most=600, pause=0.0):
        super().__init__(name="load", daemon=True)
        self._ends = Ends(cluster)
        self._producer = producer
        self._most = most
        self._pause = pause
        self._over = threading.Event()
        self.outstanding = 0
        self.hurry = False

    def run(self):
        rested = 0.0
        while not self._over.wait(0.05):
            self.outstanding = self._ends.outstanding()
            rest = time.monotonic() - rested
            if self.outstanding < self._most and (self.hurry or rest >= self._pause):
                rested = time.monotonic()
                self._producer.allow(min(1.0, (self._producer.sent + 500) / len(self._producer.events)))

    def stop(self):
        self._over.set()
        if self.ident is not None:
            self.join(60)

    def close(self):
        self.stop()
        self._ends.close()


class Nudges(threading.Thread):
    """A few more events for every partition, while a test waits for a worker to have something to do."""

    def __init__(self, cluster):
        super().__init__(name="nudges", daemon=True)
        self._way = ToKafka("nudges", [], cluster)
        self._asked = threading.Event()
        self._over = threading.Event()
        self._size = 0
        self.acknowledged = self._way.acknowledged

    def __call__(self, size=3 * PARTITIONS):
        self._size = max(self._size, size)
        self._asked.set()

    def run(self):
        number = itertools.count()
        while True:
            self._asked.wait()
            self._asked.clear()
            size, self._size = self._size, 0
            now = datetime.now(UTC)
            group = [
                PageViewed(
                    event_id=f"nudge-{next(number)}",
                    occurred_at=now,
                    recorded_at=now,
                    visitor_id=f"nudged-{visitor}",
                )
                for visitor in range(size)
            ]
            while not self._over.is_set() and not self._way.send(group):
                self._over.wait(0.1)
            if self._over.wait(0.1):
                return
            self._way.note(group)

    def close(self):
        self._over.set()
        self._asked.set()
        self.join(60)
        self._way.close()


def come_to_rest(crew, ends):
    """All events are folded, and what came of them, too: leads send identities on along many redirects, one
    after the other. Time goes on waking leads behind that.
    """
    before = None
    while (begin := ends.of(EVENTS)) != before:
        before = begin
        for topic in (EVENTS, LEAD_ACTIVITY):
            now = ends.of(topic)
            crew.wait_for(partial(ends.passed, now), f"{topic} is folded up to {now}")

"""The drivers, seen alike: what the suite of their common behaviour asks of each.

`EmbeddedRun` is a driver on a PostgreSQL, `KafkaRun` a worker in a bare host on a real broker, `FaustRun`
one in its real host; these two in threads of their own. Each counts with the stages that it is given; what it says comes from what is
durable, never from the memory of what runs.
"""

import asyncio
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from schemas.record import Chunk, Outgoing, Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, PARTITION_WIDE_KEY, partition_of
from streams.embedded import log
from streams.embedded.driver import Driver
from streams.engine.shard import FoldFailed
from streams.engine.state_store import KEY_SEPARATOR
from streams.kafka import bare_host
from streams.kafka.faust_host import LeadstreamApp
from streams.kafka.reading import COMMITTED_ISOLATION
from streams.kafka.topics import create_topics, publish_records
from streams.kafka.worker_thread import WorkerThread

PARTITIONS = 4
PATIENCE = 60.0


class Clock:
    """The wall clock, which a test sets forward."""

    def __init__(self):
        self.ahead = 0

    def __call__(self):
        return time.time_ns() // 1_000_000 + self.ahead


def eventually(condition, what, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not come to pass in {seconds:.0f} s: {what}"
        time.sleep(0.02)
    return found


class EmbeddedRun:
    def __init__(self, database_url, stages, clock, genesis=()):
        self._database_url = database_url
        self._genesis = genesis
        self._stages = stages
        self._clock = clock
        self._reader = psycopg.connect(database_url, autocommit=True)
        self.start()

    def start(self):
        self._driver = Driver(
            lambda: self._database_url,
            self._stages,
            now=self._clock,
            partitions=PARTITIONS,
            genesis=self._genesis,
        )
        self._driver.start()

    def stop(self):
        self._driver.stop()

    def close(self):
        self.stop()
        self._reader.close()

    def append(self, records):
        self._driver.append(records).result(PATIENCE)

    def publish(self, events_value, activity_value):
        self._driver.publish(events_value, activity_value).result(PATIENCE)

    def settle(self):
        def settled():
            status = self._driver.status()
            return status.failing is None and not status.waiting and not any(status.backlog.values())

        eventually(settled, "all is folded")

    def failing(self):
        """The record that a fold has failed on."""
        found = eventually(lambda: self._driver.status().failing, "a fold fails")
        return found.record

    def skip(self, record, reason):
        self._driver.skip(record.topic, record.partition, record.position, reason)

    def deliver_again(self):
        """The server ends the appender's session: what was under way is done once more."""
        self._reader.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
               where application_name = 'leadstream appender' and datname = current_database()"""
        )

    def records(self, topic):
        return list(log.scan_topic(self._reader, topic))

    def newest(self, topic):
        return {record.key: record.value for record in self.records(topic)}

    def state(self, stage):
        """Key -> part -> value."""
        found = defaultdict(dict)
        query = "select key, part, value from state where stage = %s"
        for key, part, value in self._reader.execute(query, (stage,)):
            found[key][part] = value
        return dict(found)

    def dues(self):
        return dict(self._reader.execute("select key, due_at from dues").fetchall())


class KafkaRun:
    """A loop in a thread of its own keeps the clients; the worker comes and goes in it."""

    def __init__(self, cluster, stages, clock, genesis=()):
        self._cluster = cluster
        self._stages = stages
        self._clock = clock
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka", daemon=True)
        self._thread.start()
        names = [stage.name for stage in stages]
        self._do(create_topics(cluster, partitions=PARTITIONS, stages=names, genesis=genesis))
        self._do(self._open())
        self.start()

    def start(self):
        self._stop, self._worker = asyncio.Event(), None
        self._host = asyncio.run_coroutine_threadsafe(self._run(), self._loop)

    async def _run(self):
        await bare_host.run_bare_worker(
            self._cluster,
            self._stages,
            partitions=PARTITIONS,
            now=self._clock,
            stop=self._stop,
            ready=self._hold,
        )

    def _hold(self, worker):
        self._worker = worker

    def stop(self):
        """Gracefully, or the end of one that has failed: a supervisor would start it again."""
        self._loop.call_soon_threadsafe(self._stop.set)
        failure = self._host.exception(PATIENCE)
        assert failure is None or isinstance(failure, FoldFailed), failure

    def close(self):
        self.stop()
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def append(self, records):
        self._do(self._append(records))

    def publish(self, events_value, activity_value):
        said = [
            Outgoing(EVENTS, PARTITION_WIDE_KEY, events_value),
            Outgoing(LEAD_ACTIVITY, PARTITION_WIDE_KEY, activity_value),
        ]
        self._do(publish_records(self._cluster, said))

    def settle(self):
        """Every lane's committed position has come to the end of its source."""
        eventually(self._settled, "all is folded")

    def _settled(self):
        assert not self._host.done(), self._host.exception()
        return self._do(self._lag()) == 0

    def failing(self):
        failure = self._host.exception(PATIENCE)
        assert isinstance(failure, FoldFailed), failure
        return failure.record

    def skip(self, record, reason):
        """As an operator does: says so, and the supervisor starts the worker again."""
        self._do(self._skip(record, reason))
        self.start()

    def deliver_again(self):
        """The worker is handed everything that it has folded."""
        for topic in (EVENTS, LEAD_ACTIVITY):
            by_partition = defaultdict(list)
            for record in self.records(topic):
                by_partition[record.partition].append(record)
            for partition, records in by_partition.items():
                chunk = Chunk(topic, partition, 0, records[-1].position + 1, records)
                self._do(self._offer(chunk))

    def records(self, topic):
        found = self._do(self._read(self._cluster.topic(topic)))
        return [
            Record(topic, r.partition, r.offset, r.key.decode(), r.value, r.timestamp)
            for partition in found
            for r in partition
        ]

    def newest(self, topic):
        """As a reader of a compacted topic understands it."""
        found = {record.key: record.value for record in self.records(topic)}
        return {key: value for key, value in found.items() if value is not None}

    def state(self, stage):
        return {
            key: held
            for key, parts in self._changelog(stage).items()
            if (held := {part: value for part, value in parts.items() if part and value is not None})
        }

    def dues(self):
        return {
            key: int(parts[""])
            for stage in self._stages
            for key, parts in self._changelog(stage.name).items()
            if parts.get("") is not None
        }

    def _changelog(self, stage):
        found = defaultdict(dict)
        for partition in self._do(self._read(self._cluster.changelog(stage))):
            for record in partition:
                if not record.key.startswith(KEY_SEPARATOR.encode()):  # of the shard itself: position, format
                    key, _, part = record.key.decode().partition(KEY_SEPARATOR)
                    found[key][part] = record.value
        return found

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _offer(self, chunk):
        self._worker.offer(chunk)

    async def _open(self):
        client = self._cluster.client()
        self._producer = AIOKafkaProducer(**client, enable_idempotence=True, max_batch_size=1_000_000)
        self._reader = AIOKafkaConsumer(
            **client, enable_auto_commit=False, isolation_level=COMMITTED_ISOLATION, fetch_max_wait_ms=50
        )
        self._monitor = AIOKafkaConsumer(**client, enable_auto_commit=False)
        self._admin = AIOKafkaAdminClient(**client)
        for opened in (self._producer, self._reader, self._monitor, self._admin):
            await opened.start()

    async def _close(self):
        await self._producer.stop()
        await self._reader.stop()
        await self._monitor.stop()
        await self._admin.close()

    async def _append(self, records):
        """Each partition's records as one batch: a worker reads all of them at once."""
        batches = defaultdict(self._producer.create_batch)
        for record in records:
            chosen = partition_of(record.key, PARTITIONS) if record.partition is None else record.partition
            batch = batches[TopicPartition(self._cluster.topic(record.topic), chosen)]
            assert batch.append(key=record.key.encode(), value=record.value, timestamp=None) is not None
        sent = [
            await self._producer.send_batch(batch, to.topic, partition=to.partition)
            for to, batch in batches.items()
        ]
        await asyncio.gather(*sent)

    async def _skip(self, record, reason):
        await self._producer.send_and_wait(
            self._cluster.skips,
            reason.encode(),
            key=f"{record.topic}/{record.position}".encode(),
            partition=record.partition,
        )

    async def _lag(self):
        """Positions that the stages have not committed yet. How far they are is asked first, and ends count
        what no transaction has ended yet: what a stage has just written for the next one is never missed.
        """
        try:
            done = await self._admin.list_consumer_group_offsets(self._cluster.group)
        except GroupCoordinatorNotAvailableError:  # of a young broker
            done = {}
        partitions = [
            TopicPartition(self._cluster.topic(topic), number)
            for topic in (EVENTS, LEAD_ACTIVITY)
            for number in range(PARTITIONS)
        ]
        ends = await self._monitor.end_offsets(partitions)
        return sum(max(0, end - (done[p].offset if p in done else 0)) for p, end in ends.items())

    async def _read(self, topic):
        """Every partition's committed records, in order."""
        reader = self._reader
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        found = {partition: [] for partition in partitions}
        begins = await reader.beginning_offsets(partitions)
        # Of all that is written: marks of transactions come to each partition in their own time.
        ends = await self._monitor.end_offsets(partitions)
        reader.assign(partitions)
        for partition, begin in begins.items():
            reader.seek(partition, begin)
        while left := [p for p in partitions if await reader.position(p) < ends[p]]:
            for partition, records in (await reader.getmany(*left, timeout_ms=20)).items():
                found[partition] += records
        return list(found.values())


class FaustRun(KafkaRun):
    """The same under Faust."""

    def __init__(self, *what):
        self._directory = tempfile.TemporaryDirectory(prefix="leadstream-faust-")
        super().__init__(*what)

    def close(self):
        super().close()
        self._directory.cleanup()

    def start(self):
        app = LeadstreamApp(
            self._cluster,
            self._stages,
            buckets=2,
            data_dir=Path(self._directory.name),
            now=self._clock,
        )
        self._hosting = WorkerThread(app)
        self._hosting.start()
        eventually(lambda: self._hosting.status() or self._hosting.failed, "the worker owns its shards")

    def stop(self):
        assert self._hosting.stop(PATIENCE)
        failure = self._hosting.failed
        assert failure is None or isinstance(failure, FoldFailed), failure

    def failing(self):
        failure = eventually(lambda: self._hosting.failed, "a fold fails")
        assert isinstance(failure, FoldFailed), failure
        return failure.record

    def skip(self, record, reason):
        self.stop()
        super().skip(record, reason)

    def deliver_again(self):
        raise NotImplementedError("its worker lives in another thread")

    def _settled(self):
        assert self._hosting.failed is None, self._hosting.failed
        return self._do(self._lag()) == 0

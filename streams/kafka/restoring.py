"""Reading changelogs back, and what else a worker asks Kafka when it opens its buckets.

Only what is committed is read, after the bucket was fenced, so nobody else can still add to it. A
memory that stood somewhere in its changelog reads on from there.
"""

from collections.abc import Callable, Collection, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.record import Slot
from streams.engine.bucket import Place, Transactions
from streams.engine.memory import Memory
from streams.kafka.cluster import Cluster
from streams.kafka.reading import COMMITTED
from streams.kafka.transactions import KafkaTransactions

FETCH_BYTES = 4 * 1024 * 1024
WAIT_MS = 200
AT_ONCE = 20_000
"""Records between two looks at how far it is."""


class KafkaBacking:
    """`streams.engine.worker.Backing`; `partitions` are those of every topic of ours."""

    def __init__(self, cluster: Cluster, partitions: int) -> None:
        self._cluster = cluster
        self._partitions = partitions
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            **self._cluster.client(),
            enable_auto_commit=False,
            isolation_level=COMMITTED,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
        await self._consumer.start()

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    def transactions(self, bucket: int) -> Transactions:
        return KafkaTransactions(self._cluster, bucket, self._partitions)

    async def beginnings(self, slots: Collection[Slot]) -> Mapping[Slot, int]:
        partitions = {TopicPartition(self._cluster.topic(slot[0]), slot[1]): slot for slot in slots}
        found = await self._started.beginning_offsets(list(partitions))
        return {partitions[partition]: offset for partition, offset in found.items()}

    async def ends(self, places: Collection[Place]) -> Mapping[Place, int]:
        partitions = {self._changelog(place): place for place in places}
        found = await self._started.end_offsets(list(partitions))
        return {partitions[partition]: offset for partition, offset in found.items()}

    async def restore(self, memories: Mapping[Place, Memory], opened: Callable[[Place], None]) -> None:
        consumer = self._started
        places = {self._changelog(place): place for place in memories}
        ends = await consumer.end_offsets(list(places))
        consumer.assign(list(places))
        for partition, place in places.items():
            consumer.seek(partition, memories[place].changelog_position)
        left = set(places)
        while True:
            for partition in list(left):
                memory = memories[places[partition]]
                memory.changelog_position = max(memory.changelog_position, await consumer.position(partition))
                if memory.changelog_position >= ends[partition]:
                    left.remove(partition)
                    opened(places[partition])
            if not left:
                break
            found = await consumer.getmany(*left, timeout_ms=WAIT_MS, max_records=AT_ONCE)
            for partition, records in found.items():
                memory = memories[places[partition]]
                for record in records:
                    memory.restore(record.key, record.value)
                memory.changelog_position = records[-1].offset + 1
        consumer.assign([])

    async def skips(self, slots: Collection[Slot]) -> Mapping[Slot, Mapping[int, str]]:
        consumer = self._started
        numbers = sorted({partition for _, partition in slots})
        partitions = [TopicPartition(self._cluster.skips, number) for number in numbers]
        ends = await consumer.end_offsets(partitions)
        found: dict[Slot, dict[int, str]] = {}
        left = {partition for partition in partitions if ends[partition]}
        consumer.assign(list(left))
        for partition in left:
            consumer.seek(partition, 0)
        while left:
            for partition, records in (await consumer.getmany(*left, timeout_ms=WAIT_MS)).items():
                for record in records:
                    topic, _, position = record.key.decode().rpartition("/")
                    of_slot = found.setdefault((topic, partition.partition), {})
                    if record.value is None:
                        of_slot.pop(int(position), None)
                    else:
                        of_slot[int(position)] = record.value.decode()
            left = {p for p in left if await consumer.position(p) < ends[p]}
        return found

    @property
    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the backing was not started")
        return self._consumer

    def _changelog(self, place: Place) -> TopicPartition:
        return TopicPartition(self._cluster.changelog(place[0]), place[1])

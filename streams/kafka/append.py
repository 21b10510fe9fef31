"""Appends to Kafka: a call returns once every in-sync replica has the records.

A call never waits long. It raises KafkaUnavailable if no broker answers within a few seconds, or none did before;
meanwhile a new producer is tried again and again. Some records of a call that raised may have been written
nevertheless: sent again under their event ids, they count once. Memory is bounded.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError

from schemas.record import Outgoing
from schemas.topics import EVENTS, PARTITION_WIDE_KEY, partition_of
from streams.kafka.cluster import Cluster, KafkaUnavailable
from streams.kafka.private_names import discard_producer

APPEND_SECONDS = 5.0
"""Seconds until a call fails, and its producer is closed."""
MOST_BYTES_IN_FLIGHT = 64_000_000
"""Of keys and values that wait for their acknowledgement; a call that would exceed it is rejected."""
PROBE_SECONDS = 2.0
"""Between two checks of an idle connection."""
RETRY_SECONDS = 0.5
CLOSING_SECONDS = 1.0
BATCH_BYTES = 256_000
LARGEST_RECORD_BYTES = 1_000_000
"""What brokers accept by default."""

_log = structlog.get_logger(__name__)


class KafkaAppend:
    """For one event loop. While Kafka is unavailable, `start` does not fail, and calls fail at once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer: AIOKafkaProducer | None = None
        self._partitions = 0
        self._unavailable_reason = "Kafka has not been reached yet"
        self._bytes_in_flight = 0
        self._deadlines: set[asyncio.Timeout] = set()
        self._dropped = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def unavailable(self) -> str | None:
        """Why nothing can be appended now; None: nothing is known to prevent it."""
        return None if self._producer is not None else self._unavailable_reason

    async def start(self) -> None:
        """Returns when the first attempt to reach Kafka has ended."""
        first_attempt = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep_producer(first_attempt), name="keep a producer")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(APPEND_SECONDS):
                await first_attempt.wait()

    async def stop(self) -> None:
        """Rejects new calls, and waits for those in flight for as long as a call may take."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        producer, self._producer, self._unavailable_reason = self._producer, None, "Leadstream is stopping"
        while self._deadlines:  # noqa: ASYNC110 - they end by themselves within PATIENCE
            await asyncio.sleep(0.01)
        if producer is not None:
            await discard_producer(producer, CLOSING_SECONDS)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSING_SECONDS)

    async def __call__(self, records: Sequence[Outgoing]) -> None:
        """Keeps the order within each partition. Raises KafkaUnavailable, or ValueError for a record that no log takes."""
        producer = self._producer
        if producer is None:
            raise KafkaUnavailable(self._unavailable_reason)
        routed = [self._routed(record) for record in records]
        size = sum(len(key) + len(value or b"") for _, _, key, value in routed)
        if self._bytes_in_flight and self._bytes_in_flight + size > MOST_BYTES_IN_FLIGHT:
            raise KafkaUnavailable(
                f"{MOST_BYTES_IN_FLIGHT} bytes are on their way to Kafka already, the most that memory is reserved for"
            )
        deadline = asyncio.timeout(APPEND_SECONDS)
        self._deadlines.add(deadline)
        self._bytes_in_flight += size
        try:
            async with deadline:
                sent = [
                    await producer.send(topic, value, key, partition)
                    for topic, partition, key, value in routed
                ]
                await asyncio.gather(*sent)
        except MessageSizeTooLargeError as cause:
            raise ValueError(f"a record is larger than {LARGEST_RECORD_BYTES} bytes") from cause
        except TimeoutError as cause:
            self._drop(producer, "Kafka does not answer")
            raise KafkaUnavailable(self._unavailable_reason) from cause
        except KafkaError as cause:
            # A failed batch leaves a gap in the sequence numbers by which brokers recognise repetitions:
            # this producer can never write to that partition again.
            self._drop(producer, f"Kafka refused records ({cause!r})")
            raise KafkaUnavailable(self._unavailable_reason) from cause
        finally:
            self._deadlines.discard(deadline)
            self._bytes_in_flight -= size

    def _routed(self, record: Outgoing) -> tuple[str, int, bytes, bytes | None]:
        key = record.key.encode()
        if record.partition is None and record.key == PARTITION_WIDE_KEY:
            raise ValueError("a record with the shared key must name its partition")
        partition = (
            partition_of(record.key, self._partitions) if record.partition is None else record.partition
        )
        if not 0 <= partition < self._partitions:
            raise ValueError(f"there is no partition {partition}: there are {self._partitions}")
        return self._cluster.topic(record.topic), partition, key, record.value

    async def _keep_producer(self, first_attempt: asyncio.Event) -> None:
        """Opens a producer, checks it, and opens another one when it fails."""
        while True:
            try:
                await self._connect()
            except (KafkaUnavailable, TimeoutError, OSError, KafkaError) as cause:
                self._unavailable_reason = _unavailable_reason(cause, self._cluster)
            first_attempt.set()
            await self._watch()
            await asyncio.sleep(RETRY_SECONDS)

    async def _connect(self) -> None:
        producer = AIOKafkaProducer(
            **self._cluster.client(),
            client_id="leadstream-append",
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES,
            max_request_size=LARGEST_RECORD_BYTES,
            request_timeout_ms=int(APPEND_SECONDS * 1000),
        )
        try:
            async with asyncio.timeout(2 * APPEND_SECONDS):
                await producer.start()
                partitions = await _partition_count_of(producer, self._cluster.topic(EVENTS))
        except BaseException:
            await discard_producer(producer, CLOSING_SECONDS)
            raise
        self._dropped.clear()
        self._producer, self._partitions = producer, partitions
        _log.info("Kafka takes records", brokers=self._cluster.brokers, partitions=partitions)

    async def _watch(self) -> None:
        """Returns when the producer was dropped. Checks it also while nobody calls."""
        while (producer := self._producer) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._dropped.wait()
                    return
            try:
                async with asyncio.timeout(APPEND_SECONDS):
                    answered = await producer.client.force_metadata_update()
            except TimeoutError:
                answered = False
            if not answered:
                self._drop(producer, "Kafka does not answer")

    def _drop(self, producer: AIOKafkaProducer, reason: str) -> None:
        """Rejects calls until there is another producer, and ends those in flight at once."""
        if self._producer is not producer:
            return
        _log.error("Kafka takes no records", reason=reason)
        self._producer, self._unavailable_reason = None, reason
        self._dropped.set()
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(now)
        closing = asyncio.create_task(discard_producer(producer, APPEND_SECONDS), name="close a producer")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _partition_count_of(producer: AIOKafkaProducer, topic: str) -> int:
    """The number of partitions, from the metadata of all topics: a request for this one may create it."""
    partitions = (await producer.client.fetch_all_metadata()).partitions_for_topic(topic)
    if not partitions:
        raise KafkaUnavailable(f"Kafka has no topic {topic}: `leadstream topics create` creates it")
    return len(partitions)


def _unavailable_reason(cause: Exception, cluster: Cluster) -> str:
    match cause:
        case KafkaUnavailable():
            return str(cause)
        case TimeoutError():
            return f"Kafka at {cluster.brokers} does not answer"
        case KafkaConnectionError():
            return f"Kafka at {cluster.brokers} cannot be reached"
        case _:
            return f"Kafka at {cluster.brokers} rejects our connection: {cause}"

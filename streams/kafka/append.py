"""Appends to Kafka for whoever waits for the answer: it returns once every replica in sync has the records.

It never waits long. A broker that does not answer within a few seconds, or is known to be away, is said
to be `AppendUnavailable`, and a new producer is tried until one is let in. Of a call that ended so, some records may
have been written all the same: sent again under their event ids, they count once. Memory is bounded.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError

from schemas.record import Outgoing
from schemas.topics import EVENTS, SHARED, partition_of
from streams.kafka.cluster import Cluster
from streams.kafka.private_names import discard

PATIENCE = 5.0
"""Seconds until a call is given up, and the producer with it."""
MOST_BYTES = 64_000_000
"""Of keys and values that wait for their acknowledgement; a call that does not fit in any more is refused."""
PROBE_SECONDS = 2.0
"""How often an idle connection is tried."""
RETRY_SECONDS = 0.5
CLOSING_SECONDS = 1.0
BATCH_BYTES = 256_000
LARGEST_RECORD = 1_000_000
"""What brokers take, unless they are told otherwise."""

_log = structlog.get_logger(__name__)


class AppendUnavailable(RuntimeError):
    """Kafka does not take records now. Try again after so many seconds."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class KafkaAppend:
    """For one event loop. `start` does not fail while Kafka is away, nor do calls then wait for it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer: AIOKafkaProducer | None = None
        self._partitions = 0
        self._away = "Kafka has not been reached yet"
        self._on_the_way = 0
        self._deadlines: set[asyncio.Timeout] = set()
        self._lost = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def away(self) -> str | None:
        """Why nothing can be appended now; None: as far as is known, it can."""
        return None if self._producer is not None else self._away

    async def start(self) -> None:
        """Returns once it is known whether Kafka can be reached."""
        tried = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(tried), name="keep a producer")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await tried.wait()

    async def stop(self) -> None:
        """Takes nothing new, and lets what is on its way arrive, for as long as a call may take."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        producer, self._producer, self._away = self._producer, None, "Leadstream is stopping"
        while self._deadlines:  # noqa: ASYNC110 - they end by themselves, and soon
            await asyncio.sleep(0.01)
        if producer is not None:
            await discard(producer, CLOSING_SECONDS)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=CLOSING_SECONDS)

    async def __call__(self, records: Sequence[Outgoing]) -> None:
        """In the order given, partition by partition. Raises Away, or ValueError for what no log takes."""
        producer = self._producer
        if producer is None:
            raise AppendUnavailable(self._away)
        placed = [self._placed(record) for record in records]
        size = sum(len(key) + len(value or b"") for _, _, key, value in placed)
        if self._on_the_way and self._on_the_way + size > MOST_BYTES:
            raise AppendUnavailable("more events are on their way to Kafka than memory is given for")
        deadline = asyncio.timeout(PATIENCE)
        self._deadlines.add(deadline)
        self._on_the_way += size
        try:
            async with deadline:
                sent = [
                    await producer.send(topic, value, key, partition)
                    for topic, partition, key, value in placed
                ]
                await asyncio.gather(*sent)
        except MessageSizeTooLargeError as cause:
            raise ValueError(f"a record is larger than {LARGEST_RECORD} bytes") from cause
        except TimeoutError as cause:
            self._lose(producer, "Kafka does not answer")
            raise AppendUnavailable(self._away) from cause
        except KafkaError as cause:
            # After a batch that failed, the numbers by which brokers recognise repetitions have a hole:
            # this producer could write to that partition never again.
            self._lose(producer, f"Kafka refused records ({cause!r})")
            raise AppendUnavailable(self._away) from cause
        finally:
            self._deadlines.discard(deadline)
            self._on_the_way -= size

    def _placed(self, record: Outgoing) -> tuple[str, int, bytes, bytes | None]:
        key = record.key.encode()
        if record.partition is None and record.key == SHARED:
            raise ValueError("a record for every partition names the one that it is for")
        partition = (
            partition_of(record.key, self._partitions) if record.partition is None else record.partition
        )
        if not 0 <= partition < self._partitions:
            raise ValueError(f"there is no partition {partition}: there are {self._partitions}")
        return self._cluster.topic(record.topic), partition, key, record.value

    async def _keep(self, tried: asyncio.Event) -> None:
        """Has a producer at all times when there can be one."""
        while True:
            try:
                await self._connect()
            except (AppendUnavailable, TimeoutError, OSError, KafkaError) as cause:
                self._away = _reason(cause, self._cluster)
            tried.set()
            await self._watch()
            await asyncio.sleep(RETRY_SECONDS)

    async def _connect(self) -> None:
        producer = AIOKafkaProducer(
            **self._cluster.client(),
            client_id="leadstream-append",
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES,
            max_request_size=LARGEST_RECORD,
            request_timeout_ms=int(PATIENCE * 1000),
        )
        try:
            async with asyncio.timeout(2 * PATIENCE):
                await producer.start()
                partitions = await _partitions(producer, self._cluster.topic(EVENTS))
        except BaseException:
            await discard(producer, CLOSING_SECONDS)
            raise
        self._lost.clear()
        self._producer, self._partitions = producer, partitions
        _log.info("Kafka takes records", brokers=self._cluster.brokers, partitions=partitions)

    async def _watch(self) -> None:
        """Returns when the producer was lost, which it also finds out while nobody calls."""
        while (producer := self._producer) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._lost.wait()
                    return
            try:
                async with asyncio.timeout(PATIENCE):
                    answered = await producer.client.force_metadata_update()
            except TimeoutError:
                answered = False
            if not answered:
                self._lose(producer, "Kafka does not answer")

    def _lose(self, producer: AIOKafkaProducer, reason: str) -> None:
        """From now on calls are refused, until there is another producer; those under way end at once."""
        if self._producer is not producer:
            return
        _log.error("Kafka takes no records", reason=reason)
        self._producer, self._away = None, reason
        self._lost.set()
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(now)
        leaving = asyncio.create_task(discard(producer, PATIENCE), name="let a producer go")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)


async def _partitions(producer: AIOKafkaProducer, topic: str) -> int:
    """Asked for among all topics: a question for this one would make it, where brokers make what is asked for."""
    found = (await producer.client.fetch_all_metadata()).partitions_for_topic(topic)
    if not found:
        raise AppendUnavailable(f"Kafka has no topic {topic}: `leadstream topics create` makes it")
    return len(found)


def _reason(cause: Exception, cluster: Cluster) -> str:
    match cause:
        case AppendUnavailable():
            return str(cause)
        case TimeoutError():
            return f"Kafka at {cluster.brokers} does not answer"
        case KafkaConnectionError():
            return f"Kafka at {cluster.brokers} cannot be reached"
        case _:
            return f"Kafka at {cluster.brokers} does not let us in: {cause}"

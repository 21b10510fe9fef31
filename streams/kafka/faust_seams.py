"""What we build on that Faust, mode and aiokafka do not promise: all of it is here, or listed in SEAMS.

A transport of our own gives Faust a consumer that runs on the worker's loop, reads chunks instead of
records, and leaves every position to the engine: nothing here may ever commit one. `gone()` names each
seam that is no longer as it was; a worker refuses to start on other versions than PINNED.
"""

import asyncio
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol, cast

import faust
import mode
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState, TopicPartitionState
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.base import Consumer, Fetcher, Transport
from faust.transport.conductor import Conductor
from faust.types import TP, ConsumerMessage
from faust.web.base import Web
from faust.web.drivers.aiohttp import Web as AiohttpWeb

from schemas.record import Chunk, Slot
from streams.kafka.assignor import bucket_assignor
from streams.kafka.cluster import Cluster
from streams.kafka.reading import COMMITTED, ChunkReader

READ_SECONDS = 0.25
"""How long a read waits when nothing comes."""
MOST_RECORDS = 20_000
"""Of one read; what a partition's queue may hold is the engine's to say."""
FETCH_BYTES = 2 * 1024 * 1024
SESSION_MS = 10_000
HEARTBEAT_MS = 3_000
REBALANCE_MS = 60_000
FOREVER_MS = 2**31 - 1


class Host(Protocol):
    """What the consumer asks of its app."""

    cluster: Cluster
    buckets: int
    worker_id: str | None

    def full(self, slot: Slot) -> bool: ...

    def fail(self, error: BaseException) -> None: ...

    async def assigned(self, slots: Collection[Slot]) -> None: ...

    async def revoked(self) -> None: ...


class ChunkSchema(faust.Schema[Any, Any]):
    """The value of an event is the chunk itself: nothing is decoded on the way to an agent."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002 - Faust names it
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002 - Faust names it
        return message.value


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    def __init__(self, consumer: "ChunkConsumer") -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        with self._consumer.failing():
            await self._consumer.give_up({TP(*partition) for partition in revoked})

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        with self._consumer.failing():
            await self._consumer.take_up({TP(*partition) for partition in assigned})


class ChunkConsumer(Consumer):
    """Faust's side: membership and delivery to agents. aiokafka's side: one consumer, on this very loop.

    Faust's own driver runs it in a second thread, reads record by record, and commits what agents
    acknowledged; our topics are declared with `acks=False`, so there is nothing that it could commit.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._host = cast(Host, self.app)
        self._consumer: AIOKafkaConsumer | None = None
        self._reader: ChunkReader | None = None
        self._reading: asyncio.Task[list[Chunk]] | None = None
        self._room = asyncio.Event()
        self._assignments = 0

    # -- membership ---------------------------------------------------------------------------------

    async def on_start(self) -> None:
        host = self._host
        self._consumer = AIOKafkaConsumer(
            **host.cluster.client(),
            group_id=host.cluster.group,
            group_instance_id=host.worker_id,
            partition_assignment_strategy=(bucket_assignor(host.buckets, host.worker_id),),
            enable_auto_commit=False,
            auto_offset_reset="none",  # where to read is the engine's to say; a lost position must show
            isolation_level=COMMITTED,
            fetch_max_wait_ms=int(READ_SECONDS * 1000),
            max_partition_fetch_bytes=FETCH_BYTES,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            max_poll_interval_ms=FOREVER_MS,  # while all shards restore or are full, nothing is read
        )
        await self._consumer.start()
        self._reader = ChunkReader(self._consumer, host.cluster)

    async def on_stop(self) -> None:
        await super().on_stop()
        self._forget()
        if self._consumer is not None:
            await self._consumer.stop()

    async def subscribe(self, topics: Iterable[str]) -> None:
        self._client.subscribe(topics=set(topics), listener=_Listener(self))

    @mode.Service.task
    async def _watch(self) -> None:
        """Aiokafka tells of a failed membership only to who reads, and not every worker has what to read."""
        while not self.should_stop:
            await self.sleep(1.0)
            try:
                self._client._coordinator.check_errors()  # noqa: SLF001 - a seam, listed below
            except Exception as error:  # noqa: BLE001 - whatever it is, we are no member any more
                if not self.app.should_stop:
                    self._host.fail(error)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Aiokafka would log what a listener raises and go on, with a member that owns and folds nothing."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as said
            self._host.fail(error)

    async def give_up(self, revoked: set[TP]) -> None:
        """The engine first: Faust then waits for its agents, and must find nothing that waits."""
        self.app.on_rebalance_start()
        self._forget()
        await self._host.revoked()
        await self.on_partitions_revoked(revoked)

    async def take_up(self, assigned: set[TP]) -> None:
        """Events of an earlier number are dropped by Faust's streams: the engine seeks anew each time."""
        self._assignments += 1
        self.app.consumer_generation_id = self._assignments
        await self.on_partitions_assigned(assigned, self._assignments)
        name = self._host.cluster.name_of
        await self._host.assigned([(name(partition.topic), partition.partition) for partition in assigned])

    def assignment(self) -> set[TP]:
        if self._consumer is None:
            return set()
        return {TP(*partition) for partition in self._consumer.assignment()}

    # -- reading ------------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        """Faust's fetcher runs this until it is stopped."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                taken = self._assignments
                for chunk in await self._read():
                    if taken == self._assignments and self.flow_active:
                        where = TP(self._host.cluster.topic(chunk.topic), chunk.partition)
                        await self.callback(self._to_message(where, chunk))
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is read any more
            if not self.app.should_stop:
                self._host.fail(error)

    async def _read(self) -> list[Chunk]:
        """What has come for shards that have room; returns early when another one has."""
        reader = self._reader
        if not self.flow_active or reader is None:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type] # as Faust does it
            return []
        self._room.clear()
        roomy = [slot for slot in reader.slots if not self._host.full(slot)]
        room = asyncio.ensure_future(self._room.wait())
        try:
            if not roomy:
                await asyncio.wait({room}, timeout=READ_SECONDS)
                return []
            self._reading = asyncio.ensure_future(
                reader.read(seconds=READ_SECONDS, most=MOST_RECORDS, of=roomy)
            )
            await asyncio.wait({self._reading, room}, return_when=asyncio.FIRST_COMPLETED)
            return await self._ended(self._reading)
        finally:
            room.cancel()
            if self._reading is not None:
                self._reading.cancel()

    async def _ended(self, reading: "asyncio.Task[list[Chunk]]") -> list[Chunk]:
        """A read takes its records in its last step, so one that is cancelled has taken none."""
        if not reading.done():
            reading.cancel()
            await asyncio.wait({reading})
        return [] if reading.cancelled() else reading.result()

    def read_from(self, slot: Slot, position: int) -> None:
        """`seek` of the engine's worker."""
        reader = self._reader
        if reader is not None and reader.partition(slot) in self._client.assignment():
            reader.seek(slot, position)

    def has_room(self) -> None:
        """A shard that was full, or restoring, may be read."""
        self._room.set()

    def ends(self) -> dict[Slot, int]:
        """Up to where each partition is known to hold what is committed."""
        if self._consumer is None:
            return {}
        known = {
            (self._host.cluster.name_of(p.topic), p.partition): self._consumer.last_stable_offset(p)
            for p in self._consumer.assignment()
        }
        return {slot: end for slot, end in known.items() if end is not None and end >= 0}

    def _forget(self) -> None:
        """What is being read belongs to the assignment that ends."""
        if self._reading is not None:
            self._reading.cancel()
        if self._reader is not None:
            self._reader.forget()

    # -- what Faust asks of a driver ----------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Called after each rebalance. Shards know where they stand, and seek by themselves."""
        return {}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        raise RuntimeError(f"Faust must never commit positions, and wanted to: {offsets}")

    async def _seek(self, partition: TP, offset: int) -> None:
        raise RuntimeError(f"only the engine seeks, and Faust wanted {partition} at {offset}")

    async def _getmany(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("chunks are read by _drain_messages")

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        chunk: Any = record  # the value is a chunk, where Faust expects bytes
        return ConsumerMessage(
            tp.topic, tp.partition, chunk.next - 1, 0.0, 0, None, None, chunk, None, 0, 0, tp,
            generation_id=self._assignments,
        )  # fmt: skip

    async def create_topic(self, topic: str, *_: Any, **__: Any) -> None:
        raise RuntimeError(f"leadstream topics create makes topics; Faust wanted {topic}")

    async def position(self, tp: TP) -> int | None:
        return cast(int, await self._client.position(TopicPartition(*tp)))

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        raise RuntimeError(f"only the engine seeks, and Faust wanted {partitions}")

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return cast(Mapping[TP, int], await self._client.beginning_offsets(partitions))

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return cast(Mapping[TP, int], await self._client.end_offsets(partitions))

    def highwater(self, tp: TP) -> int:
        return cast(int, self._client.highwater(TopicPartition(*tp)))

    def topic_partitions(self, topic: str) -> int | None:
        return len(self._client.partitions_for_topic(topic) or ()) or None

    def key_partition(self, topic: str, *_: Any, **__: Any) -> int | None:
        raise RuntimeError(f"only the engine writes, and Faust wanted to, into {topic}")

    def verify_recovery_event_path(self, *_: Any) -> None:
        """Nothing of Faust's recovers."""

    @property
    def _client(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("the consumer was not started")
        return self._consumer


class ChunkTransport(Transport):
    """Faust's own, but for the consumer. The producer is never started: only the engine writes."""

    Consumer = ChunkConsumer
    driver_version = f"aiokafka={version('aiokafka')}, by chunks"


class NoTables(TableManager):
    """Faust's waits a second for tables to be declared: a second of every restart."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class Boot(BootStrategy):
    """What Faust starts with the app."""

    enable_kafka_producer = False


class OwnPages(AiohttpWeb):
    """Faust's web server without Faust's pages, which tell of tables that we do not have."""

    default_blueprints = ()
    production_blueprints = ()
    debug_blueprints = ()
    optional_blueprints = ()

    async def start_server(self) -> None:
        try:
            await super().start_server()
        except OSError as cause:
            conf = self.app.conf
            error = PortTakenError(
                f"The worker's pages cannot listen on {conf.web_bind}:{conf.web_port} ({cause.strerror}). "
                "Set LEADSTREAM_WORKER_PORT to a free port: each worker of a machine needs its own."
            )
            cast(Host, self.app).fail(error)
            raise error from cause


class PortTakenError(Exception):
    """The message names address and remedy."""


# -- the list ---------------------------------------------------------------------------------------

PINNED: Mapping[str, str] = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


class Seam(NamedTuple):
    owner: Any
    name: str
    signature: str | None
    """None: it is no function."""
    why: str

    def __str__(self) -> str:
        return f"{self.owner.__module__}.{self.owner.__qualname__}.{self.name}"


def _of(owner: Any, *named: tuple[str, str | None, str]) -> list[Seam]:
    return [Seam(owner, *one) for one in named]


SEAMS: tuple[Seam, ...] = (
    *_of(
        Consumer,
        ("_drain_messages", "(fetcher)", "Faust's fetcher runs it: where we read chunks"),
        ("_commit", "(offsets)", "abstract; the way by which Faust would move positions"),
        ("_seek", "(partition, offset)", "abstract; the way by which Faust would move a reader"),
        ("_getmany", "(active_partitions, timeout)", "abstract"),
        ("_to_message", "(tp, record)", "abstract"),
        ("_new_topicpartition", "(topic, partition)", "abstract"),
        ("seek_to_committed", "()", "Faust calls it after each rebalance; we leave positions alone"),
        ("on_partitions_revoked", "(revoked)", "Faust's part of a rebalance, after the engine's"),
        ("on_partitions_assigned", "(assigned, generation_id)", "Faust's part, before the engine's"),
        ("flow_active", None, "false from a revocation until Faust delivers again"),
    ),
    *_of(
        Fetcher,
        ("_fetcher", None, "the task that runs _drain_messages and ends with the app"),
    ),
    *_of(
        Recovery,
        (
            "_resume_streams",
            "(generation_id)",
            "without tables it clears queues, and only then resumes the flow",
        ),
    ),
    *_of(
        TableManager,
        ("on_start", "()", "waits a second, then does the two things that NoTables does"),
        ("_update_channels", "()", "lets the subscription begin"),
        ("recovery", None, "resumes the flow after each rebalance, with or without tables"),
    ),
    *_of(
        Conductor,
        ("acks_enabled_for", "(topic)", "false for topics with acks=False: nothing is ever to be committed"),
    ),
    *_of(
        Transport,
        ("create_consumer", "(callback, kwargs)", "makes the class that stands in Transport.Consumer"),
    ),
    *_of(
        faust.App,
        ("transport", None, "has a setter: the app takes our transport"),
        ("on_rebalance_start", "()", "a driver calls it first thing in a rebalance"),
        ("consumer_generation_id", None, "streams drop events of another one"),
        ("web", None, "has room for our web server before the first page is added"),
    ),
    *_of(
        BootStrategy,
        ("enable_kafka_producer", None, "false: Faust opens no producer beside the engine's"),
    ),
    *_of(
        Web,
        ("default_blueprints", None, "Faust's pages, which we do not serve"),
        ("production_blueprints", None, "Faust's page at /, in whose place ours stands"),
        ("debug_blueprints", None, "as default_blueprints"),
        ("optional_blueprints", None, "as default_blueprints; has a /metrics of its own"),
    ),
    *_of(AiohttpWeb, ("start_server", "()", "where a taken port shows")),
    *_of(
        mode.Worker,
        ("_setup_logging", "()", "not called with override_logging=False: logs stay ours"),
    ),
    *_of(
        mode.Service,
        ("crash", "(reason)", "tells all services that one has failed; the worker then ends"),
        ("crash_reason", None, "what it failed with"),
    ),
    *_of(GroupCoordinator, ("check_errors", "()", "raises why this member is none any more")),
    *_of(
        SubscriptionState, ("subscription", None, "leads to where a consumer stands, without asking a broker")
    ),
    *_of(Assignment, ("state_value", "(tp)", "as above")),
    *_of(
        TopicPartitionState,
        ("position", None, "as above: it moves past marks of transactions, which hold no record"),
        ("has_valid_position", None, "as above: false until the first seek"),
    ),
)


def gone() -> list[str]:
    """What is no longer as it was when this was written, each with the reason why it matters."""
    versions = [
        f"{package} is {version(package)}, written for {pinned}"
        for package, pinned in PINNED.items()
        if version(package) != pinned
    ]
    return versions + [f"{seam}{found}: {seam.why}" for seam in SEAMS if (found := _changed(seam))]


def _changed(seam: Seam) -> str:
    found = inspect.getattr_static(seam.owner, seam.name, _MISSING)
    if found is _MISSING:
        return " is gone"
    if seam.signature is None:
        return ""
    given = _arguments(getattr(seam.owner, seam.name))
    return "" if given == seam.signature else f" takes {given}, was {seam.signature}"


_MISSING = object()


def _arguments(function: Callable[..., Any]) -> str:
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return f"({', '.join(names)})"

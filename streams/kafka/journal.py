"""When workers and projections started, ended and paused, on record in Kafka: a process that ends again and again is
new each time and remembers nothing, and whoever asks may be on another machine.

The notes stand beside offsets (as their metadata) of a group that nobody joins. So it needs no topic and no database,
which a worker does not have, and Kafka forgets the notes a week after the last one. Two processes that write at the
very same moment may lose one note: these are for people and alerts, and nothing is decided by them.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, Literal, NamedTuple
from zlib import crc32

import structlog
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import DecodeError, json

from schemas.topics import EVENTS
from streams.kafka.cluster import Cluster

Process = Literal["worker", "projection"]
Happened = Literal["started", "ended", "fenced", "paused", "resumed"]

RECENT_SECONDS: Final = 1_800
MOST_BYTES: Final = 4_000
"""Of the notes beside one offset; brokers take 4096. The oldest go first."""
_SECONDS = 5.0
_START_SECONDS = 5.0
_END_SECONDS = 3.0
_LONGEST = 200
_TRIES = 20
_PAUSE_SECONDS = 3.0

_log = structlog.get_logger(__name__)


class JournalNote(NamedTuple):
    at: int
    """In seconds."""
    process: Process
    name: str
    """The same whenever that process is started again."""
    happened: Happened
    why: str = ""


def restarts(notes: Iterable[JournalNote], now: int) -> dict[str, int]:
    """How often, of late, the worker (the projection) was started that was started most often; and how many were
    `fenced`.
    """
    recent = [note for note in notes if note.at > now - RECENT_SECONDS]
    starts = Counter((note.process, note.name) for note in recent if note.happened == "started")
    most: dict[str, int] = {"worker": 0, "projection": 0}
    for (process, _), count in starts.items():
        most[process] = max(most[process], count)
    return most | {"fenced": sum(note.happened == "fenced" for note in recent)}


async def notes(admin: AIOKafkaAdminClient, cluster: Cluster, partitions: int) -> list[JournalNote]:
    """What is on record, oldest first. Raises KafkaError."""
    slots = [TopicPartition(cluster.topic(EVENTS), number) for number in range(partitions)]
    found = await admin.list_consumer_group_offsets(cluster.journal_group, partitions=slots)
    kept = [note for beside in found.values() for note in _read(beside.metadata)]
    return sorted(kept, key=lambda note: note.at)


class Journal:
    """Of one process. Nothing raises, and nothing waits for long for a broker that is away."""

    def __init__(self, cluster: Cluster, process: Process, name: str) -> None:
        self._cluster = cluster
        self._process: Process = process
        self._name = name[:100]
        self._writing = threading.Lock()
        self._starting: threading.Timer | None = None

    def started(self) -> None:
        """Noted a little later: a process has more urgent things to do when it starts."""
        self._starting = threading.Timer(_START_SECONDS, self.note, ["started"])
        self._starting.daemon = True
        self._starting.start()

    def ended(self, happened: Happened, why: str) -> None:
        """Returns once that is noted, or after a moment; a start that was not noted yet is, too."""
        if self._starting is not None and self._starting.is_alive():
            self._starting.cancel()
            self.note("started").join(_END_SECONDS)
        self.note(happened, why).join(_END_SECONDS)

    def note(self, happened: Happened, why: str = "") -> threading.Thread:
        """Writes it from a thread of its own, which may be waited for."""
        note = JournalNote(int(time.time()), self._process, self._name, happened, why[:_LONGEST])
        thread = threading.Thread(target=self._write, args=(note,), name="journal", daemon=True)
        thread.start()
        return thread

    def _write(self, note: JournalNote) -> None:
        with self._writing:
            for _ in range(_TRIES):
                try:
                    asyncio.run(asyncio.wait_for(_add(self._cluster, note), _SECONDS))
                except (KafkaError, TimeoutError) as cause:
                    _log.debug("a note on this process could not be written", cause=repr(cause))
                    time.sleep(_PAUSE_SECONDS)
                else:
                    return


async def _add(cluster: Cluster, note: JournalNote) -> None:
    admin = AIOKafkaAdminClient(**cluster.client())
    consumer = AIOKafkaConsumer(**cluster.client(), group_id=cluster.journal_group, enable_auto_commit=False)
    try:
        await admin.start()
        topic = cluster.topic(EVENTS)
        there = [
            each for each in await admin.describe_topics() if each["topic"] == topic
        ]  # asked of all: makes none
        if not there:
            return
        slot = TopicPartition(topic, crc32(note.name.encode()) % len(there[0]["partitions"]))
        found = await admin.list_consumer_group_offsets(cluster.journal_group, partitions=[slot])
        text = _written([*(_read(found[slot].metadata) if slot in found else ()), note])
        await consumer.start()
        consumer.assign([slot])
        consumer.pause(slot)  # nothing is read
        await consumer.commit({slot: OffsetAndMetadata(0, text)})
    finally:
        with suppress(KafkaError):
            await consumer.stop()
        await admin.close()


def _read(text: str | None) -> list[JournalNote]:
    with suppress(DecodeError):
        return json.decode(text or "[]", type=list[JournalNote])
    return []


def _written(notes: Sequence[JournalNote]) -> str:
    kept = list(notes)
    while len(text := json.encode(kept)) > MOST_BYTES:
        kept.pop(0)
    return text.decode()

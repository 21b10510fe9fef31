"""The journal in Kafka: when workers and projections started, ended, paused and resumed. It is kept in Kafka because a
process that keeps crashing forgets its earlier crashes, and because the doctor may run on another machine.

The notes are the metadata of offsets of a consumer group that nobody joins. This needs no topic, and no database, which a
worker does not have; Kafka deletes the notes a week after the last one. Two processes that write at the same moment may
lose one note: the notes are for people and alerts, and no code decides by them.
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

JournalledProcess = Literal["worker", "projection"]
ProcessEvent = Literal["started", "ended", "fenced", "paused", "resumed"]

RECENT_STARTS_SECONDS: Final = 1_800
MOST_NOTES_BYTES: Final = 4_000
"""Of the notes at one offset: brokers accept 4096. The oldest are dropped first."""
_WRITE_SECONDS = 5.0
_START_SECONDS = 5.0
_END_SECONDS = 3.0
_LONGEST_WHY = 200
_TRIES = 20
_PAUSE_SECONDS = 3.0

_log = structlog.get_logger(__name__)


class JournalNote(NamedTuple):
    at: int
    """In seconds."""
    process: JournalledProcess
    name: str
    """The same after each start of that process."""
    happened: ProcessEvent
    why: str = ""


def most_starts_and_fencings(notes: Iterable[JournalNote], now: int) -> dict[str, int]:
    """The most starts of any one worker, and of any one projection, within RECENT_SECONDS; and how many workers were
    `fenced`.
    """
    recent = [note for note in notes if note.at > now - RECENT_STARTS_SECONDS]
    starts = Counter((note.process, note.name) for note in recent if note.happened == "started")
    most: dict[str, int] = {"worker": 0, "projection": 0}
    for (process, _), count in starts.items():
        most[process] = max(most[process], count)
    return most | {"fenced": sum(note.happened == "fenced" for note in recent)}


async def read_notes(admin: AIOKafkaAdminClient, cluster: Cluster, partitions: int) -> list[JournalNote]:
    """All notes, oldest first. Raises KafkaError."""
    noted_at = [TopicPartition(cluster.topic(EVENTS), number) for number in range(partitions)]
    offsets = await admin.list_consumer_group_offsets(cluster.journal_group, partitions=noted_at)
    recorded = [note for beside in offsets.values() for note in _notes_in(beside.metadata)]
    return sorted(recorded, key=lambda note: note.at)


class Journal:
    """The journal of one process. Nothing raises, and nothing waits long for an unavailable broker."""

    def __init__(self, cluster: Cluster, process: JournalledProcess, name: str) -> None:
        self._cluster = cluster
        self._process: JournalledProcess = process
        self._name = name[:100]
        self._writing = threading.Lock()
        self._starting: threading.Timer | None = None

    def started(self) -> None:
        """Writes the note a little later: a starting process has more urgent work."""
        self._starting = threading.Timer(_START_SECONDS, self.note, ["started"])
        self._starting.daemon = True
        self._starting.start()

    def ended(self, happened: ProcessEvent, why: str) -> None:
        """Writes the note, and before it a start that is not written yet. Returns when they are written, or after a few seconds."""
        if self._starting is not None and self._starting.is_alive():
            self._starting.cancel()
            self.note("started").join(_END_SECONDS)
        self.note(happened, why).join(_END_SECONDS)

    def note(self, happened: ProcessEvent, why: str = "") -> threading.Thread:
        """Writes a note in a thread of its own, which the caller may join."""
        note = JournalNote(int(time.time()), self._process, self._name, happened, why[:_LONGEST_WHY])
        thread = threading.Thread(target=self._write, args=(note,), name="journal", daemon=True)
        thread.start()
        return thread

    def _write(self, note: JournalNote) -> None:
        with self._writing:
            for _ in range(_TRIES):
                try:
                    asyncio.run(asyncio.wait_for(_add_note(self._cluster, note), _WRITE_SECONDS))
                except (KafkaError, TimeoutError) as cause:
                    _log.debug("the journal could not be written", cause=repr(cause))
                    time.sleep(_PAUSE_SECONDS)
                else:
                    return


async def _add_note(cluster: Cluster, note: JournalNote) -> None:
    admin = AIOKafkaAdminClient(**cluster.client())
    consumer = AIOKafkaConsumer(**cluster.client(), group_id=cluster.journal_group, enable_auto_commit=False)
    try:
        await admin.start()
        topic = cluster.topic(EVENTS)
        topics = [
            each for each in await admin.describe_topics() if each["topic"] == topic
        ]  # all topics: asking for one by name may create it
        if not topics:
            return
        partition = TopicPartition(topic, crc32(note.name.encode()) % len(topics[0]["partitions"]))
        offsets = await admin.list_consumer_group_offsets(cluster.journal_group, partitions=[partition])
        text = _notes_as_json(
            [*(_notes_in(offsets[partition].metadata) if partition in offsets else ()), note]
        )
        await consumer.start()
        consumer.assign([partition])
        consumer.pause(partition)  # nothing is read
        await consumer.commit({partition: OffsetAndMetadata(0, text)})
    finally:
        with suppress(KafkaError):
            await consumer.stop()
        await admin.close()


def _notes_in(text: str | None) -> list[JournalNote]:
    with suppress(DecodeError):
        return json.decode(text or "[]", type=list[JournalNote])
    return []


def _notes_as_json(notes: Sequence[JournalNote]) -> str:
    recorded = list(notes)
    while len(text := json.encode(recorded)) > MOST_NOTES_BYTES:
        recorded.pop(0)
    return text.decode()

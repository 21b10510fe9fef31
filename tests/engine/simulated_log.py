"""A log in memory for tests of the engine alone: transactions, changelogs, fencing, and a scheduler's whims.

Real Kafka is what the other tests run on; here it is interleavings that no broker can be made to show.
"""

import asyncio
from collections import defaultdict

from schemas.record import Chunk, Outgoing, Record

SOURCE, SAID = "in", "out"
NOON = 1_800_000_000_000
"""When everything is appended."""


class Count:
    """One key's state: how many records it has folded, and what it says."""

    def __init__(self, parts):
        self.number = int(parts.get("n", b"0"))
        self.at = int(parts["due"]) if "due" in parts else None
        self._changed = False

    def touch(self):
        self._changed = True

    def changes(self):
        changed, self._changed = self._changed, False
        due = None if self.at is None else b"%d" % self.at
        return {"n": b"%d" % self.number, "due": due} if changed else {}


class Nothing:
    def changes(self):
        return {}


class Counting:
    """Counts the records of each key, and says each number once. `due:N` and `time` are about timers."""

    name, source = "count", SOURCE

    def decode(self, record):
        return record.key, record.value.decode()

    def key_of(self, message):
        return message[0]

    def open_shared(self, parts):  # noqa: ARG002 - the shape of a Stage
        return Nothing()

    def open(self, key, parts):  # noqa: ARG002 - as above
        return Count(parts)

    def evolve(self, shared, state, message, origin, emit):  # noqa: ARG002 - as above
        key, word = message
        if word == "boom":
            raise RuntimeError("boom")
        state.number += 1
        state.at = int(word[4:]) if word.startswith("due:") else None if word == "time" else state.at
        state.touch()
        emit(SAID, key, b"%d" % state.number)

    def next_timer(self, state):
        return state.at

    def check_timer(self, shared, state, now):  # noqa: ARG002 - as above
        return state.at is not None and state.at <= now, state.at

    def wake_up(self, state, now):  # noqa: ARG002 - as above
        return Outgoing(SAID, "woken", b"1")


class Log:
    """What is durable. `epoch` of a bucket says who may still write for it."""

    def __init__(self, partitions):
        self.source = {n: [] for n in range(partitions)}
        self.said = []
        self.changelogs = defaultdict(list)
        self.epochs = defaultdict(int)

    def produce(self, partition, key, word="seen"):
        records = self.source[partition]
        records.append(Record(SOURCE, partition, len(records), key, word.encode(), NOON))

    def chunk(self, partition, start, most=100):
        records = self.source[partition][start : start + most]
        return Chunk(SOURCE, partition, start, start + len(records), records)


class Fenced(Exception):
    pass


class Transactions:
    """Yields to the scheduler at each step, so that anything may come between."""

    def __init__(self, log, bucket):
        self._log, self._bucket, self._epoch = log, bucket, None

    async def open(self):
        await asyncio.sleep(0)
        self._log.epochs[self._bucket] += 1
        self._epoch = self._log.epochs[self._bucket]

    async def commit(self, made):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self._epoch != self._log.epochs[self._bucket]:
            raise Fenced
        self._log.said += [(out.key, out.value) for out in made.outputs]
        for place, changes in made.changes.items():
            self._log.changelogs[place] += [*changes, None]  # None: the transaction's mark
        await asyncio.sleep(0)
        return {place: len(self._log.changelogs[place]) - 1 for place in made.changes}

    async def close(self):
        await asyncio.sleep(0)


class Backing:
    partitions = None

    def __init__(self, log):
        self._log = log

    def transactions(self, bucket):
        return Transactions(self._log, bucket)

    async def restore(self, memories, opened):
        for place, memory in memories.items():
            changelog = self._log.changelogs[place]
            for change in changelog[memory.changelog_position :]:
                await asyncio.sleep(0)
                if change is not None:
                    memory.restore(*change)
                memory.changelog_position += 1
            opened(place)

    async def beginnings(self, slots):
        await asyncio.sleep(0)
        return dict.fromkeys(slots, 0)

    async def ends(self, places):
        return {place: len(self._log.changelogs[place]) for place in places}

    async def parts_of(self, _place, _key):
        return {}

    async def skips(self, _slots):
        return {}

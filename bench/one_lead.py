"""What one more event costs, and how large a lead's state is, after 10, 1,000 and 100,000 events.

The two folds in memory, with their codecs at every chunk of 100: CPU time, the median of three
stretches. Flat means that a lead's past costs nothing.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Collection
from statistics import median

from rich.console import Console
from rich.table import Table

from leadstream.wiring import genesis, utc_now
from schemas.decode import encode_source, key_of
from schemas.events import ElementClicked, Event, MessageReceived, PageViewed
from schemas.moment import moment
from schemas.record import Record
from schemas.topics import EVENTS, LEAD_ACTIVITY, SHARED
from streams.engine.shard import Shard
from streams.score_leads import ScoreLeads
from streams.track_sessions import TrackSessions

AFTER = (10, 1_000, 100_000)
STRETCH = 500
CHUNK = 100
APART_MS = 7 * 60_000
START = 1_700_000_000_000


class Memory:
    """The parts of a shard, in memory."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, bytes]] = defaultdict(dict)

    def load(self, keys: Collection[str]) -> dict[str, dict[str, bytes]]:
        return {key: dict(self.parts[key]) for key in keys if key in self.parts}

    def keys_after(self, after: str, limit: int) -> list[str]:
        return sorted(key for key in self.parts if key > after and key != SHARED)[:limit]

    def write(self, parts: dict[tuple[str, str], bytes | None]) -> None:
        for (key, part), value in parts.items():
            if value is None:
                self.parts[key].pop(part, None)
            else:
                self.parts[key][part] = value

    def size(self) -> int:
        return sum(len(v) for key, parts in self.parts.items() if key != SHARED for v in parts.values())


class Pipeline:
    """Both stages, one partition each."""

    def __init__(self) -> None:
        self.stores = {EVENTS: Memory(), LEAD_ACTIVITY: Memory()}
        stages = {EVENTS: TrackSessions(), LEAD_ACTIVITY: ScoreLeads()}
        self.shards = {topic: Shard(stages[topic], 0, self.stores[topic]) for topic in stages}
        self.positions: dict[str, int] = defaultdict(int)
        for out in genesis(utc_now()):
            self.fold(out.topic, [(out.key, out.value)])

    def fold(self, topic: str, values: list[tuple[str, bytes | None]]) -> None:
        if not values:
            return
        at = self.positions[topic]
        self.positions[topic] += len(values)
        records = [Record(topic, 0, at + i, key, value) for i, (key, value) in enumerate(values)]
        outcome = self.shards[topic].fold(records)
        self.stores[topic].write(outcome.parts)
        self.fold(
            LEAD_ACTIVITY, [(out.key, out.value) for out in outcome.outputs if out.topic == LEAD_ACTIVITY]
        )


def event(number: int) -> Event:
    at = moment(START + number * APART_MS)
    envelope = {
        "event_id": f"e{number}",
        "occurred_at": at,
        "recorded_at": at,
        "visitor_id": "v",
        "lead_id": "L",
    }
    match number % 5:
        case 0:
            return ElementClicked(**envelope, text="Get a Demo")
        case 1:
            return MessageReceived(**envelope, source="telegram", text="Hello")
        case _:
            return PageViewed(**envelope, url=f"https://shop.example/{number % 50}")


def options(_parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def run(_given: argparse.Namespace) -> None:
    pipeline, number, rows = Pipeline(), 0, []
    for after in AFTER:
        while number < after:
            number = feed(pipeline, number, min(CHUNK, after - number))
        sizes = [store.size() for store in pipeline.stores.values()]
        costs = []
        for _ in range(3):
            started, begin = time.process_time(), number
            while number < begin + STRETCH:
                number = feed(pipeline, number, CHUNK)
            costs.append((time.process_time() - started) / STRETCH)
        rows.append((after, median(costs), *sizes))
    table = Table(title="One lead, ever more events")
    for column in ("events before", "us per event", "ratio to the first", "bytes, visitor", "bytes, lead"):
        table.add_column(column, justify="right")
    for after, cost, visitor, lead in rows:
        table.add_row(
            f"{after:,}", f"{cost * 1e6:,.0f}", f"{cost / rows[0][1]:.2f}", f"{visitor:,}", f"{lead:,}"
        )
    Console().print(table)


def feed(pipeline: Pipeline, number: int, count: int) -> int:
    events = [event(i) for i in range(number, number + count)]
    pipeline.fold(EVENTS, [(key_of(e), encode_source(e)) for e in events])
    return number + count

"""What one more event costs, and how large a lead's state is, after 10, 1,000 and 100,000 events.

The two folds in memory, with their codecs at every chunk of 100: CPU time, the median of three
stretches. Flat means that a lead's past costs nothing.
"""

import argparse
import time
from statistics import median

from bench.report import print_results
from leadstream.clock import utc_now
from leadstream.wiring import genesis
from schemas.decode import encode_source, key_of
from schemas.events import ElementClicked, Event, MessageReceived, PageViewed
from schemas.moment import moment
from schemas.record import Outgoing
from schemas.topics import EVENTS
from streams.replay import Replay

AFTER = (10, 1_000, 100_000)
STRETCH = 500
CHUNK = 100
APART_MS = 7 * 60_000
START = 1_700_000_000_000


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


def run(_options: argparse.Namespace) -> None:
    replay, number, rows = Replay(genesis(utc_now()), chunk=CHUNK), 0, []
    published = replay.sizes
    for after in AFTER:
        while number < after:
            number = feed(replay, number, min(CHUNK, after - number))
        sizes = [size - begin for size, begin in zip(replay.sizes, published, strict=True)]
        costs = []
        for _ in range(3):
            started, begin = time.process_time(), number
            while number < begin + STRETCH:
                number = feed(replay, number, CHUNK)
            costs.append((time.process_time() - started) / STRETCH)
        rows.append((after, median(costs), *sizes))
    print_results(
        "One lead, ever more events",
        ("events before", "us per event", "ratio to the first", "bytes, visitor", "bytes, lead"),
        [
            (f"{after:,}", f"{cost * 1e6:,.0f}", f"{cost / rows[0][1]:.2f}", f"{visitor:,}", f"{lead:,}")
            for after, cost, visitor, lead in rows
        ],
    )


def feed(replay: Replay, number: int, count: int) -> int:
    events = [event(i) for i in range(number, number + count)]
    replay.append(Outgoing(EVENTS, key_of(e), encode_source(e)) for e in events)
    replay.fold_all()
    return number + count

"""Two stages that only count, with everything the driver must carry: state, dues, sweeps, failures.

A record's value is `KEY|WORD`. `count_visits` counts per key and tells `count_leads`, which counts
per lead (the first letter of the key) and says the count. As a program it is the process that the
crash test kills: it opens the database of its first argument and appends until it dies.
"""

import itertools
import sys
import threading
import time
from dataclasses import dataclass, field

from schemas.decode import Refusal
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_SCORES, SCORE_CHANGED
from streams.embedded.driver import Driver


@dataclass
class Count:
    key: str
    numbers: dict[str, int | None]
    changed: set[str] = field(default_factory=set)

    def put(self, part, number):
        self.numbers[part] = number
        self.changed.add(part)

    def add(self, part):
        self.put(part, (self.numbers.get(part) or 0) + 1)

    def changes(self):
        changed, self.changed = self.changed, set()
        return {part: None if (n := self.numbers.get(part)) is None else b"%d" % n for part in changed}


def opened(key, parts):
    return Count(key, {part: int(value) for part, value in parts.items()})


class Counting:
    """What both stages have in common."""

    explosive = True
    """Whether the word `boom` makes the fold raise."""

    def __init__(self, name, source):
        self.name = name
        self.source = source

    def decode(self, record):
        key, separator, word = (record.value or b"").decode().partition("|")
        if not separator:
            raise Refusal(None, "no separator")
        return key, word

    def key_of(self, message):
        return message[0] or None

    def open_shared(self, parts):
        return opened("~", parts)

    def open(self, key, parts):
        return opened(key, parts)

    def evolve(self, shared, state, message, origin, emit):  # noqa: ARG002 - the shape of a Stage
        word = message[1]
        if word == "boom" and self.explosive:
            raise RuntimeError("boom")
        if word == "forget":
            for part in list(state.numbers):
                state.put(part, None)
            return
        if word.startswith("due:"):
            state.put("due", int(word.removeprefix("due:")))
        elif word.startswith("time:"):
            state.put("due", None)
            state.add("woken")
        else:
            state.add("count")
        self.tell(state, emit)

    def tell(self, state, emit):
        if self.source == EVENTS:
            emit(LEAD_ACTIVITY, state.key[0], f"{state.key[0]}|{state.key}".encode())
        else:
            count = b"%d" % (state.numbers.get("count") or 0)
            emit(SCORE_CHANGED, state.key, count)
            emit(LEAD_SCORES, state.key, count)

    def apply_to_all(self, shared, message):
        pass

    def sweep_cursor(self, shared, message):
        version = int(message[1].removeprefix("sweep:"))
        if version <= (shared.numbers.get("version") or 0):
            return None
        cursor = shared.numbers.get("cursor")
        return "" if cursor is None else f"{cursor:05d}"

    def visit(self, shared, state, message, origin, emit):  # noqa: ARG002 - the shape of a Stage
        state.add("visits")

    def move_cursor(self, shared, message, cursor):
        shared.put("cursor", None if cursor is None else int(cursor))
        if cursor is None:
            shared.put("version", int(message[1].removeprefix("sweep:")))

    def next_timer(self, state):
        return state.numbers.get("due")

    def check_timer(self, shared, state, now):  # noqa: ARG002 - the shape of a Stage
        due = self.next_timer(state)
        return due is not None and due <= now, due

    def wake_up(self, state, now):
        return Outgoing(self.source, state.key, f"{state.key}|time:{now}".encode())


def stages():
    return [Counting("count_visits", EVENTS), Counting("count_leads", LEAD_ACTIVITY)]


def visit(key, word="seen"):
    return Outgoing(EVENTS, key, f"{key}|{word}".encode())


def main(database, begin):
    """Appends from four threads until killed; prints each key whose append was acknowledged."""
    driver = Driver(lambda: database, stages(), now=lambda: int(time.time() * 1000), partitions=4)
    driver.start()
    numbers = itertools.count(int(begin))
    out = threading.Lock()

    def produce():
        for number in numbers:
            key = f"{'abcdefgh'[number % 8]}{number}"
            driver.append([visit(key), visit(key)]).result()
            with out:
                sys.stdout.write(f"{key}\n")
                sys.stdout.flush()

    for _ in range(4):
        threading.Thread(target=produce).start()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A process that appends a simulated company to the real folds, for a test to kill.

Arguments: the database, and the first event to append. Says the number of each event that is stored.
"""

import sys
from datetime import UTC, datetime

from leadstream.clock import now_ms
from leadstream.simulation.simulate import simulated_events
from leadstream.stages import STAGES
from leadstream.wiring import genesis
from schemas.decode import encode_source, key_of
from schemas.record import Outgoing
from schemas.topics import EVENTS
from streams.embedded.driver import Driver

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
GENESIS = genesis(NOON)


def company(leads=60):
    return [Outgoing(EVENTS, key_of(e), encode_source(e)) for e in simulated_events(5, leads, 40, NOON)]


def driver_of(database, partitions=4):
    stages = [stage() for stage in STAGES]
    return Driver(lambda: database, stages, now=now_ms, partitions=partitions, genesis=GENESIS)


if __name__ == "__main__":
    driver = driver_of(sys.argv[1])
    driver.start()
    records, begin, step = company(), int(sys.argv[2]), 25
    appends = [(i, driver.append(records[i : i + step])) for i in range(begin, len(records), step)]
    for i, appended in appends:
        appended.result()
        sys.stdout.write(f"{i + step}\n")
        sys.stdout.flush()
    driver.stop()

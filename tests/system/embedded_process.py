"""An embedded Leadstream that a test kills: it appends the lines of a file of events, from a given one
on, and says after every request how far the log has them.
"""

import sys
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from leadstream.delivering import delivery_beside
from leadstream.settings import Settings
from leadstream.wiring import open_system, repeated_for_every_partition
from schemas.control import EVERY_TENANT, ModelPublished
from schemas.decode import decode_source, key_of
from schemas.moment import moment
from schemas.publications import publication_records
from schemas.record import Outgoing
from schemas.topics import EVENTS
from streams.embedded import writer
from streams.engine.shard import Shard

REQUEST = 200
WAITING = 4


def main(url: str, events: str, start: str, model: str = "", version: str = "0", channels: str = "") -> None:
    """With `channels`, the configuration of delivery, it delivers, too. With a model, it sweeps the leads in many small steps,
    each with a commit.
    """
    if model:
        Shard.SWEEP_STEP = 20
        writer.COMMIT_SECONDS = writer.TURN_SECONDS = 0
    lines = Path(events).read_bytes().splitlines()
    settings = Settings(database_url=url, partitions=6, delivery=Path(channels) if channels else None)
    with open_system(settings) as system, delivery_beside(system, settings) if channels else nullcontext():
        print("ready", flush=True)
        if model:
            text = Path(model).read_text(encoding="utf-8")
            name = Path(model).stem
            said = ModelPublished(
                tenant=EVERY_TENANT,
                recorded_at=moment(time.time_ns() // 1_000_000),
                model=name,
                version=int(version),
                text=text,
            )
            system.driver.append(repeated_for_every_partition(publication_records(said), 6)).result()
            print("published", flush=True)
        at, pending = int(start), []
        rest = iter(lines[at:])
        while batch := list(islice(rest, REQUEST)):
            records = [Outgoing(EVENTS, key_of(decode_source(line)), line) for line in batch]
            pending.append(system.driver.append(records))
            if len(pending) == WAITING:
                at += len(pending.pop(0).result())
                print(at, flush=True)
        for future in pending:
            at += len(future.result())
            print(at, flush=True)
        while any(system.driver.status().backlog.values()) or system.driver.status().waiting:
            time.sleep(0.05)
        print("folded", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

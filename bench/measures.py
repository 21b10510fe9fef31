"""Single measures of CPU, each in a process of its own: what `bench versus` runs in two checkouts.

`python -P bench/measures.py NAME EVENTS [CORE]` measures the product that PYTHONPATH names and prints one line of JSON: seconds
of CPU, what one orjson decode of the same events takes in the same process, and counts that should be the same or fewer.
It uses only what older checkouts have, too.

engine   the common job (`bench/engine/job.py`) through task groups, in memory: nothing is sent
folds    simulated events through both folds and all built-in models, through task groups, in memory
rows     the rows of read models from what the folds emit, in batches of 2,000 records: no database
import   simulated events imported in embedded mode: appended, folded, projected, on disk
"""

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import psycopg

import projections.worker
from bench.engine import job
from bench.engine.events import events
from leadstream.operations.imports import append_all, archived
from leadstream.operations.store_access import store_of_system
from leadstream.settings import Settings
from leadstream.simulation.simulate import simulated_events
from leadstream.stages import STAGES
from leadstream.wiring import genesis, open_system, repeated_for_every_partition
from projections.facts import changes_of_record
from projections.tables import PROJECTED_TOPICS
from projections.upserts import CollapsedChanges, collapse_changes
from schemas.decode import encode_source, key_of
from schemas.record import Chunk, Outgoing, Record
from schemas.topics import EVENTS, partition_of
from streams.engine import task_group
from streams.engine.state_store import StateStore
from streams.engine.task import Task, TaskCounts
from streams.engine.task_group import TaskGroup

PARTITIONS = 4
UNTIL = datetime(2026, 3, 1, tzinfo=UTC)
EVENTS_OF_A_LEAD = 11
DAYS = 60

Figures = dict[str, Any]


class CountingTransactions:
    """Takes commits, routes what another task reads, and counts the rest."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.log_partition: task for task in tasks}
        self._ends = dict.fromkeys(self._tasks, 0)
        self.counts: Counter[str] = Counter()
        self.latest: dict[tuple[str, str], bytes | None] = {}
        """(topic, key) -> what was emitted last."""
        self.written: list[Record] = []
        """Everything, in the order of recording."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def commit(self, commit: Any) -> dict:
        self.counts["commits"] += 1
        self.append(commit.outputs)
        for changes in commit.changes.values():
            newest = {change.key: change.value for change in changes}
            self.counts["changelog records"] += len(newest)
            self.counts["changelog records made"] += len(changes)
            self.counts["changelog bytes"] += sum([len(value or b"") for value in newest.values()])
        return {}

    def append(self, records: Sequence[Outgoing]) -> None:
        ahead: dict[tuple[str, int], list[Record]] = {}
        for topic, key, value, chosen in records:
            number = partition(key) if chosen is None else chosen
            log_partition = topic, number
            if topic != EVENTS:
                self.written.append(Record(topic, number, len(self.written), key, value))
            if log_partition in self._tasks:
                queue = ahead.setdefault(log_partition, [])
                queue.append(Record(*log_partition, self._ends[log_partition] + len(queue), key, value))
            else:
                self.counts["emitted"] += 1
                self.latest[topic, key] = value
        for (topic, number), queue in ahead.items():
            start = self._ends[topic, number]
            self._ends[topic, number] = start + len(queue)
            self._tasks[topic, number].offer(Chunk(topic, number, start, start + len(queue), queue))


_partitions: dict[str, int] = {}


def partition(key: str) -> int:
    number = _partitions.get(key)
    if number is None:
        number = _partitions[key] = partition_of(key, PARTITIONS)
    return number


def through_task_group(
    stages: Sequence[Any], genesis: Sequence[Outgoing], raw: Sequence[tuple[str, bytes]], commit_records: int
) -> Figures:
    """CPU for the events from the first one to the last commit. A commit ends by `commit_records` and never by time, so
    that each run does the same.
    """
    task_group.COMMIT_RECORDS, task_group.COMMIT_SECONDS = commit_records, 3_600.0
    gc.set_threshold(200_000, 20, 50)
    tasks = [Task(stage, p, StateStore(), TaskCounts()) for stage in stages for p in range(PARTITIONS)]
    for task in tasks:
        task.restored(0, {})
    transactions = CountingTransactions(tasks)
    errors: list[BaseException] = []

    async def work(records: Sequence[Outgoing]) -> float:
        group = TaskGroup(
            transactions,
            tasks,
            now=lambda: 0,
            drained=lambda _: None,
            fail=errors.append,
            observe=lambda *_: None,
        )
        started = time.process_time()
        for begin in range(0, len(records), 20_000):
            transactions.append(records[begin : begin + 20_000])
            group.wake()
            while any(task.queue for task in tasks) and not errors:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0)
        while group._running is not None:  # noqa: ASYNC110, SLF001 - until the last commit
            await asyncio.sleep(0)
        if errors:
            raise errors[0]
        return time.process_time() - started

    asyncio.run(work(genesis))
    transactions.counts.clear()
    gc.collect()
    gc.freeze()
    cpu = asyncio.run(work([Outgoing("events", key, value) for key, value in raw]))
    return {
        "cpu": cpu,
        "counts": dict(transactions.counts),
        "same": digest(transactions.latest),
        "written": transactions.written,
    }


def digest(latest: dict[tuple[str, str], bytes | None]) -> str:
    """Equal if each topic and key ended with the same record."""
    return sha256(repr(sorted((*name, value) for name, value in latest.items())).encode()).hexdigest()[:16]


def engine(count: int) -> tuple[Figures, list[bytes]]:
    raw = events(count)
    figures = through_task_group([job.Sessions(), job.Leads()], [], raw, 20_000)
    return figures, [value for _, value in raw]


def simulated(count: int) -> list[Any]:
    leads = max(count // EVENTS_OF_A_LEAD, 20)
    return list(simulated_events(seed=3, leads=leads, days=DAYS, until=UNTIL))[:count]


def folds(count: int) -> tuple[Figures, list[bytes]]:
    raw = [(key_of(event), encode_source(event)) for event in simulated(count)]
    beginning = repeated_for_every_partition(genesis(UNTIL), PARTITIONS)
    figures = through_task_group([stage() for stage in STAGES], beginning, raw, 1_000)
    return figures, [value for _, value in raw]


def rows(count: int) -> tuple[Figures, list[bytes]]:
    folded, encoded = folds(count)
    records = [record for record in folded["written"] if record.topic in PROJECTED_TOPICS]
    started = time.process_time()
    made = [
        CollapsedChanges(*rows_of_records(records[begin : begin + 2_000]))
        for begin in range(0, len(records), 2_000)
    ]
    cpu = time.process_time() - started
    counts = Counter({"records": len(records)})
    for each in made:
        counts["rows"] += sum(map(len, each.rows.values()))
    contents = [
        ({table.name: sorted(map(repr, lines)) for table, lines in each.rows.items()}, repr(each.superseded))
        for each in made
    ]
    return {"cpu": cpu, "counts": counts, "same": sha256(repr(contents).encode()).hexdigest()[:16]}, encoded


def rows_of_records(records: Sequence[Record]) -> CollapsedChanges:
    """As the projection's worker makes them."""
    if hasattr(projections.worker, "latest_cards"):
        records = projections.worker.latest_cards(records)
    return collapse_changes(change for record in records for change in changes_of_record(record))


def embedded_import(count: int) -> tuple[Figures, list[bytes]]:
    events = [archived(event, UNTIL) for event in simulated(count)]
    with (
        tempfile.TemporaryDirectory(prefix="leadstream-bench-") as directory,
        open_system(Settings(data_dir=Path(directory))) as system,
    ):
        store = store_of_system(system)
        before = database_cpu(Path(directory))
        started = time.process_time()
        append_all(iter(events), store.append)
        store.settle(lambda _: None)
        cpu = time.process_time() - started
        database = database_cpu(Path(directory)) - before
        with psycopg.connect(system.database_url) as connection:
            rows = connection.execute(
                "select topic, count(*) from records group by topic union all "
                "select 'bytes of database', pg_database_size(current_database())"
            ).fetchall()
            scores = connection.execute(
                "select leads.tenant || '/' || lead_id, model, total::text from live.lead_scores "
                "join live.leads using (lead_key) where model <> 'composite' order by 1, 2"
            ).fetchall()
    counts = dict(rows)
    return {
        "cpu": cpu,
        "database cpu": database,
        "counts": counts,
        "same": sha256(repr(scores).encode()).hexdigest()[:16],
    }, [encode_source(event) for event in events]


def database_cpu(directory: Path) -> float:
    """Seconds of CPU of the PostgreSQL that runs below the directory, its finished backends included."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
            parent = Path(f"/proc/{fields[1]}/cmdline").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in command:
            ticks += sum(map(int, fields[11:15]))  # its own and those of children that have ended
        elif str(directory).encode() in parent:
            ticks += sum(map(int, fields[11:13]))
    return ticks / 100


MEASURES: dict[str, Callable[[int], tuple[Figures, list[bytes]]]] = {
    "engine": engine,
    "folds": folds,
    "rows": rows,
    "import": embedded_import,
}


def decode_seconds(encoded: Sequence[bytes]) -> float:
    """Of CPU for one orjson decode of one of them."""
    sample = encoded[:20_000]
    started = time.process_time()
    for value in sample:
        orjson.loads(value)
    return (time.process_time() - started) / len(sample)


def main(name: str, count: int, cpu: int | None = None) -> None:
    """On that core, if one is named."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    figures, encoded = MEASURES[name](count)
    unit = decode_seconds(encoded)
    figures.pop("written", None)
    print(json.dumps({**figures, "events": len(encoded), "decode": unit}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

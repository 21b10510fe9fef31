"""Simulated events through the real folds, until everything can be read: on Kafka, and embedded.

The same events are appended the same way, a thousand at a time, and both are waited for the same way.
On Kafka a worker and a projection run as processes of their own (`leadstream worker`, `leadstream
project`); embedded, all of it is one process. Scored: when the last record stood in score-changed.
Readable: when nothing was left to do, read models included, and what time alone changes: a worker turns
to that when it has been quiet for two seconds. The first events are let through before the clock starts:
a broker makes each partition's files when it is first written. Both modes must end with the same scores,
but for models that read the stage of a lead, which depends on the order between visitors.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psycopg

from bench import kafka
from bench.processes import Failed, Program, cpu_of, peak_memory_of
from bench.product import await_ready, command, settings_of
from bench.report import NOTHING, print_results, report_progress, write_line
from leadstream.clock import utc_now
from leadstream.embedded_postgres import start_postgres, stop_postgres
from leadstream.operations.imports import append_all, archived
from leadstream.operations.store_access import StoreAccess, store_of_system
from leadstream.operations.store_access_kafka import kafka_store
from leadstream.simulation.simulate import simulated_events
from leadstream.stages import STAGES
from leadstream.wiring import genesis, open_system, repeated_for_every_partition
from projections.table_definition import READ_OPTIONS
from schemas.events import Event
from schemas.topics import DEFAULT_PARTITIONS, SCORE_CHANGED
from streams.kafka.cluster import Cluster

WARM_UP_SHARE = 0.2
SAME_SHARE = 0.999
"""Of the scores: time passes between the two runs."""
ORDERED = "composite"
"""The built-in model that reads the stage."""
PATIENCE_SECONDS = 60.0
PER_SECOND = 100
"""The slowest that folding is borne with."""

Scores = dict[tuple[str, str], float]
"""(lead, model) -> total"""


class Taken(NamedTuple):
    """Seconds from the beginning on."""

    began_at: float
    appended: float
    readable: float


class ModeResult(NamedTuple):
    mode: str
    taken: Taken
    scored: float | None
    cpu: dict[str, float]
    """Seconds, by part."""
    memory: dict[str, int]
    scores: Scores


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leads", type=int, default=1_000, help="how many people come (%(default)s)")
    parser.add_argument("--days", type=int, default=60, help="over how many days (%(default)s)")
    parser.add_argument(
        "--partitions", type=int, default=DEFAULT_PARTITIONS, help="of every topic (%(default)s)"
    )
    parser.add_argument("--brokers", help="HOST:PORT of a running Kafka; else one is started")


def run(options: argparse.Namespace) -> None:
    now = datetime.now(UTC)
    simulated = simulated_events(seed=3, leads=options.leads, days=options.days, until=now)
    events = [archived(event, now) for event in simulated]
    split = int(len(events) * WARM_UP_SHARE)
    warm_up, events = events[:split], events[split:]
    report_progress(f"{len(events):,} events, embedded ...")
    embedded = _embedded(warm_up, events, options.partitions)
    report_progress(f"{len(events):,} events, on Kafka ...")
    with kafka.broker(options.brokers) as broker:
        on_kafka = asyncio.run(_on_kafka(warm_up, events, options.partitions, broker))
    same = sum(on_kafka.scores.get(key) == total for key, total in embedded.scores.items())
    _print_results(len(events), [embedded, on_kafka], same)
    if same < SAME_SHARE * max(len(embedded.scores), len(on_kafka.scores)):
        raise SystemExit("The two modes ended with different scores.")


def _taken(store: StoreAccess, events: Sequence[Event]) -> Taken:
    began = time.time()
    append_all(iter(events), store.append)
    appended = time.time() - began
    _settle(store, PATIENCE_SECONDS + len(events) / PER_SECOND)
    return Taken(began, appended, time.time() - began)


def _settle(store: StoreAccess, patience: float) -> None:
    """Until everything shows. Raises Failed."""
    deadline = time.monotonic() + patience

    def left(count: int) -> None:
        if time.monotonic() > deadline:
            raise Failed(f"{count:,} records and leads are left after {patience:.0f} s.")

    store.settle(left)


def _embedded(warm_up: Sequence[Event], events: Sequence[Event], partitions: int) -> ModeResult:
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-") as directory:
        settings = settings_of(Path(directory), None, partitions=partitions)
        with open_system(settings) as system:
            store = store_of_system(system)
            _taken(store, warm_up)
            before = time.process_time()
            taken = _taken(store, events)
            cpu = time.process_time() - before
            scores = _scores(system.database_url)
    return ModeResult("embedded", taken, None, {"the process": cpu}, {}, scores)


async def _on_kafka(
    warm_up: Sequence[Event], events: Sequence[Event], partitions: int, broker: kafka.MeasuredBroker
) -> ModeResult:
    cluster = Cluster(broker.address, f"bench-pipeline-{int(time.time())}-")
    beginning = repeated_for_every_partition(genesis(utc_now()), partitions)
    stages = [stage.name for stage in STAGES]
    async with (
        kafka.topics(cluster, partitions, stages, beginning),
        kafka.Watch(cluster, partitions) as watch,
    ):
        result = await asyncio.to_thread(_worked, warm_up, events, cluster, broker)
        last = 0.0
        async for record in watch.records(SCORE_CHANGED):
            last = max(last, record.timestamp / 1000)
    # The broker's clock is ours, and its stamps are of the moment of appending.
    return result._replace(scored=last - result.taken.began_at)


def _worked(
    warm_up: Sequence[Event], events: Sequence[Event], cluster: Cluster, broker: kafka.MeasuredBroker
) -> ModeResult:
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-") as directory, ExitStack() as stack:
        data_dir = Path(directory)
        url = start_postgres(data_dir)
        stack.callback(stop_postgres, data_dir)
        settings = settings_of(data_dir, cluster, database_url=url)
        parts = {name: stack.enter_context(command(settings, name)) for name in ("worker", "project")}
        await_ready(parts["worker"], settings.worker_port)
        with kafka_store(settings, url) as store:
            _taken(store, warm_up)
            before = _cpu(parts, broker)
            taken = _taken(store, events)
        after = _cpu(parts, broker)
        return ModeResult(
            "Kafka",
            taken,
            None,
            {name: after[name] - before[name] for name in before},
            {name: peak_memory_of(part.pid) for name, part in parts.items()},
            _scores(url),
        )


def _cpu(parts: dict[str, Program], broker: kafka.MeasuredBroker) -> dict[str, float]:
    used = {name: cpu_of(part.pid) for name, part in parts.items()}
    return used | ({} if broker.pid is None else {"broker": cpu_of(broker.pid)})


def _scores(url: str) -> Scores:
    with psycopg.connect(url, options=READ_OPTIONS) as connection:
        result = connection.execute(
            "select leads.tenant || '/' || lead_id, model, total from lead_scores join leads using (lead_key) "
            "where model <> %s",
            (ORDERED,),
        )
        return {(lead, model): float(total) for lead, model, total in result}


def _print_results(events: int, results: Sequence[ModeResult], same: int) -> None:
    rows = []
    for each in results:
        cpu = ", ".join(f"{name} {seconds / events * 1e6:,.0f}" for name, seconds in each.cpu.items())
        memory = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in each.memory.items())
        rows.append(
            (
                each.mode,
                f"{events / each.taken.appended:,.0f}",
                NOTHING if each.scored is None else f"{events / each.scored:,.0f}",
                f"{events / each.taken.readable:,.0f}",
                cpu,
                memory or NOTHING,
            )
        )
    embedded, on_kafka = results
    ratio = embedded.taken.readable / on_kafka.taken.readable
    notes = [
        f"Kafka to embedded: readable {ratio:.2f} times as fast.",
        f"{same:,} of {len(embedded.scores):,} scores are the same to the last millionth.",
    ]
    columns = ("", "appended/s", "scored/s", "readable/s", "CPU, microseconds per event", "peak MB")
    print_results(f"{events:,} simulated events through the real folds", columns, rows, notes)
    write_line(
        "pipeline",
        events=events,
        same_scores=same,
        scores=len(embedded.scores),
        modes=[
            {
                "mode": each.mode,
                **each.taken._asdict(),
                "scored": each.scored,
                "cpu": each.cpu,
                "peak_memory": each.memory,
            }
            for each in results
        ],
    )

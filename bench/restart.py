"""A worker with much state is ended and started again: how long until it is ready.

Its state is made by the real folds, from one event of each of many leads. Ready: it owns its
partitions, has read its state back from the changelogs, and folds. After a clean stop the group knows
at once; after a kill it waits for a session timeout, unless the worker has a name of its own
(LEADSTREAM_WORKER_ID), which makes it the same member again.
"""

import argparse
import asyncio
import http.client
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench import kafka
from bench.processes import Program, cpu_of, memory_of
from bench.product import await_ready, command, settings_of
from bench.report import NOTHING, print_results, report_progress, write_line
from leadstream.settings import Settings
from leadstream.stages import STAGES
from leadstream.wiring import genesis, repeated_for_every_partition
from schemas.decode import encode_source, key_of
from schemas.events import PageViewed
from schemas.topics import DEFAULT_PARTITIONS, EVENTS, LEAD_ACTIVITY, SCORE_CHANGED
from streams.kafka.cluster import Cluster

PATIENCE_SECONDS = 60.0
PER_SECOND = 300
"""The slowest that folding is borne with."""


class Restart(NamedTuple):
    how: str
    seconds: float
    cpu: float
    memory: int


class StateSize(NamedTuple):
    keys: int
    state: int
    """Bytes."""
    changelog: int | None
    """Bytes on the broker's disk."""
    records: int
    """Of the changelogs; some are marks of transactions."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leads", type=int, default=100_000, help="whose state is held (%(default)s)")
    parser.add_argument(
        "--partitions", type=int, default=DEFAULT_PARTITIONS, help="of every topic (%(default)s)"
    )
    parser.add_argument("--brokers", help="HOST:PORT of a running Kafka; else one is started")


def run(options: argparse.Namespace) -> None:
    with kafka.broker(options.brokers) as broker:
        state_size, restarts = asyncio.run(_measure(options, broker))
    rows = [
        (each.how, f"{each.seconds:.1f}", f"{each.cpu:.1f}", f"{each.memory / 1e6:,.0f}") for each in restarts
    ]
    disk = NOTHING if state_size.changelog is None else f"{state_size.changelog / 1e6:,.0f} MB on disk"
    notes = [
        f"State: {state_size.keys:,} keys, {state_size.state / 1e6:,.0f} MB; changelogs: {state_size.records:,} positions, {disk}.",
    ]
    columns = ("ended by", "ready after s", "CPU s", "MB")
    print_results(f"A worker with {options.leads:,} leads starts again", columns, rows, notes)
    lines = [each._asdict() for each in restarts]
    write_line("restart", leads=options.leads, held=state_size._asdict(), restarts=lines)


async def _measure(
    options: argparse.Namespace, broker: kafka.MeasuredBroker
) -> tuple[StateSize, list[Restart]]:
    cluster = Cluster(broker.address, f"bench-restart-{int(time.time())}-")
    stages = [stage.name for stage in STAGES]
    now = datetime.now(UTC)
    beginning = repeated_for_every_partition(genesis(now), options.partitions)
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-") as directory:
        async with (
            kafka.topics(cluster, options.partitions, stages, beginning),
            kafka.Watch(cluster, options.partitions) as watch,
        ):
            await kafka.load(cluster, EVENTS, options.partitions, _visits(options.leads, now))
            unnamed = settings_of(Path(directory), cluster)
            named = settings_of(Path(directory), cluster, worker_id="bench")
            state_size = await _filled(options.leads, unnamed, watch, broker)
            restarts = [
                await asyncio.to_thread(_restarted, "a clean stop", unnamed, lambda worker: worker.stop()),
                await asyncio.to_thread(_restarted, "kill -9", unnamed, lambda worker: worker.kill()),
                await asyncio.to_thread(
                    _restarted, "kill -9, with a worker id", named, lambda worker: worker.kill()
                ),
            ]
    return state_size, restarts


def _visits(leads: int, now: datetime) -> Iterator[tuple[str, bytes]]:
    for number in range(leads):
        event = PageViewed(
            event_id=f"e{number}",
            occurred_at=now,
            recorded_at=now,
            visitor_id=f"v{number}",
            url="https://shop.example/",
        )
        yield key_of(event), encode_source(event)


async def _filled(
    leads: int, settings: Settings, watch: kafka.Watch, broker: kafka.MeasuredBroker
) -> StateSize:
    """What a worker holds once it has folded everything."""
    group = settings.cluster.group
    patience = PATIENCE_SECONDS + leads / PER_SECOND
    report_progress(f"{leads:,} leads are made ...")
    with command(settings, "worker") as worker:
        await asyncio.to_thread(await_ready, worker, settings.worker_port)
        deadline = time.monotonic() + patience
        while not (await watch.caught_up(group, EVENTS) and await watch.caught_up(group, LEAD_ACTIVITY)):
            worker.check()
            if time.monotonic() > deadline:
                raise worker.failed(f"has not folded {leads:,} events within {patience:.0f} s")
            await asyncio.sleep(0.5)
        metrics = await asyncio.to_thread(_metrics, settings.worker_port)
    if not sum(await watch.ends(SCORE_CHANGED)):
        raise SystemExit("No score was said: there is no state to measure.")
    changelogs = [settings.cluster.changelog(stage.name) for stage in STAGES]
    names = [settings.cluster.name_of(changelog) for changelog in changelogs]
    return StateSize(
        keys=_sum(metrics, "leadstream_worker_keys"),
        state=_sum(metrics, "leadstream_worker_state_bytes"),
        changelog=None if broker.logs is None else _on_disk(broker.logs, changelogs),
        records=sum([sum(await watch.ends(name)) for name in names]),
    )


def _restarted(how: str, settings: Settings, end: Callable[[Program], object]) -> Restart:
    report_progress(f"Ended by {how} ...")
    with command(settings, "worker") as worker:
        await_ready(worker, settings.worker_port)
        end(worker)
    started = time.time()
    with command(settings, "worker") as worker:
        ready = await_ready(worker, settings.worker_port)
        return Restart(how, ready - started, cpu_of(worker.pid), memory_of(worker.pid))


def _metrics(port: int) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def _sum(metrics: str, name: str) -> int:
    return sum(
        int(float(value)) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE)
    )


def _on_disk(logs: Path, topics: Sequence[str]) -> int:
    files = (file for topic in topics for file in logs.glob(f"{topic}-*/*.log"))
    return sum(file.stat().st_size for file in files)

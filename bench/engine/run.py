"""The same job on our engine and on its rivals, with the same events, one after the other on one broker.

Each rival gets topics of its own with the same events, reads them from the beginning, and is watched
from outside: it is done when its group has committed all events and all lead-activity. Then its
answers are read and compared with the fold in memory. The clock starts when it processes the first
event, so what starting costs is counted apart. Rates after the first third of the events are given,
too: by then a JVM has compiled what it will.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import kafka
from bench.engine import java
from bench.engine.events import Raw, events
from bench.engine.job import Leads, Sessions, Truth, fold, read_changed
from bench.processes import Failed, First, Program, cpu_of, peak_memory_of, running
from bench.report import NOTHING, print_results, report_progress, write_line
from schemas.topics import EVENTS, LEAD_ACTIVITY, SCORE_CHANGED
from streams.kafka.cluster import Cluster

PARTITIONS = 4
LOOK_SECONDS = 0.05
SETTLED_SECONDS = 1.5
"""So long nothing more may come before an engine counts as done; the time is not counted."""
STARTING_SECONDS = 60
MEANING = (
    "events/s: from the first event until all is committed; warm: after a third of the events. CPU s/M: of the "
    "engine's process per million events, without its start (boot CPU s)."
)


class EngineRun(NamedTuple):
    cluster: Cluster
    directory: Path
    options: argparse.Namespace


class Engine(NamedTuple):
    name: str
    about: str
    guarantee: str
    command: Callable[[EngineRun], Sequence[str]]
    slow: bool = False
    """Gets fewer events."""
    answers: bool = True


def _python(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"bench.engine.{module}", *map(str, arguments)]


def _ours(module: str, *more: object) -> Callable[[EngineRun], list[str]]:
    return lambda at: _python(module, at.cluster.brokers, at.cluster.prefix, *more, at.options.buckets)


def _theirs(module: str) -> Callable[[EngineRun], list[str]]:
    return lambda at: _python(module, at.cluster.brokers, at.cluster.prefix, PARTITIONS)


def _streams(store: str, *, small: bool = False) -> Callable[[EngineRun], list[str]]:
    return lambda at: [
        *java.java(at.options.small_heap if small else None),
        at.cluster.brokers,
        at.cluster.prefix,
        at.cluster.group,
        store,
        str(at.options.threads),
        str(at.options.commit_ms),
        str(at.directory),
    ]


ONCE = "exactly once"
OURS = "leadstream"
RIVAL = "streams"
ENGINES = (
    Engine("read", "aiokafka: consume and decode", "reads only", _theirs("only_read"), answers=False),
    Engine(RIVAL, "Kafka Streams, RocksDB", ONCE, _streams("rocksdb")),
    Engine(OURS, "Leadstream on Faust", ONCE, _ours("on_faust")),
    Engine("streams-memory", "Kafka Streams, in memory", ONCE, _streams("memory")),
    Engine("leadstream-bare", "Leadstream on aiokafka", ONCE, _ours("on_aiokafka", PARTITIONS)),
    Engine("streams-small", "Kafka Streams, RocksDB, small heap", ONCE, _streams("rocksdb", small=True)),
    Engine("faust", "Faust as shipped", "at least once", _theirs("faust_as_shipped"), slow=True),
)


class Checked(NamedTuple):
    equal: bool
    """Every lead's last score is that of the fold."""
    once: bool
    """As many activities as the fold makes, and each change's previous score is the one said before."""


class Result(NamedTuple):
    events: int
    seconds: float
    boot_seconds: float
    boot_cpu: float
    cpu: float
    """From the first event on."""
    warm_events: int
    """0: it committed everything at once."""
    warm_seconds: float
    warm_cpu: float
    broker_cpu: float | None
    peak_memory: int
    checked: Checked | None

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_per_million(self) -> float:
        return self.cpu / self.events * 1e6

    @property
    def warm_rate(self) -> float:
        return self.warm_events / self.warm_seconds if self.warm_events else self.rate

    @property
    def warm_cpu_per_million(self) -> float:
        return self.warm_cpu / self.warm_events * 1e6 if self.warm_events else self.cpu_per_million


def options(parser: argparse.ArgumentParser) -> None:
    names = [engine.name for engine in ENGINES]
    parser.add_argument("--events", type=int, default=300_000, help="how many (%(default)s)")
    parser.add_argument(
        "--slow-events",
        type=int,
        default=15_000,
        help="for Faust as shipped; its rate is what counts (%(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; medians are shown (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="ENGINE", help=", ".join(names)
    )
    parser.add_argument("--without", nargs="+", choices=names, default=[], metavar="ENGINE")
    parser.add_argument("--buckets", type=int, default=2, help="of our engine (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of Kafka Streams (%(default)s)")
    parser.add_argument(
        "--commit-ms", type=int, default=200, help="between commits of Kafka Streams (%(default)s)"
    )
    parser.add_argument(
        "--small-heap", default="256m", help="of Kafka Streams with a small heap (%(default)s)"
    )
    parser.add_argument("--brokers", help="HOST:PORT of a running Kafka; else one is started")
    parser.add_argument(
        "--patience", type=int, default=300, help="seconds that one engine may take (%(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    chosen = [
        engine for engine in ENGINES if engine.name in options.only and engine.name not in options.without
    ]
    if any(engine.name.startswith(RIVAL) for engine in chosen):
        java.common_job()
    results: dict[str, list[Result]] = {}
    failures: dict[str, str] = {}
    with kafka.broker(options.brokers) as broker:
        inputs = {slow: _input(options, slow=slow) for slow in {engine.slow for engine in chosen}}
        for turn in range(options.rounds):
            for engine in chosen if turn % 2 == 0 else chosen[::-1]:
                report_progress(f"{engine.about}: {len(inputs[engine.slow].raw):,} events ...")
                try:
                    result = asyncio.run(_measure(engine, inputs[engine.slow], broker, turn, options))
                except Failed as failure:
                    failures[engine.name] = str(failure)
                    report_progress(str(failure))
                    continue
                results.setdefault(engine.name, []).append(result)
    _print_results(options, chosen, results)
    wrong = [name for name, runs in results.items() if not all(_right(engine_named(name), r) for r in runs)]
    if wrong or failures:
        raise SystemExit(
            f"Failed: {', '.join(failures) or 'none'}. Wrong answers: {', '.join(wrong) or 'none'}."
        )


def engine_named(name: str) -> Engine:
    return next(engine for engine in ENGINES if engine.name == name)


def _right(engine: Engine, result: Result) -> bool:
    """Who promises exactly once must keep it; the scores must always be right."""
    if result.checked is None:
        return True
    return result.checked.equal and (result.checked.once or engine.guarantee != ONCE)


class Input(NamedTuple):
    raw: list[Raw]
    truth: Truth


def _input(options: argparse.Namespace, *, slow: bool) -> Input:
    raw = events(options.events, first=options.slow_events if slow else None)
    return Input(raw, fold(raw))


async def _measure(
    engine: Engine, data: Input, broker: kafka.MeasuredBroker, turn: int, options: argparse.Namespace
) -> Result:
    cluster = Cluster(broker.address, f"bench-{int(time.time())}-{engine.name}-{turn}-")
    stages = (Sessions.name, Leads.name)
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-state-") as directory:
        async with kafka.topics(cluster, PARTITIONS, stages), kafka.Watch(cluster, PARTITIONS) as watch:
            await kafka.load(cluster, EVENTS, PARTITIONS, data.raw)
            before = _cpu(broker)
            started = time.time()
            with running(engine.command(EngineRun(cluster, Path(directory), options))) as program:
                progress = await _watched(program, watch, cluster.group, options.patience)
                peak = peak_memory_of(program.pid)
            after = _cpu(broker)
            checked = await _checked(watch, data.truth) if engine.answers else None
    first, done = progress.first, progress.done
    third = next(p for p in progress.points if p.events >= len(data.raw) // 3)
    return Result(
        events=len(data.raw),
        seconds=done.at - first.at,
        boot_seconds=first.at - started,
        boot_cpu=first.cpu,
        cpu=done.cpu - first.cpu,
        warm_events=len(data.raw) - third.events,
        warm_seconds=done.at - third.at,
        warm_cpu=done.cpu - third.cpu,
        broker_cpu=None if before is None or after is None else after - before,
        peak_memory=peak,
        checked=checked,
    )


def _cpu(broker: kafka.MeasuredBroker) -> float | None:
    return None if broker.pid is None else cpu_of(broker.pid)


class Point(NamedTuple):
    at: float
    cpu: float
    events: int
    """Committed so far."""


class Progress(NamedTuple):
    first: First
    points: list[Point]
    done: Point


async def _watched(program: Program, watch: kafka.Watch, group: str, patience: float) -> Progress:
    """Until nothing is left to do and nothing more comes. Raises Failed."""
    ends = await watch.ends(EVENTS)
    points: list[Point] = []
    done: Point | None = None
    seen: object = None
    first: First | None = None
    began = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        program.check()
        first = first or program.first()
        waited = time.monotonic() - began
        if waited > (STARTING_SECONDS if first is None else patience):
            raise program.failed(f"was not done after {waited:.0f} s")
        if first is None:
            continue
        committed = await watch.committed(group, EVENTS)
        now = Point(time.time(), cpu_of(program.pid), sum(committed))
        if not points or now.events > points[-1].events:
            points.append(now)
        if any(at < end for at, end in zip(committed, ends, strict=True)):
            continue
        state = await _standing(watch, group)
        if state is None or state != seen:
            seen, done = state, now
        elif done is not None and now.at - done.at > SETTLED_SECONDS:
            return Progress(first, points, done)


async def _standing(watch: kafka.Watch, group: str) -> object:
    """None while something of stage 2 is left, or is being written; else what must not change any more."""
    if not await watch.caught_up(group, LEAD_ACTIVITY):
        return None
    return [await watch.ends(topic, kafka.ALL_WRITTEN) for topic in (LEAD_ACTIVITY, SCORE_CHANGED)]


async def _checked(watch: kafka.Watch, truth: Truth) -> Checked:
    scores: dict[str, int] = {}
    unbroken = True
    async for record in watch.records(SCORE_CHANGED):
        change = read_changed(record.value)
        unbroken = unbroken and scores.get(change.lead_id) == change.previous
        scores[change.lead_id] = change.score
    activities = 0
    async for _ in watch.records(LEAD_ACTIVITY):
        activities += 1
    return Checked(scores == truth.scores, unbroken and activities == truth.activities)


# Saying it


def _print_results(
    options: argparse.Namespace, engines: Sequence[Engine], results: dict[str, list[Result]]
) -> None:
    rows, lines = [], []
    for engine in engines:
        if engine.name not in results:
            rows.append((engine.about, "failed", *[NOTHING] * 9))
            continue
        runs = results[engine.name]
        figures = {
            name: median(getattr(result, name) for result in runs)
            for name in (
                "events",
                "rate",
                "warm_rate",
                "cpu_per_million",
                "warm_cpu_per_million",
                "boot_cpu",
                "boot_seconds",
                "peak_memory",
            )
        }
        brokers = [r.broker_cpu / r.events * 1e6 for r in runs if r.broker_cpu is not None]
        checked = [r.checked for r in runs if r.checked is not None]
        equal = all(c.equal for c in checked) if checked else None
        once = all(c.once for c in checked) if checked else None
        rows.append(
            (
                engine.about,
                engine.guarantee,
                f"{figures['events']:,.0f}",
                f"{figures['rate']:,.0f}",
                f"{figures['warm_rate']:,.0f}",
                f"{figures['cpu_per_million']:.1f}",
                f"{figures['warm_cpu_per_million']:.1f}",
                f"{figures['boot_cpu']:.1f}",
                f"{figures['peak_memory'] / 1e6:,.0f}",
                f"{median(brokers):.1f}" if brokers else NOTHING,
                NOTHING if equal is None else "yes" if equal else "NO",
                NOTHING if once is None else "yes" if once else "no",
            )
        )
        lines.append(
            {"engine": engine.name, "runs": len(runs), **figures, "scores_equal": equal, "effects_once": once}
        )
    columns = ("engine", "promises", "events", "events/s", "warm", "CPU s/M", "warm", "boot CPU s")
    notes = [
        f"{MEANING} Kafka Streams has {options.threads} threads; we have one.",
        *_ratios(lines),
    ]
    print_results(
        f"The common job, {options.events:,} events, {PARTITIONS} partitions",
        (*columns, "peak MB", "broker CPU s/M", "scores equal", "once"),
        rows,
        notes,
    )
    write_line("engine", events=options.events, rounds=options.rounds, engines=lines)


def _ratios(lines: Sequence[dict]) -> Iterator[str]:
    by_name = {line["engine"]: line for line in lines}
    for rival in (RIVAL, "streams-memory", "streams-small"):
        if OURS not in by_name or rival not in by_name:
            continue
        ours, theirs = by_name[OURS], by_name[rival]

        def ratio(name: str, ours: dict = ours, theirs: dict = theirs) -> str:
            return f"{ours[name] / theirs[name]:.2f}"

        yield (
            f"[bold]{engine_named(OURS).about} to {engine_named(rival).about}[/]: "
            f"events/s {ratio('rate')} (warm {ratio('warm_rate')}), "
            f"CPU per event {ratio('cpu_per_million')} (warm {ratio('warm_cpu_per_million')}), "
            f"memory {ratio('peak_memory')}"
        )

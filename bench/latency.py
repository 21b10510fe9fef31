"""How long it takes until an acknowledged event shows: on Kafka, and embedded, each one `leadstream serve`.

Events come over HTTP at a steady rate, fifty requests a second; the last event of each request is of
somebody new, and their score is looked for in the database. Acknowledged: from sending to the answer,
when the event is in the log. Visible: from the answer until the score can be read. A server that
cannot keep up is said to; its latency then only tells how long it was made to try. What it turns away
(429, 503) or does not answer is sent again, as producers do, and counted.
"""

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

import httpx
import psycopg
from msgspec import json

from bench import kafka
from bench.processes import Failed, Program, cpu_of
from bench.product import await_ready, command, settings_of
from bench.report import percentile, print_results, report_progress, write_line
from leadstream.embedded_postgres import find_postgres
from leadstream.settings import Settings
from projections.row_keys import lead_row_key
from projections.table_definition import READ_OPTIONS
from schemas.envelope import DEFAULT_TENANT
from streams.kafka.cluster import Cluster

REQUESTS_PER_SECOND = 50
LOOK_SECONDS = 0.004
KEPT_UP_SECONDS = 2.0
"""Who needs longer after the last event did not keep up."""
PATIENCE_SECONDS = 60.0
AGAIN_SECONDS = 1.0
"""Before something is sent again, unless the server asks for another pause."""
WARM_UP_SECONDS = 3.0
VISITORS = 20_000


class MeasuredRate(NamedTuple):
    """In milliseconds, ascending."""

    mode: str
    rate: int
    acknowledged: list[float]
    visible: list[float]
    missing: int
    again: int
    """How often a request was sent again."""
    behind: float
    """Seconds from the last answer until everything showed."""
    cores: float
    """How much of a core the server used."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rates", type=int, nargs="+", default=[50, 500, 5_000], help="events a second (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=10, help="for each rate (%(default)s)")
    parser.add_argument("--modes", nargs="+", choices=("kafka", "embedded"), default=["kafka", "embedded"])
    parser.add_argument("--brokers", help="HOST:PORT of a running Kafka; else one is started")


def run(options: argparse.Namespace) -> None:
    if any(rate < REQUESTS_PER_SECOND for rate in options.rates):
        raise SystemExit(f"A rate is at least {REQUESTS_PER_SECOND}: so many requests are sent a second.")
    results: list[MeasuredRate] = []
    for mode in options.modes:
        with ExitStack() as stack:
            cluster = None
            if mode == "kafka":
                broker = stack.enter_context(kafka.broker(options.brokers))
                cluster = Cluster(broker.address, f"bench-latency-{int(time.time())}-")
                stack.callback(lambda at=cluster: asyncio.run(kafka.delete_topics(at)))
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="leadstream-bench-"))
            settings = settings_of(Path(directory), cluster)
            words = ["serve", "--kafka"] if cluster else ["serve"]
            server = stack.enter_context(command(settings, *words))
            await_ready(server, settings.port)
            _measure(mode, REQUESTS_PER_SECOND, WARM_UP_SECONDS, settings, server)
            for rate in options.rates:
                report_progress(f"{mode}: {rate:,} events a second ...")
                results.append(_measure(mode, rate, options.seconds, settings, server))
    _print_results(results)


class Looker:
    """Looks for leads in the database until they have a score."""

    def __init__(self, url: str) -> None:
        self.seen: dict[int, float] = {}
        self._waiting: dict[int, None] = {}
        self._changing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url,), name="looker")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def want(self, key: int) -> None:
        with self._changing:
            self._waiting[key] = None

    def left(self) -> int:
        return len(self._waiting)

    def _run(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True, options=READ_OPTIONS) as connection:
            while not self._stop.wait(LOOK_SECONDS):
                with self._changing:
                    keys = list(self._waiting)
                if not keys:
                    continue
                rows = connection.execute(
                    "select distinct lead_key from lead_scores where lead_key = any(%s)", (keys,)
                ).fetchall()
                now = time.perf_counter()
                with self._changing:
                    for (key,) in rows:
                        self.seen[key] = now
                        del self._waiting[key]


class Sent(NamedTuple):
    key: int
    """Of the lead to look for."""
    at: float
    answered: float | None
    """None: not within the patience."""
    again: int


def _measure(mode: str, rate: int, seconds: float, settings: Settings, server: Program) -> MeasuredRate:
    url = find_postgres(settings.data_dir)
    if url is None:
        raise server.failed("has no database")
    cpu, began = cpu_of(server.pid), time.perf_counter()
    with Looker(url) as looker:
        sent = asyncio.run(_send(settings.address, rate, seconds, looker))
        used = (cpu_of(server.pid) - cpu) / (time.perf_counter() - began)
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while looker.left() and time.perf_counter() < deadline:
            server.check()
            time.sleep(0.05)
    seen = looker.seen
    answered = {each.key: each.answered for each in sent if each.answered is not None}
    if not answered:
        raise server.failed(f"took nothing within {PATIENCE_SECONDS:.0f} s")
    last = max(answered.values())
    return MeasuredRate(
        mode,
        rate,
        sorted(1000 * (answered[each.key] - each.at) for each in sent if each.key in answered),
        sorted(1000 * max(0.0, seen[key] - at) for key, at in answered.items() if key in seen),
        sum(each.key not in seen for each in sent),
        sum(each.again for each in sent),
        max(0.0, max(seen.values(), default=last) - last),
        used,
    )


async def _send(address: str, rate: int, seconds: float, looker: Looker) -> list[Sent]:
    """At the rate asked for, however long the answers take."""
    run = f"{time.time_ns():x}"
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_SECONDS) as client:

        async def send(number: int) -> Sent:
            stranger = f"new-{run}-{number}"
            body = b"\n".join(_events(run, number, rate // REQUESTS_PER_SECOND, stranger))
            key = lead_row_key(DEFAULT_TENANT, f"anon:{stranger}")
            looker.want(key)
            return Sent(key, *await post(client, body))

        tasks = []
        began = time.perf_counter()
        for number in range(int(seconds * REQUESTS_PER_SECOND)):
            await asyncio.sleep(max(0.0, began + number / REQUESTS_PER_SECOND - time.perf_counter()))
            tasks.append(asyncio.create_task(send(number)))
        return await asyncio.gather(*tasks)


async def post(client: httpx.AsyncClient, body: bytes) -> tuple[float, float | None, int]:
    """When it was sent, when it was taken (None: not within the patience), and how often it was sent again."""
    at, again = time.perf_counter(), 0
    headers = {"content-type": "application/x-ndjson"}
    while time.perf_counter() - at < PATIENCE_SECONDS:
        pause = AGAIN_SECONDS
        try:
            answer = await client.post("/v1/events", content=body, headers=headers)
        except httpx.TransportError:
            answer = None
        if answer is not None:
            if answer.status_code == 200:
                return at, time.perf_counter(), again
            if answer.status_code not in {429, 503}:
                raise Failed(f"The server answered {answer.status_code}: {answer.text[:500]}")
            retry_after = answer.headers.get("retry-after", "")
            pause = float(retry_after) if retry_after.isdecimal() else AGAIN_SECONDS
        again += 1
        await asyncio.sleep(pause)
    return at, None, again


def _events(run: str, number: int, count: int, stranger: str) -> Iterator[bytes]:
    for nth in range(count):
        visitor = f"known-{(number * count + nth) % VISITORS}"
        yield json.encode(
            {
                "event_id": f"{run}-{number}-{nth}",
                "type": "page_viewed",
                "visitor_id": stranger if nth == count - 1 else visitor,
                "context": {"url": f"https://shop.example/products/{number % 50}"},
            }
        )


def _print_results(results: Sequence[MeasuredRate]) -> None:
    rows, lines = [], []
    for each in results:
        kept_up = not each.missing and each.behind < KEPT_UP_SECONDS
        figures = {
            f"{what}_{name}": percentile(values, share)
            for what, values in (("acknowledged", each.acknowledged), ("visible", each.visible))
            if values
            for name, share in (("p50", 0.5), ("p99", 0.99))
        }
        rows.append(
            (
                each.mode,
                f"{each.rate:,}",
                *(
                    f"{figures[name]:,.0f}" if name in figures else "-"
                    for name in ("acknowledged_p50", "acknowledged_p99", "visible_p50", "visible_p99")
                ),
                f"{each.again:,}",
                f"{each.cores:.2f}",
                "yes" if kept_up else f"no: {each.behind:,.0f} s behind, {each.missing} missing",
            )
        )
        lines.append(
            {
                "mode": each.mode,
                "rate": each.rate,
                **figures,
                "kept_up": kept_up,
                "sent_again": each.again,
                "cores": each.cores,
            }
        )
    columns = (
        "",
        "events/s",
        "acknowledged p50",
        "p99",
        "visible p50",
        "p99",
        "sent again",
        "cores",
        "kept up",
    )
    notes = [f"Milliseconds. Visible is looked for every {LOOK_SECONDS * 1000:.0f} ms."]
    print_results("From an event to its score, over HTTP", columns, rows, notes)
    write_line("latency", found=lines)

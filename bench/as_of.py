"""Leads as of a moment that is over, beside leads of now: lists of 100,000 leads, and one lead of 10,000 events.

Some leads and their events go through an embedded system, half of the events before the moment; the lead of 10,000 events is folded
whole, as of the end of its events. Their rows are then copied
under other keys until there are as many leads as requested: lists read them like any others. Each answer is requested nine
times from the application, in this process; the table has the medians of time and of CPU (of the database's processes and
of this one), and the ratio to the answer of now. Aims: 1,000 ms for a list as of a moment, 500 ms for one lead as of a
moment, 50 ms for a page of now with what each lead lacks for its next stage, which a line of its own shows.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx
import psycopg
from psycopg.sql import SQL, Composable, Identifier, Literal

from bench.report import print_results, report_progress, write_line
from gateway.api.next_stages import next_stage_of_row
from gateway.app import create_app
from gateway.ports import Ports
from gateway.store import ReadStore
from gateway.subject import subjects_of
from leadstream.embedded_postgres import start_postgres, stop_postgres
from leadstream.settings import Settings
from leadstream.wiring import open_system, ports_of
from projections import table_definition, tables
from projections.lead_lists import ALL_IDENTIFIED_LEADS, scored_leads

RUNS = 9
PAGE = 50
RECORDED_LEADS = 1_000
EVENTS_OF_LEAD = 10
BATCH = 1_000
BUSY = "busy"
COPIED = (
    tables.leads,
    tables.lead_scores,
    tables.score_history,
    tables.stage_history,
    tables.band_changes,
    tables.identities,
    tables.identity_history,
    tables.lead_records,
)
KINDS = ("page_viewed", "email_opened", "form_submitted", "email_sent", "qr_scanned", "message_received")
LIST_AIM_MS, LEAD_AIM_MS, PAGE_AIM_MS = 1_000.0, 500.0, 50.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leads", type=int, default=100_000, help="leads (%(default)s)")
    parser.add_argument("--events", type=int, default=10_000, help="events of the busy lead (%(default)s)")


class MeasuredAnswer(NamedTuple):
    name: str
    wall: float
    """In ms, as all here."""
    cpu: float
    aim: float | None
    now: float | None
    """The CPU of the answer of now."""


def run(options: argparse.Namespace) -> None:
    gc.set_threshold(50_000, 20, 50)  # as in the processes of `leadstream`
    with _database() as url, open_system(Settings(database_url=url, partitions=2)) as system:
        ports = ports_of(system, Settings(database_url=url, partitions=2))
        answers = asyncio.run(_measured(ports, url, options.leads, options.events))
    print_results(
        f"{options.leads:,} leads, one of them with {options.events:,} events",
        ("answer", "ms", "CPU ms", "to now", "aim ms"),
        [
            (
                each.name,
                f"{each.wall:.0f}",
                f"{each.cpu:.0f}",
                "-" if each.now is None else f"{each.cpu / each.now:.1f}",
                "-" if each.aim is None else f"{each.aim:.0f}",
            )
            for each in answers
        ],
        ["CPU is what an answer takes at rest, if others keep the machine busy."],
    )
    write_line("as-of", leads=options.leads, answers=[each._asdict() for each in answers])


async def _measured(ports: Ports, url: str, leads: int, busy_events: int) -> list[MeasuredAnswer]:
    app = create_app(ports)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=300) as http,
    ):
        report_progress("recording events")
        await _record(http, 0, busy_events)
        moment = datetime.now(UTC)
        await asyncio.sleep(1)
        await _record(http, 1, busy_events)
        whole = {"as_of": datetime.now(UTC).isoformat()}
        copies = max(leads // RECORDED_LEADS, 1)
        report_progress(f"copying the rows of {RECORDED_LEADS:,} leads {copies - 1} times")
        await asyncio.to_thread(_copy_leads, url, copies)
        then = {"as_of": moment.isoformat()}
        report_progress("measuring")
        page = await _answer(http, url, "a page", "/api/leads", {}, PAGE_AIM_MS)
        answers = [page, await _next_stages(ports, url)]
        for name, params in (
            ("a page as of then", {}),
            ("of one band", {"band": "cold"}),
            ("of one stage", {"stage": "contacted"}),
            ("behind half of all", {"offset": str(leads // 2)}),
        ):
            answers.append(await _answer(http, url, name, "/api/leads", then | params, LIST_AIM_MS, page.cpu))
        lead = await _answer(http, url, "the busy lead", f"/api/leads/{BUSY}", {}, LEAD_AIM_MS)
        answers.append(lead)
        for name, params in (("as of its end", whole), ("as is known now of it", whole | {"known": "now"})):
            answers.append(
                await _answer(http, url, name, f"/api/leads/{BUSY}", params, LEAD_AIM_MS, lead.cpu)
            )
        return answers


async def _record(http: httpx.AsyncClient, half: int, busy_events: int) -> None:
    own = EVENTS_OF_LEAD // 2
    events = [
        _event(f"lead-{number}", half * own + each, number + each)
        for each in range(own)
        for number in range(RECORDED_LEADS - 1)
    ]
    events += [_event(BUSY, half * busy_events + each, each) for each in range(busy_events // 2)]
    for start in range(0, len(events), BATCH):
        scored = False
        while not scored:  # a repetition changes nothing, and waits again
            sent = await http.post("/v1/events?wait=10", json=events[start : start + BATCH])
            sent.raise_for_status()
            scored = sent.status_code == httpx.codes.OK


def _event(lead: str, number: int, kind: int) -> dict[str, Any]:
    at = datetime.now(UTC) - timedelta(days=60) + timedelta(minutes=number)
    return {
        "type": KINDS[kind % len(KINDS)],
        "event_id": f"{lead}-{number}",
        "lead_id": lead,
        "occurred_at": at.isoformat(),
    }


# Copies


def _copy_leads(url: str, copies: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for table in COPIED:
            columns = [column.name for column in table.columns]
            connection.execute(
                SQL(
                    "insert into {table} ({columns}) select {values} from {table} row, generate_series(1, {last}) copy"
                ).format(
                    table=Identifier(table_definition.LIVE_SCHEMA, table.name),
                    columns=SQL(", ").join(map(Identifier, columns)),
                    values=SQL(", ").join(map(_value, columns)),
                    last=Literal(copies - 1),
                )
            )
        connection.execute(
            SQL(
                "insert into state (stage, partition, key, part, value) "
                "select stage, partition, key || '-' || copy, part, value from state, generate_series(1, {last}) copy "
                "where stage = 'score_leads' and key like '%/%'"
            ).format(last=Literal(copies - 1))
        )
        connection.execute("vacuum analyze")


def _value(column: str) -> Composable:
    match column:
        case "lead_key" | "identity_key":
            return SQL("hashtextextended(row.{}::text, copy)").format(Identifier(column))
        case "lead_id":
            return SQL("row.lead_id || '-' || copy")
        case _:
            return SQL("row.{}").format(Identifier(column))


# Measuring


async def _answer(
    http: httpx.AsyncClient,
    url: str,
    name: str,
    path: str,
    params: dict[str, str],
    aim: float,
    now: float | None = None,
) -> MeasuredAnswer:
    async def ask() -> None:
        answer = await http.get(
            path, params={"limit": str(PAGE)} | params if path == "/api/leads" else params
        )
        answer.raise_for_status()
        if path != "/api/leads" and answer.json()["history"] != "complete":
            raise SystemExit("the lead as of then is not there")
        if path == "/api/leads" and not answer.json()["leads"]:
            raise SystemExit(f"{name}: no lead is listed")

    wall, cpu = await _milliseconds(url, ask)
    return MeasuredAnswer(name, wall, cpu, aim, now)


async def _next_stages(ports: Ports, url: str) -> MeasuredAnswer:
    """What `next_stage` adds to a page: the features of its leads, read and merged, and what they lack."""
    store = ReadStore(url)
    await store.open()
    active, now = await ports.published("default"), datetime.now(UTC)
    async with store.snapshot() as read:
        rows = await read(scored_leads("default", "temperature", ALL_IDENTIFIED_LEADS, limit=PAGE))

        async def look() -> None:
            subjects = await subjects_of(read, "default", rows)
            if len(subjects) < len(rows):
                raise SystemExit("the features of the listed leads are not there")
            for row in rows:
                next_stage_of_row(active, row, subjects[row["lead_id"]], now)

        wall, cpu = await _milliseconds(url, look)
    await store.close()
    return MeasuredAnswer("of it, next stages", wall, cpu, None, None)


async def _milliseconds(url: str, ask: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """(wall clock, CPU): medians after two warming requests."""
    times = []
    for _ in range(RUNS + 2):
        pids = _gateway_processes(url)
        before, own, started = _cpu(pids), time.process_time(), time.perf_counter()
        await ask()
        wall = time.perf_counter() - started
        times.append((wall * 1_000, (_cpu(pids) - before + time.process_time() - own) * 1_000))
    return median(wall for wall, _ in times[2:]), median(cpu for _, cpu in times[2:])


def _gateway_processes(url: str) -> Sequence[int]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select pid from pg_stat_activity where application_name = 'leadstream gateway'"
        )
        return [pid for (pid,) in rows]


def _cpu(pids: Sequence[int]) -> float:
    """Seconds."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/schedstat").read_text("utf-8").split()[0]) / 1e9
    return total


@contextmanager
def _database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-") as directory:
        try:
            yield start_postgres(Path(directory), {})
        finally:
            stop_postgres(Path(directory))

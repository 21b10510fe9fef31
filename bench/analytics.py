"""Reports over many leads and pages of long lists, on a million engagements of 100,000 leads.

The rows are invented from a seed and written by COPY into the tables of a fresh database, in the order of time as a log
writes them, then analysed. The analytics worker computes what it keeps of them, as in a rebuild. Each query and page runs
five times; the tables have the medians of time and of CPU. Aims: 300 ms for a report, 50 ms for a page at any depth. Of a
query above its aim the plan follows, with EXPLAIN (ANALYZE, BUFFERS); `--plans` prints all. One lead has 20,000
engagements: its lists are long.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx
import psycopg
from sqlalchemy.dialects.postgresql import psycopg as dialect

from bench.analytics_reports import NOW, TENANT, YEAR, Statement, measured_queries
from bench.report import print_results, report_progress, write_line
from gateway.app import create_app
from gateway.ports import Ports
from gateway.store import SORT_MEMORY
from leadstream.embedded_postgres import start_postgres, stop_postgres
from projections.analytics_worker import compute_all_leads, no_settings
from projections.facts import keys_of_bands
from projections.lead_search import text_of_parts
from projections.migrate import migrate
from projections.row_keys import hashed_key, lead_row_key
from projections.table_definition import LIVE_SCHEMA, READ_OPTIONS
from scoring.lifecycle.transitions import FUNNEL_STAGES

RUNS = 5
WARMING_REQUESTS = 20
"""Of a new process: connections prepare their statements, and caches fill."""
REPORT_AIM_MS, PAGE_AIM_MS = 300.0, 50.0
BUSY = "lead-0"
BUSY_EVENTS = 20_000
SORTED_LISTS = (
    "/api/leads",
    "/api/leads?include_anonymous=true",
    "/api/leads?band=cold",
    "/api/leads?stage=opportunity",
    "/api/leads?q=customers",
    "/api/lead-qualification/lead-scores/",
    f"/api/tenants/{TENANT}/leads",
    f"/api/tenants/{TENANT}/leads?temperature=burning",
    f"/api/tenants/{TENANT}/leads?q=lead-99",
)
"""They go on by a cursor, or by `offset`."""
LISTS = {
    **{f"leads, {path}": path for path in SORTED_LISTS},
    "changes of a lead's scores": f"/api/leads/{BUSY}/ledger",
    "history of one score": f"/api/lead-qualification/lead-scores/history/?lead_id={BUSY}",
    "engagements of a lead": f"/api/lead-tracking/engagement/{BUSY}/history",
    "timeline of a lead": f"/api/lead-tracking/journey/{BUSY}",
    "days of a lead": f"/api/lead-tracking/summaries/{BUSY}",
}

KINDS = (
    *[("page_viewed", "web")] * 10,
    *[("email_opened", "email")] * 3,
    *[("email_sent", "email")] * 3,
    ("email_clicked", "email"),
    ("form_submitted", "web"),
    ("call_made", "phone"),
    ("session_ended", "web"),
)
GROUPS = ("Organic Search", "Paid Search", "Direct", "Email", "Paid Social")
MODELS = ("composite", "rules", "temperature")
OWNERS = ("maria.keller@shop.example", "tom@shop.example", "sara@shop.example")
GRADES = (("A+", 90), ("A", 80), ("B+", 70), ("B", 60), ("C+", 50), ("C", 40), ("D", 0))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leads", type=int, default=100_000, help="leads, each with ten engagements")
    parser.add_argument("--plans", action="store_true", help="print the plan of every query")
    parser.add_argument("--only", default="", help="only queries and pages whose name contains this")
    parser.add_argument(
        "--url",
        help="a database on this machine; one that has leads is used as it is; by default a new server is started",
    )


class MeasuredQuery(NamedTuple):
    name: str
    wall: float
    """In ms, as all here."""
    cpu: float
    aim: float

    @property
    def above(self) -> bool:
        """CPU is what it takes at rest."""
        return min(self.wall, self.cpu) > self.aim


def run(chosen: argparse.Namespace) -> None:
    gc.set_threshold(50_000, 20, 50)  # as in the processes of `leadstream`
    with _database(chosen.url) as url:
        migrate(url)
        _fill_if_empty(url, chosen.leads)
        _compute_if_empty(url)
        queries = []
        with psycopg.connect(url, options=f"{READ_OPTIONS} -c work_mem={SORT_MEMORY}") as connection:
            for name, statements in measured_queries():
                if chosen.only in name:
                    queries.append(_measured_query(connection, name, statements))
                    if chosen.plans or queries[-1].above:
                        for statement in statements:
                            for line in (f"\n{name}", *_plan(connection, statement)):
                                report_progress(line)
        pages = asyncio.run(_measured_pages(url, chosen.leads, chosen.only))
    notes = [
        "CPU is that of the server's process: what the query takes at rest, if others keep the machine busy."
    ]
    title = f"{10 * chosen.leads:,} engagements of {chosen.leads:,} leads"
    for what, results in (("query", queries), ("page", pages)):
        rows = [
            (
                each.name,
                f"{each.wall:,.0f}",
                f"{each.cpu:,.0f}",
                f"{each.aim:,.0f}",
                "above" if each.above else "",
            )
            for each in results
        ]
        if rows:
            print_results(title, (what, "median ms", "CPU ms", "aim ms", ""), rows, notes)
        notes = ["CPU of a page is that of the server's process and of the gateway."]
    write_line(
        "analytics",
        leads=chosen.leads,
        **{
            name: {each.name: each._asdict() for each in results}
            for name, results in (("queries", queries), ("pages", pages))
        },
    )


def _fill_if_empty(url: str, leads: int) -> None:
    started = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("select from live.leads limit 1").fetchone() is not None:
            return
        connection.execute("set synchronous_commit = off")
        _fill(connection, leads)
        connection.execute("vacuum analyze")
        ((size,),) = connection.execute("select pg_database_size(current_database())").fetchall()
    report_progress(f"written in {time.perf_counter() - started:.0f} s, {size / 1e6:,.0f} MB")


def _compute_if_empty(url: str) -> None:
    """The analytics of all leads, as the last step of a rebuild computes them."""
    options = "-c timezone=UTC -c jit=off -c synchronous_commit=off"
    with psycopg.connect(url, autocommit=True, options=options) as connection:
        if connection.execute("select from live.lead_journeys limit 1").fetchone() is not None:
            return
        ((leads,),) = connection.execute("select count(*) from live.leads").fetchall()
        started, cpu, own = (
            time.perf_counter(),
            _cpu_seconds(connection.info.backend_pid),
            time.process_time(),
        )
        compute_all_leads(connection, no_settings, LIVE_SCHEMA)
        wall = time.perf_counter() - started
        cpu, own = _cpu_seconds(connection.info.backend_pid) - cpu, time.process_time() - own
        connection.execute("vacuum analyze")
    report_progress(
        f"analytics of {leads:,} leads in {wall:.0f} s, {leads / wall:,.0f} a second; CPU: {own:.0f} s of the worker, "
        f"{cpu:.0f} s of the server"
    )


async def _measured_pages(url: str, leads: int, only: str) -> list[MeasuredQuery]:
    """Each list at its beginning and near its end, as the gateway answers."""
    results = []
    app = create_app(Ports(append=_append_nothing, database_url=url, now=lambda: NOW))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http,
    ):
        for _ in range(WARMING_REQUESTS):
            await http.get(SORTED_LISTS[0])
        for name, path in LISTS.items():
            if only in name:
                for depth, asked in (await _depths(http, path, leads)).items():
                    times = sorted([await _page_milliseconds(http, url, path, asked) for _ in range(RUNS)])
                    wall, cpu = median(wall for wall, _ in times), median(cpu for _, cpu in times)
                    results.append(MeasuredQuery(f"{name}, {depth}", wall, cpu, PAGE_AIM_MS))
    return results


async def _append_nothing(_records: object) -> None:
    raise RuntimeError("pages write nothing")


async def _depths(http: httpx.AsyncClient, path: str, leads: int) -> dict[str, dict[str, str | int]]:
    """What asks for the first page, and for one near the end."""
    if path not in SORTED_LISTS:
        return {"first": {}, "last": await _last(http, path)}
    deep = {"offset": max(leads * 8 // 10, 0)}
    following = _following(await http.get(_address(path, deep)))
    by_cursor = {"last, by cursor": {"after": following}} if following else {}
    return {"first": {}, **by_cursor, "last, by offset": dict(deep)}


async def _last(http: httpx.AsyncClient, path: str) -> dict[str, str | int]:
    """What asks for a page near the end, after at most 1,000 others."""
    asked: dict[str, str | int] = {}
    for _ in range(1_000):
        following = _following(await http.get(_address(path, {"limit": 200, **asked})))
        if following is None:
            break
        asked = {"cursor": following}
    return asked


def _following(answer: httpx.Response) -> str | None:
    """The cursor of the next page."""
    answer.raise_for_status()
    content = answer.json()
    if isinstance(content, dict):
        return content.get("next") or content.get("next_cursor")
    if link := answer.links.get("next"):
        named = httpx.URL(link["url"]).params
        return named.get("after") or named.get("cursor")
    return None


def _address(path: str, asked: Mapping[str, str | int]) -> httpx.URL:
    return httpx.URL(path).copy_merge_params(asked)


async def _page_milliseconds(
    http: httpx.AsyncClient, url: str, path: str, asked: Mapping[str, str | int]
) -> tuple[float, float]:
    """(wall clock, CPU of the server's processes and of this one)."""
    with psycopg.connect(url) as connection:
        pids = [
            pid
            for (pid,) in connection.execute(
                "select pid from pg_stat_activity where application_name = 'leadstream gateway'"
            )
        ]
    before = _cpu_by_process(pids)
    started, own = time.perf_counter(), time.process_time()
    answer = await http.get(_address(path, asked))
    answer.raise_for_status()
    wall, own = time.perf_counter() - started, time.process_time() - own
    after = _cpu_by_process(before)
    return wall * 1_000, (sum(after[pid] - before[pid] for pid in after) + own) * 1_000


def _cpu_by_process(pids: Iterable[int]) -> dict[int, float]:
    """Without those that have ended."""
    seconds = {}
    for pid in pids:
        with suppress(FileNotFoundError):
            seconds[pid] = _cpu_seconds(pid)
    return seconds


_DIALECT = dialect.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped


def _sql(statement: Statement) -> tuple[bytes, Any]:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(compiled).encode(), compiled.params


def _measured_query(
    connection: psycopg.Connection[Any], name: str, statements: Sequence[Statement]
) -> MeasuredQuery:
    times = sorted(_milliseconds(connection, statements) for _ in range(RUNS))
    return MeasuredQuery(
        name, median(wall for wall, _ in times), median(cpu for _, cpu in times), REPORT_AIM_MS
    )


def _milliseconds(
    connection: psycopg.Connection[Any], statements: Iterable[Statement]
) -> tuple[float, float]:
    """(wall clock, CPU of the server's process)."""
    started, cpu = time.perf_counter(), _cpu_seconds(connection.info.backend_pid)
    for statement in statements:
        connection.execute(*_sql(statement)).fetchall()
    cpu = _cpu_seconds(connection.info.backend_pid) - cpu
    return (time.perf_counter() - started) * 1_000, cpu * 1_000


def _cpu_seconds(pid: int) -> float:
    """Of a process on this machine."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("utf-8").split()[0]) / 1e9
    except OSError:  # a kernel without it counts in hundredths
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _plan(connection: psycopg.Connection[Any], statement: Statement) -> list[str]:
    sql, parameters = _sql(statement)
    return [line for (line,) in connection.execute(b"explain (analyze, buffers) " + sql, parameters)]


@contextmanager
def _database(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-") as directory:
        try:
            yield start_postgres(Path(directory), {})
        finally:
            stop_postgres(Path(directory))


# A company of a year


def _fill(connection: psycopg.Connection[Any], leads: int) -> None:
    chance = random.Random(7)
    year_ago = NOW - timedelta(days=YEAR)
    created = sorted(year_ago + timedelta(seconds=chance.randrange(YEAR * 86_400)) for _ in range(leads))
    keys = [lead_row_key(TENANT, f"lead-{number}") for number in range(leads)]
    identities = [hashed_key(f"{TENANT}/v/visitor-{number}#0") for number in range(leads)]
    reached = [_reached(chance) for _ in range(leads)]
    scores = [_score(chance, stage) for stage in reached]
    _copy(
        connection,
        "leads",
        "lead_key tenant lead_id identified created_at last_interaction_at stage identities as_of name email "
        "counts fields position revenue",
        (
            (
                keys[n],
                TENANT,
                f"lead-{n}",
                n % 10 > 0,
                created[n],
                NOW,
                FUNNEL_STAGES[reached[n]],
                1,
                NOW,
                f"Lead {n}",
                f"lead-{n}@customers.example",
                json.dumps({"page_viewed": 5, "email_opened": 2, "interaction": 8}),
                json.dumps(
                    {
                        "email": f"lead-{n}@customers.example",
                        "company": f"Company {n % 900}",
                        "location": "Dubai",
                    }
                ),
                n,
                json.dumps({"EUR": 99.5 + n % 400} if reached[n] == 5 else {}),
            )
            for n in range(leads)
        ),
    )
    _copy(
        connection,
        "lead_search",
        "lead_key tenant text position",
        (
            (
                keys[n],
                TENANT,
                text_of_parts(
                    [
                        f"Lead {n}",
                        f"lead-{n}@customers.example",
                        f"Company {n % 900}",
                        OWNERS[n % len(OWNERS)],
                        FUNNEL_STAGES[reached[n]],
                        "Dubai",
                        "page viewed",
                    ]
                ),
                n,
            )
            for n in range(leads)
        ),
    )
    _copy(
        connection,
        "identities",
        "identity_key tenant identity lead_key lead_id epoch home attached_at",
        (
            (
                identities[n],
                TENANT,
                f"{TENANT}/v/visitor-{n}#0",
                keys[n],
                f"lead-{n}",
                1,
                f"lead-{n}",
                created[n],
            )
            for n in range(leads)
        ),
    )
    _copy(
        connection,
        "identity_history",
        "identity_key epoch tenant lead_key lead_id attached_at partition position",
        ((identities[n], 1, TENANT, keys[n], f"lead-{n}", created[n], n % 8, n) for n in range(leads)),
    )
    _copy(
        connection,
        "lead_scores",
        "lead_key model version total rounded bands as_of position tenant identified listed created_at stage band_keys",
        (
            (
                keys[n],
                model,
                1,
                Decimal(scores[n]),
                scores[n],
                json.dumps(_bands(scores[n])),
                NOW,
                n,
                TENANT,
                n % 10 > 0,
                True,
                created[n],
                FUNNEL_STAGES[reached[n]],
                keys_of_bands(_bands(scores[n])),
            )
            for n in range(leads)
            for model in MODELS
        ),
    )
    report_progress("leads, identities and scores are written")
    stages = sorted(
        (min(created[n] + timedelta(hours=chance.randrange(1, 400) * step), NOW), n, step)
        for n in range(leads)
        for step in range(1, reached[n] + 1)
    )
    _copy(
        connection,
        "stage_history",
        "lead_key at position stage previous reason caused_by",
        (
            (
                keys[n],
                at,
                position,
                FUNNEL_STAGES[step],
                FUNNEL_STAGES[step - 1],
                "rules reached mql",
                f"event:e{n}",
            )
            for position, (at, n, step) in enumerate(stages)
        ),
    )
    events = sorted(
        (
            created[n]
            + timedelta(seconds=chance.randrange(60) if not each else chance.randrange(60 * 86_400)),
            n,
            each,
        )
        for n in range(leads)
        for each in range(BUSY_EVENTS if n == 0 else 10)
    )
    _copy(
        connection,
        "engagement_history",
        "identity_key occurred_at partition position tenant event_id type channel source recorded_at late imported title "
        "url revenue_minor currency source_type source_name campaign_source campaign_medium campaign_name device_type os "
        "browser location ip details channel_group",
        (
            _engagement(chance, identities[n], at, position, n, buys=reached[n] == 5 and each == 9)
            for position, (at, n, each) in enumerate(events)
        ),
    )
    report_progress("engagements are written")
    _copy(
        connection,
        "score_history",
        "lead_key model at position version total previous change bands lines caused_by removed",
        _ledger(events, keys, scores),
    )


def _reached(chance: random.Random) -> int:
    step = 0
    while step < 5 and chance.random() < (0.7, 0.45, 0.6, 0.5, 0.4)[step]:
        step += 1
    return step


def _score(chance: random.Random, step: int) -> int:
    return min(100, 10 * step + chance.randrange(50))


def _bands(score: int) -> dict[str, str]:
    grade = next(name for name, least in GRADES if score >= least)
    return {"grade": grade, "temperature": "hot" if score >= 75 else "warm" if score >= 50 else "cold"}


def _engagement(
    chance: random.Random, identity: int, at: datetime, position: int, lead: int, *, buys: bool
) -> tuple[Any, ...]:
    kind, channel = ("purchase_made", "sales") if buys else KINDS[chance.randrange(len(KINDS))]
    details = (
        {"order_id": f"o{position}", "value": 99.5 + lead % 400, "currency": "EUR"}
        if buys
        else {"active_s": 31}
    )
    at = min(at, NOW)
    return (
        identity, at, position % 8, position, TENANT, f"event-{position}", kind, channel, "web", at, False, False,
        "Pricing and plans", f"https://www.shop.example/pricing?page={position % 500}",
        9_950 + 100 * (lead % 400) if buys else None, "EUR" if buys else None,
        "campaign", "Spring", "google", "cpc", "spring", "desktop", "Windows", "Chrome", "Dubai", "203.0.113.7",
        json.dumps(details), GROUPS[lead % len(GROUPS)],
    )  # fmt: skip


def _ledger(
    events: Sequence[tuple[datetime, int, int]], keys: Sequence[int], scores: Sequence[int]
) -> Iterator[tuple[Any, ...]]:
    """A change of each model for every event, in equal steps up to the lead's score."""
    seen = [0] * len(keys)
    lines = json.dumps(
        [["engagement", "Pages viewed", "points", 1.25], ["intent", "Recent replies", "points", 2]]
    )
    for position, (at, n, _) in enumerate(events):
        seen[n] += 1
        steps = BUSY_EVENTS if n == 0 else 10
        total, previous = (Decimal(scores[n] * number) / steps for number in (seen[n], seen[n] - 1))
        for number, model in enumerate(MODELS):
            yield (
                keys[n], model, min(at, NOW), position * len(MODELS) + number, 1, total, previous, total - previous,
                "{}", lines, f"event:event-{position}", False,
            )  # fmt: skip


def _copy(
    connection: psycopg.Connection[Any], table: str, columns: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    write: Callable[[Sequence[Any]], None]
    with connection.cursor().copy(f"copy live.{table} ({', '.join(columns.split())}) from stdin") as copying:
        write = copying.write_row
        for row in rows:
            write(row)

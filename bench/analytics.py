"""Reports over many leads: the time of each query on a million engagements of 100,000 leads.

The rows are invented from a seed and written by COPY into the tables of a fresh database, in the order of time as a log
writes them, then analysed. Each query runs five times; the table has the medians of time and of CPU. Of a query above
its aim the plan follows, with EXPLAIN (ANALYZE, BUFFERS). Aims: 300 ms for a report.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from sqlalchemy import Select, TextClause
from sqlalchemy.dialects.postgresql import psycopg as dialect

from bench.report import print_results, report_progress, write_line
from gateway.store import SORT_MEMORY
from leadstream.embedded_postgres import start_postgres, stop_postgres
from projections import analytics
from projections.lead_scores import score_distribution
from projections.migrate import migrate
from projections.tables import READ_OPTIONS, hashed_key, lead_row_key
from scoring.lifecycle.transitions import FUNNEL_STAGES

TENANT = "default"
NOW = datetime(2030, 6, 30, 18, tzinfo=UTC)
YEAR = 365
RUNS = 5
REPORT_AIM_MS = 300.0

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
GRADES = (("A+", 90), ("A", 80), ("B+", 70), ("B", 60), ("C+", 50), ("C", 40), ("D", 0))

Statement = TextClause | Select[Any]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leads", type=int, default=100_000, help="leads, each with ten engagements")
    parser.add_argument(
        "--url",
        help="a database on this machine; one that has leads is used as it is; by default a new server is started",
    )


def run(chosen: argparse.Namespace) -> None:
    with _database(chosen.url) as url:
        migrate(url)
        _fill_if_empty(url, chosen.leads)
        rows, slow, figures = [], list[tuple[str, Statement]](), {}
        with psycopg.connect(url, options=f"{READ_OPTIONS} -c work_mem={SORT_MEMORY}") as connection:
            for name, aim, statements in measured_queries():
                times = sorted(_milliseconds(connection, statements) for _ in range(RUNS))
                wall, cpu = median(wall for wall, _ in times), median(cpu for _, cpu in times)
                figures[name] = {"median_ms": round(wall, 1), "cpu_ms": round(cpu, 1), "aim_ms": aim}
                above = min(wall, cpu) > aim
                rows.append((name, f"{wall:,.0f}", f"{cpu:,.0f}", f"{aim:,.0f}", "above" if above else ""))
                slow += [(name, each) for each in statements] if above else []
            for name, statement in slow:
                for line in (f"\n{name}", *_plan(connection, statement)):
                    report_progress(line)
    print_results(
        f"{10 * chosen.leads:,} engagements of {chosen.leads:,} leads",
        ("query", "median ms", "CPU ms", "aim ms", ""),
        rows,
        [
            "CPU is that of the server's process: what the query takes at rest, if other programs keep the machine busy."
        ],
    )
    write_line("analytics", leads=chosen.leads, queries=figures)


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


def measured_queries() -> Iterator[tuple[str, float, list[Statement]]]:
    """(name, aim in ms, statements) of every report, over 90 days and over a year."""
    whole = {"anonymous": False}
    for days in (90, YEAR):
        begin = NOW - timedelta(days=days)
        leads, weeks = (TENANT, begin, NOW), [begin + timedelta(days=7 * n) for n in range(days // 7 + 1)]
        months = [begin + timedelta(days=30 * n) for n in range(days // 30)]
        reports: dict[str, list[Statement]] = {
            "funnel": [
                analytics.furthest_steps(*leads, **whole),
                analytics.stage_stays(*leads, **whole),
            ],
            "cohorts": [
                analytics.cohorts(TENANT, months, NOW, "composite", **whole),
                analytics.cohort_revenue(TENANT, months, NOW, **whole),
            ],
            "lead quality": [
                analytics.leads_by_band(TENANT, "composite", **whole),
                analytics.points_gained(TENANT, weeks, **whole),
                analytics.leads_created(TENANT, weeks, **whole),
            ],
            "engagement summary": [
                analytics.engagements_by_type(TENANT, begin - (NOW - begin), weeks, NOW, **whole),
                analytics.purchase_reports(TENANT, **whole),
                analytics.leads_created(TENANT, [NOW], **whole),
            ],
            "deciles": [analytics.scores_before_conversion(TENANT, "composite", begin, NOW, **whole)],
            "touchpoints to conversion": [analytics.touchpoints_before_conversion(*leads, **whole)],
            "speed to contact": [analytics.speed_to_contact(*leads, **whole)],
        }
        for name, statements in reports.items():
            yield f"{name}, {days} days", REPORT_AIM_MS, statements
    yield "distribution", REPORT_AIM_MS, [score_distribution(TENANT, "composite")]


_DIALECT = dialect.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped


def _sql(statement: Statement) -> tuple[bytes, Any]:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(compiled).encode(), compiled.params


def _milliseconds(
    connection: psycopg.Connection[Any], statements: Iterable[Statement]
) -> tuple[float, float]:
    """(wall clock, CPU of the server's process)."""
    started, cpu = time.perf_counter(), _cpu_seconds(connection)
    for statement in statements:
        connection.execute(*_sql(statement)).fetchall()
    return (time.perf_counter() - started) * 1_000, (_cpu_seconds(connection) - cpu) * 1_000


def _cpu_seconds(connection: psycopg.Connection[Any]) -> float:
    """In hundredths; the server is on this machine."""
    fields = Path(f"/proc/{connection.info.backend_pid}/stat").read_text("utf-8").rpartition(")")[2].split()
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
        "lead_key tenant lead_id identified created_at last_interaction_at stage identities as_of name email search "
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
                f"lead {n}\nlead-{n}@customers.example",
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
        "lead_scores",
        "lead_key model version total rounded bands as_of position",
        (
            (keys[n], model, 1, Decimal(scores[n]), scores[n], json.dumps(_bands(scores[n])), NOW, n)
            for n in range(leads)
            for model in MODELS
        ),
    )
    report_progress("leads, identities and scores are written")
    stages = sorted(
        (created[n] + timedelta(hours=chance.randrange(1, 400) * step), n, step)
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
        for each in range(10)
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
        "lead_key model at position version total previous change bands lines caused_by",
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
        total, previous = (Decimal(scores[n] * number) / 10 for number in (seen[n], seen[n] - 1))
        for number, model in enumerate(MODELS):
            yield (
                keys[n], model, min(at, NOW), position * len(MODELS) + number, 1, total, previous, total - previous,
                "{}", lines, f"event:event-{position}",
            )  # fmt: skip


def _copy(
    connection: psycopg.Connection[Any], table: str, columns: str, rows: Iterable[tuple[Any, ...]]
) -> None:
    write: Callable[[Sequence[Any]], None]
    with connection.cursor().copy(f"copy live.{table} ({', '.join(columns.split())}) from stdin") as copying:
        write = copying.write_row
        for row in rows:
            write(row)

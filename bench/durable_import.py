"""Events imported durably, folded and projected, as a ratio to COPY of the same rows.

Both end with everything on disk, in the same PostgreSQL. COPY writes the events and nothing else, so
the ratio is the price of scoring: dedupe, identity, sessions, five models, ledger, read models.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench.report import print_results
from leadstream.operations.imports import append_all, archived
from leadstream.operations.store_access import store_of_system
from leadstream.settings import Settings
from leadstream.simulation.simulate import simulated_events
from leadstream.wiring import open_system
from schemas.decode import encode_source, key_of

LEADS = 1_000
DAYS = 60


def options(_parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def run(_options: argparse.Namespace) -> None:
    now = datetime.now(UTC)
    events = [archived(event, now) for event in simulated_events(seed=3, leads=LEADS, days=DAYS, until=now)]
    rows = [(key_of(event), encode_source(event)) for event in events]
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-") as directory:
        settings = Settings(data_dir=Path(directory))
        with open_system(settings) as system:
            copied = min(copy(system.database_url, rows) for _ in range(3))
            started, cpu = time.perf_counter(), time.process_time()
            store = store_of_system(system)
            append_all(iter(events), store.append)
            stored = time.perf_counter() - started
            store.settle(lambda _: None)
            imported, cpu = time.perf_counter() - started, time.process_time() - cpu
            with psycopg.connect(system.database_url) as connection:
                connection.execute("drop table bench_rows")
                connection.commit()
                output = count(connection, "select count(*) from records where topic <> 'events'")
                size = count(connection, "select pg_database_size(current_database())")
    measured = (
        ("COPY of the same rows", copied),
        ("appended", stored),
        ("appended, scored and readable", imported),
    )
    print_results(
        f"{len(rows):,} events of {LEADS:,} leads, durable",
        ("", "events/s", "ratio to COPY"),
        [(what, f"{len(rows) / seconds:,.0f}", f"{copied / seconds:.4f}") for what, seconds in measured],
        [
            f"{cpu / len(rows) * 1e6:,.0f} us of Python CPU per event",
            f"{output / len(rows):.1f} records emitted per event",
            f"{size / len(rows):,.0f} bytes of database per event",
        ],
    )


def count(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return row[0] if row else 0


def copy(url: str, rows: list[tuple[str, bytes]]) -> float:
    with psycopg.connect(url) as connection:
        connection.execute(
            "create table if not exists bench_rows (position bigint primary key, key text, value bytea)"
        )
        connection.execute("truncate bench_rows")
        connection.commit()
        started = time.perf_counter()
        with connection.cursor().copy("copy bench_rows from stdin (format binary)") as writer:
            writer.set_types(["int8", "text", "bytea"])
            for position, (key, value) in enumerate(rows):
                writer.write_row((position, key, value))
        connection.commit()
        return time.perf_counter() - started

"""The pages: what they weigh, how soon they have their first rows, and what it costs to keep 50 of them up to date.

Weight: gzipped, of all files that the page at / loads at once; aim: under 80 KB. First rows: the answer to the request that
the call list makes, over an embedded server; aim: 500 ms. Open pages: so many streams of /api/changes while so many scores
change a second. The server's part of a core is that with the streams less that without them, since recording and scoring
the events costs the same either way; aim: under a fifth.
"""

import argparse
import asyncio
import gzip
import re
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import httpx

from bench.processes import Failed, cpu_of
from bench.product import await_ready, command, settings_of
from bench.report import percentile, print_results, report_progress, write_line

AIM_BYTES = 80_000
AIM_ROWS_MS = 500.0
AIM_CORES = 0.2
REQUESTS_PER_SECOND = 10
LISTS_READ = 20


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pages", type=int, default=50, help="open pages (%(default)s)")
    parser.add_argument("--rate", type=int, default=200, help="changes of scores a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="with and without pages (%(default)s)")


def run(options: argparse.Namespace) -> None:
    if options.rate < REQUESTS_PER_SECOND or options.pages < 1:
        raise SystemExit(f"The rate is at least {REQUESTS_PER_SECOND}, and at least one page is open.")
    weight = bytes_of_first_page()
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-pages-") as directory:
        settings = settings_of(Path(directory), None)
        with command(settings, "serve") as server:
            await_ready(server, settings.port)
            address = f"http://127.0.0.1:{settings.port}"
            report_progress(f"{options.rate} changes a second, without and with {options.pages} open pages")
            alone, _ = asyncio.run(_cores(server.pid, address, options, 0))
            together, received = asyncio.run(_cores(server.pid, address, options, options.pages))
            rows = asyncio.run(_first_rows_ms(address))
    if not received:
        raise Failed("no open page received a change")
    cores, soonest = max(0.0, together - alone), percentile(rows, 0.5)
    print_results(
        "Pages",
        ("measure", "value", "aim"),
        [
            ("weight of / (gzip)", f"{weight / 1000:.1f} KB", f"{AIM_BYTES / 1000:.0f} KB"),
            ("first rows (median)", f"{soonest:.0f} ms", f"{AIM_ROWS_MS:.0f} ms"),
            (f"{options.pages} pages, {options.rate}/s", f"{cores:.2f} cores", f"{AIM_CORES} cores"),
        ],
        [f"The server used {alone:.2f} cores without open pages, and {together:.2f} with them."],
    )
    write_line(
        "pages", bytes=weight, first_rows_ms=soonest, pages=options.pages, rate=options.rate,
        cores=cores, cores_without_pages=alone, received_bytes=received,
    )  # fmt: skip


def bytes_of_first_page() -> int:
    """Gzipped: the page at / and all that it names. Raises Failed."""
    built = files("dashboard") / "static" / "dist"
    if not (built / "index.html").is_file():
        raise Failed("The pages are not built: run `make setup`.")
    page = (built / "index.html").read_bytes()
    names = re.findall(r"/static/dist/assets/([^\"]+)", page.decode())
    contents = [page, *((built / "assets" / name).read_bytes() for name in names)]
    return sum(len(gzip.compress(each)) for each in contents)


async def _cores(pid: int, address: str, options: argparse.Namespace, pages: int) -> tuple[float, int]:
    """How much of a core the server used, and how many bytes the open pages received."""
    received = [0] * pages
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=30) as client:
        readers = [asyncio.create_task(_read_changes(client, received, page)) for page in range(pages)]
        await asyncio.sleep(1)
        cpu, began = cpu_of(pid), time.monotonic()
        number = 0
        while (elapsed := time.monotonic() - began) < options.seconds:
            each = options.rate // REQUESTS_PER_SECOND
            events = [{"type": "qr_scanned", "lead_id": f"lead-{pages}-{number + n}"} for n in range(each)]
            number += each
            (await client.post("/v1/events", json=events)).raise_for_status()
            await asyncio.sleep(max(0.0, number / options.rate - elapsed))
        used = (cpu_of(pid) - cpu) / (time.monotonic() - began)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    return used, sum(received)


async def _read_changes(client: httpx.AsyncClient, received: list[int], page: int) -> None:
    async with client.stream("GET", "/api/changes", headers={"Accept": "text/event-stream"}) as answer:
        answer.raise_for_status()
        async for part in answer.aiter_bytes():
            received[page] += len(part)


async def _first_rows_ms(address: str) -> list[float]:
    """Ascending."""
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        times = []
        for _ in range(LISTS_READ):
            began = time.perf_counter()
            (await client.get("/api/leads?limit=50")).raise_for_status()
            times.append((time.perf_counter() - began) * 1000)
    return sorted(times)

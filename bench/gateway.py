"""Requests a second of the gateway's HTTP server within its limits, as a ratio to uvicorn alone.

Both serve the collector with a log that takes everything at once, each in a process of its own, in turns. The
client keeps its connections and sends one request after the other on each.
"""

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from bench.report import print_results, write_line
from gateway.access import RateLimit
from gateway.door import collect
from gateway.door.services import open_door
from gateway.ports import Ports
from gateway.server.connections import ConnectionLimits
from gateway.server.http_server import HttpServer

CONNECTIONS = 32
EVENT = (
    b'{"type":"page_viewed","visitor_id":"browser-%d","occurred_at":"2030-01-31T12:00:00Z","url":"/pricing"}'
)
SERVERS = ("limits", "uvicorn")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=4_000, help="of each kind, server and turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns; medians are shown")


def run(chosen: argparse.Namespace) -> None:
    one = _request(EVENT % 1)
    many = _request(b"[" + b",".join(EVENT % number for number in range(100)) + b"]")
    kinds = {
        "plain": (b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n", chosen.requests),
        "one event": (one, chosen.requests),
        "100 events": (many, chosen.requests // 20),
    }
    rates: dict[str, dict[str, list[float]]] = {kind: {each: [] for each in SERVERS} for kind in kinds}
    for turn in range(chosen.rounds):
        for server in SERVERS[:: 1 if turn % 2 else -1]:
            with socket.create_server(("127.0.0.1", 0), backlog=2048) as port:
                process = multiprocessing.Process(target=_serve, args=(server, port), daemon=True)
                process.start()
                try:
                    for kind, (request, count) in kinds.items():
                        rates[kind][server].append(asyncio.run(_rate(port.getsockname(), request, count)))
                finally:
                    process.kill()
                    process.join()
    medians = {kind: {each: statistics.median(of) for each, of in by.items()} for kind, by in rates.items()}
    print_results(
        "Requests a second",
        ["request", *SERVERS, "ratio"],
        [
            (kind, f"{by['limits']:,.0f}/s", f"{by['uvicorn']:,.0f}/s", f"{by['limits'] / by['uvicorn']:.2f}")
            for kind, by in medians.items()
        ],
    )
    write_line("gateway", requests_per_second=medians)


def _request(body: bytes) -> bytes:
    return b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _serve(kind: str, port: socket.socket) -> None:
    async def take(_records: object) -> None: ...

    async def nobody(_events: object, _seconds: float) -> dict[Any, Any]:
        return {}

    app = FastAPI()
    open_door(app, Ports(append=take, database_url="", rate=RateLimit(1e12, 1e12)), nobody)
    app.include_router(collect.router)
    app.add_route("/plain", lambda _request: PlainTextResponse("plain"))
    config = uvicorn.Config(
        app, http="httptools", ws="none", lifespan="off", access_log=False, log_config=None
    )
    serve: Callable[[], Any]
    if kind == "limits":
        serve = HttpServer(config, port, ConnectionLimits()).serve
    else:
        server = uvicorn.Server(config)
        serve = lambda: server.serve(sockets=[port])  # noqa: E731
    asyncio.run(serve())


async def _rate(address: tuple[str, int], request: bytes, count: int) -> float:
    clients = [await asyncio.open_connection(*address) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(_ask(*client, request, 5) for client in clients))
    began = time.perf_counter()
    await asyncio.gather(*(_ask(*client, request, count // CONNECTIONS) for client in clients))
    seconds = time.perf_counter() - began
    for _, writer in clients:
        writer.close()
    return count // CONNECTIONS * CONNECTIONS / seconds


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, times: int
) -> None:
    for _ in range(times):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(size)

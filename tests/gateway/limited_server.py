"""A program: the gateway's HTTP server with a small application, its limits and open files given as JSON."""

import asyncio
import json
import resource
import socket
import sys

import uvicorn

from gateway.server import http_protocol
from gateway.server.connections import ConnectionLimits
from gateway.server.http_server import HttpServer

LARGE = b"x" * 40_000_000


async def app(scope, receive, send):
    """/large answers more than any socket holds; /early answers before the body; else what came is told."""
    body = b""
    while scope["path"] != "/early" and (message := await receive()).get("more_body"):
        body += message["body"]
    answer = (
        LARGE
        if scope["path"] == "/large"
        else json.dumps(told(scope, body + message["body"])).encode()
        if scope["path"] != "/early"
        else b"early"
    )
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
    )
    await send({"type": "http.response.body", "body": answer})


def told(scope, body):
    return {
        "path": scope["path"],
        "headers": {name.decode("latin-1"): len(value) for name, value in scope["headers"]},
        "body": len(body),
    }


async def main(given):
    if (files := given.pop("open_files", None)) is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    http_protocol.LINGER_SECONDS = given.pop("linger_seconds", 1)
    limits = ConnectionLimits(**given)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        timeout_keep_alive=limits.idle_seconds,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as port:
        print(port.getsockname()[1], flush=True)
        await HttpServer(config, port, limits).serve()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

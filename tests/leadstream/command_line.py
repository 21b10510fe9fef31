"""The command line as a user meets it: a process with arguments, an environment and three streams."""

import contextlib
import fcntl
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from leadstream.cli.root import main
from tests import forked_programs
from tests.forked_programs import Program
from tests.hanging import server_directory
from tests.ports import free_port

STARTING_SECONDS = 300
STORED = {"LEADSTREAM_DATABASE_URL", "LEADSTREAM_PARTITIONS", "LEADSTREAM_KAFKA"}
"""Settings that decide what a first start makes."""


def environment(**given: str) -> dict[str, str]:
    """Ours, without any setting but those given; a projection opens no port unless it is given one."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
    return {**mine, "COLUMNS": "100", "LEADSTREAM_PROJECTION_PORT": "0", **given}


def leadstream(
    *arguments: object, stdin: bytes = b"", **settings: str
) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "leadstream", *map(str, arguments)]
    return forked_programs.run(command, stdin=stdin, timeout=500, env=environment(**settings))


def leadstream_here(*arguments: object, **settings: str) -> "subprocess.CompletedProcess[bytes]":
    """The same in this process: for commands that end before anything is started."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment(**settings), clear=True),
        mock.patch.object(sys, "argv", ["leadstream", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(arguments, code, out.buffer.getvalue(), err.buffer.getvalue())


MADE_STORE = "TESTS_MADE_STORE"
"""The environment variable with the place of an embedded store as a first start leaves it: PostgreSQL set up, tables, built-in
models. The first server that needs a new store makes it, for all processes of a test run.
"""


def make_store(data_dir: Path) -> None:
    """A new store, without what a first start costs."""
    made = Path(os.environ[MADE_STORE])
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            first = made.with_suffix(".first")
            with serving(first, new=True) as server:
                assert server.stop() == 0
            first.rename(made)
    data_dir.mkdir()
    subprocess.run(["cp", "-a", "--reflink=auto", made / "postgres", data_dir / "postgres"], check=True)


class Server:
    """`leadstream serve` on a data directory; it may be killed and started again."""

    def __init__(
        self, data_dir: Path, *, program: Sequence[str], arguments: Sequence[str] = (), **settings: str
    ) -> None:
        self.data_dir = data_dir
        self._program = program
        self._arguments = arguments
        self._settings = settings
        self.said = data_dir.with_name(data_dir.name + ".said")
        self.process: Program | None = None
        self.client = httpx.Client(timeout=30)

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        port = free_port()
        with self.said.open("ab") as said:
            self.process = Program(
                [
                    sys.executable,
                    *self._program,
                    "serve",
                    *self._arguments,
                    "--port",
                    str(port),
                    "--data-dir",
                    str(self.data_dir),
                ],
                stdout=said,
                stderr=said,
                env=environment(**self._settings),
            )
        self.client.base_url = httpx.URL(f"http://127.0.0.1:{port}")

    def wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + STARTING_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.client.get("/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the server did not get ready: {self.said.read_text()}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.client.close()


@contextmanager
def serving(
    data_dir: Path,
    *,
    program: Sequence[str] = ("-m", "leadstream"),
    arguments: Sequence[str] = (),
    new: bool = False,
    **settings: str,
) -> Iterator[Server]:
    """`arguments` of `serve`; `settings` are environment variables. If the directory does not exist, it gets a copy of a store
    as a first start leaves it; `new` leaves that to the server.
    """
    if not (new or arguments or STORED.intersection(settings) or data_dir.exists()):
        make_store(data_dir)
    server = Server(data_dir, program=program, arguments=arguments, **settings)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def serving_once(directories: pytest.TempPathFactory, **more: Any) -> Iterator[Server]:
    """`serving` in a directory that is removed afterwards."""
    with server_directory(directories) as directory, serving(directory / "store", **more) as server:
        yield server

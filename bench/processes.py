"""Starts programs, measures them through /proc, and stops them. Linux only.

A program prints a line `FIRST time cpu` when it begins its work: the time, and the CPU used until then. `say_first`
prints it. So the cost of starting is counted separately.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
STOPPING_SECONDS = 20
_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(RuntimeError):
    """A program ended, or did not come to an end; the message shows its last output."""


class First(NamedTuple):
    at: float
    cpu: float


def say_first() -> None:
    os.write(1, f"FIRST {time.time()} {time.process_time()}\n".encode())  # a framework may catch sys.stdout


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_memory_of(pid: int) -> int:
    """The most bytes it ever had in memory."""
    return _status(pid, "VmHWM")


def memory_of(pid: int) -> int:
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise Failed(f"process {pid} has ended")


class Program:
    """A running process and its output so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process = process
        self._output = output

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def check(self) -> None:
        """Raises Failed if it has ended."""
        if self._process.poll() is not None:
            raise self.failed(f"ended with code {self._process.returncode}")

    def failed(self, how: str) -> Failed:
        return Failed(f"{' '.join(map(str, self._process.args))[-300:]} {how}:\n{self.output[-4000:]}")

    def first(self) -> First | None:
        """When it began its work; None: not yet."""
        line = self._line("FIRST ")
        if line is None:
            return None
        _, at, cpu = line.split()
        return First(float(at), float(cpu))

    def _line(self, start: str) -> str | None:
        """The first line that begins so and is complete."""
        lines = self.output.splitlines(keepends=True)
        return next((line for line in lines if line.startswith(start) and line.endswith("\n")), None)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> float:
        """Asks it to end, kills it if it does not; the seconds that it took."""
        began = time.monotonic()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOPPING_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return time.monotonic() - began


@contextmanager
def running(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Runs until the block ends, at the latest."""
    with tempfile.TemporaryDirectory(prefix="leadstream-bench-") as directory:
        output = Path(directory) / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                list(map(str, command)),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
            )
        program = Program(process, output)
        try:
            yield program
        finally:
            program.stop()

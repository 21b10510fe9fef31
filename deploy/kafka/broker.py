"""A real Kafka broker on this machine, without Docker: for `make kafka`, for tests and benchmarks.

Promises a broker that answers at its address, or a BrokerFailed that names the remedy. One process at
a time owns a data directory. A broker that outlived its killed owner is stopped first; its data are
kept. Needs Java, and Maven once, to copy the broker's jars into the user's cache.
Must never listen on a network, delete data, or use a half-filled cache.
"""

# A program beside its templates, no package; it reads clocks and the environment, and prints its progress.
# ruff: noqa: INP001, T201, TID251

import argparse
import fcntl
import hashlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from types import FrameType
from typing import NamedTuple

HOST = "127.0.0.1"
_HERE = Path(__file__).resolve().parent
_POM = _HERE / "pom.xml"
_JVM = (
    "-Xms64m",
    "-XX:+UseSerialGC",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss",
)
_COPIES = (
    "default.replication.factor",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "share.coordinator.state.topic.replication.factor",
)
_IN_SYNC = (
    "min.insync.replicas",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.min.isr",
)
"""Additional properties of several brokers; the last line of a key counts."""
_STARTING_SECONDS = 180.0
"""A start takes five; a busy machine or a recovery takes longer."""
_STOPPING_SECONDS = 30.0
_JAVA_REMEDY = "install Java 17 or newer (Debian: apt-get install default-jre-headless) or set JAVA_HOME"


class BrokerFailed(RuntimeError):
    """There is no broker; the message names the reason and the remedy."""


def _ignore(_: str) -> None:
    pass


class Nodes(NamedTuple):
    """The brokers of a cluster, numbered from 1; each keeps a copy of everything."""

    cluster_id: str
    controller_ports: list[int]


def _cluster_id() -> str:
    # Kafka takes no name that begins with a dash for an identity.
    return "L" + urlsafe_b64encode(secrets.token_bytes(16)).decode()[1:22]


class Broker:
    """A broker that answers, until it is killed or stopped; `restart` brings the same one back.

    `proxy`: the port of a proxy on this machine. Clients of `behind_proxy` are directed there, others connect directly.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        report: Callable[[str], None],
        *,
        proxy: int | None = None,
        node: int = 1,
        nodes: Nodes | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.proxy = proxy
        self.behind_proxy = None if proxy is None else free_port()
        self.node = node
        self._report = report
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._nodes = nodes or Nodes(_cluster_id(), [free_port()])
        self._alone = nodes is None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """The broker's own log."""
        return self.data_dir / "broker.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Raises BrokerFailed."""
        java = _java()
        self._own_directory()
        try:
            self._find_port_free()
            if self._alone and not _is_free(self._nodes.controller_ports[0]):
                self._nodes.controller_ports[0] = free_port()
            jars = find_jars(self._report)
            command = [java, *_JVM, "-Xmx512m" if self._alone else "-Xmx256m", "-cp", f"{jars}/*"]
            self._configure()
            self._format(command)
            self._launch(command)
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Ends it like a power cut (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._give_free()

    def stop(self, seconds: float = _STOPPING_SECONDS) -> None:
        """Ends it in order; kills it if that takes longer."""
        try:
            if self._process is not None:
                self._process.terminate()
                self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._report(f"The broker has not stopped within {seconds:.0f} seconds and is killed.")
        finally:
            self.kill()

    def restart(self) -> None:
        """The same data, the same port. A broker that still runs is killed first."""
        self.kill()
        self.start()

    def wait(self) -> int:
        """Blocks until it ends by itself; its exit code."""
        return 0 if self._process is None else self._process.wait()

    def _own_directory(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._give_free()
            raise BrokerFailed(
                f"Another process runs a broker in {self.data_dir}: use that one, stop it, or choose another directory."
            ) from None
        except OSError as cause:
            self._give_free()
            raise BrokerFailed(
                f"The directory {self.data_dir} cannot be used ({cause.strerror}): choose another."
            ) from cause
        left_behind = self._left_behind()
        if left_behind is not None:
            self._report(f"A killed run has left its broker behind (process {left_behind}); it is stopped.")
            _end(left_behind)

    def _find_port_free(self) -> None:
        if not _is_free(self.port):
            raise BrokerFailed(
                f"Port {self.port} of {HOST} is taken by another program: stop that one, or choose another port."
            )

    def _left_behind(self) -> int | None:
        """The process of a broker in this directory whose owner is dead."""
        try:
            pid = int((self.data_dir / "broker.pid").read_text(encoding="ascii"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._properties) in command.split(b"\0") else None

    def _give_free(self) -> None:
        self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def _properties(self) -> Path:
        return self.data_dir / "server.properties"

    def _configure(self) -> None:
        template = Template((_HERE / "server.properties").read_text(encoding="utf-8").partition("$.\n")[2])
        ports = self._nodes.controller_ports
        filled = template.substitute(
            node=self.node,
            voters=",".join(f"{number}@{HOST}:{port}" for number, port in enumerate(ports, 1)),
            port=self.port,
            controller_port=ports[self.node - 1],
            behind_proxy="" if self.proxy is None else f",PROXIED://{HOST}:{self.behind_proxy}",
            proxy="" if self.proxy is None else f",PROXIED://{HOST}:{self.proxy}",
            log_dir=self.data_dir / "log",
        )
        if not self._alone:
            copies, in_sync = len(ports), len(ports) // 2 + 1
            filled += "".join(f"{name}={copies}\n" for name in _COPIES)
            filled += "".join(f"{name}={in_sync}\n" for name in _IN_SYNC)
        self._properties.write_text(filled, encoding="utf-8")

    def _format(self, command: Sequence[str]) -> None:
        """Gives an empty directory the identity of a cluster; it is written last, so it is whole or absent."""
        if (self.data_dir / "log" / "meta.properties").exists():
            return
        self._report("Preparing the data directory ...")
        done = subprocess.run(  # noqa: S603 - our own command
            [
                *command,
                "kafka.tools.StorageTool",
                "format",
                "-t",
                self._nodes.cluster_id,
                "-c",
                self._properties,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            raise _failed("Kafka could not prepare its directory", done.stdout.decode(errors="replace"))

    def _launch(self, command: Sequence[str]) -> None:
        self._report("Starting the broker ...")
        with self.log.open("wb") as log:
            # In a session of its own: Ctrl-C reaches us, and we stop it in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*command, "kafka.Kafka", self._properties],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.data_dir / "broker.pid").write_text(f"{self._process.pid}\n", encoding="ascii")

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _STARTING_SECONDS
        while not _answers(self.port):
            if not self.running:
                raise _failed("The broker has ended at once", self._log_text())
            if time.monotonic() > deadline:
                raise _failed(f"The broker does not answer after {_STARTING_SECONDS:.0f} s", self._log_text())
            time.sleep(0.05)

    def _log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def start(
    data_dir: Path, port: int, *, proxy: int | None = None, report: Callable[[str], None] = _ignore
) -> Broker:
    """A broker that answers at 127.0.0.1:`port`. Raises BrokerFailed."""
    broker = Broker(data_dir.expanduser().resolve(), port, report, proxy=proxy)
    broker.start()
    return broker


def start_several(data_dir: Path, count: int, *, report: Callable[[str], None] = _ignore) -> list[Broker]:
    """The brokers of one cluster. Each has a copy; more than half must have what is acknowledged.
    Raises BrokerFailed.
    """
    directory = data_dir.expanduser().resolve()
    nodes = Nodes(_cluster_id(), [free_port() for _ in range(count)])
    brokers = [
        Broker(directory / f"broker-{number}", free_port(), report, node=number, nodes=nodes)
        for number in range(1, count + 1)
    ]
    try:
        with ThreadPoolExecutor() as together:  # none answers before most are there
            list(together.map(Broker.start, brokers))
    except BaseException:
        for broker in brokers:
            broker.kill()
        raise
    return brokers


def free_port() -> int:
    """An unused port below those that the kernel gives to outgoing connections: a client that reconnects to a stopped
    broker could otherwise get the broker's own port.
    """
    for port in random.sample(range(12_000, 32_000), 100):
        if _is_free(port):
            return port
    raise BrokerFailed(f"No free port was found between 12000 and 32000 of {HOST}.")


def find_jars(report: Callable[[str], None] = _ignore) -> Path:
    """The directory of the broker's jars, in the user's cache; filled once, whole or not at all.

    Raises BrokerFailed.
    """
    pom = _POM.read_bytes()
    version = re.findall(r"<kafka.version>(.+?)<", pom.decode())
    name = f"kafka-{version[0]}-{hashlib.sha256(pom).hexdigest()[:8]}"
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    cache = (Path(cache_home) if Path(cache_home).is_absolute() else Path.home() / ".cache") / "leadstream"
    jars = cache / name
    if jars.exists():
        return jars
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # Maven's own store allows no second process
            if not jars.exists():
                _fill(jars, report)
    except OSError as cause:
        raise BrokerFailed(
            f"The cache {cache} cannot be filled ({cause.strerror}): set XDG_CACHE_HOME to a directory that can."
        ) from cause
    return jars


def _fill(jars: Path, report: Callable[[str], None]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerFailed(
            "Maven (mvn) is needed once, to fetch Kafka: install it (Debian: apt-get install maven)."
        )
    report(f"Fetching Kafka into {jars}, once ...")
    with tempfile.TemporaryDirectory(prefix=f".{jars.name}-", dir=jars.parent) as work:
        whole = Path(work) / "jars"
        into = f"-DoutputDirectory={whole}"
        shutil.copy(_POM, work)  # Maven writes beside what it reads
        done = subprocess.run(  # noqa: S603 - our own command
            [maven, "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", into],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            raise _failed("Maven could not fetch Kafka (does the network work?)", done.stdout.decode())
        whole.rename(jars)


def _java() -> str:
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=None if java_home is None else f"{java_home}/bin")
    if java is None:
        raise BrokerFailed(f"Kafka needs Java, and there is none: {_JAVA_REMEDY}.")
    return java


def _failed(what: str, output: str) -> BrokerFailed:
    if "UnsupportedClassVersionError" in output:
        return BrokerFailed(f"This Java is too old for Kafka: {_JAVA_REMEDY}.")
    lines = "\n".join(output.strip().splitlines()[-20:])
    return BrokerFailed(f"{what}. Its output:\n{lines}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


_METADATA = struct.pack(">ihhih", 14, 3, 1, 1, -1) + struct.pack(">i", 0)
"""A request of Kafka's protocol: Metadata, version 1, correlation 1, no client id, of no topics."""


def _answers(port: int) -> bool:
    """Whether a broker answers there that is ready to lead partitions."""
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            connection.sendall(_METADATA)
            answer = connection.recv(12, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0


def _end(pid: int) -> None:
    """For a process that is no child of ours."""
    for sent, seconds in ((signal.SIGTERM, _STOPPING_SECONDS), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + seconds
        try:
            os.kill(pid, sent)
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return
    raise BrokerFailed(f"The broker of an earlier run (process {pid}) cannot be stopped.")


def _say_so(line: str) -> None:
    print(line, flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """A broker in the foreground, until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A Kafka broker on this machine, until Ctrl-C.")
    parser.add_argument(
        "--data", type=Path, default=Path(".leadstream/kafka"), help="where its data are kept"
    )
    parser.add_argument("--port", type=int, default=9092, help="where clients reach it, on this machine only")
    arguments = parser.parse_args()
    # SIGINT, too: a shell that starts this in the background may have it ignored, which is inherited.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        broker = start(arguments.data, arguments.port, report=_say_so)
    except BrokerFailed as reason:
        _say_so(str(reason))
        return 1
    except KeyboardInterrupt:
        return 130
    try:
        _say_so(f"Kafka answers at {broker.address}; its data are in {arguments.data}. Ctrl-C stops it.")
        code = broker.wait()
    except KeyboardInterrupt:
        _say_so("Stopping ...")
        broker.stop()
        _say_so("Kafka has stopped; its data are kept.")
        return 0
    _say_so(str(_failed(f"The broker has ended by itself (exit code {code})", broker.log.read_text())))
    return 1


if __name__ == "__main__":
    sys.exit(main())

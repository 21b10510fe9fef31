"""`make kafka` and the broker of the tests: what they promise when killed, doubled, or short of something."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.kafka.broker import Broker, BrokerFailed, _answers, start
from schemas.record import Outgoing
from schemas.topics import EVENTS
from streams.kafka.cluster import Cluster
from streams.kafka.topics import check_topics, create_topics
from tests.ports import free_port

pytestmark = pytest.mark.kafka

PROGRAM = Path(__file__).parents[2] / "deploy" / "kafka" / "broker.py"
GENESIS = [Outgoing(EVENTS, "~", b"first")]


DEAF = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""As a script starts a job in the background: SIGINT is ignored, until the program says otherwise."""


class Foreground:
    """`make kafka`, without make."""

    def __init__(self, data_dir, port):
        self.process = subprocess.Popen(
            [*DEAF, sys.executable, PROGRAM, "--data", data_dir, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines_until(self, said):
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if said in line:
                return "".join(lines)
        raise AssertionError(f"it ended without {said!r}: {lines}")

    def end(self, number):
        self.process.send_signal(number)
        rest = self.process.stdout.read()
        return self.process.wait(60), rest

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def foreground(tmp_path):
    started = []

    def run(port, data_dir=tmp_path / "data"):
        started.append(Foreground(data_dir, port))
        return started[-1]

    yield run
    for each in started:
        each.close()
    if pid := java_of(tmp_path / "data"):
        os.kill(pid, signal.SIGKILL)


def java_of(data_dir):
    """The process that serves this directory, if it runs."""
    try:
        pid = int((data_dir / "broker.pid").read_text())
        return pid if b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes() else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def run_with(tmp_path, **programs):
    """The program's answer where only these can be found; its cache is empty."""
    found = tmp_path / "bin"
    found.mkdir(exist_ok=True)
    for name, target in programs.items():
        if target is not None:
            (found / name).symlink_to(target)
    environment = {"PATH": str(found), "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    return subprocess.run(
        [sys.executable, PROGRAM, "--data", tmp_path / "data", "--port", str(free_port())],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def script(path, text):
    path.write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}\n{text}\n")
    path.chmod(0o755)
    return path


FIND = "from deploy.kafka.broker import find_jars; print(find_jars())"
MAVEN = """
for argument; do case "$argument" in -DoutputDirectory=*) into="${argument#*=}";; esac; done
mkdir -p "$into"
"""


def find_jars(tmp_path):
    """Fills the cache by the fake Maven, in a process of its own."""
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    return subprocess.Popen(
        [sys.executable, "-c", FIND],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_was_written_outlives_a_kill_and_a_directory_has_one_owner(own_broker):
    with pytest.raises(BrokerFailed, match="Another process runs a broker in"):
        start(own_broker.data_dir, free_port())
    assert own_broker.running
    cluster = Cluster(own_broker.address, prefix="outlives-")
    asyncio.run(create_topics(cluster, partitions=1, genesis=GENESIS))
    own_broker.kill()
    assert not own_broker.running
    assert not _answers(own_broker.port)
    own_broker.restart()
    assert asyncio.run(check_topics(cluster, partitions=1)) == []
    assert asyncio.run(create_topics(cluster, partitions=1, genesis=GENESIS)) == []


def test_it_makes_no_topic_by_a_misspelt_name(kafka_broker):
    async def run():
        producer = AIOKafkaProducer(bootstrap_servers=kafka_broker.address, request_timeout_ms=1_000)
        await producer.start()
        try:
            with pytest.raises(KafkaError):
                await producer.send_and_wait("evnets", b"lost")
        finally:
            await producer.stop()

    asyncio.run(run())


def test_in_the_foreground_it_stops_on_ctrl_c_and_starts_again_on_its_data(foreground, tmp_path):
    """Also where SIGINT was ignored when it was started."""
    port = free_port()
    cluster = Cluster(f"127.0.0.1:{port}")
    for expected in (10, 0):
        run = foreground(port)
        said = run.lines_until("Kafka answers at")
        assert f"127.0.0.1:{port}" in said
        assert ("Preparing" in said) == (expected == 10)
        made = asyncio.run(create_topics(cluster, partitions=1, genesis=GENESIS))
        assert len(made) == expected
        code, rest = run.end(signal.SIGINT if expected else signal.SIGTERM)
        assert (code, "Kafka has stopped" in rest) == (0, True)
        assert java_of(tmp_path / "data") is None


def test_a_broker_that_its_killed_owner_left_behind_is_replaced_and_one_that_dies_is_told(
    foreground, tmp_path
):
    port = free_port()
    first = foreground(port)
    first.lines_until("Kafka answers at")
    orphan = java_of(tmp_path / "data")
    first.end(signal.SIGKILL)
    assert java_of(tmp_path / "data") == orphan
    run = foreground(port)
    said = run.lines_until("Kafka answers at")
    assert f"process {orphan}" in said
    assert java_of(tmp_path / "data") not in {orphan, None}

    os.kill(java_of(tmp_path / "data"), signal.SIGKILL)
    assert "ended by itself" in run.process.stdout.read()
    assert run.process.wait(60) == 1


def test_a_taken_port_is_told(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BrokerFailed, match=f"Port {port} .* is taken .* choose another port"):
            start(tmp_path, port)


def test_a_directory_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerFailed, match=r"cannot be used .* choose another"):
        Broker(tmp_path / "file" / "data", free_port(), print).start()


def test_without_java_the_remedy_is_told(tmp_path):
    answer = run_with(tmp_path)
    assert answer.returncode == 1
    assert "install Java 17" in answer.stdout
    assert answer.stderr == ""


def test_an_old_java_is_told(tmp_path):
    java = script(
        tmp_path / "java", 'echo "java.lang.UnsupportedClassVersionError: class file version 61.0"; exit 1'
    )
    maven = script(tmp_path / "mvn", MAVEN)
    answer = run_with(tmp_path, java=java, mvn=maven)
    assert answer.returncode == 1
    assert "too old" in answer.stdout
    assert "install Java 17" in answer.stdout


def test_without_maven_the_remedy_is_told(tmp_path):
    answer = run_with(tmp_path, java=shutil.which("java"))
    assert answer.returncode == 1
    assert "apt-get install maven" in answer.stdout


def test_a_maven_that_fails_leaves_nothing_half_filled(tmp_path):
    script(tmp_path / "mvn", MAVEN + 'touch "$into/half.jar"; echo "no network"; exit 1')
    filling = find_jars(tmp_path)
    _, errors = filling.communicate(timeout=60)
    assert filling.returncode == 1
    assert "no network" in errors
    assert [p.name for p in (tmp_path / "cache" / "leadstream").iterdir() if p.is_dir()] == []

    script(tmp_path / "mvn", MAVEN + 'touch "$into/whole.jar"')
    filling = find_jars(tmp_path)
    jars, _ = filling.communicate(timeout=60)
    assert [p.name for p in Path(jars.strip()).iterdir()] == ["whole.jar"]


def test_the_cache_is_filled_once_by_two_at_once(tmp_path):
    script(
        tmp_path / "mvn",
        f'{MAVEN}\necho one >> {tmp_path}/runs; sleep 0.5; touch "$into/kafka.jar"',
    )
    both = [find_jars(tmp_path), find_jars(tmp_path)]
    (first, _), (second, _) = (each.communicate(timeout=60) for each in both)
    assert first == second
    assert [p.name for p in Path(first.strip()).iterdir()] == ["kafka.jar"]
    assert (tmp_path / "runs").read_text().split() == ["one"]


def test_a_free_port_is_none_that_the_kernel_gives_to_clients():
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() < lowest

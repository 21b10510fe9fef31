"""Told to stop, every command that runs until then exits 0: while it loads, while it waits, while it makes a store."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from command_line import environment

from leadstream.signals import COMMANDS_UNTIL_STOPPED, uninterrupted
from tests.ports import free_port

pytestmark = pytest.mark.slow

PATIENCE = 60
NOWHERE = "127.0.0.1:1"
LEADSTREAM = ("-m", "leadstream")
FAUST = ("-m", "faust", "-A", "leadstream.worker", "worker")


@contextmanager
def starting(directory, *command, sigint=signal.default_int_handler, **settings):
    """The process, whose standard error says what it has imported."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *command],
        env=environment(
            LEADSTREAM_DATA_DIR=str(directory),
            LEADSTREAM_PORT=str(free_port()),
            LEADSTREAM_WORKER_PORT=str(free_port()),
            **settings,
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, sigint),  # noqa: PLW1509 - it takes no lock
    )
    ending = threading.Timer(PATIENCE, process.kill)
    ending.start()
    try:
        yield process
    finally:
        ending.cancel()
        process.kill()
        process.communicate()


def comes_to(process, word):
    """Reads on until a line of standard error ends with this word, or holds it after the imports."""
    for line in process.stderr:
        if line.rstrip().endswith(word) or (not line.startswith("import time") and word in line):
            return
    pytest.fail(f"it ended before {word!r}")


def ends_well(process, number=signal.SIGTERM):
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in err


LOADING = [
    pytest.param(command, moment, signal.SIGTERM, marks=[pytest.mark.soak] * (number % 2 == turn % 2))
    for number, command in enumerate(sorted(COMMANDS_UNTIL_STOPPED))
    for turn, moment in enumerate(("click", "psycopg"))
]
"""Early and late: each command at one of them in an ordinary run, at both in a soak."""


@pytest.mark.parametrize(("command", "moment", "number"), [*LOADING, ("worker", "aiokafka", signal.SIGINT)])
def test_while_it_loads(tmp_path, command, moment, number):
    with starting(tmp_path, *LEADSTREAM, command) as process:
        comes_to(process, moment)
        ends_well(process, number)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("moment", ["uvloop", "streams.kafka.faust_host"])
def test_while_faust_loads_it(tmp_path, moment):
    with starting(tmp_path, *FAUST) as process:
        comes_to(process, moment)
        ends_well(process)


@pytest.mark.parametrize("command", [(*LEADSTREAM, "worker"), FAUST], ids=["leadstream", "faust"])
def test_while_a_worker_waits_for_kafka(tmp_path, command):
    with starting(tmp_path, *command, LEADSTREAM_KAFKA=NOWHERE) as process:
        comes_to(process, "waiting for Kafka")
        ends_well(process)


def test_while_a_gateway_waits_for_kafka(tmp_path):
    with starting(tmp_path, *LEADSTREAM, "gateway", LEADSTREAM_KAFKA=NOWHERE) as process:
        comes_to(process, "The gateway serves")
        ends_well(process)


@pytest.mark.postgres
@pytest.mark.parametrize("command", ["serve", "project"])
def test_while_it_makes_a_store_which_is_whole_then(tmp_path, command):
    data = tmp_path / "data"
    settings = {"LEADSTREAM_KAFKA": NOWHERE} if command == "project" else {}
    with starting(data, *LEADSTREAM, command, **settings) as process:
        threading.Thread(target=process.stderr.read, daemon=True).start()
        while not (data / "postgres" / "PG_VERSION").exists():  # initdb is at work
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert not (data / "postgres" / "postmaster.pid").exists()
    with starting(data, *LEADSTREAM, "serve") as process:
        comes_to(process, "Leadstream serves")
        ends_well(process)


def test_what_a_parent_has_it_ignore_stays_ignored(tmp_path):
    with starting(
        tmp_path, *LEADSTREAM, "worker", sigint=signal.SIG_IGN, LEADSTREAM_KAFKA=NOWHERE
    ) as process:
        comes_to(process, "typer.main")
        process.send_signal(signal.SIGINT)
        comes_to(process, "waiting for Kafka")
        ends_well(process)


def test_what_must_not_be_interrupted_ends_and_then_the_signal_counts():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    done = []
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 - what follows is the point
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("all")
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["all"]

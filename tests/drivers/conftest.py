"""Each test that asks for `run` or `begin` is asked of both drivers; one that says `hosted`, of Faust, too."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "embedded"))

from counting import stages
from driven import Clock, EmbeddedRun, FaustRun, KafkaRun

from streams.embedded import driver as driver_module
from streams.embedded import writer
from streams.engine import task_group as bucket
from streams.engine.shard import Shard
from streams.kafka import bare_host


@pytest.fixture
def clock():
    return Clock()


def pytest_generate_tests(metafunc):
    if "begin" not in metafunc.fixturenames:
        return
    drivers = [
        pytest.param("embedded", marks=pytest.mark.postgres),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
    if hasattr(metafunc.function, "hosted"):
        drivers.append(pytest.param("faust", marks=pytest.mark.kafka))
    metafunc.parametrize("driver", drivers)


@pytest.fixture
def begin(request, driver, clock, monkeypatch):
    """Starts the driver, with the stages given or two that count."""
    monkeypatch.setattr(driver_module, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(bare_host, "TICK_SECONDS", 0.1)
    begun = []

    def begin(both=None):
        if driver == "embedded":
            run = EmbeddedRun(request.getfixturevalue("database_url"), both or stages(), clock)
        else:
            kind = FaustRun if driver == "faust" else KafkaRun
            run = kind(request.getfixturevalue("cluster"), both or stages(), clock)
        begun.append(run)
        return run

    yield begin
    for run in begun:
        run.close()


@pytest.fixture
def run(begin):
    return begin()


@pytest.fixture
def small_steps(monkeypatch):
    """A sweep visits ten keys at a time, and each step is a transaction of its own."""
    monkeypatch.setattr(Shard, "SWEEP_STEP", 10)
    monkeypatch.setattr(writer, "TURN_RECORDS", 10)
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(bucket, "COMMIT_RECORDS", 1)

"""`faust -A leadstream.worker`: what Faust's users expect of an app's module."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faust_counting import PARTITIONS, make_topics, until

from leadstream.stages import STAGES
from leadstream.wiring import genesis
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


HURRIED = """
from faust.cli.faust import cli
from streams.kafka import faust_host
faust_host.TOPICS_SECONDS = 3.0
cli()
"""
"""Faust, with a worker that waits seconds for its topics instead of a minute."""


def faust(*command, program=("-m", "faust"), **settings):
    """The program, started; `settings` are variables without their prefix."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
    environment |= {f"LEADSTREAM_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, *program, "-A", "leadstream.worker", *command],
        env=environment | {"COLUMNS": "200"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    try:
        out, err = process.communicate(timeout=180)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.slow
def test_agents_and_tables_are_listed_without_a_broker(tmp_path):
    settings = {"kafka": "127.0.0.1:1", "kafka_prefix": "x-", "data_dir": tmp_path}
    lists = [faust(*command, **settings) for command in (("agents", "--local"), ("tables",))]
    (code, agents, _), (other, tables, _) = map(ended, lists)
    assert (code, other) == (0, 0)
    for name, topic in (("@track_sessions", "x-events"), ("@score_leads", "x-lead-activity")):
        assert any(name in line and topic in line for line in agents.splitlines())
    for name in ("track-sessions", "score-leads"):
        changelog = f"x-leadstream-{name}-changelog"
        assert any(name.replace("-", "_") in line and changelog in line for line in tables.splitlines())


@pytest.mark.slow
def test_a_wrong_setting_is_named_without_a_trace(tmp_path):
    code, _, err = ended(faust("agents", buckets="many", data_dir=tmp_path))
    assert code == 2
    assert "LEADSTREAM_BUCKETS" in err
    assert "Traceback" not in err


@pytest.mark.kafka
def test_a_worker_works_until_it_is_told_to_stop(cluster, tmp_path):
    stages = [stage() for stage in STAGES]
    make_topics(cluster, stages, genesis=genesis(datetime.now(UTC)))
    port = free_port()
    worker = faust(
        "worker",
        kafka=cluster.brokers,
        kafka_prefix=cluster.prefix,
        data_dir=tmp_path,
        worker_port=port,
    )
    try:

        def answers():
            assert worker.poll() is None
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        until(answers, "it is ready")
        code, agents, _ = ended(faust("agents", "--local", data_dir=tmp_path, worker_port=port))
        assert code == 0
        for name in ("@track_sessions", "@score_leads"):
            (line,) = [line for line in agents.splitlines() if name in line]
            *_, shards, folded = line.strip("| ").split("|")
            assert int(shards) == PARTITIONS
            assert int(folded) >= len(genesis(datetime.now(UTC))), (
                "models and settings are in every partition"
            )
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        code, _, err = ended(worker)
        assert time.monotonic() - begun < 10
    finally:
        worker.kill()
    assert code == 0
    said = [line for line in err.splitlines() if line]
    assert all(line.startswith("{") for line in said), "quiet: only our own words, one JSON object a line"
    for word in ("worker started", "partitions assigned", "state restored", "worker stopped"):
        assert sum(word in line for line in said) == 1


@pytest.mark.kafka
def test_a_worker_that_restores_is_told_to_stop(cluster, tmp_path):
    make_topics(cluster, [stage() for stage in STAGES], genesis=genesis(datetime.now(UTC)))
    hold = tmp_path / "hold"
    hold.touch()
    settings = {"kafka": cluster.brokers, "kafka_prefix": cluster.prefix, "worker_port": free_port()}
    environment = {f"LEADSTREAM_{name.upper()}": str(value) for name, value in settings.items()}
    worker = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "system" / "kafka_worker.py"],
        env=os.environ | environment | {"LEADSTREAM_DATA_DIR": str(tmp_path), "CHAOS_HOLD": str(hold)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "restoring\n" in worker.stdout
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        code, *_ = ended(worker)
        assert time.monotonic() - begun < 10
    finally:
        worker.kill()
    assert code == 0


@pytest.mark.kafka
def test_without_its_topics_a_worker_ends_and_says_what_to_do(cluster, tmp_path):
    settings = {"kafka": cluster.brokers, "kafka_prefix": cluster.prefix, "worker_port": free_port()}
    code, _, err = ended(faust("worker", program=("-c", HURRIED), **settings, data_dir=tmp_path))
    assert code == 3
    assert "leadstream topics create" in err
    assert "Traceback" not in err

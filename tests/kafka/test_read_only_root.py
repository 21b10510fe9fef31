"""Our processes as docker-compose.yml runs them: on a root that nobody can write to, with memory for files."""

import contextlib
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.leadstream.command_line import environment
from tests.ports import free_port

READ_ONLY = 'mount -t tmpfs tmpfs "$0" && mount -o remount,ro,bind / && cd / && ! touch /tmp/x 2>/dev/null && exec "$@"'
PATIENCE = 120


def _may_unshare():
    return (
        shutil.which("unshare") is not None
        and subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0
    )


pytestmark = [
    pytest.mark.kafka,
    pytest.mark.postgres,
    pytest.mark.slow,
    pytest.mark.skipif(not _may_unshare(), reason="needs the right to a view of files of one's own"),
]


@contextmanager
def started(settings, log, writable, *command):
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", READ_ONLY, writable, sys.executable, "-m", "leadstream", *command],
            stdout=output,
            stderr=output,
            env=environment(**settings, TMPDIR=str(writable), LEADSTREAM_DATA_DIR=f"{writable}/leadstream"),
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_every_process_of_ours_runs_on_a_root_that_it_cannot_write(cluster, database_url, tmp_path):
    gateway, worker = free_port(), free_port()
    settings = {
        "LEADSTREAM_KAFKA": cluster.brokers,
        "LEADSTREAM_KAFKA_PREFIX": cluster.prefix,
        "LEADSTREAM_DATABASE_URL": database_url,
        "LEADSTREAM_PARTITIONS": "2",
        "LEADSTREAM_PORT": str(gateway),
        "LEADSTREAM_WORKER_PORT": str(worker),
    }
    log, writable = tmp_path / "log", tmp_path / "memory"
    writable.mkdir()
    with started(settings, log, writable, "topics", "create") as topics:
        assert topics.wait(PATIENCE) == 0, log.read_text()
    event = {"type": "page_viewed", "visitor_id": "browser-1", "event_id": "a1"}
    with ExitStack() as running:
        processes = [
            running.enter_context(started(settings, log, writable, command))
            for command in ("worker", "project", "gateway")
        ]
        client = running.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{gateway}", timeout=PATIENCE))
        deadline, outcome = time.monotonic() + PATIENCE, None
        while outcome not in {"applied", "duplicate"}:
            assert time.monotonic() < deadline, log.read_text()
            assert all(process.poll() is None for process in processes), log.read_text()
            with contextlib.suppress(httpx.TransportError):
                answer = client.post("/v1/events?wait=2", json=event)
                if answer.is_success:
                    outcome = answer.json()["events"][0].get("outcome")
            time.sleep(0.2)
    assert list(writable.iterdir()) == []

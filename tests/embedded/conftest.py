"""Fixtures of the tests that start servers of their own.

They stand outside pytest's directories, which only their owner may pass. They sync nothing to disk:
a killed process loses nothing that the system has in memory.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from leadstream import embedded_postgres as postgres
from leadstream.embedded_postgres import start_postgres, stop_postgres


@pytest.fixture(scope="session")
def made_cluster():
    """A data directory that was set up once and stopped, to copy from."""
    data_dir = Path(tempfile.mkdtemp(prefix="leadstream-tests-"))
    start_postgres(data_dir, {"fsync": "off"})
    stop_postgres(data_dir)
    yield data_dir
    shutil.rmtree(data_dir)


@pytest.fixture
def empty_data_dir(monkeypatch):
    monkeypatch.setitem(postgres._SERVER_SETTINGS, "fsync", "off")
    data_dir = Path(tempfile.mkdtemp(prefix="leadstream-tests-"))
    yield data_dir
    stop_postgres(data_dir)
    shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture
def tmp_data_dir(empty_data_dir, made_cluster):
    """A data directory as an earlier start has left it."""
    subprocess.run(["cp", "-a", made_cluster / "postgres", empty_data_dir / "postgres"], check=True)
    return empty_data_dir

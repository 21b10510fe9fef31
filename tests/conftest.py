"""Shared fixtures: one real PostgreSQL and one real Kafka per test session, started when first asked for;
a fresh database, and topics under a prefix of its own, per test.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from deploy.kafka.broker import Broker, free_port
from deploy.kafka.broker import start as start_broker
from leadstream.embedded_postgres import create_database, start_postgres, stop_postgres
from streams.kafka.cluster import Cluster

# At a desk, properties look for new counterexamples at every run; a landing is judged by the same ones.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("desk", PATIENT)
settings.register_profile("ci", PATIENT, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The server's own database; fsync is off, since no test pulls the plug on this one."""
    data_dir = Path(tempfile.mkdtemp(prefix="leadstream-tests-"))
    try:
        yield start_postgres(data_dir, {"fsync": "off", "full_page_writes": "off"})
    finally:
        stop_postgres(data_dir)
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database, dropped after the test."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(create_database(name))
    yield postgres_url.replace("/leadstream?", f"/{name}?")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            psycopg.sql.SQL("drop database {} with (force)").format(psycopg.sql.Identifier(name))
        )


@contextmanager
def _broker(*, proxy: int | None = None) -> Iterator[Broker]:
    data_dir = Path(tempfile.mkdtemp(prefix="leadstream-kafka-"))
    try:
        broker = start_broker(data_dir, free_port(), proxy=proxy)
        try:
            yield broker
        finally:
            broker.kill()
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """A real broker, started by the first test that asks for it; no test may stop it."""
    with _broker() as broker:
        yield broker


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A broker that the test may kill and restart."""
    with _broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def proxied_broker() -> Iterator[Broker]:
    """A broker whose clients at `behind_proxy` are sent to the port `proxy`, where a test has to serve them."""
    with _broker(proxy=free_port()) as broker:
        yield broker


@pytest.fixture
def cluster(kafka_broker: Broker) -> Cluster:
    """A part of the broker that no other test uses."""
    return Cluster(kafka_broker.address, prefix=f"test-{next(_numbers)}-")

"""Shared fixtures: one real PostgreSQL and one real Kafka per test process, started by the first test that
needs them; a fresh database, and topics under a prefix of its own, per test.

`make check` runs the tests that are marked `pure`, `make test` all but those that are marked `soak`, and `make soak` those,
and everything else for longer. The marks of servers, `pure` and the order of files are set here.
"""

import fcntl
import gc
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Composed, Identifier

from deploy.kafka.broker import Broker, find_jars
from deploy.kafka.broker import start as start_broker
from leadstream.embedded_postgres import create_database, start_postgres, stop_postgres
from projections.migrate import migrate
from streams.kafka.cluster import Cluster
from tests.emptied_databases import description_of, emptied
from tests.hanging import (
    pytest_configure,  # noqa: F401 - a hook of pytest
    pytest_runtest_makereport,  # noqa: F401 - another one
    server_directory,
)
from tests.ports import free_port

# At a desk, properties look for new counterexamples at every run; a landing is judged by the same ones. Few examples each
# time: the runs of a day are many.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("desk", PATIENT, max_examples=25)
settings.register_profile("ci", PATIENT, max_examples=25, derandomize=True)
settings.register_profile("check", PATIENT, max_examples=10)  # for `make check`
settings.register_profile("soak", PATIENT, max_examples=1_000)  # for `make soak`
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# Brokers live for seconds or minutes here: the JVM's second compiler would take half of their CPU and repay nothing.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

_numbers = itertools.count(1)

SERVERS = {
    "postgres": {"postgres_url", "database_url", "made_cluster", "empty_data_dir"},
    "kafka": {"kafka_broker", "mortal_broker", "own_broker", "proxied_broker", "cluster"},
}
"""The fixtures that start a server, by the mark of the tests that use them."""

SLOWEST_FIRST = [
    "system/test_kafka_chaos.py",
    "kafka/test_kafka_serve.py",
    "system/test_kafka_brokers.py",
    "docs/test_readme_walk.py",
    "leadstream/test_restate.py",
    "gateway/test_every_answer_as_of.py",
    "leadstream/test_killed_erasure.py",
    "system/test_crashes.py",
    "kafka/test_kafka_projection.py",
    "gateway/test_openapi_by_schemathesis.py",
    "system/test_kafka_network.py",
    "leadstream/test_demo.py",
    "leadstream/test_hostile_requests.py",
    "drivers/test_drivers_alike.py",
    "kafka/test_read_only_root.py",
    "kafka/test_erasing_on_kafka.py",
    "leadstream/test_erasing.py",
    "dashboard/test_pages_in_chromium.py",
    "dashboard/test_models_in_chromium.py",
    "leadstream/test_backup.py",
    "kafka/test_kafka_unreadable.py",
    "kafka/test_kafka_cross_check.py",
    "system/test_late_ends.py",
    "kafka/test_kafka_retention.py",
    "kafka/test_faust_host.py",
    "producers/test_track_js_in_chromium.py",
    "producers/test_chat_widget_in_chromium.py",
    "dashboard/test_workflows_in_chromium.py",
    "dashboard/test_analytics_in_chromium.py",
    "dashboard/test_experiments_in_chromium.py",
    "kafka/test_kafka_cli.py",
    "kafka/test_kafka_garbage.py",
]
"""Files that take half a minute or more. They start first, so that no process works on one alone at the end."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The number of processes: of `make check` as many as there are cores, of `make test` two more, since tests of servers wait
    for a third of their time.
    """
    waiting = 0 if config.getoption("markexpr") == "pure" else 2
    return min((os.cpu_count() or 1) + waiting, 4)


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the servers that they use, and put slow files first."""
    tests = Path(__file__).parent
    for item in items:
        for mark, fixtures in SERVERS.items():
            if fixtures.intersection(getattr(item, "fixturenames", ())):
                item.add_marker(mark)
        if not any(item.get_closest_marker(mark) for mark in (*SERVERS, "slow", "soak")):
            item.add_marker("pure")
    turns = {tests / name: turn for turn, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: turns.get(item.path, len(turns)))


def pytest_collection() -> None:
    """Ten thousand tests and all modules stay until the end: collections of garbage need not look at them."""
    gc.disable()


def pytest_runtest_teardown() -> None:
    """A command that ran in the test's own process has sent the logs to what was standard error then."""
    structlog.reset_defaults()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's own database; fsync is off, since no test pulls the plug on this one."""
    with server_directory(tmp_path_factory) as data_dir:
        try:
            yield start_postgres(data_dir, {"fsync": "off", "full_page_writes": "off"})
        finally:
            stop_postgres(data_dir)


@contextmanager
def _database(postgres_url: str, created: Callable[[str], Composed]) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(created(name))
    yield postgres_url.replace("/leadstream?", f"/{name}?")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SQL("drop database {} with (force)").format(Identifier(name)))


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database, dropped after the test."""
    with _database(postgres_url, create_database) as url:
        yield url


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """The same; packages whose tests are about what comes after the migrations have `read_models_url` instead."""
    return empty_database_url


@pytest.fixture(scope="session", autouse=True)
def place_of_made_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For `serving` in tests/leadstream/command_line.py: the same place for all processes of a test run."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    os.environ["TESTS_MADE_STORE"] = str(directory / "made-store")


@pytest.fixture(scope="session")
def migrated_once(postgres_url: str) -> Iterator[str]:
    """The name of a database with empty read models, to copy from."""
    with _database(postgres_url, create_database) as url:
        migrate(url)
        yield conninfo_to_dict(url)["dbname"]


class EmptiedCopies(NamedTuple):
    """Of `migrated_once`."""

    description: tuple[object, ...]
    names: list[str]
    """Those that no test uses now."""


@pytest.fixture(scope="session")
def emptied_copies(postgres_url: str, migrated_once: str) -> EmptiedCopies:
    return EmptiedCopies(description_of(postgres_url.replace("/leadstream?", f"/{migrated_once}?")), [])


@pytest.fixture
def read_models_url(postgres_url: str, migrated_once: str, emptied_copies: EmptiedCopies) -> Iterator[str]:
    """A database with empty read models: a copy, since migrations take longer than most tests, or one that a test has left
    as it was but for its rows.
    """
    if emptied_copies.names:
        name = emptied_copies.names.pop()
    else:
        name = f"test_{next(_numbers)}"
        copied = SQL("create database {} template {} strategy file_copy")
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(copied.format(Identifier(name), Identifier(migrated_once)))
    url = postgres_url.replace("/leadstream?", f"/{name}?")
    yield url
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        ending = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s"
        if all(ended for (ended,) in connection.execute(ending, [name])) and emptied(
            url, emptied_copies.description
        ):
            emptied_copies.names.append(name)
        else:
            connection.execute(SQL("drop database {} with (force)").format(Identifier(name)))


@pytest.fixture(scope="session", autouse=True)
def classes_of_brokers(request: pytest.FixtureRequest) -> None:
    if any(item.get_closest_marker("kafka") for item in request.session.items):
        share_loaded_classes()


def share_loaded_classes() -> None:
    """Lets every broker that starts from now on map the classes that one has loaded before: loading them is half of a start.

    The archive stands beside the broker's jars; the first test run on a machine makes it.
    """
    jars = find_jars()
    archive, part = (jars.with_name(f"{jars.name}.{ending}") for ending in ("jsa", "part"))
    if str(archive) in os.environ["JDK_JAVA_OPTIONS"]:
        return
    before = os.environ["JDK_JAVA_OPTIONS"]
    with jars.with_name(f"{jars.name}.jsa-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            with tempfile.TemporaryDirectory(prefix="leadstream-kafka-") as directory:
                made = Path(directory) / "classes"
                os.environ["JDK_JAVA_OPTIONS"] = f"{before} -XX:ArchiveClassesAtExit={made}"
                broker = start_broker(Path(directory) / "broker", free_port())
                made.unlink()  # of the program that has prepared the directory
                os.kill(int((broker.data_dir / "broker.pid").read_text()), signal.SIGTERM)
                broker.wait()  # it writes the archive, which may take longer than an ordinary end
                broker.stop()
                if made.exists():
                    shutil.copy(made, part)
                    part.rename(archive)
    os.environ["JDK_JAVA_OPTIONS"] = (
        f"{before} -XX:SharedArchiveFile={archive}" if archive.exists() else before
    )


PREPARED = ("meta.properties", "bootstrap.checkpoint")
"""What preparing a broker's directory leaves there, by a program of its own; one of a process serves its later brokers, too."""


@contextmanager
def _broker(directories: pytest.TempPathFactory, *, proxy: int | None = None) -> Iterator[Broker]:
    prepared = directories.getbasetemp() / "prepared-log"
    with server_directory(directories) as data_dir:
        if prepared.exists():
            shutil.copytree(prepared, data_dir / "log")
        broker = start_broker(data_dir, free_port(), proxy=proxy)
        if not prepared.exists():
            prepared.mkdir()
            for name in PREPARED:
                shutil.copy(data_dir / "log" / name, prepared)
        try:
            yield broker
        finally:
            broker.kill()


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real broker, started by the first test that asks for it; no test may stop it."""
    with _broker(tmp_path_factory) as broker:
        yield broker


@pytest.fixture(scope="session")
def mortal_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with _broker(tmp_path_factory) as broker:
        yield broker


@pytest.fixture
def own_broker(mortal_broker: Broker) -> Broker:
    """A broker that the test may kill and restart. The next test gets the same one, up again: each needs a prefix of its own."""
    if not mortal_broker.running:
        mortal_broker.restart()
    return mortal_broker


@pytest.fixture(scope="session")
def proxied_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker whose clients at `behind_proxy` are sent to the port `proxy`, where a test has to serve them."""
    with _broker(tmp_path_factory, proxy=free_port()) as broker:
        yield broker


@pytest.fixture
def cluster(kafka_broker: Broker) -> Cluster:
    """A part of the broker that no other test uses."""
    return Cluster(kafka_broker.address, prefix=f"test-{next(_numbers)}-")

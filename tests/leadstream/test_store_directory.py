"""`serve` and `serve --kafka` have a directory each, and a command finds the store whose server runs."""

import contextlib
from pathlib import Path

import pytest

from leadstream.console import Failure
from leadstream.operations import store_directory
from leadstream.operations.store_directory import settings_for_command, settings_for_process_on_kafka
from leadstream.settings import read_settings

HERE, ON_KAFKA = Path(".leadstream"), Path(".leadstream/on-kafka")


@pytest.fixture
def directory(monkeypatch, tmp_path):
    """Makes stores in an empty working directory; `running` are those with a server."""
    for name in ("LEADSTREAM_DATA_DIR", "LEADSTREAM_DATABASE_URL", "LEADSTREAM_KAFKA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def prepare(*stores, running=(), bound=()):
        for store in stores:
            (store / "postgres").mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(store_directory, "running_server", lambda path: path if path in running else None)
        monkeypatch.setattr(store_directory, "find_postgres", lambda _: None)
        monkeypatch.setattr(
            store_directory, "database_server", lambda each: contextlib.nullcontext(lambda: each.data_dir)
        )
        monkeypatch.setattr(store_directory, "_is_bound_to_kafka", lambda url: url in bound)

    return prepare


@pytest.mark.parametrize(
    ("stores", "bound", "expected"),
    [
        ([], [], ON_KAFKA),
        ([HERE], [], ON_KAFKA),
        ([HERE], [HERE], HERE),  # of an earlier version, which used no directory of its own
        ([HERE, ON_KAFKA], [HERE], ON_KAFKA),
    ],
)
def test_a_process_on_kafka_never_takes_the_directory_of_an_embedded_log(directory, stores, bound, expected):
    directory(*stores, bound=bound)
    assert settings_for_process_on_kafka(read_settings(kafka="k:9092")).data_dir == expected


@pytest.mark.parametrize(
    ("stores", "running", "kafka", "expected"),
    [
        ([], [], None, HERE),
        ([HERE, ON_KAFKA], [HERE], None, HERE),
        ([HERE, ON_KAFKA], [ON_KAFKA], None, ON_KAFKA),
        ([HERE, ON_KAFKA], [], None, HERE),
        ([HERE, ON_KAFKA], [], "k:9092", ON_KAFKA),
        ([HERE], [], "k:9092", HERE),
        ([ON_KAFKA], [], None, ON_KAFKA),
    ],
)
def test_a_command_uses_the_store_whose_server_runs(directory, stores, running, kafka, expected):
    directory(*stores, running=running)
    assert settings_for_command(read_settings(kafka=kafka)).data_dir == expected


def test_of_two_running_servers_the_user_names_one(directory):
    directory(HERE, ON_KAFKA, running=[HERE, ON_KAFKA])
    with pytest.raises(Failure, match=r"--data-dir \.leadstream, or --data-dir \.leadstream/on-kafka"):
        settings_for_command(read_settings())


def test_a_directory_or_database_that_the_user_names_is_used_as_it_is(directory, monkeypatch):
    directory(HERE, running=[ON_KAFKA])
    chosen = read_settings(data_dir=HERE, kafka="k:9092")
    elsewhere = read_settings(database_url="postgresql://x/y", kafka="k:9092")
    monkeypatch.setenv("LEADSTREAM_DATA_DIR", "mine")
    from_environment = read_settings(kafka="k:9092")
    for settings, expected in ((chosen, HERE), (elsewhere, HERE), (from_environment, Path("mine"))):
        assert (
            settings_for_process_on_kafka(settings).data_dir
            == settings_for_command(settings).data_dir
            == expected
        )

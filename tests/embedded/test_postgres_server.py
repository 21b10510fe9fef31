"""The embedded PostgreSQL: start, take-over, and clear words when it cannot be had."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from leadstream import embedded_postgres as postgres
from leadstream.embedded_postgres import PostgresUnavailable, find_postgres, start_postgres, stop_postgres
from tests.forked_programs import Program

STARTER = """
import sys, time
from pathlib import Path
from leadstream.embedded_postgres import start_postgres
print(start_postgres(Path(sys.argv[1]), {"fsync": "off"}), flush=True)
exec(sys.argv[2])
"""


@contextmanager
def child(data_dir, then):
    """A process that starts the server in `data_dir` and does `then`; killed at the end. With its URL."""
    with Program(
        [sys.executable, "-c", STARTER, str(data_dir), then],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def ask(url, question):
    with psycopg.connect(url) as connection:
        return connection.execute(question).fetchone()[0]


def postmaster(data_dir):
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def test_a_fresh_directory_becomes_a_database_that_sorts_by_code_point(empty_data_dir):
    url = start_postgres(empty_data_dir / "made" / "on the way's")
    assert ask(url, "select string_agg(x, '' order by x) from unnest('{a,B,ä,b,A}'::text[]) x") == "ABabä"
    assert ask(url, "select current_database()") == "leadstream"
    assert ask(url, "show server_version").startswith("18")
    assert ask(url, "show listen_addresses") == ""
    assert ask(url, "show jit") == "off"
    stop_postgres(empty_data_dir / "made" / "on the way's")


def test_starting_twice_in_one_process_is_the_same_server(tmp_data_dir):
    assert start_postgres(tmp_data_dir) == start_postgres(tmp_data_dir)


def test_what_was_written_is_there_after_a_stop_and_a_start(tmp_data_dir):
    url = start_postgres(tmp_data_dir)
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select 7 as n")
    stop_postgres(tmp_data_dir)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    assert ask(start_postgres(tmp_data_dir), "select n from kept") == 7


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_data_dir):
    deep = tmp_data_dir / ("x" * 120)
    deep.mkdir()
    (tmp_data_dir / "postgres").rename(deep / "postgres")
    url = start_postgres(deep)
    directory = Path(ask(url, "show unix_socket_directories"))
    assert directory.stat().st_mode & 0o077 == 0
    stop_postgres(deep)
    directory.rmdir()


@pytest.fixture
def deep(empty_data_dir, monkeypatch):
    """A data directory whose path is too long for a socket; TMPDIR is as open to everybody as /tmp is."""
    shared = empty_data_dir / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    empty_data_dir.chmod(0o755)
    monkeypatch.setattr(postgres.tempfile, "tempdir", str(shared))
    return empty_data_dir / ("x" * 100)


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o000])
def test_a_socket_directory_that_is_there_already_is_closed_to_others(deep, mode):
    directory = postgres._socket_dir(deep / "postgres")
    directory.mkdir()
    directory.chmod(mode)
    start_postgres(deep)
    assert directory.stat().st_mode & 0o7777 == 0o700
    assert find_postgres(deep) is not None
    stop_postgres(deep)


def foreign_directory(path):
    path.mkdir(mode=0o777)
    os.chown(path, 12345, -1)


def foreign_link(path):
    path.symlink_to(path.parent)


def foreign_socket(path):
    """Somebody made it in time, and what listens there is theirs, though the directory is ours."""
    path.mkdir()
    path.chmod(0o777)
    (path / ".s.PGSQL.5432").touch()
    os.chown(path / ".s.PGSQL.5432", 12345, -1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("made", [foreign_directory, foreign_link, foreign_socket])
def test_a_socket_directory_that_others_have_filled_is_refused_by_everybody(deep, made):
    directory = postgres._socket_dir(deep / "postgres")
    made(directory)
    for find in (start_postgres, find_postgres):
        with pytest.raises(PostgresUnavailable, match=rf"{directory}.* belongs to another user.*TMPDIR"):
            find(deep)
    assert directory.lstat().st_uid == (12345 if made is foreign_directory else 0)


def test_settings_are_taken(tmp_data_dir):
    assert ask(start_postgres(tmp_data_dir, {"shared_buffers": "32MB"}), "show shared_buffers") == "32MB"


def test_the_server_stops_when_its_process_ends(tmp_data_dir):
    with child(tmp_data_dir, "pass") as (process, url):
        process.wait(30)
    assert find_postgres(tmp_data_dir) is None
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_a_server_that_outlived_its_killed_owner_is_taken_over_and_stopped(tmp_data_dir):
    with child(tmp_data_dir, "time.sleep(60)") as (_, url):
        pid = postmaster(tmp_data_dir)
    assert start_postgres(tmp_data_dir) == url
    assert postmaster(tmp_data_dir) == pid
    stop_postgres(tmp_data_dir)
    assert find_postgres(tmp_data_dir) is None


def test_a_killed_server_recovers(tmp_data_dir):
    url = start_postgres(tmp_data_dir)
    for n in range(3):
        with psycopg.connect(url) as connection:
            connection.execute("create table if not exists kept (n int)")
            connection.execute("insert into kept values (%s)", (n,))
        os.kill(postmaster(tmp_data_dir), signal.SIGKILL)
        assert start_postgres(tmp_data_dir) == url
        assert ask(url, "select count(*) from kept") == n + 1


def test_a_directory_in_use_by_another_process_is_refused_with_its_pid(tmp_data_dir):
    with child(tmp_data_dir, "time.sleep(60)") as (process, url):
        with pytest.raises(PostgresUnavailable, match=rf"pid {process.pid}.*stop that one first"):
            start_postgres(tmp_data_dir)
        assert find_postgres(tmp_data_dir) == url
    assert start_postgres(tmp_data_dir) == url


def test_stopping_a_server_of_another_process_does_nothing(tmp_data_dir):
    with child(tmp_data_dir, "time.sleep(60)") as (_, url):
        stop_postgres(tmp_data_dir)
        assert ask(url, "select 1") == 1
    start_postgres(tmp_data_dir)


def test_data_of_another_postgresql_is_refused(empty_data_dir):
    (empty_data_dir / "postgres").mkdir()
    marker = empty_data_dir / "postgres" / "PG_VERSION"
    marker.write_text("19\n")
    with pytest.raises(PostgresUnavailable, match=r"PostgreSQL 19.*upgrade Leadstream"):
        start_postgres(empty_data_dir)
    marker.write_text("16\n")
    with pytest.raises(PostgresUnavailable, match=r"PostgreSQL 16.*import it here"):
        start_postgres(empty_data_dir)
    assert find_postgres(empty_data_dir) is None


def test_a_place_that_cannot_be_a_directory_is_refused(empty_data_dir):
    (empty_data_dir / "file").write_text("")
    with pytest.raises(PostgresUnavailable, match="--data-dir"):
        start_postgres(empty_data_dir / "file" / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_an_unwritable_directory_is_refused_with_the_remedy(empty_data_dir):
    script = (
        f"import os, sys; sys.path[:0] = {sys.path!r}; import leadstream.embedded_postgres as p; from pathlib import Path\n"
        f"os.setgid(65534); os.setuid(65534)\n"
        f"try: p.start_postgres(Path({str(empty_data_dir)!r}))\n"
        f"except p.PostgresUnavailable as error: print(error)"
    )
    empty_data_dir.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "cannot be written" in done.stdout, done.stderr
    assert "--data-dir" in done.stdout


def test_files_in_the_way_of_a_new_cluster_are_named(empty_data_dir):
    (empty_data_dir / "postgres").mkdir()
    (empty_data_dir / "postgres" / "stray").write_text("")
    with pytest.raises(PostgresUnavailable, match="not empty"):
        start_postgres(empty_data_dir)


def test_a_long_log_of_the_server_begins_anew_and_one_old_one_is_kept(tmp_data_dir, monkeypatch):
    log = tmp_data_dir / "postgres" / "log"
    log.write_text("first\n" * 10)
    monkeypatch.setattr(postgres, "_LONGEST_LOG_BYTES", 20)
    start_postgres(tmp_data_dir)
    assert log.with_name("log.old").read_text() == "first\n" * 10
    assert "ready to accept" in log.read_text()
    stop_postgres(tmp_data_dir)
    start_postgres(tmp_data_dir)
    assert "ready to accept" in log.with_name("log.old").read_text()


def test_a_server_that_cannot_start_says_why(tmp_data_dir, monkeypatch):
    monkeypatch.setattr(postgres, "_RETRY_SECONDS", 0.5)
    with pytest.raises(PostgresUnavailable, match="no_such_setting"):
        start_postgres(tmp_data_dir, {"no_such_setting": "1"})


def test_a_dead_servers_pid_that_another_program_has_by_now_is_no_obstacle(tmp_data_dir):
    url = start_postgres(tmp_data_dir)
    pid_file = tmp_data_dir / "postgres" / "postmaster.pid"
    content = pid_file.read_text().splitlines()
    stop_postgres(tmp_data_dir)
    with subprocess.Popen(["sleep", "60"], user=postgres._system_user()) as sleeper:
        pid_file.write_text("\n".join([str(sleeper.pid), *content[1:]]) + "\n")
        shutil.chown(pid_file, tmp_data_dir.joinpath("postgres").owner())
        began = time.monotonic()
        assert start_postgres(tmp_data_dir) == url
        assert time.monotonic() - began < 10
        assert sleeper.poll() is None
        sleeper.kill()

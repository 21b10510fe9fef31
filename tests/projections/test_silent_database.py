"""PostgreSQL, or the path to it, falls silent in every way that we know: nobody waits for it without bound, and
nobody gives up what only takes long.
"""

import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tcp_proxy import Proxy

from leadstream.embedded_postgres import start_postgres, stop_postgres
from projections import connection
from projections.connection import BoundedAsyncConnection, connect_watched, connection_parameters

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(connection, "_PROBE_SECONDS", 2)


@pytest.fixture
def proxy(database_url):
    proxy = Proxy(database_url)
    yield proxy
    proxy.close()


def test_a_statement_on_a_dead_path_ends_and_says_that_the_server_does_not_answer(proxy):
    with connect_watched(proxy.url) as asking:
        asking.execute("select 1")
        proxy.silent()
        with pytest.raises(psycopg.OperationalError, match="does not answer a second connection either"):
            asking.execute("select 2")
        assert asking.closed


def test_a_connection_that_alone_is_dead_ends_although_the_server_answers_others(proxy):
    with connect_watched(proxy.url) as asking:
        asking.execute("select 1")
        proxy.silent()
        proxy.passing()
        with pytest.raises(psycopg.OperationalError, match=r"waits for this program .*drops the messages"):
            asking.execute("select 2")


def send(cursor, proxy):
    with cursor.copy("copy t from stdin") as copy:
        for number in range(100_000):
            if number == 10:
                proxy.silent()
                proxy.passing()
            copy.write_row(("x" * 10_000,))


def receive(cursor, proxy):
    query = "copy (select repeat('x', 10000) from generate_series(1, 100000)) to stdout"
    with cursor.copy(query) as copy:
        for number, _ in enumerate(copy):
            if number == 10:
                proxy.silent()
                proxy.passing()


@pytest.mark.parametrize("stream", [send, receive])
def test_a_stream_of_rows_that_stops_in_the_middle_ends(proxy, stream):
    with connect_watched(proxy.url, autocommit=True) as asking, asking.cursor() as cursor:
        cursor.execute("create temporary table t (x text)")
        with pytest.raises(psycopg.OperationalError, match="drops the messages"):
            stream(cursor, proxy)


def test_a_long_statement_and_a_wait_for_a_lock_are_not_ended(database_url):
    with connect_watched(database_url, autocommit=True) as asking, psycopg.connect(database_url) as other:
        asking.execute("select pg_sleep(2)")
        asking.execute("create table t (x int)")
        other.execute("lock table t")
        letting_go = threading.Timer(2, other.rollback)
        letting_go.start()
        asking.execute("insert into t values (1)")
        letting_go.join()


def test_a_server_that_has_no_room_for_another_question_is_not_taken_for_dead(database_url, monkeypatch):
    def full(*_arguments, **_options):
        raise psycopg.errors.TooManyConnections

    with connect_watched(database_url) as asking:
        monkeypatch.setattr(connection._ProbeConnection, "connect", full)
        asking.execute("select pg_sleep(1.5)")


@contextmanager
def frozen(data_dir: Path):
    """Every process of the server, stopped."""
    postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    children = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _parent(entry) == postmaster
    ]
    for pid in (postmaster, *children):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in (postmaster, *children):
            os.kill(pid, signal.SIGCONT)


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_a_server_that_is_stopped_is_given_up(tmp_path):
    url = start_postgres(tmp_path)
    try:
        with connect_watched(url) as asking:
            asking.execute("select 1")
            with frozen(tmp_path):
                with pytest.raises(psycopg.OperationalError, match="does not answer a second connection"):
                    asking.execute("select 2")
                with pytest.raises(psycopg.OperationalError, match="timeout"):
                    connect_watched(url, connect_timeout=2)
    finally:
        stop_postgres(tmp_path)


async def _asked(proxy: Proxy) -> None:
    url = proxy.url
    async with await BoundedAsyncConnection.connect(
        url, **connection_parameters(url, autocommit=True)
    ) as asking:
        asking.patience = 0.4
        await asking.execute("select 1")
        proxy.silent()
        with pytest.raises(psycopg.OperationalError, match=r"sent nothing for 0\.4 s"):
            await asking.execute("select 2")
        assert asking.closed


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_short_question_ends_on_every_event_loop(proxy, loop):
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(_asked(proxy))


def test_what_the_address_says_itself_is_left_to_it():
    asked = connection_parameters(
        "postgresql://u@h/d?connect_timeout=60&tcp_user_timeout=5", options="-c x=y"
    )
    assert "connect_timeout" not in asked
    assert "tcp_user_timeout" not in asked
    assert (asked["keepalives_idle"], asked["options"]) == (10, "-c x=y")

"""Kafka or Postgres goes away under a projection, and comes back: it says so, waits and goes on by itself."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from projected_topics import Projection, Writer, await_all, make_topics, projecting, wait_until
from projection_records import attached, page_view
from tcp_proxy import Proxy

from leadstream.operations.kafka_projection import run_projection
from projections import connection
from projections.metrics import UnprojectedRecords, exposition
from schemas.record import Outgoing
from schemas.topics import SCORE_CHANGED
from streams.kafka.cluster import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        return int(connection.execute("select count(*) from live.engagement_history").fetchone()[0])


def test_kafka_may_be_killed_and_come_back(own_broker, database_url):
    cluster = Cluster(own_broker.address, prefix="comes-back-")
    make_topics(cluster)
    with projecting(cluster, lambda: database_url) as projection:
        with Writer(cluster) as writer:
            writer.write([attached("default/v/a#0", "l", n, page_view(f"e{n}")) for n in range(1, 50)])
        await_all(cluster, database_url, projection)
        own_broker.kill()
        wait_until(lambda: isinstance(projection.said[-1], str), "it says that it waits", projection)
        own_broker.restart()
        wait_until(lambda: projection.said[-1] is None, "it says that it goes on", projection)
        with Writer(cluster) as writer:
            writer.write([attached("default/v/a#0", "l", n, page_view(f"e{n}")) for n in range(50, 60)])
        await_all(cluster, database_url, projection)

        own_broker.kill()
        wait_until(lambda: isinstance(projection.said[-1], str), "it says that it waits", projection)
        begun = time.monotonic()
        projection.stop()
        assert time.monotonic() - begun < 20, "it stops also while it waits"
    assert f"Kafka at {own_broker.address}" in str(projection.said[1])
    assert [said is None for said in projection.said][:3] == [True, False, True]
    assert count(database_url) == 59

    with projecting(cluster, lambda: database_url) as projection:
        wait_until(lambda: bool(projection.said), "it says that it waits", projection)
        assert "does not answer" in str(projection.said[0])
        own_broker.restart()
        wait_until(lambda: projection.said[-1] is None, "it follows", projection)
        projection.stop()


def metric(page: str, name: str) -> float:
    (line,) = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


def test_a_postgres_that_falls_silent_pauses_it_within_seconds_and_it_goes_on_by_itself(
    cluster, database_url, monkeypatch
):
    """The path passes nothing on, and every connection stays open: what was written in between shows afterwards."""
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.5)
    make_topics(cluster)
    proxy, waiting = Proxy(database_url), UnprojectedRecords()
    said: list[str | None] = []
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads, Writer(cluster) as writer:
        running = threads.submit(
            run_projection, cluster, lambda: proxy.url, stop=stop, failing=said.append, waiting=waiting
        )
        projection = Projection(running, stop)
        try:
            writer.write([attached("default/v/a#0", "l", 1, page_view("e1"))])
            await_all(cluster, database_url, projection)
            foreign = metric(exposition().decode(), "leadstream_projection_foreign_records_total")
            proxy.silent()
            writer.write([attached("default/v/a#0", "l", n, page_view(f"e{n}")) for n in range(2, 120)])
            writer.write([Outgoing(SCORE_CHANGED, "default/l/l", b"none of ours", 0)])
            wait_until(lambda: said[-1] is not None, "it says that it waits", projection)
            assert said[-1] == "The database does not answer."
            page = exposition(waiting.oldest_age_seconds()).decode()
            assert metric(page, 'leadstream_projection_paused{reason="database"}') == 1
            assert metric(page, 'leadstream_projection_paused{reason="kafka"}') == 0
            assert metric(page, "leadstream_projection_lag_seconds") > 0
            proxy.passing()
            wait_until(lambda: said[-1] is None, "it says that it goes on", projection)
            await_all(cluster, database_url, projection)
            page = exposition(waiting.oldest_age_seconds()).decode()
            assert metric(page, 'leadstream_projection_paused{reason="database"}') == 0
            assert metric(page, "leadstream_projection_foreign_records_total") == foreign + 1
            wait_until(lambda: waiting.oldest_age_seconds() == 0, "nothing waits", projection)
        finally:
            stop.set()
            proxy.close()
        running.result(30)
    assert count(database_url) == 119


def test_it_stops_in_time_while_postgres_is_silent(cluster, database_url):
    make_topics(cluster)
    proxy = Proxy(database_url)
    with projecting(cluster, lambda: proxy.url) as projection, Writer(cluster) as writer:
        wait_until(lambda: projection.said == [None], "it follows", projection)
        proxy.silent()
        writer.write([attached("default/v/a#0", "l", 1, page_view("e1"))])
        begun = time.monotonic()
        projection.stop()
        assert time.monotonic() - begun < 15, "a supervisor kills after so long"
    proxy.close()

"""Kafka goes away under a projection, and comes back: it says so, waits and goes on by itself."""

import time

import psycopg
import pytest
from projected_topics import Writer, await_all, make_topics, projecting, wait_until
from projection_records import attached, page_view

from deploy.kafka.broker import free_port, start
from streams.kafka.cluster import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    """A broker of this module's own, to be killed."""
    broker = start(tmp_path_factory.mktemp("kafka-projection"), free_port())
    try:
        yield broker
    finally:
        broker.kill()


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        return int(connection.execute("select count(*) from live.engagement_history").fetchone()[0])


def test_kafka_may_be_killed_and_come_back(mortal, database_url):
    cluster = Cluster(mortal.address)
    make_topics(cluster)
    with projecting(cluster, lambda: database_url) as projection:
        with Writer(cluster) as writer:
            writer.write([attached("default/v/a#0", "l", n, page_view(f"e{n}")) for n in range(1, 50)])
        await_all(cluster, database_url, projection)
        mortal.kill()
        wait_until(lambda: isinstance(projection.said[-1], str), "it says that it waits", projection)
        mortal.restart()
        wait_until(lambda: projection.said[-1] is None, "it says that it goes on", projection)
        with Writer(cluster) as writer:
            writer.write([attached("default/v/a#0", "l", n, page_view(f"e{n}")) for n in range(50, 60)])
        await_all(cluster, database_url, projection)

        mortal.kill()
        wait_until(lambda: isinstance(projection.said[-1], str), "it says that it waits", projection)
        begun = time.monotonic()
        projection.stop()
        assert time.monotonic() - begun < 20, "it stops also while it waits"
    assert f"Kafka at {mortal.address}" in str(projection.said[1])
    assert [said is None for said in projection.said][:3] == [True, False, True]
    assert count(database_url) == 59

    with projecting(cluster, lambda: database_url) as projection:
        wait_until(lambda: bool(projection.said), "it says that it waits", projection)
        assert "does not answer" in str(projection.said[0])
        mortal.restart()
        wait_until(lambda: projection.said[-1] is None, "it follows", projection)
        projection.stop()

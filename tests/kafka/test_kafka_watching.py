"""What shows that something is wrong on Kafka: how long records wait, who reads them, and who ends or pauses."""

import asyncio
import socket
import time
from pathlib import Path

import httpx
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from projected_topics import PARTITIONS, Writer, make_topics
from test_kafka_cli import done, running

from leadstream.operations.doctor_kafka import journal_findings
from leadstream.operations.lag import open_lag_meter
from leadstream.stages import SOURCE_BY_STAGE
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY
from streams.kafka import journal
from streams.kafka.journal import Journal, JournalNote, most_starts_and_fencings
from tests.ports import free_port
from tests.projections.tcp_proxy import Proxy

pytestmark = [pytest.mark.kafka]

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
SECONDS = 180.0


def measured(cluster):
    async def measure():
        async with open_lag_meter(cluster, SOURCE_BY_STAGE, NOWHERE) as lag:
            return await lag.measure()

    return asyncio.run(measure())


def noted(cluster):
    async def read():
        async with open_lag_meter(cluster, SOURCE_BY_STAGE, NOWHERE) as lag:
            await lag.partitions()
            return await lag.journal()

    return asyncio.run(read())


@pytest.fixture
def topics(cluster):
    make_topics(cluster)
    return cluster


def event(number, key="default/v/a"):
    return Outgoing(EVENTS, key, b'{"n": %d}' % number)


def test_the_oldest_record_that_waits_has_an_age_whatever_is_in_it(topics):
    assert measured(topics).ages == {"track_sessions": 0.0, "score_leads": 0.0}
    with Writer(topics) as writer:
        writer.write([event(1)])
        first = time.time()
        time.sleep(4)
        writer.write([Outgoing(EVENTS, "default/v/b", b"\xff none of ours"), event(2)])
        ages = measured(topics).ages
        least = time.time() - first
        assert ages["score_leads"] == 0.0
        assert 0.9 * least < ages["track_sessions"] < 2 * least + 5, "that of the first, not of the newest"


def test_what_nobody_owns_is_counted_until_somebody_does(topics):
    async def owned_by_somebody():
        consumer = AIOKafkaConsumer(**topics.client(), group_id=topics.group, auto_offset_reset="earliest")
        consumer.subscribe([topics.topic(EVENTS)])
        await consumer.start()
        try:
            async with open_lag_meter(topics, SOURCE_BY_STAGE, NOWHERE) as lag, asyncio.timeout(SECONDS):
                while (backlog := await lag.measure()).unowned["track_sessions"]:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.2)
                return backlog
        finally:
            await consumer.stop()

    with Writer(topics) as writer:
        writer.write([event(n, f"default/v/{n}") for n in range(30)])
        writer.write([Outgoing(LEAD_ACTIVITY, "default/l/a", b"{}")])
        alone = measured(topics)
        assert alone.unowned == {"track_sessions": alone.stages["track_sessions"], "score_leads": 2}, (
            "a mark counts"
        )
        assert alone.stages["track_sessions"] == 30 + PARTITIONS
        backlog = asyncio.run(owned_by_somebody())
        assert backlog.unowned == {"track_sessions": 0, "score_leads": 2}
        assert backlog.stages == alone.stages


def test_starts_are_on_record_whoever_writes_them_and_the_doctor_tells_a_crash_loop(topics):
    for name, times in (("w1", 5), ("w2", 2)):
        for _ in range(times):
            Journal(topics, "worker", name).note("started").join(SECONDS)
    Journal(topics, "worker", "w1").note("fenced", "Another worker has taken over.").join(SECONDS)
    Journal(topics, "projection", "p1").note("started").join(SECONDS)
    found = noted(topics)
    assert most_starts_and_fencings(found, int(time.time())) == {"worker": 5, "projection": 1, "fenced": 1}
    (finding,) = journal_findings(found, int(time.time()))
    assert (finding.health, finding.subject) == ("fail", "Worker w1")
    assert "was started 5 times within 30 min" in finding.state
    assert "Another worker has taken over" in finding.state
    later = int(time.time()) + 1_801
    assert most_starts_and_fencings(found, later) == {"worker": 0, "projection": 0, "fenced": 0}
    assert not list(journal_findings(found, later))


def test_a_projection_that_waits_is_told_until_it_goes_on():
    started = JournalNote(1_000, "projection", "p", "started")
    paused = JournalNote(1_060, "projection", "p", "paused", "The database does not answer.")
    resumed = JournalNote(1_300, "projection", "p", "resumed")
    (finding,) = journal_findings([started, paused], 1_360)
    assert (finding.health, finding.state) == ("fail", "has paused for 5 min: The database does not answer")
    assert not list(journal_findings([started, paused, resumed], 1_360))


def test_the_journal_keeps_the_newest_notes_within_what_a_broker_takes():
    notes = [JournalNote(number, "worker", "ü" * 100, "ended", '"' * 200) for number in range(100)]
    text = journal._notes_as_json(notes)
    kept = journal._notes_in(text)
    assert len(text.encode()) <= 4_096
    assert kept == notes[-len(kept) :]
    assert len(kept) > 3
    assert journal._notes_in("garbage") == []


def unready(port):
    """What a projection says at its port; None while it does not answer."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=10)
    except httpx.TransportError:
        return None


def until(condition, what):
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


@pytest.mark.postgres
@pytest.mark.slow
def test_a_projection_waits_for_a_postgres_that_starts_and_says_so(cluster, database_url, tmp_path: Path):
    """At its port, to the doctor, and to Prometheus; a second one on the same port names the setting."""
    make_topics(cluster)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        later = probe.getsockname()[1]
    port = free_port()
    settings = {
        "LEADSTREAM_KAFKA": cluster.brokers,
        "LEADSTREAM_KAFKA_PREFIX": cluster.prefix,
        "LEADSTREAM_DATA_DIR": str(tmp_path / "data"),
        "LEADSTREAM_PROJECTION_PORT": str(port),
        "LEADSTREAM_WORKER_ID": "p1",
        "LEADSTREAM_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{later}{database_url.partition('@')[2].partition('?')[0]}",
    }
    with running("project", said=tmp_path / "project", **settings):
        said = until(
            lambda: (a := unready(port)) and a.json()["reason"] == "The database does not answer." and a,
            "it waits",
        )
        assert said.status_code == 503
        until(lambda: any(note.happened == "paused" for note in noted(cluster)), "it is on record")
        told = done("doctor", code=1, **settings)
        assert "fail Projection p1: has paused for" in told
        assert "fail Projection here: is paused: The database does not answer" in told
        again = done("project", code=1, **settings)
        assert "LEADSTREAM_PROJECTION_PORT" in again
        assert f"127.0.0.1:{port}" in again
        proxy = Proxy(database_url, later)
        try:
            until(lambda: (a := unready(port)) and a.status_code == 200, "it goes on")
            page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
            assert 'leadstream_projection_paused{reason="database"} 0.0' in page
            until(lambda: noted(cluster)[-1].happened == "resumed", "it is on record")
            with psycopg.connect(database_url) as connection:
                assert connection.execute("select count(*) from live.leads").fetchone() == (0,)
        finally:
            proxy.close()

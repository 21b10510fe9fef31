"""Projecting from a real Kafka into a real PostgreSQL: every record counts once, whoever reads it when."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from projected_topics import (
    PARTITIONS,
    Writer,
    await_all,
    ends_of,
    followed_topics,
    let_go,
    make_topics,
    projecting,
    wait_until,
)
from projection_records import (
    attached,
    batch,
    contents,
    contents_without_places,
    empty,
    page_view,
    recorded,
    score_changed,
)

from leadstream.operations.kafka_projection import projection_positions, rebuild_from_kafka, run_projection
from projections.migrate import migrate
from projections.rebuild import HistoryLostError, RebuildRunsError
from projections.source import SourceError
from projections.worker import project_records
from schemas.decode import encode_source
from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_SCORES, SCORE_CHANGED, partition_of
from streams.kafka.cluster import Cluster
from streams.kafka.following import PositionOutOfRange

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

WRITING_SECONDS = 0.05
"""Between two batches that are written while something else runs: as fast as possible, they would be most of the work."""


def batches(start: int, stop: int) -> list[Outgoing]:
    return [said for n in range(start, stop) for said in batch(n)]


@pytest.fixture
def topics(cluster):
    make_topics(cluster)
    return cluster


@pytest.fixture
def writer(topics):
    with Writer(topics) as writer:
        yield writer


def rows_of(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return contents_without_places(connection)


def embedded_rows(url: str, said: list[Outgoing]) -> dict[str, list[tuple[Any, ...]]]:
    """Those of an embedded log that holds the same records; nothing of it stays."""
    migrate(url)
    with psycopg.connect(url) as connection:
        project_records(connection, recorded(said))
        return contents_without_places(connection)  # which rolls back


def test_rows_are_those_of_an_embedded_log(topics, writer, database_url):
    """Whatever transactions the records came in, and without what an aborted one said."""
    said = batches(0, 60)
    expected = embedded_rows(database_url, said)
    with projecting(topics, lambda: database_url) as projection:
        for start in range(0, len(said), 37):
            writer.write(batches(900, 902), abort=True)
            writer.write(said[start : start + 37])
        await_all(topics, database_url, projection)
        projection.stop()
    assert projection.said == [None]
    assert rows_of(database_url) == expected


def test_it_goes_on_where_it_stopped(topics, writer, database_url):
    said = batches(0, 20)
    expected = embedded_rows(database_url, said)
    for start in range(0, len(said), 50):
        writer.write(said[start : start + 50])
        with projecting(topics, lambda: database_url) as projection:
            await_all(topics, database_url, projection)
            projection.stop()
    assert rows_of(database_url) == expected


def test_it_stops_within_seconds(topics, database_url):
    with projecting(topics, lambda: database_url) as projection:
        wait_until(lambda: projection.said == [None], "it follows", projection)
        begun = time.monotonic()
        projection.stop()
        assert time.monotonic() - begun < 8


def test_events_are_archived_and_the_workers_state_is_shown(topics, writer, database_url):
    """The broker's time stands for a missing `recorded_at`; a dead letter is not archived, and a record in
    another partition than its key's is one.
    """
    elsewhere = (partition_of("default/v/v", PARTITIONS) + 1) % PARTITIONS
    changelog = topics.name_of(topics.changelog("score_leads"))
    bare = page_view("e1")
    value = encode_source(bare).replace(b'"recorded_at":"2026-01-01T00:00:00Z",', b"")
    assert b"recorded_at" not in value
    begun = time.time()
    with projecting(topics, lambda: database_url) as projection:
        writer.write(
            [
                Outgoing(EVENTS, "default/v/v", value),
                Outgoing(EVENTS, "default/v/v", b"\xff"),
                Outgoing(EVENTS, "default/v/v", encode_source(page_view("e2")), elsewhere),
                Outgoing(changelog, "default/l/l\0id:i", b"features", 1),
                Outgoing(changelog, "default/l/l\0", b"17", 1),
                Outgoing(changelog, "default/l/gone\0", b"5", 1),
                Outgoing(changelog, "default/l/gone\0", None, 1),
                Outgoing(changelog, "~\0models", b"m", 1),
            ]
        )
        await_all(topics, database_url, projection)
        projection.stop()
    with psycopg.connect(database_url) as connection:
        archive = connection.execute(
            "select key, convert_from(value, 'utf8')::jsonb->>'event_id', extract(epoch from recorded_at) "
            "from public.event_archive"
        ).fetchall()
        features = connection.execute("select key, encoded from live.lead_features").fetchall()
        dues = connection.execute("select * from live.lead_dues").fetchall()
        shared = connection.execute("select * from live.shard_state").fetchall()
    ((key, event_id, at),) = archive
    assert (key, event_id) == ("default/v/v", "e1")
    assert begun - 60 < float(at) < time.time() + 60
    assert features == [("default/l/l", b"features")]
    assert dues == [("default/l/l", 17)]
    assert shared == [("score_leads", 1, "models", b"m")]


def test_workers_that_come_and_go_never_count_twice_nor_miss(topics, writer, database_url):
    """Partitions change hands all the while; what was left in mid-course is taken up by another."""
    done = threading.Event()
    stays = itertools.count()
    stayed = 0

    def come_and_go(seconds: float) -> None:
        nonlocal stayed
        while not done.is_set():
            with projecting(topics, lambda: database_url) as projection:
                wait_until(lambda: bool(projection.said) or done.is_set(), "it follows", projection)
                done.wait(seconds)
                projection.stop()
            stayed = next(stays)

    with ThreadPoolExecutor() as threads:
        workers = [threads.submit(come_and_go, seconds) for seconds in (0.1, 1.1, 60.0)]
        try:
            for n in itertools.count():
                writer.write(batch(n))
                if n >= 100 and stayed >= 6:
                    break
            await_all(topics, database_url)
        finally:
            done.set()
        for worker in workers:
            worker.result(60)
    live = rows_of(database_url)
    assert live == embedded_rows_instead(database_url, batches(0, n + 1))


def test_a_rebuild_beside_a_live_worker_gives_the_same_rows(topics, writer, database_url):
    """Records are written all the while; two rebuilds come and go."""
    with projecting(topics, lambda: database_url) as projection:
        writer.write(batches(0, 30))
        await_all(topics, database_url, projection)
        stop = threading.Event()

        def write() -> int:
            with Writer(topics, "second") as second:
                for n in itertools.count(30):
                    second.write(batches(n, n + 1))
                    if stop.wait(WRITING_SECONDS):
                        return n + 1
            return 0

        with ThreadPoolExecutor() as threads:
            writing = threads.submit(write)
            try:
                for _ in range(2):
                    rebuild_from_kafka(topics, database_url)
            finally:
                stop.set()
            count = writing.result(60)
        await_all(topics, database_url, projection)
        projection.stop()
    assert projection.said == [None]
    with psycopg.connect(database_url) as connection:
        live = contents(connection)
        rebuild_from_kafka(topics, database_url)
        assert contents(connection) == live
    live_rows = rows_of(database_url)
    assert live_rows == embedded_rows_instead(database_url, batches(0, count))


def embedded_rows_instead(url: str, said: list[Outgoing]) -> dict[str, list[tuple[Any, ...]]]:
    """In the same database, in place of what is there."""
    with psycopg.connect(url) as connection:
        empty(connection)
    return embedded_rows(url, said)


def test_a_rebuild_tells_how_far_it_is_and_is_alone(topics, writer, database_url):
    writer.write(batches(0, 10))
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        if not told:
            with pytest.raises(RebuildRunsError):
                rebuild_from_kafka(topics, database_url)
        told.append((done, total))

    rebuild_from_kafka(topics, database_url, progress=progress)
    total = sum(ends_of(topics, [topic for topic in followed_topics(topics) if topic != EVENTS]).values())
    assert told[-1] == (total, total)
    assert told == sorted(told)


# What is let go, lost or of another log


def test_a_database_that_is_new_begins_where_the_topics_do(topics, writer, database_url):
    writer.write(batches(0, 30))
    let_go(topics, SCORE_CHANGED, 5)
    with projecting(topics, lambda: database_url) as projection:
        await_all(topics, database_url, projection)
        projection.stop()
    assert 0 < len(rows_of(database_url)["score_history"]) < 30


@pytest.mark.parametrize(("topic", "lost"), [(SCORE_CHANGED, "score_history"), (EVENTS, "event_archive")])
def test_a_position_that_kafka_let_go_names_the_rebuild_which_goes_on_once_the_loss_is_accepted(
    topics, writer, database_url, topic, lost
):
    events = [Outgoing(EVENTS, "default/v/v", encode_source(page_view(f"e{n}"))) for n in range(20)]
    writer.write([*batches(0, 1), *events[:1]])
    with projecting(topics, lambda: database_url) as projection:
        await_all(topics, database_url, projection)
        projection.stop()
    writer.write([*batches(1, 30), *events[1:]])
    let_go(topics, topic, 8)
    with pytest.raises(
        PositionOutOfRange, match=rf"{topic}/\d: .*no longer holds position \d.*leadstream rebuild"
    ):
        run_projection(topics, lambda: database_url, stop=threading.Event(), failing=lambda _: None)
    before = rows_of(database_url)
    with pytest.raises(HistoryLostError, match=rf"{lost} \(up to .*--accept-loss {lost}"):
        rebuild_from_kafka(topics, database_url)
    assert rows_of(database_url) == before
    rebuild_from_kafka(topics, database_url, accept_loss=[lost])
    with projecting(topics, lambda: database_url) as projection:
        writer.write(batches(30, 31))
        await_all(topics, database_url, projection)
        projection.stop()
    with psycopg.connect(database_url) as connection:
        (archived,) = connection.execute("select count(*) from live.event_archive").fetchone()
    assert archived == (20 if topic == SCORE_CHANGED else 20 - 6), "the six of 2 to 7 are lost"
    assert len(rows_of(database_url)["engagement_history"]) >= 62


def test_a_position_that_is_let_go_while_it_follows_is_named_too(topics, writer, database_url, monkeypatch):
    """The worker sleeps over it."""
    from leadstream.operations import kafka_projection as running

    asleep, awake = threading.Event(), threading.Event()
    original = running.project_chunks

    def slow(connection, chunks):
        taken = original(connection, chunks)
        if any(chunk.topic == SCORE_CHANGED and chunk.records for chunk in chunks):
            asleep.set()
            awake.wait(60)
        return taken

    monkeypatch.setattr(running, "project_chunks", slow)
    monkeypatch.setattr("streams.kafka.following.FETCHED_BYTES", 1)  # one batch is read ahead, no more
    with projecting(topics, lambda: database_url) as projection:
        wait_until(lambda: projection.said == [None], "it follows", projection)
        for n in range(20):
            writer.write([score_changed("l", n, [("g", "r", 1)], n)])
            wait_until(asleep.is_set, "it sleeps", projection)
        let_go(topics, SCORE_CHANGED, 30)
        awake.set()
        with pytest.raises(PositionOutOfRange, match="leadstream rebuild"):
            projection.running.result(60)


def test_positions_that_were_moved_back_are_gone_on_from(topics, writer, database_url):
    """As a restored backup does it, under a worker that has read far beyond."""
    said = batches(0, 20)
    expected = embedded_rows(database_url, said)
    with projecting(topics, lambda: database_url) as projection:
        await_all(topics, database_url, projection)
        with psycopg.connect(database_url) as connection:
            backup = connection.execute("select * from public.positions").fetchall()
        writer.write(said[:70])
        await_all(topics, database_url, projection)
        with psycopg.connect(database_url) as connection:
            for table in contents(connection):
                connection.execute(f"delete from live.{table}".encode())
            for generation, topic, partition, position in backup:
                connection.execute(
                    "update public.positions set position = %s where (generation, topic, partition) = (%s, %s, %s)",
                    (position, generation, topic, partition),
                )
        writer.write(said[70:])
        # Partitions that got nothing new are not looked at again, as no chunk of theirs comes.
        writer.write(batches(900, 902), abort=True)
        wait_until(lambda: rows_of(database_url) == expected, "all is there again", projection)
        projection.stop()
    assert projection.said == [None]


def test_a_gap_that_stays_is_told(topics, writer, database_url, monkeypatch):
    from leadstream.operations import kafka_projection as running
    from projections.positions import PositionGapError

    def always(_connection, _chunks):
        raise PositionGapError("missing")

    monkeypatch.setattr(running, "project_chunks", always)
    writer.write(batches(0, 1))
    with pytest.raises(PositionGapError, match="missing"):
        run_projection(topics, lambda: database_url, stop=threading.Event(), failing=lambda _: None)


def test_a_foreign_record_stops_nothing_and_a_rebuild_makes_the_same_row(topics, writer, database_url):
    hello = b'{"hello":1}'
    writer.write([Outgoing(LEAD_ACTIVITY, "k", hello, 1), Outgoing(LEAD_SCORES, "k", hello, 2)])
    with projecting(topics, lambda: database_url) as projection:
        await_all(topics, database_url, projection)
        projection.stop()
    before = rows_of(database_url)
    assert len(before["dead_letters"]) == 1
    rebuild_from_kafka(topics, database_url)
    assert rows_of(database_url) == before


def test_a_position_beyond_the_end_says_that_the_topics_were_made_anew(topics, writer, database_url):
    writer.write(batches(0, 3))
    with projecting(topics, lambda: database_url) as projection:
        await_all(topics, database_url, projection)
        projection.stop()
    with psycopg.connect(database_url) as connection:
        connection.execute("update public.positions set position = position + 1000")
    remedy = "deleted and created again( since)?: set LEADSTREAM_DATABASE_URL to another database, or another LEADSTREAM_KAFKA_PREFIX"
    with pytest.raises(PositionOutOfRange, match=remedy):
        run_projection(topics, lambda: database_url, stop=threading.Event(), failing=lambda _: None)
    before = rows_of(database_url)
    with pytest.raises(SourceError, match=remedy):
        rebuild_from_kafka(topics, database_url)
    assert rows_of(database_url) == before


def test_a_projection_ends_when_a_rebuild_makes_the_tables_another_apps(
    topics, writer, kafka_broker, database_url
):
    new = Cluster(kafka_broker.address, prefix=topics.prefix, app="next")
    make_topics(new)
    with projecting(topics, lambda: database_url) as projection:
        writer.write(batches(0, 3))
        await_all(topics, database_url, projection)
        rebuild_from_kafka(new, database_url)
        before = rows_of(database_url)
        writer.write(batches(3, 6))
        with pytest.raises(SourceError, match="'next', not of 'leadstream'"):
            projection.running.result(60)
    assert rows_of(database_url) == before


def test_another_prefix_is_refused(topics, kafka_broker, database_url):
    with projecting(topics, lambda: database_url) as projection:
        wait_until(lambda: projection.said == [None], "it follows", projection)
        projection.stop()
    other = Cluster(kafka_broker.address, prefix=f"{topics.prefix}other-")
    make_topics(other)
    with pytest.raises(SourceError, match="LEADSTREAM_KAFKA_PREFIX"):
        run_projection(other, lambda: database_url, stop=threading.Event(), failing=lambda _: None)
    with pytest.raises(SourceError, match="LEADSTREAM_KAFKA_PREFIX"):
        rebuild_from_kafka(other, database_url)


def test_a_rebuild_as_another_app_shows_that_ones_state(topics, writer, kafka_broker, database_url):
    """A new version of the state is made beside the old one, and then switched to."""
    new = Cluster(kafka_broker.address, prefix=topics.prefix, app="next")
    make_topics(new)
    for cluster in (topics, new):
        changelog = cluster.name_of(cluster.changelog("score_leads"))
        writer.write([Outgoing(changelog, "default/l/l\0id:i", cluster.app.encode(), 0)])

    def features() -> list[bytes]:
        with psycopg.connect(database_url) as connection:
            return [value for (value,) in connection.execute("select encoded from live.lead_features")]

    with projecting(topics, lambda: database_url) as projection:
        await_all(topics, database_url, projection)
        projection.stop()
    assert features() == [b"leadstream"]
    with pytest.raises(SourceError, match="leadstream rebuild"):
        run_projection(new, lambda: database_url, stop=threading.Event(), failing=lambda _: None)
    rebuild_from_kafka(new, database_url)
    assert features() == [b"next"]
    with projecting(new, lambda: database_url) as projection:
        await_all(new, database_url, projection)
        projection.stop()
    assert features() == [b"next"]


def test_topics_that_are_not_made_yet_are_waited_for(cluster, database_url):
    with projecting(cluster, lambda: database_url) as projection:
        wait_until(lambda: bool(projection.said), "it says what is missing", projection)
        assert "leadstream topics create" in str(projection.said[0])
        make_topics(cluster)
        wait_until(lambda: projection.said[-1] is None, "it follows", projection)
        with Writer(cluster) as writer:
            writer.write([attached("default/v/a#0", "l")])
        await_all(cluster, database_url, projection)
        projection.stop()
    assert len(rows_of(database_url)["identities"]) == 1


def test_a_database_that_was_never_migrated_has_no_positions(empty_database_url):
    assert projection_positions(empty_database_url) == {}


def test_postgres_may_go_away_and_come_back(topics, writer, postgres_url, database_url):
    said = batches(0, 40)
    expected = embedded_rows(database_url, said)
    name = database_url.rpartition("/")[2].partition("?")[0]

    def allow(*, there: bool) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"alter database {name} allow_connections {there}".encode())
            if not there:
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,)
                )

    with projecting(topics, lambda: database_url) as projection:
        writer.write(said[:100])
        await_all(topics, database_url, projection)
        allow(there=False)
        try:
            writer.write(said[100:])
            wait_until(lambda: isinstance(projection.said[-1], str), "it says that it waits", projection)
        finally:
            allow(there=True)
        await_all(topics, database_url, projection)
        wait_until(lambda: projection.said[-1] is None, "it says that it goes on", projection)
        projection.stop()
    assert [said is None for said in projection.said] == [True, False, True]
    assert "database" in str(projection.said[1])
    assert rows_of(database_url) == expected


def offsets_committed(cluster: Cluster) -> dict[tuple[str, int], int]:
    async def ask() -> dict[tuple[str, int], int]:
        admin = AIOKafkaAdminClient(**cluster.client())
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(cluster.projections_group)
        finally:
            await admin.close()
        return {
            (cluster.name_of(p.topic), p.partition): at.offset for p, at in found.items() if at.offset >= 0
        }

    return asyncio.run(ask())


def test_monitors_see_in_kafka_how_far_it_is(topics, writer, database_url):
    with projecting(topics, lambda: database_url) as projection:
        writer.write(batches(0, 10))
        await_all(topics, database_url, projection)
        ends = {slot: at for slot, at in ends_of(topics, [LEAD_SCORES]).items() if at}
        wait_until(
            lambda: offsets_committed(topics).items() >= ends.items(), "they are committed", projection
        )
        projection.stop()
    assert len(ends) == PARTITIONS


def test_what_the_group_says_is_never_read(topics, writer, database_url):
    """Offsets far beyond the tables change nothing."""
    said = batches(0, 10)
    expected = embedded_rows(database_url, said)
    writer.write(said)
    ends = ends_of(topics, followed_topics(topics))

    async def pretend() -> None:
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(
            **topics.client(), group_id=topics.projections_group, enable_auto_commit=False
        )
        consumer.assign([TopicPartition(topics.topic(topic), partition) for topic, partition in ends])
        await consumer.start()
        await consumer.commit({TopicPartition(topics.topic(t), p): at for (t, p), at in ends.items()})
        await consumer.stop()

    asyncio.run(pretend())
    with projecting(topics, lambda: database_url) as projection:
        await_all(topics, database_url, projection)
        projection.stop()
    assert rows_of(database_url) == expected

"""What nobody can read on a real broker's disk: it is named, skipped by an operator, and a dead letter; nothing
else is lost. The broker checks what producers send, so the bytes are changed while it is stopped.
"""

import asyncio
import struct
from contextlib import contextmanager

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from batches_made import made, of_unknown_codec, sealed, with_flipped_bit
from faust_counting import PARTITIONS, make_topics, until
from projected_topics import await_all, projecting
from scored_events import counts, event, letters, scored_topics, settings_of, visitor_in, work

from leadstream.console import Failure
from leadstream.operations.kafka_projection import rebuild_from_kafka
from leadstream.operations.skip_kafka import publish_skip
from schemas.record import LogUnreadableError, Unreadable
from schemas.topics import EVENTS, SCORE_CHANGED
from streams.kafka import reading
from streams.kafka.cluster import Cluster
from streams.kafka.reading import ChunkReader

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

BATCH = 3


def append(cluster, partition, records, headers=()):
    """In one batch; its first position."""

    async def run():
        async with AIOKafkaProducer(**cluster.client(), acks="all", linger_ms=200) as producer:
            sent = [
                await producer.send(
                    cluster.topic(EVENTS), value, key, partition=partition, headers=list(headers)
                )
                for key, value in records
            ]
            return (await asyncio.gather(*sent))[0].offset

    return asyncio.run(run())


def change_on_disk(broker, topic, partition, position, change):
    """The batch that begins at the position; what follows it in the file moves."""
    [segment] = (broker.data_dir / "log").glob(f"{topic}-{partition}/*.log")
    log = segment.read_bytes()
    at = 0
    while struct.unpack_from(">q", log, at)[0] != position:
        at += 12 + struct.unpack_from(">i", log, at + 8)[0]
    end = at + 12 + struct.unpack_from(">i", log, at + 8)[0]
    segment.write_bytes(log[:at] + change(log[at:end]) + log[end:])


@contextmanager
def changing(broker):
    """While the broker is stopped; it stops cleanly, or it would repair its files as it starts."""
    broker.stop(300)
    assert (broker.data_dir / "log" / ".kafka_cleanshutdown").exists()
    yield
    broker.start()


def test_what_cannot_be_read_on_disk_is_named_and_skipped_and_the_rest_counts(
    own_broker, database_url, tmp_path
):
    cluster = Cluster(own_broker.address, prefix="broken-")
    scored_topics(cluster)
    visitors = [visitor_in(partition) for partition in range(PARTITIONS)]
    at = {}
    for partition, visitor in enumerate(visitors):
        for turn in range(3):
            records = [event(visitor, turn * BATCH + number) for number in range(BATCH)]
            headers = [("trace", b"1")] if partition == 2 else ()
            at[partition, turn] = append(cluster, partition, records, headers)
    changes = [
        with_flipped_bit,
        of_unknown_codec,
        lambda raw: sealed(raw.replace(b"trace", b"\xff\xfe\xfd\xfc\xfb")),
        lambda _: made([event(visitors[3], BATCH + n) for n in range(BATCH)], at[3, 1], magic=1),
    ]
    with changing(own_broker):
        for partition, change in enumerate(changes):
            change_on_disk(own_broker, cluster.topic(EVENTS), partition, at[partition, 1], change)

    settings = settings_of(cluster, database_url)
    with projecting(cluster, lambda: database_url) as projection:
        reasons = {0: "its checksum is wrong", 1: "compressed with codec 5"}
        places = [f"{EVENTS}/{partition} at position {at[partition, 1]}" for partition in reasons]
        until(_named(projection, *places), "the projection names both at once")
        while (failed := work(cluster, tmp_path)) is not None:
            assert isinstance(failed, LogUnreadableError)
            (topic, partition), position = failed.slot, failed.position
            assert (topic, position) == (EVENTS, at[partition, 1])
            assert f"{EVENTS}/{partition} at position {position} cannot be read: " in str(failed)
            assert reasons.pop(partition) in str(failed)
            assert f"`leadstream skip {EVENTS} {partition} {position} --reason WHY`" in str(failed)
            with pytest.raises(Failure, match="can be read"):
                publish_skip(settings, topic, partition, at[partition, 0], "a typing error")
            publish_skip(settings, topic, partition, position, "a bad disk")
        assert not reasons
        await_all(cluster, database_url, projection)
        projection.stop()
    assert counts(database_url) == dict(zip(visitors, [6, 6, 9, 9], strict=True))
    found = letters(database_url)
    assert set(found) == {(EVENTS, 0, at[0, 1]), (EVENTS, 1, at[1, 1])}
    reason, original = found[EVENTS, 0, at[0, 1]]
    assert reason.startswith(f"skipped: a bad disk (positions {at[0, 1]} to {at[0, 1] + 2} cannot be read: ")
    assert visitors[0].encode() in original
    with psycopg.connect(database_url) as connection:
        kept = connection.execute(
            "select partition, count(*) from public.event_archive group by 1 order by 1"
        )
        assert kept.fetchall() == [(0, 6), (1, 6), (2, 9), (3, 9)]


def _named(projection, *places):
    """It waits for the same word as the worker, whichever that meets first, and serves the other partitions meanwhile."""
    return lambda: any(all(place in (said or "") for place in places) for said in projection.said)


def test_a_rebuild_passes_what_was_skipped_and_names_what_was_not(own_broker, database_url, tmp_path):
    """A disk that goes bad after everything was projected is found by who reads it anew."""
    cluster = Cluster(own_broker.address, prefix="later-")
    scored_topics(cluster)
    visitor = visitor_in(1)
    append(cluster, 1, [event(visitor, number) for number in range(BATCH)])
    with projecting(cluster, lambda: database_url) as projection:
        assert work(cluster, tmp_path) is None
        await_all(cluster, database_url, projection)
        projection.stop()
    score = next(
        number
        for number in range(PARTITIONS)
        if any(path.stat().st_size for path in _segments(own_broker, cluster.topic(SCORE_CHANGED), number))
    )
    with changing(own_broker):
        change_on_disk(own_broker, cluster.topic(SCORE_CHANGED), score, 0, with_flipped_bit)
    with pytest.raises(LogUnreadableError, match=rf"{SCORE_CHANGED}/{score} at position 0 cannot be read"):
        rebuild_from_kafka(cluster, database_url)
    publish_skip(settings_of(cluster, database_url), SCORE_CHANGED, score, 0, "a bad disk")
    rebuild_from_kafka(cluster, database_url)
    assert counts(database_url) == {visitor: BATCH}
    assert list(letters(database_url)) == [(SCORE_CHANGED, score, 0)]


def _segments(broker, topic, partition):
    return (broker.data_dir / "log").glob(f"{topic}-{partition}/*.log")


DAMAGED = {
    "a length below nothing": lambda raw: raw[:8] + struct.pack(">i", -5) + raw[12:],
    "a length beyond the file": lambda raw: raw[:8] + struct.pack(">i", 10**9) + raw[12:],
    "a length too short": lambda raw: raw[:8] + struct.pack(">i", 7) + raw[12:],
    "nothing but zeros": lambda raw: bytes(len(raw)),
}


def test_where_the_broker_itself_reads_no_further_it_is_named_and_what_lies_behind_is_read(
    own_broker, monkeypatch
):
    """Then it sends an error or nothing, of which aiokafka says nothing, and asks for ever."""
    monkeypatch.setattr(reading, "STALLED_SECONDS", 1.0)
    cluster = Cluster(own_broker.address, prefix="damaged-")
    make_topics(cluster, [])
    for partition in range(PARTITIONS):
        for _ in range(6):
            append(cluster, partition, [(b"k", b"v" * 2_000)] * BATCH)
    with changing(own_broker):
        for partition, damage in enumerate(DAMAGED.values()):
            change_on_disk(own_broker, cluster.topic(EVENTS), partition, BATCH, damage)
    chunks = asyncio.run(_read_to(cluster, 6 * BATCH))
    for partition in range(PARTITIONS):
        found = [
            (record.position, record.unreadable)
            for chunk in chunks
            if chunk.partition == partition
            for record in chunk.records
        ]
        sound = [position for position in range(6 * BATCH) if not BATCH <= position < 2 * BATCH]
        assert [position for position, broken in found if broken is None] == sound
        damaged = Unreadable("the broker's file is damaged there", BATCH, 2 * BATCH)
        assert [broken for _, broken in found if broken is not None] == [damaged]


async def _read_to(cluster, end):
    consumer = AIOKafkaConsumer(
        **cluster.client(),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
    )
    await consumer.start()
    try:
        reader = ChunkReader(consumer, cluster)
        slots = [(EVENTS, partition) for partition in range(PARTITIONS)]
        consumer.assign([reader.partition(slot) for slot in slots])
        for slot in slots:
            reader.seek(slot, 0)
        chunks, reached = [], dict.fromkeys(range(PARTITIONS), 0)
        async with asyncio.timeout(180):
            while min(reached.values()) < end:
                for chunk in await reader.read(seconds=0.2):
                    assert chunk.start == reached[chunk.partition]
                    reached[chunk.partition] = chunk.next
                    chunks.append(chunk)
        return chunks
    finally:
        await consumer.stop()

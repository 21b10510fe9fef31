"""Garbage in the topics that are ours alone: a restore names it, an operator skips it, scores go on."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from projected_topics import await_all, projecting
from scored_events import counts, event, scored_topics, settings_of, visitor_in, work
from test_kafka_producers import MURMUR2, produce

from leadstream.console import Failure
from leadstream.operations.skip_kafka import publish_skip
from schemas.record import LogUnreadableError
from schemas.topics import visitor_key
from streams.kafka.cluster import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

IN = 1
"""The partition of all of it."""
VISITOR = visitor_in(IN)
KEY = visitor_key("default", VISITOR).encode()
GARBAGE = {
    "a key without a part": (b"x", b"1", "key is none of the state"),
    "a key in no encoding": (b"\xff\xfe\0head", b"x", "can't decode"),
    "a position that is no number": (b"\0", b"nine", "position that the state contains is no number"),
    "a position that is gone": (b"\0", None, "position that the state contains is no number"),
    "a position before all": (b"\0", b"-7", "is negative"),
    "a timer that is no number": (KEY + b"\0", b"soon", "timer fires is no number"),
    "state that cannot be decoded": (KEY + b"\0head", b"\x01garbage", "the state of default/v/"),
    "state of a codec that is unknown": (KEY + b"\0head", b"\xffgarbage", "written by a newer version"),
}


def write(cluster, topic, key, value):
    async def run():
        async with AIOKafkaProducer(**cluster.client()) as producer:
            return (await producer.send_and_wait(topic, value, key, partition=IN)).offset

    return asyncio.run(run())


def folded(cluster, url, tmp_path):
    """How often the visitor's events count, by a worker and a projection."""
    assert work(cluster, tmp_path) is None
    with projecting(cluster, lambda: url) as projection:
        await_all(cluster, url, projection)
        projection.stop()
    return counts(url)


AT_LENGTH = {
    "a key without a part",
    "a position that is gone",
    "a position before all",
    "state of a codec that is unknown",
}
"""Of each part of a record (key, position, timer, state) one kind is tried in an ordinary run; these in a soak."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.soak] * (kind in AT_LENGTH)) for kind in GARBAGE]
)
def test_garbage_in_a_changelog_is_named_and_skipped(cluster, database_url, tmp_path, kind):
    key, value, reason = GARBAGE[kind]
    scored_topics(cluster)
    produce(cluster, [event(VISITOR, n) for n in range(3)], **MURMUR2)
    assert work(cluster, tmp_path) is None
    changelog = cluster.changelog("track_sessions")
    position = write(cluster, changelog, key, value)
    produce(cluster, [event(VISITOR, n) for n in range(2, 5)], **MURMUR2)

    failed = work(cluster, tmp_path)
    assert isinstance(failed, LogUnreadableError), failed
    name = cluster.name_of(changelog)
    assert f"{name}/{IN} at position {position} cannot be read: " in str(failed)
    assert reason in str(failed)
    assert f"leadstream skip {name} {IN} {position}" in str(failed)
    settings = settings_of(cluster, database_url)
    with pytest.raises(Failure, match="can be read"):
        publish_skip(settings, name, IN, position - 2, "a typing error")
    publish_skip(settings, name, IN, position, "garbage")
    assert folded(cluster, database_url, tmp_path) == {VISITOR: 5}


def test_garbage_among_the_skips_stops_nobody(cluster: Cluster, database_url, tmp_path):
    scored_topics(cluster)
    for key in (b"", b"x", b"events/x", b"events/-1", "events/\u00b2".encode(), b"\xff/1", b"/1"):
        write(cluster, cluster.skips, key, b"\xff")
    produce(cluster, [event(VISITOR, n) for n in range(3)], **MURMUR2)
    assert folded(cluster, database_url, tmp_path) == {VISITOR: 3}

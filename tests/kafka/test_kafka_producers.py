"""Events from librdkafka, which most Kafka clients are made of: every codec, transactions, large batches, and the
partitioner that it has by default.
"""

import itertools
import json
from zlib import crc32

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from faust_counting import PARTITIONS, until, working
from projected_topics import await_all, projecting
from scored_events import counts, event, letters, scored_topics, visitor_in, work

from leadstream.stages import STAGES
from schemas.topics import EVENTS, partition_of, visitor_key

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

MURMUR2 = {"partitioner": "murmur2_random"}
LARGE = 10_000_000


def produce(cluster, records, **options):
    producer = Producer({"bootstrap.servers": cluster.brokers, "linger.ms": 200} | options)
    for key, value in records:
        producer.produce(cluster.topic(EVENTS), value, key)
    assert producer.flush(60) == 0


def project(cluster, url):
    with projecting(cluster, lambda: url) as projection:
        await_all(cluster, url, projection)
        projection.stop()


def test_every_codec_of_librdkafka_is_read_by_worker_and_projection(cluster, database_url, tmp_path):
    scored_topics(cluster)
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    visitors = {codec: visitor_in(number % PARTITIONS, named=codec) for number, codec in enumerate(codecs)}
    for codec, visitor in visitors.items():
        produce(cluster, [event(visitor, n) for n in range(50)], **{"compression.type": codec} | MURMUR2)
    assert work(cluster, tmp_path) is None
    project(cluster, database_url)
    assert counts(database_url) == dict.fromkeys(visitors.values(), 50)
    assert letters(database_url) == {}


def test_what_a_transaction_of_librdkafka_aborted_counts_nothing(cluster, database_url, tmp_path):
    scored_topics(cluster)
    visitor = visitor_in(2)
    producer = Producer(
        {
            "bootstrap.servers": cluster.brokers,
            "transactional.id": f"{cluster.prefix}t",
            "compression.type": "zstd",
        }
        | MURMUR2
    )
    producer.init_transactions(30)
    for turn in range(4):
        producer.begin_transaction()
        for number in range(5):
            key, value = event(visitor, 5 * turn + number)
            producer.produce(cluster.topic(EVENTS), value, key)
        producer.flush(30)
        if turn % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    assert work(cluster, tmp_path) is None
    project(cluster, database_url)
    assert counts(database_url) == {visitor: 10}


def test_a_batch_of_ten_megabytes_stops_nobody(cluster, database_url, tmp_path):
    """Where an operator lets `events` take them; a topic that we made refuses them."""
    scored_topics(cluster)
    _let_take(cluster, 2 * LARGE)
    visitor = visitor_in(1)
    (key, first), (_, last) = event(visitor, 1), event(visitor, 2)
    produce(
        cluster,
        [(key, first), (key, b"x" * LARGE), (key, last)],
        **{"message.max.bytes": 2 * LARGE, "batch.size": 2 * LARGE} | MURMUR2,
    )
    assert work(cluster, tmp_path) is None
    project(cluster, database_url)
    assert counts(database_url) == {visitor: 2}
    [(reason, original)] = letters(database_url).values()
    assert "only the first 1,000,000 of its 10,000,000 bytes are kept" in reason
    assert len(original) == 1_000_000


def _let_take(cluster, size):
    resource = ConfigResource(ConfigResource.Type.TOPIC, cluster.topic(EVENTS))
    resource.add_incremental_config(
        ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    )
    admin = AdminClient({"bootstrap.servers": cluster.brokers})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


def test_a_record_in_another_partition_than_its_keys_is_a_dead_letter_and_counted(
    cluster, database_url, tmp_path
):
    """By default librdkafka hashes otherwise: the visitor would be counted in two places."""
    scored_topics(cluster)
    visitor = elsewhere()
    produce(cluster, [event(visitor, n) for n in range(6)], **MURMUR2)
    produce(cluster, [event(visitor, n) for n in range(6)])  # the same, sent again by a client as it comes
    produce(cluster, [event(visitor, 6)])
    stages = [stage() for stage in STAGES]
    with working(cluster, tmp_path, stages=stages) as (app, _):
        until(lambda: _metric(app) == 7, "the metric counts them")
    assert work(cluster, tmp_path) is None
    project(cluster, database_url)
    assert counts(database_url) == {visitor: 6}
    found = letters(database_url)
    assert len(found) == 7
    belongs = partition_of(visitor_key("default", visitor), PARTITIONS)
    for (topic, partition, _), (reason, original) in found.items():
        assert (topic, partition != belongs) == (EVENTS, True)
        assert "set partitioner=murmur2_random" in reason
        assert f"belongs to partition {belongs}" in reason
        assert json.loads(original)["visitor_id"] == visitor


def elsewhere():
    """A visitor whom librdkafka's default partitioner (CRC32) puts into another partition than murmur2."""
    names = (f"v-{number}" for number in itertools.count())
    keys = ((name, visitor_key("default", name)) for name in names)
    return next(
        name for name, key in keys if crc32(key.encode()) % PARTITIONS != partition_of(key, PARTITIONS)
    )


def _metric(app):
    page = app.metrics.exposition().decode()
    [line] = [
        line
        for line in page.splitlines()
        if line.startswith('leadstream_worker_misplaced_records_total{stage="track_sessions"}')
    ]
    return float(line.split()[-1])

"""The topics on a real broker: made by the one list, checked, and published into as a whole."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError

from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_CHANGES
from streams.kafka import topics
from streams.kafka.cluster import Cluster, KafkaSecurity, KafkaUnavailable
from streams.kafka.topics import (
    TopicsMissing,
    TopicsRefused,
    check_topics,
    create_topics,
    partition_count_of,
    publish_records,
)
from tests.ports import free_port

pytestmark = pytest.mark.kafka

ONE = [Outgoing(EVENTS, "~", b"first"), Outgoing(LEAD_ACTIVITY, "~", b"first")]
DAY = 24 * 60 * 60 * 1000


def create(cluster, *, partitions=2, begin=(), **more):
    return asyncio.run(create_topics(cluster, partitions=partitions, genesis=begin, **more))


def check(cluster, **asked):
    return asyncio.run(check_topics(cluster, **asked))


@asynccontextmanager
async def admin_of(cluster):
    admin = AIOKafkaAdminClient(**cluster.client())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def make(cluster, name, partitions, **configs):
    """A topic as somebody else would make it."""

    async def run():
        async with admin_of(cluster) as admin:
            said = {key.replace("_", "."): value for key, value in configs.items()}
            answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=said)])
            assert [code for _, code, *_ in answer.topic_errors] == [0]
            while name not in await admin.list_topics():  # noqa: ASYNC110 - a broker tells nobody
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(run(), 60))


def configs_of(cluster, name):
    async def run():
        async with admin_of(cluster) as admin:
            (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
            return {key: value for key, value, *_ in answer.resources[0][4]}

    return asyncio.run(run())


def read(cluster, topic, partition, isolation="read_committed", seconds=60):
    """(key, value) of every record that is there, and nothing of what is not committed."""

    async def run():
        consumer = AIOKafkaConsumer(**cluster.client(), isolation_level=isolation, enable_auto_commit=False)
        await consumer.start()
        try:
            slot = TopicPartition(cluster.topic(topic), partition)
            consumer.assign([slot])
            await consumer.seek_to_beginning(slot)
            found, end = [], None
            while end is None or await consumer.position(slot) < end:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [(record.key.decode(), record.value) for record in records]
                end = consumer.highwater(slot)
            return found
        finally:
            await consumer.stop()

    return asyncio.run(asyncio.wait_for(run(), seconds))


def test_every_topic_is_made_with_the_settings_that_the_design_needs(cluster):
    made = create(cluster, partitions=3)

    assert set(made) == {
        cluster.prefix + name
        for name in (
            "events",
            "lead-activity",
            "session-scores",
            "score-changed",
            "lead-scores",
            "lead-changes",
            "dead-letters",
            "leadstream-track-sessions-changelog",
            "leadstream-score-leads-changelog",
            "leadstream-skips",
        )
    }
    events = configs_of(cluster, cluster.topic("events"))
    assert events["cleanup.policy"] == "delete"
    assert int(events["retention.ms"]) == 30 * DAY
    assert events["message.timestamp.type"] == "LogAppendTime"
    assert int(configs_of(cluster, cluster.topic("score-changed"))["retention.ms"]) == 365 * DAY
    assert int(configs_of(cluster, cluster.topic("dead-letters"))["retention.ms"]) == 90 * DAY
    for compacted in (cluster.topic("lead-scores"), cluster.changelog("score_leads"), cluster.skips):
        configs = configs_of(cluster, compacted)
        assert configs["cleanup.policy"] == "compact"
        assert configs["message.timestamp.type"] == "LogAppendTime"
        assert int(configs["segment.bytes"]) < 2**30, "what is in an open segment is never compacted"
        assert int(configs["delete.retention.ms"]) == 7 * DAY
    assert check(cluster, partitions=3) == []
    assert asyncio.run(partition_count_of(cluster)) == 3


def test_the_largest_record_and_a_whole_batch_fit_into_every_topic(cluster):
    """64 KB of an event may double in our own encoding; its dead letter carries that in base64."""
    create(cluster, partitions=1)
    dead_letter = b"x" * (128 * 1024 * 4 // 3 + 10_000)
    batch = b"x" * 1_900_000
    asyncio.run(
        publish_records(cluster, [Outgoing("dead-letters", "k", dead_letter), Outgoing(EVENTS, "k", batch)])
    )
    assert read(cluster, "dead-letters", 0) == [("k", dead_letter)]
    assert read(cluster, EVENTS, 0) == [("k", batch)]


def test_the_log_begins_with_its_genesis_in_every_partition(cluster):
    create(
        cluster,
        begin=[
            Outgoing(topic, "~", b"%s of %s" % (said, topic.encode()))
            for said in (b"settings", b"model")
            for topic in (EVENTS, LEAD_ACTIVITY)
        ],
    )
    for partition in range(2):
        assert read(cluster, EVENTS, partition) == [("~", b"settings of events"), ("~", b"model of events")]
        assert read(cluster, LEAD_ACTIVITY, partition) == [
            ("~", b"settings of lead-activity"),
            ("~", b"model of lead-activity"),
        ]


def test_made_again_nothing_changes(cluster):
    create(cluster, begin=ONE)
    assert create(cluster, begin=ONE) == []
    assert read(cluster, EVENTS, 0) == [("~", b"first")]


@pytest.mark.parametrize("there", [False, True])
def test_made_by_several_at_once_the_log_has_one_genesis(cluster, there):
    """Each says another one, so two halves would show."""
    if there:
        create(cluster)

    async def run():
        return await asyncio.gather(
            *(
                create_topics(
                    cluster,
                    partitions=2,
                    genesis=[Outgoing(topic, "~", b"%d" % number) for topic in (EVENTS, LEAD_ACTIVITY)],
                )
                for number in range(4)
            )
        )

    made = [name for names in asyncio.run(run()) for name in names]
    assert len(made) == len(set(made)) == (0 if there else 10)
    (winner,) = {tuple(read(cluster, t, p)) for t in (EVENTS, LEAD_ACTIVITY) for p in range(2)}
    assert len(winner) == 1


def test_events_that_came_first_do_not_stand_for_the_genesis(cluster):
    create(cluster)
    asyncio.run(publish_records(cluster, [Outgoing(EVENTS, "web/v/1", b"early", partition=0)]))
    create(cluster, begin=ONE)
    assert read(cluster, EVENTS, 0) == [("web/v/1", b"early"), ("~", b"first")]


def test_a_genesis_that_retention_has_taken_is_not_said_again(cluster):
    create(cluster, begin=ONE)

    async def run():
        async with admin_of(cluster) as admin:
            slot = TopicPartition(cluster.topic(EVENTS), 0)
            await admin.delete_records({slot: RecordsToDelete(before_offset=1)})

    asyncio.run(run())
    create(cluster, begin=ONE)
    assert read(cluster, EVENTS, 0) == []


def test_a_topic_that_is_missing_is_made_beside_the_others(cluster):
    make(cluster, cluster.topic(EVENTS), 2, message_timestamp_type="LogAppendTime")
    made = create(cluster)
    assert len(made) == 9
    assert cluster.topic(EVENTS) not in made


def test_another_app_gets_its_own_state_and_the_same_log(cluster):
    create(cluster, begin=ONE)
    other = Cluster(cluster.brokers, prefix=cluster.prefix, app="next")
    made = create(other, begin=ONE)
    assert sorted(made) == sorted(
        cluster.prefix + name
        for name in ("next-track-sessions-changelog", "next-score-leads-changelog", "next-skips")
    )
    assert read(cluster, EVENTS, 0) == [("~", b"first")]


def test_another_number_of_partitions_is_refused_before_anything_is_made(cluster):
    make(cluster, cluster.topic(EVENTS), 5)
    with pytest.raises(
        TopicsRefused, match=r"events has 5 partitions instead of 2: set LEADSTREAM_PARTITIONS=5"
    ):
        create(cluster)
    assert [problem.fault for problem in check(cluster, partitions=5)].count("is missing") == 9


def test_a_replication_that_the_cluster_cannot_give_is_refused(cluster):
    with pytest.raises(TopicsRefused, match="LEADSTREAM_KAFKA_REPLICATION"):
        create(cluster, replication=3)


def test_what_is_wrong_with_topics_is_said_with_its_remedy(cluster):
    create(cluster, partitions=2, stages=())
    make(cluster, cluster.changelog("score_leads"), 3, cleanup_policy="delete")
    problems = {(p.topic, p.fault): p.remedy for p in check(cluster)}

    missing = cluster.changelog("track_sessions")
    assert problems.pop((missing, "is missing")) == "`leadstream topics create` creates it"
    wrong = cluster.changelog("score_leads")
    remedy = problems.pop((wrong, "has 3 partitions instead of 2"))
    assert "LEADSTREAM_KAFKA_PREFIX" in remedy
    assert "delete" not in remedy, "a changelog is the workers' state"
    remedy = problems.pop((wrong, "has cleanup.policy=delete instead of compact"))
    assert f"--entity-name {wrong} --add-config cleanup.policy=compact" in remedy
    assert (wrong, "has message.timestamp.type=CreateTime instead of LogAppendTime") in problems
    assert {topic for topic, _ in problems} == {wrong}


def test_a_retention_shorter_than_needed_is_a_problem_and_a_longer_one_is_none(cluster):
    ours = {"message_timestamp_type": "LogAppendTime", "max_message_bytes": "3000000"}
    make(cluster, cluster.topic(EVENTS), 1, retention_ms=str(DAY), **ours)
    make(cluster, cluster.topic(LEAD_ACTIVITY), 1, retention_ms="-1", **ours)
    make(cluster, cluster.topic(LEAD_CHANGES), 1, retention_ms=str(400 * DAY), **ours)
    found = [(p.topic, p.fault) for p in check(cluster) if p.fault != "is missing"]
    assert found == [(cluster.topic(EVENTS), f"has retention.ms={DAY} instead of {30 * DAY}")]


def test_asking_for_topics_that_are_missing_names_the_command_and_makes_none(cluster):
    with pytest.raises(TopicsMissing, match="leadstream topics create"):
        asyncio.run(partition_count_of(cluster))
    with pytest.raises(TopicsMissing, match="leadstream topics create"):
        asyncio.run(publish_records(cluster, ONE))
    assert len(check(cluster)) == 10


def test_records_go_where_they_belong(cluster):
    """The murmur2 of "b", as Kafka's own clients take it, is in partition 2 of 4."""
    create(cluster, partitions=4)
    keys = [chr(ord("a") + n) for n in range(8)]
    asyncio.run(
        publish_records(
            cluster,
            [
                *(Outgoing(EVENTS, key, b"by key") for key in keys),
                Outgoing(EVENTS, "a", b"as told", partition=3),
                Outgoing(EVENTS, "~", b"everywhere"),
                Outgoing(EVENTS, "~", b"one", partition=1),
                Outgoing(LEAD_ACTIVITY, "gone", None, partition=2),
            ],
        )
    )

    async def places_by_client():
        """An independent oracle: the partitioner that the client brings."""
        producer = AIOKafkaProducer(**cluster.client())
        await producer.start()
        try:
            spread = list(range(4))
            return {key: producer._partitioner(key.encode(), spread, spread) for key in keys}
        finally:
            await producer.stop()

    places = asyncio.run(places_by_client())
    for partition in range(4):
        expected = [(key, b"by key") for key in keys if places[key] == partition]
        expected += [("a", b"as told")] * (partition == 3)
        expected += [("~", b"everywhere")]
        expected += [("~", b"one")] * (partition == 1)
        assert read(cluster, EVENTS, partition) == expected
    assert read(cluster, LEAD_ACTIVITY, 2) == [("gone", None)]


def test_a_publication_with_a_record_that_is_too_large_leaves_nothing(cluster):
    create(cluster)
    with pytest.raises(TopicsRefused, match="refuses what is to be published"):
        asyncio.run(publish_records(cluster, [*ONE, Outgoing(EVENTS, "~", b"x" * 3_000_000)]))
    # Left open, it would hold readers up until the broker ends it, which takes twenty seconds or more.
    assert read(cluster, EVENTS, 0, seconds=15) == []
    asyncio.run(publish_records(cluster, ONE))
    assert read(cluster, EVENTS, 0) == [("~", b"first")]


def test_publishers_at_once_take_turns_and_each_publication_stands_whole_and_once(cluster):
    create(cluster)
    said = [
        [Outgoing(EVENTS, "~", b"%d.%d" % (publisher, part)) for part in range(3)] for publisher in range(4)
    ]

    async def run():
        await asyncio.gather(*(publish_records(cluster, records) for records in said))

    asyncio.run(run())
    for partition in range(2):
        found = [value for _, value in read(cluster, EVENTS, partition)]
        assert sorted(found[::3]) == [b"0.0", b"1.0", b"2.0", b"3.0"]
        turns = [found[at : at + 3] for at in range(0, 12, 3)]
        assert all([value[2:] for value in turn] == [b"0", b"1", b"2"] for turn in turns)
        assert all(len({value[:1] for value in turn}) == 1 for turn in turns)


def test_what_a_killed_publisher_left_open_is_never_seen_and_holds_nobody_up(cluster):
    create(cluster)

    async def run():
        dead = AIOKafkaProducer(**cluster.client(), transactional_id=cluster.publisher_id)
        await dead.start()
        await dead.begin_transaction()
        await dead.send_and_wait(cluster.topic(EVENTS), b"half", b"~", 0)
        await publish_records(cluster, ONE)
        await dead.stop()

    asyncio.run(run())
    assert read(cluster, EVENTS, 0) == [("~", b"first")]
    assert ("~", b"half") in read(cluster, EVENTS, 0, "read_uncommitted")


@pytest.fixture
def losing_the_answer(monkeypatch):
    """The connection is lost once, before or after the real commit."""

    def lose(*, committed):
        real, lost = AIOKafkaProducer.commit_transaction, []

        async def commit(self):
            if lost:
                return await real(self)
            lost.append(True)
            if committed:
                await real(self)
            raise KafkaConnectionError("lost")

        monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", commit)
        return lost

    return lose


@pytest.mark.parametrize("committed", [True, False])
def test_a_publication_whose_answer_was_lost_stands_exactly_once(cluster, losing_the_answer, committed):
    create(cluster)
    lost = losing_the_answer(committed=committed)
    asyncio.run(publish_records(cluster, ONE))
    assert lost
    assert read(cluster, EVENTS, 0) == read(cluster, EVENTS, 1) == [("~", b"first")]
    assert read(cluster, LEAD_ACTIVITY, 1) == [("~", b"first")]


def test_a_publisher_that_is_shut_out_amid_its_transaction_tries_again(cluster, monkeypatch):
    """Its client says then only that there is no transaction: a task in the background has learned why."""
    create(cluster)
    real, others = AIOKafkaProducer.begin_transaction, []

    async def begin(self):
        await real(self)
        if not others:
            others.append(Outgoing(EVENTS, "~", b"other"))
            await publish_records(cluster, others)
            while self._txn_manager.is_in_transaction():
                await self.send(cluster.topic(EVENTS), b"never", b"~", 0)
                await asyncio.sleep(0.01)

    monkeypatch.setattr(AIOKafkaProducer, "begin_transaction", begin)
    asyncio.run(publish_records(cluster, ONE))
    assert read(cluster, EVENTS, 0) == [("~", b"other"), ("~", b"first")]


def test_a_publication_that_another_one_shut_out_is_made_after_it(cluster, monkeypatch):
    """Where its record was written, a record stands: the other one's is behind it."""
    create(cluster)
    real, others = AIOKafkaProducer.commit_transaction, []

    async def commit(self):
        if not others:
            others.append(Outgoing(EVENTS, "~", b"other"))
            await publish_records(cluster, others)
            raise KafkaConnectionError("lost")
        return await real(self)

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", commit)
    asyncio.run(publish_records(cluster, ONE))
    assert read(cluster, EVENTS, 0) == [("~", b"other"), ("~", b"first")]


def test_a_broker_that_is_away_is_said_with_the_setting_and_its_value():
    nobody = Cluster(f"127.0.0.1:{free_port()}")
    for asked in (
        create_topics(nobody, partitions=1, genesis=[]),
        check_topics(nobody),
        partition_count_of(nobody),
        publish_records(nobody, ONE),
    ):
        with pytest.raises(
            KafkaUnavailable, match=rf"No Kafka.*{nobody.brokers}.*make kafka.*LEADSTREAM_KAFKA"
        ):
            asyncio.run(asked)


def test_a_broker_that_speaks_in_clear_is_not_taken_for_one_that_speaks_tls(cluster):
    tls = Cluster(cluster.brokers, security=KafkaSecurity(protocol="SSL"))
    with pytest.raises(KafkaUnavailable, match=r"\(SSL\)"):
        asyncio.run(partition_count_of(tls))


def test_a_broker_killed_before_the_commit_and_restarted_has_the_publication_once(own_broker, monkeypatch):
    cluster = Cluster(own_broker.address, prefix="killed-")
    create(cluster)
    real, restarts = AIOKafkaProducer.commit_transaction, []

    async def commit(self):
        if not restarts:
            own_broker.kill()
            restarts.append(threading.Thread(target=own_broker.start))
            restarts[0].start()
        return await real(self)

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", commit)
    monkeypatch.setattr(topics, "_PUBLISHING_SECONDS", 300.0)  # a start takes as long as it takes
    asyncio.run(publish_records(cluster, ONE))
    restarts[0].join()
    assert read(cluster, EVENTS, 0) == read(cluster, EVENTS, 1) == [("~", b"first")]


def test_a_broker_that_does_not_come_back_is_said_in_time(own_broker, monkeypatch):
    cluster = Cluster(own_broker.address, prefix="gone-")
    create(cluster)
    real = AIOKafkaProducer.begin_transaction

    async def begin(self):
        own_broker.kill()
        return await real(self)

    monkeypatch.setattr(AIOKafkaProducer, "begin_transaction", begin)
    monkeypatch.setattr(topics, "_PUBLISHING_SECONDS", 3.0)
    with pytest.raises(KafkaUnavailable, match="nothing is published"):
        asyncio.run(asyncio.wait_for(publish_records(cluster, ONE), 60))

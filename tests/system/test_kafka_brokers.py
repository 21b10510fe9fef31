"""Three brokers that keep three copies of everything, and workers that come and go, under load.

Brokers are killed and come back, leaders move, one worker becomes three and one again. CHAOS_TURNS says how
often, CHAOS_SEED reproduces what the test chooses.
"""

import asyncio
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from chaos_producers import ToKafka
from confluent_kafka import ElectionType
from confluent_kafka.admin import AdminClient
from kafka_log import KafkaLog
from kafka_system import (
    LEAST,
    PARTITIONS,
    Ends,
    Load,
    add_worker,
    come_to_rest,
    make_topics,
    publish,
    shards_at,
    simulated,
)
from recorded_order import (
    assert_counted_once,
    assert_statements,
    counting_events,
    folded_activity,
    refold,
)
from workflow_people import (
    assert_fired,
    expected_firings,
    people_in,
    publications,
    scattered_in,
    started_now,
    workflow_events,
)

from deploy.kafka.broker import start_several
from schemas.topics import DEAD_LETTERS
from streams.kafka.cluster import Cluster

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    # The test's own readers, where a broker dies while they start.
    pytest.mark.filterwarnings("ignore:Unclosed AIOKafkaConsumer:ResourceWarning"),
]

TURNS = int(os.environ.get("CHAOS_TURNS", "1"))
EVENTS_PER_TURN = 15_000
ROUND = 60
PAUSE_SECONDS = 2.0
"""Between two portions of events while nothing strikes: to fold without a pause would be most of the work."""
WORKERS = ("worker-0", "worker-1", "worker-2")
BROKERS = 3


@pytest.fixture
def brokers():
    directory = Path(tempfile.mkdtemp(prefix="leadstream-kafka-"))
    started = []
    try:
        started += start_several(directory, BROKERS)
        yield started
    finally:
        for broker in started:
            broker.kill()
        shutil.rmtree(directory, ignore_errors=True)


class Stage:
    """What happens, and to whom."""

    def __init__(self, cluster, brokers, crew, hold, load, rng):
        self._cluster = cluster
        self._brokers = brokers
        self._crew = crew
        self._hold = hold
        self._load = load
        self._rng = rng
        self._ports = {}
        self.struck = []
        """(what, events that were accepted and not scored)"""
        self.moved = 0
        """Partitions that got another leader."""

    def one_worker_becomes_three(self):
        self._strike("scaled up")
        for who in WORKERS[1:]:
            if who in self._ports:
                self._crew.restart(who)
            else:
                self._add(who)
        self._crew.wait_for(
            lambda: [len(shards_at(self._ports[who])) for who in WORKERS] == [4, 4, 4],
            "each of three workers owns a third",
        )

    def three_workers_become_one(self):
        for who in WORKERS[1:]:
            self._strike("scaled down")
            self._crew.end(who)
        port = self._ports[WORKERS[0]]
        self._crew.wait_for(lambda: len(shards_at(port)) == 2 * PARTITIONS, "one worker owns everything")

    def first_worker(self):
        who = WORKERS[0]
        self._add(who)
        self._crew.wait_for(
            lambda: len(shards_at(self._ports[who])) == 2 * PARTITIONS, f"{who} owns everything"
        )

    def a_worker_dies(self):
        who = self._rng.choice(WORKERS)
        self._strike(f"{who} killed")
        self._crew.kill(who)

    def a_broker_dies_and_comes_back(self):
        broker = self._rng.choice(self._brokers)
        before = self._leaders()
        self._strike(f"broker {broker.node} killed")
        broker.kill()
        self._await_commits()
        after = self._leaders()
        self.moved += sum(after[p] != leader for p, leader in before.items())
        self._strike(f"broker {broker.node} back")
        broker.restart()
        self._crew.wait_for(self._copied, "every copy is in sync again")

    def leaders_move_back(self):
        before = self._leaders()
        self._strike("leaders moved")
        admin = AdminClient({"bootstrap.servers": self._cluster.brokers})
        admin.elect_leaders(ElectionType.PREFERRED).result(60)
        after = self._leaders()
        self.moved += sum(after[p] != leader for p, leader in before.items())
        self._await_commits()

    def _add(self, who):
        few = {"CHAOS_ROUND": str(ROUND), "LEADSTREAM_BUCKETS": "3"}
        self._ports[who] = add_worker(self._crew, who, self._cluster, self._hold, **few)

    def _strike(self, what):
        self._load.hurry = True
        self._crew.wait_for(lambda: self._load.outstanding >= LEAST, f"events are outstanding before {what}")
        self._load.hurry = False
        self.struck.append((what, self._load.outstanding))
        print(f"  {what}: {self._load.outstanding} events outstanding", flush=True)

    def _await_commits(self):
        """Of whoever is at work, in this life or the next."""
        for who in self._ports:
            member = self._crew[who]
            if member.kept:
                lives, said = member.lives, member.words["committed"]
                self._crew.wait_for(
                    lambda m=member, lives=lives, said=said: (
                        m.words["committed"] > (said if m.lives == lives else 0)
                    ),
                    f"{who} commits again",
                )

    def _leaders(self):
        return {p: leader for p, (leader, _) in self._partitions().items()}

    def _copied(self):
        return all(len(in_sync) == BROKERS for _, in_sync in self._partitions().values())

    def _partitions(self):
        """What a broker says that is there: one that has just died or come back may say nothing."""

        def described():
            try:
                return asyncio.run(self._described())
            except (KafkaError, TimeoutError):
                return None

        return self._crew.wait_for(described, "a broker describes the topics")

    async def _described(self):
        admin = AIOKafkaAdminClient(**self._cluster.client())
        await admin.start()
        try:
            return {
                (topic["topic"], partition["partition"]): (partition["leader"], partition["isr"])
                for topic in await admin.describe_topics()
                for partition in topic["partitions"]
            }
        finally:
            await admin.close()


def test_brokers_die_leaders_move_and_workers_come_and_go_under_load(brokers, crew, hold):
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**31)))
    print(f"CHAOS_SEED={seed} CHAOS_TURNS={TURNS}", flush=True)
    cluster = Cluster(",".join(broker.address for broker in brokers), prefix="brokers-")
    make_topics(cluster)
    events = simulated(TURNS * EVENTS_PER_TURN, TURNS * 2_000)
    now, _ = started_now()
    publish(cluster, publications(now))
    people = workflow_events(seed, now, idle=0)
    events = scattered_in(events, people, random.Random(f"{seed}/people"))
    producer = ToKafka("to kafka", events, cluster)
    load = Load(cluster, producer, pause=PAUSE_SECONDS)
    ends = Ends(cluster)
    stage = Stage(cluster, brokers, crew, hold, load, random.Random(seed))
    try:
        producer.start()
        load.start()
        stage.first_worker()
        for turn in range(TURNS):
            print(f" turn {turn + 1} of {TURNS}, {producer.sent} events", flush=True)
            stage.one_worker_becomes_three()
            stage.a_broker_dies_and_comes_back()
            stage.a_worker_dies()
            stage.leaders_move_back()
            stage.three_workers_become_one()
        load.stop()
        come_to_rest(crew, ends)
        crew.end(WORKERS[0])
    finally:
        producer.close()
        load.close()
        ends.close()
    print(f"faults: {stage.struck}; leaders moved: {stage.moved}")
    print(f"events: {producer.sent}; exits: {[tuple(e) for e in crew.exits]}", flush=True)
    assert stage.moved > 0

    log = KafkaLog(cluster, PARTITIONS)
    counted = counting_events(log)
    assert producer.acknowledged <= counted
    assert not any(log.read(DEAD_LETTERS).values())
    assert_counted_once(log, counted)
    said, cards = refold(folded_activity(log))
    assert_statements(log, said)
    assert len(cards) > 100
    firings = list(expected_firings(people_in(log)))
    assert len(firings) > 5
    assert_fired(log, firings)

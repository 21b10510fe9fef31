"""On Kafka, whatever dies at whatever moment: everything equals the fold of the recorded order, and what workflows set off is
carried out, each under one key.

Two workers, a projection, a delivery and a gateway, as an operator runs them, under a supervisor that starts again
whoever ends. Every kind of fault happens once; CHAOS_TURNS says how often else, CHAOS_SEED reproduces what the test itself
chooses.
"""

import os
import random
import signal
import sys
import time

import pytest
from chaos_producers import ToGateway, ToKafka
from chat_sessions import assert_chat_sessions, chat_sessions
from entangled import CROWD_EVENTS, GROUP_EVENTS, assert_entangled, entangled, mixed_in
from kafka_log import KafkaLog
from kafka_system import (
    LEAST,
    PARTITIONS,
    Ends,
    Nudges,
    add_worker,
    come_to_rest,
    environment,
    make_topics,
    publish,
    shards_at,
    simulated,
)
from recorded_order import (
    assert_equals_the_fold,
    assert_statements,
    counting_events,
    folded_activity,
    refold,
)
from workflow_people import (
    assert_delivered,
    assert_fired,
    expected_firings,
    moment_of_schedule,
    moody_receiver,
    publications,
    scattered_in,
    started_now,
    wait_until_delivered,
    workflow_events,
    write_channels,
)

from leadstream.operations.kafka_projection import projection_positions
from schemas.envelope import DEFAULT_TENANT
from schemas.topics import DEAD_LETTERS
from streams.kafka.cluster import Cluster
from tests.ports import free_port

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    # The readers of the tests, where a broker dies while they start.
    pytest.mark.filterwarnings("ignore:Unclosed AIOKafkaConsumer:ResourceWarning"),
]

TURNS = int(os.environ.get("CHAOS_TURNS", "1"))
HOW_MANY = 3_500 * TURNS
GROUPS, CROWDS = 16 * TURNS, 1
MOVING = GROUPS * GROUP_EVENTS + CROWDS * CROWD_EVENTS
"""Of them, events of people who are merged, split, and share devices."""
CHATS = 18 * TURNS
"""Sessions of a chat, besides."""
WORKERS = ("worker-0", "worker-1")
AT_WORK = dict.fromkeys(WORKERS, "state restored") | {
    "projection": "Building the read models",
    "gateway": "The gateway serves",
    "delivery": "Delivering the actions",
}
"""What they log once they are."""
LOADING_SECONDS = 5.0
STEPS = ("begun", "sent", "acknowledged", "offsets", "committing", "committed")


class Director:
    """What happens to the crew."""

    def __init__(self, crew, broker, rng, nudge, ports, ends):
        self._crew = crew
        self._ends = ends
        self._broker = broker
        self._rng = rng
        self._nudge = nudge
        self._ports = ports
        self.kills = 0
        self.struck = []
        """Of each fault, how many events were accepted and not scored when it struck."""

    def play(self, act, who):
        begun = time.monotonic()
        getattr(self, f"_{act}")(who)
        print(f"  {act} {who}: {time.monotonic() - begun:.1f} s", flush=True)

    def _kill(self, who):
        if self._rng.random() < 0.8:  # else while it starts
            self._await_ready(who)
            time.sleep(self._rng.random() * 0.3)
        self._load()
        self._crew.kill(who)
        self.kills += 1

    def _die_at(self, step):
        """A worker is killed, and the one that follows it dies at a step of a transaction."""
        who = self._rng.choice(WORKERS)
        self._await_ready(who)
        self._load()
        self._crew.kill(who, armed={"CHAOS_AT": f"{step}:{self._rng.randint(1, 4)}:kill"})
        self.kills += 1
        member = self._crew[who]
        life, said = member.lives, member.words
        self._until(lambda: member.lives > life, f"{who} dies at {step}")
        self.struck.append(self._ends.outstanding())
        assert said[f"kill at {step}"], f"{who} died of something else\n{self._crew.report()}"

    def _freeze(self, who):
        """In mid-transaction, for longer than its session lasts: the other one takes everything."""
        other = WORKERS[1 - WORKERS.index(who)]
        self._await_ready(who)
        self._load()
        self._crew.kill(who, armed={"CHAOS_AT": f"acknowledged:{self._rng.randint(1, 4)}:stop"})
        self.kills += 1
        member = self._crew[who]
        life = member.lives
        self._until(lambda: member.words["stop at acknowledged"], f"{who} halts in a transaction")
        self.struck.append(self._ends.outstanding())
        everything = 2 * PARTITIONS
        self._until(lambda: len(shards_at(self._ports[other])) == everything, f"{other} owns everything")
        self._await_commit(other)
        member.send(signal.SIGCONT)
        self._until(lambda: member.lives > life, f"{who} wakes, is fenced, and ends")
        (code,) = [code for name, of, code in self._crew.exits if (name, of) == (who, life)]
        assert code > 0, f"a fenced worker has ended with {code}"

    def _stop(self, who):
        self._await_ready(who)
        self._load()
        seconds = self._crew.end(who)
        print(f"  {who} stopped within {seconds:.1f} s")
        self._crew.restart(who)

    def _break(self, _who):
        """The broker dies and comes back; everybody goes on, or ends and goes on."""
        self._load()
        self._broker.kill()
        time.sleep(self._rng.random() * 2)
        self._broker.restart()
        for who in WORKERS:
            self._await_commit(who)

    def _load(self):
        """A fault follows at once: enough is to be done, or there will be nothing that it could break."""
        deadline = time.monotonic() + LOADING_SECONDS
        while (outstanding := self._ends.outstanding()) < LEAST and time.monotonic() < deadline:
            self._nudge(5 * LEAST)
            time.sleep(0.01)
        self.struck.append(outstanding)

    def _await_commit(self, who):
        member = self._crew[who]
        lives, committed = member.lives, member.words["committed"]

        def again():
            return member.words["committed"] > (committed if member.lives == lives else 0)

        self._until(again, f"{who} commits again")

    def _await_ready(self, who):
        member = self._crew[who]
        self._crew.wait_for(lambda: member.logged(AT_WORK[who]), f"{who} is at work")

    def _until(self, condition, what):
        def met():
            self._nudge()
            return condition()

        self._crew.wait_for(met, what)


def script(rng):
    """Every kind of fault once a turn."""
    acts = []
    for _ in range(TURNS):
        acts += [("kill", who) for who in (rng.choice(WORKERS), "projection", "gateway", "delivery")]
        acts += [("die_at", step) for step in STEPS]
        acts += [("freeze", rng.choice(WORKERS)), ("break", "broker")]
        acts += [("stop", who) for who in (rng.choice(WORKERS), "projection", "gateway")]
    rng.shuffle(acts)
    return acts


@pytest.mark.postgres
def test_whatever_dies_everything_equals_the_fold_of_the_recorded_order(
    own_broker, database_url, crew, hold, tmp_path
):
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**31)))
    print(f"CHAOS_SEED={seed}", flush=True)
    cluster = Cluster(own_broker.address, prefix="chaos-")
    make_topics(cluster)
    events = simulated(HOW_MANY - MOVING, 700 * TURNS)
    moving = entangled(seed, GROUPS, events[0].recorded_at, events[-1].recorded_at, crowds=CROWDS)
    events = mixed_in(events, moving)
    rng = random.Random(f"{seed}/chats")
    events = mixed_in(events, chat_sessions(rng, CHATS, events[0].recorded_at, events[-1].recorded_at))
    now, scheduled_for = started_now()
    people = list(workflow_events(seed, now))
    events = scattered_in(events, people, random.Random(f"{seed}/people"))
    publish(cluster, publications(now))
    receiver = moody_receiver()
    port = free_port()
    ports = {who: add_worker(crew, who, cluster, hold) for who in WORKERS}
    command = [sys.executable, "-m", "leadstream"]
    env = environment(cluster, database_url=database_url, data_dir=tmp_path / "data")
    crew.add("projection", [*command, "project"], env)
    crew.add("gateway", [*command, "gateway"], env | {"LEADSTREAM_PORT": str(port)})
    channels = {
        "LEADSTREAM_DELIVERY": str(write_channels(tmp_path, receiver)),
        "LEADSTREAM_DELIVERY_PORT": "0",
    }
    crew.add("delivery", [*command, "delivery"], env | channels)

    ways = [[], []]
    for event in events:  # those of one visitor come one way, in order
        of_key = random.Random(f"{seed}/{event.visitor_id or event.lead_id}")
        ways[event.tenant == DEFAULT_TENANT and of_key.random() < 0.3].append(event)
    producers = [ToKafka("to kafka", ways[0], cluster), ToGateway("to gateway", ways[1], port)]
    nudge = Nudges(cluster)
    ends = Ends(cluster)
    director = Director(crew, own_broker, random.Random(f"{seed}/moments"), nudge, ports, ends)
    receiver.__enter__()
    try:
        for way in (*producers, nudge):
            way.start()
        acts = script(random.Random(f"{seed}/acts"))
        for number, act in enumerate(acts, 1):
            for producer in producers:
                producer.allow(number / len(acts))
            director.play(*act)
        crew.wait_for(lambda: all(p.complete for p in producers), "all events are acknowledged")
    finally:
        nudge.close()
        for producer in producers:
            producer.close()
    acknowledged = nudge.acknowledged.union(*(producer.acknowledged for producer in producers))
    assert director.kills >= 11 * TURNS
    loaded = sum(outstanding >= LEAST for outstanding in director.struck)
    print(
        f"faults: {len(director.struck)}, of them with {LEAST} outstanding events or more: {loaded}",
        flush=True,
    )
    assert loaded >= 0.75 * len(director.struck)

    firings = list(expected_firings(people, scheduled_for))
    try:
        come_to_rest(crew, ends)
        for _ in range(2):  # a moment that is recorded twice changes nothing
            publish(cluster, moment_of_schedule(now, scheduled_for))
        crew.kill(WORKERS[0])
        crew.kill("delivery")
        wait_until_delivered(database_url, len(firings))
        come_to_rest(crew, ends)
        crew.end("delivery")
        for who in WORKERS:
            crew.end(who)
        projected = ends.of(*{topic for topic, _ in projection_positions(database_url)})
        crew.wait_for(lambda: reached(database_url, projected), "everything is projected")
    finally:
        ends.close()
        receiver.__exit__()
    for who in ("projection", "gateway"):
        crew.end(who)
    print(f"exits: {[tuple(e) for e in crew.exits]}; turned away: {producers[1].turned_away}")

    log = KafkaLog(cluster, PARTITIONS)
    counted = counting_events(log)
    assert acknowledged <= counted
    assert len(counted) > HOW_MANY * 0.9
    assert not any(log.read(DEAD_LETTERS).values())
    cards = assert_equals_the_fold(database_url, log)
    assert len(cards) > 200
    assert_entangled(cards)
    assert_chat_sessions(database_url, CHATS)
    assert_fired(log, firings)
    assert_delivered(database_url, log, receiver, firings)


def reached(url, ends):
    positions = projection_positions(url)
    return all(positions.get(slot, 0) >= end for slot, end in ends.items())


def test_a_rebalance_during_a_long_restore_costs_no_membership(cluster, crew, hold):
    """A worker restores for longer than a session lasts; meanwhile another one joins, and dies."""
    make_topics(cluster)
    events = simulated(3_000, 300)
    producer = ToKafka("to kafka", events, cluster)
    ends = Ends(cluster)
    try:
        producer.allow(0.8)
        producer.start()
        add_worker(crew, "first", cluster, hold)
        crew.wait_for(lambda: producer.sent >= 2_400, "most events are acknowledged")
        come_to_rest(crew, ends)
        crew.end("first")

        hold.touch()
        crew.restart("first")
        first = crew["first"]
        crew.wait_for(lambda: first.words["restoring"] == 1, "the first worker restores")
        (member,) = ends.members()
        add_worker(crew, "second", cluster, hold)
        second = crew["second"]
        crew.wait_for(lambda: second.words["restoring"], "the second worker restores its share")
        crew.wait_for(lambda: first.words["restoring"] == 2, "the first worker restores what is left to it")
        assert member in ends.members()
        assert len(ends.members()) == 2

        second.kept = False
        second.send(signal.SIGKILL)
        crew.wait_for(lambda: first.words["restoring"] == 3, "the first worker has all again")
        assert ends.members() == [member], "it was taken for dead while it restored"
        assert first.words["restored"] == 0
        hold.unlink()
        producer.allow(1.0)
        crew.wait_for(lambda: producer.complete, "all events are acknowledged")
        come_to_rest(crew, ends)
        crew.end("first")
    finally:
        producer.close()
        ends.close()
    assert not crew.exits, "somebody ended by itself"
    log = KafkaLog(cluster, PARTITIONS)
    assert producer.acknowledged <= counting_events(log)
    said, cards = refold(folded_activity(log))
    assert_statements(log, said)
    assert len(cards) > 100

"""A network that delays, repeats, loses and cuts what a worker under load sends: everything equals the fold.

The worker reaches its broker through a proxy; its rounds are small, so that there are many. Now and then it is
killed when the end of a transaction comes late, amid the next one. Every fault strikes every kind of request; CHAOS_TURNS says
how often, CHAOS_SEED reproduces which requests.
"""

import os
import random
import re
import signal
from collections import Counter

import kafka_proxy
import pytest
from chaos_producers import ToKafka
from kafka_log import KafkaLog
from kafka_proxy import Plan, ProxyThread
from kafka_system import (
    LEAST,
    PARTITIONS,
    Ends,
    Load,
    add_worker,
    come_to_rest,
    make_topics,
    publish,
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

from schemas.topics import DEAD_LETTERS
from streams.kafka.cluster import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ROUNDS = int(os.environ.get("CHAOS_TURNS", "1"))
STRUCK = {
    "EndTxn": 2 * len(kafka_proxy.FAULTS),
    "AddPartitionsToTxn": len(kafka_proxy.FAULTS),
    "AddOffsetsToTxn": len(kafka_proxy.FAULTS),
    "TxnOffsetCommit": len(kafka_proxy.FAULTS),
    "Produce": len(kafka_proxy.FAULTS),
    "InitProducerId": len(kafka_proxy.FAULTS),
}
"""How many requests of each kind a fault strikes in a round: all faults strike every kind."""
FAULTS = ROUNDS * sum(STRUCK.values())
HOW_MANY = 8_000 + 120 * FAULTS
EVENTS_WITH_PEOPLE = 1_500
KILLED = 0.6
"""Of the late ends after the first, those with which the worker is killed."""
MANY_FRAMES = {
    "CHAOS_ROUND": "60",
    "CHAOS_BATCH_BYTES": "6000",
    "CHAOS_REQUEST_MS": "1000",
    "LEADSTREAM_BUCKETS": "3",
}
"""Small rounds, each in several requests: one that is torn shows."""
PATIENCE = 240.0 + FAULTS * 3


def test_whatever_the_network_does_everything_equals_the_fold_of_the_recorded_order(
    proxied_broker, crew, hold
):
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**31)))
    print(f"CHAOS_SEED={seed} CHAOS_TURNS={ROUNDS}", flush=True)
    direct = Cluster(proxied_broker.address, prefix=f"network-{seed}-")
    make_topics(direct)
    events = simulated(HOW_MANY, HOW_MANY // 10)
    now, _ = started_now()
    publish(direct, publications(now))
    people = workflow_events(seed, now, idle=0)
    few = events[:EVENTS_WITH_PEOPLE]  # of the events, no more are sent than faults need
    events[: len(few)] = scattered_in(few, people, random.Random(f"{seed}/people"))
    producer = ToKafka("to kafka", events, direct)
    load = Load(direct, producer)
    plan = Plan(seed, {kind: ROUNDS * count for kind, count in STRUCK.items()}, lambda: load.outstanding)
    killed = []

    def late(frame):
        """What the next transaction has written by now must not be committed by this frame."""
        chosen = not killed or random.Random(f"{seed}/{frame.correlation}").random() < KILLED
        if frame.kind == "EndTxn" and chosen:
            killed.append(frame)
            crew["worker"].send(signal.SIGKILL)

    proxy = ProxyThread(proxied_broker.proxy, proxied_broker.behind_proxy, plan, late)
    ends = Ends(direct)
    try:
        producer.start()
        load.start()
        crew.wait_for(lambda: load.outstanding > 3 * LEAST, "there is something to do")
        through = Cluster(f"127.0.0.1:{proxied_broker.proxy}", prefix=direct.prefix)
        add_worker(crew, "worker", through, hold, **MANY_FRAMES)
        crew.wait_for(shown(plan, producer), "all faults have struck", PATIENCE)
        load.stop()
        come_to_rest(crew, ends)
        crew.end("worker")
    finally:
        producer.close()
        load.close()
        ends.close()
        proxy.close()
    struck = Counter((strike.kind, strike.fault) for strike in plan.strikes)
    print(f"faults: {dict(struck)}; least outstanding: {min(s.outstanding for s in plan.strikes)}")
    lines = [line for line in crew["worker"].log.read_text().splitlines() if "the worker ends" in line]
    ended = Counter(re.findall(r'"(?:error|reason)": "(.{1,40})', "\n".join(lines)))
    print(
        f"events: {producer.sent}; killed amid a late end: {len(killed)}; ended by itself: {dict(ended)}",
        flush=True,
    )
    assert len(plan.strikes) == FAULTS
    assert len(struck) == len(STRUCK) * len(kafka_proxy.FAULTS), "every fault strikes every kind of request"
    assert killed

    log = KafkaLog(direct, PARTITIONS)
    counted = counting_events(log)
    assert producer.acknowledged <= counted
    assert not any(log.read(DEAD_LETTERS).values())
    assert_counted_once(log, counted)
    said, cards = refold(folded_activity(log))
    assert_statements(log, said)
    assert len(cards) > 100
    firings = list(expected_firings(people_in(log)))
    assert len(firings) > 20
    assert_fired(log, firings)


def shown(plan, producer):
    """Whether all faults have struck; says how far it is."""
    before = 0

    def over():
        nonlocal before
        if len(plan.strikes) >= before + 25:
            before = len(plan.strikes)
            print(f"  {before} faults, {producer.sent} events", flush=True)
        assert plan.over or not producer.complete or producer.sent < len(producer.events), plan.left
        return plan.over

    return over

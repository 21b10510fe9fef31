"""The end of a transaction comes late, amid the next one: nothing of that one may be seen before its own end.

A proxy holds an EndTxn back, cuts the client's connection, and lets the frame go just before the next
transaction ends. What a reader sees at that moment is what a death at that moment would leave.
"""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced
from kafka_log import KafkaLog
from kafka_proxy import ProxyThread, cut_after

from schemas.record import Outgoing
from schemas.topics import EVENTS, LEAD_ACTIVITY, LEAD_CHANGES
from streams.engine.state_store import ChangelogRecord
from streams.engine.task_group import Commit
from streams.kafka import transactions
from streams.kafka.cluster import Cluster
from streams.kafka.end_txn import EndTxnInDoubt, end_once
from streams.kafka.topics import TopicsRefused, create_topics, publish_records
from streams.kafka.transactions import KafkaTransactions

pytestmark = pytest.mark.kafka

PARTITIONS = 3
STAGE = "score_leads"


class LateEnd:
    """A plan: the first EndTxn goes out when the next transaction is about to end; `look` looks then."""

    def __init__(self, look):
        self._look = look
        self._first = None
        self._written = False
        self.seen = None

    def __call__(self, frame):
        if frame.kind == "Produce" and self._first:
            self._written = True
        if frame.kind != "EndTxn":
            return None
        if self._first is None:
            return self._hold
        return self._let_both_go if self._written and self.seen is None else None

    async def _hold(self, connection, frame):
        self._first = connection, frame
        connection.mute = connection.deaf = connection.kept = True
        connection.cut()

    async def _let_both_go(self, connection, frame):
        late, first = self._first
        late.forward(first)
        async with asyncio.timeout(10):
            await late.answer(first)
        late.kept = False
        self.seen = await asyncio.to_thread(self._look)
        connection.forward(frame)


class Once:
    """A plan: one fault, at the first EndTxn."""

    def __init__(self, fault):
        self._faults = [fault]

    def __call__(self, frame):
        return self._faults.pop() if self._faults and frame.kind == "EndTxn" else None


@pytest.fixture
def direct(proxied_broker, request):
    cluster = Cluster(proxied_broker.address, prefix=f"{abs(hash(request.node.name))}-")
    asyncio.run(create_topics(cluster, partitions=PARTITIONS, genesis=[]))
    return cluster


@pytest.fixture
def through(proxied_broker, direct):
    """A cluster of which the client sees what the plan lets it."""
    proxies = []

    def start(plan):
        proxies.append(ProxyThread(proxied_broker.proxy, proxied_broker.behind_proxy, plan))
        return Cluster(f"127.0.0.1:{proxied_broker.proxy}", prefix=direct.prefix)

    yield start
    for proxy in proxies:
        proxy.close()


def seen_in(cluster, *topics, amid=False):
    """What is committed: the values of these topics, sorted."""
    log = KafkaLog(cluster, PARTITIONS, amid=amid)
    return sorted(
        record.value.decode()
        for topic in topics
        for records in log.read(topic).values()
        for record in records
    )


def of_changelog(cluster):
    return seen_in(cluster, cluster.name_of(cluster.changelog(STAGE)))


@asynccontextmanager
async def opened(cluster, guard):
    producer = AIOKafkaProducer(**cluster.client(), transactional_id="late", request_timeout_ms=5_000)
    if guard:
        end_once(producer)
    await producer.start()
    try:
        yield producer
    finally:
        with suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(producer.stop(), 10)


async def two_transactions(cluster, first_end, guard):
    """The second one follows on a new producer if the first has raised, as the guard's docstring asks for."""
    events = cluster.topic(EVENTS)
    async with opened(cluster, guard) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(events, b"first", b"k", 0)
        try:
            await getattr(producer, first_end)()
        except EndTxnInDoubt:
            await producer.stop()
            async with opened(cluster, guard) as another:
                await second(another, events)
        else:
            await second(producer, events)


async def second(producer, events):
    await producer.begin_transaction()
    for partition in range(PARTITIONS):
        await producer.send_and_wait(events, b"second", b"k", partition)
    await producer.commit_transaction()


@pytest.mark.parametrize("first_end", ["commit_transaction", "abort_transaction"])
def test_a_guarded_producer_does_not_go_on_after_an_end_in_doubt(direct, through, first_end):
    plan = LateEnd(lambda: seen_in(direct, EVENTS, amid=True))
    asyncio.run(two_transactions(through(plan), first_end, guard=True))
    assert plan.seen == [], "the second transaction was seen before it was committed"
    assert seen_in(direct, EVENTS) == ["second"] * PARTITIONS


def test_without_the_guard_a_late_commit_shows_a_transaction_that_nobody_has_committed(direct, through):
    """Why there is a guard; once the client needs none, it can go."""
    plan = LateEnd(lambda: seen_in(direct, EVENTS, amid=True))
    with suppress(KafkaError):
        asyncio.run(two_transactions(through(plan), "commit_transaction", guard=False))
    assert plan.seen == ["first", *["second"] * PARTITIONS]


def test_without_the_guard_a_late_abort_undoes_a_transaction_that_is_to_be_committed(direct, through):
    plan = LateEnd(lambda: seen_in(direct, EVENTS, amid=True))
    with pytest.raises(KafkaError):
        asyncio.run(two_transactions(through(plan), "abort_transaction", guard=False))
    assert seen_in(direct, EVENTS) == []


def round_of(number, contained):
    """Outputs and state of every partition."""
    name = b"%d" % number
    return Commit(
        [Outgoing(LEAD_CHANGES, f"k{p}", name, p) for p in range(PARTITIONS)],
        {(STAGE, p): [ChangelogRecord(b"k", name), ChangelogRecord(b"\0", name)] for p in range(PARTITIONS)},
        {(LEAD_ACTIVITY, p): number for p in range(PARTITIONS)},
        contained,
    )


async def rounds(cluster, count, tell=lambda _number: None):
    """As a bucket commits them."""
    contained = dict.fromkeys([(STAGE, p) for p in range(PARTITIONS)], 0)
    made = KafkaTransactions(cluster, 0, PARTITIONS)
    await made.open()
    try:
        for number in range(count):
            contained |= await made.commit(round_of(number, contained))
            tell(number)
    finally:
        await made.close()
    return contained


def each(*numbers):
    return sorted(str(number) for number in numbers for _ in range(PARTITIONS))


def test_a_late_commit_never_shows_a_round_that_is_not_committed(direct, through):
    committed = []
    plan = LateEnd(lambda: (each(*committed), seen_in(direct, LEAD_CHANGES, amid=True)))
    asyncio.run(rounds(through(plan), 3, committed.append))
    before, seen = plan.seen
    assert seen == before
    assert seen_in(direct, LEAD_CHANGES) == each(0, 1, 2)
    assert of_changelog(direct) == each(0, 0, 1, 1, 2, 2)


def test_without_the_guard_a_late_commit_shows_a_round_that_is_not_committed(direct, through, monkeypatch):
    monkeypatch.setattr(transactions, "end_once", lambda producer: producer)
    committed = []
    plan = LateEnd(lambda: (each(*committed), seen_in(direct, LEAD_CHANGES, amid=True)))
    with suppress(KafkaError):
        asyncio.run(rounds(through(plan), 2, committed.append))
    before, seen = plan.seen
    assert before == each(0)
    assert seen == each(0, 1)


def test_a_round_whose_commit_was_done_but_not_answered_is_not_written_again(direct, through):
    contained = asyncio.run(rounds(through(Once(cut_after)), 2))
    assert seen_in(direct, LEAD_CHANGES) == each(0, 1)
    assert of_changelog(direct) == each(0, 0, 1, 1)
    # Two records and a mark per transaction; the last mark is not counted.
    assert contained == dict.fromkeys([(STAGE, p) for p in range(PARTITIONS)], 5)


def test_who_was_overtaken_while_its_commit_was_in_doubt_ends_and_writes_nothing(direct, through):
    def take_over():
        asyncio.run(rounds(direct, 2))

    async def overtaken(connection, _frame):
        """Another worker opens the bucket and commits, while the end of our transaction is on its way."""
        await asyncio.to_thread(take_over)
        connection.end()

    contained = dict.fromkeys([(STAGE, p) for p in range(PARTITIONS)], 0)

    async def run(cluster):
        made = KafkaTransactions(cluster, 0, PARTITIONS)
        await made.open()
        try:
            with pytest.raises(ProducerFenced, match="another worker has written"):
                await made.commit(round_of(7, contained))
        finally:
            await made.close()

    asyncio.run(run(through(Once(overtaken))))
    assert seen_in(direct, LEAD_CHANGES) == each(0, 1)


@pytest.mark.parametrize("unknown", ["a memory is restoring", "no state has changed"])
def test_an_end_in_doubt_that_changelogs_cannot_decide_ends_the_process(direct, through, unknown):
    made = round_of(7, dict.fromkeys([(STAGE, p) for p in range(PARTITIONS)], 0))
    made = made._replace(contained=None) if unknown == "a memory is restoring" else made._replace(changes={})

    async def run(cluster):
        writing = KafkaTransactions(cluster, 0, PARTITIONS)
        await writing.open()
        try:
            with pytest.raises(EndTxnInDoubt, match="did not answer the end of a transaction"):
                await writing.commit(made)
        finally:
            await writing.close()

    asyncio.run(run(through(Once(cut_after))))


ONE = [Outgoing(topic, "~", b"one") for topic in (EVENTS, LEAD_ACTIVITY)]
TWO = [Outgoing(topic, "~", b"two") for topic in (EVENTS, LEAD_ACTIVITY)]


@pytest.mark.parametrize("first", ["commit", "abort"])
def test_a_late_end_of_a_publication_ends_no_other_one(direct, through, first):
    plan = LateEnd(lambda: seen_in(direct, EVENTS, LEAD_ACTIVITY, amid=True))
    cluster = through(plan)
    if first == "abort":
        with pytest.raises(TopicsRefused):
            asyncio.run(publish_records(cluster, [*ONE, Outgoing(EVENTS, "~", b"x" * 3_000_000)]))
    else:
        asyncio.run(publish_records(cluster, ONE))
    asyncio.run(publish_records(cluster, TWO))
    assert "two" not in plan.seen
    once = ["one"] * (first == "commit") + ["two"]
    assert seen_in(direct, EVENTS, LEAD_ACTIVITY) == sorted(once * 2 * PARTITIONS)

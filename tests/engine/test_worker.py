"""Workers through assignments, revocations, freezes and failures: each record is folded exactly once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_log import NOON, SOURCE, Backing, Counting, Log

from schemas.decode import decode_dead_letter
from schemas.record import Chunk, Record
from scoring.features.features import NewerCodec
from streams.engine.shard import DEAD_LETTER_ORIGINAL_BYTES, encoded_dead_letter
from streams.engine.state_store import STATE_FORMAT, STATE_FORMAT_KEY, ChangelogRecord, StateStore
from streams.engine.task import Task, TaskCounts
from streams.engine.worker import Worker

PARTITIONS, BUCKETS = 4, 2


class Host:
    """One worker and what it is told to read."""

    def __init__(self, log, now=lambda: NOON):
        self.log, self.places, self.failures = log, {}, []
        self.worker = Worker(
            [Counting()],
            Backing(log),
            task_groups=BUCKETS,
            now=now,
            seek=self.places.__setitem__,
            fail=self.failures.append,
        )

    async def own(self, buckets):
        self.places.clear()
        await self.worker.revoke()
        await self.worker.assign([(SOURCE, p) for p in range(PARTITIONS) if p % BUCKETS in buckets])

    def read(self, most=100):
        for slot, at in list(self.places.items()):
            if not self.worker.full(slot):
                chunk = self.log.chunk(slot[1], at, most)
                self.places[slot] = chunk.next
                self.worker.offer(chunk)


async def turns(number):
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition, host):
    for _ in range(2_000):
        host.read()
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to pass")


def expected(log):
    """Each key's numbers, one after the other."""
    counts = {}
    for records in log.source.values():
        for record in records:
            counts[record.key] = counts.get(record.key, 0) + 1
    return {key: [b"%d" % n for n in range(1, count + 1)] for key, count in counts.items()}


def said(log):
    found = {}
    for key, value in log.said:
        found.setdefault(key, []).append(value)
    return found


def everything_folded(log):
    return lambda: len(log.said) >= sum(map(len, log.source.values()))


steps = st.one_of(
    st.tuples(st.just("produce"), st.integers(0, PARTITIONS - 1), st.integers(1, 4)),
    st.tuples(st.just("own"), st.integers(0, 1), st.sampled_from([(), (0,), (1,), (0, 1)])),
    st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 3)),
    st.tuples(st.just("tick"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 12), st.just(0)),
)


@given(st.lists(steps, max_size=40))
def test_whatever_is_assigned_taken_away_and_interrupted_each_record_is_folded_once(history):
    """Two workers, whose assignments may overlap, as a frozen one's do: whoever opened last may write."""

    async def play():
        log = Log(PARTITIONS)
        hosts = [Host(log), Host(log)]
        for what, which, how in history:
            match what:
                case "produce":
                    for n in range(how):
                        log.produce(which, f"p{which}-{n % 2}")
                case "own":
                    await hosts[which].own(how)
                case "read":
                    hosts[which].read(how)
                case "tick":
                    hosts[which].worker.tick()
                case _:
                    await turns(which)
        last = Host(log)
        await last.own((0, 1))
        await until(everything_folded(log), last)
        assert said(log) == expected(log)
        assert not last.failures

    asyncio.run(play())


@pytest.mark.parametrize("cut_after", range(40))
def test_a_restore_that_is_cut_short_leaves_nothing_stale(cut_after):
    """Another worker folded meanwhile; what was decoded before must not be folded on."""

    async def play():
        log = Log(PARTITIONS)
        first, second = Host(log), Host(log)
        for host in (first, second):
            await host.own((0,))
            log.produce(0, "key")
            await until(everything_folded(log), host)
            await host.worker.revoke()
        await first.own((0,))
        await turns(cut_after)
        await first.own((0,))
        log.produce(0, "key")
        await until(everything_folded(log), first)
        assert said(log) == expected(log)

    asyncio.run(play())


def test_timers_of_a_partition_that_is_never_quiet_fire():
    async def play():
        log = Log(PARTITIONS)
        host = Host(log)
        await host.own((0,))
        log.produce(0, "sleeper", f"due:{NOON - 1}")
        for _ in range(60):  # something is always there to be folded when a round begins
            log.produce(0, "busy")
            host.read()
            host.worker.tick()
            await turns(6)
        assert (b"woken", b"1") in [(key.encode(), value) for key, value in log.said]

    asyncio.run(play())


def test_after_a_failure_nothing_is_written_any_more():
    async def play():
        log = Log(PARTITIONS)
        host = Host(log)
        await host.own((0, 1))
        log.produce(0, "fine")
        log.produce(0, "bad", "boom")
        await turns(30)
        host.read()
        await turns(30)
        assert len(host.failures) == 1
        log.produce(1, "other")
        host.read()
        host.worker.tick()
        await host.own((0, 1))
        host.read()
        host.worker.tick()
        await turns(50)
        assert not log.said
        assert not any(log.changelogs.values())

    asyncio.run(play())


def test_a_key_whose_timer_is_passed_over_is_not_woken_again_for_the_same():
    lane = Task(Counting(), 0, StateStore(), TaskCounts())
    list(lane.store.put_timers({"k": 5}))
    lane.restored(0, {0: "it fails"})
    lane.offer(Chunk(SOURCE, 0, 0, 1, [Record(SOURCE, 0, 0, "k", b"time")]))
    lane.fold(10)
    assert lane.store.due_keys(10, 10) == []


def test_a_letter_of_a_giant_record_keeps_its_beginning_and_says_so():
    giant = Record(SOURCE, 0, 7, "k" * 5_000, b"x" * 1_900_000)
    encoded = encoded_dead_letter(giant, "no JSON")
    letter = decode_dead_letter(encoded)
    assert letter.original == b"x" * DEAD_LETTER_ORIGINAL_BYTES
    assert "1,900,000 bytes" in letter.reason
    assert len(encoded) < 2 * 1024 * 1024, "the broker takes it"


def test_a_worker_refuses_the_state_of_a_newer_version_and_leaves_it_alone():
    """It names the reason and folds nothing; a worker that reads it goes on."""

    async def play():
        log = Log(PARTITIONS)
        log.produce(0, "a")
        newer = ChangelogRecord(STATE_FORMAT_KEY, b"%d" % (STATE_FORMAT + 1))
        changelog = log.changelogs["count", 0] = [newer, None]
        older = Host(log)
        await older.own((0,))
        await until(lambda: bool(older.failures), older)
        await turns(50)
        older.worker.tick()
        await turns(50)
        assert isinstance(older.failures[0], NewerCodec)
        assert "newer version of Leadstream wrote this state" in str(older.failures[0])
        assert changelog == [newer, None]
        assert not log.said
        changelog[0] = ChangelogRecord(STATE_FORMAT_KEY, b"%d" % STATE_FORMAT)
        again = Host(log)
        await again.own((0,))
        await until(everything_folded(log), again)
        await again.worker.stop()

    asyncio.run(play())


def test_what_the_log_let_go_before_it_was_folded_is_counted():
    """Position 2 comes next, and the log begins at 7: five positions count nowhere."""

    async def play():
        log = Log(PARTITIONS)
        first, second = Host(log), Host(log)
        await first.own((0,))
        for _ in range(2):
            log.produce(0, "key")
        await until(everything_folded(log), first)
        assert first.worker.counts["count"].removed == 0
        await first.worker.revoke()
        begin = {(SOURCE, 0): 7}

        async def beginnings(slots):
            return dict.fromkeys(slots, 0) | begin

        second.worker._backing.beginnings = beginnings
        await second.own((0,))
        await until(lambda: all(shard.ready for shard in second.worker.status()), second)
        assert second.worker.counts["count"].removed == 5

    asyncio.run(play())


def test_a_shard_says_since_when_its_next_record_is_in_the_log():
    async def play():
        log = Log(PARTITIONS)
        host = Host(log)
        await host.own((0, 1))
        await until(lambda: all(shard.ready for shard in host.worker.status()), host)
        assert {shard.oldest_at for shard in host.worker.status()} == {None}
        log.produce(0, "key")
        host.read()
        assert {shard.partition: shard.oldest_at for shard in host.worker.status()}[0] == NOON

    asyncio.run(play())

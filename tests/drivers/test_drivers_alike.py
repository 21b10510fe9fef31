"""What every driver promises, whatever it keeps its log in."""

import threading
from collections import Counter

from counting import Counting, stages, visit
from driven import PARTITIONS, eventually

from schemas.decode import decode_dead_letter
from schemas.record import Outgoing
from schemas.topics import (
    DEAD_LETTERS,
    EVENTS,
    LEAD_ACTIVITY,
    LEAD_SCORES,
    PARTITION_WIDE_KEY,
    SCORE_CHANGED,
    partition_of,
)

MINUTE = 60_000


def hosted(test):
    """It is asked of a worker under Faust, too."""
    test.hosted = True
    return test


def numbers(run, stage, part="count"):
    return {key: int(parts[part]) for key, parts in run.state(stage).items() if part in parts}


def assert_said_what_is_stored(run):
    """State and statements are of one transaction: they never tell different counts."""
    counts = numbers(run, "count_leads")
    said = {}
    for record in run.records(SCORE_CHANGED):
        said.setdefault(record.key, []).append(int(record.value))
    assert said == {lead: list(range(1, count + 1)) for lead, count in counts.items()}
    assert {key: int(value) for key, value in run.newest(LEAD_SCORES).items()} == counts


@hosted
def test_what_is_appended_stands_in_order_and_is_folded(run):
    appended = [visit(f"{'ab'[n % 2]}{n % 7}", f"seen {n}") for n in range(300)]
    for begin in range(0, 300, 10):
        run.append(appended[begin : begin + 10])
    run.settle()
    stored = run.records(EVENTS)
    assert sorted((r.key, r.value) for r in stored) == sorted((r.key, r.value) for r in appended)
    assert all(r.partition == partition_of(r.key, PARTITIONS) for r in stored)
    for key in {r.key for r in appended}:
        in_order = sorted((r for r in stored if r.key == key), key=lambda r: r.position)
        assert [r.value for r in in_order] == [r.value for r in appended if r.key == key]
    assert numbers(run, "count_visits") == Counter(r.key for r in appended)
    assert numbers(run, "count_leads") == {"a": 150, "b": 150}
    assert_said_what_is_stored(run)


def test_a_restart_goes_on_with_the_state_where_it_stopped(run):
    run.append([visit("a1")] * 5 + [visit("b1")])
    run.settle()
    run.stop()
    run.start()
    run.append([visit("a1")])
    run.settle()
    assert numbers(run, "count_visits") == {"a1": 6, "b1": 1}
    assert numbers(run, "count_leads") == {"a": 6, "b": 1}
    assert_said_what_is_stored(run)


@hosted
def test_stopped_in_mid_load_it_counts_everything_once(run):
    keys = [f"{'abc'[n % 3]}{n % 500}" for n in range(2_000)]
    for begin in range(0, 2_000, 100):
        run.append([visit(key) for key in keys[begin : begin + 100]])
        if begin % 500 == 0:
            run.stop()
            run.start()
    run.settle()
    assert numbers(run, "count_visits") == Counter(keys)
    assert numbers(run, "count_leads") == Counter(key[0] for key in keys)
    assert_said_what_is_stored(run)


def test_what_is_delivered_again_has_no_second_effect(run):
    keys = [f"a{n % 50}" for n in range(1_000)]
    for begin in range(0, 1_000, 200):
        run.append([visit(key) for key in keys[begin : begin + 200]])
        run.deliver_again()
    run.settle()
    run.deliver_again()
    run.append([visit("b1")])
    run.settle()
    assert numbers(run, "count_visits") == Counter([*keys, "b1"])
    assert_said_what_is_stored(run)


def test_parts_that_are_gone_are_gone_after_a_restart(run):
    run.append([visit(f"a{n}") for n in range(50)])
    run.append([visit(f"a{n}", "forget") for n in range(1, 50)])
    run.settle()
    assert numbers(run, "count_visits") == {"a0": 1}
    run.stop()
    run.start()
    run.append([visit("a0"), visit("a1")])
    run.settle()
    assert numbers(run, "count_visits") == {"a0": 2, "a1": 1}


def test_a_compacted_topic_tells_the_newest_of_each_key(run):
    run.append([visit(f"{lead}1") for lead in "abcabab"])
    run.settle()
    assert run.newest(LEAD_SCORES) == {"a": b"3", "b": b"3", "c": b"1"}


def test_publishing_reaches_every_partition_of_both_sources(run):
    run.publish(b"|sweep:1", b"|sweep:2")
    run.settle()
    everywhere = range(PARTITIONS)
    assert sorted((r.partition, r.key, r.value) for r in run.records(EVENTS)) == [
        (p, PARTITION_WIDE_KEY, b"|sweep:1") for p in everywhere
    ]
    assert sorted((r.partition, r.key, r.value) for r in run.records(LEAD_ACTIVITY)) == [
        (p, PARTITION_WIDE_KEY, b"|sweep:2") for p in everywhere
    ]


class Slow(Counting):
    """Its sweep halts at the `at`-th key, until it is let go."""

    def __init__(self, *what, at):
        super().__init__(*what)
        self.at, self.visited_keys = at, 0
        self.there, self.let_go = threading.Event(), threading.Event()

    def visit(self, shared, state, message, origin, emit):
        self.visited_keys += 1
        if self.visited_keys >= self.at:
            self.there.set()
            self.let_go.wait(0.05)
        super().visit(shared, state, message, origin, emit)


@hosted
def test_a_sweep_that_a_restart_interrupts_visits_each_key_exactly_once(begin, small_steps):
    slow = Slow("count_visits", EVENTS, at=150)
    run = begin([slow, stages()[1]])
    keys = [f"{n:05d}" for n in range(600)]
    run.append([visit(key) for key in keys])
    run.settle()
    run.publish(b"|sweep:1", b"|sweep:1")
    assert slow.there.wait(60)
    run.stop()
    swept = len(numbers(run, "count_visits", "visits"))
    assert 100 <= swept < len(keys), "it was not interrupted"
    slow.let_go.set()
    run.start()
    run.append([visit(key) for key in keys[:50]])
    run.settle()
    assert numbers(run, "count_visits", "visits") == dict.fromkeys(keys, 1)
    assert numbers(run, "count_visits") == dict.fromkeys(keys, 1) | dict.fromkeys(keys[:50], 2)
    assert numbers(run, "count_visits", "version") == {PARTITION_WIDE_KEY: 1}
    assert numbers(run, "count_leads", "visits") == {"0": 1}


@hosted
def test_a_key_is_woken_once_when_its_time_has_come_and_not_before(run, clock):
    now = clock()
    soon, later = now + 30 * MINUTE, now + 90 * MINUTE
    run.append([visit("a1", f"due:{soon}"), visit("a2", f"due:{later}")])
    run.settle()
    assert run.dues() == {"a1": soon, "a2": later}
    clock.ahead = 31 * MINUTE
    eventually(lambda: numbers(run, "count_visits", "woken") == {"a1": 1}, "a1 is woken")
    assert run.dues() == {"a2": later}
    clock.ahead = 91 * MINUTE
    eventually(lambda: "a2" in numbers(run, "count_visits", "woken"), "a2 is woken")
    run.settle()
    assert numbers(run, "count_visits", "woken") == {"a1": 1, "a2": 1}
    told = [r.value.split(b"|time:") for r in run.records(EVENTS) if b"|time:" in r.value]
    assert sorted(key for key, _ in told) == [b"a1", b"a2"]
    assert all(int(at) >= {b"a1": soon, b"a2": later}[key] for key, at in told)
    assert run.dues() == {}


def test_a_timer_that_is_lost_with_its_process_is_not_lost(run, clock):
    run.append([visit(f"a{n}", f"due:{clock() + 30 * MINUTE}") for n in range(20)])
    run.settle()
    run.stop()
    clock.ahead = 31 * MINUTE
    run.start()
    eventually(lambda: len(numbers(run, "count_visits", "woken")) == 20, "all are woken")
    run.settle()
    assert numbers(run, "count_visits", "woken") == {f"a{n}": 1 for n in range(20)}


def test_an_undecodable_record_becomes_a_dead_letter_and_its_partition_goes_on(run):
    run.append([visit("a1"), Outgoing(EVENTS, "a1", b"no separator"), visit("a1")])
    run.settle()
    (bad,) = [record for record in run.records(EVENTS) if record.value == b"no separator"]
    (letter,) = run.records(DEAD_LETTERS)
    dead = decode_dead_letter(letter.value)
    assert (dead.topic, dead.partition, dead.position) == (EVENTS, bad.partition, bad.position)
    assert (dead.key, dead.original, letter.key) == ("a1", b"no separator", "a1")
    assert numbers(run, "count_visits") == {"a1": 2}
    assert_said_what_is_stored(run)


@hosted
def test_a_fold_that_raises_commits_nothing_names_the_record_and_goes_on_when_it_is_skipped(run):
    run.append([visit("a1"), visit("b1")])
    run.settle()
    run.append([visit("a1", "boom"), visit("a1"), visit("a1")])
    failed = run.failing()
    assert (failed.topic, failed.key, failed.value) == (EVENTS, "a1", b"a1|boom")
    assert numbers(run, "count_visits") == {"a1": 1, "b1": 1}
    assert_said_what_is_stored(run)
    assert run.records(DEAD_LETTERS) == []

    run.append([visit("a1")])  # events are taken all the same
    run.skip(failed, "we know it is broken")
    run.settle()
    assert numbers(run, "count_visits") == {"a1": 4, "b1": 1}
    assert numbers(run, "count_leads") == {"a": 4, "b": 1}
    assert_said_what_is_stored(run)
    (letter,) = run.records(DEAD_LETTERS)
    dead = decode_dead_letter(letter.value)
    assert (dead.topic, dead.partition, dead.position) == (EVENTS, failed.partition, failed.position)
    assert (dead.key, dead.original) == ("a1", b"a1|boom")
    assert "we know it is broken" in dead.reason


def test_what_fails_meets_a_restart_again_and_a_mended_fold_goes_on(begin):
    both = stages()
    run = begin(both)
    run.append([visit("a1"), visit("a1", "boom"), visit("a1")])
    first = run.failing()
    run.stop()
    run.start()
    assert run.failing()[:3] == first[:3]
    run.stop()
    both[0].explosive = False
    run.start()
    run.settle()
    assert numbers(run, "count_visits") == {"a1": 3}
    assert_said_what_is_stored(run)


def test_what_the_second_stage_fails_on_is_skipped_there(run):
    run.append([visit("boom")])  # as lead b hears it, the word is boom
    failed = run.failing()
    assert failed.topic == LEAD_ACTIVITY
    assert numbers(run, "count_visits") == {"boom": 1}
    assert numbers(run, "count_leads") == {}
    run.skip(failed, "a bug")
    run.append([visit("b1")])
    run.settle()
    assert numbers(run, "count_visits") == {"boom": 1, "b1": 1}
    assert numbers(run, "count_leads") == {"b": 1}
    assert [decode_dead_letter(r.value).topic for r in run.records(DEAD_LETTERS)] == [LEAD_ACTIVITY]
    assert_said_what_is_stored(run)

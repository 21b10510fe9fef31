"""The embedded driver, with two counting stages on a real PostgreSQL."""

import time
from collections import Counter
from concurrent.futures import wait

import psycopg
import pytest
from counting import stages, visit

from projections import connection
from schemas.decode import decode_dead_letter
from schemas.record import Outgoing, Record
from schemas.topics import (
    DEAD_LETTERS,
    EVENTS,
    LEAD_ACTIVITY,
    LEAD_SCORES,
    PARTITION_WIDE_KEY,
    SCORE_CHANGED,
    partition_of,
)
from streams.embedded import driver as driver_module
from streams.embedded import log, writer
from streams.embedded.driver import Driver, NotStored
from streams.embedded.waiting import AppenderStopped, AppendQueueFull
from streams.engine.shard import Shard
from tests.projections.tcp_proxy import Proxy

PARTITIONS = 4
NOON = 1_800_000_000_000


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def start(database_url, clock):
    """Starts drivers on the test's database, and stops them after it."""
    started = []

    def start(**options):
        options = {"now": clock, "partitions": PARTITIONS, **options}
        driver = Driver(lambda: database_url, options.pop("stages", None) or stages(), **options)
        driver.start()
        started.append(driver)
        return driver

    yield start
    for driver in started:
        driver.stop()


@pytest.fixture
def reader(database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(driver_module, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(driver_module, "RETRY_SECONDS", 0.2)


def eventually(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def settled(driver):
    status = driver.status()
    return status.failing is None and status.waiting == 0 and not any(status.backlog.values())


def topic(reader, name):
    return list(log.scan_topic(reader, name))


def numbers(reader, stage, part="count"):
    rows = reader.execute("select key, value from state where stage = %s and part = %s", (stage, part))
    return {key: int(value) for key, value in rows}


def assert_gap_free(reader):
    for name in log.APPEND_ONLY_TOPICS:
        positions = {}
        for record in topic(reader, name):
            assert record.position == positions.get(record.partition, 0)
            positions[record.partition] = record.position + 1
        heads = {p: n for (t, p), n in log.read_heads(reader).items() if t == name}
        assert heads == positions


def test_what_is_appended_stands_in_the_log_in_order_and_is_folded(start, reader):
    driver = start()
    futures = [driver.append([visit(f"a{n % 7}"), visit(f"b{n}")]) for n in range(300)]
    stored = [record for future in futures for record in future.result(60)]
    eventually(lambda: settled(driver))

    assert [(r.key, r.value) for r in stored] == [
        (v.key, v.value) for n in range(300) for v in (visit(f"a{n % 7}"), visit(f"b{n}"))
    ]
    assert sorted(topic(reader, EVENTS)) == sorted(stored)
    assert all(r.partition == partition_of(r.key, PARTITIONS) for r in stored)
    for partition in range(PARTITIONS):  # as sent, so as positioned
        assert [r.position for r in stored if r.partition == partition] == sorted(
            r.position for r in stored if r.partition == partition
        )
    assert_gap_free(reader)
    assert numbers(reader, "count_visits") == Counter(r.key for r in stored)
    assert numbers(reader, "count_leads") == {"a": 300, "b": 300}
    assert {r.key: r.value for r in topic(reader, LEAD_SCORES)} == {"a": b"300", "b": b"300"}
    assert [r.value for r in topic(reader, SCORE_CHANGED) if r.key == "a"] == [
        b"%d" % n for n in range(1, 301)
    ]


def test_an_answered_append_is_on_disk_with_its_consequences(start, reader):
    """One transaction: who was answered sees log, state and statements."""
    driver = start()
    driver.append([visit("a1")]).result(60)
    assert numbers(reader, "count_leads") == {"a": 1}
    assert [r.value for r in topic(reader, LEAD_SCORES)] == [b"1"]


def test_a_restart_goes_on_where_it_stopped(start, reader):
    first = start()
    first.append([visit("a1")] * 5).result(60)
    first.stop()
    with pytest.raises(AppenderStopped):
        first.append([visit("a1")])
    second = start(partitions=None)
    assert second.partitions == PARTITIONS
    second.append([visit("a1")]).result(60)
    assert numbers(reader, "count_visits") == {"a1": 6}
    assert_gap_free(reader)


def test_stopping_stores_what_waits(start, reader):
    driver = start()
    futures = [driver.append([visit(f"a{n}")]) for n in range(500)]
    driver.stop()
    assert all(future.result(0) for future in futures)
    assert len(topic(reader, EVENTS)) == 500
    assert not driver.status().alive


def test_a_second_driver_on_the_same_database_is_refused(start, monkeypatch):
    monkeypatch.setattr(log, "_LOCK_SECONDS", 0.3)
    start()
    with pytest.raises(log.LogRefused, match="Another process appends"):
        start()


def test_another_number_of_partitions_is_refused(start):
    start().stop()
    with pytest.raises(log.LogRefused, match="LEADSTREAM_PARTITIONS=4"):
        start(partitions=8)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Outgoing("no-such-topic", "k", b""), "no topic"),
        (Outgoing(EVENTS, "k", b"", PARTITIONS), "no partition 4"),
        (Outgoing(EVENTS, "nul\0", b""), "NUL"),
        (Outgoing(EVENTS, "lone surrogate \ud800", b""), "surrogates not allowed"),
    ],
)
def test_what_the_log_cannot_hold_is_refused_before_it_harms_others(start, reader, record, reason):
    driver = start()
    with pytest.raises(ValueError, match=reason):
        driver.append([visit("a1"), record])
    driver.append([visit("a2")]).result(60)
    assert [r.key for r in topic(reader, EVENTS)] == ["a2"]


def test_genesis_reaches_every_partition_once(start, reader):
    genesis = [
        Outgoing(EVENTS, PARTITION_WIDE_KEY, b"|sweep:1"),
        Outgoing(LEAD_ACTIVITY, PARTITION_WIDE_KEY, b"|sweep:1", 2),
    ]
    start(genesis=genesis).stop()
    start(genesis=genesis).stop()
    assert topic(reader, EVENTS) == [
        Record(EVENTS, p, 0, PARTITION_WIDE_KEY, b"|sweep:1") for p in range(PARTITIONS)
    ]
    assert topic(reader, LEAD_ACTIVITY) == [Record(LEAD_ACTIVITY, 2, 0, PARTITION_WIDE_KEY, b"|sweep:1")]


def test_publishing_reaches_every_partition_of_both_sources(start, reader):
    driver = start()
    driver.publish(b"|sweep:1", b"|sweep:2").result(60)
    assert [(r.partition, r.value) for r in topic(reader, EVENTS)] == [
        (p, b"|sweep:1") for p in range(PARTITIONS)
    ]
    assert [(r.partition, r.value) for r in topic(reader, LEAD_ACTIVITY)] == [
        (p, b"|sweep:2") for p in range(PARTITIONS)
    ]


def test_an_undecodable_record_becomes_a_dead_letter_and_the_rest_goes_on(start, reader):
    driver = start()
    driver.append([visit("a1"), Outgoing(EVENTS, "a1", b"no separator"), visit("a1")]).result(60)
    (letter,) = topic(reader, DEAD_LETTERS)
    assert decode_dead_letter(letter.value).original == b"no separator"
    assert numbers(reader, "count_visits") == {"a1": 2}


def test_parts_that_are_gone_leave_no_row(start, reader):
    driver = start()
    driver.append([visit(f"a{n}") for n in range(200)]).result(60)
    driver.append([visit(f"a{n}", "forget") for n in range(1, 200)]).result(60)
    assert numbers(reader, "count_visits") == {"a0": 1}
    driver.append([visit("a1"), visit("a1", "forget"), visit("a1")]).result(60)
    assert numbers(reader, "count_visits") == {"a0": 1, "a1": 1}


def test_a_failing_fold_stops_folding_but_not_appending_until_it_is_skipped(start, reader, quick):
    driver = start()
    before = driver.append([visit("a1")]).result(60)
    (boom,) = driver.append([visit("a1", "boom")]).result(60)
    eventually(lambda: driver.status().failing is not None)
    failing = driver.status().failing
    assert failing.record == boom
    assert "boom" in failing.cause
    after = [driver.append([visit("a1"), visit("b1")]).result(60) for _ in range(50)]
    assert driver.status().alive
    assert numbers(reader, "count_visits") == {"a1": 1}
    assert sorted(topic(reader, EVENTS)) == sorted([*before, boom, *(r for some in after for r in some)])

    driver.skip(boom.topic, boom.partition, boom.position, "we know it is broken")
    eventually(lambda: settled(driver))
    assert numbers(reader, "count_visits") == {"a1": 51, "b1": 50}
    assert numbers(reader, "count_leads") == {"a": 51, "b": 50}
    (letter,) = topic(reader, DEAD_LETTERS)
    dead = decode_dead_letter(letter.value)
    assert (dead.partition, dead.position, dead.original) == (boom.partition, boom.position, b"a1|boom")
    assert "we know it is broken" in dead.reason
    assert_gap_free(reader)
    with pytest.raises(log.LogRefused, match="folded already"):
        driver.skip(boom.topic, boom.partition, boom.position, "again")


def test_a_restart_meets_the_failing_record_again_and_a_skip_by_another_process_frees_it(
    start, reader, quick
):
    first = start()
    (boom,) = first.append([visit("a1", "boom"), visit("a1")]).result(60)[:1]
    first.stop()
    second = start()
    eventually(lambda: second.status().failing is not None)
    with psycopg.connect(reader.info.dsn) as elsewhere:
        log.write_skip(
            elsewhere, "count_visits", boom.topic, boom.partition, boom.position, "by the command line"
        )
    eventually(lambda: settled(second))
    assert numbers(reader, "count_visits") == {"a1": 1}


def test_a_mended_fold_goes_on_by_itself(start, reader, quick):
    both = stages()
    driver = start(stages=both)
    driver.append([visit("a1"), visit("a1", "boom")]).result(60)
    eventually(lambda: driver.status().failing is not None)
    both[0].explosive = False
    eventually(lambda: settled(driver))
    assert numbers(reader, "count_visits") == {"a1": 2}


def test_what_the_second_stage_fails_on_stands_in_the_log_so_that_it_can_be_skipped(start, reader, quick):
    both = stages()
    driver = start(stages=both)
    driver.append([visit("boom"), visit("b1")]).result(60)  # as lead b hears it, the word is boom
    eventually(lambda: driver.status().failing is not None)
    assert driver.status().failing.record.topic == LEAD_ACTIVITY
    driver.append([visit("b1")]).result(60)
    assert numbers(reader, "count_visits") == {"boom": 1, "b1": 1}
    assert numbers(reader, "count_leads") == {}
    assert len(topic(reader, LEAD_ACTIVITY)) == 2
    failed = driver.status().failing.record
    driver.skip(*failed[:3], "a bug")
    eventually(lambda: settled(driver))
    assert numbers(reader, "count_visits") == {"boom": 1, "b1": 2}
    assert numbers(reader, "count_leads") == {"b": 2}
    assert_gap_free(reader)


def test_a_second_stage_that_is_mended_goes_on_by_itself(start, reader, quick):
    both = stages()
    driver = start(stages=both)
    driver.append([visit("boom"), visit("b1")]).result(60)
    eventually(lambda: driver.status().failing is not None)
    both[1].explosive = False
    eventually(lambda: settled(driver))
    assert numbers(reader, "count_visits") == {"boom": 1, "b1": 1}
    assert numbers(reader, "count_leads") == {"b": 2}
    assert_gap_free(reader)


def test_what_the_database_refuses_is_told_and_the_rest_goes_on(start, reader, quick):
    driver = start()
    reader.execute("alter table records_events add constraint no_poison check (key <> 'poison')")
    with pytest.raises(NotStored, match="no_poison"):
        driver.append([visit("poison")]).result(60)
    driver.append([visit("a1")]).result(60)
    eventually(lambda: settled(driver))
    assert numbers(reader, "count_visits") == {"a1": 1}
    assert_gap_free(reader)


class Projected:
    """Writes rows in the driver's transaction, and fails when it is told to."""

    def __init__(self, reader):
        reader.execute(
            "create table projected (n serial, topic text, partition int, position bigint, key text)"
        )
        self.fails = False

    def __call__(self, connection, records):
        if self.fails:
            connection.execute("select 1/0")
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into projected (topic, partition, position, key) values (%s, %s, %s, %s)",
                [record[:4] for record in records],
            )


def assert_projected_once_and_in_order(reader):
    rows = reader.execute("select topic, partition, position from projected order by n").fetchall()
    seen = {}
    for name, partition, position in rows:
        assert position == seen.get((name, partition), 0)
        seen[name, partition] = position + 1
    assert seen == log.read_heads(reader)


def test_every_record_is_projected_once_and_in_order(start, reader):
    driver = start(project=Projected(reader), genesis=[Outgoing(EVENTS, PARTITION_WIDE_KEY, b"|sweep:1")])
    wait([driver.append([visit(f"a{n}"), visit("b")]) for n in range(200)])
    assert_projected_once_and_in_order(reader)


@pytest.mark.parametrize("restarted", [True, False])
def test_a_failing_projection_is_caught_up_with_once_and_in_order(
    start, reader, quick, monkeypatch, restarted
):
    monkeypatch.setattr(writer, "TURN_RECORDS", 10)
    project = Projected(reader)
    driver = start(project=project)
    driver.append([visit("a1")]).result(60)
    project.fails = True
    wait([driver.append([visit(f"a{n}"), visit("b")]) for n in range(50)])
    eventually(lambda: driver.status().failing is not None)
    assert "DivisionByZero" in driver.status().failing.cause
    assert driver.status().failing.record is None
    assert len(topic(reader, EVENTS)) == 101
    time.sleep(0.5)  # it fails again, now at what was left behind
    if restarted:
        driver.stop()
        driver = start(project=project)
    project.fails = False
    wait([driver.append([visit("c")]) for _ in range(20)])
    eventually(lambda: settled(driver) and not log.read_unprojected(reader))
    assert numbers(reader, "count_leads") == {"a": 51, "b": 50, "c": 20}
    assert_projected_once_and_in_order(reader)


def test_a_refused_append_leaves_no_trace_in_what_is_still_to_be_projected(start, reader, quick):
    project = Projected(reader)
    driver = start(project=project)
    reader.execute("alter table records_events add constraint no_poison check (value <> 'a1|poison')")
    project.fails = True
    with pytest.raises(NotStored):
        driver.append([visit("a1", "poison")]).result(60)
    driver.append([visit("a1")]).result(60)
    driver.stop()
    project.fails = False
    driver = start(project=project)
    eventually(lambda: settled(driver) and not log.read_unprojected(reader))
    assert_projected_once_and_in_order(reader)


def test_a_due_key_is_woken_once_and_an_early_one_is_not(start, reader, clock, quick):
    driver = start()
    driver.append([visit("a1", f"due:{NOON + 5_000}"), visit("a2", f"due:{NOON + 9_000}")]).result(60)
    time.sleep(0.3)
    assert numbers(reader, "count_visits", "woken") == {}
    clock.now = NOON + 5_000
    eventually(lambda: numbers(reader, "count_visits", "woken") == {"a1": 1})
    time.sleep(0.3)
    assert numbers(reader, "count_visits", "woken") == {"a1": 1}
    assert [r.value for r in topic(reader, EVENTS) if b"time" in r.value] == [b"a1|time:%d" % (NOON + 5_000)]
    assert reader.execute("select key, due_at from dues").fetchall() == [("a2", NOON + 9_000)]
    clock.now = NOON + 20_000
    eventually(lambda: numbers(reader, "count_visits", "woken") == {"a1": 1, "a2": 1})
    assert reader.execute("select key from dues").fetchall() == []


def test_more_due_keys_than_one_look_takes_are_all_woken(start, reader, clock, monkeypatch):
    """Without a pause between the looks."""
    monkeypatch.setattr(writer, "TIMERS_AT_ONCE", 10)
    monkeypatch.setattr(driver_module, "TICK_SECONDS", 2.0)
    driver = start()
    driver.append([visit(f"a{n}", f"due:{NOON + n}") for n in range(95)]).result(60)
    clock.now = NOON + 1_000
    eventually(lambda: sum(numbers(reader, "count_visits", "woken").values()) == 95)


def test_a_sweep_reaches_every_key_once_while_others_go_on(start, reader, monkeypatch):
    """The sweep of a shard takes many calls; meanwhile the other stage's records are folded."""
    monkeypatch.setattr(Shard, "SWEEP_STEP", 10)
    monkeypatch.setattr(writer, "TURN_RECORDS", 20)
    driver = start()
    keys = [f"{n:05d}" for n in range(1_000)]
    driver.append([visit(key) for key in keys]).result(60)
    driver.publish(b"|sweep:1", b"|sweep:1").result(60)
    futures = [driver.append([visit(key)]) for key in keys[:50]]
    assert all(future.result(60) for future in futures)
    eventually(lambda: settled(driver), 30)
    assert numbers(reader, "count_visits", "visits") == dict.fromkeys(keys, 1)
    assert sum(numbers(reader, "count_visits").values()) == 1_050
    assert numbers(reader, "count_visits", "version") == {PARTITION_WIDE_KEY: 1}


def test_a_sweep_that_a_restart_interrupts_goes_on_at_its_cursor(start, reader, monkeypatch):
    monkeypatch.setattr(Shard, "SWEEP_STEP", 10)
    monkeypatch.setattr(writer, "TURN_RECORDS", 10)
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    keys = [f"{n:05d}" for n in range(800)]
    driver = start()
    driver.append([visit(key) for key in keys]).result(60)
    eventually(lambda: settled(driver))
    driver.publish(b"|sweep:1", b"|sweep:1").result(60)
    stops = 0
    while not settled(driver):
        driver.stop()
        stops += 1
        driver = start()
        time.sleep(0.02)
    assert stops > 1
    assert numbers(reader, "count_visits", "visits") == dict.fromkeys(keys, 1)
    assert numbers(reader, "count_visits") == dict.fromkeys(keys, 1)


def test_lanes_take_turns(database_url, monkeypatch):
    """However little a transaction folds, no partition waits for another to finish."""
    monkeypatch.setattr(writer, "TURN_RECORDS", 1)
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    one = writer.Writer(database_url, stages(), partitions=PARTITIONS)
    one.commit_unfolded(
        [Outgoing(EVENTS, f"a{p}", f"a{p}|seen".encode(), p) for p in range(4) for _ in range(9)]
    )
    for turn in range(1, 5):
        one.commit([])
        assert [lane.committed for lane in one._tasks[EVENTS]] == [turn] * PARTITIONS
    assert one.backlog["count_visits"] == 4 * 5
    assert one.has_work
    one.close()


def test_a_backlog_beyond_memory_is_folded_from_the_log(start, reader, monkeypatch, quick):
    """Appended while folding stood still, more than a lane keeps in memory."""
    monkeypatch.setattr(writer, "TAIL_RECORDS", 50)
    monkeypatch.setattr(writer, "CHUNK_RECORDS", 30)
    monkeypatch.setattr(writer, "TURN_RECORDS", 100)
    both = stages()
    driver = start(stages=both)
    driver.append([visit("a1", "boom")]).result(60)
    wait([driver.append([visit(f"a{n % 50}") for n in range(500)]) for _ in range(4)])
    assert driver.status().backlog["count_visits"] == 2_001
    both[0].explosive = False
    eventually(lambda: settled(driver))
    assert numbers(reader, "count_leads") == {"a": 2_001}
    assert_gap_free(reader)


@pytest.fixture
def slow_commits(monkeypatch):
    commit = writer.Writer.commit

    def slow(self, outgoing, now=None):
        time.sleep(0.1)
        return commit(self, outgoing, now)

    monkeypatch.setattr(writer.Writer, "commit", slow)


def test_who_comes_when_too_much_waits_is_told_to_come_back(start, slow_commits):
    driver = start()
    with pytest.raises(AppendQueueFull) as busy:  # noqa: PT012 - one of them is too much, whichever
        for _ in range(100):
            driver.append([visit("a1")] * 1_000)
    assert busy.value.retry_after > 0
    with pytest.raises(ValueError, match="split it"):
        driver.append([visit("a1")] * 20_001)


def test_a_cancelled_append_is_not_stored(start, reader, slow_commits):
    driver = start()
    futures = [driver.append([visit(f"a{n}")] * 1_500) for n in range(5)]
    cancelled = futures[4].cancel()
    wait(futures[:4])
    driver.stop()
    assert cancelled
    assert "a4" not in {record.key for record in topic(reader, EVENTS)}


def test_a_lost_connection_is_replaced_and_nothing_is_lost_or_doubled(start, reader, quick):
    """The server ends the appender's session again and again, also in the middle of a commit."""
    driver = start()
    futures = []
    for n in range(300):
        futures.append(driver.append([visit(f"a{n}"), visit(f"a{n}")]))
        if n % 30 == 10:
            time.sleep(0.005)
            reader.execute(
                """select pg_terminate_backend(pid) from pg_stat_activity
                   where application_name = 'leadstream appender' and datname = current_database()"""
            )
    stored = [record for future in futures for record in future.result(20)]
    eventually(lambda: settled(driver))
    assert sorted(topic(reader, EVENTS)) == sorted(stored)
    assert numbers(reader, "count_visits") == {f"a{n}": 2 for n in range(300)}
    assert numbers(reader, "count_leads") == {"a": 600}
    assert_gap_free(reader)


@pytest.mark.parametrize("done", [True, False])
def test_a_commit_in_doubt_is_looked_up_in_the_log(start, reader, quick, done):
    """The connection breaks at the very commit: before it was done, or after."""
    driver = start()
    driver.append([visit("a1")]).result(60)
    connection = driver._writer._connection
    breaks = []

    def commit():
        if "a2" in {record.key for record in driver._writer._written}:
            breaks.append(1)
            if done:
                psycopg.Connection.commit(connection)
            connection.close()
            raise psycopg.OperationalError("gone at the commit")
        psycopg.Connection.commit(connection)

    connection.commit = commit
    (record,) = driver.append([visit("a2")]).result(20)
    assert breaks == [1]
    eventually(lambda: settled(driver))
    assert [r for r in topic(reader, EVENTS) if r.key == "a2"] == [record]
    assert numbers(reader, "count_visits") == {"a1": 1, "a2": 1}
    assert numbers(reader, "count_leads") == {"a": 2}


def test_without_a_database_stopping_answers_who_waits(start, reader, monkeypatch, quick):
    driver = start()

    def gone(self, *_, **__):
        self._connection.close()
        raise psycopg.OperationalError("gone")

    def refused(*_, **__):
        raise psycopg.OperationalError("no database")

    monkeypatch.setattr(writer.Writer, "commit", gone)
    monkeypatch.setattr(driver_module, "Writer", refused)
    future = driver.append([visit("a1")])
    eventually(lambda: driver.status().failing is not None)
    assert "unavailable" in driver.status().failing.cause
    driver.stop()
    with pytest.raises(NotStored):
        future.result(5)


def test_a_thread_that_dies_is_noticed(start, monkeypatch):
    driver = start()

    def bug(self):
        raise AssertionError("a bug in the driver itself")

    monkeypatch.setattr(Driver, "_step", bug)
    eventually(lambda: not driver.status().alive)
    assert "a bug in the driver itself" in driver.status().failing.cause
    with pytest.raises(AppenderStopped):
        driver.append([visit("a1")])


def test_the_status_tells_positions_and_the_last_commit(start, clock):
    driver = start()
    clock.now = NOON + 7
    (record,) = driver.append([visit("a1")]).result(60)
    eventually(lambda: driver.status().last_commit_at == NOON + 7)
    assert driver.status().positions[EVENTS, record.partition] == 1
    assert driver.status().backlog == {"count_visits": 0, "count_leads": 0}
    assert driver.status().failing is None


def test_a_path_to_the_database_that_falls_silent_is_lost_and_found_again(
    start, database_url, reader, monkeypatch
):
    """What was appended meanwhile is in the log once: the commit in doubt is looked up."""
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.5)
    proxy = Proxy(database_url)
    driver = start(connect=lambda _url, **options: connection.connect_watched(proxy.url, **options))
    driver.append([visit("ada", 1)]).result(30)
    proxy.silent()
    later = driver.append([visit("ada", 2)])
    deadline = time.monotonic() + 60
    while driver.status().failing is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "PostgreSQL has sent nothing" in driver.status().failing.cause
    proxy.passing()
    proxy.cut()  # a path that is gone for good lets the server go, too; until then it keeps the appender's lock
    later.result(60)
    assert reader.execute("select count(*) from records where topic = %s", (EVENTS,)).fetchone() == (2,)
    driver.stop()
    proxy.close()

"""The state store: what is put is seen at once, and reaches the tables once, as it was last."""

import psycopg
import pytest

from streams.embedded import log
from streams.embedded.state import PostgresStateStore, StoredTimer

SLOT = ("stage", 3)


@pytest.fixture
def connection(database_url):
    with psycopg.connect(database_url) as connection:
        log.open_log(connection, 4)
        yield connection


@pytest.fixture
def store(connection):
    return PostgresStateStore(connection)


def put(store, parts, dues=None):
    store.put(SLOT, parts, dues or {})


def test_what_is_put_is_seen_before_and_after_it_is_flushed(store, connection):
    put(store, {("k", "a"): b"1", ("k", "b"): b"2"})
    put(store, {("k", "a"): b"3"})
    parts = store.of(*SLOT)
    assert parts.load(["k", "other"]) == {"k": {"a": b"3", "b": b"2"}}
    assert connection.execute("select count(*) from state").fetchone() == (0,)
    store.flush()
    assert parts.load(["k"]) == {"k": {"a": b"3", "b": b"2"}}
    assert connection.execute("select count(*) from state").fetchone() == (2,)


def test_a_change_hides_what_is_stored_part_by_part(store):
    put(store, {("k", "a"): b"1", ("k", "b"): b"2"})
    store.flush()
    put(store, {("k", "a"): None, ("k", "c"): b"3"})
    assert store.of(*SLOT).load(["k"]) == {"k": {"b": b"2", "c": b"3"}}
    store.flush()
    assert store.of(*SLOT).load(["k"]) == {"k": {"b": b"2", "c": b"3"}}


def test_shards_do_not_see_each_other(store):
    put(store, {("k", "a"): b"1"})
    assert store.of("stage", 2).load(["k"]) == {}
    assert store.of("another", 3).load(["k"]) == {}
    store.flush()
    assert store.of("stage", 2).load(["k"]) == {}
    assert store.of("another", 3).keys_after("", 10) == []


def test_keys_come_in_the_order_of_their_bytes_once_each_without_the_shared_one(store):
    keys = ["z", "B", "a", "\u00e9", "\U0001f600", "a/b", "A"]
    put(store, {(key, part): b"" for key in [*keys, "~", "~more"] for part in ("one", "two")})
    expected = sorted(keys, key=str.encode)
    assert store.of(*SLOT).keys_after("", 100) == expected
    assert store.of(*SLOT).keys_after("", 3) == expected[:3]
    assert store.of(*SLOT).keys_after(expected[2], 3) == expected[3:6]


def test_a_key_whose_last_part_is_gone_is_no_key(store):
    put(store, {("k", "a"): b"1", ("l", "a"): b"1"})
    store.flush()
    put(store, {("k", "a"): None})
    assert store.of(*SLOT).keys_after("", 10) == ["l"]


@pytest.mark.parametrize("size", [1, 500])
def test_two_flushes_in_one_transaction_keep_the_later_value(store, size):
    """Few rows go one by one, many through a temporary table that must not bring back the first."""
    put(store, {(f"k{n}", "a"): b"first" for n in range(size)})
    store.flush()
    put(store, {(f"k{n}", "a"): b"second" for n in range(size)})
    store.flush()
    put(store, {(f"l{n}", "a"): b"third" for n in range(size)})
    store.flush()
    assert store.of(*SLOT).load(["k0", "l0"]) == {"k0": {"a": b"second"}, "l0": {"a": b"third"}}


def test_what_is_forgotten_is_never_written(store, connection):
    put(store, {("k", "a"): b"1"}, {"k": 5})
    store.forget()
    store.flush()
    assert store.of(*SLOT).load(["k"]) == {}
    assert store.due_timers(["stage"], 10, 10) == []


def test_dues_come_longest_overdue_first_and_go_when_there_is_none(store):
    put(store, {}, {"late": 30, "early": 10, "never": None, "future": 99})
    assert store.due_timers(["stage"], 50, 10) == [
        StoredTimer("stage", 3, "early"),
        StoredTimer("stage", 3, "late"),
    ]
    assert store.due_timers(["stage"], 50, 1) == [StoredTimer("stage", 3, "early")]
    assert store.due_timers(["another"], 50, 10) == []
    put(store, {}, {"early": None, "late": 60})
    assert store.due_timers(["stage"], 50, 10) == []
    assert store.due_timers(["stage"], 60, 10) == [StoredTimer("stage", 3, "late")]


def test_a_due_of_an_earlier_run_can_be_taken_back(store, connection):
    put(store, {}, {"k": 10})
    store.flush()
    later = PostgresStateStore(connection)
    later.put(SLOT, {}, {"k": None})
    assert later.due_timers(["stage"], 50, 10) == []

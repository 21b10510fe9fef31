"""The log's tables: order, positions, compaction, the lock, and what fixes a log's shape."""

import psycopg
import pytest

from schemas.record import Record
from schemas.topics import DEFAULT_PARTITIONS, EVENTS, LEAD_SCORES
from streams.embedded import log


@pytest.fixture
def connection(database_url):
    with psycopg.connect(database_url) as connection:
        log.open_log(connection, 4)
        yield connection


def records(count, partition=0, begin=0):
    return [Record(EVENTS, partition, begin + n, f"k{n}", f"v{n}".encode()) for n in range(count)]


@pytest.mark.parametrize("count", [3, 1_000])
def test_what_is_appended_is_read_in_order(connection, count):
    """Few rows go by inserts, many by COPY."""
    log.write_records(connection, records(count))
    assert log.read_records(connection, EVENTS, 0, 0, 2_000) == records(count)
    assert log.read_records(connection, EVENTS, 0, 1, 1) == records(count)[1:2]
    assert log.read_records(connection, EVENTS, 1, 0, 10) == []


def test_keys_and_values_survive_as_they_are(connection):
    odd = [
        Record(EVENTS, 0, 0, "", b""),
        Record(EVENTS, 0, 1, "\U0001f600/é\t\\N\n", bytes(range(256))),
        Record(EVENTS, 0, 2, "tombstone", None),
    ]
    log.write_records(connection, odd)
    log.write_records(connection, [record._replace(partition=1) for record in odd] + records(200, 2))
    assert log.read_records(connection, EVENTS, 0, 0, 10) == odd
    assert log.read_records(connection, EVENTS, 1, 0, 10) == [record._replace(partition=1) for record in odd]


def test_a_scan_crosses_pages_and_partitions(connection, monkeypatch):
    monkeypatch.setattr(log, "PAGE_RECORDS", 7)
    for partition in range(4):
        log.write_records(connection, records(20, partition))
    log.write_heads(connection, [(EVENTS, partition, 20) for partition in range(4)])
    assert list(log.scan_topic(connection, EVENTS)) == [r for p in range(4) for r in records(20, p)]


@pytest.mark.parametrize("size", [1, 300])
def test_a_compacted_topic_keeps_the_newest_record_of_each_key(connection, size):
    keys = [f"k{n}" for n in range(size)]
    first = [Record(LEAD_SCORES, 0, n, key, b"old") for n, key in enumerate(keys)]
    again = [Record(LEAD_SCORES, 0, size + n, key, b"new") for n, key in enumerate(keys)]
    twice = [Record(LEAD_SCORES, 0, 2 * size + n, key, b"newest") for n, key in enumerate(keys)]
    log.write_compacted(connection, first)
    log.write_compacted(connection, again + twice)
    assert log.read_records(connection, LEAD_SCORES, 0, 0, 1_000) == twice


def test_a_tombstone_removes_the_key_and_a_later_record_brings_it_back(connection):
    log.write_compacted(
        connection, [Record(LEAD_SCORES, 0, 0, "k", b"1"), Record(LEAD_SCORES, 0, 1, "k", None)]
    )
    assert log.read_records(connection, LEAD_SCORES, 0, 0, 10) == []
    log.write_compacted(
        connection, [Record(LEAD_SCORES, 0, 2, "k", None), Record(LEAD_SCORES, 0, 3, "k", b"2")]
    )
    assert log.read_records(connection, LEAD_SCORES, 0, 0, 10) == [Record(LEAD_SCORES, 0, 3, "k", b"2")]


def test_the_number_of_partitions_is_fixed_from_the_first_start(connection):
    assert log.open_log(connection, None) == 4
    assert log.open_log(connection, 4) == 4
    with pytest.raises(log.LogRefused, match=r"4 partitions.*LEADSTREAM_PARTITIONS=4"):
        log.open_log(connection, 8)


def test_without_a_setting_a_new_log_has_the_default_number_of_partitions(database_url):
    with psycopg.connect(database_url) as connection:
        assert log.open_log(connection) == DEFAULT_PARTITIONS


def test_a_log_of_a_newer_format_is_refused(connection):
    connection.execute("update format set version = %s", (log.LOG_FORMAT + 1,))
    connection.commit()
    with pytest.raises(log.LogRefused, match="upgrade Leadstream"):
        log.open_log(connection)
    connection.rollback()
    assert connection.execute("select version from format").fetchall() == [(log.LOG_FORMAT + 1,)]


@pytest.fixture
def two_formats_later(connection, monkeypatch):
    log.write_records(connection, records(3))
    connection.commit()
    monkeypatch.setattr(log, "LOG_FORMAT", log.LOG_FORMAT + 2)
    return connection


def test_a_log_of_an_older_format_is_upgraded_step_by_step(two_formats_later, monkeypatch):
    steps = {
        log.LOG_FORMAT - 2: "alter table records add column headers bytea",
        log.LOG_FORMAT - 1: "alter table records rename column headers to head",
    }
    monkeypatch.setattr(log, "_UPGRADES", steps)
    assert log.open_log(two_formats_later) == 4
    assert two_formats_later.execute("select version, partitions from format").fetchall() == [
        (log.LOG_FORMAT, 4)
    ]
    assert two_formats_later.execute("select head from records").fetchall() == [(None,)] * 3
    assert log.open_log(two_formats_later) == 4, "upgraded once"


@pytest.mark.parametrize("second", [None, "no such statement"])
def test_a_log_that_cannot_be_upgraded_stays_as_it_was(two_formats_later, monkeypatch, second):
    first, last = log.LOG_FORMAT - 2, log.LOG_FORMAT - 1
    steps = {first: "alter table records add column headers bytea"} | ({last: second} if second else {})
    monkeypatch.setattr(log, "_UPGRADES", steps)
    with pytest.raises(log.LogRefused if second is None else psycopg.errors.SyntaxError):
        log.open_log(two_formats_later)
    two_formats_later.rollback()
    assert two_formats_later.execute("select version from format").fetchall() == [(first,)]
    assert log.read_records(two_formats_later, EVENTS, 0, 0, 10) == records(3)


def test_a_log_that_is_too_old_names_the_remedy(two_formats_later):
    with pytest.raises(log.LogRefused, match="changelog"):
        log.open_log(two_formats_later)


def test_a_database_without_a_log_says_so(database_url):
    with psycopg.connect(database_url) as connection, pytest.raises(log.LogRefused, match="no log"):
        log.partitions_of(connection)


def test_a_second_appender_is_refused_and_told_who_appends(connection, database_url, monkeypatch):
    monkeypatch.setattr(log, "_LOCK_SECONDS", 0.3)
    log.take_appender_lock(connection)
    connection.execute("set application_name to 'the first one'")
    connection.commit()
    with psycopg.connect(database_url) as second, pytest.raises(log.LogRefused, match="the first one"):
        log.take_appender_lock(second)


def test_the_lock_is_had_once_its_holder_is_gone(connection, database_url):
    log.take_appender_lock(connection)
    connection.close()
    with psycopg.connect(database_url) as second:
        log.take_appender_lock(second)


def test_only_a_record_that_waits_to_be_folded_can_be_skipped(connection):
    log.write_records(connection, records(3))
    log.write_heads(connection, [(EVENTS, 0, 3)])
    log.write_checkpoints(connection, [("stage", 0, 1)])
    connection.commit()
    log.write_skip(connection, "stage", EVENTS, 0, 1, "why")
    assert log.read_skips(connection) == {(EVENTS, 0, 1): "why"}
    with pytest.raises(log.LogRefused, match="folded already"):
        log.write_skip(connection, "stage", EVENTS, 0, 0, "why")
    with pytest.raises(log.LogRefused, match="does not exist"):
        log.write_skip(connection, "stage", EVENTS, 0, 3, "why")

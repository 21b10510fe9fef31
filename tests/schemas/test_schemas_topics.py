"""Topics: complete, and keyed and partitioned as every Kafka client does it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.activity import ACTIVITY_TYPES
from schemas.control import CONTROL_TYPES, DERIVED_TYPES
from schemas.events import EVENT_TYPES
from schemas.moment import millis, moment
from schemas.statements import STATEMENT_TYPES, DeadLetter
from schemas.topics import (
    DEFAULT_PARTITIONS,
    RETAIN_FOREVER,
    STATEMENT_TOPICS,
    TOPICS,
    lead_key,
    murmur2,
    partition_of,
    visitor_key,
)

DAY = 24 * 60 * 60 * 1000
BY_NAME = {topic.name: topic for topic in TOPICS}


@pytest.mark.parametrize(
    ("data", "published"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_kafkas_own_clients(data, published):
    """The vectors of Kafka's UtilsTest, as signed 32-bit numbers."""
    assert murmur2(data) == published % 2**32


def test_a_key_goes_to_the_partition_that_kafkas_clients_choose():
    """By hand from the published hashes: toPositive(murmur2) modulo the partitions."""
    assert partition_of("abc", 24) == 479470107 % 24
    assert partition_of("foobar", 24) == (-790332482 & 0x7FFFFFFF) % 24


@settings(deadline=None)
@given(st.text(), st.integers(1, 1024))
def test_every_key_has_one_partition(key, partitions):
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, 1) == 0


def test_keys_spread_over_all_partitions():
    used = Counter(partition_of(visitor_key("default", f"w-{n}"), DEFAULT_PARTITIONS) for n in range(2400))
    assert len(used) == DEFAULT_PARTITIONS
    assert max(used.values()) < 200


def test_keys_hold_the_tenant_and_keep_visitors_and_leads_apart():
    assert visitor_key("north", "a") == "north/v/a"
    assert lead_key("north", "a") == "north/l/a"


def test_the_seven_topics():
    assert list(BY_NAME) == [
        "events",
        "lead-activity",
        "session-scores",
        "score-changed",
        "lead-scores",
        "lead-changes",
        "dead-letters",
    ]


def test_every_type_travels_on_exactly_one_topic():
    kinds = (*EVENT_TYPES, *CONTROL_TYPES, *DERIVED_TYPES, *ACTIVITY_TYPES, *STATEMENT_TYPES, DeadLetter)
    carried = Counter(type_ for topic in TOPICS for type_ in topic.types)
    assert carried == Counter(kind.__struct_config__.tag for kind in kinds)
    assert set(carried.values()) == {1}


def test_every_statement_has_its_topic():
    assert set(STATEMENT_TOPICS) == set(STATEMENT_TYPES)
    assert set(STATEMENT_TOPICS.values()) <= set(BY_NAME)


def test_only_the_current_scores_are_compacted_and_kept_for_ever():
    assert [topic.name for topic in TOPICS if topic.compacted] == ["lead-scores"]
    assert [topic.name for topic in TOPICS if topic.retention_ms == RETAIN_FOREVER] == ["lead-scores"]


def test_how_long_topics_are_kept():
    days = {topic.name: topic.retention_ms / DAY for topic in TOPICS if not topic.compacted}
    assert days == {
        "events": 30,
        "lead-activity": 30,
        "session-scores": 90,
        "score-changed": 365,
        "lead-changes": 365,
        "dead-letters": 90,
    }


@settings(deadline=None)
@given(st.datetimes(timezones=st.timezones()))
def test_milliseconds_round_down_and_come_back_within_one(at):
    again = moment(millis(at))
    assert 0 <= (at - again).total_seconds() < 0.001 or not 2 < at.year < 9999


@settings(deadline=None)
@given(st.integers())
def test_every_number_of_milliseconds_is_some_moment(at):
    assert 1 <= moment(at).year <= 9999
    if abs(at) < 10**13:
        assert millis(moment(at)) == at

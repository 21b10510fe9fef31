"""What a shard promises its driver."""

import pytest
from stream_simulator import Store

from schemas.activity import ModelChanged
from schemas.decode import decode_dead_letter, encode_activity, encode_source
from schemas.events import PageViewed
from schemas.moment import moment
from schemas.record import Record
from schemas.topics import DEAD_LETTERS, EVENTS, LEAD_ACTIVITY, lead_key, partition_of, visitor_key
from scoring.models.model import built_in_models
from streams.engine.shard import Shard
from streams.score_leads.stage import SCORE_LEADS
from streams.track_sessions import TRACK_SESSIONS

MODEL = built_in_models()["temperature"]


def records(topic, *values):
    return [Record(topic, 0, i, "k", value) for i, value in enumerate(values)]


def publication(version):
    return encode_activity(ModelChanged("*", "", 0, "temperature", version, MODEL, False))


def page(number):
    return encode_source(
        PageViewed(
            event_id=f"e{number}",
            occurred_at=moment(1000),
            recorded_at=moment(1000),
            visitor_id=f"v{number:02d}",
        )
    )


def scored(leads):
    """A stage-2 store with so many leads."""
    first, store = Store(), Store()
    outcome = Shard(TRACK_SESSIONS, 0, first).fold(records(EVENTS, *(page(i) for i in range(leads))))
    activity = [publication(1), *(o.value for o in outcome.outputs if o.topic == LEAD_ACTIVITY)]
    second = Shard(SCORE_LEADS, 0, store)
    second.fold(records(LEAD_ACTIVITY, *activity))
    store.write(second.changes().parts)
    return store


def test_a_record_that_cannot_be_read_becomes_a_dead_letter_and_the_rest_goes_on():
    outcome = Shard(TRACK_SESSIONS, 0, Store()).fold(records(EVENTS, b"\xff{", page(1), b""))
    letters = [decode_dead_letter(o.value) for o in outcome.outputs if o.topic == DEAD_LETTERS]
    assert [(letter.position, letter.original) for letter in letters] == [(0, b"\xff{"), (2, b"")]
    assert outcome.applied == 3
    assert any(o.topic == LEAD_ACTIVITY for o in outcome.outputs)


@pytest.mark.parametrize("stage", [TRACK_SESSIONS, SCORE_LEADS])
def test_a_record_in_another_partition_than_its_keys_changes_no_state(stage):
    """Whatever is cached: a hot key, a cold one, and the same chunk folded again say the same."""
    first = Shard(TRACK_SESSIONS, 0, Store()).fold(records(EVENTS, page(1)))
    topic = stage.source
    value = page(1) if topic == EVENTS else next(o.value for o in first.outputs if o.topic == LEAD_ACTIVITY)
    key = visitor_key("default", "v01") if topic == EVENTS else lead_key("default", "anon:v01")
    home = partition_of(key, 5)
    store = Store()
    shard = Shard(stage, home, store, partitions=5)
    outcome = shard.fold([Record(topic, home, 0, key, value)])
    assert outcome.misplaced == 0
    assert not [o for o in outcome.outputs if o.topic == DEAD_LETTERS]
    store.write(shard.changes().parts)
    elsewhere = [Record(topic, (home + 1) % 5, n, key, value) for n in (1, 2)]
    for reader in (shard, Shard(stage, home, store, partitions=5)):
        again = reader.fold(elsewhere)
        assert (again.misplaced, again.applied, reader.changes().parts) == (2, 2, {})
        letters = [decode_dead_letter(o.value) for o in again.outputs]
        assert all("set partitioner=murmur2_random" in letter.reason for letter in letters)
        assert [letter.position for letter in letters] == [1, 2]
        assert {letter.original for letter in letters} == {value}


def test_a_record_behind_a_sweep_is_a_dead_letter_once():
    store = scored(25)
    chunk = records(LEAD_ACTIVITY, publication(2), b"garbage")
    letters, rounds = 0, 0
    while chunk:
        shard = Shard(SCORE_LEADS, 0, store)
        shard.SWEEP_STEP = 10
        outcome = shard.fold(chunk)
        store.write(shard.changes().parts)
        letters += sum(o.topic == DEAD_LETTERS for o in outcome.outputs)
        chunk, rounds = chunk[outcome.applied :], rounds + 1
    assert letters == 1
    assert rounds == 3


def test_a_model_that_does_not_compile_is_a_dead_letter_that_says_why():
    bad = encode_activity(
        ModelChanged("*", "", 0, "temperature", 1, "model = 'temperature'\nrulez = 1", False)
    )
    outcome = Shard(SCORE_LEADS, 0, Store()).fold(records(LEAD_ACTIVITY, bad))
    (letter,) = [decode_dead_letter(o.value) for o in outcome.outputs]
    assert letter.field == "text"
    assert "rulez" in letter.reason


def test_a_version_that_is_not_above_the_one_in_force_changes_nothing():
    store = scored(3)
    shard = Shard(SCORE_LEADS, 0, store)
    outcome = shard.fold(records(LEAD_ACTIVITY, publication(1)))
    assert (outcome.outputs, outcome.applied) == ([], 1)
    assert shard.changes() == ([], {}, {})


def test_what_is_folded_is_the_same_with_any_size_of_cache():
    def fold(cache):
        store, out = Store(), []
        shard = Shard(TRACK_SESSIONS, 0, store, cache_size=cache)
        for start in range(0, 60, 7):
            chunk = records(EVENTS, *(page(i % 20) for i in range(start, start + 7)))
            out += shard.fold(chunk).outputs
            changes = shard.changes()
            store.write(changes.parts)
            out += changes.outputs
        return store.parts, out

    assert fold(0) == fold(3) == fold(1000)

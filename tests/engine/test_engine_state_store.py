"""The memory of a shard against a plain reading of what a state store must do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import PARTITION_WIDE_KEY
from scoring.features import features
from scoring.features import lead_identity as holding
from scoring.features.features import Features, NewerCodec
from streams import published
from streams.engine import state_store as engine_memory
from streams.engine.shard import ShardChanges
from streams.engine.state_store import POSITION_KEY, STATE_FORMAT, STATE_FORMAT_KEY, StateStore
from streams.score_leads import lead_state
from streams.track_sessions import visitor_state

keys = st.sampled_from(["a", "b", "b/é", "c\U0001f600", "cz", "d"])
parts = st.dictionaries(
    st.tuples(keys | st.just(PARTITION_WIDE_KEY), st.sampled_from(["head", "id:x", "seen:3"])),
    st.none() | st.binary(min_size=1, max_size=5),
    max_size=6,
)
dues = st.dictionaries(keys, st.none() | st.integers(0, 50), max_size=4)
histories = st.lists(st.tuples(parts, dues), max_size=12)


def played(history):
    """A memory that took these outcomes, with its changelog and the plain reading of both."""
    memory, changelog, stored, due = StateStore(), [], {}, {}
    for position, (changed, moments) in enumerate(history, 1):
        changelog += memory.put(ShardChanges([], changed, moments), position)
        changelog += memory.position_changes()
        for (key, part), value in changed.items():
            stored.setdefault(key, {})[part] = value
        due |= moments
    stored = {
        key: kept
        for key, held in stored.items()
        if (kept := {p: v for p, v in held.items() if v is not None})
    }
    return memory, changelog, stored, {key: at for key, at in due.items() if at is not None}


def assert_holds(memory, history, stored, due):
    assert memory.load([*stored, "nobody"]) == stored
    assert len(memory) == len(stored)
    assert memory.size == sum(len(value) for held in stored.values() for value in held.values())
    assert memory.position == (len(history) or None)
    for now in (0, 25, 50):
        assert sorted(memory.due_keys(now, 100)) == sorted(key for key, at in due.items() if at <= now)


@given(histories)
def test_a_memory_gives_back_what_it_was_given(history):
    memory, _, stored, due = played(history)
    assert_holds(memory, history, stored, due)


@given(histories, st.integers(0, 40))
def test_a_changelog_read_from_any_known_place_gives_the_memory_again(history, known):
    _, changelog, stored, due = played(history)
    memory = StateStore()
    for change in changelog[:known]:
        memory.restore(*change)
    for change in changelog[known:]:
        memory.restore(*change)
    assert_holds(memory, history, stored, due)


@given(histories)
def test_only_the_newest_record_of_each_changelog_key_is_needed(history):
    _, changelog, stored, due = played(history)
    memory = StateStore()
    for change in {change.key: change for change in changelog}.values():
        memory.restore(*change)
    assert_holds(memory, history, stored, due)


@given(histories, st.integers(1, 3))
def test_keys_come_page_by_page_in_the_order_of_their_bytes_without_the_shared_one(history, limit):
    memory, _, stored, _ = played(history)
    found, after = [], ""
    while page := memory.keys_after(after, limit):
        found += page
        after = page[-1]
    assert found == sorted((key for key in stored if key != PARTITION_WIDE_KEY), key=str.encode)


def test_who_was_woken_is_not_woken_again_until_it_has_folded_that():
    memory = StateStore()
    list(memory.put_timers({"a": 10, "b": 20}))
    memory.mark_woken(["a"])
    assert memory.due_keys(30, 10) == ["b"]
    list(memory.put_timers({"a": 25}))
    assert memory.due_keys(30, 10) == ["b", "a"]


def test_the_longest_overdue_come_first_and_the_rest_stay_due():
    memory = StateStore()
    list(memory.put_timers({"late": 30, "first": 10, "second": 20}))
    assert memory.due_keys(40, 2) == ["first", "second"]
    assert memory.due_keys(40, 9) == ["first", "second", "late"]


def test_a_changelog_says_its_format_once_and_with_it_the_first_position():
    memory = StateStore()
    assert list(memory.position_changes()) == [(STATE_FORMAT_KEY, b"%d" % STATE_FORMAT), (POSITION_KEY, None)]
    memory.position = 7
    assert list(memory.position_changes()) == [(POSITION_KEY, b"7")]
    again = StateStore()
    again.restore(STATE_FORMAT_KEY, b"%d" % STATE_FORMAT)
    assert list(again.position_changes()) == [(POSITION_KEY, None)]
    assert len(again) == again.size == 0


def test_who_reads_the_format_of_a_newer_version_is_refused_by_name():
    reason = rf"newer version .*format {STATE_FORMAT + 1}, .*up to {STATE_FORMAT}.*upgrade this worker"
    with pytest.raises(NewerCodec, match=reason):
        StateStore().restore(STATE_FORMAT_KEY, b"%d" % (STATE_FORMAT + 1))


def test_a_newer_version_takes_an_older_changelog_over_and_says_so(monkeypatch):
    """Read by an older one afterwards, it is refused."""
    monkeypatch.setattr(engine_memory, "STATE_FORMAT", STATE_FORMAT + 1)
    newer = StateStore()
    newer.restore(STATE_FORMAT_KEY, b"%d" % STATE_FORMAT)
    (told, _) = newer.position_changes()
    monkeypatch.undo()
    with pytest.raises(NewerCodec):
        StateStore().restore(*told)


def test_the_format_covers_the_codecs_of_every_part():
    """Whoever raises one of them raises `STATE_FORMAT`, and writes down here what it means."""
    codecs = {
        "a visitor": visitor_state.VISITOR_CODEC,
        "a lead": lead_state.LEAD_CODEC,
        "what is published": published.PUBLISHED_CODEC,
        "an identity of a lead": holding.IDENTITY_CODEC,
        "features": features.encode_features(Features())[0],
    }
    first = {"a visitor": 1, "a lead": 1, "what is published": 1, "an identity of a lead": 1, "features": 1}
    of_format = {
        1: first,
        2: {**first, "what is published": 2, "features": 2},  # how a model compares texts; what counts once
        3: {**first, "what is published": 3, "features": 2},  # workflows
        # what somebody set by hand, the clock to the first contact, consent to being tracked, who was erased
        4: {**first, "a visitor": 2, "what is published": 4, "features": 2, "a lead": 2},
        # which signals were counted in earlier events
        5: {**first, "a visitor": 3, "what is published": 4, "features": 2, "a lead": 2},
    }
    assert of_format[STATE_FORMAT] == codecs

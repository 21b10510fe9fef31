"""Sessions are a function of the sorted acts, never of their arrival."""

import random

import pytest
from example_counts import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.features.features import Features, put_session, retract_session
from scoring.features.sessions import (
    HOUR_MS,
    KIND_END,
    KIND_HEARTBEAT,
    KIND_INTERACTION,
    MINUTE_MS,
    MOST_EVENTS_KEPT,
    MOST_SESSIONS_COUNTED,
    KeptEvents,
    SessionEvent,
    cut_into_sessions,
    track_session_event,
)

IDLE = 30 * MINUTE_MS
DAY = 24 * HOUR_MS


def at(minutes, event_id=None, **rest):
    t = int(minutes * MINUTE_MS)
    return SessionEvent(t, event_id or f"e{minutes:07.2f}", t, **rest)


def fold(acts, clock=None):
    """The sessions a segment's features hold after the acts came in this order."""
    kept, features, highest = KeptEvents(), Features(), 0
    for act in acts:
        highest = max(highest, act.last)
        changes = track_session_event(kept, features.sessions, act, clock or highest, IDLE)
        for c, session in changes.put:
            put_session(features, c.session_id, session)
        for session_id in (*changes.retracted, *changes.forgotten):
            retract_session(features, session_id)
    return {
        i: (s.opened_at // MINUTE_MS, s.last_at // MINUTE_MS, s.closed, s.pages, s.clicks, s.important_clicks)
        for i, s in features.sessions.items()
    }


def rows(acts):
    return list(fold(acts).values())


def test_a_gap_of_exactly_thirty_minutes_splits_and_one_less_does_not():
    assert rows([at(0), at(30)]) == [(0, 0, False, 0, 0, 0), (30, 30, False, 0, 0, 0)]
    assert rows([at(0), SessionEvent(30 * MINUTE_MS - 1, "b", 30 * MINUTE_MS - 1)]) == [
        (0, 29, False, 0, 0, 0)
    ]


def test_a_change_of_campaign_splits_and_an_empty_one_never_does():
    assert rows([at(0, campaign="x"), at(1), at(2, campaign="x"), at(3, campaign="y")]) == [
        (0, 2, True, 0, 0, 0),
        (3, 3, False, 0, 0, 0),
    ]


def test_a_change_of_the_producers_session_id_splits_and_a_missing_one_never_does():
    assert rows([at(0), at(1, producer_id="p"), at(2), at(3, producer_id="q")]) == [
        (0, 2, True, 0, 0, 0),
        (3, 3, False, 0, 0, 0),
    ]


def test_a_session_lasts_twenty_four_hours_at_most():
    acts = [at(20 * i) for i in range(73)]
    assert rows(acts) == [(0, 1420, True, 0, 0, 0), (1440, 1440, False, 0, 0, 0)]


def test_the_end_closes_and_its_moment_counts_into_the_duration():
    assert rows([at(0, pages=1), at(8, kind=KIND_END), at(9)]) == [
        (0, 8, True, 1, 0, 0),
        (9, 9, False, 0, 0, 0),
    ]


def test_an_end_after_the_idle_time_changes_nothing():
    assert rows([at(0), at(31, kind=KIND_END)]) == [(0, 0, False, 0, 0, 0)]


def test_a_heartbeat_lengthens_a_session_and_never_opens_one():
    assert rows([at(0, kind=KIND_HEARTBEAT), at(1), at(20, kind=KIND_HEARTBEAT), at(40)]) == [
        (1, 40, False, 0, 0, 0)
    ]


def test_a_late_act_joins_two_sessions_and_the_later_is_retracted():
    kept, features = KeptEvents(), Features()
    for act in (at(0, "a"), at(40, "c"), at(20, "b")):
        changes = track_session_event(kept, features.sessions, act, 40 * MINUTE_MS, IDLE)
        for c, session in changes.put:
            put_session(features, c.session_id, session)
        for session_id in changes.retracted:
            retract_session(features, session_id)
    assert changes.retracted == ["c"]
    assert list(features.sessions) == ["a"]


def test_an_earlier_act_gives_the_session_its_id():
    assert list(fold([at(10, "b"), at(5, "a")])) == ["a"]


def test_only_the_two_hundred_latest_sessions_are_remembered():
    acts = [at(31 * i, f"e{i:05d}") for i in range(600)]
    held = fold(acts)
    recent = {a.event_id for a in acts if a.last >= acts[-1].last - DAY - IDLE}
    assert recent <= set(held)
    assert len(held) == len(recent) + MOST_SESSIONS_COUNTED
    assert min(held) == f"e{600 - len(held):05d}"


def test_what_is_kept_of_a_tireless_visitor_stays_small_and_counts_every_act():
    kept, features = KeptEvents(), Features()
    for i in range(5000):
        changes = track_session_event(
            kept, features.sessions, at(i / 60, f"e{i:05d}", pages=1), i * MINUTE_MS // 60, IDLE
        )
        for c, session in changes.put:
            put_session(features, c.session_id, session)
        assert len(kept.events) <= MOST_EVENTS_KEPT
    (session,) = features.sessions.values()
    assert session.pages == 5000


def test_more_sessions_than_are_kept_freeze_the_oldest():
    kept = KeptEvents()
    for i in range(MOST_EVENTS_KEPT + 50):
        track_session_event(kept, {}, at(i / 60, f"e{i:05d}", campaign=str(i)), i, IDLE)
    assert len(kept.events) <= MOST_EVENTS_KEPT
    assert kept.counted_ids[0] == "e00000"


acts_strategy = st.lists(
    st.builds(
        lambda t, kind, camp, pid: SessionEvent(
            t * MINUTE_MS,
            f"{t}{kind}{camp}{pid}",
            t * MINUTE_MS,
            kind,
            int(kind == KIND_INTERACTION),
            campaign=camp,
            producer_id=pid,
        ),
        st.integers(0, 900),
        st.sampled_from(
            [KIND_INTERACTION, KIND_INTERACTION, KIND_INTERACTION, KIND_INTERACTION, KIND_END, KIND_HEARTBEAT]
        ),
        st.sampled_from(["", "", "x", "y"]),
        st.sampled_from(["", "", "", "p", "q"]),
    ),
    max_size=40,
    unique_by=lambda a: a.event_id,
)


@settings(max_examples=scaled(100))
@given(acts_strategy, st.randoms(use_true_random=False))
def test_any_order_of_arrival_equals_sorting_first(acts, rnd):
    in_order = sorted(acts, key=lambda a: (a.first, a.event_id))
    shuffled = acts[:]
    rnd.shuffle(shuffled)
    assert fold(shuffled, clock=900 * MINUTE_MS) == fold(in_order, clock=900 * MINUTE_MS)
    whole = {
        c.session_id: (
            c.opened_at // MINUTE_MS,
            c.last_at // MINUTE_MS,
            c.closed,
            c.pages,
            c.clicks,
            c.important_clicks,
        )
        for c in cut_into_sessions(in_order, IDLE)
        if c.session_id
    }
    assert fold(shuffled, clock=900 * MINUTE_MS) == whole


@pytest.mark.parametrize("seed", range(25))
def test_a_long_life_with_late_acts_equals_cutting_it_whole(seed, monkeypatch):
    """Whole sessions are let go 24 hours and the idle time after their last act; nothing differs."""
    monkeypatch.setattr("scoring.features.sessions.MOST_EVENTS_KEPT", 10_000)
    rng = random.Random(seed)
    gap = rng.choice([(5, 20), (5, 29), (1, 45), (10, 31), (20, 29)])
    now, arrived = 10 * 1440, []
    for i in range(rng.randint(20, 200)):
        now += rng.randint(*gap)
        late = rng.choice([3, 25, 200, 1400, 1425, 1439]) if rng.random() < 0.12 else 0
        kind = KIND_END if rng.random() < 0.05 else KIND_INTERACTION
        arrived.append(
            (now, at(now - late, f"e{i:04d}", kind=kind, pages=1 if kind == KIND_INTERACTION else 0))
        )
    kept, features = KeptEvents(), Features()
    for clock, act in arrived:
        changes = track_session_event(kept, features.sessions, act, clock * MINUTE_MS, IDLE)
        for c, session in changes.put:
            put_session(features, c.session_id, session)
        for session_id in (*changes.retracted, *changes.forgotten):
            retract_session(features, session_id)
    whole = [
        c
        for c in cut_into_sessions(sorted((a for _, a in arrived), key=lambda a: (a.first, a.event_id)), IDLE)
        if c.session_id
    ]
    expected = {c.session_id: (c.opened_at, c.last_at, c.closed, c.pages) for c in whole}
    got = {i: (s.opened_at, s.last_at, s.closed, s.pages) for i, s in features.sessions.items()}
    assert got == dict(list(expected.items())[-len(got) :])
    assert len(got) >= min(len(expected), MOST_SESSIONS_COUNTED)

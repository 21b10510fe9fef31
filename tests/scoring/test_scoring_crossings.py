"""Thresholds fire on rising, once, whatever merges and splits do."""

from hypothesis import given
from hypothesis import strategies as st

from scoring.models.crossings import cross_thresholds

BANDS = [(70, "burning"), (50, "hot"), (25, "warm")]


def test_a_jump_fires_every_threshold_in_between_lowest_first():
    assert cross_thresholds(BANDS, 10, 80, [], moved=False) == (
        ["warm", "hot", "burning"],
        ["warm", "hot", "burning"],
    )


def test_reaching_a_threshold_exactly_fires_it():
    assert cross_thresholds(BANDS, 49, 50, [], moved=False).names == ["hot"]


def test_a_fired_threshold_fires_again_only_after_a_drop():
    fired = cross_thresholds(BANDS, 40, 55, [], moved=False).disarmed
    assert cross_thresholds(BANDS, 40, 55, fired, moved=False).names == []
    armed = cross_thresholds(BANDS, 55, 40, fired, moved=False).disarmed
    assert cross_thresholds(BANDS, 40, 55, armed, moved=False).names == ["hot"]


def test_a_drop_by_a_move_of_an_identity_arms_nothing():
    fired = cross_thresholds(BANDS, 40, 55, [], moved=False).disarmed
    after_split = cross_thresholds(BANDS, 55, 40, fired, moved=True).disarmed
    assert cross_thresholds(BANDS, 40, 55, after_split, moved=True).names == []


def test_no_change_changes_nothing():
    assert cross_thresholds(BANDS, 50, 50, ["warm"], moved=False) == ([], ["warm"])


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=30))
def test_a_threshold_fires_at_most_once_more_than_it_was_armed_again(path):
    disarmed, before = [], 0
    fired, drops = 0, 0
    for after, moved in path:
        result = cross_thresholds(BANDS, before, after, disarmed, moved=moved)
        fired += "hot" in result.names
        drops += after < 50 <= before and not moved
        disarmed, before = result.disarmed, after
    assert fired <= drops + 1

"""A memory that was kept while another worker owned its shard, and has read on in the changelog."""

from streams.engine.state_store import StateStore


def test_who_was_woken_before_is_woken_again_once_the_other_owner_has_folded_that():
    mine, other = StateStore(), StateStore()
    for change in mine.put_timers({"a": 10}):
        other.restore(*change)
    mine.mark_woken(["a"])
    assert mine.due_keys(20, 10) == []
    for change in other.put_timers({"a": 15}):  # the other one has folded the wake-up record
        mine.restore(*change)
    assert mine.due_keys(20, 10) == ["a"]

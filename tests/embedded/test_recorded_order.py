"""In which order a backlog of several partitions is folded: that of recording, but live events wait for no import."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from streams.recorded_order import RecordedTimes, in_order, merged_outputs, recorded_times, windows

T0 = datetime(2026, 3, 2, 9, tzinfo=UTC)
moments = st.integers(0, 9).map(lambda minutes: T0 + timedelta(minutes=minutes))
timed = st.builds(RecordedTimes, moments, moments, st.booleans())
partitions = st.lists(st.lists(timed, max_size=6).map(in_order).map(list), min_size=1, max_size=4)


def at(minutes, *, imported=True):
    return RecordedTimes(T0 + timedelta(minutes=minutes), T0, imported)


def test_a_window_ends_where_a_partition_with_more_behind_it_ends():
    """The second partition has events behind minute 5, so those of minute 6 wait; a live event does not."""
    first, second = [at(1), at(6), at(7)], [at(2), at(5)]
    assert windows([first, second], [True, True]) == [1, 2]
    assert windows([first, second], [False, False]) == [3, 2]
    assert windows([[at(6, imported=False), at(7)], second], [True, True]) == [1, 2]


@given(partitions, st.lists(st.booleans(), min_size=4, max_size=4))
def test_no_import_runs_ahead_and_something_is_always_folded(chunks, more):
    more = more[: len(chunks)]
    sizes = windows(chunks, more)
    assert all(0 <= size <= len(chunk) for size, chunk in zip(sizes, chunks, strict=True))
    assert sum(sizes) or not any(chunks)
    waiting = [chunk[-1][:2] for chunk, follow in zip(chunks, more, strict=True) if follow and chunk]
    folded = [each for size, chunk in zip(sizes, chunks, strict=True) for each in chunk[:size]]
    assert all(each[:2] <= end for each in folded if each.imported for end in waiting)


@given(partitions)
def test_outputs_come_in_the_order_of_their_records_and_each_partition_keeps_its_own(chunks):
    """Every record has two outputs, and each partition one more at its end."""
    named = [[(p, n, k) for n in range(len(chunk)) for k in (0, 1)] for p, chunk in enumerate(chunks)]
    whole = [
        (chunk, [2 * n + 2 for n in range(len(chunk))], [*outputs, (p, len(chunk) - 1, 2)])
        for p, (chunk, outputs) in enumerate(zip(chunks, named, strict=True))
        if chunk
    ]
    outputs = merged_outputs(whole)
    assert sorted(outputs) == sorted(each for _, _, some in whole for each in some)
    moments_of = [chunks[p][n][:2] for p, n, _ in outputs]
    assert moments_of == sorted(moments_of)
    for p in range(len(chunks)):
        own = [each for each in outputs if each[0] == p]
        assert own == sorted(own)


def test_what_has_no_time_stays_behind_what_is_before_it():
    value = b'{"recorded_at": "2026-03-02T09:00:00Z", "imported": true}'
    assert recorded_times(value) == RecordedTimes(T0, T0, imported=True)
    for unreadable in (b"", b"{", b"\xff", b'{"recorded_at": "2026-03-02T09:00:00"}'):
        assert recorded_times(unreadable) == RecordedTimes(readable=False)
    times = list(in_order([recorded_times(value), recorded_times(b"{}"), recorded_times(value)]))
    assert {each.recorded_at for each in times} == {T0}

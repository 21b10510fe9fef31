"""The inbox takes every position once and in order, whatever the chunks that bring them."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.record import Chunk, Record
from schemas.topics import EVENTS
from streams.engine.record_queue import RecordQueue

HOLES = {3, 4, 9, 15, 16, 17, 23}
"""Positions without a record: marks of transactions, compacted records."""
END = 24


def chunk(start, end):
    records = [Record(EVENTS, 0, at, "k", b"%d" % at) for at in range(start, end) if at not in HOLES]
    return Chunk(EVENTS, 0, start, end, records)


cuts = st.lists(st.tuples(st.integers(0, END), st.integers(0, END)), max_size=15)


@given(st.integers(0, END), cuts, st.integers(1, 7))
def test_each_record_is_folded_once_in_order_however_chunks_repeat_overlap_or_jump(begin, cuts, most):
    inbox, folded = RecordQueue(begin), []

    def fold():
        first = inbox.first(most)
        assert not first or first[0].position == inbox.position
        folded.extend(first)
        inbox.drop(len(first))

    for start, end in cuts:
        before = inbox.end
        taken = inbox.offer(chunk(min(start, end), max(start, end)))
        assert taken == (min(start, end) <= before)
        fold()
    assert inbox.offer(chunk(inbox.end, END))
    while len(inbox):
        fold()
    assert [r.position for r in folded] == [at for at in range(begin, END) if at not in HOLES]
    assert inbox.position == inbox.end == END


def test_a_chunk_without_records_moves_the_position():
    inbox = RecordQueue(3)
    assert inbox.offer(chunk(3, 5))
    assert (inbox.position, len(inbox)) == (5, 0)


def test_it_is_full_by_records_and_by_bytes_and_has_room_again():
    inbox = RecordQueue(0)
    large = Record(EVENTS, 0, 0, "k", bytes(4 * 1024 * 1024))
    inbox.offer(Chunk(EVENTS, 0, 0, 1, [large]))
    assert inbox.full
    inbox.drop(1)
    assert not inbox.full
    inbox.offer(Chunk(EVENTS, 0, 1, 10_001, [Record(EVENTS, 0, at, "k", b"") for at in range(1, 10_001)]))
    assert inbox.full

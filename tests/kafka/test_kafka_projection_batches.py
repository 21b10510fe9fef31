"""Batches hold every chunk's positions in order, within what a transaction should hold."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.record import Chunk, Record
from streams.kafka.following import batches_of_chunks


@st.composite
def chunks(draw: st.DrawFn) -> list[Chunk]:
    """One read: a chunk per partition, with holes anywhere."""
    found = []
    for partition in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, 9))
        gaps = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=12))
        records, position = [], start
        for gap, size in gaps:
            records.append(Record("t", partition, position + gap, "k", b"x" * size))
            position += gap + 1
        found.append(Chunk("t", partition, start, position + draw(st.integers(0, 2)), records))
    return found


@given(read=chunks(), most=st.integers(1, 6), size=st.integers(1, 60))
def test_they_cover_the_same_and_stay_within_their_bounds(read, most, size):
    cut = list(batches_of_chunks(read, most, size))
    for batch in cut:
        records = [record for chunk in batch for record in chunk.records]
        assert len(records) <= most
        assert len(records) == 1 or sum(len(r.key) + len(r.value) for r in records) <= size
        assert len({chunk.partition for chunk in batch}) == len(batch), "one chunk per partition"
        for chunk in batch:
            assert all(chunk.start <= record.position < chunk.next for record in chunk.records)
    for whole in read:
        parts = [chunk for batch in cut for chunk in batch if chunk.partition == whole.partition]
        assert [record for part in parts for record in part.records] == whole.records
        assert [part.start for part in parts] == [whole.start, *(part.next for part in parts[:-1])]
        assert parts[-1].next == whole.next


def test_nothing_gives_no_batch():
    assert list(batches_of_chunks([], 5, 5)) == []

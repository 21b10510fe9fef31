"""What a closer look finds in the bytes of a partition: progress, or the batch that stops reading."""

import aiokafka.codec
import pytest
from aiokafka.structs import TopicPartition
from batches_made import (
    CODECS,
    made,
    marker,
    of_more_records_than_there_are,
    of_unknown_codec,
    with_flipped_bit,
    with_garbage_for_records,
    with_header_keys_in_no_encoding,
)
from hypothesis import given
from hypothesis import strategies as st

from leadstream.operations.doctor_kafka import kafka_findings
from leadstream.settings import Settings
from streams.kafka import batches
from streams.kafka.batches import RawRecord, read_around_unreadable

AT = TopicPartition("events", 3)
THREE = [(b"a", b"1"), (b"b", b"2"), (b"c", None)]
BROKEN = {
    "an unknown codec": (of_unknown_codec, "compressed with codec 5"),
    "a wrong checksum": (with_flipped_bit, "checksum is wrong"),
    "garbage for records": (with_garbage_for_records, "cannot be decoded"),
    "records that are missing": (of_more_records_than_there_are, "cannot be decoded"),
}


def seen(position, log, aborted=()):
    return read_around_unreadable(AT, position, log, aborted)


def raw(first, records=THREE):
    return [RawRecord(first + n, key, value, 1_000 + n) for n, (key, value) in enumerate(records)]


@pytest.mark.parametrize(
    ("magic", "codec"),
    [(2, codec) for codec in CODECS]
    + [(1, codec) for codec in CODECS if codec != "zstd"]  # which came with format 2
    + [(0, codec) for codec in ("none", "gzip", "snappy")],
)
def test_every_format_and_codec_can_be_read(magic, codec):
    log = made(THREE, 10, codec=codec, magic=magic)
    assert seen(10, log) is None
    broken = of_unknown_codec(made(THREE, 13))
    found = seen(10, log + broken)
    assert [(r.position, r.key, r.value) for r in found.records] == [
        (10, b"a", b"1"),
        (11, b"b", b"2"),
        (12, b"c", None),
    ]
    assert (found.next, found.unreadable) == (13, None)


@pytest.mark.parametrize(("older", "newer"), [(0, 1), (0, 2), (1, 2), (2, 1), (2, 0)])
def test_formats_that_change_amid_a_partition_are_read_on(older, newer):
    """As in a topic that is older than Kafka 0.11."""
    log = b"".join(
        made(THREE, first, magic=magic) for first, magic in ((10, older), (13, newer), (16, older))
    )
    position, found = 10, []
    while position < 16 and (one := seen(position, log[_start_of(log, position) :])) is not None:
        assert one.unreadable is None
        assert one.next > position
        position, found = one.next, found + one.records
    assert [r.position for r in found] == list(range(10, position))
    assert position >= 16


def _start_of(log, position):
    """Of the batch that holds the position, as a broker would send it."""
    return max(batch.start for batch in batches._complete_batches(log) if batch.first <= position)


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_broken_batch_is_told_with_its_positions_reason_and_bytes(kind, codec):
    breaking, said = BROKEN[kind]
    broken, follows = breaking(made(THREE, 10, codec=codec)), made(THREE, 13)
    found = seen(10, broken + follows)
    assert said in found.unreadable.reason
    assert (found.unreadable.first, found.unreadable.next, found.next) == (10, 13, 13)
    assert found.raw == broken
    assert seen(13, follows) is None


def test_what_comes_before_a_broken_batch_is_read_first():
    log = made(THREE, 10) + with_flipped_bit(made(THREE, 13))
    assert seen(10, log) == (13, raw(10), None, b"")
    assert seen(12, log) == (13, raw(10)[2:], None, b"")


def test_a_reader_that_is_amid_a_broken_batch_is_told_all_its_positions():
    found = seen(11, with_flipped_bit(made(THREE, 10)))
    assert (found.unreadable.first, found.unreadable.next, found.next) == (10, 13, 13)


@pytest.mark.parametrize("codec", CODECS)
def test_header_keys_in_no_encoding_cost_no_record(codec):
    log = with_header_keys_in_no_encoding(THREE, 10, codec=codec)
    assert seen(10, log) == (13, raw(10), None, b"")
    assert seen(11, log) == (13, raw(10)[1:], None, b"")


def test_what_was_never_committed_is_no_record_however_broken():
    log = with_header_keys_in_no_encoding(THREE, 10, producer=7, transactional=True)
    assert seen(10, log, [(7, 9)]).records == []
    assert seen(10, log, [(8, 9)]).records == raw(10)
    assert seen(10, with_flipped_bit(log), [(7, 9)]) == (13, [], None, b"")


@pytest.mark.parametrize("kind", [0, 1, 5])
def test_marks_of_transactions_are_no_records_whatever_they_say(kind):
    log = (
        made(THREE, 10, producer=7, transactional=True)
        + marker(kind, 13, 7)
        + with_flipped_bit(made(THREE, 14))
    )
    assert seen(10, log) == (14, raw(10), None, b"")


def test_bytes_that_are_no_batch_are_told():
    found = seen(10, b"\0" * 100)
    assert "no batch" in found.unreadable.reason
    assert found.next == 11


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
def test_a_missing_codec_is_named_with_the_remedy_by_readers_and_by_the_doctor(monkeypatch, codec):
    log = made(THREE, 10, codec=codec)
    healthy = next(kafka_findings(Settings(kafka="127.0.0.1:1"), None))
    assert (healthy.health, healthy.subject) == ("ok", "Codecs")
    monkeypatch.setattr(aiokafka.codec, "cramjam", None)  # what the codecs need, uninstalled
    found = seen(10, log)
    assert f"compressed with {codec}, which this installation lacks" in found.unreadable.reason
    assert "install `aiokafka[lz4,snappy,zstd]`" in found.unreadable.reason
    ill = next(kafka_findings(Settings(kafka="127.0.0.1:1"), None))
    assert (ill.health, ill.subject) == ("fail", "Codecs")
    assert codec in str(ill)
    assert "aiokafka[lz4,snappy,zstd]" in str(ill)


@given(st.data())
def test_whatever_the_bytes_are_a_look_ends_and_goes_forward(data):
    log = bytearray(made(THREE, 10, codec=data.draw(st.sampled_from(list(CODECS)))) + made(THREE, 13))
    for _ in range(data.draw(st.integers(1, 8))):
        log[data.draw(st.integers(0, len(log) - 1))] = data.draw(st.integers(0, 255))
    found = seen(10, bytes(log))
    assert found is None or found.next > 10

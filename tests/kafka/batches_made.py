"""Batches of records made by hand: sound ones of every format and codec, and broken ones of every kind."""

import struct

import aiokafka.codec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_ATTRIBUTES, _CRC, _DELTA, _COUNT, _PRODUCER = 21, 17, 23, 57, 43


def made(records, first=0, *, codec="none", headers=(), magic=2, producer=-1, transactional=False):
    """(key, value) pairs from position `first` on."""
    if magic < 2:
        builder = LegacyRecordBatchBuilder(magic, CODECS[codec], 1 << 24)
        for number, (key, value) in enumerate(records):
            inner = first + number if magic == 0 else number  # format 1 counts from the wrapper
            builder.append(inner, 1_000 + number, key, value)
        return _placed_legacy(bytes(builder.build()), first, len(records), compressed=codec != "none")
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], transactional, producer, 0, 0, 1 << 24)
    for number, (key, value) in enumerate(records):
        assert builder.append(number, 1_000 + number, key, value, list(headers))
    return struct.pack(">q", first) + bytes(builder.build())[8:]


def _placed_legacy(raw, first, count, *, compressed):
    """As a broker places them: each by its position, a compressed one by that of its last record."""
    if compressed:
        return struct.pack(">q", first + count - 1) + raw[8:]
    placed, at = b"", 0
    for number in range(count):
        end = at + 12 + struct.unpack_from(">i", raw, at + 8)[0]
        placed += struct.pack(">q", first + number) + raw[at + 8 : end]
        at = end
    return placed


def sealed(raw):
    """With the checksum that belongs to its bytes."""
    return raw[:_CRC] + struct.pack(">I", calc_crc32c(raw[_ATTRIBUTES:])) + raw[_ATTRIBUTES:]


def of_codec(raw, number):
    """So it says; its bytes are as they were."""
    attributes = raw[_ATTRIBUTES + 1] & ~7 | number
    return sealed(raw[: _ATTRIBUTES + 1] + bytes([attributes]) + raw[_ATTRIBUTES + 2 :])


def of_unknown_codec(raw):
    return of_codec(raw, 5)


def with_flipped_bit(raw):
    return raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:]


def with_garbage_for_records(raw):
    return sealed(raw[: _COUNT + 4] + bytes(255 - byte for byte in raw[_COUNT + 4 :]))


def of_more_records_than_there_are(raw):
    return sealed(raw[:_COUNT] + struct.pack(">i", 99) + raw[_COUNT + 4 :])


def with_header_keys_in_no_encoding(records, first=0, *, codec="none", **options):
    """What a producer may write: only its key and value are ours to read."""
    raw = made(records, first, headers=[("trace", b"1")], **options)
    assert raw.count(b"trace") == len(records)
    body = raw[_COUNT + 4 :].replace(b"trace", b"\xff\xfe\xfd\xfc\xfb")
    body = body if codec == "none" else getattr(aiokafka.codec, f"{codec}_encode")(body)
    head = raw[:8] + struct.pack(">i", _COUNT + 4 + len(body) - 12) + raw[12 : _COUNT + 4]
    return of_codec(head + body, CODECS[codec])


def marker(kind, first, producer):
    """The mark that ends a transaction: 0 aborts, 1 commits; others are none that anybody knows."""
    raw = made(
        [(struct.pack(">HH", 0, kind), struct.pack(">HI", 0, 0))],
        first,
        producer=producer,
        transactional=True,
    )
    return sealed(raw[: _ATTRIBUTES + 1] + bytes([raw[_ATTRIBUTES + 1] | 0x20]) + raw[_ATTRIBUTES + 2 :])

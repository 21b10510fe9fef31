"""A partition's log as bytes: finds the batch that cannot be read, says why, and reads what can be read.

Used only after aiokafka has failed to read. Total: whatever the bytes are, `read_around_unreadable` returns, and gives
either progress or the unreadable batch. Knows the layout of all three record formats; does no I/O.
"""

import struct
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from aiokafka import codec
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import UnsupportedCodecError
from aiokafka.record import control_record
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint
from aiokafka.structs import TopicPartition

from schemas.record import Unreadable
from schemas.refusal import shorten

CODEC_NAMES: Final = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
"""By their numbers in a batch's attributes."""
CODECS_REQUIREMENT: Final = "aiokafka[lz4,snappy,zstd]"

_BATCH_OVERHEAD = struct.Struct(">qi")
"""The beginning of every format: the first position, and the length of the rest."""
_MAGIC_OFFSET = 16
_LEGACY_HEADER = struct.Struct(">qiIbb")
_BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
_CODEC, _LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20


class RawRecord(NamedTuple):
    """A record as it is in the log."""

    position: int
    key: bytes | None
    value: bytes | None
    appended_at: int | None


class PartialRead(NamedTuple):
    """What was found from a position on."""

    next: int
    """The position to read next."""
    records: list[RawRecord]
    unreadable: Unreadable | None = None
    """If set, the batch at the position cannot be read; `raw` holds its bytes."""
    raw: bytes = b""


class _Batch(NamedTuple):
    start: int
    end: int
    """Its bytes."""
    first: int
    next: int
    """Its positions."""
    magic: int
    """Its format."""
    attributes: int
    producer: int
    """-1: none."""

    @property
    def codec(self) -> int:
        return self.attributes & _CODEC


def missing_codecs() -> list[str]:
    """The codecs of Kafka's producers that this installation cannot read."""
    return [name for name in CODEC_NAMES.values() if not getattr(codec, f"has_{name}")()]


def first_position(log: bytes) -> int:
    """The first position of the first batch."""
    first: int = _BATCH_OVERHEAD.unpack_from(log)[0]
    return first


def read_around_unreadable(
    at: TopicPartition, position: int, log: bytes, aborted: Collection[tuple[int, int]]
) -> PartialRead | None:
    """Reads what a broker sent from `position` on, if it contains an unreadable batch: gives the records before that
    batch, or, if there are none, the batch. `aborted` are the (producer, first position) of aborted transactions
    that the broker sent with it. None: aiokafka can read all of it.
    """
    batches = list(_complete_batches(log))
    for number, batch in enumerate(batches):
        reason = _unreadable_reason(log[batch.start : batch.end])
        mixed = batch.magic != batches[0].magic  # aiokafka takes all for the first one's format
        if reason is None and not mixed:
            continue
        if number and batches[number - 1].next > position:
            return read_batches(at, position, log[: batch.start], aborted)
        if reason is None:
            return read_batches(at, position, log[batch.start : batch.end], aborted)
        follows = batches[number + 1].first if number + 1 < len(batches) else batch.next
        after = follows if follows > position else position + 1  # a header may be broken, too
        return _read_past_unreadable(batch, position, after, log[batch.start : batch.end], aborted, reason)
    if batches and batches[-1].end < len(log):  # incomplete, as the last batch often is, or no batch
        return read_batches(at, position, log[: batches[-1].end], aborted)
    if batches or not log:
        return None
    reason = "the bytes there are no batch of records, and the beginning of the next batch is not known"
    return PartialRead(position + 1, [], Unreadable(reason, position, position + 1), log)


def _read_past_unreadable(
    batch: _Batch, position: int, after: int, raw: bytes, aborted: Collection[tuple[int, int]], reason: str
) -> PartialRead:
    """A batch that aiokafka cannot read: its records if we can read them; nothing if its transaction was aborted."""
    if batch.attributes & _TRANSACTIONAL and any(
        producer == batch.producer and first <= batch.first for producer, first in aborted
    ):
        return PartialRead(after, [])
    try:
        records = [record for record in _records_of_batch(raw) if record.position >= position]
    except Exception:  # noqa: BLE001 - it is as unreadable as `reason` says
        return PartialRead(after, [], Unreadable(reason, min(batch.first, position), after), raw)
    return PartialRead(after, records)


def _complete_batches(log: bytes) -> Iterator[_Batch]:
    """The complete batches; the bytes after them are incomplete, or no batch."""
    start = 0
    while len(log) - start > _MAGIC_OFFSET:
        first, length = _BATCH_OVERHEAD.unpack_from(log, start)
        end = start + _BATCH_OVERHEAD.size + length
        magic = log[start + _MAGIC_OFFSET]
        modern = magic >= 2
        if end > len(log) or end - start < (_BATCH_HEADER if modern else _LEGACY_HEADER).size:
            return
        if modern:
            header = _BATCH_HEADER.unpack_from(log, start)
            yield _Batch(start, end, first, first + max(header[6], 0) + 1, magic, header[5], header[9])
        else:  # the position of a compressed one is that of its last record
            yield _Batch(start, end, first, first + 1, magic, _LEGACY_HEADER.unpack_from(log, start)[4], -1)
        start = end


def _unreadable_reason(raw: bytes) -> str | None:
    """Why a batch cannot be read; None: it can."""
    try:
        batch = MemoryRecords(raw).next_batch()
        if batch is None or not batch.validate_crc():
            return "its checksum is wrong: its bytes are not those that were written"
        if batch.is_control_batch:
            control_record.ControlRecord.parse(next(batch).key)
        else:
            for _ in batch:
                pass
    except UnsupportedCodecError:
        return _unreadable_codec_reason(raw)
    except Exception as error:  # noqa: BLE001 - codecs and parsers raise whatever they like
        return f"its records cannot be decoded ({shorten(str(error) or type(error).__name__)})"
    return None


def _unreadable_codec_reason(raw: bytes) -> str:
    number = next(_complete_batches(raw)).codec
    if (name := CODEC_NAMES.get(number)) is None:
        return f"it is compressed with codec {number}, which this version does not know"
    return f"it is compressed with {name}, which this installation lacks: install `{CODECS_REQUIREMENT}` and start again"


def read_batches(
    at: TopicPartition, position: int, log: bytes, aborted: Collection[tuple[int, int]]
) -> PartialRead:
    """The records from `position` on, read by aiokafka."""
    unpacked = PartitionRecords(
        at, MemoryRecords(log), list(aborted), position, None, None, True, READ_COMMITTED
    )
    records = [RawRecord(record.offset, record.key, record.value, record.timestamp) for record in unpacked]
    after = max(unpacked.next_fetch_offset, position + 1)  # the positions in a header may be broken, too
    return PartialRead(after, records)


def _records_of_batch(raw: bytes) -> list[RawRecord]:
    """The records of a batch of format 2 without their headers. We need no headers, and a producer may put there
    what aiokafka cannot decode. Raises any exception for a broken batch.
    """
    head = _BATCH_HEADER.unpack_from(raw)
    if raw[_MAGIC_OFFSET] != 2:
        raise ValueError("another format")
    if not MemoryRecords(raw).next_batch().validate_crc():
        raise ValueError("the checksum is wrong")
    first, attributes, begun, newest, count = head[0], head[5], head[7], head[8], head[12]
    if attributes & _CONTROL:  # of an unknown kind; control batches hold no records
        return []
    number, body = attributes & _CODEC, raw[_BATCH_HEADER.size :]
    buffer = bytearray(getattr(codec, f"{CODEC_NAMES[number]}_decode")(body) if number else body)
    records, at = [], 0
    for _ in range(count):
        length, at = decode_varint(buffer, at)
        end = at + length
        later, at = decode_varint(buffer, at + 1)
        offset, at = decode_varint(buffer, at)
        key, at = _read_nullable_bytes(buffer, at)
        value, at = _read_nullable_bytes(buffer, at)
        if not at <= end <= len(buffer):
            raise ValueError("a record is longer than it says")
        time = newest if attributes & _LOG_APPEND_TIME else begun + later
        records.append(RawRecord(first + offset, key, value, time))
        at = end
    return records


def _read_nullable_bytes(buffer: bytearray, at: int) -> tuple[bytes | None, int]:
    size, at = decode_varint(buffer, at)
    if size < 0:
        return None, at
    if at + size > len(buffer):
        raise ValueError("a record is cut off")
    return bytes(buffer[at : at + size]), at + size

"""From a request's body to the raw events in it, never larger in memory than the limit allows.

Accepted: one event, a list, `{"events": [...], "sent_at": ...}`, or a line each (NDJSON); gzip.
Each event's bytes are cut out, not parsed: that happens once, at the door. Whatever the bytes are, each of
them is looked at a bounded number of times.
"""

import asyncio
import re
import zlib
from datetime import datetime
from typing import NamedTuple

from msgspec import UNSET, DecodeError, Raw, Struct, UnsetType, ValidationError, json
from starlette.requests import ClientDisconnect, Request

from gateway.answers import RequestProblem
from gateway.door.pace import PacedSteps, run_paced
from schemas.broken_text import repair_broken_text
from schemas.decode import MAX_EVENT_BYTES, Refusal, read_event
from schemas.envelope import Moment

READ_SECONDS = 30.0
TIME_NEEDED = "a time with its zone is needed, such as 2030-01-31T12:00:00Z"
NDJSON_MEDIA_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
GZIP_WINDOW = 31
"""zlib's word for: a gzip header is required."""
GZIP_MARK = b"\x1f\x8b"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PIECE_BYTES = 4096
"""So much packed data is looked at in one step: what follows the end of a gzip member is copied."""
TOKENS_PER_STEP = 4096
"""So many brackets, strings and commas are looked at in one step."""
# A string that is never closed goes on to the end: what follows its quote is read once, not once per quote.
_JSON_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)


class EventBatch(NamedTuple):
    raws: list[bytes]
    sent_at: datetime | None


class _WrappedBatch(Struct):
    """The two keys that distinguish a wrapped batch from an event; all others are skipped."""

    events: list[Raw] | UnsetType = UNSET
    sent_at: Moment | None = None


_decode_object = json.Decoder(_WrappedBatch).decode
_decode_list = json.Decoder(list[Raw]).decode
_decode_moment = json.Decoder(Moment).decode


async def read_body(request: Request, limit: int) -> bytes:
    """The body, unpacked; Problem 413, 415, 400 or 408 if it is too large, strange, broken or slow."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip", ""}:
        raise RequestProblem(415, "send it plain or with gzip", field="Content-Encoding")
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large_problem(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large_problem(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise RequestProblem(408, f"the body did not come within {READ_SECONDS:g} s") from None
    except ClientDisconnect:
        raise RequestProblem(400, "the body ended early") from None
    body = b"".join(chunks)
    return await run_paced(gunzip(body, limit)) if encoding.endswith("gzip") else body


def gunzip(packed: bytes, limit: int) -> PacedSteps[bytes]:
    """The unpacked bytes of one or several gzip members; never unpacks beyond the limit."""
    parts: list[bytes] = []
    left, member = limit, None
    for start in range(0, len(packed), PIECE_BYTES):
        piece = packed[start : start + PIECE_BYTES]
        while piece:
            member = member or zlib.decompressobj(GZIP_WINDOW)
            try:
                part = member.decompress(piece, left + 1)
            except zlib.error as error:
                raise RequestProblem(
                    400, f"this is no gzip, or damaged: {error}", field="Content-Encoding"
                ) from None
            if len(part) > left:
                raise _too_large_problem(limit)
            left -= len(part)
            parts.append(part)
            piece = member.unused_data
            if member.eof:
                member = None
        yield
    if member is not None:
        raise RequestProblem(400, "the gzip data ended early", field="Content-Encoding")
    return b"".join(parts)


def split_batch(body: bytes, content_type: str, max_events: int) -> PacedSteps[EventBatch]:
    """The events' bytes, in their order. Problem 400 if the whole cannot be read, 413 if too many."""
    if content_type.partition(";")[0].strip().lower() in NDJSON_MEDIA_TYPES:
        batch = _split_lines(body)
    else:
        batch = yield from _split_json(body, max_events)
    if len(batch.raws) > max_events:
        raise _too_many_problem(max_events)
    return batch


def sent_at_of(header: str | None) -> datetime | None:
    """The producer's clock, from the header X-Sent-At."""
    if header is None:
        return None
    try:
        return _decode_moment(json.encode(header))
    except DecodeError:
        raise RequestProblem(400, TIME_NEEDED, field="X-Sent-At") from None


def _split_json(body: bytes, max_events: int) -> PacedSteps[EventBatch]:
    text = body.removeprefix(BYTE_ORDER_MARK).strip()
    if text.startswith(b"["):
        elements = yield from _list_elements(text, max_events)
        return EventBatch(elements, None)
    if text.startswith(b"{"):
        return (yield from _split_object(text))
    if text.startswith(GZIP_MARK):
        raise RequestProblem(
            400, "this is gzip: say so with Content-Encoding: gzip", field="Content-Encoding"
        )
    if text.startswith(UTF_16_MARKS):
        raise RequestProblem(400, "this is UTF-16: send UTF-8", field="body")
    reason = "no JSON: send an event {...}, a list of them, or one a line" if text else "the body is empty"
    raise RequestProblem(400, reason, field="body")


def _list_elements(text: bytes, max_events: int) -> PacedSteps[list[bytes]]:
    """The elements of a list; if one of them is broken, the others are found all the same."""
    try:
        raws = _decode_list(text)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        elements = yield from split_broken_list(text, max_events)
        if elements is None:
            why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise RequestProblem(400, f"no JSON: {why}", field="body") from None
        return elements
    if len(raws) > max_events:
        raise _too_many_problem(max_events)
    return [bytes(raw) for raw in raws]


def split_broken_list(text: bytes, max_events: int) -> PacedSteps[list[bytes] | None]:
    """A list cut at its commas by brackets and quotes alone, however broken or deep what stands
    between them; None if the list is never closed.
    """
    elements: list[bytes] = []
    depth, begin = 0, 1
    for number, token in enumerate(_JSON_STRUCTURE.finditer(text), 1):
        if number % TOKENS_PER_STEP == 0:
            yield
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
            case b"," if depth == 1:
                elements.append(text[begin : token.start()])
                begin = token.end()
                if len(elements) == max_events:
                    raise _too_many_problem(max_events)
            case _:
                pass  # a string, or a comma further down
        if depth == 0:
            elements.append(text[begin : token.start()])
            return elements if token.end() == len(text) else None
    return None


def _split_object(text: bytes) -> PacedSteps[EventBatch]:
    try:
        batch = _decode_object(text)
    except ValidationError as error:
        field, reason = (
            ("sent_at", TIME_NEEDED) if str(error).endswith("`$.sent_at`") else ("events", "a list is needed")
        )
        raise RequestProblem(400, reason, field=field) from None
    except (DecodeError, UnicodeDecodeError, RecursionError):
        sound = yield from _with_characters_replaced(text)
        if sound != text:
            return (yield from _split_object(sound))
        lines = _split_lines(text)
        if len(lines.raws) > 1 and _is_json(lines.raws[0]):
            return lines
        raise _unreadable_problem(text) from None
    if batch.events is UNSET:
        return EventBatch([text], None)
    return EventBatch([bytes(raw) for raw in batch.events], batch.sent_at)


def _with_characters_replaced(text: bytes) -> PacedSteps[bytes]:
    """The text with its broken characters replaced, in pieces that end at a comma: no character contains one. A piece
    longer than an event may be stays broken.
    """
    pieces, begin = [], 0
    while begin < len(text):
        end = text.find(b",", begin + PIECE_BYTES) + 1 or len(text)
        piece = text[begin:end]
        pieces.append(repair_broken_text(piece) if len(piece) <= MAX_EVENT_BYTES else piece)
        begin = end
        yield
    return b"".join(pieces)


def _unreadable_problem(text: bytes) -> RequestProblem:
    """Why this is no object: the reason and field of the decoder that reads events."""
    try:
        read_event(text)
    except Refusal as refusal:
        return RequestProblem(400, refusal.reason, field=refusal.field or "body")
    return RequestProblem(400, "no JSON", field="body")


def _is_json(line: bytes) -> bool:
    try:
        json.decode(line, type=Raw)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _split_lines(body: bytes) -> EventBatch:
    lines = (line.removeprefix(BYTE_ORDER_MARK) for line in body.split(b"\n"))
    return EventBatch([line for line in lines if line.strip()], None)


def _too_many_problem(max_events: int) -> RequestProblem:
    return RequestProblem(413, f"at most {max_events} events in one request", field="events")


def _too_large_problem(limit: int) -> RequestProblem:
    return RequestProblem(413, f"a body has at most {limit} bytes, unpacked", field="body")

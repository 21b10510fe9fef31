"""Decodes bytes into messages and encodes messages into bytes. No other module does either.

Any bytes give a message that can be folded and stored, or raise a `Refusal` that names the field; nothing else
is ever raised. `read_event` is strict and reads what producers send. `decode_source` is fast and reads the log,
to which a producer may have written without the gateway.
"""

import json
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, TypeVar, Union

import msgspec
from msgspec import Struct, structs

from schemas.activity import ACTIVITY_TYPES, Activity
from schemas.blank import with_typed_blanks
from schemas.broken_text import refuse_broken_ids, repair_broken_text
from schemas.control import CONTROL_TYPES, DERIVED_TYPES, Control, Derived
from schemas.envelope import MAX_INTEGER, Event, tag_of
from schemas.events import EVENT_TYPES
from schemas.nearest import letter_pairs_by_name, nearest_name
from schemas.refusal import Refusal, explain_error, json_type_name, shorten
from schemas.statements import STATEMENT_TYPES, DeadLetter, Statement
from schemas.topics import lead_key, visitor_key
from schemas.upcast import UPCASTS, Upcasts, newest_event_version, upcast
from schemas.validation import check_ids, check_json_value, check_storable

__all__ = [
    "Refusal",
    "decode_activity",
    "decode_dead_letter",
    "decode_source",
    "decode_statement",
    "encode_activity",
    "encode_dead_letter",
    "encode_source",
    "encode_statement",
    "key_of",
    "read_event",
]

MAX_EVENT_BYTES = 64 * 1024
"""The gateway accepts no more, both as received and as written."""
MAX_RECORD_BYTES = 2 * MAX_EVENT_BYTES
"""The log accepts no more. Leaves room for the fields that the gateway adds."""
MAX_EXTRA_FIELDS = 48
"""Unknown fields of one event. Leaves room in `extra` for what the gateway adds."""


def read_event(raw: bytes, table: Upcasts = UPCASTS) -> Event:
    """One event as a producer sent it. Unknown fields are kept in `extra`, and broken text is repaired."""
    if len(raw) > MAX_EVENT_BYTES:
        raise _too_large_refusal(MAX_EVENT_BYTES)
    event, unknown = _decoded_event(raw, table)
    refuse_broken_ids(event)
    if unknown:
        event = _with_extra(event, unknown)
    if len(encode_source(event)) > MAX_EVENT_BYTES:
        raise _too_large_refusal(MAX_EVENT_BYTES)
    return event


def decode_source(raw: bytes) -> Event | Control | Derived:
    """A record of `events`. Unknown fields are ignored."""
    try:
        message = _SOURCE_DECODER.decode(raw)
    except _DECODE_ERRORS as error:
        fields = _decoded_object(repair_broken_text(raw))
        if (internal := _INTERNAL_TYPE_BY_TAG.get(str(fields.get("type")))) is not None:
            raise explain_error(error, fields, internal) from None
        message = None
    if isinstance(message, Control | Derived):
        check_storable(message, raw)
        return message
    if len(raw) > MAX_RECORD_BYTES:
        raise _too_large_refusal(MAX_RECORD_BYTES)
    if message is None or message.v != _NEWEST_VERSION[type(message)] or b"\\u0000" in raw:
        return _decoded_event(raw, UPCASTS)[0]
    check_storable(message, raw)
    return check_ids(message)


def encode_source(message: Event | Control | Derived) -> bytes:
    return _JSON_ENCODER.encode(message)


def decode_activity(raw: bytes) -> Activity:
    try:
        return _ACTIVITY_DECODER.decode(raw)
    except _DECODE_ERRORS as error:
        raise Refusal(None, f"no activity record: {shorten(str(error))}") from None


def encode_activity(activity: Activity) -> bytes:
    return _MSGPACK_ENCODER.encode(activity)


def decode_statement(raw: bytes) -> Statement:
    try:
        return _STATEMENT_DECODER.decode(raw)
    except _DECODE_ERRORS as error:
        raise Refusal(None, f"no statement: {shorten(str(error))}") from None


def encode_statement(statement: Statement) -> bytes:
    return _JSON_ENCODER.encode(statement)


def decode_dead_letter(raw: bytes) -> DeadLetter:
    try:
        return _DEAD_LETTER_DECODER.decode(raw)
    except _DECODE_ERRORS as error:
        raise Refusal(None, f"no dead letter: {shorten(str(error))}") from None


def encode_dead_letter(dead_letter: DeadLetter) -> bytes:
    return _JSON_ENCODER.encode(dead_letter)


def key_of(event: Event) -> str:
    """The key of the event's record: the visitor's if the event names one, so that a retry after login has the same."""
    if event.visitor_id is not None:
        return visitor_key(event.tenant, event.visitor_id)
    return lead_key(event.tenant, event.lead_id or "")


# Reading


def _decoded_event(raw: bytes, table: Upcasts) -> tuple[Event, dict[str, Any]]:
    """The event in its newest version, and its unknown fields."""
    received, raw = raw, repair_broken_text(raw)
    fields = _decoded_object(raw)
    kind = _event_type_of(fields)
    if upcast(fields, table) is not fields:
        raw = _JSON_ENCODER.encode(upcast(_object_with_decimals(raw), table))
        fields = _decoded_object(raw)
    try:
        event = _decoded(raw, kind, fields)
    except _DECODE_ERRORS as error:
        raise explain_error(error, fields, kind) from None
    if event.v > (newest_version := newest_event_version(tag_of(kind), table)):
        raise Refusal("v", f"version {event.v} is not known here; the newest is {newest_version}")
    check_storable(event, raw)
    if raw is not received:
        refuse_broken_ids(event)
    unknown = {name: value for name, value in fields.items() if name not in _FIELD_NAMES[kind]}
    return check_ids(event), unknown


def _decoded(raw: bytes, kind: type[Event], fields: dict[str, Any]) -> Event:
    """The event, also if a blank of another type stands where a profile field belongs. Raises what msgspec raises."""
    try:
        return _EVENT_DECODERS[kind].decode(raw)
    except _DECODE_ERRORS:
        if with_typed_blanks(kind, fields) == fields:
            raise
        return _EVENT_DECODERS[kind].decode(
            _JSON_ENCODER.encode(with_typed_blanks(kind, _object_with_decimals(raw)))
        )


def _with_extra(event: Event, unknown: dict[str, Any]) -> Event:
    for name, value in unknown.items():
        check_json_value(name, name, 0)
        check_json_value(value, name, 2)
    extra = {**(event.extra or {}), **unknown}
    if len(extra) > MAX_EXTRA_FIELDS:
        raise Refusal("extra", f"more than {MAX_EXTRA_FIELDS} fields that are not known")
    return structs.replace(event, extra=extra)


def _decoded_object(raw: bytes) -> dict[str, Any]:
    try:
        decoded = _OBJECT_DECODER.decode(raw)
    except _DECODE_ERRORS as error:
        raise _unparsable_refusal(raw, error) from None
    if not isinstance(decoded, dict):
        raise Refusal(None, f"must be a JSON object, not {json_type_name(decoded)}")
    return decoded


def _object_with_decimals(raw: bytes) -> dict[str, Any]:
    """The object with decimals instead of floats, which would round an amount."""
    try:
        fields: dict[str, Any] = _EXACT_DECODER.decode(raw)
    except _DECODE_ERRORS as error:
        raise _unparsable_refusal(raw, error) from None
    return fields


def _event_type_of(fields: dict[str, Any]) -> type[Event]:
    type_ = fields.get("type")
    if type_ is None:
        raise Refusal("type", "missing")
    if not isinstance(type_, str):
        raise Refusal("type", f"must be text, not {json_type_name(type_)}")
    if (kind := _EVENT_TYPE_BY_TAG.get(type_)) is not None:
        return kind
    nearest_type = nearest_name(type_, _LETTER_PAIRS_BY_TAG)
    suggestion = f"perhaps {nearest_type} is meant; " if nearest_type else ""
    raise Refusal(
        "type",
        f"'{shorten(type_)}' is not known; {suggestion}for your own events use the type custom and a name",
    )


def _unparsable_refusal(raw: bytes, error: Exception) -> Refusal:
    """Why the bytes are no JSON. Python's parser accepts NaN and huge numbers, so it can name their field."""
    if isinstance(error, RecursionError):
        return Refusal(None, "is nested too deeply")
    try:
        lenient = json.loads(raw, parse_int=_int_or_infinity)
        if isinstance(lenient, dict):
            for name, value in lenient.items():
                check_json_value(name, name, 0)
                check_json_value(value, name, 1)
    except Refusal as refusal:
        return refusal
    except (ValueError, RecursionError):
        pass
    if isinstance(error, UnicodeError):
        return Refusal(None, "is not valid UTF-8")
    return Refusal(None, f"is not valid JSON: {shorten(str(error).removeprefix('JSON is malformed: '))}")


def _int_or_infinity(digits: str) -> float:
    """The number; infinity if it has so many digits that reading it would be slow."""
    return int(digits) if len(digits) <= len(str(-MAX_INTEGER)) else math.inf


def _too_large_refusal(limit: int) -> Refusal:
    return Refusal(None, f"is larger than {limit // 1024} KB")


def _union_of(kinds: tuple[type[Struct], ...]) -> Any:
    return Union[kinds]  # noqa: UP007  # a tuple of types cannot be joined by |


_Message = TypeVar("_Message", bound=Struct)


def _by_tag(kinds: Iterable[type[_Message]]) -> dict[str, type[_Message]]:
    return {tag_of(kind): kind for kind in kinds}


_DECODE_ERRORS: Final = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)

_EVENT_TYPE_BY_TAG: Final = _by_tag(EVENT_TYPES)
_LETTER_PAIRS_BY_TAG: Final = letter_pairs_by_name(_EVENT_TYPE_BY_TAG)
_INTERNAL_TYPE_BY_TAG: Final[dict[str, type[Struct]]] = {**_by_tag(CONTROL_TYPES), **_by_tag(DERIVED_TYPES)}
_SOURCE_TYPES: Final[tuple[type[Struct], ...]] = (*EVENT_TYPES, *CONTROL_TYPES, *DERIVED_TYPES)
_FIELD_NAMES: Final = {kind: frozenset({"type", *kind.__struct_encode_fields__}) for kind in _SOURCE_TYPES}
_NEWEST_VERSION: Final = {kind: newest_event_version(tag_of(kind)) for kind in EVENT_TYPES}

_JSON_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_MSGPACK_ENCODER: Final = msgspec.msgpack.Encoder()
_OBJECT_DECODER: Final = msgspec.json.Decoder()
_EXACT_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_SOURCE_DECODER: Final[msgspec.json.Decoder[Event | Control | Derived]] = msgspec.json.Decoder(
    _union_of(_SOURCE_TYPES)
)
_EVENT_DECODERS: Final = {kind: msgspec.json.Decoder(kind) for kind in EVENT_TYPES}
_ACTIVITY_DECODER: Final[msgspec.msgpack.Decoder[Activity]] = msgspec.msgpack.Decoder(
    _union_of(ACTIVITY_TYPES)
)
_STATEMENT_DECODER: Final[msgspec.json.Decoder[Statement]] = msgspec.json.Decoder(_union_of(STATEMENT_TYPES))
_DEAD_LETTER_DECODER: Final = msgspec.json.Decoder(DeadLetter)

"""Checks a decoded message for what msgspec's types cannot express.

Amounts and numbers must be within limits, dates must exist in UTC, texts must be storable, and ids must not be
placeholders. The checks are cheap, since every record of the log passes them.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple, NoReturn

import msgspec
from msgspec import Struct, inspect, structs

from schemas.blank import is_id_of_nobody, is_placeholder
from schemas.control import CONTROL_TYPES, DERIVED_TYPES
from schemas.envelope import ANONYMOUS_PREFIX, MAX_FLOAT, MAX_INTEGER, Event, Identifier, tag_of
from schemas.events import EVENT_TYPES, IDENTITY_EVENT_TYPES, LeadsMerged, MergeUndone
from schemas.refusal import MOST_ECHOED_CHARACTERS, Refusal, shorten

MAX_JSON_DEPTH = 8
"""Levels of nesting in `properties` and in `extra`, which holds unknown fields."""
MAX_AMOUNT = Decimal(10**12)


def check_storable(message: Struct, raw: bytes) -> None:
    """Refuses a decoded message that could not be stored, counted or folded."""
    moments, amounts, free = _FIELDS_BY_KIND[type(message)]
    for name in moments:
        if (at := getattr(message, name)) is not None and at.year in _EDGE_YEARS:
            _check_moment(name, at)
    for name in amounts:
        if (amount := getattr(message, name)) is not None:
            _check_amount(name, amount)
    if isinstance(message, Event) and message.context is not None and message.context.revenue is not None:
        _check_amount("context.revenue", message.context.revenue)
    for name in free:
        if (value := getattr(message, name)) is not None:
            check_json_value(value, name, 1)
    if b"\\u0000" in raw:  # JSON can only escape a NUL, so all other messages skip this walk
        for name, value in msgspec.to_builtins(message).items():
            check_json_value(value, name, 1)


def _check_moment(name: str, at: datetime) -> None:
    try:
        at.astimezone(UTC)
    except OverflowError:
        raise Refusal(name, "must lie in the years 1 to 9999 in UTC") from None


def _check_amount(name: str, amount: Decimal) -> None:
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int):
        raise Refusal(name, "must be a number")
    if amount.is_signed():
        raise Refusal(name, "must not be negative")
    if amount > MAX_AMOUNT or exponent > MAX_AMOUNT.adjusted():
        raise Refusal(name, f"must not be above {MAX_AMOUNT}")
    if exponent < -6:
        raise Refusal(name, "must have at most six decimals")


def check_json_value(value: Any, path: str, depth: int) -> None:
    """Refuses text that cannot be stored, numbers that JSON readers disagree on, and deep nesting."""
    match value:
        case str():
            if "\0" in value:
                raise Refusal(path, "contains a NUL character (\\u0000), which cannot be stored")
            if not value.isascii() and _SURROGATE.search(value):
                raise Refusal(path, "contains half a surrogate pair, which is no character")
        case bool() | None:
            pass
        case int():
            if abs(value) > MAX_INTEGER:
                raise Refusal(path, f"must be a whole number within +-{MAX_INTEGER}")
        case float():
            if not abs(value) <= MAX_FLOAT:
                raise Refusal(path, f"must be a number within +-{MAX_FLOAT:.0e}")
        case dict() | list():
            if depth > MAX_JSON_DEPTH:
                raise Refusal(path, f"is nested more than {MAX_JSON_DEPTH} levels deep")
            entries: Iterable[tuple[Any, Any]] = (
                value.items() if isinstance(value, dict) else enumerate(value)
            )
            for key, entry in entries:
                at = f"{path}.{key}"[: 2 * MOST_ECHOED_CHARACTERS]
                check_json_value(key, at, depth)
                check_json_value(entry, at, depth + 1)
        case _:
            pass


def check_ids(event: Event) -> Event:
    """Refuses an event with a wrong id. Returns the event; a lead id `anon:V` has become the visitor id V."""
    lead_id, visitor_id, kind = event.lead_id, event.visitor_id, type(event)
    if lead_id is None:
        if kind in IDENTITY_EVENT_TYPES:
            raise Refusal("lead_id", f"missing: {tag_of(kind)} is about a lead")
        if visitor_id is None:
            raise Refusal("visitor_id", "missing: an event names a visitor_id, a lead_id or both")
    elif kind in IDENTITY_EVENT_TYPES:
        _check_lead_ids(event, lead_id)
    elif lead_id.startswith(ANONYMOUS_PREFIX):
        return check_ids(_as_visitor(event, lead_id.removeprefix(ANONYMOUS_PREFIX)))
    elif is_placeholder(lead_id):
        _refuse_placeholder("lead_id", lead_id)
    if visitor_id is not None and is_placeholder(visitor_id):
        _refuse_placeholder("visitor_id", visitor_id)
    return event


def check_ids_name_somebody(event: Event) -> None:
    """Refuses ids that say nothing, such as N/A, test or {{user_id}}, which also would join strangers. Only what newly comes
    in is checked: recorded events keep their ids.
    """
    for name in ("visitor_id", "lead_id", "into"):
        value = getattr(event, name, None)
        if value is not None and is_id_of_nobody(value):
            _refuse_placeholder(name, value)


def names_somebody(event: Event) -> bool:
    """Whether no id of it is such a one."""
    try:
        check_ids_name_somebody(event)
    except Refusal:
        return False
    return True


def _check_lead_ids(event: Event, lead_id: str) -> None:
    _check_person("lead_id", lead_id)
    if isinstance(event, LeadsMerged | MergeUndone) and event.visitor_id is not None:
        raise Refusal(
            "visitor_id",
            f"must be absent: {tag_of(type(event))} is about leads, not about a visitor",
        )
    if isinstance(event, LeadsMerged):
        _check_person("into", event.into)
        if event.into == lead_id:
            raise Refusal("into", "must be another lead than lead_id")


def _check_person(field: str, lead_id: str) -> None:
    if lead_id.startswith(ANONYMOUS_PREFIX):
        raise Refusal(field, f"'{shorten(lead_id)}' is an anonymous visitor, not a known lead")
    if is_placeholder(lead_id):
        _refuse_placeholder(field, lead_id)


def _as_visitor(event: Event, visitor_id: str) -> Event:
    if event.visitor_id not in {None, visitor_id}:
        raise Refusal("lead_id", "names an anonymous visitor other than visitor_id")
    try:
        return structs.replace(event, visitor_id=msgspec.convert(visitor_id, Identifier), lead_id=None)
    except msgspec.ValidationError:
        raise Refusal("lead_id", f"'{ANONYMOUS_PREFIX}' must be followed by a visitor id") from None


def _refuse_placeholder(field: str, value: str) -> NoReturn:
    raise Refusal(field, f"'{shorten(value)}' is a placeholder, not an id; leave the field out instead")


class _FieldsByKind(NamedTuple):
    """The names of a type's fields that need more than msgspec's checks."""

    moments: tuple[str, ...]
    amounts: tuple[str, ...]
    free: tuple[str, ...]


def _checked_fields(described: inspect.StructType) -> _FieldsByKind:
    types = {field.name: _types_in(field.type) for field in described.fields}

    def named(facet: type[inspect.Type]) -> tuple[str, ...]:
        return tuple(name for name, parts in types.items() if facet in parts)

    return _FieldsByKind(named(inspect.DateTimeType), named(inspect.DecimalType), named(inspect.DictType))


def _types_in(type_: inspect.Type) -> set[type[inspect.Type]]:
    """The types that a field may have, without unions and annotations."""
    match type_:
        case inspect.UnionType(types):
            return {part for member in types for part in _types_in(member)}
        case inspect.Metadata(inner):
            return _types_in(inner)
        case _:
            return {type(type_)}


_EDGE_YEARS: Final = (1, 9999)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FIELDS_BY_KIND: Final = {
    described.cls: _checked_fields(described)
    # In one call: it describes a type that many fields share only once, and this module loads with every process.
    for described in inspect.multi_type_info((*EVENT_TYPES, *CONTROL_TYPES, *DERIVED_TYPES))
    if isinstance(described, inspect.StructType)
}

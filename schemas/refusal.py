"""Refusals: msgspec's messages in words that a producer's developer understands.

A refusal names the field by its dotted path and repeats at most `MOST_ECHOED_CHARACTERS` characters of the input.
"""

import re
from itertools import islice
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from schemas.control import TenantOrEveryTenant
from schemas.envelope import EventId, FieldName, Identifier, Source, Tenant
from schemas.events import Currency
from schemas.nearest import letter_pairs_by_name, nearest_name

MOST_ECHOED_CHARACTERS = 80
MOST_CANDIDATES = 48
"""Unknown fields that are compared with a missing one."""


class Refusal(ValueError):
    """Why a message is refused: `field` is a dotted path (None: the whole message), `reason` is plain English."""

    def __init__(self, field: str | None, reason: str) -> None:
        self.field = None if field is None else shorten(field)
        self.reason = reason
        super().__init__(reason if field is None else f"{self.field}: {reason}")


def shorten(text: str) -> str:
    """At most `MOST_ECHOED_CHARACTERS` characters, safe to print and to store."""
    start = text[: MOST_ECHOED_CHARACTERS + 1]
    shown = start if start.isprintable() else start.encode("unicode_escape").decode()
    return shown if len(shown) <= MOST_ECHOED_CHARACTERS else f"{shown[: MOST_ECHOED_CHARACTERS - 3]}..."


def json_type_name(value: Any) -> str:
    """The type of a decoded JSON value, in words."""
    return _TYPE_TEXTS[_JSON_TYPE_BY_PYTHON_TYPE.get(type(value), "object")]


def explain_error(error: Exception, fields: dict[str, Any], kind: type[Struct]) -> Refusal:
    """The refusal for a message of msgspec such as "Expected `str`, got `int` - at `$.context.ip`"."""
    located = _LOCATED_PROBLEM.match(str(error))
    problem, in_key, path = located.groups() if located else (str(error), None, "")
    steps = re.findall(r"\.\.\.|[^.\[\]]+", path)
    if problem.startswith("Object missing required field"):
        name = problem.split("`")[1]
        return Refusal(".".join([*steps, name]), "missing" + _perhaps_misspelt(name, fields, kind))
    if in_key or "..." in steps:
        steps[1:2] = [_offending_key(fields, kind, steps[0])]
    field = ".".join(steps) or None
    return Refusal(field, _plain_reason(problem, kind, steps))


def _perhaps_misspelt(name: str, fields: dict[str, Any], kind: type[Struct]) -> str:
    type_fields = {"type", *kind.__struct_encode_fields__}
    candidate = nearest_name(
        name, letter_pairs_by_name(key for key in islice(fields, MOST_CANDIDATES) if key not in type_fields)
    )
    return f"; perhaps '{shorten(candidate)}' is meant to be it" if candidate else ""


def _offending_key(fields: dict[str, Any], kind: type[Struct], name: str) -> str:
    """Finds the entry of a dictionary that msgspec complains about without naming it."""
    expected_type = get_type_hints(kind, include_extras=True)[name]
    for key in fields[name]:
        try:
            msgspec.convert({key: fields[name][key]}, expected_type)
        except msgspec.ValidationError:
            return str(key)
    return "..."


def _plain_reason(problem: str, kind: type[Struct], steps: list[str]) -> str:
    if wrong_type := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", problem):
        expected, actual = (
            " or ".join(_TYPE_TEXTS.get(w, w) for w in g.split(" | ")) for g in wrong_type.groups()
        )
        return f"must be {expected}, not {actual}"
    if bounded := re.fullmatch(r"Expected `(\w+)` (of length )?([<>]=) (\S+)", problem):
        type_, of_length, sign, limit = bounded.groups()
        unit = "" if not of_length else " characters" if type_ == "str" else " entries"
        if (unit, sign, limit) == (" characters", ">=", "1"):
            return "must not be empty"
        return f"must {'have' if unit else 'be'} at {'most' if sign == '<=' else 'least'} {limit}{unit}"
    if pattern := re.fullmatch(r"(?s)Expected `str` matching regex '(.*)'", problem):
        return f"must be {_DESCRIPTION_BY_PATTERN.get(pattern[1].encode().decode('unicode_escape'), 'text of another form')}"
    if problem.startswith("Invalid enum value"):
        return f"must be one of {', '.join(_allowed_values(kind, steps[-1]))}"
    if problem in _PLAIN_REASON_BY_PROBLEM:
        return _PLAIN_REASON_BY_PROBLEM[problem]
    return shorten(problem)


def _allowed_values(kind: type[Struct], name: str) -> list[str]:
    hint = get_type_hints(kind).get(name)
    return [str(choice) for choice in get_args(hint)] if get_origin(hint) is Literal else ["its known values"]


_LOCATED_PROBLEM: Final = re.compile(r"(?s)(.*) - at (`key` in )?`\$([^`]*)`")

_DESCRIPTION_BY_PATTERN: Final = {
    meta.pattern: meta.description
    for meta in (
        get_args(alias)[1]
        for alias in (EventId, Identifier, Tenant, Source, FieldName, Currency, TenantOrEveryTenant)
    )
}
_TYPE_TEXTS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "null": "null",
    "object": "an object",
    "array": "a list",
    "datetime": "a time such as 2026-01-31T09:30:00Z",
}
_JSON_TYPE_BY_PYTHON_TYPE: Final = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    type(None): "null",
    list: "array",
}
_PLAIN_REASON_BY_PROBLEM: Final = {
    "Expected `datetime` with a timezone component": "must say its time zone, such as 2026-01-31T09:30:00Z",
    "Invalid RFC3339 encoded datetime": "must be a time such as 2026-01-31T09:30:00Z, in the years 1 to 9999",
    "Invalid decimal string": "must be a number such as 12.50",
    "Number out of range": "must be a smaller number",
}

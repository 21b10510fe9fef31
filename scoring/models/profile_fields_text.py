"""Reads the text in which a tenant declares the types of its own profile fields: the table [profile_fields].

A refusal names the line, the field and the reason.
"""

import re
from typing import Any, Final

from schemas.control import FieldType
from scoring.features.profile_fields import BUILT_IN_FIELDS, FIELD_TYPES
from scoring.models.text_refusals import LONGEST_REFUSAL_CHARACTERS, line_of, read_document, shorten_value

PROFILE_FIELDS_TABLE = "profile_fields"
LONGEST_TEXT = 50_000
MOST_FIELDS = 256

_FIELD_TYPE_BY_NAME: Final[dict[str, FieldType]] = {name: name for name in FIELD_TYPES}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


class ProfileFieldsError(ValueError):
    """The text is refused; the message gives the line and the reason."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message
            if len(message) <= LONGEST_REFUSAL_CHARACTERS
            else f"{message[:LONGEST_REFUSAL_CHARACTERS]}..."
        )


def read_profile_fields(text: str) -> dict[str, FieldType]:
    """The declared types. Raises ProfileFieldsError."""
    tables = read_document(text, "a text of profile fields", ProfileFieldsError, longest=LONGEST_TEXT)
    fields = tables.pop(PROFILE_FIELDS_TABLE, None)
    for name in tables:
        raise _refusal(text, name, f"unknown; the only table is [{PROFILE_FIELDS_TABLE}]")
    if not isinstance(fields, dict):
        raise ProfileFieldsError(
            f'line 1: the table [{PROFILE_FIELDS_TABLE}] is missing; below it, write seats = "number"'
        )
    if len(fields) > MOST_FIELDS:
        raise ProfileFieldsError(f"line 1: at most {MOST_FIELDS} fields can be declared, not {len(fields)}")
    return {name: _read_type(text, name, declared) for name, declared in fields.items()}


def _read_type(text: str, name: str, declared: Any) -> FieldType:
    if not _NAME.fullmatch(name):
        raise _refusal(
            text, name, "is no name of a field: use 1 to 64 of a-z, 0-9 and _, beginning with a letter"
        )
    field_type = _FIELD_TYPE_BY_NAME.get(declared) if isinstance(declared, str) else None
    if field_type is None:
        raise _refusal(
            text, name, f"{shorten_value(declared)} is no type; types are {', '.join(_FIELD_TYPE_BY_NAME)}"
        )
    if name == "stage":
        raise _refusal(text, name, "the stage comes from the lifecycle; use another name")
    if BUILT_IN_FIELDS.get(name, field_type) != field_type:
        raise _refusal(text, name, f"is built in, with the type {BUILT_IN_FIELDS[name]}; use another name")
    return field_type


def _refusal(text: str, name: str, reason: str) -> ProfileFieldsError:
    line = line_of(text, rf"^[ \t]*\[*[\"']?(?:{PROFILE_FIELDS_TABLE}\.)?{re.escape(name)}\b")
    return ProfileFieldsError(f"line {line}, {shorten_value(name)[1:-1]}: {reason}")

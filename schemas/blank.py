"""Blank: what people and programs write where they have nothing to state. The one rule for it, for every field.

Blank are empty texts and lists, texts that nobody can see, and placeholders such as N/A or null. Of ids there are two lists:
what is no id of any kind, and what names no person. Total, and linear in the value's length.
"""

from typing import Any, Final
from unicodedata import normalize

import regex

from schemas.envelope import Event
from schemas.events import (
    ConsentChanged,
    ContactShared,
    Custom,
    FormSubmitted,
    LeadAssigned,
    ProfileUpdated,
    QuestionAnswered,
)

LONGEST_PLACEHOLDER = 100
_QUOTES: Final = "\"'`"

UNSEEN = regex.compile(r"[\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]+")
_SEEN = regex.compile(
    r"[^\s\p{Z}\p{Cc}\p{Cf}\p{M}\p{P}\p{Sm}\p{Sk}\p{Default_Ignorable_Code_Point}\u2800\ufffd]"
)
"""Letters, digits, signs of currencies and pictures; no space, punctuation or unseen character."""
_WORD = regex.compile(r"[^\s\p{P}\p{Sm}\p{Sk}]+")
_ID_WORD = regex.compile(r"[^\s\p{P}\p{S}\p{Z}]+")
_DECORATED = regex.compile(r"[\p{P}\p{Sm}\p{Sk}].*[\p{P}\p{Sm}\p{Sk}]|.*\.\.\.")
_EMPTY_MARKUP = regex.compile(r"(?:</?(?:p|br|div|span)\b[^<>]*>|&(?:nbsp|#160|#xa0);|\s)+")
_UNFILLED = regex.compile(
    r"\{[{!%].*\}|\$\{.*\}|\*\|.*\|\*|%%.*%%|%[a-z_]+%|<%.*%>|\[\[.*\]\]|(?:\[object \w+\]\W*)+|\\n",
    regex.DOTALL,
)
"""Templates that nobody filled, objects that a script printed, and the \\N of databases."""
_OPENINGS: Final = frozenset("<&{$*%[\\")
"""What those and empty markup begin with."""

_NOTHING: Final = frozenset({"null", "none", "nil", "nan", "nat", "na", "undefined"})
"""Words of programs for a missing value. A text of nothing but these is blank: undefined undefined."""
_PLACEHOLDERS: Final = frozenset(
    {
        "n a",
        "invalid date",
        "invalid datetime",
        "keine angabe",
        "no answer",
        "no data",
        "no value",
        "none given",
        "none selected",
        "not applicable",
        "not available",
        "not entered",
        "not given",
        "not known",
        "not provided",
        "not set",
        "not specified",
        "please choose",
        "please select",
        "unspecified",
    }
)
_DECORATED_PLACEHOLDERS: Final = frozenset(
    {
        "blank",
        "choose",
        "div 0",
        "empty",
        "error",
        "missing",
        "name",
        "num",
        "ref",
        "select",
        "select one",
        "unknown",
        "value",
    }
)
"""Placeholders only between signs: (blank), -- select --, [unknown], #REF! and the other errors of a spreadsheet,
and before an ellipsis: Select...
"""
_FIRST_WORDS: Final = _NOTHING | {phrase.split()[0] for phrase in _PLACEHOLDERS | _DECORATED_PLACEHOLDERS}


def is_blank_text(text: str, proper: frozenset[str] = frozenset()) -> bool:
    """Does the text say nothing? `proper`: words that are values here, though they look like placeholders."""
    if _SEEN.search(text) is None:
        return True
    bare = (text if text.isascii() else UNSEEN.sub("", text)).strip()
    if len(bare) > LONGEST_PLACEHOLDER or bare in proper:
        return False
    folded = normalize("NFKC", bare).casefold()
    if folded[:1] in _OPENINGS and (_EMPTY_MARKUP.fullmatch(folded) or _UNFILLED.fullmatch(folded)):
        return True
    first = _WORD.search(folded)
    if first is not None and first[0] not in _FIRST_WORDS:  # nearly every value
        return False
    words = _WORD.findall(folded)
    phrase = " ".join(words)
    return (
        _NOTHING.issuperset(phrase.replace("n a", "na").split())
        or phrase in _PLACEHOLDERS
        or (phrase in _DECORATED_PLACEHOLDERS and _DECORATED.fullmatch(folded) is not None)
    )


_PLACEHOLDER_IDS: Final = frozenset(
    {
        "(null)",
        "-1",
        "[object object]",
        "anonymous",
        "distinct_id",
        "distinctid",
        "email",
        "false",
        "guest",
        "id",
        "nan",
        "nil",
        "none",
        "not_authenticated",
        "null",
        "true",
        "undefined",
        "unknown",
    }
)
"""Broken producers send these in place of an id of any kind. As ids they would join strangers into one lead, or orders into one
order. Segment blocks -1; PostHog blocks distinct_id, email, guest, id and not_authenticated.
"""
_WORDS_OF_NOBODY: Final = frozenset(
    {
        "abc123",
        "account",
        "admin",
        "anon",
        "anonymous",
        "client",
        "contact",
        "customer",
        "default",
        "demo",
        "dummy",
        "email",
        "example",
        "fake",
        "foo",
        "guest",
        "id",
        "lead",
        "member",
        "na",
        "nil",
        "none",
        "null",
        "person",
        "placeholder",
        "sample",
        "test",
        "tester",
        "testing",
        "testuser",
        "undefined",
        "unknown",
        "user",
        "userid",
        "username",
        "visitor",
        "void",
        "xxx",
    }
)
"""What developers write in place of the id of a person while they try things out, and what software calls everybody whom it
does not know. An id of nothing but these words names nobody: test, demo-user, Guest User. Twilio Segment tells its customers to
block such values (void, abc123), since forgotten ones join hundreds of people:
https://support.twilio.com/hc/en-us/articles/43720564918427-How-to-Block-Identifier-Values-in-Unify
"""


def is_placeholder(text: str) -> bool:
    """Is this a value that broken producers send in place of an id of any kind: null, undefined, zeros ...?"""
    bare = text.strip(_QUOTES)
    return bare.lower() in _PLACEHOLDER_IDS or not bare.strip("0-")


def is_id_of_nobody(text: str) -> bool:
    """Does the id of a person or a visitor say nothing? Only what newly comes in is asked: recorded events keep their ids."""
    if is_placeholder(text) or is_blank_text(text):
        return True
    if len(text) > LONGEST_PLACEHOLDER:
        return False
    words = _ID_WORD.findall(normalize("NFKC", UNSEEN.sub("", text)).casefold())
    return bool(words) and _WORDS_OF_NOBODY.issuperset(words)


def is_blank(value: Any) -> bool:
    """Does a JSON value say nothing? Whether false and 0 do depends on the type of the field."""
    match value:
        case str():
            return is_blank_text(value)
        case list():
            return all(item is None or (isinstance(item, str) and is_blank_text(item)) for item in value)
        case _:
            return value is None or value == {}


_TEXT: Final = (str, "")
_FLAG: Final = (bool, None)
_FIELDS: Final[tuple[type, Any]] = (dict, {})
_OBJECT: Final = (dict, None)
_OF_EVERY_EVENT: Final = {"context": _OBJECT, "extra": _OBJECT}
_TYPED: Final[dict[type[Event], dict[str, tuple[type, Any]]]] = {
    ContactShared: dict.fromkeys(("name", "first_name", "last_name", "email", "phone"), _TEXT),
    QuestionAnswered: {"text": _TEXT},
    LeadAssigned: {"assigned_to": _TEXT},
    ConsentChanged: dict.fromkeys(("email", "sms", "profiling", "tracking"), _FLAG),
    FormSubmitted: {"fields": _FIELDS},
    ProfileUpdated: {"fields": _FIELDS},
    Custom: {"properties": _OBJECT},
}
"""The fields of events that fill a profile, and objects: each with its type and the blank of this type."""


def with_typed_blanks(kind: type[Event], fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an event with the blank of the right type for a blank of another: for `[""]` or false where a text
    belongs, for an empty text where a flag does, for PHP's empty list where an object does.
    """
    typed = dict(fields)
    for name, (own, blank) in (_OF_EVERY_EVENT | _TYPED.get(kind, {})).items():
        if name not in fields:
            continue
        value = fields[name]
        if not isinstance(value, own) and (is_blank(value) or (own is str and value in (0, False))):
            typed[name] = blank
        elif name == "fields" and isinstance(value, dict):
            typed[name] = _with_texts(value)
    return typed


def _with_texts(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a form, with lists of texts alone: no null in them, and an empty one for an empty object."""
    return {
        name: [item for item in value if item is not None]
        if isinstance(value, list)
        else []
        if value == {}
        else value
        for name, value in fields.items()
    }

"""What the messengers have in common: the events that the data of a button, a form or a link mean, and reading fields
leniently: a field of another type than documented is as good as missing. Pure, and nothing here raises.

The data say what they mean by their beginning: `qr`, `catalog` or `link` in a link (`qr_stand-7`), `catalog:ID` or
`FIELD:VALUE` in a button.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import DecodeError, json

ANSWER_FIELDS: Final = frozenset(
    {
        "transaction_type",
        "property_type",
        "location",
        "payment_method",
        "budget",
        "budget_min",
        "budget_max",
        "bedrooms",
    }
)
"""The profile fields that buttons and forms fill. No address is among them, since everybody can send any data in the
name of a button."""
LONGEST_TEXT = 8_192
LONGEST_LINE = 512
LONGEST_VALUE = 1_024
LATEST = 2**32
"""Seconds since 1970: a message of a later date happened now."""

_MARKED = re.compile(r"(qr|catalog|link)[_:-](.+)", re.DOTALL)
_BUTTON = re.compile(r"([a-z][a-z0-9_]{0,63}):(.+)", re.DOTALL)


def link_event(payload: str) -> dict[str, Any] | None:
    """What a payload that begins with a mark means; None: it has none."""
    marked = _MARKED.fullmatch(payload)
    if marked is None:
        return None
    name = marked[2][:LONGEST_LINE]
    match marked[1]:
        case "catalog":
            return {"type": "catalog_viewed", "catalog_id": name}
        case "link":
            return {"type": "link_clicked", "text": name}
        case _:
            return {"type": "qr_scanned", "qr_id": name}


def button_event(data: str | None, label: str | None, question: str | None = None) -> dict[str, Any]:
    """An answer, the opening of a catalogue, or a click."""
    label = label or data
    field, name = button.groups() if (button := _BUTTON.fullmatch(data or "")) else (None, None)
    if field in ANSWER_FIELDS:
        answer = {"type": "question_answered", "question_id": field, "text": name, "profile_field": field}
        return answer if question is None else {**answer, "question": question}
    if field == "catalog":
        return {"type": "catalog_viewed", "catalog_id": name, "title": label}
    return {"type": "element_clicked", "element_id": data, "text": label}


def form_event(data: str | None, name: str | None) -> dict[str, Any] | None:
    """A form whose data are a JSON object of profile fields; None: they are not."""
    try:
        entries = json.decode(data or "null")
    except (DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if not isinstance(entries, dict):
        return None
    fields = {
        field: value[:LONGEST_VALUE] if isinstance(value, str) else value
        for field, value in entries.items()
        if field in ANSWER_FIELDS and isinstance(value, str | int | float) and not isinstance(value, bool)
    }
    return {"type": "form_submitted", "form_name": name, "fields": fields}


# Fields


def object_of(owner: object, name: str) -> Mapping[str, Any] | None:
    value = owner.get(name) if isinstance(owner, dict) else None
    return value if isinstance(value, dict) else None


def objects_of(owner: object, name: str) -> list[Mapping[str, Any]]:
    """The objects of a list; none, if it is no list."""
    value = owner.get(name) if isinstance(owner, dict) else None
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def integer_of(owner: object, name: str) -> int | None:
    value = owner.get(name) if isinstance(owner, dict) else None
    fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return value if fits else None


def text_of(owner: object, name: str) -> str | None:
    value = owner.get(name) if isinstance(owner, dict) else None
    return value[:LONGEST_TEXT] if isinstance(value, str) and value else None


def line_of(owner: object, name: str) -> str | None:
    value = text_of(owner, name)
    return None if value is None else value[:LONGEST_LINE]

"""Profile fields of which a person has one value, such as the number in the CRM: two leads with different ones are two people.

A tenant names them in its settings (`unique_fields`). What says nothing (N/A, test, 0 ...) is no value.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.blank import is_id_of_nobody

Identifiers = Mapping[str, frozenset[str]]
"""Profile field -> the values that a lead has of it: several, if it was merged of several."""


def identifiers_in(fields: Mapping[str, Any], unique: Sequence[str]) -> dict[str, frozenset[str]]:
    """The values of the unique fields among profile fields."""
    texts = {name: _text_of(fields.get(name)) for name in unique}
    return {name: frozenset({text}) for name, text in texts.items() if text and not is_id_of_nobody(text)}


def _text_of(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def united(one: Identifiers, other: Identifiers) -> dict[str, frozenset[str]]:
    """What a lead has that was made of both."""
    return {name: one.get(name, frozenset()) | other.get(name, frozenset()) for name in (*one, *other)}


def differing_field(one: Identifiers, other: Identifiers) -> str | None:
    """A field of which both have values and none in common: they are two people. None: they may be one."""
    for name, values in one.items():
        if values and other.get(name) and values.isdisjoint(other[name]):
            return name
    return None

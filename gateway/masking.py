"""Logs name no person: a structlog processor that masks e-mail addresses and phone numbers.

It belongs into the processor chain before the renderer, for every logger of the program.
"""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

PERSONAL_FIELDS = frozenset(
    {
        "email",
        "phone",
        "name",
        "first_name",
        "last_name",
        "authorization",
        "write_key",
        "token",
        "password",
        "secret",
    }
)
"""Keys whose values are never shown: of persons, and what proves who somebody is."""
EXEMPT_FIELDS = frozenset({"timestamp", "level", "logger"})
MASK = "***"
_EMAIL = re.compile(r"([^\s@/:<>\"'=&?,;]{1,64})@((?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24})")
_PHONE = re.compile(r"(?<![\w.-])(?:\+|00)?\d(?:[ ().-]?\d){8,16}(?![\w-])")


def mask_text(text: str) -> str:
    """`ada@example.com` becomes `a***@example.com`, `+971501234567` becomes `***67`."""
    text = _EMAIL.sub(lambda match: f"{match[1][0]}{MASK}@{match[2]}", text)
    return _PHONE.sub(lambda match: MASK + match[0][-2:], text)


def mask_personal(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """The processor."""
    return {key: value if key in EXEMPT_FIELDS else masked_value(key, value) for key, value in entry.items()}


def masked_value(key: object, value: Any) -> Any:
    """The value of the field `key`, and everything in it."""
    if key in PERSONAL_FIELDS and value is not None:
        return MASK
    match value:
        case str():
            return mask_text(value)
        case Mapping():
            return {each: masked_value(each, of) for each, of in value.items()}
        case list() | tuple():
            return [masked_value(None, each) for each in value]
        case _:
            return value

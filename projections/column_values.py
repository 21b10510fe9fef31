"""Values as columns of PostgreSQL take them: whatever a record holds, they are accepted."""

import re
from decimal import Decimal
from typing import Any, Final

import msgspec

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
_JSON: Final = msgspec.json.Encoder(decimal_format="number")


def storable_text(text: str) -> str:
    """The text, with a replacement character for what PostgreSQL cannot store."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def storable_or_none(value: str | None) -> str | None:
    return None if value is None else storable_text(value)


def jsonb_text(value: Any) -> str:
    """JSON text that `jsonb` accepts."""
    try:
        encoded = _JSON.encode(value)
    except UnicodeEncodeError:
        encoded = _JSON.encode(_storable_value(value))
    if b"\\u0000" in encoded:
        encoded = _JSON.encode(_storable_value(msgspec.json.decode(encoded)))
    return encoded.decode()


def _storable_value(value: Any) -> Any:
    match value:
        case str():
            return storable_text(value)
        case dict():
            return {storable_text(str(name)): _storable_value(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_storable_value(entry) for entry in value]
        case _:
            return value


def exact_decimal(value: float) -> Decimal:
    """The number as the statement has it: its shortest decimal form is exact."""
    return Decimal(repr(value))

"""Text that cannot be stored: half a surrogate pair, NUL, bytes that are no UTF-8. Each becomes U+FFFD in its place.

Producers cut texts in the middle of an emoji, or write them in another encoding. That must not cost the event. The
repair works on the bytes, before anything parses them, and costs one pass. It does not save ids: two that differ only
in what was replaced would be one person.
"""

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from schemas.refusal import Refusal

ID_FIELDS: Final = ("visitor_id", "lead_id", "into", "session_id")
REPLACEMENT_CHARACTER: Final = "\ufffd"
_ESCAPED_REPLACEMENT: Final = rb"\ufffd"
_MAYBE_UNSTORABLE_ESCAPE: Final = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
_ANY_ESCAPE: Final = re.compile(
    rb"""
    \\u[dD][89abAB][0-9a-fA-F]{2} \\u[dD][c-fC-F][0-9a-fA-F]{2}   # a whole pair
    | (\\u (?: [dD][89a-fA-F][0-9a-fA-F]{2} | 0000 ))             # half of one, or NUL
    | \\.                                                         # any other escape, also of a backslash
    """,
    re.VERBOSE | re.DOTALL,
)
_ENCODED_SURROGATE: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
"""Half a surrogate pair in UTF-8 of its own, as Java and some databases write it."""


def repair_broken_text(raw: bytes) -> bytes:
    """The JSON text with U+FFFD for every character that cannot be stored; the same object if there is none."""
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError:
            raw = _ENCODED_SURROGATE.sub(_escape_of_surrogate, raw).decode(errors="replace").encode()
    if _MAYBE_UNSTORABLE_ESCAPE.search(raw) is None:
        return raw
    pieces = list(_pieces_with_replacements(raw))
    return b"".join(pieces) if len(pieces) > 1 else raw


def refuse_broken_ids(event: Struct) -> None:
    """Refuses an event with an id that contains a replaced character."""
    for name in ID_FIELDS:
        if REPLACEMENT_CHARACTER in (getattr(event, name, None) or ""):
            raise Refusal(
                name, "contains a broken character: half a surrogate pair, NUL or bytes that are no UTF-8"
            )


def _pieces_with_replacements(raw: bytes) -> Iterator[bytes]:
    end = 0
    for escape in _ANY_ESCAPE.finditer(raw):
        if escape[1] is not None:
            yield raw[end : escape.start()]
            yield _ESCAPED_REPLACEMENT
            end = escape.end()
    yield raw[end:]


def _escape_of_surrogate(encoded: re.Match[bytes]) -> bytes:
    _, middle, last = encoded[0]
    return b"\\u%04x" % (0xD000 | (middle & 0x3F) << 6 | last & 0x3F)

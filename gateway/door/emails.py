"""The one e-mail address that a text holds, in the form by which addresses are compared.

People paste addresses out of mails, signatures and address books: with a name, in brackets or quotes, as a link,
with a full stop behind. All of these are the same address. A text with other words, or with several addresses, holds
no certain one. Pure, and linear in the text.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from html import unescape
from typing import Final
from urllib.parse import unquote

from email_validator import EmailNotValidError, validate_email

from gateway.door.visible_text import visible_text

LONGEST_TEXT: Final = 1024
"""Characters. No profile field is longer; in a longer text nothing is looked for."""
LONGEST_ADDRESS: Final = 320
"""Characters. No address is longer, and nothing longer is kept in memory."""

_UNIFIED_SIGNS: Final = str.maketrans("([{〈《⟨‹«)]}〉》⟩›»。", "<<<<<<<<>>>>>>>>.")
"""Every bracket as < or >. The ideographic full stop is a dot of domains (RFC 3490, 3.1)."""
_BRACKETED: Final = re.compile(r"<([^<>]*)(?:>|$)")
_AROUND_AT: Final = re.compile(r" ?@ ?")
_ENTITY: Final = re.compile(
    r"&(?:lt|gt|quot|apos|amp|nbsp|commat|zwnj|zwj|shy|lrm|rlm|#[0-9]{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE
)
_LINK_QUERY: Final = re.compile(r"\?[\w-]+=[^<>]*")
_LABEL: Final = re.compile(r"\b(?:mailto|e-?mail|mail|smtp) ?: ?(?://)?", re.IGNORECASE)
_ESCAPED_END: Final = re.compile(r"(?:\\[rnt])+\Z")
"""A line's end as programs print it."""
_SEPARATORS: Final = re.compile(r"[\s,;|،؛、]+")
_LINK: Final = re.compile(
    r"""=hyperlink\(\s*"([^"]*)".*|<a\s(?>[^<>]*?href\s*=\s*)["']?(mailto:[^"'<>\s]*+)[^<>]*+>[^<>]*+</a>""",
    re.IGNORECASE,
)
"""A link of a spreadsheet or of HTML: its address, and a label that may be anything."""
_LOOSE_PUNCTUATION: Final = frozenset("\"'`<>.:!?*\\=#")
"""ASCII that stands before an address, but does not begin one."""


def certain_email(text: str) -> str | None:
    """The address in lower case, with its domain in Unicode; None, if the text holds no certain one."""
    plain = _plain_text(text) if len(text) <= LONGEST_TEXT else ""
    if "@" not in plain or len(plain) > LONGEST_TEXT:
        return None
    inside = [each for each in _BRACKETED.findall(plain) if "@" in each]
    outside = {_address_in_word(piece) for piece in _words_of(_BRACKETED.sub(" ", plain))}
    addresses = {_address_in_word(piece) for each in inside for piece in _words_of(each)}
    # Beside an address in brackets stands a name. An address without brackets has no other words.
    addresses |= outside - {None} if inside else outside
    return addresses.pop() if len(addresses) == 1 else None


def _plain_text(text: str) -> str:
    """The text as people see it, with one kind of bracket, and without labels and the query of a link."""
    plain = visible_text(_ENTITY.sub(lambda entity: unescape(entity[0]), text))
    if (link := _LINK.fullmatch(plain)) is not None:
        plain = link[1] or link[2] or ""
    plain = plain.translate(_UNIFIED_SIGNS)
    plain = _LINK_QUERY.sub("", _ESCAPED_END.sub("", plain))
    if "mailto:" in plain.lower() or ("%40" in plain and "@" not in plain):
        plain = visible_text(unquote(plain)).translate(_UNIFIED_SIGNS)
    return _AROUND_AT.sub("@", _LABEL.sub(" ", plain))


def _words_of(text: str) -> Iterator[str]:
    """The words, without the punctuation around them."""
    for word in _SEPARATORS.split(text):
        start, end = 0, len(word)
        while end and unicodedata.category(word[end - 1])[0] not in "LMN":
            end -= 1
        while start < end and _is_loose(word[start]):
            start += 1
        if start < end:
            yield word[start:end]


def _is_loose(character: str) -> bool:
    return character in _LOOSE_PUNCTUATION or (
        not character.isascii() and unicodedata.category(character)[0] not in "LN"
    )


def _address_in_word(word: str) -> str | None:
    return _validated_address(word) if "@" in word and len(word) <= LONGEST_ADDRESS else None


@lru_cache(maxsize=10_000)
def _validated_address(word: str) -> str | None:
    try:
        return validate_email(word, check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        return None

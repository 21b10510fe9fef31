"""Texts as people mean them: folded for comparison, measured in the characters that people see, read as numbers.

Keyboards, forms and systems write the same text differently; `fold_text` gives all of these one form, and is idempotent.
Total: nothing here raises, for any text, lone surrogates included. Everything takes time linear in the text, of which
the first LONGEST characters are read. Publications record this as folding 2, with flags 3, and scores depend on it: a
change of a result is a new version in `scoring.features.comparison`. (A newer Unicode only adds characters.)
Sources: NFKC_Casefold (UAX 31), grapheme clusters (UAX 29), and the letters and signs in `_LOOKALIKE_CHARACTERS`.
"""

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from itertools import islice

import regex

LONGEST_TEXT = 8_192
"""Characters of a text that are read: as many as a text field of an event may have."""

MOST_MARKS_OF_LETTER = 30
"""Combining marks in a row that are read; to sort more would take time with their square. As in UAX 15."""

MOST_DIGITS = 30
"""Of a number, on each side of its point."""
LONGEST_NUMBER = 128
"""Characters of a text that is a number, with separators and signs."""

_SPACE = r"\t-\r\x1c-\x1f\x85"
"""The control characters that are space."""
_IGNORABLE = r"\p{Default_Ignorable_Code_Point}\p{Cc}"
"""Joiners, direction marks, soft hyphens, byte order marks, variation selectors; and control characters."""
_STRETCH = r"\u0640"
"""Tatweel, which stretches an Arabic letter."""
_INVISIBLE = regex.compile(rf"[[{_IGNORABLE}{_STRETCH}]--[{_SPACE}]]+", regex.V1)
_INVISIBLE_WITHOUT_JOINERS = regex.compile(
    rf"[[{_IGNORABLE}{_STRETCH}]--[\u200d\p{{M}}\U000e0000-\U000e0fff]]+", regex.V1
)
"""The same without what makes one character of several, such as the emoji of a family."""
_EACH_SPACE = re.compile(r"\r\n|\s")
_VISIBLE = rf"[^{_IGNORABLE}\s\u2800]"
_FIRST_VISIBLE = regex.compile(_VISIBLE, regex.V1)
_LAST_VISIBLE = regex.compile(_VISIBLE, regex.V1 | regex.REVERSE)
_MARKS = regex.compile(rf"(\p{{M}}{{{MOST_MARKS_OF_LETTER}}})\p{{M}}+", regex.V1)
_DOTTED = re.compile("i\u0307+")
_OTHER_DIGITS = regex.compile(r"[\p{Nd}--[0-9]]", regex.V1)
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
_CHARACTER = regex.compile(r"\X", regex.V1)

_LOOKALIKE_CHARACTERS = str.maketrans(
    {
        "\u064a": "\u06cc",  # Arabic yeh and alef maksura: Persian yeh
        "\u0649": "\u06cc",
        "\u0643": "\u06a9",  # Arabic kaf: Persian kaf
        "\u0130": "I",  # Turkish has i with and without a dot in both cases
        "\u0131": "i",
        "\u2800": " ",  # a Braille cell without dots
        **dict.fromkeys("\u2010\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
    }
)


def unify_spelling(text: str) -> str:
    """The text in one spelling, which keeps capital letters: only visible characters, compatible forms as one (full
    width, ligatures), letters of several keyboards as one, ASCII digits, and one space between words.
    """
    text = text[:LONGEST_TEXT]
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    text = _DOTTED.sub("i", _bounded_marks(_INVISIBLE.sub("", text)))
    text = _bounded_marks(unicodedata.normalize("NFKC", text)[:LONGEST_TEXT])  # a ligature may be 18 letters
    return " ".join(_OTHER_DIGITS.sub(_ascii_digit, text.translate(_LOOKALIKE_CHARACTERS)).split())


@lru_cache(maxsize=128)
def fold_text(text: str) -> str:
    """The form of a text that is compared: `unify_spelling`, and no difference between capital and small letters."""
    text = unify_spelling(text)
    return text.lower() if text.isascii() else unify_spelling(text.casefold())


def is_longer(text: str, limit: int) -> bool:
    """Has the text more than `limit` characters that people see? An emoji of several code points is one, a letter with
    its marks is one. Space and invisible characters around the text are none.
    """
    text = _INVISIBLE_WITHOUT_JOINERS.sub("", _EACH_SPACE.sub(" ", text[:LONGEST_TEXT]))
    first, last = _FIRST_VISIBLE.search(text), _LAST_VISIBLE.search(text)
    if first is None or last is None:
        return False
    text = _bounded_marks(text[first.start() : last.end()])
    # Two regional indicators become one character here: \X reads a long row of them in time with its square.
    characters = _CHARACTER.finditer(_FLAG.sub("x", text))
    return next(islice(characters, limit, None), None) is not None


def _bounded_marks(text: str) -> str:
    bounded: str = _MARKS.sub(r"\1", text)
    return bounded


def _ascii_digit(match: "regex.Match[str]") -> str:
    digit = unicodedata.decimal(match[0], None)
    return match[0] if digit is None else str(digit)


# Numbers

_POINT = r"[.\u066b]"
_COMMA = r"[,\u060c]"


def _number_spelling(whole: str, point: str) -> re.Pattern[str]:
    """A whole part, and decimals behind a point."""
    return re.compile(rf"([+-]?{whole})(?:{point}(\d+))?", re.ASCII)


_POINTS = _number_spelling(r"[1-9]\d{0,2}(?:\.\d{3})+", r"[,\u060c\u066b]")
_NUMBERS = (
    _number_spelling(r"\d+", _POINT),
    _number_spelling(rf"[1-9]\d{{0,2}}(?:{_COMMA}\d{{3}})+", _POINT),
    _number_spelling(rf"[1-9]\d?(?:{_COMMA}\d\d)+{_COMMA}\d{{3}}", _POINT),
    _number_spelling(r"[1-9]\d{0,2}(?P<mark>[ '\u066c])\d{3}(?:(?P=mark)\d{3})*", rf"(?:{_POINT}|{_COMMA})"),
    _POINTS,
    _number_spelling(r"\d+", _COMMA),
)
"""Spellings of a number, tried in this order: 1200.50 before 1,200.50, 12,34,567.50 (India), 1 200,50, 1.200,50 and
1200,50. So "1,200" is 1200 and "1.200" is 1.2. An amount has no third decimal: "€ 1.200" is 1200.
"""
_AMOUNT_WITH_CURRENCY = regex.compile(
    r"(?P<sign>[+\-\u2212]?)\p{Sc}\s*(?P<number>[^\p{Sc}]*)|(?P<number>[^\p{Sc}]*)\p{Sc}", regex.V1
)
_SEPARATORS = re.compile(r"[^\d+-]", re.ASCII)


def number_of(text: str) -> Decimal | None:
    """The number that the text spells, in any digits, with separators of thousands, and with one sign of a currency
    before or behind it; None if it spells none, or has more than DIGITS digits on one side of its point.
    """
    text = _INVISIBLE.sub("", text[:LONGEST_TEXT]).strip()
    if len(text) > LONGEST_NUMBER:
        return None
    money = _AMOUNT_WITH_CURRENCY.fullmatch(text)
    spelt = unify_spelling(text if money is None else f"{money['sign'] or ''}{money['number'].strip()}")
    for spelling in _NUMBERS if money is None else (_POINTS, *_NUMBERS):
        if match := spelling.fullmatch(spelt):
            whole, decimals = _SEPARATORS.sub("", match[1]), match[match.re.groups] or ""
            if len(whole.lstrip("+-")) > MOST_DIGITS or len(decimals) > MOST_DIGITS:
                return None
            return Decimal(f"{whole}.{decimals}" if decimals else whole)
    return None


# Regular expressions

_PATTERN_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]?|.", re.DOTALL)
"""A class, an escape or a character. A class that never ends is the rest of the pattern, for RE2 to refuse."""
_CLASS_RANGE = re.compile(r"\\.|(.)-(.)|.", re.DOTALL)
_PATTERN_SYNTAX = frozenset(r"\.+*?()|[]{}^$-&~#")


_FLAG_BY_WORD = {
    **dict.fromkeys(("true", "yes", "on", "1", "1.0", "y", "t"), True),
    **dict.fromkeys(("false", "no", "off", "0", "0.0", "n", "f"), False),
}
_LONGEST_FLAG = 40


def flag_of(text: str) -> bool | None:
    """True for `yes`, false for `off`; None for a text that is no word for a flag."""
    bare = text.strip()
    if len(bare) > _LONGEST_FLAG:
        return None
    return _FLAG_BY_WORD.get(unicodedata.normalize("NFKC", bare).casefold())


def fold_pattern(pattern: str) -> str:
    """The regular expression that finds in a text after `unify_spelling` what `pattern` means: a letter or digit of another
    keyboard stands for the one in its place. Characters of ASCII stay as they are; a class gains characters only.
    """
    if pattern.isascii():
        return pattern
    return "".join(
        _fold_token(match[0]) for match in _PATTERN_TOKEN.finditer(unicodedata.normalize("NFC", pattern))
    )


def _fold_token(token: str) -> str:
    if token[0] == "[" and token[-1] == "]":
        return f"{token[:-1]}{''.join(map(_class_member, _CLASS_RANGE.finditer(token[1:-1])))}]"
    if token.isascii() or len(token) > 1:
        return token
    return _literal(token) or "(?:)"


def _class_member(match: re.Match[str]) -> str:
    """What the class also contains."""
    if match[0].isascii() or match[0][0] == "\\":
        return ""
    ends = [_literal(end) for end in (match.groups() if match[1] else match[0])]
    if not all(len(unify_spelling(end)) == 1 for end in ends) or ends != sorted(ends):
        return ""
    return "-".join(ends)


def _literal(character: str) -> str:
    unified = " " if character.isspace() else unify_spelling(character)
    return "".join(f"\\{each}" if each in _PATTERN_SYNTAX else each for each in unified)

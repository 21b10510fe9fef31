"""The one phone number that a text holds, in the form by which numbers are compared: E.164 (+971501234567).

Messengers and many CRMs write a number with its country code, but without the plus sign: 4915112345678. Such digits
can be two numbers: one with that country code, or one of the region in which the server is. `_chosen_reading` chooses.
Pure, and linear in the text.
"""

import re
import unicodedata
from functools import lru_cache
from html import unescape
from typing import Final, Literal
from urllib.parse import unquote

import phonenumbers
from phonenumbers import PhoneNumberType

from gateway.door.visible_text import visible_text

LONGEST_TEXT: Final = 320
"""Characters. A longer text holds no number, and nothing longer is kept in memory."""

NumberWriter = Literal["messenger", "person", "system"]
"""What wrote a number. A messenger always writes the country code; a system, such as a CRM, often does."""
WRITER_OF_SOURCE: Final[dict[str, NumberWriter]] = {
    **dict.fromkeys(("signal", "telegram", "viber", "whatsapp"), "messenger"),
    **dict.fromkeys(("ads", "app", "chatbot", "email", "form", "qr", "social", "web"), "person"),
}
"""By the source of the event. All other sources are systems."""
LEAST_DIGITS_WITHOUT_REGION: Final[dict[NumberWriter, int]] = {"messenger": 0, "system": 11, "person": 12}
"""Without a region, fewer digits may be a number of any country that leaves out its country code (US: 10, CN: 11)."""

_UNIFIED_SIGNS: Final = str.maketrans({"\N{HEAVY PLUS SIGN}": "+", "\N{FRACTION SLASH}": "/"})
_WHATSAPP_ID: Final = re.compile(r"\+?([0-9]{5,15})(?::[0-9]{1,5})?@(?:c\.us|s\.whatsapp\.net)")
_CHAT_LINK: Final = re.compile(
    r"(?:https?://)?(?:wa\.me/|t\.me/\+|(?:api\.whatsapp\.com|web\.whatsapp\.com|whatsapp:/)/send/?\?phone=)"
    r"(?:\+| )?([0-9]{5,15})(?![0-9]).*"
)
_NUMBER_AS_DECIMAL: Final = re.compile(r"\+?([0-9]{7,15})\.0")
"""What a table of numbers makes of one: 4915112345678.0."""
_WORDS_BEHIND: Final = re.compile(r"(?<=[0-9])[^0-9]+\Z")
_MOBILE: Final = frozenset({PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE})
_NUMBER_START: Final = re.compile(r"\+(?![ (]*0)|[0-9]")
"""A plus sign before a 0 means nothing: no country code begins with 0."""
_PHONE_CONTEXT: Final = ";phone-context="
_OLD_DIALLING_FORMS: Final = (
    (re.compile(r"\+52(?:1|01|0?44|0?45)([0-9]{10})"), r"+52\1"),
    (re.compile(r"\+55([1-9][0-9])([6-9][0-9]{7})"), r"+55\g<1>9\2"),
)
"""Forms that the numbering plans gave up, but WhatsApp's ids and old address books still have: the prefixes of mobiles
in Mexico (until 2019), and mobiles without the ninth digit in Brazil (until 2016).
"""


def certain_phone(text: str, region: str | None, source: str = "web") -> str | None:
    """The number; None, if the text holds no certain one. `region` (AE) is where the server takes a number without a
    country code to be, `source` is the source of the event.
    """
    if len(text) > LONGEST_TEXT or len(plain := _plain_text(text)) > LONGEST_TEXT:
        return None
    return _certain_number(plain, region, WRITER_OF_SOURCE.get(source, "system"))


def _plain_text(text: str) -> str:
    """The text in lower case, with ASCII digits, even if a form has encoded its plus sign (%2B, &#43;)."""
    signs = visible_text(unescape(unquote(text))).translate(_UNIFIED_SIGNS).lower()
    return "".join(each if each.isascii() else str(unicodedata.decimal(each, each)) for each in signs)


@lru_cache(maxsize=10_000)
def _certain_number(plain: str, region: str | None, writer: NumberWriter) -> str | None:
    if (account := _WHATSAPP_ID.fullmatch(plain) or _CHAT_LINK.fullmatch(plain)) is not None:
        return _valid_number("+" + account[1], None)
    if "@" in plain:
        return None
    if _NUMBER_AS_DECIMAL.fullmatch(plain):
        plain = plain.removesuffix(".0")
    if _PHONE_CONTEXT in plain:
        return _valid_number(plain, region)
    # Letters behind the digits are a remark; only without a number before them, they are dialled (1-800-FLOWERS).
    without_remark = _WORDS_BEHIND.sub("", plain)
    return _number_as_dialled(without_remark, region, writer) or (
        _number_as_dialled(plain, region, writer) if without_remark != plain else None
    )


def _number_as_dialled(plain: str, region: str | None, writer: NumberWriter) -> str | None:
    start = _NUMBER_START.search(plain)
    if start is None:
        return None
    number = plain[start.start() :]
    if number.startswith("+"):
        return _valid_number(number, None)
    national = _valid_number(number, region) if region else None
    if number.startswith("00"):
        return _international_reading(number[2:]) or national
    if number.startswith("011"):  # dialled before a country code in America, and a national number elsewhere
        return national or _international_reading(number[3:])
    return _chosen_reading(national, _international_reading(number), region, writer)


def _chosen_reading(
    national: str | None, international: str | None, region: str | None, writer: NumberWriter
) -> str | None:
    """One of the two readings of digits without a plus sign.

    1. Only one is a valid number: that one. Without a region, it needs enough digits.
    2. A messenger means the country code.
    3. Digits as the region writes them (0151... in DE, ten digits in the US) mean a number of the region.
    4. Else they lack the 0 that the region's numbers need, so they begin with a country code. But people who choose
       their country from a list leave out the 0 of their mobile.
    """
    if international is None:
        return national
    if region is None:
        return international if len(international) > LEAST_DIGITS_WITHOUT_REGION[writer] else None
    if national is None or writer == "messenger":
        return international
    if _is_written_as_usual(international[1:], region):
        return national
    return national if writer == "person" and _is_mobile(national) else international


def _is_written_as_usual(digits: str, region: str) -> bool:
    """Whether a number is written with these digits inside the region."""
    return any(phonenumbers.PhoneNumberMatcher(digits, region))


def _is_mobile(number: str) -> bool:
    return phonenumbers.number_type(phonenumbers.parse(number)) in _MOBILE


def _international_reading(digits: str) -> str | None:
    return _valid_number("+" + digits.lstrip(" -./()"), None)


def _valid_number(text: str, region: str | None) -> str | None:
    """The number in E.164, if the numbering plan of its country has it."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if phonenumbers.is_valid_number(number):
        return written
    for old, new in _OLD_DIALLING_FORMS:
        if (form := old.fullmatch(written)) is not None:
            return _valid_number(form.expand(new), None)
    return None

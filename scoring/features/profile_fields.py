"""The catalogue of profile fields with their types, and the one rule for what is a value of a field.

A blank says nothing, in every event type that fills profile fields: it neither clears a field nor identifies
anybody. Blank are empty texts and lists, texts that nobody can see, placeholders such as N/A or null, and `false`
and 0 in a field that is no flag and no number. Only null clears a field. Total, and linear in the value's length.
"""

import re
from collections.abc import Mapping
from typing import Final
from unicodedata import decimal, normalize

import regex

from schemas.control import FieldType

Value = str | int | float | bool | list[str] | None
"""The value of a profile field, as events carry it."""
FieldTypes = Mapping[str, FieldType]

MANUAL_STAGE: Final = "manual_stage"
"""Where a stage that a person chose is kept; no event fills it as a profile field."""

STANDARD: Final[FieldTypes] = {
    "email": "text",
    "phone": "text",
    "name": "text",
    "first_name": "text",
    "last_name": "text",
    "company": "text",
    "title": "text",
    "industry": "text",
    "company_size": "text",
    "location": "text",
    "country": "text",
    "status": "text",
    "source": "text",
    "customer_type": "text",
    "budget": "money",
    "budget_min": "money",
    "budget_max": "money",
    "transaction_type": "text",
    "property_type": "text",
    "payment_method": "text",
    "email_consent": "flag",
    "sms_consent": "flag",
    "assigned_to": "text",
    MANUAL_STAGE: "text",
}
"""Fields that other fields never displace, however many a lead has."""
ENRICHED: Final[FieldTypes] = {
    "company_revenue": "money",
    "job_level": "text",
    "technologies": "list",
    "social_profiles": "list",
}
"""Fields that data services fill."""
BUILT_IN: Final[FieldTypes] = {**STANDARD, **ENRICHED}
UNDECLARED: Final[FieldTypes] = {}
"""Of a tenant that declares no fields. A field that nobody declares is a text."""

FIELD_TYPES: Final[Mapping[FieldType, str]] = {
    "text": "any text; `false` and 0 are blank",
    "number": "a number, also 0; a text such as `1,200`, `1 200` or `1.200,50` is read as a number",
    "flag": "true or false; the texts `yes`, `on`, `true`, `y`, `t`, `1`, and `no`, `off`, `false`, `n`, `f`, `0` "
    "are read as such, and so are the numbers 1 and 0",
    "list": "a list of texts; its blank items are left out, and a text is not split",
    "money": "as a number; a sign or code of a currency before or behind it is left out: `EUR 1,200`, `1.200,50 €`",
    "date": "a date as a text; `false`, 0 and dates of zeros (`0000-00-00`) are blank",
}
"""Each type, with the values that it has."""
LONGEST_NUMERAL = 40
MOST_DIGITS = 15
"""A number of so many digits stays exact in JSON."""
LONGEST_PLACEHOLDER = 100

_UNSEEN = regex.compile(r"[\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]+")
_SEEN = regex.compile(
    r"[^\s\p{Z}\p{Cc}\p{Cf}\p{M}\p{P}\p{Sm}\p{Sk}\p{Default_Ignorable_Code_Point}\u2800\ufffd]"
)
"""Letters, digits, signs of currencies and pictures; no space, punctuation or unseen character."""
_WORD = regex.compile(r"[^\s\p{P}\p{Sm}\p{Sk}]+")
_DECORATED = regex.compile(r"[\p{P}\p{Sm}\p{Sk}].*[\p{P}\p{Sm}\p{Sk}]|.*\.\.\.")
_EMPTY_MARKUP = regex.compile(r"(?:</?(?:p|br|div|span)\b[^<>]*>|&(?:nbsp|#160|#xa0);|\s)+")
_UNFILLED = regex.compile(r"\{\{.*\}\}|\$\{.*\}|\*\|.*\|\*|%%.*%%|(?:\[object \w+\]\W*)+|\\n")
"""Templates that nobody filled, objects that a script printed, and the \\N of databases."""
_OPENINGS: Final = frozenset("<&{$*%[\\")
"""What those and empty markup begin with."""

_NOTHING: Final = frozenset({"null", "none", "nil", "nan", "nat", "na", "undefined"})
"""Words of programs for a missing value. A text of nothing but these is blank: undefined undefined."""
_PLACEHOLDERS: Final = frozenset(
    {
        "n a",
        "invalid date",
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
_PROPER: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("name", "first_name", "last_name"), frozenset({"Na", "Nan", "Nat"})),
    **dict.fromkeys(("country", "location", "market", "region", "territory"), frozenset({"NA"})),
}
"""Words that are values of these fields, written exactly so: names of people, Namibia and North America."""

_FLAGS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1", "y", "t"), True),
    **dict.fromkeys(("false", "no", "off", "0", "n", "f"), False),
}
_NO_DATE = re.compile(r"[0\s:./TZ-]+\Z|0001-01-01", re.ASCII)
"""What databases and programs write for a missing date."""
_SIGNS = str.maketrans(
    {"\u066b": ".", "\uff0e": ".", "\u066c": ",", "\uff0c": ",", "\u2212": "-", "\u2019": "'"}
)
_PLAIN_NUMERAL: Final = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_NUMERALS: Final = (
    (_PLAIN_NUMERAL, "", "."),
    (re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d+)?", re.ASCII), ",", "."),
    (
        re.compile(r"[+-]?[1-9]\d{0,2}(?:(?:\.\d{3}){2,}(?:,\d+)?|(?:\.\d{3})+,\d{1,2})", re.ASCII),
        ".",
        ",",
    ),
    (re.compile(r"[+-]?\d+,\d{1,2}", re.ASCII), "", ","),
    (re.compile(r"[+-]?[1-9]\d{0,2}(?:[ ']\d{3})+(?:[.,]\d{1,2})?", re.ASCII), " '", ","),
)
"""Forms of a number that have one reading: (form, signs between thousands, the decimal sign). 1.200 has two."""
_CURRENCY = regex.compile(
    r"\A(?:[A-Z]{3}\s+|[A-Z]{0,2}\p{Sc}\s*)(?=[+-]?\d)|(?<=\d)(?:\s*\p{Sc}|\s+[A-Z]{3})\Z"
)


def stated(fields: Mapping[str, Value], declared: FieldTypes = UNDECLARED) -> dict[str, Value]:
    """The fields that say something, each value as its type reads it. Null stays, since it clears a field."""
    read = {
        name: None if value is None else _read(name, value, type_of(name, declared))
        for name, value in fields.items()
    }
    return {name: value for name, value in read.items() if value is not None or fields[name] is None}


def type_of(name: str, declared: FieldTypes = UNDECLARED) -> FieldType:
    return declared.get(name) or BUILT_IN.get(name, "text")


def catalogue(declared: FieldTypes = UNDECLARED) -> dict[str, FieldType]:
    """The type of every field that has one: of those built in, and of the tenant's own."""
    return {name: field for name, field in {**BUILT_IN, **declared}.items() if name != MANUAL_STAGE}


def _read(name: str, value: str | float | list[str], field_type: FieldType) -> Value:
    """The value as its type reads it; None if it says nothing. What a type cannot read for certain stays as it is."""
    match value:
        case str():
            blank = is_blank_text(value, _PROPER.get(name, frozenset()))
            return None if blank else _read_text(value, field_type)
        case list():
            return [item for item in value if not is_blank_text(item)] or None
        case bool():
            return value if value or field_type == "flag" else None
        case _ if field_type == "flag":
            return bool(value) if value in (0, 1) else value
        case _:
            return value if value or field_type in {"number", "money"} else None


def _read_text(text: str, field_type: FieldType) -> Value:
    bare = text.strip()
    if field_type in {"text", "list"} or len(bare) > LONGEST_NUMERAL:
        return text
    match field_type:
        case "flag":
            return _FLAGS.get(normalize("NFKC", bare).casefold(), text)
        case "date":
            return None if _NO_DATE.match(bare) else text
        case _ if _PLAIN_NUMERAL.fullmatch(bare):  # rules read it as it is
            return text
        case "money":
            number = _read_number(_CURRENCY.sub("", bare))
        case _:
            number = _read_number(bare)
    return text if number is None else number


def _read_number(text: str) -> int | float | None:
    """The number, if the text has one reading as one."""
    seen = "".join(_ascii(character) for character in _UNSEEN.sub("", text).translate(_SIGNS))
    for form, between, decimal_sign in _NUMERALS:
        if form.fullmatch(seen):
            digits = "".join(character for character in seen if character not in between)
            digits = digits.replace(decimal_sign, ".")
            if len(digits.strip("+-").replace(".", "")) > MOST_DIGITS:
                return None
            return float(digits) if "." in digits else int(digits)
    return None


def _ascii(character: str) -> str:
    """The digit, or a plain space for any space."""
    if character.isdecimal():
        return str(decimal(character))
    return " " if character.isspace() else character


def is_blank_text(text: str, proper: frozenset[str] = frozenset()) -> bool:
    """Does the text say nothing? `proper`: words that are values here, though they look like placeholders."""
    if _SEEN.search(text) is None:
        return True
    bare = (text if text.isascii() else _UNSEEN.sub("", text)).strip()
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

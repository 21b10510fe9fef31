"""The catalogue of profile fields with their types, and the one rule for what is a value of a field.

A blank (`schemas.blank`, and `false` and 0 in a field that is no flag and no number) says nothing, in every event
type that fills profile fields: it neither clears a field nor identifies anybody. Only null clears a field. Total,
and linear in the value's length.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import regex

from schemas.blank import is_blank_text
from schemas.control import FieldType
from scoring.features.texts import flag_of, number_of

FieldValue = str | int | float | bool | list[str] | None
"""The value of a profile field, as events carry it."""
FieldTypes = Mapping[str, FieldType]

MANUAL_STAGE_FIELD: Final = "manual_stage"
"""Where a stage that a person chose is kept; no event fills it as a profile field."""

PROFILING_CONSENT_FIELD: Final = "profiling_consent"
"""False: the person objects to profiling: no model scores the lead, and no workflow acts on it."""

SNOOZED_UNTIL_FIELD: Final = "snoozed_until"
"""Until then (RFC 3339) nobody needs to see the lead on a call list."""

QUALIFICATION_FIELD: Final = "qualification_override"
"""A band (mql, sql, hot) that a person or a workflow set by hand; null removes it."""
QUALIFICATION_FIELD_BY: Final = "qualification_override_by"
QUALIFICATION_FIELD_UNTIL: Final = "qualification_override_until"

STANDARD_FIELDS: Final[FieldTypes] = {
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
    PROFILING_CONSENT_FIELD: "flag",
    "assigned_to": "text",
    SNOOZED_UNTIL_FIELD: "date",
    QUALIFICATION_FIELD: "text",
    QUALIFICATION_FIELD_BY: "text",
    QUALIFICATION_FIELD_UNTIL: "date",
    MANUAL_STAGE_FIELD: "text",
}
"""Fields that other fields never displace, however many a lead has."""
ENRICHED_FIELDS: Final[FieldTypes] = {
    "company_revenue": "money",
    "job_level": "text",
    "technologies": "list",
    "social_profiles": "list",
}
"""Fields that data services fill."""
BUILT_IN_FIELDS: Final[FieldTypes] = {**STANDARD_FIELDS, **ENRICHED_FIELDS}
BUDGET_FIELDS: Final = ("budget", "budget_min", "budget_max")
PROPERTY_FIELDS: Final = ("transaction_type", "property_type", "bedrooms", "location", "payment_method")
"""What somebody looks for, in the order in which it is shown."""
NO_DECLARED_FIELDS: Final[FieldTypes] = {}
"""Of a tenant that declares no fields. A field that nobody declares is a text."""

FIELD_TYPES: Final[Mapping[FieldType, str]] = {
    "text": "any text; `false` and 0 are blank",
    "number": "a number, also 0; a text such as `1,200`, `1 200` or `1.200,50` is read as a number",
    "flag": "true or false; the texts `yes`, `on`, `true`, `y`, `t`, `1`, and `no`, `off`, `false`, `n`, `f`, `0` "
    "are read as such, and so are the numbers 1 and 0",
    "list": "a list of texts; its blank items are left out, and a text is not split",
    "money": "as a number; a sign or code of a currency before or behind it is left out: `EUR 1,200`, `1.200,50 €`; beside it, "
    "`1.200` is 1200",
    "date": "a date as a text; `false`, 0 and dates of zeros (`0000-00-00`, `1900-01-00`) are blank",
}
"""Each type, with the values that it has."""
LONGEST_NUMERAL = 40
MOST_DIGITS = 15
"""A number of so many digits stays exact in JSON."""

_PROPER_WORDS_BY_FIELD: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("name", "first_name", "last_name"), frozenset({"Na", "Nan", "Nat"})),
    **dict.fromkeys(("country", "location", "market", "region", "territory"), frozenset({"NA"})),
}
"""Words that are values of these fields, written exactly so: names of people, Namibia and North America."""

_EMPTY_DATE = re.compile(r"[0\s:./TZ-]+\Z|0001-01-01|1900-01-00|0?1/0?0/1900|1899-12-30", re.ASCII)
"""What databases, programs and spreadsheets write for a missing date."""
_PLAIN_NUMERAL: Final = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_CODE = regex.compile(r"\A[A-Z]{3}\s+(?=[+\-\u2212]?\d)|(?<=\d)\s+[A-Z]{3}\Z")
"""A currency's code, which stands for its sign."""
_BEFORE_SIGN = regex.compile(r"\A[A-Z]{1,2}(?=\p{Sc})")
"""US of US$, R of R$."""


def stated_fields(
    fields: Mapping[str, FieldValue], declared: FieldTypes = NO_DECLARED_FIELDS
) -> dict[str, FieldValue]:
    """The fields that say something, each value as its type reads it. Null stays, since it clears a field."""
    read = {
        name: None if value is None else _read_value(name, value, field_type_of(name, declared))
        for name, value in fields.items()
    }
    return {name: value for name, value in read.items() if value is not None or fields[name] is None}


def field_type_of(name: str, declared: FieldTypes = NO_DECLARED_FIELDS) -> FieldType:
    return declared.get(name) or BUILT_IN_FIELDS.get(name, "text")


def types_of_fields(declared: FieldTypes = NO_DECLARED_FIELDS) -> dict[str, FieldType]:
    """The type of every field that has one: of those built in, and of the tenant's own."""
    return {
        name: field for name, field in {**BUILT_IN_FIELDS, **declared}.items() if name != MANUAL_STAGE_FIELD
    }


def _read_value(name: str, value: str | float | list[str], field_type: FieldType) -> FieldValue:
    """The value as its type reads it; None if it says nothing. What a type cannot read for certain stays as it is."""
    match value:
        case str():
            blank = is_blank_text(value, _PROPER_WORDS_BY_FIELD.get(name, frozenset()))
            return None if blank else _read_text(value, field_type)
        case list():
            return [item for item in value if not is_blank_text(item)] or None
        case bool():
            return value if value or field_type == "flag" else None
        case _ if field_type == "flag":
            return bool(value) if value in (0, 1) else value
        case _:
            return value if value or field_type in {"number", "money"} else None


def _read_text(text: str, field_type: FieldType) -> FieldValue:
    bare = text.strip()
    if field_type in {"text", "list"} or len(bare) > LONGEST_NUMERAL:
        return text
    match field_type:
        case "flag":
            flag = flag_of(bare)
            return text if flag is None else flag
        case "date":
            return None if _EMPTY_DATE.match(bare) else text
        case _ if _PLAIN_NUMERAL.fullmatch(bare):  # rules read it as it is
            return text
        case "money":
            number = number_of(_CODE.sub("\N{CURRENCY SIGN}", _BEFORE_SIGN.sub("", bare)))
        case _:
            number = number_of(bare)
    return text if number is None or len(number.as_tuple().digits) > MOST_DIGITS else _json_number(number)


def _json_number(number: Decimal) -> int | float:
    return int(number) if number.as_tuple().exponent == 0 else float(number)

"""Converts a rule between JSON for the API and a table in the model's text, one to one.

Every refusal names the wrong JSON field and repeats the model compiler's reason, since the compiler tries each
field. This module does not edit texts or assign ids.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from msgspec import DecodeError, json

from schemas.refusal import Refusal
from scoring.editing.describe import describe_rule, rule_limits_text
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.features.operators import OPERATORS
from scoring.features.profile_fields import BUILT_IN_FIELDS
from scoring.features.signals import SignalDefinition
from scoring.models.phrases import CREATED_ON_PHRASE, PhraseError, ValuePhrase, parse_phrase
from scoring.models.rules import compile_rule

Json = dict[str, Any]
Table = Mapping[str, Any]
DefinedSignals = Mapping[str, SignalDefinition]

UNPREFIXED_PROFILE_FIELDS = BUILT_IN_FIELDS.keys() | {"stage"}
"""Profile fields that the API names without a prefix; any other is profile.NAME."""

RULE_FIELDS = ("name", "rule_type", "field_name", "operator", "value", "points", "priority", "is_active")
"""The fields of a rule in the API."""
READ_ONLY_FIELDS = frozenset({"id", "condition", "editable", "version", "changed_by", "changed_at"})
"""Fields of answers that a request may repeat; they change nothing."""

LONGEST_REASON_CHARACTERS = 300
"""Characters of a reason. Reasons repeat the input, which may be long."""

OPERATORS_WITHOUT_VALUE = frozenset({"is_set", "is_not_set"})

_GROUP_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_json_encoder = json.Encoder(decimal_format="number")


def rule_from_json(body: Json, defined: DefinedSignals) -> tuple[str, Json]:
    """(group, table) of a rule in the API's form; Refusal names the field and the reason."""
    check_keys(body, RULE_FIELDS, required=("name", "rule_type", "field_name", "operator", "points"))
    group = group_of_rule_type(body["rule_type"])
    phrase = phrase_of(body["field_name"], defined)
    phrase_read = parse_phrase(phrase, defined)
    operator, points = body["operator"], exact_number(body["points"])
    read, sample = _reader_and_sample(operator)
    active, priority = body.get("is_active", True), exact_number(body.get("priority", 0))
    on = {"name": "rule", "value": phrase, "points": 0}
    compile_each(
        {
            "name": {"name": body["name"], "base": 0},
            "points": {"name": "rule", "base": points},
            "priority": {"name": "rule", "base": 0, "priority": priority},
            "operator": on | {operator: sample},
        },
        lambda table: compile_rule(table, defined),
    )
    operand = _operand_for_field(read(body.get("value")), operator, phrase_read)
    compile_each({"value": on | {operator: operand}}, lambda table: compile_rule(table, defined))
    table = {"name": body["name"], "value": phrase, operator: operand, "points": points}
    return group, table | listing_keys(priority, active)


def comparison_from_json(body: Json, defined: DefinedSignals) -> Json:
    """{"value": phrase, OPERATOR: operand} of what a rule of the API tests: its field_name, operator and value. Raises
    Refusal.
    """
    phrase = phrase_of(body["field_name"], defined)
    operator = body["operator"]
    read, sample = _reader_and_sample(operator)
    on = {"name": "rule", "value": phrase, "points": 0}
    compile_each({"operator": on | {operator: sample}}, lambda table: compile_rule(table, defined))
    operand = _operand_for_field(read(body.get("value")), operator, parse_phrase(phrase, defined))
    compile_each({"value": on | {operator: operand}}, lambda table: compile_rule(table, defined))
    return {"value": phrase, operator: operand}


def comparison_json(table: Table, defined: DefinedSignals) -> Json:
    """field_name, operator and value of a `value` rule or condition of the text."""
    phrase, operator = table["value"], operator_of(table)
    return {
        "field_name": field_name(phrase, defined),
        "operator": operator,
        "value": None
        if operator in OPERATORS_WITHOUT_VALUE
        else _operand_text(table[operator], dates=phrase == CREATED_ON_PHRASE),
    }


def _reader_and_sample(operator: Any) -> tuple[Callable[[Any], Any], Any]:
    """How the operator reads the API's value, and an operand that fits any field it can test. Raises Refusal."""
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise Refusal("operator", f"{operator!r} is none of {', '.join(OPERATORS)}")
    return OPERAND_READER_AND_SAMPLE[operator]


def rule_json(group: str, table: Table, defined: DefinedSignals) -> Json:
    """A rule of the text in the API's form. Only a `value` rule has field_name, operator and value."""
    rule: Json = {
        "id": table["id"],
        "name": table["name"],
        "rule_type": group,
        "field_name": None,
        "operator": None,
        "value": None,
        "points": json_number(table["base"] if "base" in table else table.get("points")),
        "priority": table.get("priority", 0),
        "is_active": table.get("active", True),
        "condition": condition_text(table),
        "editable": "value" in table,
    }
    if "value" in table:
        rule |= comparison_json(table, defined)
    return rule


def listing_keys(priority: Any, active: Any) -> Json:
    """The keys of a rule that do not change its points, without their defaults."""
    if not isinstance(active, bool):
        raise Refusal("is_active", f"true or false, not {active!r}")
    default = priority == 0 and not isinstance(priority, bool)
    return ({} if default else {"priority": priority}) | ({} if active else {"active": False})


def operator_of(table: Table) -> str:
    return next(operator for operator in OPERATORS if operator in table)


def group_of_rule_type(rule_type: Any) -> str:
    if not isinstance(rule_type, str) or not _GROUP_NAME.fullmatch(rule_type):
        raise Refusal(
            "rule_type",
            f"{rule_type!r} is not demographic, behavioral, firmographic, engagement, "
            "or a name of your own of small letters, digits and _",
        )
    return rule_type


def phrase_of(name: Any, defined: DefinedSignals) -> str:
    """The value phrase that a field name of the API means."""
    if isinstance(name, str) and name in UNPREFIXED_PROFILE_FIELDS and name not in defined:
        return f"profile.{name}"
    try:
        phrase = parse_phrase(name, defined)
    except PhraseError as wrong:
        plain_name = isinstance(name, str) and _GROUP_NAME.fullmatch(name)
        own = f"; a profile field of your own is profile.{name}" if plain_name else ""
        raise Refusal("field_name", f"{wrong}{own}") from None
    if phrase.reads.sessions:
        raise Refusal("field_name", f"{name} belongs to one session, and rules read the whole lead")
    return str(name)


def field_name(phrase: str, defined: DefinedSignals) -> str:
    """The API's field name of a value phrase."""
    bare = phrase.removeprefix("profile.")
    return bare if bare != phrase and bare in UNPREFIXED_PROFILE_FIELDS and bare not in defined else phrase


def exact_number(value: Any) -> Any:
    """The exact number that a value is or spells. Other values are returned for the compiler to refuse."""
    exact = NEWEST_COMPARISON.number(value)
    if exact is None:
        return value
    return int(exact) if exact == exact.__trunc__() else exact


def json_number(value: Any) -> Any:
    """A number for JSON, without needless decimals; None if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return int(value) if value == int(value) else float(value)


def check_keys(body: Json, allowed: tuple[str, ...], required: tuple[str, ...]) -> None:
    for key in required:
        if key not in body or body[key] is None:
            raise Refusal(key, "missing")
    for key in body:
        if key not in allowed and key not in READ_ONLY_FIELDS:
            raise Refusal(key, f"unknown; there are {', '.join(allowed)}")


def compile_each(tries: Mapping[str, Json], compiled: Callable[[Json], object]) -> None:
    """Compile each table. The Refusal names the field of the first that fails."""
    for field, table in tries.items():
        try:
            compiled(table)
        except ValueError as wrong:
            reason = str(wrong)
            shortened = (
                reason
                if len(reason) <= LONGEST_REASON_CHARACTERS
                else f"{reason[: LONGEST_REASON_CHARACTERS - 3]}..."
            )
            raise Refusal(field, shortened) from None


def condition_text(table: Table) -> str:
    """The rule's condition in words."""
    subject, points = describe_rule(dict(table))
    points_text = (
        "" if {"points", "base"} & {key for key in table if json_number(table[key]) is not None} else points
    )
    parts = [subject, points_text, rule_limits_text(dict(table))]
    return "; ".join(each for each in parts if each).replace("`", "")


# Operands


def _scalar_operand(value: Any) -> Any:
    return _without_float(value)


def _list_operand(value: Any) -> Any:
    """A list, or a text that spells one in JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.decode(value)
        except (DecodeError, RecursionError):
            return value
    return [_without_float(item) for item in value] if isinstance(value, list) else value


def _pair_operand(value: Any) -> Any:
    items = _list_operand(value)
    return [exact_number(item) for item in items] if isinstance(items, list) else items


def _true_operand(value: Any) -> Any:
    return True if value in (None, "", "true") else value


def _without_float(value: Any) -> Any:
    return exact_number(value) if isinstance(value, float) else value


OPERAND_READER_AND_SAMPLE: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "equals": (_scalar_operand, 20250131),
    "not_equals": (_scalar_operand, 20250131),
    "in_list": (_list_operand, [20250131]),
    "not_in_list": (_list_operand, [20250131]),
    "contains": (_scalar_operand, "x"),
    "not_contains": (_scalar_operand, "x"),
    "starts_with": (_scalar_operand, "x"),
    "ends_with": (_scalar_operand, "x"),
    "longer_than": (exact_number, 1),
    "matches": (_scalar_operand, "x"),
    "greater_than": (exact_number, 1),
    "less_than": (exact_number, 1),
    "greater_or_equal": (exact_number, 1),
    "less_or_equal": (exact_number, 1),
    "between": (_pair_operand, [1, 2]),
    "is_set": (_true_operand, True),
    "is_not_set": (_true_operand, True),
}
"""Per operator: how it reads the API's value, and an operand that fits any field it can test."""


def _operand_for_field(value: Any, operator: str, phrase: ValuePhrase) -> Any:
    """The operand as the field is compared: a creation date as a day, a count as a number."""
    if operator in OPERATORS_WITHOUT_VALUE:
        return value
    if value is None:
        raise Refusal("value", "missing")
    if phrase.gives not in {"count", "number"}:
        return value
    read = _day_number if phrase.text == CREATED_ON_PHRASE else exact_number
    return [read(item) for item in value] if isinstance(value, list) else read(value)


def _day_number(value: Any) -> Any:
    """2025-01-31 as the number that the phrase gives for that day."""
    digits = f"{value}" if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(digits, str) and len(digits) == 8 and digits.isdecimal():
        digits = f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
    try:
        if isinstance(digits, str) and _ISO_DATE.fullmatch(digits.strip()):
            on = date.fromisoformat(digits.strip())
            return on.year * 10_000 + on.month * 100 + on.day
    except ValueError:
        pass
    raise Refusal("value", f"{value!r} is no day such as 2025-01-31")


def _operand_text(operand: Any, *, dates: bool) -> str:
    """The operand as the text that the API returns."""
    if dates:
        operand = (
            [_iso_date_of_day(item) for item in operand]
            if isinstance(operand, list)
            else _iso_date_of_day(operand)
        )
    if isinstance(operand, str | Decimal):
        return f"{operand}" if isinstance(operand, str) else f"{operand:f}"
    return json.format(_json_encoder.encode(operand), indent=0).decode()


def _iso_date_of_day(day: Any) -> Any:
    digits = str(day)
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 and digits.isdecimal() else day

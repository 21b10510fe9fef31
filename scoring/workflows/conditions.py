"""Conditions of workflows: tests of a lead, in the language of rules.

A condition is a rule without points: a value phrase with an operator, `has` or `once`. Beyond what rules read,
`score` (the rounded total of the rules, or `score.MODEL`) and `band.MODEL.SET` are values, too.
"""

import re
from collections.abc import Callable
from typing import Any

from scoring.features.comparison import ValueComparison
from scoring.features.operators import OPERATOR_TEXTS, OPERATORS, OperandError, ValueTest
from scoring.models.rules import RULE_KINDS, RuleError, compile_rule
from scoring.models.text_refusals import TomlTable, shorten_value
from scoring.workflows.workflow import Condition, ConditionSubject

CONDITION_KINDS = ("value", "has", "once")
DEFAULT_MODEL = "rules"
"""The model of a score that names none."""

_RULE_ONLY_KEYS = ("name", "points", "id", "priority", "active", "min", "max", "site")
_SCORE = re.compile(r"score(?:\.([a-z][a-z0-9_]{0,63}))?", re.ASCII)
_BAND = re.compile(r"band\.([a-z][a-z0-9_]{0,63})\.([a-z][a-z0-9_]{0,63})", re.ASCII)


class ConditionError(ValueError):
    """The condition is wrong; the message gives the reason."""


def compile_condition(table: Any, by: ValueComparison) -> Condition:
    """Compile one condition, which compares values `by`; ConditionError gives the reason if it is wrong."""
    form = 'wants a table such as { value = "profile.industry", in_list = ["SaaS"] }'
    if not isinstance(table, dict):
        raise ConditionError(f"{form}, not {shorten_value(table)}")
    if needless := [key for key in _RULE_ONLY_KEYS if key in table]:
        raise ConditionError(f"{needless[0]} belongs to rules; a condition only holds or does not")
    kinds = [kind for kind in RULE_KINDS if kind in table]
    if len(kinds) != 1 or kinds[0] not in CONDITION_KINDS:
        raise ConditionError(
            f"{form}; it has one of {', '.join(CONDITION_KINDS)}, not {' and '.join(kinds) or 'none'}"
        )
    read = _standing_reader(table.get("value"))
    if read is not None:
        return _standing_condition(table, read, by)
    try:
        body = compile_rule({**table, "name": "condition", "points": 1}, {}, by).body
    except RuleError as wrong:
        raise ConditionError(str(wrong)) from None
    if body.reads.sessions:
        raise ConditionError("session... is of one session, and a condition reads the lead")

    def is_met(subject: ConditionSubject) -> bool:
        return body.points(subject.view) > 0

    if kinds == ["once"]:
        return Condition(is_met, lambda subject: "it has happened" if is_met(subject) else "not yet")
    return Condition(is_met, lambda subject: body.evidence(subject.view))


def is_standing_phrase(phrase: object) -> bool:
    """Whether a value phrase is a score or a band, which rules do not read."""
    return _standing_reader(phrase) is not None


def _standing_reader(phrase: Any) -> Callable[[ConditionSubject], Any] | None:
    """How to read a score or a band; None: the phrase is one of rules."""
    if not isinstance(phrase, str):
        return None
    if (match := _SCORE.fullmatch(phrase)) is not None:
        model = match[1] or DEFAULT_MODEL
        return lambda subject: subject.standings[model].total if model in subject.standings else None
    if (match := _BAND.fullmatch(phrase)) is not None:
        model, scale = match[1], match[2]
        return lambda subject: (
            subject.standings[model].bands.get(scale) if model in subject.standings else None
        )
    return None


def _standing_condition(
    table: TomlTable, read: Callable[[ConditionSubject], Any], by: ValueComparison
) -> Condition:
    rest = dict(table)
    phrase = rest.pop("value")
    operator, is_met = one_operator(rest, by)
    value_type = "number" if phrase.startswith("score") else "text"
    if OPERATORS[operator].operand_type not in {"any", value_type}:
        raise ConditionError(
            f"{operator} asks of a {OPERATORS[operator].operand_type}, and {phrase!r} is a {value_type}"
        )
    needed = f"{OPERATOR_TEXTS[operator]} {shorten_value(rest[operator])}".strip()
    return Condition(
        lambda subject: is_met(read(subject)),
        lambda subject: f"{phrase} is {read(subject)} (needed: {needed})",
    )


def one_operator(table: TomlTable, by: ValueComparison) -> tuple[str, ValueTest]:
    """The only key of a table, an operator, and its test. Raises ConditionError."""
    if len(table) != 1 or not table.keys() <= OPERATORS.keys():
        raise ConditionError(
            f"wants one operator, not {', '.join(sorted(table)) or 'none'}; operators are {', '.join(OPERATORS)}"
        )
    ((operator, operand),) = table.items()
    try:
        return operator, OPERATORS[operator].parse(operand, by)
    except OperandError as wrong:
        raise ConditionError(f"{operator} {wrong}") from None

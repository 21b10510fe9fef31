"""The operators of rules and signals. Each parses its operand once and gives a test of values.

`scoring.features.comparison` says which texts are the same and what is a number; a list passes if one of its items
does. A missing value passes no test but `is_not_set`, so `not_equals` needs a value that differs. Tests are total over
all values of producers, and linear in their length: `matches` is RE2 and reads the first 1,024 characters.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import re2

from scoring.features.comparison import NEWEST_COMPARISON, Number, ValueComparison

ValueTest = Callable[[Any], bool]

LONGEST_LIST = 1_000
LONGEST_PATTERN = 1_000
LONGEST_OPERAND_TEXT = 1_024


class OperandError(ValueError):
    """The operand does not fit the operator."""


class OperandParser(Protocol):
    """Reads an operand; raises OperandError."""

    def __call__(self, operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest: ...


class Operator(NamedTuple):
    parse: OperandParser
    operand_type: str
    """text, number or any: the values that it can test."""


def is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | Decimal)


def _holds_for_any_item(holds: ValueTest) -> ValueTest:
    def test(value: Any) -> bool:
        if isinstance(value, list):
            return any(holds(item) for item in value)
        return holds(value)

    return test


def _is_one_of(operands: list[Any], by: ValueComparison) -> ValueTest:
    for operand in operands:
        if not is_scalar(operand):
            raise OperandError(f"{operand!r} is neither a text nor a number")
    words = frozenset(by.normalized(operand) for operand in operands if isinstance(operand, str | bool))
    numbers = frozenset(n for operand in operands if (n := by.number(operand)) is not None)
    flags = frozenset(flag for operand in operands if (flag := by.flag(operand)) is not None)

    def holds(value: Any) -> bool:
        if isinstance(value, bool) and value in flags:
            return True
        if isinstance(value, str | bool) and by.normalized(value) in words:
            return True
        return bool(numbers) and by.number(value) in numbers

    return _holds_for_any_item(holds)


def _equals(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
    return _is_one_of([operand], by)


def _in_list(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
    if not isinstance(operand, list) or not operand:
        raise OperandError(f"wants a list, not {operand!r}")
    if len(operand) > LONGEST_LIST:
        raise OperandError(f"a list has at most {LONGEST_LIST} items, not {len(operand)}")
    return _is_one_of(operand, by)


def _text_comparison(compare: Callable[[str, str], bool]) -> OperandParser:
    def parse(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
        if not isinstance(operand, str) or not by.fold(operand):
            raise OperandError(f"wants a text, not {operand!r}")
        if len(operand) > LONGEST_OPERAND_TEXT:
            raise OperandError(f"a text has at most {LONGEST_OPERAND_TEXT} characters, not {len(operand)}")
        expected = by.fold(operand)
        return _holds_for_any_item(lambda value: isinstance(value, str) and compare(by.fold(value), expected))

    return parse


def _number_comparison(compare: Callable[[Number, Number], bool]) -> OperandParser:
    def parse(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
        limit = by.number(operand)
        if limit is None:
            raise OperandError(f"{operand!r} is not a number")

        def holds(value: Any) -> bool:
            n = by.number(value)
            return n is not None and compare(n, limit)

        return _holds_for_any_item(holds)

    return parse


def _between(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
    if not isinstance(operand, list) or len(operand) != 2:
        raise OperandError(f"wants [lowest, highest], not {operand!r}")
    low, high = by.number(operand[0]), by.number(operand[1])
    if low is None or high is None or low > high:
        raise OperandError(f"wants [lowest, highest], not {operand!r}")

    def holds(value: Any) -> bool:
        n = by.number(value)
        return n is not None and low <= n <= high

    return _holds_for_any_item(holds)


def _longer_than(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
    if isinstance(operand, bool) or not isinstance(operand, int) or operand < 0:
        raise OperandError(f"wants a number of characters, not {operand!r}")
    return _holds_for_any_item(lambda value: isinstance(value, str) and by.is_longer(value, operand))


def _matches(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
    if not isinstance(operand, str) or not operand:
        raise OperandError(f"wants a regular expression, not {operand!r}")
    if len(operand) > LONGEST_PATTERN:
        raise OperandError(
            f"a regular expression has at most {LONGEST_PATTERN} characters, not {len(operand)}"
        )
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        pattern = re2.compile(by.pattern(operand), options)
    except (re2.error, UnicodeError) as broken:
        reason = broken.args[0]
        message = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise OperandError(f"{operand!r} is no regular expression that RE2 knows: {message}") from None

    def holds(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        sound = by.searched(value[:LONGEST_OPERAND_TEXT]).encode(errors="replace").decode()
        return pattern.search(sound) is not None

    return _holds_for_any_item(holds)


def _negated(parse: OperandParser) -> OperandParser:
    def negated(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
        holds = parse(operand, by)
        return lambda value: value is not None and not holds(value)

    return negated


def _is_set(*, expected: bool) -> OperandParser:
    def parse(operand: Any, by: ValueComparison = NEWEST_COMPARISON, /) -> ValueTest:
        if operand is not True:
            raise OperandError(f"wants true, not {operand!r}")
        return lambda value: by.is_blank(value) is not expected

    return parse


_contains = _text_comparison(lambda value, expected: expected in value)

OPERATORS: dict[str, Operator] = {
    "equals": Operator(_equals, "any"),
    "not_equals": Operator(_negated(_equals), "any"),
    "in_list": Operator(_in_list, "any"),
    "not_in_list": Operator(_negated(_in_list), "any"),
    "contains": Operator(_contains, "text"),
    "not_contains": Operator(_negated(_contains), "text"),
    "starts_with": Operator(_text_comparison(str.startswith), "text"),
    "ends_with": Operator(_text_comparison(str.endswith), "text"),
    "longer_than": Operator(_longer_than, "text"),
    "matches": Operator(_matches, "text"),
    "greater_than": Operator(_number_comparison(lambda n, limit: n > limit), "number"),
    "less_than": Operator(_number_comparison(lambda n, limit: n < limit), "number"),
    "greater_or_equal": Operator(_number_comparison(lambda n, limit: n >= limit), "number"),
    "less_or_equal": Operator(_number_comparison(lambda n, limit: n <= limit), "number"),
    "between": Operator(_between, "number"),
    "is_set": Operator(_is_set(expected=True), "any"),
    "is_not_set": Operator(_is_set(expected=False), "any"),
}
"""All operators of rules and signals."""

OPERATOR_TEXTS = {
    "equals": "",
    "not_equals": "not",
    "in_list": "one of",
    "not_in_list": "none of",
    "contains": "with",
    "not_contains": "without",
    "starts_with": "starting with",
    "ends_with": "ending with",
    "longer_than": "longer than",
    "matches": "matching",
    "greater_than": "more than",
    "less_than": "less than",
    "greater_or_equal": "at least",
    "less_or_equal": "at most",
    "between": "between",
    "is_set": "given",
    "is_not_set": "not given",
}
"""Each operator in the words of an explanation."""

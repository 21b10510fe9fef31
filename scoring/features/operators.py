"""The operators of rules and signals. Each parses its operand once and gives a test of values.

Texts compare without regard to case and surrounding space; digits in a text count as a number; a list passes if
one of its items does. A missing value passes no test but `is_not_set`, so `not_equals` needs a value that
differs. Tests are total over all values of producers, and linear in their length: `matches` is RE2 and reads the
first 1,024 characters.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import re2

Number = int | Decimal
Test = Callable[[Any], bool]

LONGEST_LIST = 1_000
LONGEST_PATTERN = 1_000
LONGEST_TEXT = 1_024

DIGITS = 30
"""Of a number, on each side of its point."""
_DIGITS = re.compile(rf"[+-]?\d{{1,{DIGITS}}}(\.\d{{1,{DIGITS}}})?", re.ASCII)


class OperandError(ValueError):
    """The operand does not fit the operator."""


class Operator(NamedTuple):
    parse: Callable[[Any], Test]
    operand_type: str
    """text, number or any: the values that it can test."""


def number(value: Any) -> Number | None:
    """The value as an exact number, if it is one or spells one; 0.1 is a tenth."""
    if isinstance(value, str):
        text = value.strip()
        return Decimal(text) if _DIGITS.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    return value if isinstance(value, int) or has_bounded_digits(value) else None


def has_bounded_digits(value: Decimal) -> bool:
    """Is it finite, with at most DIGITS digits on each side of its point? `1e999999999` would fill all memory."""
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -DIGITS and value.adjusted() < DIGITS


def normalized(value: Any) -> Any:
    """The value in the form that is compared: text in lower case without outer space, true and false as words."""
    if isinstance(value, str):
        return value.strip().casefold()
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def is_blank(value: Any) -> bool:
    """None, an empty list or a text of nothing but space."""
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | Decimal)


def _any_item(holds: Test) -> Test:
    def test(value: Any) -> bool:
        if isinstance(value, list):
            return any(holds(item) for item in value)
        return holds(value)

    return test


def _one_of(operands: list[Any]) -> Test:
    for operand in operands:
        if not is_scalar(operand):
            raise OperandError(f"{operand!r} is neither a text nor a number")
    words = frozenset(normalized(operand) for operand in operands if isinstance(operand, str | bool))
    numbers = frozenset(n for operand in operands if (n := number(operand)) is not None)

    def holds(value: Any) -> bool:
        if isinstance(value, str | bool) and normalized(value) in words:
            return True
        return bool(numbers) and number(value) in numbers

    return _any_item(holds)


def _equals(operand: Any) -> Test:
    return _one_of([operand])


def _in_list(operand: Any) -> Test:
    if not isinstance(operand, list) or not operand:
        raise OperandError(f"wants a list, not {operand!r}")
    if len(operand) > LONGEST_LIST:
        raise OperandError(f"a list has at most {LONGEST_LIST} items, not {len(operand)}")
    return _one_of(operand)


def _text(compare: Callable[[str, str], bool]) -> Callable[[Any], Test]:
    def parse(operand: Any) -> Test:
        if not isinstance(operand, str) or not operand.strip():
            raise OperandError(f"wants a text, not {operand!r}")
        if len(operand) > LONGEST_TEXT:
            raise OperandError(f"a text has at most {LONGEST_TEXT} characters, not {len(operand)}")
        expected = normalized(operand)
        return _any_item(lambda value: isinstance(value, str) and compare(normalized(value), expected))

    return parse


def _ordered(compare: Callable[[Number, Number], bool]) -> Callable[[Any], Test]:
    def parse(operand: Any) -> Test:
        limit = number(operand)
        if limit is None:
            raise OperandError(f"{operand!r} is not a number")

        def holds(value: Any) -> bool:
            n = number(value)
            return n is not None and compare(n, limit)

        return _any_item(holds)

    return parse


def _between(operand: Any) -> Test:
    if not isinstance(operand, list) or len(operand) != 2:
        raise OperandError(f"wants [lowest, highest], not {operand!r}")
    low, high = number(operand[0]), number(operand[1])
    if low is None or high is None or low > high:
        raise OperandError(f"wants [lowest, highest], not {operand!r}")

    def holds(value: Any) -> bool:
        n = number(value)
        return n is not None and low <= n <= high

    return _any_item(holds)


def _longer_than(operand: Any) -> Test:
    if isinstance(operand, bool) or not isinstance(operand, int) or operand < 0:
        raise OperandError(f"wants a number of characters, not {operand!r}")
    return _any_item(lambda value: isinstance(value, str) and len(value) > operand)


def _matches(operand: Any) -> Test:
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
        pattern = re2.compile(operand, options)
    except (re2.error, UnicodeError) as broken:
        reason = broken.args[0]
        message = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise OperandError(f"{operand!r} is no regular expression that RE2 knows: {message}") from None

    def holds(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        sound = value[:LONGEST_TEXT].encode(errors="replace").decode()
        return pattern.search(sound) is not None

    return _any_item(holds)


def _not(parse: Callable[[Any], Test]) -> Callable[[Any], Test]:
    def negated(operand: Any) -> Test:
        holds = parse(operand)
        return lambda value: value is not None and not holds(value)

    return negated


def _flag(holds: Test) -> Callable[[Any], Test]:
    def parse(operand: Any) -> Test:
        if operand is not True:
            raise OperandError(f"wants true, not {operand!r}")
        return holds

    return parse


_contains = _text(lambda value, expected: expected in value)

OPERATORS: dict[str, Operator] = {
    "equals": Operator(_equals, "any"),
    "not_equals": Operator(_not(_equals), "any"),
    "in_list": Operator(_in_list, "any"),
    "not_in_list": Operator(_not(_in_list), "any"),
    "contains": Operator(_contains, "text"),
    "not_contains": Operator(_not(_contains), "text"),
    "starts_with": Operator(_text(str.startswith), "text"),
    "ends_with": Operator(_text(str.endswith), "text"),
    "longer_than": Operator(_longer_than, "text"),
    "matches": Operator(_matches, "text"),
    "greater_than": Operator(_ordered(lambda n, limit: n > limit), "number"),
    "less_than": Operator(_ordered(lambda n, limit: n < limit), "number"),
    "greater_or_equal": Operator(_ordered(lambda n, limit: n >= limit), "number"),
    "less_or_equal": Operator(_ordered(lambda n, limit: n <= limit), "number"),
    "between": Operator(_between, "number"),
    "is_set": Operator(_flag(lambda value: not is_blank(value)), "any"),
    "is_not_set": Operator(_flag(is_blank), "any"),
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

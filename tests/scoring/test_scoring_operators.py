"""Every operator, on values as producers really send them."""

import pytest

from scoring.editing.rule_json import OPERAND_READER_AND_SAMPLE
from scoring.features.operators import OPERATOR_TEXTS, OPERATORS

CASES = [
    ("equals", "SaaS", [" saas ", ["x", "SAAS"]], ["saas!", "", None, 5, ["x"]]),
    ("equals", 5, [5, 5.0, "5", " 5.0 "], [6, "five", None, True, "5_0", "0x5"]),
    ("equals", 0.1, [0.1, "0.1", "0.10"], [0.10000001]),
    ("equals", True, [True, "TRUE"], [False, 1, "yes", None]),
    ("not_equals", "SaaS", ["other", "", 5], ["saas", None]),
    ("in_list", ["51-200", 7], ["51-200", 7, "7", ["a", "51-200"]], ["51", None, [], 8]),
    ("not_in_list", ["a"], ["b", 1, ["b"]], ["A", None, ["b", "a"]]),
    ("contains", "Director", ["Managing director", ["x", "directors"]], ["Chef", None, 5]),
    ("not_contains", "chief", ["Director"], ["CHIEF of x", None]),
    ("starts_with", "dir", [" Director"], ["x dir", None, 1]),
    ("ends_with", ".com", ["a@b.COM "], ["a@b.org", None]),
    ("longer_than", 3, ["abcd", ["a", "abcd"]], ["abc", None, 12345]),
    ("matches", r"@(gmail|yahoo)\.com$", ["a@GMAIL.com"], ["a@gmail.com.org", None, 5]),
    (
        "greater_than",
        3,
        [4, "3.5", 10**30, [1, "5"]],
        [[1, 2], [], 3, "3", None, "x", True, float("nan"), float("inf")],
    ),
    ("less_than", 3, [2, "-5", 2.9], [3, None, float("-inf")]),
    ("greater_or_equal", 3, [3, "3"], [2.99, None]),
    ("less_or_equal", "3", [3, "3.0"], [3.01, None]),
    ("between", [1, 2], [1, 2, "1.5", [9, 2]], [0.99, 2.01, None]),
    ("is_set", True, ["x", 0, False, ["a"]], [None, "", "  ", []]),
    ("is_not_set", True, [None, "", "  ", []], ["x", 0, False]),
]


@pytest.mark.parametrize(
    ("operator", "operand", "value", "expected"),
    [
        (operator, operand, value, expected)
        for operator, operand, passes, fails in CASES
        for expected, values in ((True, passes), (False, fails))
        for value in values
    ],
)
def test_an_operator_decides(operator, operand, value, expected):
    assert OPERATORS[operator].parse(operand)(value) is expected


def test_every_operator_is_tested_and_has_words():
    assert (
        {operator for operator, *_ in CASES}
        == OPERATORS.keys()
        == OPERATOR_TEXTS.keys()
        == OPERAND_READER_AND_SAMPLE.keys()
    )


def test_a_regular_expression_takes_linear_time():
    """Backtracking would take 2^40 steps here."""
    holds = OPERATORS["matches"].parse("^(a+)+$")
    assert not holds("a" * 40 + "!")
    assert not OPERATORS["matches"].parse("x$")("y" * 5000 + "x")
    assert OPERATORS["matches"].parse("x")("\ud800x")

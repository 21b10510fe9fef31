"""How rules and signals compare values, in each version of the folding.

A published text keeps the version that it was published with: scores of recorded events never change because a newer
Leadstream compares better. What is published from now on gets NEWEST.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from scoring.features import texts

Number = int | Decimal


class ValueComparison(NamedTuple):
    folding: int
    """The version, as publications record it."""
    fold: Callable[[str], str]
    """The form of a text that `equals`, `contains`, `choose` and so on compare."""
    number_of: Callable[[str], Decimal | None]
    is_longer: Callable[[str, int], bool]
    searched: Callable[[str], str]
    """The form of a text in which `matches` searches."""
    pattern: Callable[[str], str]
    """The regular expression that searches there."""
    flag_of: Callable[[str], bool | None]
    """The flag that a text stands for: `yes` is true."""

    def number(self, value: Any) -> Number | None:
        """The value as an exact number, if it is one or spells one; 0.1 is a tenth."""
        if type(value) is int:  # most are, and this is the quickest test
            return value
        if isinstance(value, str):
            return self.number_of(value)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return None
        if isinstance(value, float):
            return Decimal(repr(value)) if math.isfinite(value) else None
        return value if isinstance(value, int) or has_bounded_digits(value) else None

    def flag(self, operand: Any) -> bool | None:
        """The flag that an operand stands for, which is compared with flags only; None: it stands for none."""
        return self.flag_of(str(operand)) if isinstance(operand, str | int) else None

    def normalized(self, value: Any) -> Any:
        """The value in the form that is compared: a text folded, true and false as words."""
        if isinstance(value, str):
            return self.fold(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        return value

    def is_blank(self, value: Any) -> bool:
        """None, an empty list or a text without anything to compare."""
        return value is None or value == [] or (isinstance(value, str) and not self.fold(value))


def has_bounded_digits(value: Decimal) -> bool:
    """Is it finite, with at most DIGITS digits on each side of its point? `1e999999999` would fill all memory."""
    exponent = value.as_tuple().exponent
    return (
        isinstance(exponent, int) and exponent >= -texts.MOST_DIGITS and value.adjusted() < texts.MOST_DIGITS
    )


_PLAIN_NUMBER = re.compile(rf"[+-]?\d{{1,{texts.MOST_DIGITS}}}(\.\d{{1,{texts.MOST_DIGITS}}})?", re.ASCII)


def _plain_number(text: str) -> Decimal | None:
    stripped = text.strip()
    return Decimal(stripped) if _PLAIN_NUMBER.fullmatch(stripped) else None


PLAIN_COMPARISON = ValueComparison(
    folding=1,
    fold=lambda text: text.strip().casefold(),
    number_of=_plain_number,
    is_longer=lambda text, limit: len(text) > limit,
    searched=lambda text: text,
    pattern=lambda pattern: pattern,
    flag_of=lambda _: None,
)
"""Capital letters and outer spaces make no difference. Publications that record no version compare so."""

SPELLING_COMPARISON = ValueComparison(
    folding=2,
    fold=texts.fold_text,
    number_of=texts.number_of,
    is_longer=texts.is_longer,
    searched=texts.unify_spelling,
    pattern=texts.fold_pattern,
    flag_of=lambda _: None,
)
"""Spellings of a text and of a number make no difference, either."""

NEWEST_COMPARISON = SPELLING_COMPARISON._replace(folding=3, flag_of=texts.flag_of)
"""A flag equals each of its words, too: profiles keep `yes` in a flag as true."""

COMPARISON_BY_FOLDING = {
    each.folding: each for each in (PLAIN_COMPARISON, SPELLING_COMPARISON, NEWEST_COMPARISON)
}

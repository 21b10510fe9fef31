"""Shared by the readers of models, lifecycles and experiments: refusals that name the line, and first checks."""

import re
import tomllib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

TomlTable = dict[str, Any]

LONGEST_SHOWN_VALUE = 100
LONGEST_REFUSAL_CHARACTERS = 1_000

MOST_DIGITS = 100
"""Of a number, on each side of its point; calculating with more would be slow."""
TOO_MANY_DIGITS_REASON = f"has more than {MOST_DIGITS} digits before its point or behind it"
MOST_KEY_PARTS = 32
_TOO_DEEP_KEY = re.compile(
    r"""(?:\.[ \t]*+(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+)""" + f"{{{MOST_KEY_PARTS}}}"
)


class ModelError(ValueError):
    """The model's text is refused; the message gives the line and the reason, and repeats little of the text."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message
            if len(message) <= LONGEST_REFUSAL_CHARACTERS
            else f"{message[:LONGEST_REFUSAL_CHARACTERS]}..."
        )


def read_document(
    text: str,
    what: str,
    refused: type[ValueError],
    *,
    longest: int,
    parse_float: Callable[[str], Any] = Decimal,
) -> TomlTable:
    """The values of the TOML text. Refusals are of the type `refused` and name `what` the text is (a model)."""
    if len(text) > longest:
        raise refused(f"line 1: {what} has at most {longest:,} characters, not {len(text):,}")
    if (deep := line_of_deep_key(text)) is not None:
        raise refused(f"line {deep}: nested too deeply")

    def number(digits: str) -> Any:
        if len(digits) > 3 * MOST_DIGITS or not _is_short(Decimal(digits)):
            line = text.count("\n", 0, max(text.find(digits), 0)) + 1
            raise refused(f"line {line}: {digits[:LONGEST_SHOWN_VALUE]} {TOO_MANY_DIGITS_REASON}")
        return parse_float(digits)

    try:
        document = tomllib.loads(text, parse_float=number)
    except refused:
        raise
    except tomllib.TOMLDecodeError as broken:
        where = re.search(r"\(at line (\d+), column \d+\)", str(broken))
        line = where[1] if where else str(text.count("\n") + 1)
        raise refused(f"line {line}: {str(broken).split(' (at ')[0]}") from None
    except RecursionError:
        raise refused("line 1: nested too deeply") from None
    except (ValueError, ArithmeticError) as broken:
        raise refused(f"line 1: {broken}") from None
    if any(abs(whole) >= 10**MOST_DIGITS for whole in _integers_in(document)):
        raise refused(f"line 1: an integer {TOO_MANY_DIGITS_REASON}")
    return document


def _is_short(number: Decimal) -> bool:
    """True also for infinity and NaN, which the reader of the value refuses."""
    exponent = number.as_tuple().exponent
    return not isinstance(exponent, int) or (
        exponent >= -MOST_DIGITS and (not number or number.adjusted() < MOST_DIGITS)
    )


def _integers_in(document: TomlTable) -> Iterator[int]:
    """All whole numbers of the document, in any base. While it reads, tomllib lets only decimal ones be refused."""
    waiting: list[Any] = [document]
    while waiting:
        match waiting.pop():
            case dict() as table:
                waiting.extend(table.values())
            case list() as several:
                waiting.extend(several)
            case int() as whole:
                yield whole
            case _:
                pass  # no number


def model_refusal(text: str, key: str, reason: str) -> ModelError:
    """The refusal of a key of the model itself."""
    line = line_of(text, rf"^[ \t]*\[*{re.escape(key)}\b")
    return ModelError(f"line {line}, {key}: {reason}")


def line_of(text: str, pattern: str, after: str | None = None) -> int:
    """The first line that matches the pattern, from the one that matches `after`; 1 if none does."""
    start = 0
    if after is not None and (header := re.search(after, text, re.MULTILINE)):
        start = header.start()
    match = re.compile(pattern, re.MULTILINE).search(text, start)
    return 1 if match is None else text.count("\n", 0, match.start() + len(match[0])) + 1


def line_of_deep_key(text: str) -> int | None:
    """The line of a key a.b.c... with too many parts: reading it takes time with their square. None: no such key."""
    match = _TOO_DEEP_KEY.search(text)
    return None if match is None else text.count("\n", 0, match.start()) + 1


def copy_of_table(text: str, key: str, value: Any) -> TomlTable:
    """A copy of the table under a key of the model."""
    if not isinstance(value, dict):
        raise model_refusal(text, key, "missing" if value is None else f"wants a table, not {value!r}")
    return dict(value)


def is_whole_number(value: Any, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def shorten_value(value: Any) -> str:
    """A value in the form that a refusal repeats."""
    plain = isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < LONGEST_SHOWN_VALUE
    text = f"{value:f}" if plain else str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= LONGEST_SHOWN_VALUE else f"{text[:LONGEST_SHOWN_VALUE]}..."

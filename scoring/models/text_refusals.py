"""What reading the texts of models, lifecycles and experiments has in common: the refusal that names the
place, and the first checks.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

Table = dict[str, Any]

LONGEST_SHOWN = 100
LONGEST_REFUSAL = 1_000

MOST_DIGITS = 100
"""Of a number, before its point and behind it: with more, counting costs more than a moment."""
ENDLESS = f"has more than {MOST_DIGITS} digits before its point or behind it"
DEEPEST_KEY = 32
_DEEP = re.compile(r"""(?:\.[ \t]*+(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+)""" + f"{{{DEEPEST_KEY}}}")


class ModelError(ValueError):
    """The model text is refused; the message says where and why, and repeats no more than a little of it."""

    def __init__(self, said: str) -> None:
        super().__init__(said if len(said) <= LONGEST_REFUSAL else f"{said[:LONGEST_REFUSAL]}...")


def read_document(
    text: str,
    what: str,
    refused: type[ValueError],
    *,
    longest: int,
    parse_float: Callable[[str], Any] = Decimal,
) -> Table:
    """The TOML that the text is. `what` it should be (a model) and `refused` make the refusal."""
    if len(text) > longest:
        raise refused(f"line 1: {what} has at most {longest:,} characters, not {len(text):,}")
    if (deep := deep_key(text)) is not None:
        raise refused(f"line {deep}: nested too deeply")

    def number(digits: str) -> Any:
        if len(digits) > 3 * MOST_DIGITS or not _is_short(Decimal(digits)):
            line = text.count("\n", 0, max(text.find(digits), 0)) + 1
            raise refused(f"line {line}: {digits[:LONGEST_SHOWN]} {ENDLESS}")
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
    if any(abs(whole) >= 10**MOST_DIGITS for whole in _integers(document)):
        raise refused(f"line 1: an integer {ENDLESS}")
    return document


def _is_short(number: Decimal) -> bool:
    """Also if it is infinite, or no number: who reads it says so."""
    exponent = number.as_tuple().exponent
    return not isinstance(exponent, int) or (
        exponent >= -MOST_DIGITS and (not number or number.adjusted() < MOST_DIGITS)
    )


def _integers(document: Table) -> Iterator[int]:
    """In whatever base they were written; tomllib lets none but decimal ones be refused while it reads."""
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
                pass  # nothing that counts


def model_refusal(text: str, key: str, reason: str) -> ModelError:
    """The refusal of a key of the model itself."""
    line = line_of(text, rf"^[ \t]*\[*{re.escape(key)}\b")
    return ModelError(f"line {line}, {key}: {reason}")


def line_of(text: str, pattern: str, after: str | None = None) -> int:
    """The line that the pattern is first found on, from the one that matches `after`; 1 if on none."""
    start = 0
    if after is not None and (header := re.search(after, text, re.MULTILINE)):
        start = header.start()
    found = re.compile(pattern, re.MULTILINE).search(text, start)
    return 1 if found is None else text.count("\n", 0, found.start() + len(found[0])) + 1


def deep_key(text: str) -> int | None:
    """The line of a key such as a.b.c... of too many parts: reading it would cost the square of them."""
    found = _DEEP.search(text)
    return None if found is None else text.count("\n", 0, found.start()) + 1


def as_table(text: str, key: str, value: Any) -> Table:
    """A copy of the table that a key of the model holds."""
    if not isinstance(value, dict):
        raise model_refusal(text, key, "missing" if value is None else f"wants a table, not {value!r}")
    return dict(value)


def is_whole(value: Any, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def shorten_value(value: Any) -> str:
    """A value as a refusal repeats it."""
    plain = isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < LONGEST_SHOWN
    told = f"{value:f}" if plain else str(value) if isinstance(value, Decimal) else repr(value)
    return told if len(told) <= LONGEST_SHOWN else f"{told[:LONGEST_SHOWN]}..."

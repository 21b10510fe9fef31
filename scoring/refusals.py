"""What reading the texts of models, lifecycles and experiments has in common: the refusal that names the
place, and the first checks.
"""

import re
import tomllib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Table = dict[str, Any]

LONGEST_SHOWN = 100
LONGEST_REFUSAL = 1_000

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
    try:
        return tomllib.loads(text, parse_float=parse_float)
    except tomllib.TOMLDecodeError as broken:
        where = re.search(r"\(at line (\d+), column \d+\)", str(broken))
        line = where[1] if where else str(text.count("\n") + 1)
        raise refused(f"line {line}: {str(broken).split(' (at ')[0]}") from None
    except RecursionError:
        raise refused("line 1: nested too deeply") from None
    except (ValueError, ArithmeticError) as broken:
        raise refused(f"line 1: {broken}") from None


def refusal(text: str, key: str, reason: str) -> ModelError:
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
        raise refusal(text, key, "missing" if value is None else f"wants a table, not {value!r}")
    return dict(value)


def is_whole(value: Any, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def shown(value: Any) -> str:
    """A value as a refusal repeats it."""
    plain = isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < LONGEST_SHOWN
    told = f"{value:f}" if plain else str(value) if isinstance(value, Decimal) else repr(value)
    return told if len(told) <= LONGEST_SHOWN else f"{told[:LONGEST_SHOWN]}..."

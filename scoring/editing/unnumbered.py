"""An edit of a text that has no numbers yet, as its author wants to see it: only the lines of the edit differ.

Edits give every rule and criterion a number (`scoring.editing.text_edits`). A published text keeps them, so that a number
never means two rules. A draft needs none: the same numbers follow from the order of its text.
"""

import re
import tomllib
from decimal import Decimal
from itertools import pairwise
from typing import Any

_NUMBER_IN_LINE = re.compile(r"(?<=\{)[ \t]*id = \d+,|,[ \t]*id = \d+(?=[ \t]*\})")
_NUMBER_AS_LINE = re.compile(r"[ \t]*(?:id|highest_rule_id|highest_criterion_id)[ \t]*=[ \t]*\d+[ \t]*")
_BLANKS = re.compile(r"[ \t]+")


def without_new_numbers(before: str, after: str) -> str:
    """The text after an edit, without the numbers that the edit gave if the text before had none; else the text as it is."""
    if _has_numbers(_parsed(before)):
        return after
    written = before.split("\n")
    own_lines = {_without_blanks(line): line for line in written} | {line: line for line in written}
    follower = dict(pairwise(written))
    lines: list[str] = []
    after_number = False
    for line in after.split("\n"):
        if line not in own_lines and _NUMBER_AS_LINE.fullmatch(line):
            after_number = True
            continue
        bare = _NUMBER_IN_LINE.sub("", line)
        own = own_lines.get(bare) or own_lines.get(_without_blanks(bare)) or bare
        # A number that was put before a table brought an empty line along.
        if not (after_number and not own and lines and follower.get(lines[-1])):
            lines.append(own)
        after_number = False
    result = "\n".join(lines)
    try:
        means_the_same = _parsed(result) == _without_numbers(_parsed(after))
    except tomllib.TOMLDecodeError:
        return after  # something looked like a number: the safe form is the numbered one
    return result if means_the_same else after


def _parsed(text: str) -> dict[str, Any]:
    return tomllib.loads(text, parse_float=Decimal)


def _without_blanks(line: str) -> str:
    return _BLANKS.sub("", line)


def _entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    rules = [rule for group in document.get("groups", {}).values() for rule in group.get("rules", [])]
    criteria = [
        each
        for need in document.get("needs", {}).values()
        for each in (need if isinstance(need, list) else [need])
    ]
    return [*rules, *criteria]


def _has_numbers(document: dict[str, Any]) -> bool:
    return "highest_rule_id" in document or any("id" in entry for entry in _entries(document))


def _without_numbers(document: dict[str, Any]) -> dict[str, Any]:
    for entry in _entries(document):
        entry.pop("id", None)
    return {key: value for key, value in document.items() if not key.startswith("highest_")}

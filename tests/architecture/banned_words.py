"""Counts the identifiers of the product that are words of the old dialect, which nobody else would understand.

`.venv/bin/python tests/architecture/banned_words.py > tests/architecture/banned_words.txt` writes the counts of
today as the new maxima. Do so when counts have fallen.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from product_code import modules

FIELD_WORDS = {
    "act": "interaction, event or touchpoint",
    "anew": "again or rebuilt",
    "asked": "request, query or filter",
    "away": "unavailable",
    "bucket": "task group",
    "due_at": "fires_at",
    "dues": "timers",
    "edge": "next_timer",
    "fading": "decay",
    "final": "settled",
    "found": "a noun that says what the value is: match, row, cached",
    "given": "a noun that says what the value is: input, request, current",
    "gone": "removed or out of range",
    "heard": "received",
    "held": "owned, assigned or current",
    "holds": "owned, assigned or current",
    "home": "home_lead",
    "in_force": "active",
    "inbox": "record_queue",
    "known": "a noun that says what the value is: cached, current",
    "lane": "task",
    "letter": "dead_letter",
    "letters": "dead_letters",
    "lift": "feature_delta (lift is what a backtest measures)",
    "lost": "unavailable or out of range",
    "memory": "state_store",
    "mend": "fix",
    "mended": "fixed or corrected",
    "moved": "reassigned",
    "passed": "forwarded or skipped",
    "place": "task id or log partition",
    "round": "commit",
    "said": "emitted, result or status",
    "say": "emit, print or report",
    "shipped": "built_in",
    "slot": "log partition",
    "tell": "report or print",
    "told": "result, status or report",
    "touch": "touchpoint",
    "wanted": "request, target or filter",
    "who": "caller, author, lead or visitor",
    "whoever": "caller, author, lead or visitor",
}
"""What to write instead of each."""

TABLE = Path(__file__).with_suffix(".txt")


def defined_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The names that a module gives to classes, functions, parameters, variables and attributes, with lines."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)):
                yield name, node.lineno
            case _:
                continue


@cache
def uses() -> dict[str, list[str]]:
    """Where each word is defined as an identifier: `path:line`."""
    places: dict[str, list[str]] = {word: [] for word in FIELD_WORDS}
    for path, tree in modules().items():
        for name, line in defined_names(tree):
            word = name.strip("_").lower()
            if word in places:
                places[word].append(f"{path}:{line}")
    return places


def maxima() -> dict[str, int]:
    """The committed table."""
    rows = (line.split() for line in TABLE.read_text(encoding="utf-8").splitlines())
    return {word: int(count) for word, count in rows}


if __name__ == "__main__":
    for each, where in uses().items():
        print(each, len(where))

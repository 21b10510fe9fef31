"""Shortens a script of plain style: no comments, no spaces, short names for what it declares.

It reads tokens, not the grammar, so it asks for a style: a comment has a line of its own, every statement ends with a
semicolon, texts are in double quotes. A name keeps its letters if it is also a property, so no object changes its shape.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, pairwise, product
from string import ascii_letters

_TOKEN = re.compile(
    r'"(?:[^"\\\n]|\\.)*"'
    r"|[A-Za-z_$][\w$]*|\d[\w.]*|\.\.\.|=>|[-+*&|]{2}|[<>!=]=+"
    r"|(?P<space>\s+)|(?P<slash>/)|."
)
_PATTERN = re.compile(r"/(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*")
_BEFORE_PATTERN = frozenset("(,=:[!&|?{};") | {"&&", "||", "=>", "return", ""}
_NAME = re.compile(r"[A-Za-z_$][\w$]*")
_PARAMETER = re.compile(r"\(([A-Za-z_$][\w$]*)\)=>")
_SIGNS = frozenset({"+", "-", "++", "--"})
_DECLARING = frozenset({"const", "let"})


def minified(source: str) -> str:
    """The same program in fewer bytes; linear in the source. ValueError for a comment that shares its line."""
    lines = (line.strip() for line in source.splitlines())
    tokens = list(_tokens("\n".join(line for line in lines if not line.startswith("//"))))
    properties = _properties(tokens)
    short = _short_names(tokens, properties)
    return _joined(
        [lexeme if at in properties else short.get(lexeme, lexeme) for at, lexeme in enumerate(tokens)]
    )


def _tokens(code: str) -> Iterator[str]:
    position, last = 0, ""
    while lexeme := _TOKEN.match(code, position):
        text = lexeme[0]
        if lexeme["slash"]:
            if code.startswith(("//", "/*"), position):
                raise ValueError("a comment needs a line of its own, and begins with //")
            if last in _BEFORE_PATTERN and (pattern := _PATTERN.match(code, position)):
                text = pattern[0]
        position += len(text)
        if lexeme["space"] is None:
            last = text
            yield text


def _short_names(tokens: list[str], properties: set[int]) -> dict[str, str]:
    """What each declared name becomes: the more often it is used, the shorter."""
    names = Counter(lexeme for lexeme in tokens if _NAME.fullmatch(lexeme))
    renamed = _declared(tokens) - {tokens[at] for at in properties}
    free = (
        name
        for name in map("".join, chain(ascii_letters, product(ascii_letters, repeat=2)))
        if name not in names or name in renamed
    )
    return dict(zip(sorted(renamed, key=lambda name: (-names[name], name)), free, strict=False))


def _declared(tokens: list[str]) -> set[str]:
    """The names behind `const` and `let`, and the parameters of arrow functions."""
    names = {after for lexeme, after in pairwise(tokens) if lexeme in _DECLARING}
    opened = 0
    for at, lexeme in enumerate(tokens):
        if lexeme == "(":
            opened = at
        elif lexeme == "=>" and tokens[at - 1] == ")":
            names.update(tokens[opened + 1 : at - 1])
    return {name for name in names if _NAME.fullmatch(name)}


def _properties(tokens: list[str]) -> set[int]:
    """Which tokens name a property: behind a dot, before a colon in an object, or alone between its commas."""
    places, brackets = set(), [""]
    for at, (before, lexeme, after) in enumerate(zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False)):
        if lexeme in {"(", "[", "{"}:
            brackets.append(lexeme)
        elif lexeme in {")", "]", "}"}:
            brackets.pop()
        elif _NAME.fullmatch(lexeme):
            entry = brackets[-1] == "{" and before in {"{", ","} and after in {":", ",", "}"}
            if before == "." or entry:
                places.add(at)
    return places


def _joined(tokens: list[str]) -> str:
    parts: list[str] = []
    before = ""
    for lexeme, after in pairwise([*tokens, ""]):
        if lexeme == ";" and after == "}":
            continue
        words = re.match(r"[\w$]", lexeme) and re.search(r"[\w$]$", before)
        signs = lexeme in _SIGNS and before in _SIGNS
        parts.append(f" {lexeme}" if words or signs else lexeme)
        before = lexeme
    return _PARAMETER.sub(r"\1=>", "".join(parts))

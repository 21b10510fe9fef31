"""What reading, comparing and editing a text costs grows with its length and no faster, whatever it says.
CPU seconds are only compared with each other.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from authoring.revisions import unified_diff_of_lines
from scoring.editing.text_edits import UneditableText, edit_text
from scoring.lifecycle.lifecycle import compile_lifecycle
from scoring.models.model import compile_model

pytestmark = pytest.mark.slow

HEAD = 'model = "rules"\n'
RULE = '[groups.all]\nrules = [{ name = "Base", base = 10 }]\n'
SMALL, LARGE = 12_000, 96_000
STEEPER = 3
"""So many times more than its length may a text's cost grow; what is quadratic grows eight times more."""
BY_HAND = 0.002
"""CPU seconds of which clocks and caches make anything: what costs less is cheap."""


def some(size: int, form: str) -> str:
    """Repeated, numbered if it has a place for a number."""
    each = max(1, size // (len(form) + 3))
    return "".join(form % number if "%d" in form else form for number in range(each))


def rules(listed: str) -> str:
    return HEAD + "[groups.all]\nrules = [\n" + listed + "]\n"


KINDS: dict[str, Callable[[int], str]] = {
    "rules": lambda n: rules(some(n, '{ name = "B%d", base = 1 },\n')),
    "rules switched off": lambda n: rules(some(n, '{ name = "B%d", base = 1, active = false },\n')),
    "patterns": lambda n: rules(some(n, '{ name = "B%d", value = "profile.x", matches = "(a{9}){9}", points = 1 },\n')),
    "digits": lambda n: HEAD + "min = " + "1" * n + "\n" + RULE,
    "hexadecimal digits": lambda n: HEAD + "min = 0x" + "f" * n + "\n" + RULE,
    "decimals": lambda n: HEAD + "min = 1." + "1" * n + "\n" + RULE,
    "exponents": lambda n: HEAD + "about = [" + some(n, "1e999999999,") + "]\n" + RULE,
    "dotted keys": lambda n: HEAD + some(n, "a.b.c.d.e.f.g.k%d = 1\n") + RULE,
    "one dotted key": lambda n: HEAD + "a." * (n // 2) + "b = 1\n" + RULE,
    "tables": lambda n: HEAD + RULE + some(n, "[a.b.c.t%d]\n"),
    "lists of tables": lambda n: HEAD + RULE + some(n, "[[a]]\n[[a.b]]\n"),
    "nested lists": lambda n: HEAD + "about = " + "[" * n + "\n",
    "nested tables": lambda n: HEAD + "about = " + "{a=" * (n // 3) + "\n",
    "groups": lambda n: HEAD + some(n, '[groups.g%d]\nrules = [{ name = "x", bad = 1 }]\n'),
    "signals": lambda n: HEAD + "[signals]\n" + some(n, 's%d = { event = "page_viewed" }\n') + RULE,
    "a long unknown key": lambda n: HEAD + "a" * n + " = 1\n" + RULE,
    "a string that is never closed": lambda n: HEAD + 'about = """' + '" ' * (n // 2),
    "spaces before a mistake": lambda n: HEAD + '"z z" = 1\n' + " " * n + "#\n" + RULE,
    "names before a mistake": lambda n: (
        HEAD + "[groups.all]\n#" + "name " * (n // 5) + '\nrules = [{ "name" = "Base", bad = 1 }]\n'
    ),
}  # fmt: skip
EDITED: dict[str, Callable[[int], str]] = {
    "comments": lambda n: "#a\n" * (n // 3) + HEAD + RULE,
    "blank lines": lambda n: "\n" * n + HEAD + RULE,
    "escapes": lambda n: HEAD + 'about = "' + "\\n" * (n // 2) + '"\n' + RULE,
    "quotes in a text": lambda n: HEAD + 'about = """' + '" ' * (n // 2) + '"""\n' + RULE,
    "values": lambda n: rules(
        "".join(
            f'{{ name = "B{rule}", choose = "profile.x", points = {{ ' + some(n // 100, "k%d = 1, ") + "z = 1 } },\n"
            for rule in range(100)
        )
    ),
    "rules of many lines": lambda n: HEAD + "[groups.all]\n" + "".join(
        f'[[groups.all.rules]]\nname = "B{rule}"\nchoose = "profile.x"\n' + some(n // 100, "points.k%d = 1\n")
        for rule in range(100)
    ),
}  # fmt: skip
LINES: dict[str, Callable[[int], list[str]]] = {
    "lines that are often there": lambda n: [f"{number * 7 % 120}\n" for number in range(n // 4)],
    "the same line": lambda n: ["\n"] * n,
    "different lines": lambda n: [f"#{number}\n" for number in range(n // 6)],
}


def cost(work: Callable[[], object]) -> float:
    """CPU seconds of the least busy of three times."""

    def tries() -> Iterator[float]:
        for _ in range(3):
            began = time.thread_time()
            work()
            yield time.thread_time() - began

    return max(min(tries()), BY_HAND)


def check(
    work: Callable[[str], object], body: Callable[[int], str], mistake: type[Exception], large: int = LARGE
) -> None:
    sizes = large * SMALL // LARGE, large

    def worked(text: str) -> Callable[[], object]:
        def once() -> None:
            with suppress(mistake):
                work(text)

        return once

    less, more = (cost(worked(body(size))) for size in sizes)
    assert more / less <= STEEPER * LARGE / SMALL


@pytest.mark.parametrize("read", [compile_model, compile_lifecycle], ids=["model", "lifecycle"])
@pytest.mark.parametrize("kind", KINDS)
def test_reading_a_text_costs_no_more_than_its_length(kind, read):
    check(read, KINDS[kind], ValueError)


@pytest.mark.parametrize("kind", EDITED)
def test_editing_a_text_costs_no_more_than_its_length(kind):
    check(lambda text: edit_text(text, lambda _document: None), EDITED[kind], UneditableText, LARGE // 4)


@pytest.mark.parametrize("kind", LINES)
def test_comparing_two_texts_costs_no_more_than_their_length(kind):
    def compared(size: int) -> list[str]:
        lines = LINES[kind](size)
        return list(unified_diff_of_lines([*lines, "end\n"], [*lines[::-1], "end\n"], "1", "2"))

    less, more = (cost(lambda size=size: compared(size)) for size in (SMALL, LARGE))
    assert more / less <= STEEPER * LARGE / SMALL


def test_of_more_rules_than_a_model_may_have_none_is_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr("scoring.models.model_text.compile_rule", lambda *rule: compiled.append(rule))
    with pytest.raises(ValueError, match="at most 200 rules, not"):
        compile_model(KINDS["rules"](LARGE))
    assert compiled == []

"""Names say what they mean: class names are unique, the old dialect shrinks, no match hides a new type."""

import ast
from collections import defaultdict
from collections.abc import Iterator

import banned_words
import pytest
from product_code import modules, modules_beside

from schemas.events import EVENT_TYPES
from scoring.models import rules

SHARED_CLASS_NAMES: dict[str, str] = {}
"""Class names that may be defined in several modules, each with the reason; fewer than ten."""

SILENT_DEFAULTS = {
    "gateway/door/admission.py:_derived_fields": "the door reads addresses in these types only",
    "streams/track_sessions.py:_act": "to be made total",
    "scoring/editing/describe.py:describe_rule": "to be made total",
}
"""Functions in which a match over event types or rule kinds may have a `case _`, each with the reason."""


def test_a_class_name_is_defined_in_one_module():
    places = defaultdict(set)
    for path, tree in (modules() | modules_beside()).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(path)
    shared = {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}
    assert len(SHARED_CLASS_NAMES) < 10
    assert not {name: paths for name, paths in shared.items() if name not in SHARED_CLASS_NAMES}


@pytest.mark.parametrize("word", banned_words.FIELD_WORDS)
def test_a_word_of_the_old_dialect_gets_no_new_use(word):
    places, most = banned_words.uses()[word], banned_words.maxima()[word]
    assert len(places) <= most, (
        f"`{word}` as an identifier: {len(places)} uses, {most} allowed; "
        f"write {banned_words.FIELD_WORDS[word]}; uses: {places}"
    )


def test_the_table_of_the_old_dialect_has_every_word():
    command = "python tests/architecture/banned_words.py > tests/architecture/banned_words.txt"
    assert list(banned_words.maxima()) == list(banned_words.FIELD_WORDS), f"run {command}"


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}:{node.name}", node


def subjects(pattern: ast.pattern) -> set[str]:
    """The classes and strings that a pattern names."""
    classes = {ast.unparse(n.cls).split(".")[-1] for n in ast.walk(pattern) if isinstance(n, ast.MatchClass)}
    strings = {
        n.value.value
        for n in ast.walk(pattern)
        if isinstance(n, ast.MatchValue) and isinstance(n.value, ast.Constant)
    }
    return classes | strings


def is_wildcard(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None


def test_no_match_over_event_types_or_rule_kinds_has_a_silent_default():
    watched = {kind.__name__ for kind in EVENT_TYPES} | set(rules.RULE_KINDS)
    silent = {
        name
        for name, function in functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Match)
        and any(is_wildcard(case.pattern) and not raises(case) for case in node.cases)
        and any(subjects(case.pattern) & watched for case in node.cases)
    }
    assert not silent - SILENT_DEFAULTS.keys(), "decide about every type; a new one must fail a test"


def raises(case: ast.match_case) -> bool:
    """The default is loud: it raises, or says that it cannot be reached."""
    last = case.body[-1]
    return isinstance(last, ast.Raise) or "assert_never" in ast.unparse(last)

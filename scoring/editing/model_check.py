"""What an author sees of a model's text while writing it: where its mistake is, its rules with their lines, and hints.

Pure. It refuses what the model compiler refuses, and names the place. It reads a text in time linear in its length.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from scoring.editing.qualification import criteria_of, rules_of
from scoring.editing.rule_json import RULE_FIELDS, Json, json_number
from scoring.editing.text_edits import RULES, STAGE_BANDS, all_entries, read_numbered, toml_value
from scoring.models.model import ModelError, compile_model
from scoring.models.rules import RULE_KINDS

MOST_POINTS_OF_RULE = 25
"""Requirement 4: no single rule should be worth more."""
POSSIBLE_TOTAL = 100
"""Requirement 4: the total possible score should exceed it."""

_REASON = re.compile(r"line (\d+)(?:, (?!group|rule|signal)([\w.]+))?(?:, [^:]*?)?: ", re.ASCII)
_TOML_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)")
_QUOTED_NAME = re.compile(r"'([^'\n]{1,100})'|\"([^\"\n]{1,100})\"|unknown: (\w+)")
_SECTION = re.compile(r"^[ \t]*\[+[ \t]*groups\.[ \t]*([\w-]+|\"[^\"\n]*\"|'[^'\n]*')")
_OTHER_SECTION = re.compile(r"^[ \t]*\[+[ \t]*[\w\"']")
_RULE_NAME = re.compile(r"\bname[ \t]*=[ \t]*(\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*')")


class TextProblem(NamedTuple):
    """A mistake, and its place: line and columns from 1, the end excluded."""

    line: int
    column: int
    end_column: int
    reason: str


class Hint(NamedTuple):
    """What requirement 4 advises against."""

    kind: str
    """rule_above_25, total_not_above_100 or no_negative_rule."""
    rule: str | None = None
    line: int | None = None
    points: Decimal | None = None
    """Of the rule, or of all rules together."""


def problem_in(text: str, name: str) -> TextProblem | None:
    """The first mistake of a text that is to be the model of this name; None: it can be published."""
    try:
        named = compile_model(text).name
    except ModelError as refusal:
        return placed_problem(text, str(refusal))
    if named != name:
        line = next((n for n, each in enumerate(text.split("\n"), 1) if each.startswith("model")), 1)
        return placed_problem(
            text, f"line {line}, model: the text is of the model {named!r}; here it is to be {name!r}"
        )
    return None


def placed_problem(text: str, refusal: str) -> TextProblem:
    """The refusal with its columns: those of the word that it quotes, else of the whole line."""
    prefix = _REASON.match(refusal)
    line = int(prefix[1]) if prefix else 1
    reason = refusal[prefix.end() :] if prefix else refusal
    written = text.split("\n")[line - 1] if line <= text.count("\n") + 1 else ""
    if (column := _column_of_broken_toml(text, line)) is not None:
        return TextProblem(line, column, max(column + 1, len(written.rstrip()) + 1), reason)
    key = prefix[2] if prefix else None
    words = [word for match in _QUOTED_NAME.finditer(reason) for word in match.groups() if word]
    for word in [*words, *([key] if key else [])]:
        if (start := written.find(word)) >= 0:
            return TextProblem(line, start + 1, start + 1 + len(word), reason)
    start = len(written) - len(written.lstrip())
    return TextProblem(line, start + 1, max(start + 2, len(written.rstrip()) + 1), reason)


def _column_of_broken_toml(text: str, line: int) -> int | None:
    try:
        tomllib.loads(text, parse_float=str)
    except tomllib.TOMLDecodeError as broken:
        position = _TOML_POSITION.search(str(broken))
        return int(position[2]) if position and int(position[1]) == line else None
    except (ValueError, RecursionError):
        pass
    return None


# Rules with their lines


def rules_with_lines(text: str) -> list[Json]:
    """The rules of a text without mistakes, in the API's form, in the order of the text, with the kind and the line of each."""
    rules = {rule["id"]: rule for rule in rules_of(text)}
    lines = _lines_by_rule(text)
    return [
        rules[entry["id"]]
        | {
            "kind": next(kind for kind in RULE_KINDS if kind in entry),
            "line": lines.get((group, entry["name"])),
        }
        for group, entry in all_entries(RULES, read_numbered(text))
    ]


def _lines_by_rule(text: str) -> dict[tuple[str, str], int]:
    """By group and name. A rule that is written in a way of its own (dotted keys) has none."""
    lines: dict[tuple[str, str], int] = {}
    group = ""
    for number, line in enumerate(text.split("\n"), 1):
        if section := _SECTION.match(line):
            group = section[1].strip("\"'")
        elif _OTHER_SECTION.match(line):
            group = ""
        for name in _RULE_NAME.finditer(line) if group else ():
            lines.setdefault((group, _unquoted(name[1])), number)
    return lines


def _unquoted(quoted: str) -> str:
    try:
        return str(tomllib.loads(f"name = {quoted}")["name"])
    except tomllib.TOMLDecodeError:
        return quoted


# Hints


def hints_of(text: str) -> list[Hint]:
    """What requirement 4 advises, of a text without mistakes. It is about models that qualify leads; others get none."""
    document = tomllib.loads(text, parse_float=Decimal)
    if STAGE_BANDS not in document.get("bands", {}):
        return []
    lines = _lines_by_rule(text)
    hints = [
        Hint("rule_above_25", rule["name"], lines.get((group, rule["name"])), worth)
        for group, rule in _active_rules(document)
        if (worth := _worth_of_rule(rule)) > MOST_POINTS_OF_RULE
    ]
    total = most_points(document)
    if total is not None and total <= POSSIBLE_TOTAL:
        hints.append(Hint("total_not_above_100", points=total))
    if "decay" not in document and all(_least_of_rule(rule) >= 0 for _, rule in _active_rules(document)):
        hints.append(Hint("no_negative_rule"))
    return hints


def most_points(document: Mapping[str, Any]) -> Decimal | None:
    """What all rules together may give, before the limits of the total; None: there is no end to it."""
    total = Decimal(0)
    for group in document.get("groups", {}).values():
        several = [_most_of_rule(rule) for rule in group.get("rules", []) if rule.get("active", True)]
        cap = None if "max" not in group else Decimal(group["max"])
        limited = [each for each in several if each is not None]
        if cap is None and len(limited) < len(several):
            return None
        of_group = sum(limited, Decimal(0)) if len(limited) == len(several) else cap
        total += min(each for each in (of_group, cap) if each is not None) * Decimal(group.get("weight", 1))
    return total


def _active_rules(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for group, table in document.get("groups", {}).items():
        for rule in table.get("rules", []):
            if rule.get("active", True):
                yield group, rule


def _worths(rule: Mapping[str, Any]) -> list[Decimal]:
    """The points that the rule names, whatever they count."""
    points = rule.get("points", rule.get("base", 0))
    worths = list(points.values()) if isinstance(points, Mapping) else [points]
    worths += [worth for _, worth in rule.get("below", [])]
    worths += [rule[key] for key in ("otherwise", "never") if key in rule]
    return [Decimal(each) for each in worths]


def _most_of_rule(rule: Mapping[str, Any]) -> Decimal | None:
    """None: an `each` rule without a limit."""
    worth = max(Decimal(0), *_worths(rule))
    most = None if "max" not in rule else Decimal(rule["max"])
    if "each" in rule and worth:
        if "times" not in rule:
            return most
        worth *= rule["times"]
    return worth if most is None else min(worth, most)


def _worth_of_rule(rule: Mapping[str, Any]) -> Decimal:
    """What one rule may give; of an `each` rule without a limit, what one event gives."""
    most = _most_of_rule(rule)
    return max(_worths(rule)) if most is None else most


def _least_of_rule(rule: Mapping[str, Any]) -> Decimal:
    return min(_worths(rule))


# What differs between two texts


class TextChange(NamedTuple):
    """A rule, a criterion, or a key of the model or of a group, that differs."""

    of: str
    """rule, criterion or setting."""
    change: str
    """added, removed or changed."""
    name: str
    section: str | None
    """The group of a rule, the stage of a criterion."""
    fields: list[tuple[str, str | None, str | None]]
    """(field, before, after) as texts; None: there is no such value."""


def changes_between(before: str, after: str) -> list[TextChange]:
    """What the second text says otherwise. Rules are matched by group and name, else by their numbers."""
    old, new = read_numbered(before), read_numbered(after)
    return [
        *_entry_changes("rule", rules_of(before), rules_of(after), "rule_type", (*RULE_FIELDS, "condition")),
        *_entry_changes("criterion", criteria_of(before), criteria_of(after), "stage", None),
        *_setting_changes(_settings(old), _settings(new)),
    ]


def _entry_changes(
    of: str, before: list[Json], after: list[Json], section: str, fields: tuple[str, ...] | None
) -> list[TextChange]:
    changes = []
    left = {(each[section], each["name"]): each for each in before}
    matched = [(left.pop((each[section], each["name"]), None), each) for each in after]
    by_number = {each["id"]: each for each in left.values()}
    for old, new in matched:
        was = by_number.pop(new["id"], None) if old is None else old
        compared = [name for name in fields or new if name != "id"]
        differing = [
            (name, _value_text((was or {}).get(name)), _value_text(new[name]))
            for name in compared
            if (was or {}).get(name) != new[name]
        ]
        if "condition" in compared and new.get("editable"):
            differing = [each for each in differing if each[0] != "condition"]
        if was is None:
            changes.append(TextChange(of, "added", new["name"], new[section], differing))
        elif differing:
            changes.append(TextChange(of, "changed", new["name"], new[section], differing))
    changes += [
        TextChange(of, "removed", each["name"], each[section], [])
        for each in sorted(by_number.values(), key=lambda each: int(each["id"]))
    ]
    return changes


def _settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is no rule and no criterion, by the name under which it is shown."""
    hidden = {"groups", "needs", "highest_rule_id", "highest_criterion_id"}
    settings = {key: value for key, value in document.items() if key not in hidden}
    for name, group in document.get("groups", {}).items():
        settings |= {f"{name}.{key}": value for key, value in group.items() if key != "rules"}
    return settings


def _setting_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[TextChange]:
    changes = []
    for name in [*after, *(each for each in before if each not in after)]:
        old, new = before.get(name), after.get(name)
        if old != new:
            kind = "added" if old is None else "removed" if new is None else "changed"
            changes.append(
                TextChange("setting", kind, name, None, [(name, _value_text(old), _value_text(new))])
            )
    return changes


def _value_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    number = json_number(value)
    return f"{number}" if number is not None else toml_value(value)

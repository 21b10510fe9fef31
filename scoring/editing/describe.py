"""Describes a model's text to people: Markdown tables of its rules, bands, requirements, decay and limits.

Pure: the same text gives the same description. It describes what the text says, not what it should say, and
accepts only texts that compile. Every kind of rule has a description; a kind without one is an error.
"""

import tomllib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, assert_never

from scoring.chat.flow import ChatFlow
from scoring.features.operators import OPERATORS
from scoring.models.model_text import compile_model
from scoring.models.rules import RULE_KINDS

Table = dict[str, Any]


def describe(text: str) -> str:
    """The model as a section of a page, beginning with its name. Raises ModelError."""
    model = compile_model(text)
    document = tomllib.loads(text, parse_float=Decimal)
    parts = [
        f"### {document['model']}",
        document.get("about", ""),
        _model_text(document),
        *(_group_text(name, group) for name, group in document["groups"].items()),
        _signals_text(document.get("signals", {})),
        *(_bands_text(scale, bands) for scale, bands in document.get("bands", {}).items()),
        *(_needs_text(band, needs) for band, needs in document.get("needs", {}).items()),
        *(_matrix_text(name, matrix) for name, matrix in document.get("matrix", {}).items()),
        "" if model.flow is None else _flow_text(model.flow),
    ]
    return "\n\n".join(part for part in parts if part)


# The whole


def _model_text(document: Table) -> str:
    sentences = []
    limits = _between(document.get("min"), document.get("max"))
    if document.get("reads") == "session":
        sentences.append("Its rules see one web session at a time.")
        lead = document.get("lead", {})
        half_life = lead.get("half_life_days")
        decay_text = (
            f", one that is {_days(half_life)} older than the newest counting half" if half_life else ""
        )
        sentences.append(
            f"A lead has the mean of its latest {lead.get('latest', 200)} sessions that have ended{decay_text}."
        )
        if limits:
            sentences.append(f"A session scores {limits}.")
    elif limits:
        sentences.append(f"The total is {limits}.")
    else:
        sentences.append("The total has no limit.")
    if document.get("round"):
        sentences.append("It is rounded to a whole number, halves up.")
    decay = document.get("decay")
    if decay and "points" in decay:
        sentences.append(f"Each full day without an interaction takes {_number(decay['points'])} points.")
    elif decay:
        sentences.append(f"Without an interaction it halves in {_days(decay['half_life_days'])}.")
    if document.get("band_on") == "rounded":
        sentences.append("Bands go by the rounded total; the total keeps its decimals.")
    return " ".join(sentences)


# Rules


def _group_text(name: str, group: Table) -> str:
    details = [_between(group.get("min"), group.get("max"))]
    if "weight" in group:
        details.append(f"weighted {_number(group['weight'])}")
    heading = f"**{name}**" + "".join(f", {each}" for each in details if each)
    rules = group.get("rules", [])
    if not rules:
        return f"{heading}: no rules."
    rows = [(_name_of(rule), *describe_rule(rule), rule_limits(rule)) for rule in rules]
    return f"{heading}\n\n" + table(("rule", "what counts", "points", "limits"), rows)


def _name_of(rule: Table) -> str:
    return str(rule["name"]) + ("" if rule.get("active", True) else " (switched off)")


def describe_rule(rule: Table) -> tuple[str, str]:
    """(what counts, points)"""
    [kind] = [kind for kind in RULE_KINDS if kind in rule]
    subject, points = rule[kind], rule.get("points", 0)
    match kind:
        case "each":
            return f"each {_any_of(subject)}", f"{_number(points)} each"
        case "once":
            return f"at least one {_any_of(subject)}", _number(points)
        case "has":
            return f"{_any_of(subject)} is given", _number(points)
        case "steps":
            steps = [f"below {_number(limit)}: {_number(worth)}" for limit, worth in rule["below"]]
            steps.append(f"else: {_number(rule.get('otherwise', 0))}")
            if "since" in subject or "never" in rule:
                steps.append(f"never: {_number(rule.get('never', 0))}")
            return _code(subject), "; ".join(steps)
        case "choose":
            chosen = [f"{value}: {_number(worth)}" for value, worth in points.items()]
            return _code(subject), "; ".join([*chosen, f"else: {_number(rule.get('otherwise', 0))}"])
        case "value":
            return _condition(_code(subject), rule), _number(points)
        case "base":
            return "everybody", _number(subject)
        case _:
            assert_never(kind)


def _condition(subject: str, table: Table) -> str:
    """A value and its condition, in the operator's own words."""
    [operator] = [operator for operator in OPERATORS if operator in table]
    condition = f"{subject} {operator.replace('_', ' ')}"
    return condition if operator in {"is_set", "is_not_set"} else f"{condition} {_operand(table[operator])}"


def rule_limits(rule: Table) -> str:
    """The limits of the points; empty if there are none."""
    limits = [
        f"{_number(rule['max'])} at most" if "max" in rule else "",
        f"{_number(rule['min'])} at least" if "min" in rule else "",
        f"the latest {rule['times']}" if "times" in rule else "",
        f"{rule['times_a_day']} a day" if "times_a_day" in rule else "",
        f"halves in {_days(rule['half_life_days'])}" if "half_life_days" in rule else "",
        "fades evenly over its window" if "fades" in rule else "",
    ]
    return ", ".join(each for each in limits if each)


# Signals, bands, needs


def _signals_text(signals: Table) -> str:
    if not signals:
        return ""
    rows = [(_code(name), _signal_text(signal)) for name, signal in signals.items()]
    return "Signals of its own\n\n" + table(("signal", "which events"), rows)


def _signal_text(signal: Table) -> str:
    wheres = ([signal] if "field" in signal else []) + signal.get("where", [])
    parts = [_code(signal["event"])]
    if "source" in signal:
        parts.append(f"from {_code(signal['source'])}")
    if wheres:
        parts.append("where " + " and ".join(_condition(_code(where["field"]), where) for where in wheres))
    if "distinct" in signal:
        parts.append(f"each {_code(signal['distinct'])} once")
    return ", ".join(parts)


def _bands_text(scale: str, bands: Table) -> str:
    rows = [(name, _number(least)) for name, least in _falling(bands)]
    return table((f"band of {_code(scale)}", "from"), rows)


def _falling(bands: Table) -> list[tuple[str, Any]]:
    return sorted(bands.items(), key=lambda band: band[1], reverse=True)


def _needs_text(band: str, needs: Any) -> str:
    several = needs if isinstance(needs, list) else [needs]
    if not any(need.get(key) for need in several for key in ("minimum", "fields", "actions")):
        return ""
    return f"Beside its points **{band}** needs: {' Or: '.join(map(_need_text, several))}"


def _need_text(need: Table) -> str:
    parts = []
    if "minimum" in need:
        parts.append(f"{_number(need['minimum'])} points at least")
    if need.get("fields"):
        parts.append(f"the fields {_all_of(need['fields'])}")
    if need.get("actions"):
        within = f", each within {_days(need['within_days'])}" if "within_days" in need else ""
        parts.append(f"the actions {_all_of(need['actions'])}{within}")
    off = "" if need.get("active", True) else " (switched off)"
    requirements = "; ".join(parts) or "nothing more"
    return f"{need['name']} ({requirements}){off}." if "name" in need else f"{requirements}{off}."


def _matrix_text(name: str, matrix: Table) -> str:
    rows, columns = matrix["rows"], matrix["columns"]
    head = [f"{column}: from {_number(least)}" for column, least in _falling(columns["bands"])]
    cells = [
        (f"{row}: from {_number(least)}", *(f"{row}{column}" for column, _ in _falling(columns["bands"])))
        for row, least in _falling(rows["bands"])
    ]
    corner = f"{rows['group']} / {columns['group']}"
    return f"Bands {_code(name)}, by the points of two groups before their weights\n\n" + table(
        (corner, *head), cells
    )


def _flow_text(flow: ChatFlow) -> str:
    rows = [
        (
            str(question.id),
            question.text[flow.language],
            ", ".join(question.options[flow.language]) or "any text",
            _code(question.profile_field) if question.profile_field else "",
        )
        for question in flow.questions
    ]
    return "Questions of the chat\n\n" + table(("id", "question", "options", "fills"), rows)


# Words


def _between(lowest: Any, highest: Any) -> str:
    if lowest is not None and highest is not None:
        return f"{_number(lowest)} to {_number(highest)}"
    if highest is not None:
        return f"{_number(highest)} at most"
    return "" if lowest is None else f"{_number(lowest)} at least"


def _number(value: Any) -> str:
    return f"{Decimal(value):f}"


def _days(value: Any) -> str:
    return f"{_number(value)} {'day' if value == 1 else 'days'}"


def _code(value: Any) -> str:
    return f"`{value}`"


def _any_of(subject: Any) -> str:
    return " or ".join(map(_code, subject if isinstance(subject, list) else [subject]))


def _all_of(names: list[str]) -> str:
    return ", ".join(map(_code, names))


def _operand(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_operand, value))
    return _code(value) if isinstance(value, str) else _number(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

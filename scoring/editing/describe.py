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


def describe_model(text: str) -> str:
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
        *(_requirements_text(band, needs) for band, needs in document.get("needs", {}).items()),
        *(_matrix_text(name, matrix) for name, matrix in document.get("matrix", {}).items()),
        _flags_text(document.get("flag", [])),
        "" if model.flow is None else _flow_text(model.flow),
    ]
    return "\n\n".join(part for part in parts if part)


# The whole


def _model_text(document: Table) -> str:
    sentences = []
    limits = _range_text(document.get("min"), document.get("max"))
    if document.get("reads") == "session":
        sentences.append("Its rules see one web session at a time.")
        lead = document.get("lead", {})
        half_life = lead.get("half_life_days")
        decay_text = (
            f", one that is {_days_text(half_life)} older than the newest counting half" if half_life else ""
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
        sentences.append(
            f"Each full day without an interaction takes {_number_text(decay['points'])} points."
        )
    elif decay:
        sentences.append(f"Without an interaction it halves in {_days_text(decay['half_life_days'])}.")
    if document.get("band_on") == "rounded":
        sentences.append("Bands go by the rounded total; the total keeps its decimals.")
    return " ".join(sentences)


# Rules


def _group_text(name: str, group: Table) -> str:
    details = [_range_text(group.get("min"), group.get("max"))]
    if "weight" in group:
        details.append(f"weighted {_number_text(group['weight'])}")
    heading = f"**{name}**" + "".join(f", {each}" for each in details if each)
    rules = group.get("rules", [])
    if not rules:
        return f"{heading}: no rules."
    rows = [(_rule_name(rule), *describe_rule(rule), rule_limits_text(rule)) for rule in rules]
    return f"{heading}\n\n" + markdown_table(("rule", "what counts", "points", "limits"), rows)


def _rule_name(rule: Table) -> str:
    return str(rule["name"]) + ("" if rule.get("active", True) else " (switched off)")


def describe_rule(rule: Table) -> tuple[str, str]:
    """(what counts, points)"""
    [kind] = [kind for kind in RULE_KINDS if kind in rule]
    subject, points = rule[kind], rule.get("points", 0)
    match kind:
        case "each":
            return f"each {_any_of_text(subject)}{_site_text(rule)}", f"{_number_text(points)} each"
        case "once":
            return f"at least one {_any_of_text(subject)}{_site_text(rule)}", _number_text(points)
        case "sequence":
            return _sequence_text(rule), f"{_number_text(points)} each"
        case "has":
            return f"{_any_of_text(subject)} is given", _number_text(points)
        case "steps":
            steps = [f"below {_number_text(limit)}: {_number_text(worth)}" for limit, worth in rule["below"]]
            steps.append(f"else: {_number_text(rule.get('otherwise', 0))}")
            if "since" in subject or "never" in rule:
                steps.append(f"never: {_number_text(rule.get('never', 0))}")
            return _as_code(subject), "; ".join(steps)
        case "choose":
            chosen = [f"{value}: {_number_text(worth)}" for value, worth in points.items()]
            return _as_code(subject), "; ".join([*chosen, f"else: {_number_text(rule.get('otherwise', 0))}"])
        case "value":
            return _condition_text(_as_code(subject), rule), _number_text(points)
        case "base":
            return "everybody", _number_text(subject)
        case _:
            assert_never(kind)


def _sequence_text(table: Table) -> str:
    """A sequence of a rule or a signal."""
    steps = ", then ".join(map(_as_code, table["sequence"]))
    return f"{steps}, within {table['within']}{_site_text(table)}"


def _site_text(table: Table) -> str:
    if "site" not in table:
        return ""
    sites = table["site"] if isinstance(table["site"], list) else [table["site"]]
    return f" on {' or '.join(map(_as_code, sites))}"


def _condition_text(subject: str, table: Table) -> str:
    """A value and its condition, in the operator's own words."""
    [operator] = [operator for operator in OPERATORS if operator in table]
    condition = f"{subject} {operator.replace('_', ' ')}"
    return (
        condition if operator in {"is_set", "is_not_set"} else f"{condition} {_operand_text(table[operator])}"
    )


def rule_limits_text(rule: Table) -> str:
    """The limits of the points; empty if there are none."""
    limits = [
        f"{_number_text(rule['max'])} at most" if "max" in rule else "",
        f"{_number_text(rule['min'])} at least" if "min" in rule else "",
        f"the latest {rule['times']}" if "times" in rule else "",
        f"{rule['times_a_day']} a day" if "times_a_day" in rule else "",
        f"halves in {_days_text(rule['half_life_days'])}" if "half_life_days" in rule else "",
        "fades evenly over its window" if "fades" in rule else "",
    ]
    return ", ".join(each for each in limits if each)


# Signals, bands, needs


def _signals_text(signals: Table) -> str:
    if not signals:
        return ""
    rows = [(_as_code(name), _signal_text(signal)) for name, signal in signals.items()]
    return "Signals of its own\n\n" + markdown_table(("signal", "which events"), rows)


def _signal_text(signal: Table) -> str:
    if "sequence" in signal:
        return _sequence_text(signal)
    wheres = ([signal] if "field" in signal else []) + signal.get("where", [])
    parts = [_as_code(signal["event"])]
    if "source" in signal:
        parts.append(f"from {_as_code(signal['source'])}")
    if wheres:
        parts.append(
            "where " + " and ".join(_condition_text(_as_code(where["field"]), where) for where in wheres)
        )
    if "site" in signal:
        parts.append(_site_text(signal).strip())
    if "distinct" in signal:
        parts.append(f"each {_as_code(signal['distinct'])} once")
    return ", ".join(parts)


def _bands_text(scale: str, bands: Table) -> str:
    rows = [(name, _number_text(least)) for name, least in _bands_from_highest(bands)]
    return markdown_table((f"band of {_as_code(scale)}", "from"), rows)


def _bands_from_highest(bands: Table) -> list[tuple[str, Any]]:
    return sorted(bands.items(), key=lambda band: band[1], reverse=True)


def _requirements_text(band: str, needs: Any) -> str:
    several = needs if isinstance(needs, list) else [needs]
    if not any(need.get(key) for need in several for key in ("minimum", "fields", "actions")):
        return ""
    return f"Beside its points **{band}** needs: {' Or: '.join(map(_requirement_text, several))}"


def _requirement_text(need: Table) -> str:
    parts = []
    if "minimum" in need:
        parts.append(f"{_number_text(need['minimum'])} points at least")
    if need.get("fields"):
        parts.append(f"the fields {_all_of_text(need['fields'])}")
    if need.get("actions"):
        within = f", each within {_days_text(need['within_days'])}" if "within_days" in need else ""
        parts.append(f"the actions {_all_of_text(need['actions'])}{within}")
    off = "" if need.get("active", True) else " (switched off)"
    requirements = "; ".join(parts) or "nothing more"
    return f"{need['name']} ({requirements}){off}." if "name" in need else f"{requirements}{off}."


def _matrix_text(name: str, matrix: Table) -> str:
    rows, columns = matrix["rows"], matrix["columns"]
    head = [
        f"{column}: from {_number_text(least)}" for column, least in _bands_from_highest(columns["bands"])
    ]
    cells = [
        (
            f"{row}: from {_number_text(least)}",
            *(f"{row}{column}" for column, _ in _bands_from_highest(columns["bands"])),
        )
        for row, least in _bands_from_highest(rows["bands"])
    ]
    corner = f"{rows['group']} / {columns['group']}"
    return f"Bands {_as_code(name)}, by the points of two groups before their weights\n\n" + markdown_table(
        (corner, *head), cells
    )


def _flags_text(flags: list[Table]) -> str:
    """One row for each flag."""
    if not flags:
        return ""
    rows = [
        (
            flag["colour"],
            _as_code(flag["name"]),
            flag["text"],
            " and ".join(map(_flag_condition_text, flag["when"])),
        )
        for flag in flags
    ]
    return "Flags\n\n" + markdown_table(("colour", "flag", "says", "while"), rows)


def _flag_condition_text(condition: Table) -> str:
    if "none_of" in condition:
        since = f" since the last {_as_code(condition['since'])}" if "since" in condition else ""
        return f"no {_all_of_text(condition['none_of'])}{since}"
    rest = dict(condition)
    kind = next(kind for kind in ("value", "has", "once") if kind in rest)
    subject = rest.pop(kind)
    names = subject if isinstance(subject, list) else [subject]
    listed = " or ".join(map(_as_code, names))
    if kind != "value":
        return f"{'has' if kind == 'has' else 'once'} {listed}"
    ((operator, operand),) = rest.items()
    return f"{listed} {operator.replace('_', ' ')} {operand}".rstrip()


def _flow_text(flow: ChatFlow) -> str:
    rows = [
        (
            str(question.id),
            question.text[flow.language],
            ", ".join(question.options[flow.language]) or "any text",
            _as_code(question.profile_field) if question.profile_field else "",
        )
        for question in flow.questions
    ]
    return "Questions of the chat\n\n" + markdown_table(("id", "question", "options", "fills"), rows)


# Words


def _range_text(lowest: Any, highest: Any) -> str:
    if lowest is not None and highest is not None:
        return f"{_number_text(lowest)} to {_number_text(highest)}"
    if highest is not None:
        return f"{_number_text(highest)} at most"
    return "" if lowest is None else f"{_number_text(lowest)} at least"


def _number_text(value: Any) -> str:
    return f"{Decimal(value):f}"


def _days_text(value: Any) -> str:
    return f"{_number_text(value)} {'day' if value == 1 else 'days'}"


def _as_code(value: Any) -> str:
    return f"`{value}`"


def _any_of_text(subject: Any) -> str:
    return " or ".join(map(_as_code, subject if isinstance(subject, list) else [subject]))


def _all_of_text(names: list[str]) -> str:
    return ", ".join(map(_as_code, names))


def _operand_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_operand_text, value))
    return _as_code(value) if isinstance(value, str) else _number_text(value)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines)


def _markdown_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

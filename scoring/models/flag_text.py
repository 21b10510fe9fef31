"""Reads the flags of a model's text, `[[flag]]`: name, colour, text and conditions in the language of rules."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from scoring.features.comparison import ValueComparison
from scoring.features.operators import OPERATOR_TEXTS, OPERATORS, OperandError
from scoring.features.signals import SignalDefinition
from scoring.features.view import View
from scoring.features.words import any_of_words, words_of
from scoring.models.band_text import NAME_PATTERN
from scoring.models.flags import COLOURS, FLAG, Flag, FlagCondition
from scoring.models.phrases import PhraseError, Reads, stored_signal
from scoring.models.rules import RULE_KINDS, RuleError, compile_rule
from scoring.models.text_refusals import ModelError, TomlTable, line_of, shorten_value

MOST_FLAGS: Final = 16
MOST_CONDITIONS: Final = 8
MOST_SIGNALS_OF_NONE: Final = 16
LONGEST_FLAG_TEXT: Final = 200
OWN_SCORE: Final = "score"
_KINDS: Final = ("value", "has", "once", "none_of")
_KEYS: Final = frozenset({"name", "colour", "when", "text"})


def compile_flags(
    text: str,
    document: TomlTable,
    defined: Mapping[str, SignalDefinition],
    by: ValueComparison,
    *,
    by_session: bool,
) -> tuple[Flag, ...]:
    """The flags of a model's text. Raises ModelError."""
    tables = document.get(FLAG, [])
    header = rf"^[ \t]*\[\[{FLAG}\]\]"
    where = f"line {line_of(text, header)}"
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ModelError(f"{where}: flags are a list: write [[flag]] above each")
    if by_session and tables:
        raise ModelError(f'{where}: a model that reads = "session" has no flags')
    if len(tables) > MOST_FLAGS:
        raise ModelError(f"{where}: a model has at most {MOST_FLAGS} flags, not {len(tables)}")
    flags: list[Flag] = []
    for table in tables:
        name = table.get("name")
        line = line_of(text, rf"\bname\s*=\s*[\"']{name}[\"']" if isinstance(name, str) else header, header)
        try:
            flag = _flag(table, {flag.name for flag in flags}, defined, by)
        except (RuleError, PhraseError) as wrong:
            raise ModelError(f"line {line}, flag {shorten_value(name)}: {wrong}") from None
        flags.append(flag)
    return tuple(flags)


def _flag(
    table: TomlTable, taken: set[str], defined: Mapping[str, SignalDefinition], by: ValueComparison
) -> Flag:
    if unknown := sorted(table.keys() - _KEYS):
        raise RuleError(f"unknown: {', '.join(unknown)}; a flag has {', '.join(sorted(_KEYS))}")
    name, colour, text, conditions = (table.get(key) for key in ("name", "colour", "text", "when"))
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise RuleError(f"name = {shorten_value(name)} is not a name of small letters, digits and _")
    if name in taken:
        raise RuleError("two flags have this name")
    if colour not in COLOURS:
        raise RuleError(f"colour is red or green, not {shorten_value(colour)}")
    if not isinstance(text, str) or not 1 <= len(text.strip()) <= LONGEST_FLAG_TEXT or not text.isprintable():
        raise RuleError(f"text is one line of 1 to {LONGEST_FLAG_TEXT} characters")
    if not isinstance(conditions, list) or not 1 <= len(conditions) <= MOST_CONDITIONS:
        raise RuleError(f'when is a list of 1 to {MOST_CONDITIONS} conditions, such as [{{ has = "phone" }}]')
    compiled = tuple(_condition(each, defined, by) for each in conditions)
    return Flag(name, "red" if colour == "red" else "green", text, compiled)


def _condition(table: Any, defined: Mapping[str, SignalDefinition], by: ValueComparison) -> FlagCondition:
    kinds = [kind for kind in (*RULE_KINDS, "none_of") if isinstance(table, dict) and kind in table]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise RuleError(f"a condition has one of {', '.join(_KINDS)}, not {shorten_value(table)}")
    for key in ("name", "points", "id", "priority", "active", "min", "max", "site"):
        if key in table:
            raise RuleError(f"{key} belongs to rules; a condition only holds or does not")
    if kinds == ["none_of"]:
        return _none_of(table, defined)
    if table.get("value") == OWN_SCORE:
        return _score_condition(table, by)
    body = compile_rule({**table, "name": FLAG, "points": 1}, defined, by).body
    if body.reads.sessions:
        raise RuleError("session... is of one session, and a flag is of a lead")
    evidence: Callable[[View, int], str] = lambda view, _: body.evidence(view)  # noqa: E731 - as the others
    if kinds == ["once"]:
        names = table["once"] if isinstance(table["once"], list) else [table["once"]]
        evidence = lambda _view, _total: f"{any_of_words(names)} has happened"  # noqa: E731 - as above
    return FlagCondition(
        lambda view, _: body.points(view) > 0, evidence, body.reads, body.windows, body.moments
    )


def _score_condition(table: TomlTable, by: ValueComparison) -> FlagCondition:
    rest = {key: value for key, value in table.items() if key != "value"}
    if len(rest) != 1 or not rest.keys() <= OPERATORS.keys():
        raise RuleError(f"score wants one operator, not {', '.join(sorted(rest)) or 'none'}")
    ((operator, operand),) = rest.items()
    if OPERATORS[operator].operand_type not in {"any", "number"}:
        raise RuleError(f"{operator} asks of a text, and the score is a number")
    try:
        is_true = OPERATORS[operator].parse(operand, by)
    except OperandError as wrong:
        raise RuleError(f"{operator} {wrong}") from None
    needed = f"{OPERATOR_TEXTS[operator]} {shorten_value(operand)}".strip()
    return FlagCondition(
        lambda _, total: bool(is_true(total)), lambda _, total: f"score: {total} (needed: {needed})"
    )


def _none_of(table: TomlTable, defined: Mapping[str, SignalDefinition]) -> FlagCondition:
    """None of these signals came after the last `since`; without `since`, or before it came, none ever."""
    if unknown := sorted(table.keys() - {"none_of", "since"}):
        raise RuleError(f"unknown: {', '.join(unknown)}")
    names, since = table["none_of"], table.get("since")
    if (
        not isinstance(names, list)
        or not 1 <= len(names) <= MOST_SIGNALS_OF_NONE
        or not all(isinstance(name, str) for name in names)
        or not (since is None or isinstance(since, str))
    ):
        raise RuleError(f"none_of is a list of 1 to {MOST_SIGNALS_OF_NONE} signals, and since one signal")
    stored = [stored_signal(defined, name) for name in names]
    begin = None if since is None else stored_signal(defined, since)

    def is_met(view: View, _total: int) -> bool:
        start = None if begin is None else view.signals.get(begin)
        done = [signal.last for name in stored if (signal := view.signals.get(name)) is not None]
        return not done or (start is not None and max(done) < start.last)

    listed = any_of_words(names)
    after = f" since the last {words_of(since)}" if since else ""
    reads = Reads(signals=frozenset([*stored, *([] if begin is None else [begin])]))
    return FlagCondition(is_met, lambda _view, _total: f"no {listed}{after}", reads)

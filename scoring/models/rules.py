"""The eight kinds of rule: each, once, sequence, has, steps, choose, value, base.

A rule is compiled once into a function from a `View` to points (thousandths, before its cap and floor). The compiled
rule also knows what it reads, when time alone may change it, and how to explain its points in words. Unknown keys and
wrong operands are refused with the reason.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from schemas.moment import moment
from scoring.features.comparison import NEWEST_COMPARISON, Number, ValueComparison
from scoring.features.operators import OPERATOR_TEXTS, OPERATORS, OperandError, is_scalar
from scoring.features.sequence_signals import SEQUENCE, define_sequence, signals_on_sites
from scoring.features.sequences import KeptSequence, occurrences_of
from scoring.features.signals import SignalDefinition, SignalError
from scoring.features.view import View
from scoring.features.words import any_of_words, words_of
from scoring.models.counting import COUNTING_KEYS, CountingError, LimitedCounting, compile_counting
from scoring.models.phrase_words import elapsed_in_words, words_of_phrase, words_of_step
from scoring.models.phrases import PhraseError, Reads, SignalWindows, ValuePhrase, join_reads, parse_phrase
from scoring.models.points import MilliPoints, PointsError, points_text, read_milli_points
from scoring.models.text_refusals import TomlTable, is_whole_number, shorten_value

LONGEST_RULE_NAME = 100
LONGEST_PHRASE_LIST = 64
LARGEST_RULE_ID = 2**53 - 1
"""Every JSON reader keeps whole numbers up to this exactly."""

DefinedSignals = Mapping[str, SignalDefinition]


class RuleError(ValueError):
    """The rule is wrong; the message gives the reason."""


class RuleBody(NamedTuple):
    """A compiled rule without its name, cap and floor."""

    points: Callable[[View], MilliPoints]
    evidence: Callable[[View], str]
    reads: Reads = Reads()
    windows: tuple[SignalWindows, ...] = ()
    moments: tuple[tuple[str, int], ...] = ()
    """(signal, milliseconds after it) at which time alone may change the points."""
    signals: tuple[SignalDefinition, ...] = ()
    """What the rule itself defines: its sequence, or what it counts on its sites only."""


class Rule(NamedTuple):
    name: str
    cap: MilliPoints | None
    body: RuleBody
    floor: MilliPoints | None = None
    id: int | None = None
    """The rule's id in the API; None in texts that the API never edited."""
    priority: int = 0
    """The position in the API's list; points do not depend on it."""


def compile_rule(
    table: Mapping[str, Any], defined: DefinedSignals, by: ValueComparison = NEWEST_COMPARISON
) -> Rule:
    """Compile one rule, which compares values `by`; RuleError gives the reason if it is wrong."""
    rest = dict(table)
    name = rest.pop("name", None)
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_RULE_NAME:
        raise RuleError(f"name = {name!r} is not a text of 1 to {LONGEST_RULE_NAME} characters")
    rest.pop("active", None)
    rule_id, priority = rest.pop("id", None), rest.pop("priority", 0)
    if rule_id is not None and not is_whole_number(rule_id, 1, LARGEST_RULE_ID):
        raise RuleError(f"id is a whole number from 1 to {LARGEST_RULE_ID}, not {shorten_value(rule_id)}")
    if not is_whole_number(priority, -LARGEST_RULE_ID, LARGEST_RULE_ID):
        raise RuleError(f"priority is a whole number, not {shorten_value(priority)}")
    kinds = [kind for kind in RULE_KINDS if kind in rest]
    if len(kinds) != 1:
        raise RuleError(f"wants one of {', '.join(RULE_KINDS)}, not {' and '.join(kinds) or 'none'}")
    if kinds != ["each"] and (repeats := [key for key in COUNTING_KEYS if key in rest]):
        raise RuleError(f"{repeats[0]} is for each rules, and this one is {kinds[0]}")
    if "site" in rest and kinds[0] not in {"each", "once", SEQUENCE}:
        raise RuleError(f"site is for each, once and sequence rules, and this one is {kinds[0]}")
    try:
        floor, cap = pop_cap_and_floor(rest)
        on_sites = _signals_on_sites(rest, defined) if kinds[0] != SEQUENCE else {}
        body = RULE_KINDS[kinds[0]](rest.pop(kinds[0]), rest, {**defined, **on_sites}, by)
        body = body._replace(signals=(*body.signals, *on_sites.values()))
    except (PhraseError, PointsError, CountingError, SignalError) as wrong:
        raise RuleError(str(wrong)) from None
    if rest:
        raise RuleError(f"unknown: {', '.join(rest)}")
    return Rule(name, cap, body, floor, rule_id, priority)


def pop_cap_and_floor(table: TomlTable) -> tuple[MilliPoints | None, MilliPoints | None]:
    """Remove `min` and `max` from the table of a rule or a group; PointsError if one is on the wrong side of 0."""
    floor = read_milli_points(table.pop("min")) if "min" in table else None
    cap = read_milli_points(table.pop("max")) if "max" in table else None
    if floor is not None and floor > 0:
        raise PointsError("min is above 0: it limits what negative points take")
    if cap is not None and cap < 0:
        raise PointsError("max is below 0: it limits what points add")
    return floor, cap


def points_phrase(points: MilliPoints) -> str:
    return f"{points_text(points * 1000)} {'point' if abs(points) == 1000 else 'points'}"


def _each_rule(subject: Any, table: TomlTable, defined: DefinedSignals, _by: ValueComparison) -> RuleBody:
    points, phrases = _pop_points(table), _count_phrases(subject, "each", defined)
    count, limited = _sum_of_phrases(phrases), compile_counting(table, phrases)
    if limited is not None:
        return _limited_each_rule(points, phrases, limited)
    if len(phrases) == 1:
        read = phrases[0].read
        award = lambda view: points * read(view)  # noqa: E731 - one call less on the hottest path
    else:
        award = lambda view: points * count(view)  # noqa: E731 - as above
    return _rule_body(award, lambda view: f"{count(view)} x {points_phrase(points)}", phrases)


def _limited_each_rule(points: MilliPoints, phrases: list[ValuePhrase], limited: LimitedCounting) -> RuleBody:
    """An `each` rule that does not count every event in full."""
    count = _sum_of_phrases(phrases)

    def evidence(view: View) -> str:
        total, counted = count(view), limited.occurrences(view).counted
        only = "" if total == counted else f", counted {counted} x"
        decay_text = f", {limited.decay_text}" if limited.decay_text and counted else ""
        return f"{total} x{only} {points_phrase(points)}{decay_text}"

    if limited.decay_text:
        phrases = [
            phrase
            if phrase.windows is None
            else phrase._replace(windows=phrase.windows._replace(decaying=True))
            for phrase in phrases
        ]
    return _rule_body(lambda view: limited.award(points, view), evidence, phrases)


def _once_rule(subject: Any, table: TomlTable, defined: DefinedSignals, _by: ValueComparison) -> RuleBody:
    points, phrases = _pop_points(table), _count_phrases(subject, "once", defined)
    count = _sum_of_phrases(phrases)
    return _rule_body(
        lambda view: points if count(view) else 0,
        lambda view: points_phrase(points) if count(view) else "not yet",
        phrases,
    )


def _sequence_rule(subject: Any, table: TomlTable, defined: DefinedSignals, _by: ValueComparison) -> RuleBody:
    points = _pop_points(table)
    sequence = define_sequence(subject, table.pop("within", None), table.pop("site", None), defined)
    [phrase] = _count_phrases(SEQUENCE, SEQUENCE, {SEQUENCE: sequence})
    read = phrase.read

    def evidence(view: View) -> str:
        count, kept = read(view), view.sequences.get(sequence.stored)
        if not count:
            return f"not yet {', then '.join(map(words_of_step, subject))}"
        return f"{count} x {points_phrase(points)}{_latest_occurrence_text(subject, kept)}"

    return _rule_body(lambda view: points * read(view), evidence, [phrase])._replace(signals=(sequence,))


def _latest_occurrence_text(steps: list[str], kept: KeptSequence | None) -> str:
    """Which events completed the sequence last; empty if they are no longer kept."""
    completed = [] if kept is None else occurrences_of(kept)
    if kept is None or not completed:
        return ""
    events = (kept.events[position] for position in completed[-1])
    listed = [
        f"{words_of_step(step)} at {moment(at):%Y-%m-%d %H:%M:%S} UTC"
        for step, (at, *_) in zip(steps, events, strict=True)
    ]
    return f", last by {', then '.join(listed)}"


def _signals_on_sites(table: TomlTable, defined: DefinedSignals) -> dict[str, SignalDefinition]:
    """What an each or once rule with `site` counts, under the names that its phrases use; removes `site`."""
    if "site" not in table:
        return {}
    phrases = _phrase_texts(table.get("each", table.get("once")))
    matches = [_COUNTED_NAME.match(text) if isinstance(text, str) else None for text in phrases]
    return signals_on_sites(
        table.pop("site"),
        [str(text) if match is None else match[1] for text, match in zip(phrases, matches, strict=True)],
        defined,
    )


_COUNTED_NAME = re.compile(r"(?:distinct )?((?:custom:)?[a-z][a-z0-9_]*)(?: in \d{1,9} days?)?$", re.ASCII)
"""The signal that a phrase counts."""


def _has_rule(subject: Any, table: TomlTable, defined: DefinedSignals, by: ValueComparison) -> RuleBody:
    points, names = _pop_points(table), _phrase_texts(subject)
    if not all(isinstance(name, str) for name in names):
        raise RuleError(f"has wants names of profile fields, not {subject!r}")
    phrases = [parse_phrase(f"profile.{name}", defined) for name in names]
    reads = [phrase.read for phrase in phrases]

    def award(view: View) -> MilliPoints:
        for read in reads:
            if not by.is_blank(read(view)):
                return points
        return 0

    def evidence(view: View) -> str:
        given_one = next(
            (n for n, read in zip(names, reads, strict=True) if not by.is_blank(read(view))), None
        )
        return f"no {any_of_words(names)}" if given_one is None else f"has {words_of(given_one)}"

    return _rule_body(award, evidence, phrases)


def _steps_rule(subject: Any, table: TomlTable, defined: DefinedSignals, by: ValueComparison) -> RuleBody:
    phrase = parse_phrase(subject, defined)
    if phrase.gives == "text":
        raise RuleError(f"steps wants a number, and {subject!r} is a text")
    below, otherwise = table.pop("below", None), read_milli_points(table.pop("otherwise", 0))
    never = read_milli_points(table.pop("never", 0))
    if not isinstance(below, list) or not 1 <= len(below) <= LONGEST_PHRASE_LIST:
        raise RuleError("below wants a list of [limit, points]")
    steps: list[tuple[Number, MilliPoints]] = []
    for step in below:
        limit = by.number(step[0]) if isinstance(step, list) and len(step) == 2 else None
        if limit is None or (phrase.elapsed is not None and not isinstance(step[0], int)):
            raise RuleError(f"below wants [limit, points], not {step!r}")
        if steps and limit <= steps[-1][0]:
            raise RuleError("the limits in below must rise")
        steps.append((limit, read_milli_points(step[1])))
    read = phrase.read

    def award(view: View) -> MilliPoints:
        value = by.number(read(view))
        if value is None:
            return never
        for limit, points in steps:
            if value < limit:
                return points
        return otherwise

    def evidence(view: View) -> str:
        value = by.number(read(view))
        return _comparison_text(phrase, value, by)

    return _rule_body(award, evidence, [phrase], [int(limit) for limit, _ in steps])


def _choose_rule(subject: Any, table: TomlTable, defined: DefinedSignals, by: ValueComparison) -> RuleBody:
    phrase, points_table = parse_phrase(subject, defined), table.pop("points", None)
    otherwise = read_milli_points(table.pop("otherwise", 0))
    if (
        phrase.elapsed is not None
        or not isinstance(points_table, dict)
        or not 1 <= len(points_table) <= LONGEST_PHRASE_LIST
    ):
        raise RuleError("choose wants a phrase that names something, and points = { value = points, ... }")
    points_of = {by.normalized(value): read_milli_points(points) for value, points in points_table.items()}
    if len(points_of) != len(points_table):
        raise RuleError("two values in points are the same to a comparison")
    read = phrase.read
    word_by_flag = {by.flag(value): by.normalized(value) for value in reversed(points_table)}

    def chosen(view: View) -> Any:
        raw = read(view)
        value = by.normalized(raw)
        if isinstance(raw, bool) and value not in points_of:
            return word_by_flag.get(raw, value)
        return str(value) if isinstance(value, int) else value

    def award(view: View) -> MilliPoints:
        value = chosen(view)
        if isinstance(value, list):
            listed = (points_of[key] for item in value if (key := by.normalized(item)) in points_of)
            return next(listed, otherwise)
        return 0 if value is None else points_of.get(value, otherwise)

    return _rule_body(award, lambda view: _comparison_text(phrase, read(view), by), [phrase])


def _value_rule(subject: Any, table: TomlTable, defined: DefinedSignals, by: ValueComparison) -> RuleBody:
    points, phrase = _pop_points(table), parse_phrase(subject, defined)
    operators = [operator for operator in OPERATORS if operator in table]
    if len(operators) != 1:
        raise RuleError(f"value wants one operator, not {' and '.join(operators) or 'none'}")
    operator, operand = operators[0], table.pop(operators[0])
    operand_type = OPERATORS[operator].operand_type
    if (operand_type == "text" and phrase.gives in {"count", "number"}) or (
        operand_type == "number" and phrase.gives == "text"
    ):
        gives = "a text" if phrase.gives == "text" else "a number"
        raise RuleError(f"{operator} asks of a {operand_type}, and {subject!r} is {gives}")
    try:
        holds = OPERATORS[operator].parse(operand, by)
    except OperandError as wrong:
        raise RuleError(f"{operator} {wrong}") from None
    if phrase.gives in {"count", "number"} and operator not in {"is_set", "is_not_set"}:
        for each in operand if isinstance(operand, list) else [operand]:
            if by.number(each) is None:
                raise RuleError(f"{operator}: {each!r} is not a number, and {subject!r} is")
    read = phrase.read
    bare = operator in {"is_set", "is_not_set"}
    expected = (
        OPERATOR_TEXTS[operator] if bare else f"{OPERATOR_TEXTS[operator]} {_listed_values(operand)}".strip()
    )

    def evidence(view: View) -> str:
        value = read(view)
        text = _comparison_text(phrase, value, by)
        is_evident = operator in {"equals", "is_set"} and holds(value)
        return text if is_evident else f"{text} (needed: {expected})"

    return _rule_body(
        lambda view: points if holds(read(view)) else 0,
        evidence,
        [phrase],
        _turning_points(operand, by),
    )


def _base_rule(subject: Any, _table: TomlTable, _defined: DefinedSignals, _by: ValueComparison) -> RuleBody:
    points = read_milli_points(subject)
    return RuleBody(lambda _: points, lambda _: "always")


RuleKind = Literal["each", "once", "sequence", "has", "steps", "choose", "value", "base"]

RULE_KINDS: dict[RuleKind, Callable[[Any, TomlTable, DefinedSignals, ValueComparison], RuleBody]] = {
    "each": _each_rule,
    "once": _once_rule,
    "sequence": _sequence_rule,
    "has": _has_rule,
    "steps": _steps_rule,
    "choose": _choose_rule,
    "value": _value_rule,
    "base": _base_rule,
}


def _rule_body(
    award: Callable[[View], MilliPoints],
    evidence: Callable[[View], str],
    phrases: list[ValuePhrase],
    limits: list[int] | None = None,
) -> RuleBody:
    return RuleBody(
        award,
        evidence,
        join_reads(phrase.reads for phrase in phrases),
        tuple(phrase.windows for phrase in phrases if phrase.windows is not None),
        tuple(
            (phrase.elapsed.signal, limit * phrase.elapsed.unit)
            for phrase in phrases
            if phrase.elapsed is not None
            for limit in limits or ()
        ),
    )


def _pop_points(table: TomlTable) -> MilliPoints:
    if "points" not in table:
        raise RuleError("points is missing")
    return read_milli_points(table.pop("points"))


def _phrase_texts(subject: Any) -> list[Any]:
    items = subject if isinstance(subject, list) else [subject]
    if not 1 <= len(items) <= LONGEST_PHRASE_LIST:
        raise RuleError(f"wants 1 to {LONGEST_PHRASE_LIST} things, not {len(items)}")
    return items


def _count_phrases(subject: Any, kind: str, defined: DefinedSignals) -> list[ValuePhrase]:
    phrases = [parse_phrase(text, defined) for text in _phrase_texts(subject)]
    for phrase in phrases:
        if phrase.gives != "count":
            raise RuleError(f"{kind} counts, and {phrase.text!r} is no count; use steps, value or choose")
    return phrases


def _sum_of_phrases(phrases: list[ValuePhrase]) -> Callable[[View], int]:
    reads = [phrase.read for phrase in phrases]
    return lambda view: sum([read(view) for read in reads])


def _turning_points(operand: Any, by: ValueComparison) -> list[int]:
    """The whole numbers at which a comparison with the operand may change its result."""
    points = []
    for each in operand if isinstance(operand, list) else [operand]:
        limit = by.number(each) if is_scalar(each) else None
        if limit is not None:
            points += [math.floor(limit), math.floor(limit) + 1]
    return points


def _comparison_text(phrase: ValuePhrase, value: Any, by: ValueComparison) -> str:
    if phrase.elapsed is not None:
        elapsed = None if value is None else elapsed_in_words(value, phrase.text)
        return (
            elapsed
            or f"no {words_of_phrase(phrase.text).partition(' since ')[2].removeprefix('the last ')} yet"
        )
    name = words_of_phrase(phrase.text)
    if phrase.gives in {"count", "number"} and value is not None:
        return f"{name}: {_listed_values(value)}"
    return f"no {name}" if by.is_blank(value) else f"{name} is {_listed_values(value)}"


def _listed_values(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value[:5]) + (", ..." if len(value) > 5 else "")
    return str(value)

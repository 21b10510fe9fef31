"""A model's text (TOML) read, checked and compiled. Refuses everything it does not fully understand.

A refusal names the line, the group, the rule and the reason, so that the person who wrote the rule can
mend it. Limits on size keep a hostile or mistaken text from costing more than a moment.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from scoring.calendar import DAY
from scoring.features import FIELDS_KEPT
from scoring.operators import number
from scoring.phrases import PhraseError, Reads, joined, parse
from scoring.plan import Decay, Group, Mean, Model, Need, half_life, lines_of, slots_of
from scoring.points import Micro, PointsError, milli
from scoring.rules import LONGEST_NAME, Rule, RuleError, compile_rule
from scoring.signals import INTERACTION, Definition, SignalError, define

LONGEST_TEXT = 200_000
MOST_RULES = 200
MOST_GROUPS = 32
MOST_SIGNALS = 64
MOST_SCALES = 8
MOST_BANDS = 32
MOST_NEEDS = 8
LONGEST_NEED_DAYS = 3_650
MOST_SESSIONS = 200

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_KEYS = frozenset(
    {"model", "about", "reads", "lead", "min", "max", "decay", "round", "bands", "band_on"}
    | {"needs", "signals", "groups"}
)

Table = dict[str, Any]
Defined = Mapping[str, Definition]


class ModelError(ValueError):
    """The model text is refused; the message says where and why."""


def compile_model(text: str) -> Model:
    """Compile a model's text; ModelError names line, group, rule and reason."""
    document = _document(text)
    unknown = sorted(document.keys() - _KEYS)
    if unknown:
        raise _refusal(text, unknown[0], f"unknown; a model has {', '.join(sorted(_KEYS))}")
    name = document.get("model")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problem = "missing: give the model a name" if name is None else f"{name!r} is not a name"
        raise _refusal(text, "model", f"{problem} of small letters, digits and _")
    if not isinstance(document.get("about", ""), str):
        raise _refusal(text, "about", "wants a text")
    mean = _mean(text, document)
    defined = _signals(text, document)
    groups = _groups(text, document, defined, by_session=mean is not None)
    scales = _scales(text, document)
    needs = _needs(text, document, defined, scales)
    lowest, highest = (_bound(text, document, key) for key in ("min", "max"))
    if lowest is not None and highest is not None and lowest > highest:
        raise _refusal(text, "min", "above max")
    decay = _decay(text, document)
    if mean is not None and (decay or needs):
        raise _refusal(text, "decay" if decay else "needs", 'a model that reads = "session" has none')
    rounding = _one_of(text, document, "round", "half up") is not None
    limited = lowest is not None or highest is not None
    bodies = [rule.body for group in groups for rule in group.rules]
    fading = Reads(signals=frozenset({INTERACTION} if decay else ()))
    reads = joined([*(body.reads for body in bodies), _needed(needs), fading])
    moments = [moment for body in bodies for moment in body.moments]
    moments += [
        (action, need.within)
        for several in needs.values()
        for need in several
        for action in need.actions
        if need.within is not None
    ]
    windows = [(w.signal, length) for body in bodies for w in body.windows for length in w.lengths]
    return Model(
        name=name,
        groups=groups,
        slots=slots_of(
            groups, limited=limited, decays=decay is not None, mean=mean is not None, rounding=rounding
        ),
        scales=scales,
        band_on_rounded=_one_of(text, document, "band_on", "rounded", "total") == "rounded",
        needs=needs,
        lowest=lowest,
        highest=highest,
        decay=decay,
        mean=mean,
        rounding=rounding,
        signals=tuple(defined.values()),
        reads=reads,
        windows=_gathered(windows),
        moments=_gathered(moments),
        lines=lines_of(groups),
    )


def _document(text: str) -> Table:
    if len(text) > LONGEST_TEXT:
        raise ModelError(f"a model has at most {LONGEST_TEXT:,} characters, not {len(text):,}")
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as broken:
        where = re.search(r"\(at line (\d+), column \d+\)", str(broken))
        line = where[1] if where else str(text.count("\n") + 1)
        raise ModelError(f"line {line}: {str(broken).split(' (at ')[0]}") from None
    except RecursionError:
        raise ModelError("line 1: nested too deeply") from None
    except (ValueError, ArithmeticError) as broken:
        raise ModelError(f"line 1: {broken}") from None


def _mean(text: str, document: Table) -> Mean | None:
    if _one_of(text, document, "reads", "session") is None:
        if "lead" in document:
            raise _refusal(text, "lead", 'only a model that reads = "session" has it')
        return None
    given = _table(text, "lead", document.get("lead", {"mean_of": "ended sessions"}))
    if given.pop("mean_of", None) != "ended sessions":
        raise _refusal(text, "lead", 'mean_of = "ended sessions" is missing')
    latest, half = given.pop("latest", MOST_SESSIONS), given.pop("half_life_days", None)
    if not _is_whole(latest, 1, MOST_SESSIONS):
        raise _refusal(text, "lead", f"latest is 1 to {MOST_SESSIONS}, not {latest!r}")
    if given:
        raise _refusal(text, "lead", f"unknown: {', '.join(given)}")
    return Mean(latest, () if half is None else half_life(_half_life_days(text, "lead", half)))


def _signals(text: str, document: Table) -> dict[str, Definition]:
    given = _table(text, "signals", document.get("signals", {}))
    if len(given) > MOST_SIGNALS:
        raise _refusal(text, "signals", f"a model defines at most {MOST_SIGNALS}, not {len(given)}")
    defined = {}
    for name, table in given.items():
        where = _line(text, rf"^\s*(signals\.)?[\"']?{re.escape(name)}\b", r"^\s*\[signals")
        if not _NAME.fullmatch(name) or not isinstance(table, dict):
            raise ModelError(f"line {where}, signal {name!r}: wants a small name and {{ event = ... }}")
        try:
            defined[name] = define(name, table)
        except (SignalError, TypeError) as wrong:
            raise ModelError(f"line {where}, signal {name!r}: {wrong}") from None
    return defined


def _groups(text: str, document: Table, defined: Defined, *, by_session: bool) -> tuple[Group, ...]:
    given = _table(text, "groups", document.get("groups"))
    if not 1 <= len(given) <= MOST_GROUPS:
        raise _refusal(text, "groups", f"a model has 1 to {MOST_GROUPS} groups, not {len(given)}")
    groups = tuple(_group(text, name, table, defined, by_session=by_session) for name, table in given.items())
    count = sum(len(group.rules) for group in groups)
    if count > MOST_RULES:
        raise _refusal(text, "groups", f"a model has at most {MOST_RULES} rules, not {count}")
    return groups


def _group(text: str, name: str, table: Any, defined: Defined, *, by_session: bool) -> Group:
    header = rf"^\s*\[groups\.[\"']?{re.escape(name)}[\"']?\]"
    where = f"line {_line(text, header)}, group {name!r}"
    if not isinstance(table, dict) or not 1 <= len(name) <= LONGEST_NAME:
        raise ModelError(f"{where}: wants rules = [...]")
    unknown = sorted(table.keys() - {"weight", "max", "rules"})
    if unknown:
        raise ModelError(f"{where}: unknown: {', '.join(unknown)}")
    given = table.get("rules", [])
    if not isinstance(given, list) or not all(isinstance(rule, dict) for rule in given):
        raise ModelError(f"{where}: rules wants a list of {{ name = ..., ... }}")
    try:
        weight = milli(table.get("weight", 1))
        cap = milli(table["max"]) if "max" in table else None
    except PointsError as wrong:
        raise ModelError(f"{where}: {wrong}") from None
    if not 0 <= weight <= 100_000:
        raise ModelError(f"{where}: weight is 0 to 100, not {table['weight']}")
    if cap is not None and cap < 0:
        raise ModelError(f"{where}: max is below 0")
    rules: list[Rule] = []
    for rule in given:
        try:
            compiled = _rule(rule, defined, {other.name for other in rules}, by_session=by_session)
        except RuleError as wrong:
            named = rule.get("name")
            line = _line(text, rf"\bname\s*=\s*[\"']{re.escape(str(named))}[\"']", header)
            raise ModelError(f"line {line}, group {name!r}, rule {named!r}: {wrong}") from None
        if compiled is not None:
            rules.append(compiled)
    return Group(name, tuple(rules), cap, weight)


def _rule(table: Table, defined: Defined, taken: set[str], *, by_session: bool) -> Rule | None:
    """None if it is switched off; even then it has to make sense."""
    compiled = compile_rule(table, defined)
    if compiled.name in taken:
        raise RuleError("two rules of the group have this name")
    reads = compiled.body.reads
    if by_session and reads._replace(sessions=False) != Reads():
        raise RuleError("the model reads one session at a time: session.seconds, session.pages ...")
    if not by_session and reads.sessions:
        raise RuleError('session.... wants a model that reads = "session"')
    active = table.get("active", True)
    if not isinstance(active, bool):
        raise RuleError(f"active is true or false, not {active!r}")
    return compiled if active else None


def _scales(text: str, document: Table) -> dict[str, list[tuple[Micro, str]]]:
    given = _table(text, "bands", document.get("bands", {}))
    if len(given) > MOST_SCALES:
        raise _refusal(text, "bands", f"a model has at most {MOST_SCALES} sets of bands, not {len(given)}")
    scales = {}
    for scale, bands in given.items():
        if not _NAME.fullmatch(scale) or not isinstance(bands, dict) or not 1 <= len(bands) <= MOST_BANDS:
            raise _refusal(
                text, "bands", f"{scale!r} wants 1 to {MOST_BANDS} bands: {{ name = threshold, ... }}"
            )
        try:
            thresholds = [(milli(threshold) * 1000, band) for band, threshold in bands.items()]
        except PointsError as wrong:
            raise _refusal(text, "bands", f"{scale!r}: {wrong}") from None
        if len({threshold for threshold, _ in thresholds}) != len(thresholds):
            raise _refusal(text, "bands", f"{scale!r} has two bands at one threshold")
        if not all(1 <= len(band) <= LONGEST_NAME for band in bands):
            raise _refusal(text, "bands", f"{scale!r}: a band's name has 1 to {LONGEST_NAME} characters")
        scales[scale] = sorted(thresholds, reverse=True)
    return scales


def _needs(
    text: str, document: Table, defined: Defined, scales: dict[str, list[tuple[Micro, str]]]
) -> dict[str, tuple[Need, ...]]:
    given = _table(text, "needs", document.get("needs", {}))
    bands = {band for thresholds in scales.values() for _, band in thresholds}
    needs = {}
    for band, wanted in given.items():
        header = rf"^\s*\[+needs\.[\"']?{re.escape(band)}"
        where = f"line {_line(text, header)}, needs.{band}"
        if band not in bands:
            raise ModelError(f"{where}: there is no band of this name")
        several = wanted if isinstance(wanted, list) else [wanted]
        if not 1 <= len(several) <= MOST_NEEDS or not all(isinstance(need, dict) for need in several):
            raise ModelError(f"{where}: wants 1 to {MOST_NEEDS} tables")
        try:
            needs[band] = tuple(_need(need, defined) for need in several)
        except (RuleError, PhraseError, PointsError) as wrong:
            raise ModelError(f"{where}: {wrong}") from None
    return needs


def _need(table: Table, defined: Defined) -> Need:
    given = dict(table)
    fields, actions = given.pop("fields", []), given.pop("actions", [])
    within, minimum = given.pop("within_days", None), milli(given.pop("minimum", -1_000_000))
    if given:
        raise RuleError(f"unknown: {', '.join(given)}")
    for names in (fields, actions):
        if (
            not isinstance(names, list)
            or len(names) > FIELDS_KEPT
            or not all(isinstance(n, str) for n in names)
        ):
            raise RuleError(f"wants a list of names, not {names!r}")
    if within is not None and not _is_whole(within, 1, LONGEST_NEED_DAYS):
        raise RuleError(f"within_days is 1 to {LONGEST_NEED_DAYS}, not {within!r}")
    for field in fields:
        parse(f"profile.{field}", defined)
    stored = []
    for action in actions:
        elapsed = parse(f"days since {action}", defined).elapsed
        if elapsed is None or elapsed.signal not in parse(action, defined).reads.signals:
            raise RuleError(f"{action!r} is no action")
        stored.append(elapsed.signal)
    return Need(tuple(fields), tuple(stored), None if within is None else within * DAY, minimum * 1000)


def _decay(text: str, document: Table) -> Decay | None:
    if "decay" not in document:
        return None
    given = _table(text, "decay", document["decay"])
    if given.pop("per", "inactive day") != "inactive day":
        raise _refusal(text, "decay", 'per = "inactive day" is all there is')
    if len(given) != 1 or not given.keys() <= {"points", "half_life_days"}:
        raise _refusal(text, "decay", "wants points = ... or half_life_days = ...")
    if "half_life_days" in given:
        return Decay(0, half_life(_half_life_days(text, "decay", given["half_life_days"])))
    try:
        points = milli(given["points"]) * 1000
    except PointsError as wrong:
        raise _refusal(text, "decay", str(wrong)) from None
    if points <= 0:
        raise _refusal(text, "decay", "points is above 0: what an inactive day takes")
    return Decay(points, ())


def _half_life_days(text: str, key: str, value: Any) -> Decimal:
    days = number(value) if not isinstance(value, str) else None
    if days is None or not Decimal("0.1") <= days <= 36_500:
        raise _refusal(text, key, f"half_life_days is 0.1 to 36500, not {value!r}")
    return Decimal(days)


def _bound(text: str, document: Table, key: str) -> Micro | None:
    if key not in document:
        return None
    try:
        return milli(document[key]) * 1000
    except PointsError as wrong:
        raise _refusal(text, key, str(wrong)) from None


def _one_of(text: str, document: Table, key: str, *allowed: str) -> str | None:
    value = document.get(key)
    if value is None:
        return None
    if value not in allowed:
        raise _refusal(text, key, f"wants {' or '.join(allowed)}, not {value!r}")
    return str(value)


def _table(text: str, key: str, value: Any) -> Table:
    if not isinstance(value, dict):
        raise _refusal(text, key, "missing" if value is None else f"wants a table, not {value!r}")
    return dict(value)


def _is_whole(value: Any, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _needed(needs: dict[str, tuple[Need, ...]]) -> Reads:
    every = [need for several in needs.values() for need in several]
    fields = [parse(f"profile.{field}", {}).reads for need in every for field in need.fields]
    return joined([*fields, *(Reads(signals=frozenset(need.actions)) for need in every)])


def _gathered(pairs: Iterable[tuple[str, int]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    found: dict[str, set[int]] = {}
    for name, value in pairs:
        found.setdefault(name, set()).add(value)
    return tuple((name, tuple(sorted(values))) for name, values in found.items())


def _refusal(text: str, key: str, reason: str) -> ModelError:
    line = _line(text, rf"^\s*\[*{re.escape(key)}\b")
    return ModelError(f"line {line}, {key}: {reason}")


def _line(text: str, pattern: str, after: str | None = None) -> int:
    """The line that the pattern is first found on, from the one that matches `after`; 1 if on none."""
    start = 0
    if after is not None and (header := re.search(after, text, re.MULTILINE)):
        start = header.start()
    found = re.compile(pattern, re.MULTILINE).search(text, start)
    return 1 if found is None else text.count("\n", 0, found.start() + len(found[0])) + 1

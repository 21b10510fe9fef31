"""Reads, checks and compiles a model's text (TOML). Refuses everything that it does not fully understand.

A refusal names the line, the group, the rule and the reason, so that the author can fix the rule. Limits on size
keep hostile or wrong texts cheap to refuse.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from scoring.chat.flow_text import FLOW, compile_flow
from scoring.features.comparison import COMPARISON_BY_FOLDING, NEWEST_COMPARISON, ValueComparison
from scoring.features.sequence_signals import MOST_SEQUENCES, define_signals
from scoring.features.signals import INTERACTION_SIGNAL, SignalDefinition
from scoring.models.band_text import (
    NAME_PATTERN,
    band_sets_of,
    compile_matrices,
    compile_requirements,
    compile_scales,
)
from scoring.models.decay import HalfLifeError, half_life_shares, read_half_life_days
from scoring.models.flag_text import compile_flags
from scoring.models.flags import FLAG, reads_of_flags
from scoring.models.phrases import Reads, SignalWindows, join_reads, parse_phrase
from scoring.models.plan import (
    BandRequirement,
    InactivityDecay,
    Model,
    RuleGroup,
    SessionMean,
    group_plans,
    line_labels_of,
    rules_of,
    timed_rules,
)
from scoring.models.points import MicroPoints, PointsError, read_milli_points
from scoring.models.rules import (
    LARGEST_RULE_ID,
    LONGEST_RULE_NAME,
    Rule,
    RuleError,
    compile_rule,
    pop_cap_and_floor,
)
from scoring.models.text_refusals import (
    ModelError,
    TomlTable,
    copy_of_table,
    is_whole_number,
    line_of,
    model_refusal,
    read_document,
)

LONGEST_TEXT = 200_000
MOST_RULES = 200
MOST_GROUPS = 32
MOST_SIGNALS = 64
MOST_SESSIONS_IN_MEAN = 200

_MODEL_KEYS = frozenset(
    {"model", "about", "reads", "lead", "min", "max", "decay", "round", "bands", "band_on"}
    | {"needs", "matrix", "signals", "groups", "highest_rule_id", "highest_criterion_id", FLOW, FLAG}
)

DefinedSignals = Mapping[str, SignalDefinition]


def compile_model(text: str, folding: int = NEWEST_COMPARISON.folding) -> Model:
    """Compile a model's text, which compares texts by this version of the folding; ModelError names line, group, rule
    and reason.
    """
    by = COMPARISON_BY_FOLDING.get(folding)
    if by is None:
        raise ModelError(
            f"line 1: texts are compared by version {folding}, which only a newer Leadstream has"
        )
    document = read_document(text, "a model", ModelError, longest=LONGEST_TEXT)
    unknown = sorted(document.keys() - _MODEL_KEYS)
    if unknown:
        raise model_refusal(text, unknown[0], f"unknown; a model has {', '.join(sorted(_MODEL_KEYS))}")
    name = document.get("model")
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        problem = "missing: give the model a name" if name is None else f"{name!r} is not a name"
        raise model_refusal(text, "model", f"{problem} of small letters, digits and _")
    if not isinstance(document.get("about", ""), str):
        raise model_refusal(text, "about", "wants a text")
    for key in ("highest_rule_id", "highest_criterion_id"):
        if not is_whole_number(document.get(key, 0), 0, LARGEST_RULE_ID):
            raise model_refusal(text, key, "wants a whole number, 0 or above")
    mean = _session_mean(text, document)
    defined = _signals(text, document, by)
    groups = _groups(text, document, defined, by, by_session=mean is not None)
    scales = compile_scales(text, document)
    needs = compile_requirements(text, document, defined, scales)
    flags = compile_flags(text, document, defined, by, by_session=mean is not None)
    lowest, highest = (_score_bound(text, document, key) for key in ("min", "max"))
    if lowest is not None and highest is not None and lowest > highest:
        raise model_refusal(text, "min", "above max")
    decay = _decay(text, document)
    for key in ("decay", "needs", "matrix"):
        if mean is not None and document.get(key):
            raise model_refusal(text, key, 'a model that reads = "session" has none')
    rounding = _one_of(text, document, "round", "half up") is not None
    limited = lowest is not None or highest is not None
    bodies = [rule.body for group in groups for rule in group.rules]
    interaction_reads = Reads(signals=frozenset({INTERACTION_SIGNAL} if decay else ()))
    reads = join_reads(
        [
            *(body.reads for body in bodies),
            _reads_of_requirements(needs),
            reads_of_flags(flags),
            interaction_reads,
        ]
    )
    conditions = [condition for flag in flags for condition in flag.conditions]
    moments = [moment for body in bodies for moment in body.moments]
    moments += [moment for condition in conditions for moment in condition.moments]
    moments += [
        (action, need.within)
        for several in needs.values()
        for need in several
        for action in need.actions
        if need.within is not None
    ]
    entries = line_labels_of(
        groups, limited=limited, decays=decay is not None, mean=mean is not None, rounding=rounding
    )
    matrices = compile_matrices(text, document, groups, entries, scales)
    return Model(
        name=name,
        groups=groups,
        line_labels=entries,
        scales=scales,
        matrices=matrices,
        band_sets=band_sets_of(scales, matrices),
        band_on_rounded=_one_of(text, document, "band_on", "rounded", "total") == "rounded",
        needs=needs,
        lowest=lowest,
        highest=highest,
        decay=decay,
        mean=mean,
        rounding=rounding,
        signals=_all_signals(text, defined, groups),
        reads=reads,
        windows=_joined_windows(
            [windows for body in bodies for windows in body.windows]
            + [windows for condition in conditions for windows in condition.windows]
        ),
        moments=_grouped_by_signal(moments),
        group_plans=group_plans(groups),
        awards=tuple(rule.body.points for rule in rules_of(groups)),
        timed=timed_rules(groups),
        comparison=by,
        flags=flags,
        flow=compile_flow(text, document[FLOW]) if FLOW in document else None,
    )


def _session_mean(text: str, document: TomlTable) -> SessionMean | None:
    if _one_of(text, document, "reads", "session") is None:
        if "lead" in document:
            raise model_refusal(text, "lead", 'only a model that reads = "session" has it')
        return None
    table = copy_of_table(text, "lead", document.get("lead", {"mean_of": "ended sessions"}))
    if table.pop("mean_of", None) != "ended sessions":
        raise model_refusal(text, "lead", 'mean_of = "ended sessions" is missing')
    latest, half = table.pop("latest", MOST_SESSIONS_IN_MEAN), table.pop("half_life_days", None)
    if not is_whole_number(latest, 1, MOST_SESSIONS_IN_MEAN):
        raise model_refusal(text, "lead", f"latest is 1 to {MOST_SESSIONS_IN_MEAN}, not {latest!r}")
    if table:
        raise model_refusal(text, "lead", f"unknown: {', '.join(table)}")
    return SessionMean(latest, () if half is None else _shares(text, "lead", half))


def _signals(text: str, document: TomlTable, by: ValueComparison) -> dict[str, SignalDefinition]:
    tables = copy_of_table(text, "signals", document.get("signals", {}))
    if len(tables) > MOST_SIGNALS:
        raise model_refusal(text, "signals", f"a model defines at most {MOST_SIGNALS}, not {len(tables)}")
    where = {
        name: line_of(text, rf"^[ \t]*(signals\.)?[\"']?{re.escape(name)}\b", r"^[ \t]*\[signals")
        for name in tables
    }
    for name, table in tables.items():
        if not NAME_PATTERN.fullmatch(name) or not isinstance(table, dict):
            raise ModelError(f"line {where[name]}, signal {name!r}: wants a small name and {{ event = ... }}")
    return define_signals(
        tables, by, lambda name, wrong: ModelError(f"line {where[name]}, signal {name!r}: {wrong}")
    )


def _all_signals(
    text: str, defined: DefinedSignals, groups: tuple[RuleGroup, ...]
) -> tuple[SignalDefinition, ...]:
    """Those of [signals], and those that rules define themselves; equal ones once."""
    by_stored = {signal.stored: signal for signal in defined.values()}
    for group in groups:
        for rule in group.rules:
            by_stored |= {signal.stored: signal for signal in rule.body.signals}
    sequences = sum(1 for signal in by_stored.values() if signal.steps)
    if len(by_stored) > MOST_SIGNALS:
        raise model_refusal(
            text,
            "groups",
            f"[signals], sequences and rules with site are at most {MOST_SIGNALS} signals together, not {len(by_stored)}",
        )
    if sequences > MOST_SEQUENCES:
        raise model_refusal(
            text, "groups", f"a model has at most {MOST_SEQUENCES} sequences, not {sequences}"
        )
    return tuple(by_stored.values())


def _groups(
    text: str, document: TomlTable, defined: DefinedSignals, by: ValueComparison, *, by_session: bool
) -> tuple[RuleGroup, ...]:
    tables = copy_of_table(text, "groups", document.get("groups"))
    if not 1 <= len(tables) <= MOST_GROUPS:
        raise model_refusal(text, "groups", f"a model has 1 to {MOST_GROUPS} groups, not {len(tables)}")
    count = sum(map(_count_active_rules, tables.values()))
    if count > MOST_RULES:
        raise model_refusal(text, "groups", f"a model has at most {MOST_RULES} rules, not {count}")
    ids: set[int] = set()
    return tuple(
        _group(text, name, table, defined, ids, by, by_session=by_session) for name, table in tables.items()
    )


def _count_active_rules(group: Any) -> int:
    """The number of a group's active rules, valid or not."""
    rules = group.get("rules") if isinstance(group, dict) else None
    if not isinstance(rules, list):
        return 0
    return sum(not (isinstance(rule, dict) and rule.get("active") is False) for rule in rules)


def _group(
    text: str,
    name: str,
    table: Any,
    defined: DefinedSignals,
    ids: set[int],
    by: ValueComparison,
    *,
    by_session: bool,
) -> RuleGroup:
    """Compile a group. `ids` are those of earlier rules; adds its own."""
    header = rf"^[ \t]*\[groups\.[\"']?{re.escape(name)}[\"']?\]"
    where = f"line {line_of(text, header)}, group {name!r}"
    if not isinstance(table, dict) or not 1 <= len(name) <= LONGEST_RULE_NAME:
        raise ModelError(f"{where}: wants rules = [...]")
    unknown = sorted(table.keys() - {"weight", "min", "max", "rules"})
    if unknown:
        raise ModelError(f"{where}: unknown: {', '.join(unknown)}")
    rule_tables = table.get("rules", [])
    if not isinstance(rule_tables, list) or not all(isinstance(rule, dict) for rule in rule_tables):
        raise ModelError(f"{where}: rules wants a list of {{ name = ..., ... }}")
    try:
        weight = read_milli_points(table.get("weight", 1))
        floor, cap = pop_cap_and_floor(dict(table))
    except PointsError as wrong:
        raise ModelError(f"{where}: {wrong}") from None
    if not 0 <= weight <= 100_000:
        raise ModelError(f"{where}: weight is 0 to 100, not {table['weight']}")
    rules: list[Rule] = []
    taken: set[str] = set()
    for rule in rule_tables:
        try:
            compiled = _rule(rule, defined, taken, ids, by, by_session=by_session)
        except RuleError as wrong:
            named = rule.get("name")
            line = line_of(text, rf"\bname\s*=\s*[\"']{re.escape(str(named))}[\"']", header)
            raise ModelError(f"line {line}, group {name!r}, rule {named!r}: {wrong}") from None
        if compiled is not None:
            rules.append(compiled)
            taken.add(compiled.name)
    return RuleGroup(name, tuple(rules), cap, weight, floor)


def _rule(
    table: TomlTable,
    defined: DefinedSignals,
    taken: set[str],
    ids: set[int],
    by: ValueComparison,
    *,
    by_session: bool,
) -> Rule | None:
    """Compile a rule; None if it is switched off. A rule that is switched off must be valid, too."""
    compiled = compile_rule(table, defined, by)
    if compiled.name in taken:
        raise RuleError("two rules of the group have this name")
    if compiled.id is not None:
        if compiled.id in ids:
            raise RuleError(f"two rules of the model have the id {compiled.id}")
        ids.add(compiled.id)
    reads = compiled.body.reads
    if by_session and reads._replace(sessions=False) != Reads():
        raise RuleError("the model reads one session at a time: session.seconds, session.pages ...")
    if not by_session and reads.sessions:
        raise RuleError('session.... wants a model that reads = "session"')
    active = table.get("active", True)
    if not isinstance(active, bool):
        raise RuleError(f"active is true or false, not {active!r}")
    return compiled if active else None


def _decay(text: str, document: TomlTable) -> InactivityDecay | None:
    if "decay" not in document:
        return None
    table = copy_of_table(text, "decay", document["decay"])
    if table.pop("per", "inactive day") != "inactive day":
        raise model_refusal(text, "decay", 'per = "inactive day" is all there is')
    if len(table) != 1 or not table.keys() <= {"points", "half_life_days"}:
        raise model_refusal(text, "decay", "wants points = ... or half_life_days = ...")
    if "half_life_days" in table:
        return InactivityDecay(0, _shares(text, "decay", table["half_life_days"]))
    try:
        points = read_milli_points(table["points"]) * 1000
    except PointsError as wrong:
        raise model_refusal(text, "decay", str(wrong)) from None
    if points <= 0:
        raise model_refusal(text, "decay", "points is above 0: what an inactive day takes")
    return InactivityDecay(points, ())


def _shares(text: str, key: str, days: Any) -> tuple[int, ...]:
    try:
        return half_life_shares(read_half_life_days(days))
    except HalfLifeError as wrong:
        raise model_refusal(text, key, str(wrong)) from None


def _score_bound(text: str, document: TomlTable, key: str) -> MicroPoints | None:
    if key not in document:
        return None
    try:
        return read_milli_points(document[key]) * 1000
    except PointsError as wrong:
        raise model_refusal(text, key, str(wrong)) from None


def _one_of(text: str, document: TomlTable, key: str, *allowed: str) -> str | None:
    value = document.get(key)
    if value is None:
        return None
    if value not in allowed:
        raise model_refusal(text, key, f"wants {' or '.join(allowed)}, not {value!r}")
    return str(value)


def _reads_of_requirements(needs: dict[str, tuple[BandRequirement, ...]]) -> Reads:
    every = [need for several in needs.values() for need in several]
    fields = [parse_phrase(f"profile.{field}", {}).reads for need in every for field in need.fields]
    return join_reads([*fields, *(Reads(signals=frozenset(need.actions)) for need in every)])


def _joined_windows(several: list[SignalWindows]) -> tuple[tuple[str, tuple[int, ...], int], ...]:
    lengths = _grouped_by_signal(
        (windows.signal, length) for windows in several for length in windows.lengths
    )
    decaying = _grouped_by_signal((w.signal, length) for w in several if w.decaying for length in w.lengths)
    longest = {signal: each[-1] for signal, each in decaying}
    return tuple((signal, each, longest.get(signal, 0)) for signal, each in lengths)


def _grouped_by_signal(pairs: Iterable[tuple[str, int]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    gathered: dict[str, set[int]] = {}
    for name, value in pairs:
        gathered.setdefault(name, set()).add(value)
    return tuple((name, tuple(sorted(values))) for name, values in gathered.items())

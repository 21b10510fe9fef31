"""Reads, checks and compiles a lifecycle's text (TOML). Refuses everything that it does not fully understand.

A refusal names the line, the transition and the reason, so that the author can fix it. An accepted lifecycle never
moves a lead back within the funnel, and never in a circle without a new event. Side stages (recycled, lost ...) may
lead to any stage.
"""

import re
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, TypeGuard

from schemas.events import Stage
from scoring.features.calendar import DAY_MS
from scoring.features.signals import (
    EVENT_TYPE_BY_TAG,
    HIGH_INTENT_SIGNAL,
    INTERACTION_SIGNAL,
    is_counted_always,
)
from scoring.lifecycle.transitions import (
    BUILT_IN_TARGETS,
    FUNNEL_STAGES,
    SIDE_STAGES,
    SINCE_VALUES,
    STAGES,
    ConversionTarget,
    Lifecycle,
    Qualification,
    Since,
    Transition,
)
from scoring.models.text_refusals import TomlTable, is_whole_number, line_of, read_document

LONGEST_TEXT = 100_000
MOST_TRANSITIONS = 64
MOST_SIGNALS_OF_TRANSITION = 32
MOST_BANDS_OF_QUALIFICATION = 32
LONGEST_REASON = 200
LONGEST_WAIT_DAYS = 3_650

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_CUSTOM_SIGNAL = re.compile(r"custom:[^\x00-\x1f\x7f]{1,128}")
_TRANSITION_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*[\"']?transitions[\"']?[ \t]*\]\]", re.MULTILINE)
_LIFECYCLE_KEYS = ("lifecycle", "about", "transitions", "targets")
_TRANSITION_KEYS = ("to", "from", "when", "since", "qualified_by", "inactive_days", "reason")
_QUALIFICATION_KEYS = ("model", "set", "bands")
_TARGET_KEYS = ("from", "to", "rate")


class LifecycleError(ValueError):
    """The text is refused; the message says where and why."""


class _TransitionError(Exception):
    """What is wrong with a key of the current transition; key None: with the whole transition."""

    def __init__(self, key: str | None, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def compile_lifecycle(text: str) -> Lifecycle:
    """Compile a lifecycle's text; LifecycleError names line, transition and reason."""
    document = read_document(text, "a lifecycle", LifecycleError, longest=LONGEST_TEXT, parse_float=float)
    unknown = sorted(document.keys() - set(_LIFECYCLE_KEYS))
    if unknown:
        raise _refusal(text, unknown[0], f"unknown; a lifecycle has {', '.join(_LIFECYCLE_KEYS)}")
    name = document.get("lifecycle")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problem = (
            "missing: give the lifecycle a name" if name is None else f"{_shown_value(name)} is not a name"
        )
        raise _refusal(text, "lifecycle", f"{problem} of small letters, digits, _ and -")
    if not isinstance(document.get("about", ""), str):
        raise _refusal(text, "about", "wants a text")
    transitions = _transitions(text, document.get("transitions"))
    return Lifecycle(
        name=name,
        transitions=transitions,
        onward=MappingProxyType({stage: _transitions_from(stage, transitions) for stage in STAGES}),
        qualifications=tuple(dict.fromkeys(t.qualified_by for t in transitions if t.qualified_by)),
        targets=_targets(text, document["targets"]) if "targets" in document else BUILT_IN_TARGETS,
    )


def _targets(text: str, tables: Any) -> tuple[ConversionTarget, ...]:
    form = 'wants [[targets]] with from = "new", to = "contacted" and rate = 0.7, or targets = [] for none'
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise _refusal(text, "targets", form)
    targets: list[ConversionTarget] = []
    for table in tables:
        if table.keys() != set(_TARGET_KEYS):
            raise _refusal(text, "targets", form)
        start, to, rate = (table[key] for key in _TARGET_KEYS)
        for stage in (start, to):
            if stage not in FUNNEL_STAGES:
                raise _refusal(
                    text,
                    "targets",
                    f"{_shown_value(stage)} is no stage of the funnel: {', '.join(FUNNEL_STAGES)}",
                )
        if FUNNEL_STAGES.index(start) >= FUNNEL_STAGES.index(to):
            raise _refusal(text, "targets", f"{to!r} does not come after {start!r}")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise _refusal(text, "targets", f"rate is a share from 0 to 1, not {_shown_value(rate)}")
        if any((each.start, each.to) == (start, to) for each in targets):
            raise _refusal(text, "targets", f"there are two from {start!r} to {to!r}")
        targets.append(ConversionTarget(start, to, float(rate)))
    return tuple(targets)


def _transitions_from(stage: Stage, transitions: Sequence[Transition]) -> tuple[Transition, ...]:
    """The transitions from the stage: the one that leads furthest first, those to side stages last."""
    return tuple(
        sorted(
            (transition for transition in transitions if stage in transition.sources),
            key=lambda transition: (
                -FUNNEL_STAGES.index(transition.to) if transition.to in FUNNEL_STAGES else 1
            ),
        )
    )


def _transitions(text: str, tables: Any) -> tuple[Transition, ...]:
    if tables is None:
        raise _refusal(
            text,
            "transitions",
            "missing: write [[transitions]], or transitions = [] if only people move leads",
        )
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise _refusal(text, "transitions", "wants [[transitions]], one for each")
    if len(tables) > MOST_TRANSITIONS:
        raise _refusal(text, "transitions", f"a lifecycle has at most {MOST_TRANSITIONS}, not {len(tables)}")
    transitions: list[Transition] = []
    for number, table in enumerate(tables):
        try:
            transition = _transition(table)
            _refuse_circle(transitions, transition)
        except _TransitionError as wrong:
            line = _line_of_key(text, number, len(tables), wrong.key)
            named = (
                f"transition to {_shown_value(table['to'])}" if "to" in table else f"transition {number + 1}"
            )
            key = "" if wrong.key is None else f", {wrong.key}"
            raise LifecycleError(f"line {line}, {named}{key}: {wrong}") from None
        transitions.append(transition)
    return tuple(transitions)


def _transition(table: TomlTable) -> Transition:
    unknown = sorted(table.keys() - set(_TRANSITION_KEYS))
    if unknown:
        raise _TransitionError(unknown[0], f"unknown; a transition has {', '.join(_TRANSITION_KEYS)}")
    to = table.get("to")
    if not _is_stage(to):
        raise _TransitionError("to", "missing: where to" if to is None else _not_a_stage_text(to))
    if to == "new":
        raise _TransitionError("to", "'new' is where leads begin, and no rule leads there")
    sources = _source_stages(table.get("from"), to)
    signals = _signals(table.get("when"))
    days = table.get("inactive_days")
    if days is not None and not is_whole_number(days, 1, LONGEST_WAIT_DAYS):
        raise _TransitionError(
            "inactive_days", f"is 1 to {LONGEST_WAIT_DAYS:,} days, not {_shown_value(days)}"
        )
    qualified_by = None if "qualified_by" not in table else _qualification(table["qualified_by"])
    if not signals and qualified_by is None and days is None:
        raise _TransitionError(
            None, "wants a condition: when, qualified_by or inactive_days, or several of them"
        )
    return Transition(
        to=to,
        sources=sources,
        reason=_reason(table.get("reason")),
        signals=signals,
        since=_since(table.get("since"), timed=bool(signals) or days is not None),
        qualified_by=qualified_by,
        inactive=None if days is None else days * DAY_MS,
    )


def _source_stages(stages: Any, to: Stage) -> tuple[Stage, ...]:
    if not isinstance(stages, list) or not stages:
        raise _TransitionError("from", 'wants the stages that it leaves: from = ["new", "contacted"]')
    sources: list[Stage] = []
    for stage in stages:
        if not _is_stage(stage):
            raise _TransitionError("from", _not_a_stage_text(stage))
        if stage == to:
            raise _TransitionError("from", f"{to!r} is where it leads to")
        if (
            stage in FUNNEL_STAGES
            and to in FUNNEL_STAGES
            and FUNNEL_STAGES.index(stage) > FUNNEL_STAGES.index(to)
        ):
            raise _TransitionError("from", f"a lead goes forward only, and {to!r} comes before {stage!r}")
        sources.append(stage)
    return tuple(dict.fromkeys(sources))


def _signals(names: Any) -> tuple[str, ...]:
    if names is None:
        return ()
    if not isinstance(names, list) or not 1 <= len(names) <= MOST_SIGNALS_OF_TRANSITION:
        raise _TransitionError(
            "when", f'wants 1 to {MOST_SIGNALS_OF_TRANSITION} signals: when = ["form_submitted"]'
        )
    for name in names:
        if not isinstance(name, str) or not _is_signal(name):
            examples = f"{INTERACTION_SIGNAL}, {HIGH_INTENT_SIGNAL}, custom:NAME or an event type such as form_submitted"
            raise _TransitionError("when", f"{_shown_value(name)} is no signal; those are {examples}")
    return tuple(dict.fromkeys(names))


def _is_signal(name: str) -> bool:
    """Is it counted for every lead under exactly this name?"""
    if name == "custom" or (name.startswith("custom:") and not _CUSTOM_SIGNAL.fullmatch(name)):
        return False
    return name in EVENT_TYPE_BY_TAG or is_counted_always(name)


def _since(value: Any, *, timed: bool) -> Since | None:
    if value is None:
        return None
    for since in SINCE_VALUES:
        if value == since:
            if not timed:
                raise _TransitionError("since", "belongs to when or inactive_days")
            return since
    raise _TransitionError(
        "since", f"is {', '.join(SINCE_VALUES[:-1])} or {SINCE_VALUES[-1]}, not {_shown_value(value)}"
    )


def _qualification(table: Any) -> Qualification:
    form = '{ model = "rules", set = "stage", bands = ["mql"] }'
    if not isinstance(table, dict) or table.keys() != set(_QUALIFICATION_KEYS):
        raise _TransitionError("qualified_by", f"wants {form}")
    model, scale, bands = (table[key] for key in _QUALIFICATION_KEYS)
    for name in (model, scale):
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name, re.ASCII):
            raise _TransitionError(
                "qualified_by", f"{_shown_value(name)} is no name of a model or of a set of bands"
            )
    if (
        not isinstance(bands, list)
        or not 1 <= len(bands) <= MOST_BANDS_OF_QUALIFICATION
        or not all(isinstance(band, str) and band for band in bands)
    ):
        raise _TransitionError(
            "qualified_by",
            f"wants 1 to {MOST_BANDS_OF_QUALIFICATION} names of bands, not {_shown_value(bands)}",
        )
    return Qualification(model, scale, tuple(sorted(set(bands))))


def _reason(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_REASON:
        raise _TransitionError(
            "reason", f"wants a text of 1 to {LONGEST_REASON} characters, which the history shows"
        )
    if not value.isprintable():
        raise _TransitionError("reason", "wants one line of plain text")
    return value


def _refuse_circle(before: Iterable[Transition], new: Transition) -> None:
    """Refuse a transition if others lead from its goal back to its source without a new event."""
    if new.needs_new_event:
        return
    edges = [(source, t.to) for t in (*before, new) if not t.needs_new_event for source in t.sources]
    for source in new.sources:
        path = _path_between_stages(edges, new.to, source)
        if path:
            circle = " -> ".join([source, *path])
            raise _TransitionError(
                None,
                f"a lead could move in a circle without a new event: {circle}; let one of these transitions wait for an "
                'event with when = [...] and since = "entering"',
            )


def _path_between_stages(edges: Sequence[tuple[Stage, Stage]], start: Stage, goal: Stage) -> list[Stage]:
    """The stages on a path from start to goal, both included; empty if there is none."""
    paths: list[list[Stage]] = [[start]]
    seen = {start}
    while paths:
        path = paths.pop(0)
        if path[-1] == goal:
            return path
        for source, to in edges:
            if source == path[-1] and to not in seen:
                seen.add(to)
                paths.append([*path, to])
    return []


def _is_stage(value: Any) -> TypeGuard[Stage]:
    return isinstance(value, str) and value in STAGES


def _not_a_stage_text(value: Any) -> str:
    return f"{_shown_value(value)} is no stage; those are {', '.join((*FUNNEL_STAGES, *SIDE_STAGES))}"


def _shown_value(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _refusal(text: str, key: str, reason: str) -> LifecycleError:
    line = line_of(text, rf"^[ \t]*\[*{re.escape(key)}\b")
    return LifecycleError(f"line {line}, {key}: {reason}")


def _line_of_key(text: str, number: int, count: int, key: str | None) -> int:
    """The line of a transition's key; the line of its header if the key has no line of its own."""
    headers = list(_TRANSITION_HEADER.finditer(text))
    if len(headers) != count:
        return line_of(text, r"^[ \t]*\[*transitions\b")
    header = headers[number]
    end = headers[number + 1].start() if number + 1 < count else len(text)
    key_pattern = None if key is None else re.compile(rf"^[ \t]*{re.escape(key)}\b", re.MULTILINE)
    key_match = None if key_pattern is None else key_pattern.search(text, header.end(), end)
    return text.count("\n", 0, (key_match or header).end()) + 1

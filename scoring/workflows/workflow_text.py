"""Reads, checks and compiles the text of a tenant's workflows (TOML). Refuses everything that it does not fully
understand: the refusal names the line, the workflow, the key and the reason.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeGuard, assert_never

from schemas.envelope import MAX_INTEGER, Event
from scoring.features.comparison import COMPARISON_BY_FOLDING, NEWEST_COMPARISON, ValueComparison
from scoring.features.features import CUSTOM_PREFIX
from scoring.features.operators import OPERATORS
from scoring.features.profile_fields import MANUAL_STAGE_FIELD
from scoring.features.signals import (
    EVENT_TYPE_BY_TAG,
    INTERACTION_SIGNAL,
    SignalError,
    define_signal,
    is_counted_always,
)
from scoring.lifecycle.transitions import FUNNEL_STAGES, SIDE_STAGES, STAGES
from scoring.models.text_refusals import (
    TomlTable,
    is_whole_number,
    line_of,
    read_document,
    shorten_value,
)
from scoring.workflows.actions import ActionError, check_action
from scoring.workflows.conditions import DEFAULT_MODEL, ConditionError, compile_condition, one_operator
from scoring.workflows.schedule import ScheduleError, parse_schedule
from scoring.workflows.speed_to_lead import (
    MOST_MINUTES,
    SpeedToLead,
    SpeedToLeadError,
    read_speed_to_lead,
)
from scoring.workflows.workflow import (
    BandTrigger,
    Condition,
    EventTrigger,
    FieldTrigger,
    LapseTrigger,
    ManualTrigger,
    NoContactTrigger,
    ScheduleTrigger,
    ScoreFallTrigger,
    ScoreRiseTrigger,
    StageTrigger,
    Trigger,
    Workflow,
)

LONGEST_TEXT = 100_000
MOST_WORKFLOWS = 100
MOST_CONDITIONS = 32
MOST_EVENTS = 32
LONGEST_NAME = 100
LARGEST_SCORE = 1_000_000
DEFAULT_REARM = 5
"""Points that a score moves back before its workflow is armed again."""
LONGEST_LAPSE_DAYS = 3_650

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_FIELD = re.compile(r"(?:profile\.)?([a-z][a-z0-9_]{0,63})", re.ASCII)
_CUSTOM_EVENT = re.compile(rf"{CUSTOM_PREFIX}[a-z][a-z0-9_]{{0,63}}", re.ASCII)
_EVENT_TYPES = EVENT_TYPE_BY_TAG.keys() - {"custom"}
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*[\"']?workflow[\"']?[ \t]*\]\]", re.MULTILINE)
_NEXT_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
SPEED_TO_LEAD_KEY = "speed_to_lead"
_TOP_KEYS = ("workflow", "highest_workflow_id", "about", SPEED_TO_LEAD_KEY)
_KEYS = ("id", "name", "active", "priority", "anonymous", "trigger", "conditions", "action", "created_at")
_NEXT_KEY = re.compile(rf"^[ \t]*(?:\[|(?:{'|'.join(_KEYS)})[ \t]*=)", re.MULTILINE)


class WorkflowsError(ValueError):
    """The text is refused. The message says where and why; `key` and `reason` say it apart, for those who edit one workflow."""

    def __init__(self, line: int, key: str, reason: str, workflow: str | None = None) -> None:
        named = f"{workflow}, " if workflow else ""
        super().__init__(f"line {line}, {named}{key}: {reason}" if key else f"line {line}, {named}{reason}")
        self.line = line
        self.key = key
        """trigger.score; conditions.0; "": the whole text or workflow."""
        self.reason = reason


class _UnreadableText(ValueError):
    """The text is no TOML: line N: why."""


class _KeyError(Exception):
    """What is wrong with a key of the current workflow."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def compile_workflows(
    text: str, folding: int = NEWEST_COMPARISON.folding, *, numbered: bool = True
) -> tuple[Workflow, ...]:
    """All workflows of a text, those that are not active, too: the highest priority first, then the lowest id. Their
    conditions compare texts as of version `folding`. An empty text has none. Raises WorkflowsError.

    `numbered`: every workflow must have its id. Without it, one that has none gets 0, and the text is only checked.
    """
    by = COMPARISON_BY_FOLDING.get(folding)
    if by is None:
        raise WorkflowsError(
            1, "", f"folding {folding} is not known; the newest is {NEWEST_COMPARISON.folding}"
        )
    document = _document(text)
    limit = _speed_to_lead(text, document).minutes
    tables = document.get("workflow", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise _refusal(text, "workflow", "wants [[workflow]], one for each")
    if len(tables) > MOST_WORKFLOWS:
        raise _refusal(text, "workflow", f"a tenant has at most {MOST_WORKFLOWS}, not {len(tables)}")
    workflows: list[Workflow] = []
    ids: set[int] = set()
    for number, table in enumerate(tables):
        try:
            workflow = _workflow(table, by, ids, numbered=numbered, limit=limit)
        except _KeyError as wrong:
            raise WorkflowsError(
                _line_of_key(text, number, len(tables), wrong.key),
                wrong.key,
                str(wrong),
                _shown_name(number, table),
            ) from None
        ids |= {workflow.id} - {0}
        workflows.append(workflow)
    return tuple(sorted(workflows, key=lambda workflow: (-workflow.priority, workflow.id)))


compiled_workflows = lru_cache(maxsize=64)(compile_workflows)
"""The workflows of a text and its folding; texts are few and workflows immutable."""


def compile_speed_to_lead(text: str) -> SpeedToLead:
    """What a text of workflows says about the time from qualified to the first contact. Raises WorkflowsError."""
    return _speed_to_lead(text, _document(text))


compiled_speed_to_lead = lru_cache(maxsize=64)(compile_speed_to_lead)


def _speed_to_lead(text: str, document: TomlTable) -> SpeedToLead:
    try:
        return read_speed_to_lead(document.get(SPEED_TO_LEAD_KEY))
    except SpeedToLeadError as wrong:
        line = line_of(text, rf"^[ \t]*\[*[ \t]*{re.escape(wrong.key or SPEED_TO_LEAD_KEY)}\b")
        key = f"{SPEED_TO_LEAD_KEY}.{wrong.key}" if wrong.key else SPEED_TO_LEAD_KEY
        raise WorkflowsError(line, key, str(wrong)) from None


def _document(text: str) -> TomlTable:
    try:
        document = read_document(
            text, "a text of workflows", _UnreadableText, longest=LONGEST_TEXT, parse_float=float
        )
    except _UnreadableText as broken:
        line, _, reason = str(broken).removeprefix("line ").partition(": ")
        raise WorkflowsError(int(line), "", reason) from None
    if unknown := sorted(document.keys() - set(_TOP_KEYS)):
        hint = "; write [[workflow]], with two brackets" if unknown[0] == "workflows" else ""
        raise _refusal(text, unknown[0], f"unknown; a text of workflows has {', '.join(_TOP_KEYS)}{hint}")
    if not isinstance(document.get("about", ""), str):
        raise _refusal(text, "about", "wants a text")
    highest = document.get("highest_workflow_id", 0)
    if not is_whole_number(highest, 0, MAX_INTEGER - 1):
        raise _refusal(text, "highest_workflow_id", f"is a whole number, not {shorten_value(highest)}")
    return document


def _workflow(
    table: TomlTable, by: ValueComparison, taken: set[int], *, numbered: bool, limit: int
) -> Workflow:
    """`limit`: the minutes of a trigger not_contacted that names none."""
    if unknown := sorted(table.keys() - set(_KEYS)):
        raise _KeyError(unknown[0], f"unknown; a workflow has {', '.join(_KEYS)}")
    if (numbered or "id" in table) and not is_whole_number(table.get("id"), 1, MAX_INTEGER - 1):
        problem = "missing" if "id" not in table else f"{shorten_value(table['id'])} is no id"
        raise _KeyError("id", f"{problem}: a whole number from 1, which no other workflow ever had")
    if table.get("id") in taken:
        raise _KeyError("id", f"another workflow has the id {table['id']}")
    name = table.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        problem = "missing" if name is None else f"{shorten_value(name)} is no name"
        raise _KeyError("name", f"{problem}: one line of 1 to {LONGEST_NAME} characters")
    for flag in ("active", "anonymous"):
        if not isinstance(table.get(flag, True), bool):
            raise _KeyError(flag, f"is true or false, not {shorten_value(table[flag])}")
    priority = table.get("priority", 0)
    if not is_whole_number(priority, -MAX_INTEGER, MAX_INTEGER):
        raise _KeyError("priority", f"is a whole number, not {shorten_value(priority)}")
    created_at = table.get("created_at")
    if created_at is not None and not (isinstance(created_at, datetime) and created_at.tzinfo is not None):
        raise _KeyError("created_at", "is a moment with its zone: 2026-03-01T09:00:00Z")
    trigger = _trigger(table.get("trigger"), by, limit)
    conditions = _conditions(table.get("conditions", []), by)
    action = _typed_table("action", table.get("action"), 'action = { type = "create_task", title = "Call" }')
    kind = action.pop("type", None)
    try:
        action_type = check_action(kind, action)
    except ActionError as wrong:
        raise _KeyError(f"action.{wrong.key}", str(wrong)) from None
    return Workflow(
        id=table.get("id", 0),
        name=name,
        active=table.get("active", True),
        priority=priority,
        anonymous=table.get("anonymous", False),
        trigger=trigger,
        conditions=conditions,
        action=action_type,
        config=action,
    )


def _typed_table(key: str, value: Any, example: str) -> TomlTable:
    if not isinstance(value, dict):
        raise _KeyError(key, f"{'missing' if value is None else 'wants a table'}: {example}")
    return dict(value)


def _conditions(tables: Any, by: ValueComparison) -> tuple[Condition, ...]:
    if not isinstance(tables, list) or len(tables) > MOST_CONDITIONS:
        raise _KeyError(
            "conditions",
            f'wants a list of at most {MOST_CONDITIONS}: [{{ value = "profile.industry", in_list = ["SaaS"] }}]',
        )
    conditions = []
    for index, table in enumerate(tables):
        try:
            conditions.append(compile_condition(table, by))
        except ConditionError as wrong:
            raise _KeyError(f"conditions.{index}", str(wrong)) from None
    return tuple(conditions)


# Triggers


def _trigger(value: Any, by: ValueComparison, limit: int) -> Trigger:
    table = _typed_table("trigger", value, 'trigger = { type = "score_threshold", score = 75 }')
    kind = table.pop("type", None)
    read = _TRIGGERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        problem = "missing" if kind is None else f"{shorten_value(kind)} is no trigger"
        raise _KeyError("trigger.type", f"{problem}; those are {', '.join(_TRIGGERS)}")
    if kind == "not_contacted":
        table.setdefault("minutes", limit)
    trigger = read(table, by)
    if table:
        key = min(table)
        raise _KeyError(f"trigger.{key}", f"unknown; {kind} has {', '.join(TRIGGER_KEYS[kind]) or 'no keys'}")
    return trigger


def _score_trigger(
    kind: type[ScoreRiseTrigger | ScoreFallTrigger], table: TomlTable, _by: ValueComparison
) -> Trigger:
    score, model = table.pop("score", None), table.pop("model", DEFAULT_MODEL)
    if not is_whole_number(score, 1, LARGEST_SCORE):
        problem = "missing" if score is None else f"{shorten_value(score)} is no score"
        raise _KeyError(
            "trigger.score", f"{problem}: a whole number from 1 to {LARGEST_SCORE:,}, as boards show it"
        )
    if not _is_name(model):
        raise _KeyError("trigger.model", f"{shorten_value(model)} is no name of a model")
    # A score that begins at 0 must be able to move so far back.
    rearm = table.pop("rearm", min(DEFAULT_REARM, score) if kind is ScoreRiseTrigger else DEFAULT_REARM)
    if not is_whole_number(rearm, 0, LARGEST_SCORE):
        raise _KeyError("trigger.rearm", f"is a whole number of points from 0, not {shorten_value(rearm)}")
    return kind(model, score, rearm)


def _stage_trigger(table: TomlTable, _by: ValueComparison) -> Trigger:
    to, source = table.pop("to", None), table.pop("from", None)
    scale, model = table.pop("set", None), table.pop("model", None)
    for key, name in (("set", scale), ("model", model)):
        if name is not None and not _is_name(name):
            raise _KeyError(f"trigger.{key}", f"{shorten_value(name)} is no name")
    if scale is None and model is not None:
        raise _KeyError("trigger.model", f'needs the set of bands, too: set = "stage", model = "{model}"')
    for key, name in (("to", to), ("from", source)):
        if name is None:
            continue
        if not isinstance(name, str) or not name or len(name) > 100:
            raise _KeyError(f"trigger.{key}", f"wants one name, not {shorten_value(name)}")
        if scale is None and name not in STAGES:
            raise _KeyError(
                f"trigger.{key}",
                f"{shorten_value(name)} is no stage; those are {', '.join((*FUNNEL_STAGES, *SIDE_STAGES))}. For a band of the "
                'rules (mql, sql, hot) add set = "stage"',
            )
    if to is not None and to == source:
        raise _KeyError("trigger.from", f"{to!r} is where it leads to")
    if scale is None:
        return StageTrigger(to, source)
    return BandTrigger(model or DEFAULT_MODEL, scale, to, source)


def _field_trigger(table: TomlTable, by: ValueComparison) -> Trigger:
    field = table.pop("field", None)
    match = _FIELD.fullmatch(field) if isinstance(field, str) else None
    if match is None:
        problem = "missing" if field is None else f"{shorten_value(field)} is no profile field"
        raise _KeyError("trigger.field", f"{problem}: budget, assigned_to or another")
    if match[1] in {"stage", MANUAL_STAGE_FIELD}:
        raise _KeyError("trigger.field", "the stage is no profile field: use the trigger stage_change")
    if "is" in table:
        if table.keys() & OPERATORS.keys():
            raise _KeyError("trigger.is", "says the same as equals: give one of them")
        table["equals"] = table.pop("is")
    operators = {key: table.pop(key) for key in [key for key in table if key in OPERATORS]}
    if not operators:
        return FieldTrigger(match[1], None)
    try:
        return FieldTrigger(match[1], one_operator(operators, by)[1])
    except ConditionError as wrong:
        raise _KeyError(f"trigger.{min(operators)}", str(wrong)) from None


def _event_trigger(table: TomlTable, by: ValueComparison) -> Trigger:
    events = table.pop("event", None)
    names = events if isinstance(events, list) else [events]
    if events is None or not 1 <= len(names) <= MOST_EVENTS:
        problem = "missing" if events is None else f"{len(names)} types"
        raise _KeyError(
            "trigger.event", f'{problem}: one type, event = "demo_requested", or a list of 1 to {MOST_EVENTS}'
        )
    for name in names:
        if not isinstance(name, str) or not (_CUSTOM_EVENT.fullmatch(name) or name in _EVENT_TYPES):
            raise _KeyError(
                "trigger.event",
                f"{shorten_value(name)} is no type of an event; those of your own are custom:NAME",
            )
    definition: TomlTable = {}
    for key in ("source", "where"):
        if key in table:
            definition[key] = table.pop(key)
    if isinstance(definition.get("where"), dict):
        definition["where"] = [definition["where"]]
    tests: dict[str, Callable[[Event], bool]] = {}
    for name in names:
        try:
            tests[name] = define_signal("workflow_trigger", {"event": name, **definition}, by).holds
        except SignalError as wrong:
            key = "where" if "where" in definition else "source" if "source" in definition else "event"
            raise _KeyError(f"trigger.{key}", str(wrong)) from None
    return EventTrigger(tests)


def _time_trigger(table: TomlTable, _by: ValueComparison) -> Trigger:
    if ("cron" in table) == ("days_without" in table):
        raise _KeyError("trigger.cron", 'wants cron = "0 9 * * 1" or days_without = 14, and not both')
    if "cron" in table:
        try:
            return ScheduleTrigger(parse_schedule(table.pop("cron")))
        except ScheduleError as wrong:
            raise _KeyError("trigger.cron", str(wrong)) from None
    days, signal = table.pop("days_without"), table.pop("of", INTERACTION_SIGNAL)
    if not is_whole_number(days, 1, LONGEST_LAPSE_DAYS):
        raise _KeyError(
            "trigger.days_without", f"is 1 to {LONGEST_LAPSE_DAYS:,} whole days, not {shorten_value(days)}"
        )
    if not isinstance(signal, str) or not (
        _CUSTOM_EVENT.fullmatch(signal)
        or (is_counted_always(signal) and signal not in {"custom", CUSTOM_PREFIX})
    ):
        raise _KeyError(
            "trigger.of",
            f"{shorten_value(signal)} is no signal; those are {INTERACTION_SIGNAL}, high_intent, custom:NAME and the types of "
            "events, such as email_opened",
        )
    return LapseTrigger(days, signal)


def _contact_trigger(table: TomlTable, _by: ValueComparison) -> Trigger:
    minutes = table.pop("minutes")
    if not is_whole_number(minutes, 1, MOST_MINUTES):
        raise _KeyError(
            "trigger.minutes", f"is 1 to {MOST_MINUTES:,} whole minutes, not {shorten_value(minutes)}"
        )
    return NoContactTrigger(minutes)


def _manual_trigger(_table: TomlTable, _by: ValueComparison) -> Trigger:
    return ManualTrigger()


_TRIGGERS: Mapping[str, Callable[[TomlTable, ValueComparison], Trigger]] = {
    "score_threshold": partial(_score_trigger, ScoreRiseTrigger),
    "score_falls": partial(_score_trigger, ScoreFallTrigger),
    "stage_change": _stage_trigger,
    "field_update": _field_trigger,
    "event": _event_trigger,
    "time_based": _time_trigger,
    "not_contacted": _contact_trigger,
    "manual": _manual_trigger,
}
TRIGGER_KEYS: Mapping[str, tuple[str, ...]] = {
    "score_threshold": ("score", "model", "rearm"),
    "score_falls": ("score", "model", "rearm"),
    "stage_change": ("to", "from", "set", "model"),
    "field_update": ("field", "is, or one operator"),
    "event": ("event", "where", "source"),
    "time_based": ("cron", "days_without", "of"),
    "not_contacted": ("minutes",),
    "manual": (),
}


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


# What models must have


class UnknownReference(NamedTuple):
    """A trigger that waits for what no active model has, or a message with a place for a value that there is not."""

    workflow: int
    key: str
    reason: str


def unknown_references(
    workflows: tuple[Workflow, ...], band_sets: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> list[UnknownReference]:
    """What triggers wait for in vain; `band_sets`: of each active model, the bands of each set."""
    missing = []
    for workflow in workflows:
        match workflow.trigger:
            case ScoreRiseTrigger(model=model) | ScoreFallTrigger(model=model) if model not in band_sets:
                reason = f"no active model is called {model}; those are {', '.join(sorted(band_sets))}"
                missing.append(UnknownReference(workflow.id, "trigger.model", reason))
            case BandTrigger(model=model, scale=scale, to=to, source=source):
                bands = band_sets.get(model, {}).get(scale)
                if bands is None:
                    reason = f"no active model {model} has a set of bands {scale}"
                    missing.append(UnknownReference(workflow.id, "trigger.set", reason))
                    continue
                missing += [
                    UnknownReference(
                        workflow.id,
                        f"trigger.{key}",
                        f"{band!r} is no band of {scale}; those are {', '.join(bands)}",
                    )
                    for key, band in (("to", to), ("from", source))
                    if band is not None and band not in bands
                ]
            case (
                ScoreRiseTrigger()
                | ScoreFallTrigger()
                | StageTrigger()
                | FieldTrigger()
                | EventTrigger()
                | ScheduleTrigger()
                | LapseTrigger()
                | NoContactTrigger()
                | ManualTrigger()
            ):
                pass
            case other:
                assert_never(other)
    return missing


# Where it stands


def _shown_name(number: int, table: TomlTable) -> str:
    name = table.get("name")
    shown = shorten_value(name) if isinstance(name, str) else str(number + 1)
    return f"workflow {shown}"


def _refusal(text: str, key: str, reason: str) -> WorkflowsError:
    return WorkflowsError(line_of(text, rf"^[ \t]*\[*[ \t]*{re.escape(key)}\b"), key, reason)


def _line_of_key(text: str, number: int, count: int, key: str) -> int:
    """The line of a key of a workflow; that of its header if the key has no line of its own."""
    headers = list(_HEADER.finditer(text))
    if len(headers) != count:
        return line_of(text, r"^[ \t]*\[*[ \t]*workflow\b")
    begin = headers[number].end()
    end = headers[number + 1].start() if number + 1 < count else len(text)
    first, *inner = key.split(".")
    own = re.compile(rf"^[ \t]*(\[+[ \t]*workflow\.)?[\"']?{re.escape(first)}\b", re.MULTILINE).search(
        text, begin, end
    )
    if own is None:
        return text.count("\n", 0, begin) + 1
    at = own.end()
    next_part = (_NEXT_TABLE if own[1] else _NEXT_KEY).search(text, at, end)
    for part in inner:
        match = re.compile(rf"(?<![\w\"'.]){re.escape(part)}[ \t]*=").search(
            text, at, next_part.start() if next_part else end
        )
        at = match.end() if match else at
    return text.count("\n", 0, at) + 1

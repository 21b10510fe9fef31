"""Reads, checks and compiles an experiment's text (TOML). Refuses everything that it does not fully understand.

A refusal names the line, the section and the reason, so that the author can fix the file. GrowthBook silently
repairs weights that do not sum to 1; here they are refused.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from schemas.envelope import tag_of
from schemas.events import ConversionRecorded, Custom
from scoring.experiments.assignment import (
    DRAFT,
    HASH_VERSIONS,
    RUNNING,
    STOPPED,
    UNIT_LEAD,
    UNIT_VISITOR,
    Experiment,
    ExperimentNamespace,
    ExperimentStatus,
    Goal,
    GoalEvent,
    Variant,
    built_in_experiments,
    equal_weights,
)
from scoring.features.features import CUSTOM_PREFIX
from scoring.features.signals import EVENT_TYPE_BY_TAG
from scoring.models.text_refusals import TomlTable, is_whole_number, line_of, read_document

LONGEST_TEXT = 200_000
LONGEST_ABOUT = 2_000
MOST_VARIANTS = 20
MOST_GOALS = 20
LONGEST_WINDOW_DAYS = 3_650
LONGEST_EVENT_NAME = 512
"""Characters of a conversion type or a seed."""
CONVERSION_EVENT_TYPE = tag_of(ConversionRecorded)

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_VARIANT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 _.-]{0,62}[A-Za-z0-9_.-])?", re.ASCII)
_EXPERIMENT_KEYS = frozenset(
    {"name", "about", "status", "winner", "unit", "seed", "hash_version", "coverage", "namespace"}
    | {"window_days", "starts_at", "ends_at", "variants", "goals"}
)


class ExperimentError(ValueError):
    """The text is refused; the message says where and why."""


def compile_experiment(text: str) -> Experiment:
    """Compile an experiment's text; ExperimentError names line, place and reason."""
    document = read_document(text, "an experiment", ExperimentError, longest=LONGEST_TEXT)
    unknown = sorted(document.keys() - _EXPERIMENT_KEYS)
    if unknown:
        raise _refusal_of_key(
            text, unknown[0], f"unknown; an experiment has {', '.join(sorted(_EXPERIMENT_KEYS))}"
        )
    name = _experiment_name(text, document)
    variants = _variants(text, document)
    status = _status(text, document)
    starts_at, ends_at = (_moment(text, document, key) for key in ("starts_at", "ends_at"))
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        raise _refusal_of_key(text, "ends_at", "is not later than starts_at")
    hash_version = document.get("hash_version", 2)
    if not is_whole_number(hash_version, *HASH_VERSIONS):
        raise _refusal_of_key(text, "hash_version", f"is 1 or 2, not {hash_version!r}")
    window = document.get("window_days", 30)
    if not is_whole_number(window, 1, LONGEST_WINDOW_DAYS):
        raise _refusal_of_key(
            text, "window_days", f"is 1 to {LONGEST_WINDOW_DAYS} days, not {_shown_value(window)}"
        )
    return Experiment(
        name=name,
        variants=variants,
        goals=_goals(text, document),
        about=_text(text, document, "about", LONGEST_ABOUT) or "",
        status=status,
        unit="lead" if _one_of(text, document, "unit", UNIT_VISITOR, UNIT_LEAD) == UNIT_LEAD else "visitor",
        seed=_text(text, document, "seed", LONGEST_EVENT_NAME) or name,
        hash_version=hash_version,
        coverage=_share(text, "coverage", document.get("coverage", 1)),
        namespace=_namespace(text, document),
        window_days=window,
        winner=_winner(text, document, variants, stopped=status == STOPPED),
        starts_at=starts_at,
        ends_at=ends_at,
    )


compiled_experiment = lru_cache(maxsize=256)(compile_experiment)
"""The same; remembers the texts that it has read lately."""


def built_in_experiments_by_name() -> Mapping[str, Experiment]:
    """The experiments that come with Leadstream, by name."""
    return MappingProxyType({name: compile_experiment(text) for name, text in built_in_experiments().items()})


def _experiment_name(text: str, document: TomlTable) -> str:
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problem = (
            "missing: give the experiment a name" if name is None else f"{_shown_value(name)} is not a name"
        )
        raise _refusal_of_key(text, "name", f"{problem} of small letters, digits, _ and -")
    return name


def _variants(text: str, document: TomlTable) -> tuple[Variant, ...]:
    tables = _tables(text, document, "variants")
    if not 2 <= len(tables) <= MOST_VARIANTS:
        raise _refusal_of_key(text, "variants", f"an experiment has 2 to {MOST_VARIANTS}, not {len(tables)}")
    for name, table in tables.items():
        if not _VARIANT_NAME.fullmatch(name):
            raise _refusal_in_table(
                text, "variants", name, None, "a name has 1 to 64 letters, digits, spaces, _ . or -"
            )
        unknown = sorted(table.keys() - {"weight", "config"})
        if unknown:
            raise _refusal_in_table(
                text, "variants", name, unknown[0], "unknown; a variant has weight and config"
            )
    weights = _weights(text, tables)
    return tuple(
        Variant(name, weight, _variant_config(text, name, table.get("config", {})))
        for (name, table), weight in zip(tables.items(), weights, strict=True)
    )


def _variant_config(text: str, variant: str, value: Any) -> Any:
    try:
        return _json_value(value)
    except ExperimentError as wrong:
        raise _refusal_in_table(text, "variants", variant, "config", str(wrong)) from None


def _weights(text: str, tables: Mapping[str, TomlTable]) -> list[float]:
    """Each variant's share; equal shares if the text has none."""
    if not any("weight" in table for table in tables.values()):
        return equal_weights(len(tables))
    exact = []
    for name, table in tables.items():
        weight = _finite_number(table.get("weight"))
        if "weight" not in table:
            raise _refusal_in_table(
                text, "variants", name, None, "weight is missing, and other variants have one"
            )
        if weight is None or not 0 < weight < 1:
            reason = f"is above 0 and below 1, not {_shown_value(table['weight'])}"
            raise _refusal_in_table(text, "variants", name, "weight", reason)
        exact.append(weight)
    if sum(exact) != 1:
        last = list(tables)[-1]
        raise _refusal_in_table(
            text,
            "variants",
            last,
            "weight",
            f"the weights sum to {sum(exact)}, not to 1: fix one, or remove all",
        )
    return [float(weight) for weight in exact]


def _goals(text: str, document: TomlTable) -> tuple[Goal, ...]:
    tables = _tables(text, document, "goals")
    if not 1 <= len(tables) <= MOST_GOALS:
        raise _refusal_of_key(text, "goals", f"an experiment has 1 to {MOST_GOALS}, not {len(tables)}")
    return tuple(_goal(text, name, table) for name, table in tables.items())


def _goal(text: str, name: str, table: TomlTable) -> Goal:
    if not _NAME.fullmatch(name):
        raise _refusal_in_table(text, "goals", name, None, "a name has small letters, digits, _ and -")
    unknown = sorted(table.keys() - {"event", "conversion", "about"})
    if unknown:
        raise _refusal_in_table(
            text, "goals", name, unknown[0], "unknown; a goal has event or conversion, and about"
        )
    about = table.get("about", "")
    if not isinstance(about, str) or len(about) > LONGEST_ABOUT:
        raise _refusal_in_table(text, "goals", name, "about", "wants a text")
    signs = []
    if "event" in table:
        signs.append(_goal_event(text, name, table["event"]))
    if "conversion" in table:
        conversion = table["conversion"]
        if not isinstance(conversion, str) or not 1 <= len(conversion) <= LONGEST_EVENT_NAME:
            raise _refusal_in_table(
                text, "goals", name, "conversion", f"wants a conversion type, not {_shown_value(conversion)}"
            )
        signs.append(GoalEvent(CONVERSION_EVENT_TYPE, conversion))
    if not signs:
        raise _refusal_in_table(
            text, "goals", name, None, 'wants event = "demo_requested" or conversion = "purchase", or both'
        )
    return Goal(name, tuple(signs), about)


def _goal_event(text: str, goal: str, event: Any) -> GoalEvent:
    if isinstance(event, str) and event.startswith(CUSTOM_PREFIX) and len(event) > len(CUSTOM_PREFIX):
        return GoalEvent(tag_of(Custom), event.removeprefix(CUSTOM_PREFIX))
    if not isinstance(event, str) or event not in EVENT_TYPE_BY_TAG:
        raise _refusal_in_table(
            text,
            "goals",
            goal,
            "event",
            f"{_shown_value(event)} is no event type, and not {CUSTOM_PREFIX}NAME either",
        )
    return GoalEvent(event)


def _namespace(text: str, document: TomlTable) -> ExperimentNamespace | None:
    if "namespace" not in document:
        return None
    table = document["namespace"]
    name = isinstance(table, dict) and table.keys() == {"name", "from", "to"} and table["name"]
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_EVENT_NAME:
        raise _refusal_of_key(text, "namespace", 'wants { name = "chat", from = 0.0, to = 0.5 }')
    start, end = (_share(text, "namespace", table[key]) for key in ("from", "to"))
    if start >= end:
        raise _refusal_of_key(text, "namespace", "from is below to")
    return ExperimentNamespace(name, start, end)


def _winner(text: str, document: TomlTable, variants: tuple[Variant, ...], *, stopped: bool) -> str | None:
    winner = document.get("winner")
    if winner is None:
        return None
    if not stopped:
        raise _refusal_of_key(text, "winner", f'only an experiment of status = "{STOPPED}" has one')
    names = [variant.name for variant in variants]
    if winner not in names:
        raise _refusal_of_key(text, "winner", f"is {' or '.join(names)}, not {_shown_value(winner)}")
    return str(winner)


def _tables(text: str, document: TomlTable, key: str) -> dict[str, TomlTable]:
    tables = document.get(key)
    if not isinstance(tables, dict):
        raise _refusal_of_key(text, key, f"missing: write [{key}.NAME]" if tables is None else "wants tables")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise _refusal_in_table(text, key, name, None, f"wants a table [{key}.{name}]")
    return tables


def _status(text: str, document: TomlTable) -> ExperimentStatus:
    match _one_of(text, document, "status", RUNNING, DRAFT, STOPPED):
        case "draft":
            return "draft"
        case "stopped":
            return "stopped"
    return "running"


def _moment(text: str, document: TomlTable, key: str) -> datetime | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _refusal_of_key(
            text, key, f"is a moment with an offset, such as 2030-01-31T09:00:00Z, not {_shown_value(value)}"
        )
    return value


def _one_of(text: str, document: TomlTable, key: str, *allowed: str) -> str:
    value = document.get(key, allowed[0])
    if value not in allowed:
        choices = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        raise _refusal_of_key(text, key, f"is {choices}, not {_shown_value(value)}")
    return str(value)


def _text(text: str, document: TomlTable, key: str, longest: int) -> str | None:
    value = document.get(key)
    if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= longest):
        raise _refusal_of_key(text, key, f"wants a text of 1 to {longest} characters")
    return value


def _share(text: str, key: str, value: Any) -> float:
    share = _finite_number(value)
    if share is None or not 0 <= share <= 1:
        raise _refusal_of_key(text, key, f"is a share from 0 to 1, not {_shown_value(value)}")
    return float(share)


def _finite_number(value: Any) -> Decimal | None:
    """A finite number, exactly as written; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    exact = Decimal(value)
    return exact if exact.is_finite() else None


def _json_value(value: Any) -> Any:
    """A value of TOML as one of JSON."""
    match value:
        case dict():
            return {key: _json_value(each) for key, each in value.items()}
        case list():
            return [_json_value(each) for each in value]
        case Decimal():
            number = float(value)
            if not math.isfinite(number):
                raise ExperimentError(f"{value} is no number of JSON")
            return number
        case bool() | int() | str():
            return value
        case _:
            raise ExperimentError(f"{value} is no value of JSON: write it as a text, in quotes")


def _shown_value(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)


def _refusal_in_table(text: str, key: str, name: str, field: str | None, reason: str) -> ExperimentError:
    """A refusal of something in the table [key.name]."""
    header = rf"^[ \t]*\[{key}\.[\"']?{re.escape(name)}[\"']?\]"
    section_header = re.search(header, text, re.MULTILINE)
    line = line_of(text, header if section_header else rf"^[ \t]*\[?{key}\b")
    if section_header is not None and field is not None:
        section = text[section_header.end() :].partition("\n[")[0]
        line += line_of(section, rf"^[ \t]*{re.escape(field)}\b") - 1
    location = f"{key}.{name}" if field is None else f"{key}.{name}, {field}"
    return ExperimentError(f"line {line}, {location}: {reason}")


def _refusal_of_key(text: str, key: str, reason: str) -> ExperimentError:
    line = line_of(text, rf"^[ \t]*\[*{re.escape(key)}\b")
    return ExperimentError(f"line {line}, {key}: {reason}")

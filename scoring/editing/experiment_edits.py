"""An experiment as data for a form, and the text with a changed experiment.

Only what differs is written anew: other lines keep their places and their comments. Nothing is checked here.
"""

import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import Table

from schemas.refusal import Refusal
from scoring.editing.rule_json import Json
from scoring.editing.text_edits import change_table, edit_document, plain_value, toml_value
from scoring.experiments.assignment import RUNNING, STOPPED, Experiment, Goal, equal_weights
from scoring.experiments.experiment_text import CONVERSION_EVENT_TYPE
from scoring.features.features import CUSTOM_PREFIX

DEFAULTS: Final[Mapping[str, Any]] = {
    "about": "", "unit": "visitor", "coverage": 1, "window_days": 30, "starts_at": None, "ends_at": None, "namespace": None
}  # fmt: skip
"""Keys of a form, and what a text without them means."""


def new_experiment_text(name: str) -> str:
    """The beginning of a text: an experiment that is not started, and has no variants yet."""
    return f'name = {toml_value(name)}\n\n# draft: not started. running: visitors are assigned. stopped: it is over.\nstatus = "draft"\n'


def experiment_form(experiment: Experiment) -> Json:
    namespace = experiment.namespace
    return {
        "about": experiment.about,
        "unit": experiment.unit,
        "coverage": experiment.coverage,
        "window_days": experiment.window_days,
        "starts_at": experiment.starts_at,
        "ends_at": experiment.ends_at,
        "namespace": namespace and {"name": namespace.name, "from": namespace.start, "to": namespace.end},
        "variants": [variant._asdict() for variant in experiment.variants],
        "goals": [_goal_form(goal) for goal in experiment.goals],
    }


def _goal_form(goal: Goal) -> Json:
    conversions = [
        sign.named for sign in goal.goal_events if sign.event == CONVERSION_EVENT_TYPE and sign.named
    ]
    events = [sign for sign in goal.goal_events if sign.event != CONVERSION_EVENT_TYPE or not sign.named]
    return {
        "name": goal.name,
        "about": goal.about,
        "event": next(
            (sign.event if sign.named is None else f"{CUSTOM_PREFIX}{sign.named}" for sign in events), None
        ),
        "conversion": next(iter(conversions), None),
    }


def text_with_form(text: str, form: Json) -> str:
    """The text with what the form says. Raises Refusal for a value that a text cannot have, and UneditableText."""

    def edit(document: TOMLDocument) -> None:
        for key, default in DEFAULTS.items():
            _change_value(document, key, _without_floats(form[key]), default)
        _change_tables(
            document,
            "variants",
            {
                variant["name"]: _variant_table(variant, weight)
                for variant, weight in zip(form["variants"], _weights(form["variants"]), strict=True)
            },
        )
        _change_tables(document, "goals", {each["name"]: _goal_table(each) for each in form["goals"]})

    return edit_document(text, edit)


def text_with_status(text: str, status: str, winner: str | None = None) -> str:
    """The text of a started or stopped experiment. Raises UneditableText."""

    def edit(document: TOMLDocument) -> None:
        document["status"] = status
        if status == RUNNING or winner is None:
            document.pop("winner", None)
        if status == STOPPED and winner is not None:
            document["winner"] = winner

    return edit_document(text, edit)


def _change_value(document: TOMLDocument, key: str, value: Any, default: Any) -> None:
    """A default that the author has not written stays unwritten."""
    if value in (None, "") or (value == default and key not in document):
        document.pop(key, None)
    elif key not in document or plain_value(document[key]) != value:
        if isinstance(document.get(key), Table):
            del document[key]  # a value in one line goes before all tables
        document[key] = tomlkit.value(toml_value(value))


def _weights(variants: Sequence[Json]) -> list[Decimal | None]:
    """As they are written: equal ones that no decimals can say, such as thirds, are left out."""
    weights = [variant["weight"] for variant in variants]
    exact = [None if weight is None else Decimal(str(weight)) for weight in weights]
    if weights == equal_weights(len(weights)) and sum(each for each in exact if each is not None) != 1:
        return [None] * len(weights)
    return exact


def _variant_table(variant: Json, weight: Decimal | None) -> dict[str, Any]:
    name = variant["name"]
    table: dict[str, Any] = {} if weight is None else {"weight": weight}
    if variant["config"] not in (None, {}):
        table["config"] = _config_value(variant["config"], f"variants.{name}.config")
    return table


def _goal_table(goal: Json) -> dict[str, Any]:
    return {key: goal[key] for key in ("about", "event", "conversion") if goal[key]}


def _change_tables(document: TOMLDocument, key: str, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Tables of the same names keep their comments; else all are written anew, in their order."""
    current: Any = document.get(key)
    if current is not None and list(current) == list(tables):
        for name, table in tables.items():
            change_table(current[name], table)
        return
    document.pop(key, None)
    section = tomlkit.table(is_super_table=bool(tables))
    for name, values in tables.items():
        table = tomlkit.table()
        for field, value in values.items():
            table[field] = tomlkit.value(toml_value(value))
        table.add(tomlkit.nl())
        section[name] = table
    document[key] = section


def _config_value(value: Any, field: str) -> Any:
    """A value of JSON as one of TOML, which has no null. Raises Refusal."""
    match value:
        case None:
            raise Refusal(field, "is null, which the text of an experiment cannot have")
        case dict():
            return {key: _config_value(each, f"{field}.{key}") for key, each in value.items()}
        case list():
            return [_config_value(each, f"{field}.{index}") for index, each in enumerate(value)]
        case _:
            return _without_floats(value)


def _without_floats(value: Any) -> Any:
    match value:
        case float():
            return Decimal(str(value))
        case dict():
            return {key: _without_floats(each) for key, each in value.items()}
        case _:
            return value


def is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True

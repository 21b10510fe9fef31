"""Converts a workflow between JSON for the API and a table in the published text, one to one.

Every refusal names the wrong JSON field, with the reason of the reader of texts. This module does not edit texts or
assign ids.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from schemas.refusal import Refusal, json_type_name
from scoring.editing.rule_json import (
    OPERAND_READER_AND_SAMPLE,
    OPERATORS_WITHOUT_VALUE,
    check_keys,
    comparison_from_json,
    comparison_json,
    exact_number,
    listing_keys,
)
from scoring.editing.text_edits import toml_value
from scoring.features.operators import OPERATORS
from scoring.workflows.conditions import is_standing_phrase
from scoring.workflows.workflow_text import WorkflowsError, compile_workflows

Json = dict[str, Any]
Table = Mapping[str, Any]

WORKFLOW_FIELDS: Final = (
    "name",
    "trigger_type",
    "trigger_config",
    "conditions",
    "action_type",
    "action_config",
    "is_active",
    "priority",
    "anonymous",
)
"""The fields of a workflow in the API."""
READ_ONLY_WORKFLOW_FIELDS: Final = frozenset({"id", "created_at"})
"""Fields of answers that a request may repeat; they change nothing."""
CONDITION_FIELDS: Final = ("field_name", "operator", "value")
DEEPEST_CONFIG: Final = 8
_NO_SIGNALS: Final[Mapping[str, Any]] = MappingProxyType({})


def workflow_json(table: Table) -> Json:
    """A workflow of the text in the API's form."""
    trigger, action = dict(table["trigger"]), dict(table["action"])
    return {
        "id": table.get("id"),
        "name": table["name"],
        "trigger_type": trigger.pop("type"),
        "trigger_config": _json_value(trigger),
        "conditions": [_condition_json(each) for each in table.get("conditions", [])],
        "action_type": action.pop("type"),
        "action_config": _json_value(action),
        "is_active": table.get("active", True),
        "priority": table.get("priority", 0),
        "anonymous": table.get("anonymous", False),
        "created_at": table.get("created_at"),
    }


def workflow_from_json(body: Json) -> Json:
    """The table of a workflow in the API's form, without its id. Refusal names the field and the reason."""
    sent = {key: value for key, value in body.items() if key not in READ_ONLY_WORKFLOW_FIELDS}
    check_keys(sent, WORKFLOW_FIELDS, required=("name", "trigger_type", "action_type"))
    if missing := [field for field, value in sent.items() if value is None]:
        raise Refusal(missing[0], "null is no value here: leave the field out")
    if not isinstance(body["name"], str):
        raise Refusal("name", f"must be text, not {json_type_name(body['name'])}")
    trigger = {"type": body["trigger_type"], **_config(body, "trigger_config")}
    action = {"type": body["action_type"], **_config(body, "action_config")}
    priority = exact_number(body.get("priority", 0))
    active = body.get("is_active", True)
    anonymous = body.get("anonymous", False)
    conditions = _conditions(body.get("conditions", []))
    table: Json = {"name": body["name"], **listing_keys(priority, active)}
    if anonymous is not False:
        table["anonymous"] = anonymous
    table["trigger"] = trigger
    if conditions:
        table["conditions"] = conditions
    table["action"] = action
    _check_table(table)
    return table


def _conditions(value: Any) -> list[Json]:
    if not isinstance(value, list):
        raise Refusal("conditions", f"must be a list, not {json_type_name(value)}")
    tables = []
    for index, each in enumerate(value):
        if not isinstance(each, dict):
            raise Refusal(f"conditions.{index}", f"must be an object, not {json_type_name(each)}")
        try:
            tables.append(_condition_from_json(each))
        except Refusal as refusal:
            at = f"conditions.{index}"
            raise Refusal(f"{at}.{refusal.field}" if refusal.field else at, refusal.reason) from None
    return tables


def _condition_from_json(body: Json) -> Json:
    """field_name, operator and value, as rules have them, or a table as the text has it."""
    if "field_name" not in body:
        kept: Json = _text_value(body, "", DEEPEST_CONFIG)
        return kept
    check_keys(body, CONDITION_FIELDS, required=CONDITION_FIELDS[:2])
    name, operator = body["field_name"], body["operator"]
    if not is_standing_phrase(name):
        return comparison_from_json(body, _NO_SIGNALS)
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise Refusal("operator", f"{operator!r} is none of {', '.join(OPERATORS)}")
    read, _ = OPERAND_READER_AND_SAMPLE[operator]
    operand = read(body.get("value"))
    if operand is None:
        raise Refusal("value", "missing")
    return {"value": name, operator: _numbers(operand) if name.startswith("score") else operand}


def _numbers(operand: Any) -> Any:
    return [exact_number(each) for each in operand] if isinstance(operand, list) else exact_number(operand)


def _condition_json(table: Table) -> Json:
    if "value" not in table:
        kept: Json = _json_value(dict(table))
        return kept
    if not is_standing_phrase(table["value"]):
        return comparison_json(table, _NO_SIGNALS)
    ((operator, operand),) = ((key, each) for key, each in table.items() if key != "value")
    shown = None if operator in OPERATORS_WITHOUT_VALUE else _json_value(operand)
    return {"field_name": table["value"], "operator": operator, "value": shown}


def _config(body: Json, field: str) -> Json:
    config = body.get(field, {})
    if not isinstance(config, dict):
        raise Refusal(field, f"must be an object, not {json_type_name(config)}")
    if "type" in config:
        raise Refusal(f"{field}.type", f"the type stands in {field.replace('_config', '_type')}")
    kept: Json = _text_value(config, field, DEEPEST_CONFIG)
    return kept


def _text_value(value: Any, path: str, depth: int) -> Any:
    """A JSON value as the text can have it. A field that is null is left out; TOML has no null."""
    if depth == 0:
        raise Refusal(path, f"is nested more than {DEEPEST_CONFIG} levels deep")
    match value:
        case dict():
            return {
                key: _text_value(each, f"{path}.{key}", depth - 1)
                for key, each in value.items()
                if each is not None
            }
        case list():
            return [_text_value(each, f"{path}.{index}", depth - 1) for index, each in enumerate(value)]
        case None:
            raise Refusal(path, "null is no value here")
        case float():
            return exact_number(value)
    return value


def _json_value(value: Any) -> Any:
    """A value of the text as JSON shows it."""
    match value:
        case dict():
            return {key: _json_value(each) for key, each in value.items()}
        case list():
            return [_json_value(each) for each in value]
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
    return value


def _check_table(table: Json) -> None:
    """Compiles the workflow alone. The Refusal names the field."""
    lines = "\n".join(f"{key} = {toml_value(value)}" for key, value in table.items())
    try:
        compile_workflows(f"[[workflow]]\nid = 1\n{lines}\n")
    except WorkflowsError as refusal:
        raise Refusal(field_of_key(refusal.key), refusal.reason) from None


_FIELD_BY_KEY: Final = {"active": "is_active", "trigger": "trigger_config", "action": "action_config"}


def field_of_key(key: str) -> str:
    """The JSON field of a key in the text: trigger.type is trigger_type, trigger.score is trigger_config.score."""
    key = re.sub(r"^(trigger|action)\.type$", r"\1_type", key)
    first, dot, rest = key.partition(".")
    return f"{_FIELD_BY_KEY.get(first, first)}{dot}{rest}"

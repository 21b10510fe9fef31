"""A qualification criterion in two forms: JSON for the API, a table in the model's text.

`minimum_score` is the stage's threshold, or the criterion's own minimum above it. Every refusal names the JSON
field and repeats the model compiler's reason.
"""

from decimal import Decimal
from typing import Any

from schemas.refusal import Refusal
from scoring.editing.rule_json import (
    UNPREFIXED_PROFILE_FIELDS,
    DefinedSignals,
    Json,
    Table,
    check_keys,
    compile_each,
    exact_number,
    json_number,
)
from scoring.models.band_text import NAME_PATTERN, compile_requirement

CRITERION_FIELDS = (
    "name",
    "stage",
    "minimum_score",
    "required_fields",
    "required_actions",
    "time_constraint_days",
    "is_active",
)
"""The fields of a criterion in the API."""


def requirement_from_json(body: Json, defined: DefinedSignals) -> tuple[str, int | Decimal, Json]:
    """(stage, minimum, table) of a criterion in the API's form; Refusal names field and reason."""
    check_keys(body, CRITERION_FIELDS, required=("name", "stage", "minimum_score"))
    stage, minimum = body["stage"], exact_number(body["minimum_score"])
    if not isinstance(stage, str) or not NAME_PATTERN.fullmatch(stage):
        raise Refusal("stage", f"{stage!r} is not mql, sql, hot, or a name of small letters, digits and _")
    fields, actions = _names(body, "required_fields"), _names(body, "required_actions")
    fields = [_profile_field(field) for field in fields]
    within, active = exact_number(body.get("time_constraint_days")), body.get("is_active", True)
    time_limit = {} if within is None else {"within_days": within}
    compile_each(
        {
            "name": {"name": body["name"]},
            "minimum_score": {"minimum": minimum},
            "required_fields": {"fields": fields},
            "required_actions": {"actions": actions},
            "time_constraint_days": time_limit,
        },
        lambda table: compile_requirement(table, defined, set()),
    )
    if not isinstance(active, bool):
        raise Refusal("is_active", f"true or false, not {active!r}")
    table = {"name": body["name"], "fields": fields, "actions": actions, **time_limit}
    stated = {key: value for key, value in table.items() if value != []}
    return stage, minimum, stated if active else stated | {"active": False}


def criterion_json(stage: str, table: Table, minimum: Any) -> Json:
    """A criterion of the text in the API's form."""
    return {
        "id": table["id"],
        "name": table.get("name", stage),
        "stage": stage,
        "minimum_score": json_number(minimum),
        "required_fields": [_api_field(field) for field in table.get("fields", [])],
        "required_actions": list(table.get("actions", [])),
        "time_constraint_days": table.get("within_days"),
        "is_active": table.get("active", True),
    }


def minimum_of(table: Table, threshold: Any) -> Any:
    """The least score that meets the criterion: at least where its stage begins."""
    return max(threshold, table.get("minimum", threshold))


def _names(body: Json, field: str) -> list[Any]:
    names = body.get(field)
    if names is None:
        return []
    if not isinstance(names, list):
        raise Refusal(field, f"a list of names, not {names!r}")
    return names


def _profile_field(field: Any) -> Any:
    """The profile field that a field name of the API means."""
    if not isinstance(field, str):
        return field
    bare = field.removeprefix("profile.")
    if bare == field and field not in UNPREFIXED_PROFILE_FIELDS:
        raise Refusal(
            "required_fields", f"{field!r} is no field of leads; one of your own is profile.{field}"
        )
    return bare


def _api_field(field: str) -> str:
    return field if field in UNPREFIXED_PROFILE_FIELDS else f"profile.{field}"

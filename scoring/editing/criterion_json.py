"""A qualification criterion as the API tells it (JSON) and as the model's text has it (a table).

Its `minimum_score` is the stage's threshold, or its own minimum above it. Every refusal names the JSON
field; the reason is the model compiler's own.
"""

from decimal import Decimal
from typing import Any

from schemas.refusal import Refusal
from scoring.editing.rule_json import (
    PROFILE_FIELDS,
    Defined,
    Json,
    Table,
    check_keys,
    compile_each,
    json_number,
    numeral,
)
from scoring.models.band_text import NAME, compile_need

GIVEN = (
    "name",
    "stage",
    "minimum_score",
    "required_fields",
    "required_actions",
    "time_constraint_days",
    "is_active",
)
"""What makes a criterion, in the API's words."""


def need_of(body: Json, defined: Defined) -> tuple[str, int | Decimal, Json]:
    """(stage, minimum, table) of a criterion given in the API's words; Refusal names field and reason."""
    check_keys(body, GIVEN, required=("name", "stage", "minimum_score"))
    stage, minimum = body["stage"], numeral(body["minimum_score"])
    if not isinstance(stage, str) or not NAME.fullmatch(stage):
        raise Refusal("stage", f"{stage!r} is not mql, sql, hot, or a name of small letters, digits and _")
    fields, actions = body.get("required_fields") or [], body.get("required_actions") or []
    if isinstance(fields, list):
        fields = [_bare(field) for field in fields]
    within, active = numeral(body.get("time_constraint_days")), body.get("is_active", True)
    timed = {} if within is None else {"within_days": within}
    compile_each(
        {
            "name": {"name": body["name"]},
            "minimum_score": {"minimum": minimum},
            "required_fields": {"fields": fields},
            "required_actions": {"actions": actions},
            "time_constraint_days": timed,
        },
        lambda table: compile_need(table, defined, set()),
    )
    if not isinstance(active, bool):
        raise Refusal("is_active", f"true or false, not {active!r}")
    asked = {"name": body["name"], "fields": fields, "actions": actions, **timed}
    given = {key: value for key, value in asked.items() if value != []}
    return stage, minimum, given if active else given | {"active": False}


def criterion_json(stage: str, table: Table, minimum: Any) -> Json:
    """A criterion of the text in the API's words."""
    return {
        "id": table["id"],
        "name": table.get("name", stage),
        "stage": stage,
        "minimum_score": json_number(minimum),
        "required_fields": [_told(field) for field in table.get("fields", [])],
        "required_actions": list(table.get("actions", [])),
        "time_constraint_days": table.get("within_days"),
        "is_active": table.get("active", True),
    }


def minimum_of(table: Table, threshold: Any) -> Any:
    """What the criterion asks of the score: it cannot be less than where its stage begins."""
    return max(threshold, table.get("minimum", threshold))


def _bare(field: Any) -> Any:
    """The profile field that a field name of the API means."""
    if not isinstance(field, str):
        return field
    bare = field.removeprefix("profile.")
    if bare == field and field not in PROFILE_FIELDS:
        raise Refusal(
            "required_fields", f"{field!r} is no field of leads; one of your own is profile.{field}"
        )
    return bare


def _told(field: str) -> str:
    return field if field in PROFILE_FIELDS else f"profile.{field}"

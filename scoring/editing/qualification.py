"""Lists, creates, changes and deletes the rules and criteria of a model's text, for the API.

Every function takes a text and returns a text or JSON. Nothing is stored here; the caller compiles and publishes
the result. A wrong field raises Refusal with the field and the reason, an id that does not exist UnknownId, and
a change that the text does not allow Uneditable.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from schemas.refusal import Refusal
from scoring.editing.criterion_json import CRITERION_FIELDS, criterion_json, minimum_of, requirement_from_json
from scoring.editing.rule_json import (
    OPERATORS_WITHOUT_VALUE,
    RULE_FIELDS,
    Json,
    check_keys,
    compile_each,
    exact_number,
    group_of_rule_type,
    json_number,
    listing_keys,
    operator_of,
    rule_from_json,
    rule_json,
)
from scoring.editing.text_edits import (
    CRITERIA,
    RULES,
    STAGE_BANDS,
    Document,
    SectionEntry,
    UneditableText,
    UnknownId,
    add_entry,
    all_entries,
    change_entry,
    edit_text,
    entry_numbered,
    next_number,
    read_numbered,
    remove_entry,
    set_stage_threshold,
    signals_defined_in,
    stage_thresholds,
)
from scoring.models.rules import compile_rule

# Rules


def rules_of(text: str) -> list[Json]:
    """All rules, the highest priority first."""
    document = read_numbered(text)
    defined = signals_defined_in(document)
    rules = [rule_json(*placed, defined) for placed in all_entries(RULES, document)]
    return sorted(rules, key=lambda rule: (-rule["priority"], rule["id"]))


def rule_numbered(text: str, number: int) -> Json:
    document = read_numbered(text)
    return rule_json(*entry_numbered(RULES, document, number), signals_defined_in(document))


def create_rule(text: str, body: Json) -> tuple[str, int]:
    """(the text with the rule, its id)"""
    document = read_numbered(text)
    group, table = rule_from_json(body, signals_defined_in(document))
    _check_name_is_free(document, group, table["name"])
    number = next_number(RULES, document)
    return edit_text(text, lambda edit: add_entry(RULES, edit, group, table)), number


def change_rule(text: str, number: int, body: Json, *, partly: bool) -> str:
    """The text with the changed rule. `partly`: fields that are not in `body` stay unchanged."""
    document = read_numbered(text)
    placed = entry_numbered(RULES, document, number)
    if "value" in placed.entry:
        group, table = _changed_comparison_rule(placed, body, document, partly=partly)
    else:
        group, table = _changed_other_rule(placed, body, document)
    _check_name_is_free(document, group, table["name"], number)
    return edit_text(text, lambda edit: change_entry(RULES, edit, number, group, table))


def switch_rule(text: str, number: int, *, active: bool) -> str:
    group, entry = entry_numbered(RULES, read_numbered(text), number)
    return edit_text(
        text, lambda edit: change_entry(RULES, edit, number, group, _switched_entry(entry, active=active))
    )


def delete_rule(text: str, number: int) -> str:
    entry_numbered(RULES, read_numbered(text), number)
    return edit_text(text, lambda edit: remove_entry(RULES, edit, number))


def _changed_comparison_rule(
    placed: SectionEntry, body: Json, document: Document, *, partly: bool
) -> tuple[str, Json]:
    entry, defined = placed.entry, signals_defined_in(document)
    current = rule_json(*placed, defined)
    operator = operator_of(entry)
    unchanged = {key: current[key] for key in RULE_FIELDS} if partly else {}
    needs_nothing = body.get("operator", operator)
    if isinstance(needs_nothing, str) and needs_nothing in OPERATORS_WITHOUT_VALUE:
        unchanged.pop("value", None)
    group, table = rule_from_json(unchanged | body, defined)
    if partly and not {"field_name", "operator", "value"} & body.keys():
        table[operator] = entry[operator]
    api_keys = {"id", "name", "value", operator, "points", "priority", "active"}
    return group, table | {key: value for key, value in entry.items() if key not in api_keys}


def _changed_other_rule(placed: SectionEntry, body: Json, document: Document) -> tuple[str, Json]:
    """A rule with no `value`: the API can change its name, points, priority and group only."""
    check_keys(body, RULE_FIELDS, required=())
    entry = dict(placed.entry)
    points_key = next((key for key in ("points", "base") if json_number(entry.get(key)) is not None), None)
    fixed = ("field_name", "operator", "value", *(() if points_key else ("points",)))
    if refused := [field for field in fixed if body.get(field) is not None]:
        raise UneditableText(
            f"rule {entry['id']} cannot be written as field_name, operator and value: "
            f"change its {refused[0]} in the text of the model"
        )
    tries = {}
    for field, key in (("name", "name"), ("points", points_key), ("priority", "priority")):
        if key is not None and body.get(field) is not None:
            entry[key] = body[field] if field == "name" else exact_number(body[field])
            tries[field] = dict(entry)
    defined = signals_defined_in(document)
    compile_each(tries, lambda table: compile_rule(table, defined))
    group = group_of_rule_type(body.get("rule_type", placed.section))
    kept = {key: value for key, value in entry.items() if key not in {"priority", "active"}}
    active = body.get("is_active", entry.get("active", True))
    return group, kept | listing_keys(entry.get("priority", 0), active)


def _switched_entry(entry: Json, *, active: bool) -> Json:
    kept = {key: value for key, value in entry.items() if key != "active"}
    return kept if active else kept | {"active": False}


def _check_name_is_free(document: Document, group: str, name: str, number: int | None = None) -> None:
    for rule_group, entry in all_entries(RULES, document):
        if rule_group == group and entry["name"] == name and entry["id"] != number:
            raise Refusal("name", f"rule {entry['id']} of {group} has this name")


# Criteria


class _Criterion(NamedTuple):
    stage: str
    minimum: int | Decimal
    entry: Json
    """Without the minimum."""


def criteria_of(text: str) -> list[Json]:
    """All criteria, by minimum score."""
    numbered = _criteria_by_id(read_numbered(text))
    criteria = [_criterion_json(number, criterion) for number, criterion in numbered.items()]
    return sorted(criteria, key=lambda criterion: (criterion["minimum_score"], criterion["id"]))


def criterion_numbered(text: str, number: int) -> Json:
    return _criterion_json(number, _criterion_by_id(_criteria_by_id(read_numbered(text)), number))


def create_criterion(text: str, body: Json) -> tuple[str, int]:
    """(the text with the criterion, its id). A new stage begins with its first criterion."""
    document = read_numbered(text)
    several, number = _criteria_by_id(document), next_number(CRITERIA, document)
    return _with_criteria(text, document, {**several, number: _criterion_from_json(document, body)}), number


def change_criterion(text: str, number: int, body: Json, *, partly: bool) -> str:
    """The text with the changed criterion. `partly`: fields that are not in `body` stay unchanged."""
    document = read_numbered(text)
    several = _criteria_by_id(document)
    current = _criterion_json(number, _criterion_by_id(several, number))
    unchanged = {key: current[key] for key in CRITERION_FIELDS} if partly else {}
    return _with_criteria(
        text, document, {**several, number: _criterion_from_json(document, unchanged | body)}
    )


def switch_criterion(text: str, number: int, *, active: bool) -> str:
    """No lead reaches a stage whose criteria are all switched off."""
    document = read_numbered(text)
    several = _criteria_by_id(document)
    old = _criterion_by_id(several, number)
    return _with_criteria(
        text, document, {**several, number: old._replace(entry=_switched_entry(old.entry, active=active))}
    )


def delete_criterion(text: str, number: int) -> str:
    """The last criterion of a stage removes the stage, too."""
    document = read_numbered(text)
    several = _criteria_by_id(document)
    _criterion_by_id(several, number)
    return _with_criteria(text, document, {each: several[each] for each in several if each != number})


def _criteria_by_id(document: Document) -> dict[int, _Criterion]:
    begins = stage_thresholds(document)
    return {
        entry["id"]: _Criterion(
            stage,
            minimum_of(entry, begins[stage]),
            {key: value for key, value in entry.items() if key not in {"id", "minimum"}},
        )
        for stage, entry in all_entries(CRITERIA, document)
        if stage in begins
    }


def _criterion_by_id(several: Mapping[int, _Criterion], number: int) -> _Criterion:
    if number not in several:
        raise UnknownId(f"no criterion has the id {number}")
    return several[number]


def _criterion_from_json(document: Document, body: Json) -> _Criterion:
    stage, minimum, entry = requirement_from_json(body, signals_defined_in(document))
    if stage in stage_thresholds(document) and stage not in {
        band for band, _ in all_entries(CRITERIA, document)
    }:
        raise Refusal("stage", f"{stage} is the default stage: it cannot have criteria")
    for scale, bands in document.get("bands", {}).items():
        if stage in bands and scale != STAGE_BANDS:
            raise Refusal(
                "stage", f"{stage} is also a band of {scale}, which would get the same requirements"
            )
    return _Criterion(stage, minimum, entry)


def _criterion_json(number: int, criterion: _Criterion) -> Json:
    return criterion_json(criterion.stage, {"id": number, **criterion.entry}, criterion.minimum)


def _with_criteria(text: str, document: Document, after: Mapping[int, _Criterion]) -> str:
    """The text with these criteria; each stage begins at the lowest minimum of its criteria."""
    before = _criteria_by_id(document)
    stages = {each.stage for each in (*before.values(), *after.values())}
    begins = {
        stage: min((each.minimum for each in after.values() if each.stage == stage), default=None)
        for stage in stages
    }
    left = {**stage_thresholds(document), **begins}
    if stages and all(threshold is None for threshold in left.values()):
        raise UneditableText(
            "the model would lose its only stage with this criterion: switch the criterion off instead"
        )
    _check_thresholds_differ(left)

    def edit(edited_document: Document) -> None:
        for number in before.keys() - after.keys():
            remove_entry(CRITERIA, edited_document, number)
        for number, criterion in after.items():
            entry = dict(criterion.entry)
            if criterion.minimum != begins[criterion.stage]:
                entry["minimum"] = criterion.minimum
            if number not in before:
                add_entry(CRITERIA, edited_document, criterion.stage, entry)
            elif (criterion.stage, {"id": number, **entry}) != entry_numbered(CRITERIA, document, number):
                change_entry(CRITERIA, edited_document, number, criterion.stage, entry)
        for stage, threshold in begins.items():
            set_stage_threshold(edited_document, stage, threshold)

    return edit_text(text, edit)


def _check_thresholds_differ(begins: Mapping[str, Any]) -> None:
    taken: dict[Any, str] = {}
    for stage, threshold in begins.items():
        if threshold is None:
            continue
        if threshold in taken:
            raise Refusal(
                "minimum_score",
                f"{taken[threshold]} and {stage} would both begin at {threshold}: "
                "each stage begins at a score of its own",
            )
        taken[threshold] = stage

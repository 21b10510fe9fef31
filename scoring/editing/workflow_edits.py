"""Lists, creates, changes and deletes the workflows of a published text, and completes a text before its publication.

Every function takes a text and returns a text or JSON. Comments and order stay. An id is never used twice: the text
remembers the highest. A wrong field raises Refusal with the field and the reason, an id that does not exist UnknownId,
and a change that the text does not allow UneditableText.
"""

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import AoT, Array

from schemas.refusal import Refusal
from scoring.editing.text_edits import (
    Document,
    UnknownId,
    change_table,
    edit_document,
    toml_value,
)
from scoring.editing.workflow_json import WORKFLOW_FIELDS, Json, workflow_from_json, workflow_json
from scoring.workflows.workflow_text import compile_workflows

LIST_KEY: Final = "workflow"
HIGHEST_KEY: Final = "highest_workflow_id"

WorkflowChange = Literal["created", "changed", "activated", "deactivated", "deleted"]
MOST_IDS_IN_SUMMARY: Final = 20


def workflows_of(text: str) -> list[Json]:
    """All workflows, the highest priority first."""
    workflows = [workflow_json(entry) for entry in _entries(text)]
    return sorted(workflows, key=lambda workflow: (-workflow["priority"], workflow["id"]))


def workflow_numbered(text: str, number: int) -> Json:
    return workflow_json(_entry(text, number))


def create_workflow(text: str, body: Json, now: datetime) -> tuple[str, int]:
    """(the text with the workflow, its id)"""
    number = highest_id(text) + 1
    table = {"id": number, **workflow_from_json(body), "created_at": _second(now)}
    _check_name_is_free(text, table["name"], number)

    def edit(document: TOMLDocument) -> None:
        if HIGHEST_KEY not in document and LIST_KEY not in document:
            document[HIGHEST_KEY] = number
            document.add(tomlkit.nl())
        document[HIGHEST_KEY] = number
        _append(document, table)

    return edit_document(text, edit), number


def change_workflow(text: str, number: int, body: Json, *, partly: bool) -> str:
    """The text with the changed workflow. `partly`: fields that are not in `body` stay unchanged."""
    entry = _entry(text, number)
    current = workflow_json(entry)
    unchanged = {key: current[key] for key in WORKFLOW_FIELDS} if partly else {}
    table = workflow_from_json(unchanged | body)
    _check_name_is_free(text, table["name"], number)
    kept = {key: entry[key] for key in ("id", "created_at") if key in entry}
    return _with_entry(text, number, kept | table)


def switch_workflow(text: str, number: int, *, active: bool) -> str:
    kept = {key: value for key, value in _entry(text, number).items() if key != "active"}
    return _with_entry(text, number, kept if active else kept | {"active": False})


def delete_workflow(text: str, number: int) -> str:
    _entry(text, number)

    def edit(document: Document) -> None:
        document[HIGHEST_KEY] = highest_id(text)
        entries = document[LIST_KEY]
        del entries[_index(entries, number)]
        if not entries and isinstance(entries, AoT):
            del document[LIST_KEY]

    return edit_document(text, edit)


def finished_workflows(text: str, newest: str, now: datetime, *, restored: bool = False) -> str:
    """A text as it is published on top of the newest one: every workflow has an id and a moment of creation, and the
    text has the highest id. A workflow without an id is the one of its name in the newest text, else a new one.

    Raises WorkflowsError for a text with a mistake, and Refusal for the id of a deleted workflow, unless the text is
    `restored`, which brings back the workflows of an earlier version.
    """
    compile_workflows(text, numbered=False)
    entries = _entries(text)
    before = {entry["id"]: entry for entry in _entries(newest)}
    highest_before = highest_id(newest)
    ids = _ids(entries, before, highest_before)
    if not restored:
        _check_ids_are_not_reused(entries, before, highest_before)
    created = [
        entry.get("created_at", before.get(number, {}).get("created_at", _second(now)))
        for entry, number in zip(entries, ids, strict=True)
    ]
    highest = max([highest_before, highest_id(text), *ids])

    def edit(document: Document) -> None:
        if highest and document.get(HIGHEST_KEY) != highest:
            document[HIGHEST_KEY] = highest
        for entry, number, at in zip(document.get(LIST_KEY, ()), ids, created, strict=True):
            if "id" not in entry:
                entry["id"] = number
            if "created_at" not in entry:
                entry["created_at"] = tomlkit.value(toml_value(at))

    finished = edit_document(text, edit) if _lacks_something(text, entries, highest) else text
    compile_workflows(finished)
    return finished


class ChangedWorkflow(NamedTuple):
    """What a version did to a workflow: the fields that changed, as they were and as they are."""

    change: WorkflowChange
    before: Json | None
    after: Json | None


def change_of_workflow(before: str, after: str, number: int) -> ChangedWorkflow | None:
    """None: the text after has the workflow as the text before had it, or neither has it."""
    old, new = (_by_id(text).get(number) for text in (before, after))
    return _change(old, new)


def changes_of_workflows(before: str, after: str) -> dict[int, ChangedWorkflow]:
    """By id, what the text after did to the workflows of the one before."""
    old, new = _by_id(before), _by_id(after)
    changes = {
        number: _change(old.get(number), new.get(number)) for number in sorted(old.keys() | new.keys())
    }
    return {number: change for number, change in changes.items() if change is not None}


def _by_id(text: str) -> dict[int, Json]:
    return {entry["id"]: workflow_json(entry) for entry in _entries(text)}


def _change(old: Json | None, new: Json | None) -> ChangedWorkflow | None:
    match old, new:
        case None, None:
            return None
        case None, dict():
            return ChangedWorkflow("created", None, new)
        case dict(), None:
            return ChangedWorkflow("deleted", old, None)
    if old is None or new is None or old == new:
        return None
    fields = [field for field in new if old[field] != new[field]]
    before, after = ({field: entry[field] for field in fields} for entry in (old, new))
    if fields != ["is_active"]:
        return ChangedWorkflow("changed", before, after)
    return ChangedWorkflow("activated" if new["is_active"] else "deactivated", before, after)


def summary_of_changes(before: str, after: str) -> str | None:
    """`workflow_created 3, 4; workflow_deleted 1`; None if no workflow changed."""
    by_change: dict[str, list[int]] = {}
    for number, change in changes_of_workflows(before, after).items():
        by_change.setdefault(change.change, []).append(number)
    parts = [
        f"workflow_{change} {', '.join(map(str, ids[:MOST_IDS_IN_SUMMARY]))}"
        + (f" and {len(ids) - MOST_IDS_IN_SUMMARY} more" if len(ids) > MOST_IDS_IN_SUMMARY else "")
        for change, ids in by_change.items()
    ]
    return "; ".join(parts) or None


def highest_id(text: str) -> int:
    """The highest id that was ever given."""
    document = tomllib.loads(text)
    ids = [int(entry["id"]) for entry in document.get(LIST_KEY, []) if "id" in entry]
    return max([int(document.get(HIGHEST_KEY, 0)), *ids])


# Reading


def _entries(text: str) -> list[Json]:
    """The workflows as plain values, in the order of the text."""
    entries: list[Json] = tomllib.loads(text, parse_float=Decimal).get(LIST_KEY, [])
    return entries


def _entry(text: str, number: int) -> Json:
    for entry in _entries(text):
        if entry["id"] == number:
            return entry
    raise UnknownId(f"no workflow has the id {number}")


def _ids(entries: list[Json], before: Mapping[int, Json], highest: int) -> list[int]:
    """The id of each workflow."""
    taken = {entry["id"] for entry in entries if "id" in entry}
    by_name = {entry["name"]: number for number, entry in before.items() if number not in taken}
    new = iter(range(max([highest, *taken]) + 1, 2**62))
    return [entry["id"] if "id" in entry else by_name.get(entry["name"]) or next(new) for entry in entries]


def _check_ids_are_not_reused(entries: list[Json], before: Mapping[int, Json], highest: int) -> None:
    for entry in entries:
        number = entry.get("id")
        if number is not None and number not in before and number <= highest:
            raise Refusal(
                "text",
                f"workflow {number} was deleted, and its id is not given again: leave the id of {entry['name']!r} out, "
                f"and it gets the next one ({highest + 1}); to bring the deleted one back, roll back to a version that "
                "has it",
            )


def _check_name_is_free(text: str, name: str, number: int) -> None:
    for entry in _entries(text):
        if entry["name"] == name and entry["id"] != number:
            raise Refusal("name", f"workflow {entry['id']} has this name: give this one another")


def _lacks_something(text: str, entries: list[Json], highest: int) -> bool:
    return tomllib.loads(text).get(HIGHEST_KEY, 0) != highest or any(
        key not in entry for entry in entries for key in ("id", "created_at")
    )


def _second(moment: datetime) -> datetime:
    """The moment in whole seconds, as the text has it."""
    return moment.astimezone(UTC).replace(microsecond=0)


# Steps of an edit


def _with_entry(text: str, number: int, table: Json) -> str:
    def edit(document: Document) -> None:
        entries = document[LIST_KEY]
        index = _index(entries, number)
        if isinstance(entries, Array):
            entries[index] = tomlkit.value(toml_value(table))
        else:
            change_table(entries[index], table)

    return edit_document(text, edit)


def _append(document: Document, table: Json) -> None:
    entries: Any = document.get(LIST_KEY)
    if isinstance(entries, Array) and len(entries):
        entries.add_line(tomlkit.value(toml_value(table)), indent="  ")
        return
    if not isinstance(entries, AoT):
        document.pop(LIST_KEY, None)
        document[LIST_KEY] = entries = tomlkit.aot()
    entries.append(_block(table))


def _block(table: Json) -> Any:
    """The workflow as a table with a line for each key."""
    block = tomlkit.table()
    for name, value in table.items():
        if name == "conditions":
            lines = "".join(f"  {toml_value(each)},\n" for each in value)
            block[name] = tomlkit.value(f"[\n{lines}]")
        else:
            block[name] = tomlkit.value(toml_value(value))
    block.add(tomlkit.nl())
    return block


def _index(entries: Any, number: int) -> int:
    return next(index for index, entry in enumerate(entries) if entry.get("id") == number)

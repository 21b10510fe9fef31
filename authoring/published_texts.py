"""What authoring publishes: the text of each model and each experiment, and one text with all workflows of a tenant. Pure.

All have drafts, versions, a history and an outbox of publications under a name. This module has what differs by name.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from authoring.experiment_texts import publishable_text
from authoring.problem import Invalid
from schemas.publications import EXPERIMENT_PREFIX, WORKFLOWS
from schemas.refusal import Refusal
from scoring.editing.workflow_edits import finished_workflows, summary_of_changes
from scoring.experiments.changes import experiment_change
from scoring.experiments.experiment_text import compiled_experiment
from scoring.models.active import ModelVersion
from scoring.models.model import ModelError, compile_model
from scoring.workflows.message_texts import unusable_messages
from scoring.workflows.speed_to_lead import unknown_band
from scoring.workflows.workflow_text import (
    UnknownReference,
    WorkflowsError,
    compile_speed_to_lead,
    compile_workflows,
    unknown_references,
)

__all__ = [
    "WORKFLOWS",
    "MissingReference",
    "address_of",
    "change_in",
    "finished_text",
    "is_model",
    "title_of",
]

compiled_model = lru_cache(maxsize=256)(compile_model)


def is_model(name: str) -> bool:
    """Whether a publication of this name is of a model."""
    return not name.startswith("#")


def title_of(name: str) -> str:
    """The name as people read it: of a model, "workflows", or "experiment NAME"."""
    return name.removeprefix("#").replace(":", " ", 1)


def address_of(name: str) -> str:
    """Where the API has the text, with its versions and drafts below it."""
    if name.startswith(EXPERIMENT_PREFIX):
        return f"/api/experiments/{name.removeprefix(EXPERIMENT_PREFIX)}"
    return "/api/workflows" if name == WORKFLOWS else f"/api/models/{name}"


def change_in(name: str, before: str | None, after: str) -> str | None:
    """What a whole text changes, in words; None: nothing, or it is a model's."""
    if name.startswith(EXPERIMENT_PREFIX):
        return experiment_change(compiled_experiment(before) if before else None, compiled_experiment(after))
    return summary_of_changes(before or "", after) if name == WORKFLOWS else None


def finished_text(name: str, text: str, newest: str | None, now: datetime, *, restored: bool = False) -> str:
    """The text as it is published on top of the newest one; raises Invalid for a text with a mistake. The text of a
    model stays as it is; workflows get ids and moments of creation. `restored`: the text was published before.
    """
    if name.startswith(EXPERIMENT_PREFIX):
        return publishable_text(name.removeprefix(EXPERIMENT_PREFIX), text, newest, now)
    if name != WORKFLOWS:
        return _checked_model(name, text)
    try:
        return finished_workflows(text, newest or "", now, restored=restored)
    except WorkflowsError as refusal:
        raise Invalid(str(refusal), field="text") from refusal
    except Refusal as refusal:
        raise Invalid(refusal.reason, field=refusal.field) from refusal


class MissingReference(Invalid):
    """A trigger waits for a model, or a band, that nobody has published, or a message cannot be made. `key` is the key in the
    text: trigger.model, action.message.
    """

    def __init__(self, missing: UnknownReference) -> None:
        super().__init__(f"workflow {missing.workflow}, {missing.key}: {missing.reason}", field="text")
        self.key, self.detail = missing.key, missing.reason


def refuse_missing_references(text: str, newest: str | None, models: Mapping[str, ModelVersion]) -> None:
    """Raises MissingReference for what a text of workflows waits for in vain, or cannot write, and the newest one did not. What
    was published before stays.
    """
    band_sets = {name: compiled_model(each.text, each.folding).band_sets for name, each in models.items()}
    without = unknown_band(compile_speed_to_lead(text), band_sets)
    if without is not None and without != unknown_band(compile_speed_to_lead(newest or ""), band_sets):
        raise Invalid(f"speed_to_lead.after: {without}", field="text")

    def missing_of(version: str) -> list[UnknownReference]:
        workflows = compile_workflows(version)
        return unknown_references(workflows, band_sets) + unusable_messages(workflows)

    before = set(missing_of(newest or ""))
    for missing in missing_of(text):
        if missing not in before:
            raise MissingReference(missing)


def _checked_model(name: str, text: str) -> str:
    """The text, if it is a model of this name without a mistake."""
    try:
        named = compile_model(text).name
    except ModelError as refusal:
        raise Invalid(str(refusal), field="text") from refusal
    if named != name:
        raise Invalid(f"the text is of the model {named!r}, not of {name!r}", field="text")
    return text

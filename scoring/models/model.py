"""Scoring models: the names that other packages use.

A model is a text. `compile_model` compiles it, `score_lead` applies it to a lead at a moment, `next_visible_time_change` computes
when time alone changes the result, and `changed_lines` gives the ledger lines between two results.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

from scoring.features.view import Subject
from scoring.models.model_text import compile_model
from scoring.models.next_timer import earliest_time_change, next_visible_time_change
from scoring.models.phrases import Reads
from scoring.models.plan import BandRequirement, LineLabel, Model, may_change_score
from scoring.models.points import NEVER, ONE_POINT, MicroPoints, rounded_points
from scoring.models.score import (
    Conclusion,
    ExplainedLine,
    changed_lines,
    explain_flags,
    explain_score,
    score_lead,
    score_session,
)
from scoring.models.text_refusals import ModelError

__all__ = [
    "NEVER",
    "ONE_POINT",
    "BandRequirement",
    "Conclusion",
    "ExplainedLine",
    "LineLabel",
    "MicroPoints",
    "Model",
    "ModelError",
    "Reads",
    "Subject",
    "all_models",
    "built_in_models",
    "changed_lines",
    "compile_model",
    "earliest_time_change",
    "explain_flags",
    "explain_score",
    "may_change_score",
    "next_visible_time_change",
    "optional_models",
    "rounded_points",
    "score_lead",
    "score_session",
]


def built_in_models() -> dict[str, str]:
    """The texts of the built-in models that are active from the first start, by name."""
    return _texts_in_folder(files("scoring") / "models")


def optional_models() -> dict[str, str]:
    """The texts of the built-in models that are active only once they are published, by name."""
    return _texts_in_folder(files("scoring") / "models" / "optional")


def all_models() -> dict[str, str]:
    """The texts of all models that can be published by name."""
    return built_in_models() | optional_models()


def _texts_in_folder(folder: Traversable) -> dict[str, str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (folder / name).read_text(encoding="utf-8") for name in names}

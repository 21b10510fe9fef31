"""Scoring models, as everything outside this package uses them.

A model is a text; `compile_model` makes it a plan, `conclude` applies that to a lead at a moment,
`next_timer` says when time alone changes the result, `difference` makes ledger lines of two results.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

from scoring.features.view import Subject
from scoring.models.model_text import compile_model
from scoring.models.next_timer import next_time_change, next_timer
from scoring.models.phrases import Reads
from scoring.models.plan import Model, Need, VectorEntry, may_change_score
from scoring.models.points import INF, ONE_POINT, Micro, rounded
from scoring.models.score import Conclusion, Explained, conclude, difference, explain, score_session
from scoring.models.text_refusals import ModelError

__all__ = [
    "INF",
    "ONE_POINT",
    "Conclusion",
    "Explained",
    "Micro",
    "Model",
    "ModelError",
    "Need",
    "Reads",
    "Subject",
    "VectorEntry",
    "all_models",
    "built_in_models",
    "compile_model",
    "conclude",
    "difference",
    "explain",
    "may_change_score",
    "next_time_change",
    "next_timer",
    "optional_models",
    "rounded",
    "score_session",
]


def built_in_models() -> dict[str, str]:
    """The texts of the models that come with Leadstream and score from the first start, by name."""
    return _texts(files("scoring") / "models")


def optional_models() -> dict[str, str]:
    """The texts of the models that come with Leadstream, and score once somebody publishes them."""
    return _texts(files("scoring") / "models" / "optional")


def all_models() -> dict[str, str]:
    """The texts of all models that can be published by name."""
    return built_in_models() | optional_models()


def _texts(folder: Traversable) -> dict[str, str]:
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (folder / name).read_text(encoding="utf-8") for name in found}

"""Scoring models: the names that other packages use.

A model is a text. `compile_model` compiles it, `conclude` applies it to a lead at a moment, `next_timer` computes
when time alone changes the result, and `difference` gives the ledger lines between two results.
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
    """The texts of the built-in models that are active from the first start, by name."""
    return _texts(files("scoring") / "models")


def optional_models() -> dict[str, str]:
    """The texts of the built-in models that are active only once they are published, by name."""
    return _texts(files("scoring") / "models" / "optional")


def all_models() -> dict[str, str]:
    """The texts of all models that can be published by name."""
    return built_in_models() | optional_models()


def _texts(folder: Traversable) -> dict[str, str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (folder / name).read_text(encoding="utf-8") for name in names}

"""Scoring models, as everything outside this package uses them.

A model is a text; `compile_model` makes it a plan, `conclude` applies that to a lead at a moment,
`next_due` says when time alone changes the result, `difference` makes ledger lines of two results.
"""

from importlib.resources import files

from scoring.due import next_due, next_edge
from scoring.model_text import ModelError, compile_model
from scoring.phrases import Reads
from scoring.plan import Model, Need, Slot, touched
from scoring.points import INF, Micro, U, rounded
from scoring.score import Conclusion, Explained, conclude, difference, explain, score_session
from scoring.view import Subject

__all__ = [
    "INF",
    "Conclusion",
    "Explained",
    "Micro",
    "Model",
    "ModelError",
    "Need",
    "Reads",
    "Slot",
    "Subject",
    "U",
    "compile_model",
    "conclude",
    "difference",
    "explain",
    "next_due",
    "next_edge",
    "rounded",
    "score_session",
    "shipped_models",
    "touched",
]


def shipped_models() -> dict[str, str]:
    """The texts of the models that come with Leadstream, by name."""
    folder = files("scoring") / "models"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (folder / name).read_text(encoding="utf-8") for name in found}

"""What one rule alone gives a lead, and which parts of a criterion a lead meets.

Decides exactly as the model does: with the same compiled rules and requirements, view of the lead and rounding.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from scoring.editing.criterion_json import minimum_of
from scoring.editing.text_edits import (
    CRITERIA,
    RULES,
    entry_numbered,
    read_numbered,
    signals_defined_in,
    stage_thresholds,
    toml_value,
)
from scoring.features.calendar import Calendar
from scoring.features.comparison import NEWEST_COMPARISON
from scoring.features.view import profile_value, view_of
from scoring.models.band_text import compile_requirement
from scoring.models.model import MicroPoints, Model, Subject, compile_model, score_lead
from scoring.models.plan import round_to_whole_points
from scoring.models.points import read_milli_points
from scoring.models.score import was_done_within


class RequiredActionResult(NamedTuple):
    name: str
    last: int | None
    """When the lead last did it; None: never."""
    met: bool


class CriterionResult(NamedTuple):
    score: MicroPoints
    minimum: MicroPoints
    fields: dict[str, bool]
    """Per required field, whether the lead has it."""
    actions: list[RequiredActionResult]
    within_days: int | None

    @property
    def met(self) -> bool:
        done = all(action.met for action in self.actions)
        return self.score >= self.minimum and all(self.fields.values()) and done


class SingleRule(NamedTuple):
    """A rule by itself. It counts as if it were switched on."""

    name: str
    model: Model
    """Scores what the rule adds, before the limits of its group and of the total."""
    one_point_model: Model
    """The same rule worth one point, to see whether it applies even if it is worth nothing."""


def single_rule_numbered(text: str, number: int, folding: int = NEWEST_COMPARISON.folding) -> SingleRule:
    """The rule of this number, which compares texts as the publication does. Raises UnknownId."""
    document = read_numbered(text)
    return single_rule(document, *entry_numbered(RULES, document, number), folding)


def single_rule(
    document: Mapping[str, Any],
    group: str,
    entry: Mapping[str, Any],
    folding: int = NEWEST_COMPARISON.folding,
) -> SingleRule:
    """A rule as it counts in the document."""
    rule = {key: value for key, value in entry.items() if key != "active"}
    weight = document["groups"].get(group, {}).get("weight", 1)
    applies = {key: value for key, value in rule.items() if key not in {"min", "max"}} | {"points": 1}
    signals = dict(document.get("signals", {}))
    return SingleRule(
        str(rule["name"]),
        _single_rule_model(signals, group, {"weight": weight, "rules": [rule]}, folding),
        _single_rule_model(signals, group, {"rules": [applies if "value" in rule else rule]}, folding),
    )


def _single_rule_model(signals: dict[str, Any], group: str, table: dict[str, Any], folding: int) -> Model:
    text = f'model = "rule"\nsignals = {toml_value(signals)}\ngroups = {toml_value({group: table})}\n'
    return compile_model(text, folding)


def check_criterion(
    text: str,
    number: int,
    subject: Subject,
    as_of: int,
    zone: Calendar,
    idle_ms: int,
    folding: int = NEWEST_COMPARISON.folding,
) -> CriterionResult:
    """How far the lead meets a criterion, whether or not that is switched on. Raises UnknownId."""
    document, model = read_numbered(text), compile_model(text, folding)
    stage, entry = entry_numbered(CRITERIA, document, number)
    need = compile_requirement(entry, signals_defined_in(document), set())
    view = view_of(subject, as_of, zone)
    total = score_lead(model, subject, as_of, zone, idle_ms).total
    done = {name: view.signals.get(name) for name in need.actions}
    return CriterionResult(
        round_to_whole_points(total) if model.band_on_rounded else total,
        read_milli_points(minimum_of(entry, stage_thresholds(document)[stage])) * 1000,
        {name: not model.comparison.is_blank(profile_value(view, name)) for name in need.fields},
        [
            RequiredActionResult(
                name,
                last.last if (last := done[stored]) is not None else None,
                was_done_within(view, stored, need.within),
            )
            for name, stored in zip(entry.get("actions", []), need.actions, strict=True)
        ],
        entry.get("within_days"),
    )

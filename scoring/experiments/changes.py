"""What may change in an experiment, and what a change does. Pure.

Once an experiment has started, all that decides who sees which variant stays: a change would move visitors from one
variant to another, and the results would mix. Coverage only takes visitors in or out, so it may change.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from scoring.experiments.assignment import DRAFT, RUNNING, Experiment, experiment_phase

_ASSIGNMENT: Final[Mapping[str, Callable[[Experiment], Any]]] = {
    "variants": lambda experiment: [(variant.name, variant.weight) for variant in experiment.variants],
    "unit": lambda experiment: experiment.unit,
    "namespace": lambda experiment: experiment.namespace,
    "seed": lambda experiment: experiment.seed,
    "hash_version": lambda experiment: experiment.hash_version,
    "starts_at": lambda experiment: experiment.starts_at,
}
"""By key of the text: what decides the variants of visitors."""


def has_started(experiment: Experiment, at: datetime) -> bool:
    """Whether a visitor may have seen a variant by then."""
    return experiment_phase(experiment, at) not in {"draft", "scheduled"}


def changed_assignment(before: Experiment, after: Experiment) -> str | None:
    """The key of the text by whose change visitors would get another variant; None: none would."""
    return next((key for key, value in _ASSIGNMENT.items() if value(before) != value(after)), None)


def refused_change(before: Experiment, after: Experiment, at: datetime) -> tuple[str, str] | None:
    """The key of a change that is refused, and the reason; None: the change is possible."""
    if not has_started(before, at):
        return None
    if after.status == DRAFT:
        return "status", f"{before.name} has started and cannot become a draft again: stop it instead"
    key = changed_assignment(before, after)
    if key is None:
        return None
    return key, (
        f"{before.name} has started, and with this change visitors would move from one variant to another: publish "
        "the text under a new name instead. Coverage, configs, goals, window_days and ends_at may change"
    )


def experiment_change(before: Experiment | None, after: Experiment) -> str:
    """What a new text does with the experiment, in a word."""
    if before is None:
        return "created"
    if before.status == after.status:
        return "changed"
    return {DRAFT: "withdrawn", RUNNING: "started"}.get(after.status, "stopped")

"""A tenant's active workflows, ordered by what sets them off. Plain data, made once for each version."""

from collections.abc import Mapping
from typing import NamedTuple

from scoring.workflows.score_crossing import ScoreTrigger
from scoring.workflows.workflow import (
    FieldTrigger,
    LapseTrigger,
    ManualTrigger,
    NoContactTrigger,
    ScheduleTrigger,
    ScoreFallTrigger,
    ScoreRiseTrigger,
    Workflow,
)


class WorkflowPlan(NamedTuple):
    version: int
    by_id: Mapping[int, Workflow]
    reacting: tuple[Workflow, ...]
    """Those that a change of the lead or an event sets off, in the order in which they fire."""
    scores: tuple[tuple[Workflow, ScoreTrigger], ...]
    """Those of them that wait for a score."""
    lapses: tuple[tuple[Workflow, LapseTrigger], ...]
    contacts: tuple[tuple[Workflow, NoContactTrigger], ...]
    """Those that wait for nobody to contact a qualified lead."""
    fields: frozenset[str]
    """The profile fields that triggers watch."""


def workflow_plan(version: int, workflows: tuple[Workflow, ...]) -> WorkflowPlan | None:
    """The plan of compiled workflows; None if none is active."""
    active = tuple(each for each in workflows if each.active)
    if not active:
        return None
    reacting = tuple(
        each
        for each in active
        if not isinstance(each.trigger, ScheduleTrigger | LapseTrigger | NoContactTrigger | ManualTrigger)
    )
    return WorkflowPlan(
        version=version,
        by_id={each.id: each for each in active},
        reacting=reacting,
        scores=tuple(
            (each, each.trigger)
            for each in reacting
            if isinstance(each.trigger, ScoreRiseTrigger | ScoreFallTrigger)
        ),
        lapses=tuple((each, each.trigger) for each in active if isinstance(each.trigger, LapseTrigger)),
        contacts=tuple((each, each.trigger) for each in active if isinstance(each.trigger, NoContactTrigger)),
        fields=frozenset(each.trigger.field for each in active if isinstance(each.trigger, FieldTrigger)),
    )

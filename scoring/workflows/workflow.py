"""A compiled workflow: what sets it off, on which conditions, and what it does. Plain data.

`scoring.workflows.workflow_text` compiles it from a text. Stage 2 decides when it is triggered, and delivery carries out
the action.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from schemas.envelope import Event
from schemas.statements import WorkflowTriggerType
from scoring.features.operators import ValueTest
from scoring.features.view import View
from scoring.workflows.actions import ActionType
from scoring.workflows.schedule import Schedule


class ScoreRiseTrigger(NamedTuple):
    """The rounded total of the model rises to `score` or above. It is armed again `rearm` points below."""

    model: str
    score: int
    rearm: int


class ScoreFallTrigger(NamedTuple):
    """The rounded total of the model falls below `score`. It is armed again `rearm` points above."""

    model: str
    score: int
    rearm: int


class StageTrigger(NamedTuple):
    """The lead enters another stage of the lifecycle. None: any stage."""

    to: str | None
    source: str | None


class BandTrigger(NamedTuple):
    """The lead enters another band of a model's set of bands. None: any band."""

    model: str
    scale: str
    to: str | None
    source: str | None


class FieldTrigger(NamedTuple):
    """An event changes the profile field. `test`: to a value that passes; None: to any, also to none."""

    field: str
    test: ValueTest | None


class EventTrigger(NamedTuple):
    """An event of one of these signals (a type, or custom:NAME) that passes its test."""

    tests: Mapping[str, Callable[[Event], bool]]


class ScheduleTrigger(NamedTuple):
    """A moment of the schedule comes, in the tenant's zone: for every lead."""

    schedule: Schedule


class LapseTrigger(NamedTuple):
    """So many days of 24 hours have passed since the lead's last event that the signal counts; without one, since its
    first event.
    """

    days: int
    signal: str


class NoContactTrigger(NamedTuple):
    """So many minutes after the lead qualified, nobody has contacted it. What that means, scoring.workflows.speed_to_lead has."""

    minutes: int


class ManualTrigger(NamedTuple):
    """Only a person sets it off. A person may run every other workflow, too."""


Trigger = (
    ScoreRiseTrigger
    | ScoreFallTrigger
    | StageTrigger
    | BandTrigger
    | FieldTrigger
    | EventTrigger
    | ScheduleTrigger
    | LapseTrigger
    | NoContactTrigger
    | ManualTrigger
)

TRIGGER_TYPE: Mapping[type[Trigger], WorkflowTriggerType] = {
    ScoreRiseTrigger: "score_threshold",
    ScoreFallTrigger: "score_falls",
    StageTrigger: "stage_change",
    BandTrigger: "stage_change",
    FieldTrigger: "field_update",
    EventTrigger: "event",
    ScheduleTrigger: "time_based",
    LapseTrigger: "time_based",
    NoContactTrigger: "not_contacted",
    ManualTrigger: "manual",
}
"""The type by which texts, statements and the API know each."""


class ModelStanding(NamedTuple):
    """A lead's standing by one model."""

    total: int
    """Rounded."""
    bands: Mapping[str, str | None]


class ConditionSubject(NamedTuple):
    """What conditions read: a lead at a moment, and its standing by every model."""

    view: View
    standings: Mapping[str, ModelStanding]


class Condition(NamedTuple):
    is_met: Callable[[ConditionSubject], bool]
    evidence: Callable[[ConditionSubject], str]
    """What was found, in words: industry is SaaS (needed: one of SaaS, Fintech)."""


class Workflow(NamedTuple):
    id: int
    name: str
    active: bool
    priority: int
    """Of those that one record sets off, the highest comes first, then the lowest id."""
    anonymous: bool
    """Also for visitors of whom nobody knows who they are."""
    trigger: Trigger
    conditions: tuple[Condition, ...]
    action: ActionType
    config: Mapping[str, Any]

    @property
    def trigger_type(self) -> WorkflowTriggerType:
        return TRIGGER_TYPE[type(self.trigger)]


def unmet_condition(workflow: Workflow, subject: ConditionSubject) -> Condition | None:
    """The first condition that does not hold; None: all hold."""
    return next((each for each in workflow.conditions if not each.is_met(subject)), None)

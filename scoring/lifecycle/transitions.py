"""A compiled lifecycle: the stages, and the automatic transitions between them.

Plain data. `scoring.lifecycle.lifecycle_text` compiles it from a text and refuses transitions that go back or in a
circle; `scoring.lifecycle.lifecycle` applies it to a lead.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from schemas.events import Stage

STAGES: tuple[Stage, ...] = get_args(Stage)
FUNNEL_STAGES: tuple[Stage, ...] = ("new", "contacted", "qualified", "engaged", "opportunity", "customer")
SIDE_STAGES: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage not in FUNNEL_STAGES)
"""Stages beside the funnel."""
STAGE_RANK: dict[Stage, int] = {
    stage: rank for rank, stage in enumerate((*FUNNEL_STAGES[:-1], "churned", FUNNEL_STAGES[-1]))
} | dict.fromkeys(("recycled", "disqualified", "lost"), 0)
"""How far along a stage is. Of two merged leads, the one further along gives its stage. `churned` comes before
`customer`: a lead that churned was a customer once, but a lead that is a customer has not churned.
"""

FUNNEL_STEP: dict[Stage, int] = {
    stage: FUNNEL_STAGES.index(stage) if stage in FUNNEL_STAGES else 0 for stage in STAGES
} | {"churned": FUNNEL_STAGES.index("customer")}
"""The step of the funnel that a lead in the stage has reached, from 0. One that churned was a customer; one that was put
aside keeps what it reached before.
"""
CUSTOMER_STAGES: tuple[Stage, ...] = tuple(
    stage for stage, step in FUNNEL_STEP.items() if step == FUNNEL_STEP["customer"]
)

Since = Literal["move", "qualifying", "entering"]
SINCE_VALUES: tuple[Since, ...] = get_args(Since)


class Qualification(NamedTuple):
    """The lead is in one of these bands of a model."""

    model: str
    scale: str
    """The model's set of bands."""
    bands: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.model} {self.scale} {' '.join(self.bands)}"


class Transition(NamedTuple):
    """From any of `sources` to `to`, when all its conditions are met."""

    to: Stage
    sources: tuple[Stage, ...]
    reason: str
    signals: tuple[str, ...] = ()
    """Any of these, later than `since`."""
    since: Since | None = None
    """move: a person's last move (which always counts); qualifying: when the lead qualified; entering: when it entered
    this stage."""
    qualified_by: Qualification | None = None
    inactive: int | None = None
    """Milliseconds without an interaction."""

    @property
    def needs_new_event(self) -> bool:
        """Does it need an event that was not known yet when the lead entered the stage?"""
        return bool(self.signals) and self.since == "entering"


class ConversionTarget(NamedTuple):
    """The share of the leads that reached `start` which should reach `to`."""

    start: Stage
    to: Stage
    rate: float


BUILT_IN_TARGETS = (
    ConversionTarget("new", "contacted", 0.70),
    ConversionTarget("contacted", "qualified", 0.40),
    ConversionTarget("qualified", "opportunity", 0.30),
    ConversionTarget("opportunity", "customer", 0.25),
)


class Lifecycle(NamedTuple):
    name: str
    transitions: tuple[Transition, ...]
    """In the order of the text."""
    onward: Mapping[Stage, tuple[Transition, ...]]
    """The transitions from each stage, in the order in which they are tried: the one that leads furthest first."""
    qualifications: tuple[Qualification, ...]
    targets: tuple[ConversionTarget, ...] = BUILT_IN_TARGETS
    """What reports compare conversions with; no fold reads them."""

    def without_transitions(self) -> "Lifecycle":
        """Only a person, or a merge, moves a lead."""
        return self._replace(transitions=(), onward=dict.fromkeys(STAGES, ()), qualifications=())

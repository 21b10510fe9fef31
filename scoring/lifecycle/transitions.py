"""A lifecycle as a plan: the stages there are, and what moves a lead from one to another by itself.

Plain data. `scoring.lifecycle.lifecycle_text` makes it of a text and refuses what could turn back or go round;
`scoring.lifecycle.lifecycle` applies it to a lead.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from schemas.events import Stage

STAGES: tuple[Stage, ...] = get_args(Stage)
FUNNEL: tuple[Stage, ...] = ("new", "contacted", "qualified", "engaged", "opportunity", "customer")
SIDE_STAGES: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage not in FUNNEL)
"""Stages off the way."""
RANK: dict[Stage, int] = {
    stage: rank for rank, stage in enumerate((*FUNNEL[:-1], "churned", FUNNEL[-1]))
} | dict.fromkeys(("recycled", "disqualified", "lost"), 0)
"""How far a stage is: of two leads that are merged, the one further along gives its stage. Who churned was
a customer once; who is one still has not churned, whichever of the two was silent.
"""

Since = Literal["move", "qualifying", "entering"]
SINCE: tuple[Since, ...] = get_args(Since)


class Qualification(NamedTuple):
    """A model holds the lead in one of these bands."""

    model: str
    scale: str
    """The model's set of bands."""
    bands: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.model} {self.scale} {' '.join(self.bands)}"


class Transition(NamedTuple):
    """From any of `sources` to `to`, when everything holds that is given."""

    to: Stage
    sources: tuple[Stage, ...]
    reason: str
    signals: tuple[str, ...] = ()
    """Any of these, later than `since`."""
    since: Since | None = None
    """The person's last move, which counts in any case; when the lead qualified; when it came here."""
    qualified_by: Qualification | None = None
    inactive: int | None = None
    """So many milliseconds without an interaction."""

    @property
    def wants_news(self) -> bool:
        """Does it need an act that nobody knew of when the lead came to the stage it leaves?"""
        return bool(self.signals) and self.since == "entering"


class Lifecycle(NamedTuple):
    name: str
    transitions: tuple[Transition, ...]
    """As the text has them."""
    onward: Mapping[Stage, tuple[Transition, ...]]
    """From each stage, in the order in which they are tried: the one that leads furthest first."""
    qualifications: tuple[Qualification, ...]

"""What each rule of a model gave a lead last, so that an event evaluates only the rules that it touches.

Only what rules give is kept. Caps, limits, decay, rounding and bands are made of it each time, and a rule that time may
change is evaluated each time. `score_lead` is the definition, and `KeptPoints.conclude` equals it. Never stored.
"""

from functools import lru_cache
from typing import NamedTuple

from scoring.features.features import CUSTOM_PREFIX, FIELDS_KEPT, SUMS_KEPT, FeatureDelta, Features
from scoring.features.view import View
from scoring.models.plan import Model, rules_of
from scoring.models.points import MicroPoints, MilliPoints
from scoring.models.score import (
    Conclusion,
    conclude_inactive,
    inactive_days,
    points_before_decay,
    rule_points,
)

SHAPES_KEPT = 8_192
"""Pairs of a model and a shape of events: all events of a page, say, have one shape."""


class EventShape(NamedTuple):
    """The parts of a lead that an event changes."""

    signals: tuple[str, ...]
    fields: tuple[str, ...]
    sets: tuple[str, ...]
    sums: tuple[str, ...]
    first_touch: bool


def shape_of(delta: FeatureDelta, features: Features) -> EventShape | None:
    """None: it may change other parts, too. An event with a natural key may replace another, and where there is a bound to
    what is kept, one name may displace another. `features` are those of the lead after the event.
    """
    if delta.key is not None or delta.refund is not None or delta.sequences:
        return None
    if delta.fields and len(features.fields) >= FIELDS_KEPT:
        return None
    if delta.sums and len(features.sums) >= SUMS_KEPT:
        return None
    if any([name.startswith(CUSTOM_PREFIX) for name in delta.signals]):  # noqa: C419 - twice as quick as a generator
        return None
    return EventShape(
        tuple(delta.signals),
        tuple(delta.fields),
        tuple([name for name, _ in delta.items]),
        tuple([name for name, _ in delta.sums]),
        delta.touchpoint is not None,
    )


@lru_cache(maxsize=SHAPES_KEPT)
def affected_rules(model: Model, shape: EventShape) -> tuple[int, ...]:
    """The rules, by their numbers, whose points an event of this shape may change."""
    signals, fields, sets, sums = map(frozenset, shape[:4])
    return tuple(
        number
        for number, rule in enumerate(rules_of(model.groups))
        if rule.body.reads.created  # any event may be the lead's first one
        or signals & rule.body.reads.signals
        or fields & rule.body.reads.fields
        or sets & rule.body.reads.sets
        or sums & rule.body.reads.sums
        or (shape.first_touch and rule.body.reads.first_touch)
    )


@lru_cache(maxsize=1_024)
def rules_reading_stage(model: Model) -> tuple[int, ...]:
    return tuple(number for number, rule in enumerate(rules_of(model.groups)) if rule.body.reads.stage)


class KeptPoints:
    """Of one lead and one model that reads leads, not sessions. Mark it with every event that the lead's features take;
    drop it when an identity comes or goes.
    """

    __slots__ = ("_before_decay", "_outdated", "_stage", "model", "points")

    def __init__(self, model: Model, view: View) -> None:
        self.model = model
        self.points = rule_points(model, view)
        self._before_decay: list[MicroPoints] | None = None
        """What is made of the points; None: one of them has changed."""
        self._stage = view.stage
        self._outdated: set[int] = set()

    def mark(self, shape: EventShape) -> None:
        self._outdated.update(affected_rules(self.model, shape))

    def points_at(self, view: View) -> list[MilliPoints]:
        """What the rules give now; not to be changed."""
        model, points = self.model, self.points
        if view.stage != self._stage:
            self._stage = view.stage
            self._outdated.update(rules_reading_stage(model))
        awards = model.awards
        for number in (*self._outdated, *model.timed):
            now = awards[number](view)
            if now != points[number]:
                points[number] = now
                self._before_decay = None
        self._outdated.clear()
        return points

    def conclude(self, view: View) -> Conclusion:
        """As `score_lead` at the view's moment."""
        points = self.points_at(view)
        if self._before_decay is None:
            self._before_decay = points_before_decay(self.model, points)
        return conclude_inactive(self.model, view, self._before_decay, inactive_days(view))

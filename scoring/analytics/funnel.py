"""The funnel: how many leads reached each stage, and what share went on. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scoring.analytics.shares import share
from scoring.lifecycle.transitions import FUNNEL_STAGES, ConversionTarget


class FunnelStep(NamedTuple):
    stage: str
    reached: int
    """Leads that were in this stage or a later one."""
    share: float | None
    """Of all leads."""
    conversion_rate: float | None
    """The share of these leads that reached the next stage."""
    drop_off: int | None
    """The leads that did not, or have not yet."""
    drop_off_rate: float | None


class Conversion(NamedTuple):
    start: str
    to: str
    leads: int
    converted: int
    rate: float | None
    target: float
    meets_target: bool | None


def funnel_steps(leads_by_furthest_step: Mapping[int, int]) -> list[FunnelStep]:
    """Of how many leads have each step as their furthest."""
    reached = leads_that_reached(leads_by_furthest_step)
    steps = []
    for number, stage in enumerate(FUNNEL_STAGES):
        here, last = reached[number], number + 1 == len(FUNNEL_STAGES)
        on = None if last else reached[number + 1]
        steps.append(
            FunnelStep(
                stage,
                here,
                share(here, reached[0]),
                None if on is None else share(on, here),
                None if on is None else here - on,
                None if on is None else share(here - on, here),
            )
        )
    return steps


def conversions(
    leads_by_furthest_step: Mapping[int, int], targets: Sequence[ConversionTarget]
) -> list[Conversion]:
    """The conversions that have a target."""
    reached = leads_that_reached(leads_by_furthest_step)
    compared = []
    for start, to, target in targets:
        leads, converted = (reached[FUNNEL_STAGES.index(stage)] for stage in (start, to))
        meets = converted >= target * leads if leads else None
        compared.append(Conversion(start, to, leads, converted, share(converted, leads), target, meets))
    return compared


def leads_that_reached(leads_by_furthest_step: Mapping[int, int]) -> list[int]:
    """For each step, the leads whose furthest step is this one or a later one."""
    return [
        sum(leads for furthest, leads in leads_by_furthest_step.items() if furthest >= step)
        for step in range(len(FUNNEL_STAGES))
    ]

"""Which stages a lead will enter up to a later moment, if nothing happens until then. Pure.

Time moves a lead on by inactivity, or by a band that it reaches or leaves. So the lifecycle runs at every moment at which
either may change.
"""

from typing import NamedTuple

from schemas.events import Stage
from schemas.moment import LATEST_MS
from scoring.features.features import Features
from scoring.features.profile_fields import MANUAL_STAGE_FIELD
from scoring.features.qualification_override import QualificationOverride, bands_that_count
from scoring.features.view import Subject
from scoring.lifecycle.lifecycle import StagePosition, next_transition_by_time, run_transitions
from scoring.lifecycle.next_stage import StageContext
from scoring.lifecycle.transitions import STAGE_RANK, Qualification
from scoring.models.model import next_visible_time_change, score_lead

MOST_MOMENTS = 1_000
"""More than any lead has: windows and steps are at most 90 days and 32 bands long."""


def position_from_history(entries: list[tuple[Stage, int]], features: Features) -> StagePosition:
    """Of the stages that the lead entered (stage, ms), in order, and its features of now."""
    move = features.fields.get(MANUAL_STAGE_FIELD)
    qualified = [at for stage, at in entries if STAGE_RANK[stage] >= STAGE_RANK["qualified"]]
    stage, entered_at = entries[-1] if entries else ("new", 0)
    return StagePosition(
        stage,
        entered_at,
        qualified[0] if qualified else -1,
        (-1, "") if move is None else (move[0], move[1]),
    )


class FutureStage(NamedTuple):
    """A stage that the lead will enter, as a change of its stage would be recorded. `at` is in ms."""

    stage: Stage
    previous: Stage
    reason: str
    at: int


def future_stages(
    rules: StageContext,
    features: Features,
    position: StagePosition,
    now: int,
    at: int,
    override: QualificationOverride | None = None,
) -> list[FutureStage]:
    """Those from `now` to `at` (both ms), in order. Changes `position`."""
    moment = now
    entered: list[FutureStage] = []
    for _ in range(MOST_MOMENTS):
        subject = Subject(features, position.stage)
        met = _qualifications_met(rules, subject, moment, override)
        moments = [next_transition_by_time(rules.lifecycle, position, features, holds=met, after=moment)]
        moments += [
            next_visible_time_change(rules.models[name], subject, moment, rules.zone, rules.idle_ms)
            for name in {each.model for each in rules.lifecycle.qualifications}
            if name in rules.models
        ]
        if override is not None and override.until is not None and override.until > moment:
            moments.append(override.until)
        moment = min(moments)
        if moment > min(at, LATEST_MS):
            break
        met = _qualifications_met(rules, subject, moment, override)
        previous = position.stage
        move = run_transitions(rules.lifecycle, position, features, holds=met, as_of=moment)
        if move is not None and position.stage != previous:
            entered.append(FutureStage(position.stage, previous, move.reason, moment))
    return entered


def _qualifications_met(
    rules: StageContext, subject: Subject, at: int, override: QualificationOverride | None
) -> frozenset[Qualification]:
    by_hand = override if override is not None and (override.until is None or at < override.until) else None
    bands = {
        name: bands_that_count(
            name, score_lead(rules.models[name], subject, at, rules.zone, rules.idle_ms).bands, by_hand
        )
        for name in {each.model for each in rules.lifecycle.qualifications}
        if name in rules.models
    }
    return frozenset(
        each
        for each in rules.lifecycle.qualifications
        if each.model in bands and bands[each.model].get(each.scale) in each.bands
    )

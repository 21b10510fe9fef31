"""Which stage a lead will be in at a later moment, if nothing happens until then. Pure.

Time moves a lead on by inactivity, or by a band that it reaches or leaves. So the lifecycle runs at every moment at which
either may change.
"""

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


def future_stage(
    rules: StageContext,
    features: Features,
    position: StagePosition,
    now: int,
    at: int,
    override: QualificationOverride | None = None,
) -> Stage:
    """From `now` to `at` (both ms). Changes `position`."""
    moment = now
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
        run_transitions(rules.lifecycle, position, features, holds=met, as_of=moment)
    return position.stage


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

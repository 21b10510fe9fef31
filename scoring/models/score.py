"""Applies a model to a lead at a moment: total, vector and bands, and the explanation in words.

Pure, exact and total: it uses integers only, `sum(vector) == total` always, and no features make it raise.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from scoring.features.calendar import DAY_MS, Calendar
from scoring.features.features import ITEMS_KEPT, Features, Session
from scoring.features.signals import INTERACTION_SIGNAL
from scoring.features.view import Subject, View, profile_value, view_of, view_of_session
from scoring.features.words import words_of
from scoring.models.decay import DECAYED_AFTER_DAYS, WHOLE_SHARE
from scoring.models.flags import RaisedFlag, raised_flags
from scoring.models.plan import (
    BandRequirement,
    LineLabel,
    MatrixAxis,
    Model,
    RuleGroup,
    SessionMean,
    points_decayed,
    round_to_whole_points,
)
from scoring.models.points import ONE_POINT, ONE_WEIGHT, MicroPoints, MilliPoints, points_text, rounded_points
from scoring.models.rules import Rule

_LIMIT: Final = LineLabel("", "", "limit")
_POINTS: Final = re.compile(r"\d points?\b")


class Conclusion(NamedTuple):
    total: MicroPoints
    vector: list[MicroPoints]
    """One number for each entry of the model."""
    bands: dict[str, str | None]
    """The lead's band in each set of bands, matrices included; and the colour of each flag that is raised."""


class ExplainedLine(NamedTuple):
    """A line of the breakdown with its evidence."""

    group: str
    rule: str
    kind: str
    points: MicroPoints
    text: str


def score_lead(model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int) -> Conclusion:
    """The lead's score as of a moment."""
    view = view_of(subject, as_of, zone)
    if model.mean is None:
        return conclude_points(model, view, rule_points(model, view))
    vector = _mean_vector(model, model.mean, ended_sessions(subject.features, as_of, idle_ms))
    total = sum(vector)
    return Conclusion(total, vector, _bands_reached(model, view, vector, total))


def rule_points(model: Model, view: View) -> list[MilliPoints]:
    """What each rule gives, before caps and weights."""
    return [award(view) for award in model.awards]


def conclude_points(model: Model, view: View, points: Sequence[MilliPoints]) -> Conclusion:
    """The score of a lead whose rules give these points at the view's moment."""
    return conclude_inactive(model, view, points_before_decay(model, points), inactive_days(view))


def points_before_decay(model: Model, points: Sequence[MilliPoints]) -> list[MicroPoints]:
    """The entries of rules, caps, floors and of the limit."""
    vector = _lines_of_rules(model, points)
    if model.lowest is not None or model.highest is not None:
        vector.append(_within_limits(model, sum(vector)))
    return vector


def conclude_inactive(model: Model, view: View, before_decay: list[MicroPoints], days: int) -> Conclusion:
    """The score after so many inactive days."""
    vector = before_decay.copy()
    total = sum(vector)
    if model.decay is not None:
        change = points_decayed(model.decay, total - (model.lowest or 0), days)
        vector.append(change)
        total += change
    if model.rounding:
        whole = round_to_whole_points(total)
        vector.append(whole - total)
        total = whole
    return Conclusion(total, vector, _bands_reached(model, view, vector, total))


def score_session(model: Model, session: Session) -> Conclusion:
    """The score of one session, open or ended, by a model that reads sessions."""
    if model.mean is None:
        raise ValueError(f"{model.name} does not read sessions")
    vector = [*_session_vector(model, *_session_shape(session)), *([0] * (2 if model.rounding else 1))]
    total = sum(vector)
    return Conclusion(total, vector, _bands_reached(model, view_of_session(session), vector, total))


def ended_sessions(features: Features, as_of: int, idle_ms: int) -> list[tuple[str, Session]]:
    """The sessions that have ended: closed, or idle for long enough."""
    return [
        (session_id, session)
        for session_id, session in features.sessions.items()
        if session.closed or as_of >= session.last_at + idle_ms
    ]


def changed_lines(
    old_model: Model | None, old_vector: list[MicroPoints], new_model: Model, new_vector: list[MicroPoints]
) -> list[tuple[str, str, str, MicroPoints]]:
    """The changes as ledger lines (group, rule, kind, points). Across models, entries of the same name are compared."""
    if old_model is not None and (old_model is new_model or old_model.line_labels == new_model.line_labels):
        return [
            (*entry, new - old)
            for entry, old, new in zip(new_model.line_labels, old_vector, new_vector, strict=True)
            if old != new
        ]
    changes: dict[LineLabel, MicroPoints] = {}
    if old_model is not None:
        changes = {entry: -old for entry, old in zip(old_model.line_labels, old_vector, strict=True)}
    for entry, new in zip(new_model.line_labels, new_vector, strict=True):
        changes[entry] = changes.get(entry, 0) + new
    return [(*entry, change) for entry, change in changes.items() if change]


def explain_score(
    model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int
) -> list[ExplainedLine]:
    """The breakdown in words: a line for every rule, and for every other entry that is not 0."""
    concluded = score_lead(model, subject, as_of, zone, idle_ms)
    view = view_of(subject, as_of, zone)
    points_of = dict(zip(model.line_labels, concluded.vector, strict=True))
    days, limit = inactive_days(view), points_of.get(_LIMIT, 0)
    texts: dict[LineLabel, str] = {
        LineLabel("", "", "decay"): _decay_text(model, days),
        LineLabel("", "", "mean"): "what the division leaves",
        LineLabel("", "", "rounding"): "rounded to whole points",
        _LIMIT: _limit_text(model, limit, _sum_before_limit(concluded.vector, model.line_labels)),
    }
    for group in model.groups:
        weighted = "" if group.weight == ONE_WEIGHT else f", weighted {points_text(group.weight * 1000)}"
        weighted_limit = weighted if model.mean is None else f" in each visit{weighted}"
        entry = LineLabel(group.name, "", "group cap")
        texts[entry] = (
            f"{_bound_text(group, points_of.get(entry, 0))} points for {words_of(group.name)}{weighted_limit}"
        )
        for rule in group.rules:
            entry = LineLabel(group.name, rule.name, "rule cap")
            change = points_of.get(entry, 0)
            texts[entry] = f"{_bound_text(rule, change)} points for {rule.name}{weighted_limit}"
            entry = LineLabel(group.name, rule.name, "points")
            parts = [_rule_evidence(model, rule, subject, view, idle_ms)]
            if group.weight != ONE_WEIGHT and points_of[entry] and not _names_points(parts[0]):
                parts.append(_points_in_words(points_of[entry] * ONE_WEIGHT // group.weight))
            if change and model.mean is None:
                capped = f"capped at {points_text((rule.cap or 0) * 1000)}"
                parts.append(capped if change < 0 else _bound_text(rule, change))
            if any(len(view.sets.get(name, ())) >= ITEMS_KEPT for name in rule.body.reads.sets):
                parts.append(f"no more than {ITEMS_KEPT} different ones are counted")
            texts[entry] = f"{rule.name}: {', '.join(parts)}{weighted}"
    return [
        ExplainedLine(*entry, points, texts[entry])
        for entry, points in zip(model.line_labels, concluded.vector, strict=True)
        if points or entry.kind == "points"
    ]


def _rule_evidence(model: Model, rule: Rule, subject: Subject, view: View, idle_ms: int) -> str:
    if model.mean is None:
        return rule.body.evidence(view)
    latest = min(len(ended_sessions(subject.features, view.at, idle_ms)), model.mean.latest)
    return "the only ended visit" if latest == 1 else f"mean of {latest} ended visits"


def _names_points(evidence: str) -> bool:
    return _POINTS.search(evidence) is not None


def explain_flags(
    model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int
) -> list[RaisedFlag]:
    """The flags that are raised, with their evidence."""
    concluded = score_lead(model, subject, as_of, zone, idle_ms)
    view = view_of(subject, as_of, zone)
    return raised_flags(concluded.bands, model.flags, view, rounded_points(concluded.total))


def _counted_text(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _points_in_words(points: MicroPoints) -> str:
    return f"{points_text(points)} point{'' if abs(points) == ONE_POINT else 's'}"


def _bound_text(bounded: RuleGroup | Rule, change: MicroPoints) -> str:
    """The effect of a cap (it takes points) or a floor (it gives points back), in words."""
    if change < 0:
        return f"at most {points_text((bounded.cap or 0) * 1000)}"
    return f"never below {points_text((bounded.floor or 0) * 1000)}"


def _decay_text(model: Model, days: int) -> str:
    text = f"{_counted_text(days, 'full day')} without an interaction"
    if model.decay is None:
        return text
    if model.decay.shares:
        left = 100 * model.decay.shares[min(days, DECAYED_AFTER_DAYS)] / WHOLE_SHARE
        return f"{text}, which leave {left:.0f}% of the points"
    return f"{text}, {points_text(model.decay.points)} points each"


def _sum_before_limit(vector: Sequence[MicroPoints], labels: Sequence[LineLabel]) -> MicroPoints:
    """What groups and rules give."""
    return sum(points for points, label in zip(vector, labels, strict=True) if label.group)


def _limit_text(model: Model, change: MicroPoints, before: MicroPoints) -> str:
    """Which limit of the total has changed what the rules give."""
    bound, side = (model.lowest, "below") if change > 0 else (model.highest, "above")
    if model.mean is not None:
        return f"the score of a visit is never {side} {points_text(bound or 0)}"
    return (
        f"the rules add up to {points_text(before)}, and the score is never {side} {points_text(bound or 0)}"
    )


def inactive_days(view: View) -> int:
    """Full days of 24 hours since the last interaction."""
    last = view.signals.get(INTERACTION_SIGNAL)
    return 0 if last is None else max((view.at - last.last) // DAY_MS, 0)


def _lines_of_rules(model: Model, each: Sequence[MilliPoints]) -> list[MicroPoints]:
    """The entries of rules, caps and floors, which do not depend on the total."""
    vector: list[MicroPoints] = []
    add, number = vector.append, 0
    for rules, cap, floor, weight in model.group_plans:
        reached = 0
        for most, least in rules:
            points = each[number]
            number += 1
            add(points * weight)
            if most is not None:
                if points > most:
                    add((most - points) * weight)
                    points = most
                elif points < least:
                    add((least - points) * weight)
                    points = least
                else:
                    add(0)
            reached += points
        if cap is not None:
            if reached > cap:
                add((cap - reached) * weight)
            else:
                add((floor - reached) * weight if reached < floor else 0)
    return vector


def _within_limits(model: Model, total: MicroPoints) -> MicroPoints:
    if model.highest is not None and total > model.highest:
        return model.highest - total
    if model.lowest is not None and total < model.lowest:
        return model.lowest - total
    return 0


def _mean_vector(model: Model, mean: SessionMean, sessions: list[tuple[str, Session]]) -> list[MicroPoints]:
    """The mean over the latest ended sessions, to the millionth; rounded from the exact fraction."""
    if not sessions:
        return [0] * len(model.line_labels)
    if len(sessions) > mean.latest:
        sessions.sort(key=lambda named: (named[1].opened_at, named[0]))
        sessions = sessions[-mean.latest :]
    vectors = [_session_vector(model, *_session_shape(session)) for _, session in sessions]
    if mean.shares:
        newest = max(session.opened_at for _, session in sessions)
        last = len(mean.shares) - 1
        counts = [mean.shares[min((newest - session.opened_at) // DAY_MS, last)] for _, session in sessions]
        vectors = [
            tuple(points * count for points in vector) for vector, count in zip(vectors, counts, strict=True)
        ]
        parts = sum(counts)
    else:
        parts = len(sessions)
    sums = [sum(column) for column in zip(*vectors, strict=True)]
    vector, exact = [each // parts for each in sums], sum(sums)
    to_the_millionth = (2 * exact + parts) // (2 * parts)
    vector.append(to_the_millionth - sum(vector))
    if model.rounding:
        vector.append(
            (2 * exact + parts * ONE_POINT) // (2 * parts * ONE_POINT) * ONE_POINT - to_the_millionth
        )
    return vector


def _session_shape(session: Session) -> tuple[int, int, int, int]:
    return (session.seconds, session.pages, session.clicks, session.important_clicks)


@lru_cache(maxsize=16_384)
def _session_vector(
    model: Model, seconds: int, pages: int, clicks: int, important_clicks: int
) -> tuple[MicroPoints, ...]:
    """Cached, since most sessions have the same shape as others."""
    session = Session(
        0, 0, seconds * 1000, closed=True, pages=pages, clicks=clicks, important_clicks=important_clicks
    )
    return tuple(points_before_decay(model, rule_points(model, view_of_session(session))))


def _bands_reached(
    model: Model, view: View, vector: Sequence[MicroPoints], total: MicroPoints
) -> dict[str, str | None]:
    reached = round_to_whole_points(total) if model.band_on_rounded else total
    bands: dict[str, str | None] = {}
    for scale, thresholds in model.scales.items():
        bands[scale] = None
        for threshold, band in thresholds:
            if reached >= threshold and (
                band not in model.needs
                or any(_is_requirement_met(model, need, view, reached) for need in model.needs[band])
            ):
                bands[scale] = band
                break
    for name, matrix in model.matrices.items():
        row = _band_on_axis(matrix.rows, vector, rounds=model.band_on_rounded)
        column = _band_on_axis(matrix.columns, vector, rounds=model.band_on_rounded)
        bands[name] = None if row is None or column is None else row + column
    rounded = rounded_points(total) if model.flags else 0
    for flag in model.flags:
        if flag.is_raised(view, rounded):
            bands[flag.scale] = flag.colour
    return bands


def _band_on_axis(axis: MatrixAxis, vector: Sequence[MicroPoints], *, rounds: bool) -> str | None:
    """The band of the group's points. Its entries are thousandths times the weight, so this is exact."""
    points = sum(vector[axis.lines]) * 1000 // axis.weight
    reached = round_to_whole_points(points) if rounds else points
    return next((band for threshold, band in axis.thresholds if reached >= threshold), None)


def _is_requirement_met(model: Model, need: BandRequirement, view: View, reached: MicroPoints) -> bool:
    if reached < need.minimum or any(
        model.comparison.is_blank(profile_value(view, name)) for name in need.fields
    ):
        return False
    return all(was_done_within(view, action, need.within) for action in need.actions)


def was_done_within(view: View, action: str, within: int | None) -> bool:
    """Did the lead do it, and less than `within` milliseconds ago? None: at any time."""
    done = view.signals.get(action)
    return done is not None and (within is None or view.at - done.last < within)

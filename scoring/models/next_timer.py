"""When time alone next changes a score: days leave windows, hours pass, sessions end, totals decay.

`earliest_time_change` is cheap and may be early. `next_visible_time_change` is exact: the rounded total and the bands do not change
before it, and one of them changes at it. Both are after `as_of`; INF means never.
"""

from collections.abc import Sequence

from schemas.moment import LATEST_MS
from scoring.features.calendar import DAY_MS, Calendar
from scoring.features.features import Features, Signal, days_in
from scoring.features.signals import INTERACTION_SIGNAL
from scoring.features.view import Subject, View, created_at, view_of
from scoring.models.phrases import CREATED_SIGNAL
from scoring.models.plan import Model, days_until_fully_decayed
from scoring.models.points import NEVER, MicroPoints, MilliPoints, rounded_points
from scoring.models.score import (
    Conclusion,
    conclude_inactive,
    inactive_days,
    points_before_decay,
    rule_points,
    score_lead,
)

RoundedTotalAndBands = tuple[int, dict[str, str | None]]


def earliest_time_change(model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int) -> int:
    """A moment before which time alone changes nothing."""
    moment = _next_other_change(model, subject.features, as_of, zone, idle_ms)
    last = subject.features.signals.get(INTERACTION_SIGNAL)
    if model.decay is not None and last is not None:
        moment = min(moment, last.last + (max((as_of - last.last) // DAY_MS, 0) + 1) * DAY_MS)
    return moment if moment <= LATEST_MS else NEVER


def next_visible_time_change(
    model: Model,
    subject: Subject,
    as_of: int,
    zone: Calendar,
    idle_ms: int,
    points: Sequence[MilliPoints] | None = None,
) -> int:
    """The first moment at which time alone changes the rounded total or a band. `points`: what the rules give as of then,
    if it is known.
    """
    if model.mean is not None:
        return _next_visible_change_of_sessions(model, subject, as_of, zone, idle_ms)
    view, at = view_of(subject, as_of, zone), as_of
    points = rule_points(model, view) if points is None else list(points)
    before_decay = points_before_decay(model, points)
    current = _visible(conclude_inactive(model, view, before_decay, inactive_days(view)))
    while True:
        change = _next_other_change(model, subject.features, at, zone, idle_ms)
        decay_moment = _next_decay(model, view, before_decay, change, current)
        if decay_moment is not None:
            return decay_moment
        if change > LATEST_MS:
            return NEVER
        view, at = view_of(subject, change, zone), change
        for number in model.timed:
            points[number] = model.awards[number](view)
        before_decay = points_before_decay(model, points)
        if _visible(conclude_inactive(model, view, before_decay, inactive_days(view))) != current:
            return change


def _next_visible_change_of_sessions(
    model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int
) -> int:
    """Of a model that reads sessions, whose mean does not decay."""
    current = _visible(score_lead(model, subject, as_of, zone, idle_ms))
    change = as_of
    while (change := _next_other_change(model, subject.features, change, zone, idle_ms)) <= LATEST_MS:
        if _visible(score_lead(model, subject, change, zone, idle_ms)) != current:
            return change
    return NEVER


def _visible(conclusion: Conclusion) -> RoundedTotalAndBands:
    return rounded_points(conclusion.total), conclusion.bands


def _next_decay(
    model: Model, view: View, before_decay: list[MicroPoints], until: int, current: RoundedTotalAndBands
) -> int | None:
    """The first inactive day after the view's moment and before `until` that changes the outcome; None if none does. Only
    decay changes the score in between, and only downwards, so bisection finds the day.
    """
    last = view.signals.get(INTERACTION_SIGNAL)
    if model.decay is None or last is None:
        return None
    above = sum(before_decay) - (model.lowest or 0)
    same = inactive_days(view)
    end = min(
        (min(until, LATEST_MS + 1) - 1 - last.last) // DAY_MS, days_until_fully_decayed(model.decay, above)
    )
    if end <= same or _visible(conclude_inactive(model, view, before_decay, end)) == current:
        return None
    while end - same > 1:
        middle = (same + end) // 2
        if _visible(conclude_inactive(model, view, before_decay, middle)) == current:
            same = middle
        else:
            end = middle
    return last.last + end * DAY_MS


def _next_other_change(model: Model, features: Features, at: int, zone: Calendar, idle_ms: int) -> int:
    """The next moment at which anything but decay may change."""
    change, signals = NEVER, features.signals
    if model.mean is not None:
        for session in features.sessions.values():
            if not session.closed and at < session.last_at + idle_ms < change:
                change = session.last_at + idle_ms
    for name, after in model.moments:
        if name == CREATED_SIGNAL:
            since = created_at(signals)
        else:
            signal = signals.get(name)
            since = None if signal is None else signal.last
        if since is not None:
            change = min(change, next((since + elapsed for elapsed in after if since + elapsed > at), NEVER))
    if model.windows:
        today = zone.day_of(at)
        day = min(
            [
                _next_day_that_counts(signal, today, lengths, decaying)
                for name, lengths, decaying in model.windows
                if (signal := signals.get(name)) is not None
            ],
            default=NEVER,
        )
        if day < NEVER:
            change = min(change, zone.start_of(day))
    return change


def _next_day_that_counts(signal: Signal, today: int, lengths: tuple[int, ...], decaying: int) -> int:
    """The next day on which a counted day enters a window (it lay ahead), ages in one or leaves one."""
    if decaying and days_in(signal, today - decaying, today).lstrip(b"\0"):
        return today + 1
    earliest = NEVER
    if signal.last_day > today:
        ahead = days_in(signal, today, signal.last_day).lstrip(b"\0")
        earliest = signal.last_day - len(ahead) + 1
    for length in lengths:
        inside = days_in(signal, today - length, today).lstrip(b"\0")
        if inside:
            earliest = min(earliest, min(today, signal.last_day) - len(inside) + 1 + length)
    return earliest

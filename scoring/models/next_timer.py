"""When time alone next changes a score: days age in windows, hours pass, sessions end, totals fade.

`next_time_change` is cheap and may be early. `next_timer` is exact: nothing a reader sees (the rounded total, a
band) changes before it, and something does at it. Both are after `as_of`; INF means never.
"""

from schemas.moment import LATEST
from scoring.features.calendar import DAY, Calendar
from scoring.features.features import Features, Signal, days_in
from scoring.features.signals import INTERACTION
from scoring.features.view import Subject, created_at
from scoring.models.phrases import CREATED
from scoring.models.plan import Model, days_until_decayed
from scoring.models.points import INF, rounded
from scoring.models.score import conclude

Outcome = tuple[int, dict[str, str | None]]


def next_time_change(model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int) -> int:
    """A moment before which time alone changes nothing."""
    edge = _next_turn(model, subject.features, as_of, zone, idle_ms)
    last = subject.features.signals.get(INTERACTION)
    if model.decay is not None and last is not None:
        edge = min(edge, last.last + (max((as_of - last.last) // DAY, 0) + 1) * DAY)
    return edge if edge <= LATEST else INF


def next_timer(model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int) -> int:
    """The first moment at which time alone changes the rounded total or a band."""
    seen = _outcome(model, subject, as_of, zone, idle_ms)
    at = as_of
    while True:
        turn = _next_turn(model, subject.features, at, zone, idle_ms)
        fade = _fade(model, subject, (at, turn), zone, idle_ms, seen)
        if fade is not None:
            return fade
        if turn > LATEST:
            return INF
        if _outcome(model, subject, turn, zone, idle_ms) != seen:
            return turn
        at = turn


def _outcome(model: Model, subject: Subject, at: int, zone: Calendar, idle_ms: int) -> Outcome:
    concluded = conclude(model, subject, at, zone, idle_ms)
    return rounded(concluded.total), concluded.bands


def _fade(
    model: Model, subject: Subject, span: tuple[int, int], zone: Calendar, idle_ms: int, seen: Outcome
) -> int | None:
    """The first inactive day in the open span that shows. Within it only decay changes anything, and
    that only downwards: so the day is found by bisection.
    """
    last = subject.features.signals.get(INTERACTION)
    if model.decay is None or last is None:
        return None
    at, turn = span
    vector = conclude(model, subject, at, zone, idle_ms).vector
    after_decay = 2 if model.rounding else 1
    above = sum(vector[:-after_decay]) - (model.lowest or 0)
    same = max((at - last.last) // DAY, 0)
    end = min((min(turn, LATEST + 1) - 1 - last.last) // DAY, days_until_decayed(model.decay, above))
    if end <= same or _outcome(model, subject, last.last + end * DAY, zone, idle_ms) == seen:
        return None
    while end - same > 1:
        middle = (same + end) // 2
        if _outcome(model, subject, last.last + middle * DAY, zone, idle_ms) == seen:
            same = middle
        else:
            end = middle
    return last.last + end * DAY


def _next_turn(model: Model, features: Features, at: int, zone: Calendar, idle_ms: int) -> int:
    """The next moment at which anything but decay may change."""
    turn, signals = INF, features.signals
    if model.mean is not None:
        for session in features.sessions.values():
            if not session.closed and at < session.last_at + idle_ms < turn:
                turn = session.last_at + idle_ms
    for name, after in model.moments:
        if name == CREATED:
            since = created_at(signals)
        else:
            found = signals.get(name)
            since = None if found is None else found.last
        if since is not None:
            turn = min(turn, next((since + passed for passed in after if since + passed > at), INF))
    if model.windows:
        today = zone.day_of(at)
        day = min(
            [
                _next_day(found, today, lengths, fading)
                for name, lengths, fading in model.windows
                if (found := signals.get(name)) is not None
            ],
            default=INF,
        )
        if day < INF:
            turn = min(turn, zone.start_of(day))
    return turn


def _next_day(signal: Signal, today: int, lengths: tuple[int, ...], fading: int) -> int:
    """The next day on which a day that counts enters a window (it lay ahead), ages in one or leaves one."""
    if fading and days_in(signal, today - fading, today).lstrip(b"\0"):
        return today + 1
    best = INF
    if signal.last_day > today:
        ahead = days_in(signal, today, signal.last_day).lstrip(b"\0")
        best = signal.last_day - len(ahead) + 1
    for length in lengths:
        inside = days_in(signal, today - length, today).lstrip(b"\0")
        if inside:
            best = min(best, min(today, signal.last_day) - len(inside) + 1 + length)
    return best

"""A model applied to a lead at a moment: total, vector, bands; and what the numbers mean in words.

Pure, exact and total: integers only, `sum(vector) == total` always, no features make it raise.
"""

from functools import lru_cache
from typing import NamedTuple

from scoring.calendar import DAY, Calendar
from scoring.features import Features, Session
from scoring.operators import is_blank
from scoring.plan import Mean, Model, Need, Slot, faded, whole
from scoring.points import Micro, U, spoken
from scoring.signals import INTERACTION
from scoring.view import Subject, View, profile_value, view_of, view_of_session


class Conclusion(NamedTuple):
    total: Micro
    vector: list[Micro]
    """One element per slot of the model."""
    bands: dict[str, str | None]
    """Per set of bands, the one that the lead is in."""


class Explained(NamedTuple):
    """A line of the breakdown with the evidence for it."""

    group: str
    rule: str
    kind: str
    points: Micro
    text: str


def conclude(model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int) -> Conclusion:
    """The lead's score as of a moment."""
    view = view_of(subject, as_of, zone)
    if model.mean is not None:
        vector = _mean_vector(model, model.mean, ended(subject.features, as_of, idle_ms))
    else:
        vector = _vector(model, view)
    total = sum(vector)
    return Conclusion(total, vector, _bands(model, view, total))


def score_session(model: Model, session: Session) -> Conclusion:
    """What one session, open or ended, is worth by a model that reads sessions."""
    if model.mean is None:
        raise ValueError(f"{model.name} does not read sessions")
    vector = [*_session_vector(model, *_shape(session)), *([0] * (2 if model.rounding else 1))]
    total = sum(vector)
    return Conclusion(total, vector, _bands(model, view_of_session(session), total))


def ended(features: Features, as_of: int, idle_ms: int) -> list[tuple[str, Session]]:
    """The sessions that have ended: closed, or idle for long enough."""
    return [
        (session_id, session)
        for session_id, session in features.sessions.items()
        if session.closed or as_of >= session.last_at + idle_ms
    ]


def difference(
    old_model: Model | None, old_vector: list[Micro], new_model: Model, new_vector: list[Micro]
) -> list[tuple[str, str, str, Micro]]:
    """What changed, as ledger lines (group, rule, kind, points); across models, line by line of that name."""
    if old_model is not None and (old_model is new_model or old_model.slots == new_model.slots):
        return [
            (*slot, new - old)
            for slot, old, new in zip(new_model.slots, old_vector, new_vector, strict=True)
            if old != new
        ]
    changes: dict[Slot, Micro] = {}
    if old_model is not None:
        changes = {slot: -old for slot, old in zip(old_model.slots, old_vector, strict=True)}
    for slot, new in zip(new_model.slots, new_vector, strict=True):
        changes[slot] = changes.get(slot, 0) + new
    return [(*slot, change) for slot, change in changes.items() if change]


def explain(model: Model, subject: Subject, as_of: int, zone: Calendar, idle_ms: int) -> list[Explained]:
    """The breakdown in words: every rule's line, and of the others those that changed something."""
    concluded = conclude(model, subject, as_of, zone, idle_ms)
    view = view_of(subject, as_of, zone)
    sessions = len(ended(subject.features, as_of, idle_ms))
    texts: dict[Slot, str] = {
        Slot("", "", "decay"): f"{inactive_days(view)} inactive days",
        Slot("", "", "mean"): "what the division leaves",
        Slot("", "", "rounding"): "rounded half up",
        Slot("", "", "limit"): _limits(model),
    }
    for group in model.groups:
        weighted = "" if group.weight == 1000 else f", weighted {spoken(group.weight * 1000)}"
        if group.cap is not None:
            texts[Slot(group.name, "", "group cap")] = f"{group.name} is capped at {spoken(group.cap * 1000)}"
        for rule in group.rules:
            if model.mean is None:
                evidence = rule.body.says(view)
            else:
                latest = min(sessions, model.mean.latest)
                evidence = "the only ended session" if latest == 1 else f"mean of {latest} ended sessions"
            over = model.mean is None and rule.cap is not None and rule.body.points(view) > rule.cap
            capped = f", capped at {spoken((rule.cap or 0) * 1000)}" if over else ""
            texts[Slot(group.name, rule.name, "points")] = f"{rule.name}: {evidence}{capped}{weighted}"
            texts[Slot(group.name, rule.name, "rule cap")] = f"{rule.name} is capped"
    return [
        Explained(*slot, points, texts[slot])
        for slot, points in zip(model.slots, concluded.vector, strict=True)
        if points or slot.kind == "points"
    ]


def inactive_days(view: View) -> int:
    """Full days of 24 hours since the last interaction."""
    last = view.signals.get(INTERACTION)
    return 0 if last is None else max((view.at - last.last) // DAY, 0)


def _vector(model: Model, view: View) -> list[Micro]:
    vector = _points(model, view)
    total = sum(vector)
    if model.lowest is not None or model.highest is not None:
        change = _limited(model, total)
        vector.append(change)
        total += change
    if model.decay is not None:
        change = faded(model.decay, total - (model.lowest or 0), inactive_days(view))
        vector.append(change)
        total += change
    if model.rounding:
        vector.append(whole(total) - total)
    return vector


def _points(model: Model, view: View) -> list[Micro]:
    """Rules and caps: everything that does not depend on the total."""
    vector: list[Micro] = []
    add = vector.append
    for rules, cap, weight in model.lines:
        reached = 0
        for award, limit in rules:
            points = award(view)
            add(points * weight)
            if limit is not None:
                if points > limit:
                    add((limit - points) * weight)
                    points = limit
                else:
                    add(0)
            reached += points
        if cap is not None:
            add((cap - reached) * weight if reached > cap else 0)
    return vector


def _limited(model: Model, total: Micro) -> Micro:
    if model.highest is not None and total > model.highest:
        return model.highest - total
    if model.lowest is not None and total < model.lowest:
        return model.lowest - total
    return 0


def _mean_vector(model: Model, mean: Mean, sessions: list[tuple[str, Session]]) -> list[Micro]:
    """The mean over the latest ended sessions, to the millionth; rounded from the exact fraction."""
    if not sessions:
        return [0] * len(model.slots)
    if len(sessions) > mean.latest:
        sessions.sort(key=lambda named: (named[1].opened_at, named[0]))
        sessions = sessions[-mean.latest :]
    vectors = [_session_vector(model, *_shape(session)) for _, session in sessions]
    if mean.shares:
        newest = max(session.opened_at for _, session in sessions)
        last = len(mean.shares) - 1
        counts = [mean.shares[min((newest - session.opened_at) // DAY, last)] for _, session in sessions]
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
        vector.append((2 * exact + parts * U) // (2 * parts * U) * U - to_the_millionth)
    return vector


def _shape(session: Session) -> tuple[int, int, int, int]:
    return (session.seconds, session.pages, session.clicks, session.important_clicks)


@lru_cache(maxsize=16_384)
def _session_vector(
    model: Model, seconds: int, pages: int, clicks: int, important_clicks: int
) -> tuple[Micro, ...]:
    """Sessions that look alike score alike, and most do."""
    session = Session(
        0, 0, seconds * 1000, closed=True, pages=pages, clicks=clicks, important_clicks=important_clicks
    )
    vector = _points(model, view_of_session(session))
    if model.lowest is not None or model.highest is not None:
        vector.append(_limited(model, sum(vector)))
    return tuple(vector)


def _bands(model: Model, view: View, total: Micro) -> dict[str, str | None]:
    reached = whole(total) if model.band_on_rounded else total
    bands: dict[str, str | None] = {}
    for scale, thresholds in model.scales.items():
        bands[scale] = None
        for threshold, band in thresholds:
            if reached >= threshold and (
                band not in model.needs or any(_met(need, view, reached) for need in model.needs[band])
            ):
                bands[scale] = band
                break
    return bands


def _met(need: Need, view: View, reached: Micro) -> bool:
    if reached < need.minimum or any(is_blank(profile_value(view, name)) for name in need.fields):
        return False
    for action in need.actions:
        done = view.signals.get(action)
        if done is None or (need.within is not None and view.at - done.last >= need.within):
            return False
    return True


def _limits(model: Model) -> str:
    bounds = ((model.lowest, "at least"), (model.highest, "at most"))
    return " and ".join(f"{word} {spoken(bound)}" for bound, word in bounds if bound is not None)

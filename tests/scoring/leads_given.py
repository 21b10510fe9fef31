"""Leads for tests, told as what happened to them: events of the real types through the real fold."""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from schemas.envelope import Event
from schemas.moment import moment
from scoring.features.calendar import DAY_MS, HOUR_MS, Calendar, calendar
from scoring.features.features import Features, Session, evolve, put_session, with_keyed_events_counted
from scoring.features.signals import EVENT_TYPE_BY_TAG, SignalCatalogue
from scoring.models.model import Conclusion, Model, Subject, built_in_models, compile_model, score_lead

MINUTE = 60_000
IDLE = 30 * MINUTE
UTC = calendar("UTC")
T0 = 1_760_000_000_000 // DAY_MS * DAY_MS + 10 * HOUR_MS
"""A Thursday at ten in the morning, UTC."""

_ids = count(1)


def happened(event_type: str, at: int = T0, /, **fields: Any) -> Event:
    """An event of the type at the moment; ids and visitor are made up unless given."""
    given = {"event_id": f"e{next(_ids)}", "visitor_id": "v", "occurred_at": moment(at)} | fields
    return EVENT_TYPE_BY_TAG[event_type](**given)


def at_of(event: Event) -> int:
    return round(event.occurred_at.timestamp() * 1000)


def features_of(
    events: Iterable[Event], models: Sequence[Model] = (), zone: Calendar = UTC, into: Features | None = None
) -> Features:
    """The fold of the events, with the signals of the models, as readers see it; `into` is changed in place."""
    features, catalogue = Features() if into is None else into, SignalCatalogue.of(models)
    for event in events:
        at = at_of(event)
        evolve(features, catalogue.feature_delta_of(event, at, zone.day_of(at)))
    return with_keyed_events_counted(features) if into is None else features


def visit(
    seconds: int, pages: int, clicks: int, important: int, at: int = T0, *, closed: bool = True
) -> Session:
    """A session of so many seconds; `clicks` are those that are not important."""
    return Session(1, at, at + seconds * 1000, closed, pages, clicks, important)


def visits(*sessions: Session) -> Features:
    features = Features()
    for number, session in enumerate(sessions):
        put_session(features, f"s{number}", session)
    return features


def shipped(name: str) -> Model:
    return compile_model(built_in_models()[name])


def scored(
    model: Model, events: Iterable[Event], as_of: int = T0, stage: str = "new", zone: Calendar = UTC
) -> Conclusion:
    """The score of a lead to whom this happened."""
    return score_lead(model, Subject(features_of(events, [model], zone), stage), as_of, zone, IDLE)


def lines(model: Model, concluded: Conclusion) -> dict[str, int]:
    """The lines that are not zero, by rule, or by kind if they belong to none; in millionths."""
    pairs = zip(model.line_labels, concluded.vector, strict=True)
    return {slot.rule or slot.group or slot.kind: points for slot, points in pairs if points}

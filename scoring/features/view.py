"""What a rule reads: one lead, or one session, at one moment."""

from typing import NamedTuple

from msgspec import Struct

from scoring.features.calendar import Calendar
from scoring.features.features import Features, Session, Signal, WrittenField
from scoring.features.profile_fields import FieldValue
from scoring.features.sequences import KeptSequence


class Subject(NamedTuple):
    """The parts of a lead that scores depend on."""

    features: Features
    stage: str = "new"


class View(Struct, gc=False):
    """A subject at a moment, in the form that rules read. Never stored."""

    signals: dict[str, Signal]
    fields: dict[str, WrittenField]
    sets: dict[str, list[str]]
    sums: dict[str, int]
    stage: str
    came_by: str | None
    at: int
    day: int
    session: Session
    sequences: dict[str, KeptSequence] = {}
    """The events that complete sequences, for the evidence; `signals` counts them."""


NO_SESSION = Session(0, 0, 0, closed=True, pages=0, clicks=0, important_clicks=0)


def view_of(subject: Subject, as_of: int, zone: Calendar) -> View:
    features = subject.features
    first_touch = features.first_touch
    return View(
        features.signals,
        features.fields,
        features.sets,
        features.sums,
        subject.stage,
        None if first_touch is None else first_touch[2],
        as_of,
        zone.day_of(as_of),
        NO_SESSION,
        features.sequences,
    )


def view_of_session(session: Session) -> View:
    """The view of a rule that reads a session; it contains nothing else."""
    return View({}, {}, {}, {}, "", None, session.last_at, 0, session)


def created_at(signals: dict[str, Signal]) -> int | None:
    """The moment of the lead's first event."""
    return min([signal.first for signal in signals.values()], default=None)


def profile_value(view: View, name: str) -> FieldValue:
    """A profile field. The stage comes from the lifecycle; the source, unless set, from the first touchpoint."""
    if name == "stage":
        return view.stage
    written = view.fields.get(name)
    value = None if written is None else written[2]
    return view.came_by if value is None and name == "source" else value

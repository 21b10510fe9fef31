"""Phrases: what a rule reads, such as `email_opened in 30 days` or `hours since interaction`.

A phrase has a function that reads its value, the parts of a lead's features that it depends on (so that other
events cost nothing), and the moments at which time alone may change it: when a day enters or leaves a window, or
when another whole unit has passed since a signal.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from schemas.moment import moment
from scoring.features.calendar import DAY, HOUR
from scoring.features.features import CUSTOM, count_in, days_in
from scoring.features.signals import (
    INTERACTION,
    PURCHASE,
    QUESTIONS,
    SignalDefinition,
    decimals_of,
    is_counted_always,
)
from scoring.features.view import View, created_at, profile_value

CREATED = "created"
CREATED_ON = "created_at"
"""The day of creation in UTC as a number: 20250131."""

LONGEST_WINDOW = 90
MOST_A_DAY = 255
"""The most that features count on one day."""

UNITS = {"seconds": 1_000, "minutes": 60_000, "hours": HOUR, "days": DAY}

ALIASES = {
    "email_opens_count": "email_opened",
    "email_clicks_count": "email_clicked",
    "activities_count": INTERACTION,
    "last_activity_days_ago": f"days since {INTERACTION}",
    "days_since_creation": f"days since {CREATED}",
}
"""Computed fields as the API names them, and their phrases."""


class PhraseError(ValueError):
    """The phrase is wrong."""


class Reads(NamedTuple):
    """The parts of a lead that a rule or a model depends on."""

    signals: frozenset[str] = frozenset()
    """As they are stored."""
    fields: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()
    sums: frozenset[str] = frozenset()
    sessions: bool = False
    stage: bool = False
    first_touch: bool = False
    created: bool = False


def join_reads(several: Iterable[Reads]) -> Reads:
    """All parts that any of them depends on."""
    every = list(several)
    return Reads(
        signals=frozenset().union(*(reads.signals for reads in every)),
        fields=frozenset().union(*(reads.fields for reads in every)),
        sets=frozenset().union(*(reads.sets for reads in every)),
        sums=frozenset().union(*(reads.sums for reads in every)),
        sessions=any(reads.sessions for reads in every),
        stage=any(reads.stage for reads in every),
        first_touch=any(reads.first_touch for reads in every),
        created=any(reads.created for reads in every),
    )


class Windows(NamedTuple):
    """The value may change when a day enters the signal's windows, or leaves one of these lengths."""

    signal: str
    lengths: frozenset[int]
    decaying: bool = False
    """Also on every day in between, since events in the windows count by their age."""


class Days(NamedTuple):
    """The days of a window whose counts add up to the value."""

    signal: str
    length: int
    most: int
    """The most that one day counts."""


class Elapsed(NamedTuple):
    """The value may change whenever another `unit` of milliseconds has passed since the signal or the creation."""

    signal: str
    unit: int


class Phrase(NamedTuple):
    """A value that rules read."""

    text: str
    gives: str
    """count, number, text, or any (a profile field may hold anything)."""
    read: Callable[[View], Any]
    reads: Reads
    windows: Windows | None = None
    elapsed: Elapsed | None = None
    days: Days | None = None


def trend(recent: int, before: int) -> str:
    """increasing, declining, or stable (within a fifth); from none to some is increasing."""
    if 5 * abs(recent - before) <= before:
        return "stable"
    return "increasing" if recent > before else "declining"


def parse_phrase(text: Any, defined: Mapping[str, SignalDefinition]) -> Phrase:
    """Read a phrase; `defined` are the signals that the model defines."""
    if not isinstance(text, str):
        raise PhraseError(f"{text!r} is not a phrase")
    plain = ALIASES.get(text, text)
    for form, build in _FORMS:
        match = form.fullmatch(plain)
        if match:
            return build(text, defined, *match.groups())
    raise PhraseError(f"cannot read {text!r}")


def _count(text: str, defined: Mapping[str, SignalDefinition], name: str) -> Phrase:
    signal = defined.get(name)
    if signal is not None and signal.distinct:
        return _distinct_of(text, signal.stored)
    stored = _stored(defined, name)

    def read(view: View) -> int:
        occurrences = view.signals.get(stored)
        return 0 if occurrences is None else occurrences.count

    return Phrase(text, "count", read, Reads(signals=frozenset({stored})))


def _window(text: str, defined: Mapping[str, SignalDefinition], name: str, days: str) -> Phrase:
    stored, length = _stored(defined, name), _length(days)

    def read(view: View) -> int:
        signal = view.signals.get(stored)
        return 0 if signal is None else count_in(signal, view.day - length, view.day)

    return Phrase(
        text,
        "count",
        read,
        Reads(signals=frozenset({stored})),
        Windows(stored, frozenset({length})),
        days=Days(stored, length, MOST_A_DAY),
    )


def _active_days(text: str, _: Mapping[str, SignalDefinition], days: str) -> Phrase:
    length = _length(days)

    def read(view: View) -> int:
        signal = view.signals.get(INTERACTION)
        if signal is None:
            return 0
        window = days_in(signal, view.day - length, view.day)
        return len(window) - window.count(0)

    return Phrase(
        text,
        "count",
        read,
        Reads(signals=frozenset({INTERACTION})),
        Windows(INTERACTION, frozenset({length})),
        days=Days(INTERACTION, length, 1),
    )


def _trend(text: str, defined: Mapping[str, SignalDefinition], name: str, days: str) -> Phrase:
    stored, length = _stored(defined, name), _length(days, LONGEST_WINDOW // 2)

    def read(view: View) -> str:
        signal = view.signals.get(stored)
        if signal is None:
            return "stable"
        middle = view.day - length
        return trend(count_in(signal, middle, view.day), count_in(signal, middle - length, middle))

    windows = Windows(stored, frozenset({length, 2 * length}))
    return Phrase(text, "text", read, Reads(signals=frozenset({stored})), windows)


def _since(text: str, defined: Mapping[str, SignalDefinition], unit_name: str, name: str) -> Phrase:
    unit = UNITS[unit_name]
    if name == CREATED:

        def age(view: View) -> int | None:
            created = created_at(view.signals)
            return None if created is None else (view.at - created) // unit

        return Phrase(text, "number", age, Reads(created=True), elapsed=Elapsed(CREATED, unit))
    stored = _stored(defined, name)

    def read(view: View) -> int | None:
        signal = view.signals.get(stored)
        return None if signal is None else (view.at - signal.last) // unit

    return Phrase(text, "number", read, Reads(signals=frozenset({stored})), elapsed=Elapsed(stored, unit))


def _created_on(text: str, _: Mapping[str, SignalDefinition]) -> Phrase:
    def read(view: View) -> int | None:
        created = created_at(view.signals)
        if created is None:
            return None
        on = moment(created)
        return on.year * 10_000 + on.month * 100 + on.day

    return Phrase(text, "number", read, Reads(created=True))


def _distinct(text: str, defined: Mapping[str, SignalDefinition], name: str) -> Phrase:
    signal = defined.get(name)
    if signal is not None and signal.distinct:
        return _distinct_of(text, signal.stored)
    if name != QUESTIONS:
        raise PhraseError(f"{text!r}: only {QUESTIONS} and signals with distinct = ... can be counted so")
    return _distinct_of(text, QUESTIONS)


def _distinct_of(text: str, stored: str) -> Phrase:
    return Phrase(text, "count", lambda view: len(view.sets.get(stored, ())), Reads(sets=frozenset({stored})))


def _sum(text: str, _: Mapping[str, SignalDefinition], currency: str) -> Phrase:
    name, unit = PURCHASE + currency, 10 ** decimals_of(currency)
    return Phrase(text, "count", lambda view: view.sums.get(name, 0) // unit, Reads(sums=frozenset({name})))


def _profile(text: str, _: Mapping[str, SignalDefinition], name: str) -> Phrase:
    reads = (
        Reads(stage=True)
        if name == "stage"
        else Reads(fields=frozenset({name}), first_touch=name == "source")
    )
    return Phrase(text, "any", lambda view: profile_value(view, name), reads)


def _session(text: str, _: Mapping[str, SignalDefinition], name: str) -> Phrase:
    def read(view: View) -> int:
        value: int = getattr(view.session, name)
        return value

    return Phrase(text, "count", read, Reads(sessions=True))


def _stored(defined: Mapping[str, SignalDefinition], name: str) -> str:
    signal = defined.get(name)
    if signal is None:
        if is_counted_always(name):
            return name
        raise PhraseError(f"{name!r} is no signal: neither an event type nor defined in [signals]")
    if signal.distinct:
        raise PhraseError(f"{name!r} is a set of distinct values; it can only be counted")
    return signal.stored


def _length(days: str, longest: int = LONGEST_WINDOW) -> int:
    if not 1 <= int(days) <= longest:
        raise PhraseError(f"the window is 1 to {longest} days, not {days}")
    return int(days)


_NAME = rf"({CUSTOM}[a-z][a-z0-9_]*|[a-z][a-z0-9_]*)"
_DAYS = r"(\d{1,9}) days?"
_FORMS: tuple[tuple[re.Pattern[str], Callable[..., Phrase]], ...] = tuple(
    (re.compile(form, re.ASCII), build)
    for form, build in (
        (CREATED_ON, _created_on),
        (r"distinct ([a-z][a-z0-9_]*)", _distinct),
        (rf"active days in {_DAYS}", _active_days),
        (rf"({'|'.join(UNITS)}) since {_NAME}", _since),
        (rf"trend of {_NAME} over {_DAYS}", _trend),
        (r"sum of purchase:([A-Z]{3})", _sum),
        (r"profile\.([a-z][a-z0-9_]*)", _profile),
        (r"session\.(seconds|pages|clicks|important_clicks)", _session),
        (rf"{_NAME} in {_DAYS}", _window),
        (_NAME, _count),
    )
)

"""Phrases: what a rule reads, such as `email_opened in 30 days` or `hours since interaction`.

A phrase has a function that reads its value, the parts of a lead's features that it depends on (so that other
events cost nothing), and the moments at which time alone may change it: when a day enters or leaves a window, or
when another whole unit has passed since a signal.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from schemas.moment import moment
from scoring.features.calendar import DAY_MS, HOUR_MS
from scoring.features.features import CUSTOM_PREFIX, count_in, days_in
from scoring.features.signals import (
    INTERACTION_SIGNAL,
    PURCHASE_PREFIX,
    QUESTIONS_SET,
    SignalDefinition,
    decimals_of,
    is_counted_always,
)
from scoring.features.view import View, created_at, profile_value

CREATED_SIGNAL = "created"
CREATED_ON_PHRASE = "created_at"
"""The day of creation in UTC as a number: 20250131."""

LONGEST_WINDOW_DAYS = 90
MOST_COUNTED_A_DAY = 255
"""The most that features count on one day."""

UNIT_MS = {"seconds": 1_000, "minutes": 60_000, "hours": HOUR_MS, "days": DAY_MS}

PHRASE_ALIASES = {
    "email_opens_count": "email_opened",
    "email_clicks_count": "email_clicked",
    "activities_count": INTERACTION_SIGNAL,
    "last_activity_days_ago": f"days since {INTERACTION_SIGNAL}",
    "days_since_creation": f"days since {CREATED_SIGNAL}",
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


class SignalWindows(NamedTuple):
    """The value may change when a day enters the signal's windows, or leaves one of these lengths."""

    signal: str
    lengths: frozenset[int]
    decaying: bool = False
    """Also on every day in between, since events in the windows count by their age."""


class WindowDays(NamedTuple):
    """The days of a window whose counts add up to the value."""

    signal: str
    length: int
    most: int
    """The most that one day counts."""


class ElapsedSinceSignal(NamedTuple):
    """The value may change whenever another `unit` of milliseconds has passed since the signal or the creation."""

    signal: str
    unit: int


class ValuePhrase(NamedTuple):
    """A value that rules read."""

    text: str
    gives: str
    """count, number, text, or any (a profile field may hold anything)."""
    read: Callable[[View], Any]
    reads: Reads
    windows: SignalWindows | None = None
    elapsed: ElapsedSinceSignal | None = None
    days: WindowDays | None = None


def trend_of(recent: int, before: int) -> str:
    """increasing, declining, or stable (within a fifth); from none to some is increasing."""
    if 5 * abs(recent - before) <= before:
        return "stable"
    return "increasing" if recent > before else "declining"


def parse_phrase(text: Any, defined: Mapping[str, SignalDefinition]) -> ValuePhrase:
    """Read a phrase; `defined` are the signals that the model defines."""
    if not isinstance(text, str):
        raise PhraseError(f"{text!r} is not a phrase")
    plain = PHRASE_ALIASES.get(text, text)
    for form, build in _PHRASE_FORMS:
        match = form.fullmatch(plain)
        if match:
            return build(text, defined, *match.groups())
    raise PhraseError(f"cannot read {text!r}")


def _count_phrase(text: str, defined: Mapping[str, SignalDefinition], name: str) -> ValuePhrase:
    signal = defined.get(name)
    if signal is not None and signal.distinct:
        return _distinct_phrase_of_stored(text, signal.stored)
    stored = stored_signal(defined, name)

    def read(view: View) -> int:
        occurrences = view.signals.get(stored)
        return 0 if occurrences is None else occurrences.count

    return ValuePhrase(text, "count", read, Reads(signals=frozenset({stored})))


def _window_phrase(text: str, defined: Mapping[str, SignalDefinition], name: str, days: str) -> ValuePhrase:
    stored, length = stored_signal(defined, name), _window_length(days)

    def read(view: View) -> int:
        signal = view.signals.get(stored)
        return 0 if signal is None else count_in(signal, view.day - length, view.day)

    return ValuePhrase(
        text,
        "count",
        read,
        Reads(signals=frozenset({stored})),
        SignalWindows(stored, frozenset({length})),
        days=WindowDays(stored, length, MOST_COUNTED_A_DAY),
    )


def _active_days_phrase(text: str, _: Mapping[str, SignalDefinition], days: str) -> ValuePhrase:
    length = _window_length(days)

    def read(view: View) -> int:
        signal = view.signals.get(INTERACTION_SIGNAL)
        if signal is None:
            return 0
        window = days_in(signal, view.day - length, view.day)
        return len(window) - window.count(0)

    return ValuePhrase(
        text,
        "count",
        read,
        Reads(signals=frozenset({INTERACTION_SIGNAL})),
        SignalWindows(INTERACTION_SIGNAL, frozenset({length})),
        days=WindowDays(INTERACTION_SIGNAL, length, 1),
    )


def _trend_phrase(text: str, defined: Mapping[str, SignalDefinition], name: str, days: str) -> ValuePhrase:
    stored, length = stored_signal(defined, name), _window_length(days, LONGEST_WINDOW_DAYS // 2)

    def read(view: View) -> str:
        signal = view.signals.get(stored)
        if signal is None:
            return "stable"
        middle = view.day - length
        return trend_of(count_in(signal, middle, view.day), count_in(signal, middle - length, middle))

    windows = SignalWindows(stored, frozenset({length, 2 * length}))
    return ValuePhrase(text, "text", read, Reads(signals=frozenset({stored})), windows)


def _since_phrase(
    text: str, defined: Mapping[str, SignalDefinition], unit_name: str, name: str
) -> ValuePhrase:
    unit = UNIT_MS[unit_name]
    if name == CREATED_SIGNAL:

        def age(view: View) -> int | None:
            created = created_at(view.signals)
            return None if created is None else (view.at - created) // unit

        return ValuePhrase(
            text, "number", age, Reads(created=True), elapsed=ElapsedSinceSignal(CREATED_SIGNAL, unit)
        )
    stored = stored_signal(defined, name)

    def read(view: View) -> int | None:
        signal = view.signals.get(stored)
        return None if signal is None else (view.at - signal.last) // unit

    return ValuePhrase(
        text, "number", read, Reads(signals=frozenset({stored})), elapsed=ElapsedSinceSignal(stored, unit)
    )


def _created_on_phrase(text: str, _: Mapping[str, SignalDefinition]) -> ValuePhrase:
    def read(view: View) -> int | None:
        created = created_at(view.signals)
        if created is None:
            return None
        on = moment(created)
        return on.year * 10_000 + on.month * 100 + on.day

    return ValuePhrase(text, "number", read, Reads(created=True))


def _distinct_phrase(text: str, defined: Mapping[str, SignalDefinition], name: str) -> ValuePhrase:
    signal = defined.get(name)
    if signal is not None and signal.distinct:
        return _distinct_phrase_of_stored(text, signal.stored)
    if name != QUESTIONS_SET:
        raise PhraseError(f"{text!r}: only {QUESTIONS_SET} and signals with distinct = ... can be counted so")
    return _distinct_phrase_of_stored(text, QUESTIONS_SET)


def _distinct_phrase_of_stored(text: str, stored: str) -> ValuePhrase:
    return ValuePhrase(
        text, "count", lambda view: len(view.sets.get(stored, ())), Reads(sets=frozenset({stored}))
    )


def _sum_phrase(text: str, _: Mapping[str, SignalDefinition], currency: str) -> ValuePhrase:
    name, unit = PURCHASE_PREFIX + currency, 10 ** decimals_of(currency)
    return ValuePhrase(
        text, "count", lambda view: view.sums.get(name, 0) // unit, Reads(sums=frozenset({name}))
    )


def _profile_phrase(text: str, _: Mapping[str, SignalDefinition], name: str) -> ValuePhrase:
    reads = (
        Reads(stage=True)
        if name == "stage"
        else Reads(fields=frozenset({name}), first_touch=name == "source")
    )
    return ValuePhrase(text, "any", lambda view: profile_value(view, name), reads)


def _session_phrase(text: str, _: Mapping[str, SignalDefinition], name: str) -> ValuePhrase:
    def read(view: View) -> int:
        value: int = getattr(view.session, name)
        return value

    return ValuePhrase(text, "count", read, Reads(sessions=True))


def stored_signal(defined: Mapping[str, SignalDefinition], name: str) -> str:
    """The name under which features keep the signal. Raises PhraseError."""
    signal = defined.get(name)
    if signal is None:
        if is_counted_always(name):
            return name
        raise PhraseError(f"{name!r} is no signal: neither an event type nor defined in [signals]")
    if signal.distinct:
        raise PhraseError(f"{name!r} is a set of distinct values; it can only be counted")
    return signal.stored


def _window_length(days: str, longest: int = LONGEST_WINDOW_DAYS) -> int:
    if not 1 <= int(days) <= longest:
        raise PhraseError(f"the window is 1 to {longest} days, not {days}")
    return int(days)


_NAME = rf"({CUSTOM_PREFIX}[a-z][a-z0-9_]*|[a-z][a-z0-9_]*)"
_DAYS = r"(\d{1,9}) days?"
_PHRASE_FORMS: tuple[tuple[re.Pattern[str], Callable[..., ValuePhrase]], ...] = tuple(
    (re.compile(form, re.ASCII), build)
    for form, build in (
        (CREATED_ON_PHRASE, _created_on_phrase),
        (r"distinct ([a-z][a-z0-9_]*)", _distinct_phrase),
        (rf"active days in {_DAYS}", _active_days_phrase),
        (rf"({'|'.join(UNIT_MS)}) since {_NAME}", _since_phrase),
        (rf"trend of {_NAME} over {_DAYS}", _trend_phrase),
        (r"sum of purchase:([A-Z]{3})", _sum_phrase),
        (r"profile\.([a-z][a-z0-9_]*)", _profile_phrase),
        (r"session\.(seconds|pages|clicks|important_clicks)", _session_phrase),
        (rf"{_NAME} in {_DAYS}", _window_phrase),
        (_NAME, _count_phrase),
    )
)

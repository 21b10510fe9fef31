"""Reads the signals that a model defines, sequences among them: `{ sequence = ["page_viewed:/pricing", "demo_requested"],
within = "1 h" }`.

A step is an event's type, `custom:NAME`, one of these on a page (`page_viewed:/pricing`, `page_viewed:/blog/*`), or a signal
of the same model. A sequence is stored under a hash of what it means, as every signal.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import unquote

from schemas.envelope import Event
from scoring.features.comparison import NEWEST_COMPARISON, ValueComparison
from scoring.features.features import CUSTOM_PREFIX
from scoring.features.sequences import MOST_STEPS
from scoring.features.signals import (
    EVENT_TYPE_BY_TAG,
    SignalDefinition,
    SignalError,
    define_signal,
    is_counted_always,
    sites_of,
)
from scoring.features.sites import bare_path, path_of_event, site_of_event

SEQUENCE: Final = "sequence"
LONGEST_WITHIN_MS: Final = 90 * 86_400_000
MOST_SEQUENCES: Final = 16
"""Of a model."""

_UNIT_MS: Final = {
    "s": 1_000, "second": 1_000, "min": 60_000, "minute": 60_000, "h": 3_600_000, "hour": 3_600_000,
    "d": 86_400_000, "day": 86_400_000,
}  # fmt: skip
_DURATION = re.compile(r"(\d{1,7}) ?(s|second|min|minute|h|hour|d|day)s?", re.ASCII)
_STEP = re.compile(r"(custom:[a-z][a-z0-9_]*|[a-z][a-z0-9_]*)(?::(/\S*))?", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)

DefinedSignals = Mapping[str, SignalDefinition]


def define_signals(
    tables: Mapping[str, Any],
    by: ValueComparison = NEWEST_COMPARISON,
    refuse: Callable[[str, Exception], Exception] = lambda _, wrong: wrong,
) -> dict[str, SignalDefinition]:
    """The table [signals] of a model. Steps of a sequence may be other signals of it, but no sequences. `refuse` makes the
    error of a name and its reason, SignalError or TypeError.
    """
    defined: dict[str, SignalDefinition] = {}
    plain: dict[str, SignalDefinition] = {}
    for name, table in sorted(tables.items(), key=lambda named: SEQUENCE in named[1]):
        try:
            if SEQUENCE in table:
                defined[name] = _sequence_signal(name, table, plain)
            else:
                plain[name] = defined[name] = define_signal(name, table, by)
        except (SignalError, TypeError) as wrong:
            raise refuse(name, wrong) from None
    return {name: defined[name] for name in tables}


def define_sequence(
    steps: Any, within: Any, site: Any, defined: DefinedSignals, name: str | None = None
) -> SignalDefinition:
    """A sequence; without a name, it is named by its steps. Raises SignalError."""
    if not isinstance(steps, list) or not 2 <= len(steps) <= MOST_STEPS:
        raise SignalError(f"sequence wants a list of 2 to {MOST_STEPS} steps, the first to happen first")
    if within is None:
        raise SignalError('within is missing: the longest time from the first to the last, such as "1 h"')
    sites = None if site is None else sites_of(site)
    compiled = tuple(_on_sites(_step(step, defined), sites) for step in steps)
    duration = _duration_ms(within)
    meaning = json.dumps([[step.stored for step in compiled], duration, sites], separators=(",", ":"))
    digest = blake2b(meaning.encode(), digest_size=8).hexdigest()
    return SignalDefinition(
        name or ", then ".join(steps),
        f"{name or SEQUENCE}@{digest}",
        compiled[0].event,
        distinct=False,
        holds=_never,
        item=_never,
        steps=compiled,
        within=duration,
    )


def signals_on_sites(site: Any, names: Iterable[str], defined: DefinedSignals) -> dict[str, SignalDefinition]:
    """What rules with `site` count: the signals of these names, but only what happened there. Raises SignalError."""
    sites = sites_of(site)
    signals = {}
    for name in names:
        signal = _signal_named(name, defined)
        if signal is None or signal.steps:
            raise SignalError(
                f"site is for types of events and for signals of [signals] that are no sequences; {name!r} is neither"
            )
        signals[name] = _on_sites(signal, sites)
    return signals


def _sequence_signal(name: str, table: Mapping[str, Any], defined: DefinedSignals) -> SignalDefinition:
    if is_counted_always(name) or not _NAME.fullmatch(name):
        raise SignalError(f"{name!r} is counted anyway; choose another name")
    if unknown := sorted(table.keys() - {SEQUENCE, "within", "site"}):
        raise SignalError(f"unknown: {', '.join(unknown)}; a sequence has sequence, within and site")
    return define_sequence(table[SEQUENCE], table.get("within"), table.get("site"), defined, name)


def _step(text: Any, defined: DefinedSignals) -> SignalDefinition:
    match = _STEP.fullmatch(text) if isinstance(text, str) else None
    signal = None if match is None else _signal_named(match[1], defined)
    if match is None or signal is None:
        raise SignalError(
            f"the step {text!r} is no event type, custom:NAME, page_viewed:/PATH or signal of [signals]"
        )
    if signal.distinct or signal.steps:
        raise SignalError(
            f"the step {text!r} is no single event: it counts distinct values, or is a sequence"
        )
    return signal if match[2] is None else _on_page(signal, match[2])


def _signal_named(name: str, defined: DefinedSignals) -> SignalDefinition | None:
    """A signal of the model, or every event of a type; None: neither."""
    if name in defined:
        return defined[name]
    if (name in EVENT_TYPE_BY_TAG and name != "custom") or name.startswith(CUSTOM_PREFIX):
        return SignalDefinition(name, name, name, distinct=False, holds=_always, item=_never)
    return None


def _on_page(signal: SignalDefinition, path: str) -> SignalDefinition:
    plain = unquote(path)  # as paths of events are compared
    begins, page = plain.endswith("*"), plain[:-1] if plain.endswith("*") else bare_path(plain)

    def is_there(event: Event) -> bool:
        at = path_of_event(event)
        if at is None or not (at.startswith(page) if begins else at == page):
            return False
        return bool(signal.holds(event))

    return signal._replace(stored=f"{signal.stored}:{path}", holds=is_there)


def _on_sites(signal: SignalDefinition, sites: list[str] | None) -> SignalDefinition:
    if sites is None:
        return signal
    digest = blake2b(json.dumps([signal.stored, sites]).encode(), digest_size=8).hexdigest()
    return signal._replace(
        stored=f"{signal.name.replace(':', '_')}@{digest}",
        holds=lambda event: site_of_event(event) in sites and bool(signal.holds(event)),
    )


def _duration_ms(value: Any) -> int:
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    duration = 0 if match is None else int(match[1]) * _UNIT_MS[match[2]]
    if not 0 < duration <= LONGEST_WITHIN_MS:
        raise SignalError(
            f'within = {value!r} is no time such as "30 min", "1 h" or "7 days", at most 90 days'
        )
    return duration


def _always(_: Any) -> bool:
    return True


def _never(_: Any) -> bool:
    return False
